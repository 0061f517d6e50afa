package s3

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/walden-pg/walden/storage"
)

// sloppy is a store that ignores If-None-Match, on PutObject or on
// CompleteMultipartUpload or on both, as some do.
type sloppy struct {
	mu                  sync.Mutex
	objects, parts      map[string][]byte
	ignorePut, ignoreMP bool
}

func (s *sloppy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := r.URL.Path
	body, _ := io.ReadAll(r.Body)
	_, exists := s.objects[name]
	switch kind(r) {
	case "PutObject":
		if exists && !s.ignorePut {
			canned(412, "PreconditionFailed")(w, nil)
			return
		}
		s.objects[name] = body
	case "CreateMultipartUpload":
		fmt.Fprint(w, `<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>`)
	case "UploadPart":
		s.parts[name] = body
		w.Header().Set("ETag", `"1"`)
	case "CompleteMultipartUpload":
		if exists && !s.ignoreMP {
			canned(412, "PreconditionFailed")(w, nil)
			return
		}
		s.objects[name] = s.parts[name]
		fmt.Fprint(w, `<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>`)
	case "GetObject", "HeadObject":
		if !exists {
			canned(404, "NoSuchKey")(w, nil)
			return
		}
		_, _ = w.Write(s.objects[name])
	case "DeleteObject":
		delete(s.objects, name)
		w.WriteHeader(http.StatusNoContent)
	case "ListObjectsV2":
		fmt.Fprint(w, `<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>1</Size></Contents><Contents><Key>b</Key><Size>1</Size></Contents></ListBucketResult>`)
	}
}

func TestProbeFindsSloppyStores(t *testing.T) {
	for _, c := range []struct{ put, mp bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		server := &sloppy{objects: map[string][]byte{}, parts: map[string][]byte{}, ignorePut: c.put, ignoreMP: c.mp}
		s := scripted(t, server.ServeHTTP)
		err := storage.ProbeConditional(t.Context(), s, "probes/")
		if replaced := errors.Is(err, storage.ErrReplaces); replaced != (c.put || c.mp) || !replaced && err != nil {
			t.Errorf("ignores on put %v, on complete %v: %v", c.put, c.mp, err)
		}
		if err != nil && (!strings.Contains(storage.Hint(err), "If-None-Match") || storage.Retryable(err)) {
			t.Errorf("hint %q", storage.Hint(err))
		}
		if len(server.objects) != 0 {
			t.Errorf("the probe left %d objects", len(server.objects))
		}
	}
}

// TestListDisorder: a listing that is not what was asked for is an error, not a result.
func TestListDisorder(t *testing.T) {
	s := scripted(t, (&sloppy{}).ServeHTTP)
	for _, c := range []struct{ prefix, after string }{{"", "a"}, {"a", ""}, {"x/", ""}} {
		var last error
		for _, last = range s.List(t.Context(), c.prefix, c.after) {
		}
		if last == nil || storage.Retryable(last) {
			t.Errorf("prefix %q after %q: %v", c.prefix, c.after, last)
		}
	}
}
