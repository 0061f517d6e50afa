package s3

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/walden-pg/walden/storage"
)

// Whoever looks for the next key only shall not pay for a thousand.
const firstPage, laterPages = 100, 1000

// List implements storage.Store. Objects whose names are not keys are not ours and are
// passed over.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		c, err := s.connect(ctx)
		if err != nil {
			yield(storage.Info{}, s.fail(ctx, "list", prefix, err))
			return
		}
		l := lister{s: s, c: c, ctx: ctx, prefix: prefix, last: after, size: firstPage}
		for more := true; more; {
			page, err := l.next()
			if err != nil {
				yield(storage.Info{}, s.fail(ctx, "list", prefix, err))
				return
			}
			for _, info := range page {
				if !yield(info, nil) {
					return
				}
			}
			more = l.token != nil
		}
	}
}

type lister struct {
	s      *Store
	c      *awss3.Client
	ctx    context.Context
	prefix string
	last   string // the last key that was listed, or what came before the first
	size   int32
	token  *string
}

// next returns the next page, which may be empty. token is nil after the last one.
func (l *lister) next() ([]storage.Info, error) {
	in := &awss3.ListObjectsV2Input{
		Bucket: aws.String(l.s.o.Bucket), Prefix: aws.String(l.s.o.Prefix + l.prefix), ContinuationToken: l.token,
		MaxKeys: aws.Int32(l.size), EncodingType: types.EncodingTypeUrl,
	}
	if l.size = laterPages; l.s.o.pageSize > 0 {
		in.MaxKeys = aws.Int32(l.s.o.pageSize)
	}
	if l.last != "" && l.token == nil {
		in.StartAfter = aws.String(l.s.o.Prefix + l.last)
	}
	out, err := l.c.ListObjectsV2(l.ctx, in)
	if err != nil {
		return nil, err
	}
	page := make([]storage.Info, 0, len(out.Contents))
	for _, o := range out.Contents {
		info, ok, err := l.info(o, out.EncodingType == types.EncodingTypeUrl)
		if err != nil {
			return nil, err
		}
		if ok {
			page = append(page, info)
		}
	}
	return page, l.turn(out)
}

// turn prepares the next page.
func (l *lister) turn(out *awss3.ListObjectsV2Output) error {
	before := l.token
	l.token = nil
	if !aws.ToBool(out.IsTruncated) {
		return nil
	}
	l.token = out.NextContinuationToken
	if aws.ToString(l.token) == "" || before != nil && *before == *l.token {
		return &storage.Error{Op: "list", Key: l.prefix, Err: errors.New("the store says that its listing goes on, but not where"), Temporary: true}
	}
	return nil
}

// info checks one entry. ok is false if it is none of ours.
func (l *lister) info(o types.Object, encoded bool) (info storage.Info, ok bool, err error) {
	name := aws.ToString(o.Key)
	if encoded {
		if name, err = url.QueryUnescape(name); err != nil {
			return info, false, fmt.Errorf("the store lists a malformed name: %w", err)
		}
	}
	key, ok := strings.CutPrefix(name, l.s.o.Prefix)
	if !ok || !strings.HasPrefix(key, l.prefix) {
		return info, false, &storage.Error{Op: "list", Key: l.prefix, Err: fmt.Errorf("the store lists %q, which does not begin with the prefix that was asked for", name)}
	}
	if storage.CheckKey(key) != nil {
		return info, false, nil
	}
	if key <= l.last {
		return info, false, &storage.Error{
			Op: "list", Key: l.prefix, Err: fmt.Errorf("the store lists %q after %q", key, l.last),
			Hint: "Walden needs a store that lists in the order of names and honours start-after, as general purpose buckets of S3 do",
		}
	}
	l.last = key
	return storage.Info{Key: key, Size: aws.ToInt64(o.Size), ModTime: aws.ToTime(o.LastModified), Version: version(o.ETag)}, true, nil
}
