package s3

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/cenkalti/backoff/v5"

	"github.com/walden-pg/walden/storage"
)

const (
	// sendTries bounds how often a part is sent: some 45 seconds, with the pauses.
	sendTries  = 12
	firstPause = 250 * time.Millisecond
	maxPause   = 15 * time.Second
	// cleanTime is what the end of a failed upload may take.
	cleanTime = 30 * time.Second
	// markName is the name of the object's metadata that tells whose write made it.
	markName = "walden-write"
)

// newToken returns a mark that no other write has.
func newToken() (string, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return hex.EncodeToString(b), nil
}

func mark(token string) map[string]string {
	if token == "" {
		return nil
	}
	return map[string]string{markName: token}
}

// again calls f until it succeeds or fails for good, sendTries times at most.
func (s *Store) again(ctx context.Context, key string, f func() error) error {
	pause := cmp.Or(s.o.pause, firstPause)
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := s.fail(ctx, "write", key, f())
		if err != nil && !storage.Retryable(err) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithMaxTries(sendTries), backoff.WithMaxElapsedTime(0), backoff.WithBackOff(jitter{&backoff.ExponentialBackOff{
		InitialInterval: pause, Multiplier: 2, MaxInterval: max(pause, min(maxPause, 60*pause)),
	}}))
	return s.fail(ctx, "write", key, err)
}

// jitter draws each pause between nothing and the exponential bound.
type jitter struct{ backoff.BackOff }

func (j jitter) NextBackOff() time.Duration {
	return mrand.N(max(1, j.BackOff.NextBackOff())) + time.Millisecond
}

// upload is a multipart upload.
type upload struct {
	s     *Store
	key   string
	id    string
	token string

	mu    sync.Mutex
	parts []types.CompletedPart
}

func (s *Store) startUpload(ctx context.Context, key string, o storage.PutOptions) (*upload, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	token, err := newToken()
	if err != nil {
		return nil, err
	}
	in := &awss3.CreateMultipartUploadInput{
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c, StorageClass: types.StorageClass(o.StorageClass),
		Tagging: tagging(o), Metadata: mark(token),
	}
	in.Bucket, in.Key = s.object(key)
	if !o.RetainUntil.IsZero() {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = types.ObjectLockModeCompliance, retain(o)
	}
	u := &upload{s: s, key: key, token: token}
	err = s.again(ctx, key, func() error {
		// A lost answer leaves an upload behind that nobody knows: lifecycle rules end those.
		out, err := c.CreateMultipartUpload(ctx, in)
		if err == nil {
			u.id = aws.ToString(out.UploadId)
		}
		return err
	})
	if err == nil && u.id == "" {
		err = &storage.Error{Op: "write", Key: key, Err: errors.New("the store began a multipart upload without an id")}
	}
	return u, err
}

// send sends one part, again if need be. Parts may be sent concurrently.
func (u *upload) send(ctx context.Context, number int32, r io.ReaderAt, size int64) error {
	c, err := u.s.connect(ctx)
	if err != nil {
		return err
	}
	sum, err := checksum(r, size)
	if err != nil {
		return &storage.Error{Op: "write", Key: u.key, Err: err}
	}
	bucket, name := u.s.object(u.key)
	return u.s.again(ctx, u.key, func() error {
		out, err := c.UploadPart(ctx, &awss3.UploadPartInput{
			Bucket: bucket, Key: name, UploadId: aws.String(u.id), PartNumber: aws.Int32(number),
			Body: io.NewSectionReader(r, 0, size), ContentLength: aws.Int64(size),
			ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c, ChecksumCRC32C: sum,
		})
		if err != nil {
			return err
		}
		part := types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(number)}
		if out.ChecksumCRC32C != nil { // a store that knows no checksums wants none back
			part.ChecksumCRC32C = sum
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		u.parts = append(u.parts, part)
		return nil
	})
}

// complete makes the object of its parts.
func (u *upload) complete(ctx context.Context) error {
	c, err := u.s.connect(ctx)
	if err != nil {
		return err
	}
	slices.SortFunc(u.parts, func(a, b types.CompletedPart) int { return cmp.Compare(*a.PartNumber, *b.PartNumber) })
	bucket, name := u.s.object(u.key)
	return u.s.settle(ctx, u.key, u.token, func() error {
		_, err := c.CompleteMultipartUpload(ctx, &awss3.CompleteMultipartUploadInput{
			Bucket: bucket, Key: name, UploadId: aws.String(u.id), IfNoneMatch: aws.String("*"),
			MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts},
		})
		return err
	})
}

// abort frees the parts. It works even when ctx is done; if it fails, a
// lifecycle rule has to free them.
func (u *upload) abort(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer cancel()
	c, err := u.s.connect(ctx)
	if err != nil {
		return err
	}
	bucket, name := u.s.object(u.key)
	err = u.s.again(ctx, u.key, func() error {
		_, err := c.AbortMultipartUpload(ctx, &awss3.AbortMultipartUploadInput{Bucket: bucket, Key: name, UploadId: aws.String(u.id)})
		return err
	})
	if errors.Is(err, errNoUpload) || errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	return err
}

// settle sends the request that makes an object visible, until it is known
// whether it did. The answer to a request that was carried out can be lost; the
// next one then meets an object, or misses the upload: the mark tells if it is ours.
func (s *Store) settle(ctx context.Context, key, token string, send func() error) error {
	lost := false // an attempt may have succeeded unheard
	err := s.again(ctx, key, func() error {
		err := s.fail(ctx, "commit", key, send())
		switch {
		case err == nil:
			return nil
		case errors.Is(err, storage.ErrExist), errors.Is(err, errNoUpload), errors.Is(err, errConflict):
			return s.whose(ctx, key, token, err)
		case storage.Retryable(err):
			lost = true
		}
		return err
	})
	var e *storage.Error
	if lost && errors.As(err, &e) && !errors.Is(err, storage.ErrExist) {
		e.Temporary = true
	}
	return err
}

// whose resolves a refusal to create the object key: nil if it is there and
// bears our mark, ErrExist if it is there and does not, otherwise refused, which may then
// be tried again.
func (s *Store) whose(ctx context.Context, key, token string, refused error) error {
	out, err := s.head(ctx, key)
	if err == nil {
		if out.Metadata[markName] == token {
			return nil
		}
		return &storage.Error{Op: "commit", Key: key, Err: storage.ErrExist}
	}
	if err = s.fail(ctx, "commit", key, err); errors.Is(err, errBareMissing) || errors.Is(err, storage.ErrNotExist) {
		if errors.Is(refused, storage.ErrExist) {
			// It existed a moment ago, and somebody has deleted it since.
			return &storage.Error{Op: "commit", Key: key, Err: fmt.Errorf("%w", storage.ErrExist)}
		}
		return refused
	}
	return &storage.Error{Op: "commit", Key: key, Err: fmt.Errorf("%w (and to look for the object failed: %w)", refused, err), Temporary: true}
}
