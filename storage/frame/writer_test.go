package frame

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"
)

var errFull = errors.New("no space left")

// limitedWriter fails after some bytes, for good; with short it writes less
// than it is given, without an error.
type limitedWriter struct {
	left  int
	short bool
	calls int // after the failure
}

func (w *limitedWriter) Write(p []byte) (int, error) {
	if w.left < 0 {
		w.calls++
	}
	if w.left -= len(p); w.left < 0 {
		if w.short {
			return len(p) - 1, nil
		}
		return 0, errFull
	}
	return len(p), nil
}

// TestWriterErrors makes the underlying writer fail at many places.
func TestWriterErrors(t *testing.T) {
	noLeaks(t)
	for _, size := range []int{10, 3 * MaxFrame, 12*MaxFrame + 1} {
		raw := sample(size, 1)
		total := len(mustEncode(t, raw, testOptions(CodecNone)))
		for _, left := range []int{0, 5, total / 3, total - FooterSize - 1, total - FooterSize, total - 1} {
			for _, short := range []bool{false, true} {
				under := &limitedWriter{left: left, short: short}
				w, err := NewWriter(under, testOptions(CodecNone))
				if err != nil {
					t.Fatal(err)
				}
				want := errFull
				if short {
					want = io.ErrShortWrite
				}
				_, writeErr := w.Write(raw)
				f, err := w.Close()
				if !errors.Is(err, want) || f != (Footer{}) {
					t.Errorf("%d of %d bytes: Close: %v", left, total, err)
				}
				if writeErr != nil && !errors.Is(writeErr, want) {
					t.Errorf("%d of %d bytes: Write: %v", left, total, writeErr)
				}
				if _, again := w.Close(); !errors.Is(again, err) {
					t.Errorf("second Close: %v", again)
				}
				if _, err := w.Write(raw[:1]); !errors.Is(err, want) {
					t.Errorf("Write after the error: %v", err)
				}
				if err := w.Align(); !errors.Is(err, want) {
					t.Errorf("Align after the error: %v", err)
				}
				if under.calls != 0 {
					t.Errorf("%d writes after the failure", under.calls)
				}
			}
		}
	}
}

func TestWriterAbort(t *testing.T) {
	noLeaks(t)
	for _, size := range []int{0, 10, MaxFrame + 1, 20 * MaxFrame} {
		w, err := NewWriter(io.Discard, testOptions(CodecZstd))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		w.Abort()
		if _, err := w.Write([]byte{1}); !errors.Is(err, errAborted) {
			t.Errorf("Write: %v", err)
		}
		if _, err := w.Close(); !errors.Is(err, errAborted) {
			t.Errorf("Close: %v", err)
		}
	}
}

func TestWriterMisuse(t *testing.T) {
	for _, o := range []WriterOptions{{Name: "x"}, {Kind: KindPack}, {Kind: KindPack, Name: "x", Codec: 9}, {Kind: KindPack, Name: "x", Codec: CodecLZ4, Level: -1}} {
		if _, err := NewWriter(io.Discard, o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
	if _, _, err := Encode(nil, testOptions(CodecNone), Section{Type: 1}, Section{Type: 2}, Section{Type: 1}); err == nil {
		t.Error("two sections of one type were accepted")
	}
	w, err := NewWriter(io.Discard, testOptions(CodecNone))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte{1}); !errors.Is(err, errClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	if _, err := w.ReadFrom(failingReader{errFull}); !errors.Is(err, errClosed) {
		t.Errorf("ReadFrom after Close: %v", err)
	}
	if _, err := w.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// TestReadFrom passes errors of the source on, and does not spin.
func TestReadFrom(t *testing.T) {
	w, err := NewWriter(io.Discard, testOptions(CodecNone))
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if n, err := w.ReadFrom(failingReader{errFull}); n != 0 || !errors.Is(err, errFull) {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := w.ReadFrom(failingReader{nil}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a source without progress: %v", err)
	}
}

// TestReaderStops closes readers early, and cancels them, at many places.
func TestReaderStops(t *testing.T) {
	noLeaks(t)
	raw := sample(9*MaxFrame, 4)
	obj := mustOpen(t, BytesRange(mustEncode(t, raw, testOptions(CodecLZ4))), testReadOptions())
	for _, n := range []int64{0, 1, MaxFrame, 3*MaxFrame + 7, 9 * MaxFrame} {
		r := obj.NewReader(context.Background(), 0, -1)
		if _, err := io.CopyN(io.Discard, r, n); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		r = obj.NewReader(ctx, 0, -1)
		if _, err := io.CopyN(io.Discard, struct{ io.Reader }{r}, n); err != nil {
			t.Fatal(err)
		}
		cancel()
		if n < 8*MaxFrame {
			if _, err := io.Copy(io.Discard, r); !errors.Is(err, context.Canceled) {
				t.Errorf("after %d bytes: %v", n, err)
			}
		}
		r.Close()
	}
	// One that nobody reads or closes has started nothing.
	obj.NewReader(context.Background(), 0, -1)
}

// TestStopWaitingRead cancels and closes readers that wait for their source.
func TestStopWaitingRead(t *testing.T) {
	noLeaks(t)
	stored := mustEncode(t, sample(4*MaxFrame, 4), testOptions(CodecNone))
	src := &hangingSource{RangeReader: BytesRange(stored), after: 1 << 40}
	obj := mustOpen(t, src, testReadOptions())
	for _, n := range []int64{1, -1} {
		src.after = 1000
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		r := obj.NewReader(ctx, 0, n)
		if _, err := io.ReadAll(r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		r.Close()
		cancel()
	}
	// The second frame never arrives; Close does not wait for it.
	src.after = MaxFrame + 1000
	r := obj.NewReader(context.Background(), 0, -1)
	if _, err := io.ReadFull(r, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	r.Close()
}

// hangingSource's reads give some bytes and then wait for their context.
type hangingSource struct {
	RangeReader
	after int64
}

func (s *hangingSource) ReadRange(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r, err := s.RangeReader.ReadRange(ctx, off, n)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, s.after), waitingReader{ctx}), r}, nil
}

type waitingReader struct{ ctx context.Context }

func (w waitingReader) Read([]byte) (int, error) {
	<-w.ctx.Done()
	return 0, w.ctx.Err()
}
