package s3

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/walden-pg/walden/storage"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum returns the CRC-32C of the size bytes of r, as S3 writes it.
func checksum(r io.ReaderAt, size int64) (*string, error) {
	h := crc32.New(castagnoli)
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{io.NewSectionReader(r, 0, size)}, make([]byte, max(1, min(size, 256<<10))))
	if err != nil {
		return nil, fmt.Errorf("read source: %w", err)
	}
	if n != size {
		return nil, fmt.Errorf("source ends after %d of %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	return aws.String(base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, h.Sum32()))), nil
}

// Put implements storage.Store: in one request, or in parts where the object
// is larger than that.
func (s *Store) Put(ctx context.Context, key string, r io.ReaderAt, size int64, o storage.PutOptions) error {
	if _, err := s.begin(ctx, "put", key); err != nil {
		return err
	}
	if size < 0 {
		return &storage.Error{Op: "put", Key: key, Err: fmt.Errorf("negative size %d", size)}
	}
	if size > s.o.singlePut {
		return s.fail(ctx, "put", key, s.putParts(ctx, key, r, size, o))
	}
	return s.fail(ctx, "put", key, s.putObject(ctx, key, r, size, o, ""))
}

// putObject sends an object in one request. token, if not empty, marks it as
// ours (see own).
func (s *Store) putObject(ctx context.Context, key string, r io.ReaderAt, size int64, o storage.PutOptions, token string) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	sum, err := checksum(r, size)
	if err != nil {
		return &storage.Error{Op: "put", Key: key, Err: err}
	}
	in := &awss3.PutObjectInput{
		Body: io.NewSectionReader(r, 0, size), ContentLength: aws.Int64(size), IfNoneMatch: aws.String("*"),
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c, ChecksumCRC32C: sum,
		StorageClass: types.StorageClass(o.StorageClass), Tagging: tagging(o), Metadata: mark(token),
	}
	in.Bucket, in.Key = s.object(key)
	if !o.RetainUntil.IsZero() {
		in.ObjectLockMode, in.ObjectLockRetainUntilDate = types.ObjectLockModeCompliance, retain(o)
	}
	_, err = c.PutObject(ctx, in)
	return err
}

func tagging(o storage.PutOptions) *string {
	if len(o.Tags) == 0 {
		return nil
	}
	v := url.Values{}
	for k, tag := range o.Tags {
		v.Set(k, tag)
	}
	return aws.String(v.Encode())
}

func retain(o storage.PutOptions) *time.Time { return aws.Time(o.RetainUntil.UTC()) }

// putParts sends a large object in parts, straight from its source.
func (s *Store) putParts(ctx context.Context, key string, r io.ReaderAt, size int64, o storage.PutOptions) error {
	partSize := max(s.o.PartSize, (size+maxParts-1)/maxParts)
	if partSize > maxPartSize {
		return &storage.Error{Op: "put", Key: key, Err: fmt.Errorf("object of %d bytes is larger than S3 allows", size)}
	}
	u, err := s.startUpload(ctx, key, o)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(s.o.Concurrency)
	number := int32(0)
	for off := int64(0); off < size && gctx.Err() == nil; off += partSize {
		number++
		n := number
		length := min(partSize, size-off)
		g.Go(func() error { return u.send(gctx, n, io.NewSectionReader(r, off, length), length) })
	}
	err = g.Wait()
	if err == nil {
		err = ctx.Err() // the loop may have ended early
	}
	if err == nil {
		err = u.complete(ctx)
	}
	if err != nil {
		_ = u.abort(ctx) // what it leaves a lifecycle rule ends
	}
	var e *storage.Error
	if errors.Is(err, errNoUpload) && errors.As(err, &e) {
		// The store has dropped the parts, as it may after a conflict. Nothing
		// else is lost: the source can be read again.
		err = &storage.Error{Op: "put", Key: key, Err: e.Err, Temporary: true, Hint: e.Hint}
	}
	return err
}
