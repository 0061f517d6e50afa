package s3

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// AbandonedUploadsExpire reports whether a lifecycle rule of the bucket ends
// multipart uploads that were cut off, for all keys of this store. Without one
// the parts of an upload whose process died are kept, and paid for, for ever.
// Stores that know no lifecycle rules have none.
func (s *Store) AbandonedUploadsExpire(ctx context.Context) (bool, error) {
	c, err := s.connect(ctx)
	if err != nil {
		return false, s.fail(ctx, "lifecycle", s.o.Bucket, err)
	}
	out, err := c.GetBucketLifecycleConfiguration(ctx, &awss3.GetBucketLifecycleConfigurationInput{Bucket: aws.String(s.o.Bucket)})
	var api smithy.APIError
	if errors.As(err, &api) && (api.ErrorCode() == "NoSuchLifecycleConfiguration" || api.ErrorCode() == "NotImplemented") {
		return false, nil
	}
	if err != nil {
		return false, s.fail(ctx, "lifecycle", s.o.Bucket, err)
	}
	for _, rule := range out.Rules {
		if rule.Status == types.ExpirationStatusEnabled && rule.AbortIncompleteMultipartUpload != nil && s.covers(rule) {
			return true, nil
		}
	}
	return false, nil
}

// covers reports whether a rule applies to every key of the store: one that
// is filtered by tags or sizes does not, since uploads have neither.
func (s *Store) covers(rule types.LifecycleRule) bool {
	prefix := aws.ToString(rule.Prefix) //nolint:staticcheck // the old form of a rule, which buckets still have
	if f := rule.Filter; f != nil {
		if f.And != nil || f.Tag != nil || f.ObjectSizeGreaterThan != nil || f.ObjectSizeLessThan != nil {
			return false
		}
		prefix = aws.ToString(f.Prefix)
	}
	return strings.HasPrefix(s.o.Prefix, prefix)
}
