package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/walden-pg/walden/storage"
)

// Open implements storage.Store.
func (s *Store) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if _, err := s.begin(ctx, "open", key); err != nil {
		return nil, err
	}
	if n == 0 && off >= 0 {
		return s.openResolved(ctx, key, off, n) // HTTP has no empty range
	}
	r, err := s.get(ctx, key, off, n)
	if err = s.fail(ctx, "open", key, err); errors.Is(err, errNoRange) {
		return s.openResolved(ctx, key, off, n)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// openResolved opens a range that HTTP cannot express, or the store has
// refused: of nothing, or beyond the end. The object's size decides.
func (s *Store) openResolved(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	info, err := s.stat(ctx, "open", key)
	if err != nil {
		return nil, err
	}
	start, length, err := storage.Range(info.Size, off, n)
	if err != nil {
		return nil, &storage.Error{Op: "open", Key: key, Err: err}
	}
	if length == 0 {
		return &reader{s: s, ctx: ctx, key: key, version: info.Version, body: io.NopCloser(strings.NewReader(""))}, nil
	}
	r, err := s.get(ctx, key, start, length)
	if err != nil {
		return nil, s.fail(ctx, "open", key, err)
	}
	return r, nil
}

// get asks for a range that is not empty.
func (s *Store) get(ctx context.Context, key string, off, n int64) (*reader, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	in := &awss3.GetObjectInput{}
	in.Bucket, in.Key = s.object(key)
	switch {
	case off < 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d", off))
	case n > 0 && off+n > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	case off > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", off))
	}
	out, err := c.GetObject(ctx, in)
	if err != nil {
		return nil, err
	}
	left, err := expect(out, in.Range != nil, off, n)
	if err != nil {
		out.Body.Close()
		return nil, &storage.Error{
			Op: "open", Key: key, Err: err,
			Hint: "something between here and the store, or the store itself, does not handle ranges as S3 does",
		}
	}
	return &reader{s: s, ctx: ctx, key: key, version: version(out.ETag), body: out.Body, left: left}, nil
}

// expect compares the answer with what was asked for, and returns how many
// bytes it must bring; -1 if that is not known.
func expect(out *awss3.GetObjectOutput, ranged bool, off, n int64) (int64, error) {
	length := int64(-1)
	if out.ContentLength != nil {
		length = *out.ContentLength
	}
	if out.ContentRange == nil {
		whole := !ranged || length >= 0 && (off == 0 && n >= length || off < 0 && -off >= length)
		if !whole {
			return 0, errors.New("the store ignored the range that was asked for")
		}
		return length, nil
	}
	first, last, size, err := parseContentRange(*out.ContentRange)
	if err != nil {
		return 0, err
	}
	start, count := first, last-first+1
	if size >= 0 {
		if start, count, err = storage.Range(size, off, n); err != nil {
			return 0, err
		}
	} else if off >= 0 {
		start = off
	}
	if first != start || last-first+1 != count || length >= 0 && length != count ||
		off >= 0 && n > 0 && count > n || off < 0 && count > -off {
		return 0, fmt.Errorf("the store delivers the range %q (%d bytes) where %d bytes from %d were asked for", *out.ContentRange, length, n, off)
	}
	return count, nil
}

// parseContentRange reads "bytes 0-9/100". size is -1 if it is "*".
func parseContentRange(s string) (first, last, size int64, err error) {
	rest, ok := strings.CutPrefix(s, "bytes ")
	span, total, ok2 := strings.Cut(rest, "/")
	from, to, ok3 := strings.Cut(span, "-")
	first, err1 := strconv.ParseInt(from, 10, 64)
	last, err2 := strconv.ParseInt(to, 10, 64)
	size = -1
	var err3 error
	if total != "*" {
		size, err3 = strconv.ParseInt(total, 10, 64)
	}
	if !ok || !ok2 || !ok3 || errors.Join(err1, err2, err3) != nil || first < 0 || last < first || size >= 0 && last >= size {
		return 0, 0, 0, fmt.Errorf("the store sends a malformed Content-Range %q", s)
	}
	return first, last, size, nil
}

func version(etag *string) string { return strings.Trim(aws.ToString(etag), `"`) }

// reader delivers a body and checks its length.
type reader struct {
	s            *Store
	ctx          context.Context
	key, version string
	body         io.ReadCloser
	left         int64 // -1: unknown
	closed       bool
}

// Version implements storage.Versioned.
func (r *reader) Version() string { return r.version }

func (r *reader) Read(p []byte) (int, error) {
	if r.closed {
		return 0, &storage.Error{Op: "read", Key: r.key, Err: fs.ErrClosed}
	}
	if err := r.ctx.Err(); err != nil {
		return 0, &storage.Error{Op: "read", Key: r.key, Err: err}
	}
	n, err := r.body.Read(p)
	if r.left >= 0 {
		r.left -= int64(n)
	}
	switch {
	case errors.Is(err, io.EOF) && r.left <= 0:
		return n, io.EOF
	case errors.Is(err, io.EOF):
		err = fmt.Errorf("%d bytes are missing: %w", r.left, io.ErrUnexpectedEOF)
	case err == nil:
		return n, nil
	}
	return n, r.broken(err)
}

// broken makes the error of a body: the object is there, so it may be read again.
func (r *reader) broken(err error) error {
	if ctxErr := r.ctx.Err(); ctxErr != nil {
		return &storage.Error{Op: "read", Key: r.key, Err: ctxErr}
	}
	return &storage.Error{Op: "read", Key: r.key, Err: err, Temporary: true}
}

func (r *reader) Close() error {
	r.closed = true
	return r.body.Close()
}

// Stat implements storage.Store.
func (s *Store) Stat(ctx context.Context, key string) (storage.Info, error) {
	if _, err := s.begin(ctx, "stat", key); err != nil {
		return storage.Info{}, err
	}
	return s.stat(ctx, "stat", key)
}

// stat asks by HEAD. A refusal of that has no body, so it gives no reason, and
// "not found" can mean the object or the bucket: only a GET tells. So absence is
// never concluded from HEAD alone.
func (s *Store) stat(ctx context.Context, op, key string) (storage.Info, error) {
	out, err := s.head(ctx, key)
	if refused(err) {
		r, getErr := s.get(ctx, key, 0, 1)
		if getErr = s.fail(ctx, op, key, getErr); getErr != nil && !errors.Is(getErr, errNoRange) {
			return storage.Info{}, getErr
		}
		if getErr == nil {
			_ = r.Close()
		}
		out, err = s.head(ctx, key) // it has just come into being
	}
	err = s.fail(ctx, op, key, err)
	if err != nil {
		return storage.Info{}, err
	}
	return storage.Info{
		Key: key, Size: aws.ToInt64(out.ContentLength), ModTime: aws.ToTime(out.LastModified), Version: version(out.ETag),
	}, nil
}

// refused reports whether the store has answered that it will not.
func refused(err error) bool {
	var resp *smithyhttp.ResponseError
	return errors.As(err, &resp) && resp.HTTPStatusCode() >= 300 && resp.HTTPStatusCode() < 500
}

func (s *Store) head(ctx context.Context, key string) (*awss3.HeadObjectOutput, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	in := &awss3.HeadObjectInput{}
	in.Bucket, in.Key = s.object(key)
	out, err := c.HeadObject(ctx, in)
	if err == nil && out.ContentLength == nil {
		return nil, &storage.Error{Op: "stat", Key: key, Err: errors.New("the store does not tell the object's size"), Temporary: true}
	}
	return out, err
}
