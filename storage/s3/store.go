// Package s3 is the storage driver for S3 and what speaks its protocol. The AWS
// SDK is used here and nowhere else.
//
// Nothing is overwritten: objects are created with If-None-Match, by PutObject
// and by CompleteMultipartUpload alike. Every object and every part carries
// its CRC-32C, which the store checks before it accepts them.
//
// The SDK's retries are off: storage.WithRetry does that. Only what a caller
// cannot repeat, the parts of a Writer and its Commit, is retried here.
package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/walden-pg/walden/storage"
)

const (
	minPartSize     = 5 << 20 // S3's own limit, except for the last part
	maxPartSize     = 5 << 30
	maxParts        = 10_000
	defaultPartSize = 8 << 20
	defaultRegion   = "us-east-1"
	// defaultSinglePut is the size, in bytes, up to which Put sends an object in
	// one request: a WAL segment of the usual 16 MiB is one.
	defaultSinglePut = 32 << 20
	// defaultIdle ends a request on which no byte has moved for so long.
	defaultIdle = 60 * time.Second
)

// Options say where the objects are kept, and how they get there.
type Options struct {
	// Bucket is the bucket's name. It must exist.
	Bucket string
	// Prefix is put before every key, with a slash between; may be empty.
	Prefix string
	// Endpoint is the URL of a store other than AWS ("https://minio.example:9000"); empty: AWS.
	Endpoint string
	// Region of the bucket; empty: what the environment or the shared AWS
	// configuration says, else us-east-1.
	Region string
	// PathStyle puts the bucket into the URL's path instead of its host name.
	PathStyle bool
	// CAFile is a file of PEM certificates that are trusted besides the system's.
	CAFile string
	// PartSize is the size of the parts of large objects, in bytes, from 5 MiB to
	// 5 GiB; 0: 8 MiB. An object has at most 10,000 parts: the size of a Writer's
	// object is limited to as many times PartSize.
	PartSize int64
	// Concurrency is how many parts of one object are sent at a time; 0: 4. A
	// Writer holds up to Concurrency+1 parts in memory.
	Concurrency int
	// AccessKey, SecretKey and SessionToken are the credentials; all empty: the
	// standard AWS chain (environment, shared files, web identity, container, instance).
	AccessKey, SecretKey, SessionToken string
	// InsecureSkipVerify accepts any server certificate. For experiments only.
	InsecureSkipVerify bool

	// For tests; zero values are what is used.
	pageSize  int32
	singlePut int64
	idle      time.Duration
	pause     time.Duration // bound of the first pause before a part is sent again
	transport func(*http.Transport)
}

// Store is a storage.Store in a bucket. Info.Version is the ETag.
//
// Retention is S3's object lock in compliance mode, for which the bucket must
// be made; it keeps the version of the object, whatever is deleted later.
type Store struct {
	o       Options
	buffers chan []byte // spare part buffers, each of PartSize

	mu     sync.Mutex
	client *awss3.Client // nil: not needed so far
}

// New returns the store in a bucket. It checks the options and does nothing
// else: configuration and credentials are looked for when they are first needed.
func New(_ context.Context, o Options) (*Store, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("open s3 repository: %w", err)
	}
	if _, err := o.pool(); err != nil {
		return nil, fmt.Errorf("open s3 repository: %w", err)
	}
	return &Store{o: o, buffers: make(chan []byte, o.Concurrency+1)}, nil
}

// complete checks the options and puts the defaults in.
func (o *Options) complete() error {
	if o.Bucket == "" || strings.ContainsAny(o.Bucket, "/ ") {
		return fmt.Errorf("bucket name %q is not valid", o.Bucket)
	}
	if o.Endpoint != "" {
		u, err := url.Parse(o.Endpoint)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			return fmt.Errorf("endpoint %.40q is not a URL like https://s3.example.com:9000", redact(o.Endpoint))
		}
	}
	if (o.AccessKey == "") != (o.SecretKey == "") {
		return errors.New("access key and secret key must be given both or neither")
	}
	o.Prefix = strings.Trim(o.Prefix, "/")
	if o.Prefix != "" {
		o.Prefix += "/"
	}
	if len(o.Prefix) > 1024-storage.MaxKeyLength {
		return fmt.Errorf("prefix has more than %d bytes", 1024-storage.MaxKeyLength)
	}
	if o.PartSize == 0 {
		o.PartSize = defaultPartSize
	}
	if o.PartSize < minPartSize || o.PartSize > maxPartSize {
		return fmt.Errorf("part size %d is not between %d and %d", o.PartSize, minPartSize, int64(maxPartSize))
	}
	if o.Concurrency == 0 {
		o.Concurrency = 4
	}
	if o.Concurrency < 0 || o.Concurrency > 1000 {
		return fmt.Errorf("concurrency %d is not between 1 and 1000", o.Concurrency)
	}
	if o.singlePut == 0 {
		o.singlePut = max(defaultSinglePut, o.PartSize)
	}
	if o.idle == 0 {
		o.idle = defaultIdle
	}
	return nil
}

// redact takes credentials out of what should not have contained any.
func redact(endpoint string) string {
	if u, err := url.Parse(endpoint); err == nil {
		return u.Redacted()
	}
	return endpoint
}

// object returns bucket and key of an object as the SDK wants them.
func (s *Store) object(key string) (bucket, name *string) {
	return aws.String(s.o.Bucket), aws.String(s.o.Prefix + key)
}

// begin is what every operation on one key begins with.
func (s *Store) begin(ctx context.Context, op, key string) (*awss3.Client, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, &storage.Error{Op: op, Key: key, Err: err}
	}
	if err := ctx.Err(); err != nil {
		return nil, &storage.Error{Op: op, Key: key, Err: err}
	}
	c, err := s.connect(ctx)
	if err != nil {
		return nil, s.fail(ctx, op, key, err)
	}
	return c, nil
}

// Delete implements storage.Store. In a versioned bucket it hides the object.
func (s *Store) Delete(ctx context.Context, key string) error {
	c, err := s.begin(ctx, "delete", key)
	if err != nil {
		return err
	}
	bucket, name := s.object(key)
	_, err = c.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: bucket, Key: name})
	if err = s.fail(ctx, "delete", key, err); errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	return err
}
