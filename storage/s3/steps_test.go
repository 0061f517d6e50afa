package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/walden-pg/walden/storage"
)

// stepCases are the durable operations, each in as many requests as it can take.
var stepCases = []struct {
	name string
	size int
	do   func(ctx context.Context, s storage.Store, b []byte) error
}{
	{"put", small, putStep}, {"put in parts", stepLarge, putStep},
	{"create", small, createStep}, {"create in parts", stepLarge, createStep},
}

// stepLarge is two parts.
const stepLarge = 6<<20 + 1

func putStep(ctx context.Context, s storage.Store, b []byte) error {
	return storage.PutBytes(ctx, s, "object", b, storage.PutOptions{})
}

func createStep(ctx context.Context, s storage.Store, b []byte) error {
	w, err := s.Create(ctx, "object", storage.PutOptions{})
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(b); err != nil {
		return err
	}
	return w.Commit()
}

// stepFaults are what can become of one request.
var stepFaults = map[string]func(http.ResponseWriter, func() *httptest.ResponseRecorder){
	"lost request": hangUp, "lost reply": loseReply, "busy": canned(503, "SlowDown"), "denied": canned(403, "AccessDenied"),
	"conflict": canned(409, "ConditionalRequestConflict"),
}

// TestFailStep lets each request of each durable operation fail in turn, in
// each way: the object is whole or absent, an error that is final means that it is
// absent, and the same operation once more succeeds or meets it.
func TestFailStep(t *testing.T) {
	if testing.Short() {
		t.Skip("every step in turn: run by the part of the tests that is not short")
	}
	for _, c := range stepCases {
		for fault, do := range stepFaults {
			t.Run(c.name+"/"+fault, func(t *testing.T) {
				b := pattern(c.size)
				for step := 0; ; step++ {
					p := newProxy(t)
					met := p.failAt(step, do)
					err := c.do(t.Context(), p.open(t), b)
					if !met() {
						if step == 0 || err != nil {
							t.Fatalf("after %d steps: %v", step, err)
						}
						return
					}
					checkStep(t, p, fmt.Sprintf("request %d", step), b, err)
					there := stepThere(t, p, b)
					if err := c.do(t.Context(), p.open(t), b); there != errors.Is(err, storage.ErrExist) || !there && err != nil {
						t.Fatalf("request %d: once more: %v (object was there: %v)", step, err, there)
					}
					if !stepThere(t, p, b) {
						t.Fatalf("request %d: the operation was done twice, and there is no object", step)
					}
				}
			})
		}
	}
}

// checkStep checks what a failure left, and what was said about it.
func checkStep(t *testing.T, p *proxy, what string, b []byte, err error) {
	t.Helper()
	there := stepThere(t, p, b)
	var e *storage.Error
	switch {
	case err == nil && !there:
		t.Fatalf("%s: success, and no object", what)
	case err == nil:
	case !errors.As(err, &e) || e.Key != "object" || errors.Is(err, storage.ErrNotExist):
		t.Fatalf("%s: %#v (%v)", what, err, err)
	case there && !storage.Retryable(err) && !errors.Is(err, storage.ErrExist):
		t.Fatalf("%s: the object is there, but the error is final: %v", what, err)
	}
	// An upload whose id was lost with the reply is known to nobody.
	if n := p.server.Uploads(t); n != 0 && (n > 1 || p.count("CreateMultipartUpload") < 2) {
		t.Fatalf("%s: %d uploads are left", what, n)
	}
}

// stepThere reports whether the object is there; it is never there in part.
func stepThere(t *testing.T, p *proxy, b []byte) bool {
	t.Helper()
	got, err := storage.ReadAll(t.Context(), open(t, options(p.server)), "object", int64(len(b)))
	switch {
	case errors.Is(err, storage.ErrNotExist):
		return false
	case err != nil || !bytes.Equal(got, b):
		t.Fatalf("neither whole nor absent: %d bytes, %v", len(got), err)
	}
	return true
}

// TestFailDelete does the same for a Delete.
func TestFailDelete(t *testing.T) {
	for fault, do := range stepFaults {
		p := newProxy(t)
		s := p.open(t)
		b := []byte("content")
		if err := putStep(t.Context(), s, b); err != nil {
			t.Fatal(err)
		}
		p.rule("DeleteObject", 1, do)
		err := s.Delete(t.Context(), "object")
		if err == nil || storage.Retryable(err) == (fault == "denied") {
			t.Errorf("%s: %v", fault, err)
		}
		if there := stepThere(t, p, b); there == (fault == "lost reply") {
			t.Errorf("%s: the object is there: %v", fault, there)
		}
		if err := s.Delete(t.Context(), "object"); err != nil || stepThere(t, p, b) {
			t.Errorf("%s: delete again: %v", fault, err)
		}
	}
}

// TestUploadAgain: an upload that the store has dropped, as it may after a conflict, is
// begun anew where the source can be read again.
func TestUploadAgain(t *testing.T) {
	p := newProxy(t)
	s := storage.WithRetry(p.open(t), storage.RetryOptions{MaxInterval: time.Millisecond})
	p.rule("CompleteMultipartUpload", 1, canned(409, "ConditionalRequestConflict"))
	p.rule("CompleteMultipartUpload", 1, canned(404, "NoSuchUpload"))
	b := pattern(stepLarge)
	if err := putStep(t.Context(), s, b); err != nil {
		t.Fatal(err)
	}
	if n := p.count("CreateMultipartUpload"); n != 2 || !stepThere(t, p, b) {
		t.Fatalf("%d uploads", n)
	}
	if n := p.server.Uploads(t); n != 0 {
		t.Fatalf("%d uploads are left", n)
	}
}
