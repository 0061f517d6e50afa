package s3

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// errStalled ends a request on which nothing has moved for too long.
var errStalled = errors.New("the connection stalled: no byte was sent or received for too long")

var errEnded = errors.New("the request is over")

// assembleIdle is how long a store may think about the parts of an object
// before it answers.
const assembleIdle = 5 * time.Minute

// watchdog is a transport on which nothing hangs: it cancels a request whose
// body is not taken, whose answer does not begin, or whose answer does not go on.
type watchdog struct {
	next http.RoundTripper
	idle time.Duration
}

func (w *watchdog) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	idle := w.idle
	if q := req.URL.Query(); req.Method == http.MethodPost && q.Has("uploadId") {
		idle = max(idle, assembleIdle)
	}
	a := &alarm{idle: idle, timer: time.AfterFunc(idle, func() { cancel(errStalled) }), on: true}
	resp, err := w.next.RoundTrip(a.watch(req.WithContext(ctx)))
	a.off()
	if err != nil {
		if errors.Is(context.Cause(ctx), errStalled) {
			err = errStalled
		}
		a.end()
		cancel(nil)
		return nil, err
	}
	resp.Body = &answer{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, alarm: a, idle: w.idle}
	return resp, nil
}

// alarm goes off unless it is put off in time.
type alarm struct {
	mu    sync.Mutex
	idle  time.Duration
	timer *time.Timer
	on    bool
	ended bool
}

// off switches the alarm off. The body may be read even after that, when the
// answer came early.
func (a *alarm) off() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.on = false
	a.timer.Stop()
}

// end makes sure that the request's body is not read any more: its owner takes
// the buffer back. The transport may still be at it when the exchange is over.
func (a *alarm) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
}

// read reads from the body, and puts the alarm off.
func (a *alarm) read(body io.Reader, p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return 0, errEnded
	}
	if a.on {
		a.timer.Reset(a.idle)
	}
	return body.Read(p)
}

// watch makes every read of the request's body put the alarm off.
func (a *alarm) watch(req *http.Request) *http.Request {
	if req.Body == nil || req.Body == http.NoBody {
		return req
	}
	req.Body = &outgoing{req.Body, a}
	if get := req.GetBody; get != nil {
		req.GetBody = func() (io.ReadCloser, error) {
			b, err := get()
			if err != nil {
				return nil, err
			}
			return &outgoing{b, a}, nil
		}
	}
	return req
}

type outgoing struct {
	io.ReadCloser
	a *alarm
}

func (o *outgoing) Read(p []byte) (int, error) { return o.a.read(o.ReadCloser, p) }

// answer is a response's body. Time counts only while someone waits for it.
type answer struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	alarm  *alarm
	idle   time.Duration
}

func (r *answer) Read(p []byte) (int, error) {
	r.alarm.timer.Reset(r.idle)
	n, err := r.ReadCloser.Read(p)
	r.alarm.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(r.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

func (r *answer) Close() error {
	r.alarm.timer.Stop()
	r.alarm.end()
	err := r.ReadCloser.Close()
	r.cancel(nil)
	return err
}
