package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/config"
	smithy "github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/walden-pg/walden/storage"
)

var (
	errNoUpload = errors.New("the store no longer knows the multipart upload")
	errNoRange  = errors.New("the store says that the range cannot be satisfied")
	errConflict = errors.New("the store is busy with a conflicting request for the same key")
	// errBareMissing is 404 without a reason: the object or the bucket.
	errBareMissing = errors.New("the store answers not found, and does not say what")
)

// verdict is what an error of the SDK means.
type verdict struct {
	cause     error // found in the store's answer; nil: none of ours
	temporary bool
	hint      string
}

// fail makes err, which may be nil, a *storage.Error.
func (s *Store) fail(ctx context.Context, op, key string, err error) error {
	if err == nil {
		return nil
	}
	var done *storage.Error
	if errors.As(err, &done) {
		return &storage.Error{Op: op, Key: key, Err: done.Err, Temporary: done.Temporary, Hint: done.Hint}
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return &storage.Error{Op: op, Key: key, Err: ctxErr}
	}
	v := s.judge(err)
	e := &storage.Error{Op: op, Key: key, Err: plain(err), Temporary: v.temporary, Hint: v.hint}
	switch {
	case errors.Is(v.cause, storage.ErrNotExist), errors.Is(v.cause, storage.ErrExist):
		e.Err = v.cause // there is no more to say
	case v.cause != nil:
		e.Err = fmt.Errorf("%w: %w", v.cause, e.Err)
	}
	return e
}

// silent keeps the SDK from logging on standard error: its errors tell the same.
func silent(o *config.LoadOptions) error { o.Logger = logging.Nop{}; return nil }

// plain says in few words what the SDK says in many: the store's own words, or
// what happened on the way to it.
func plain(err error) error {
	var api smithy.APIError
	var resp *smithyhttp.ResponseError
	if errors.As(err, &api) && errors.As(err, &resp) {
		return &answerError{api: api, status: resp.HTTPStatusCode(), err: err}
	}
	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) {
		return send.Err // around it the SDK speaks of an answer, with status 0
	}
	var op *smithy.OperationError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}

// answerError is an error that the store has answered.
type answerError struct {
	api    smithy.APIError
	status int
	err    error
}

func (e *answerError) Error() string {
	code, text := e.api.ErrorCode(), e.api.ErrorMessage()
	if text == "" || text == code || code == strings.ReplaceAll(text, " ", "") {
		return fmt.Sprintf("%s (HTTP status %d)", code, e.status)
	}
	return fmt.Sprintf("%s: %s (HTTP status %d)", code, text, e.status)
}

func (e *answerError) Unwrap() error { return e.err }

// judge says what err means.
func (s *Store) judge(err error) verdict {
	var missing *credentialsError
	if errors.As(err, &missing) {
		return verdict{temporary: missing.had, hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE with a shared credentials file, or give the machine a role; now: " + s.where()}
	}
	var cfg *configError
	if errors.As(err, &cfg) {
		return verdict{hint: "check the AWS_… environment variables and the files ~/.aws/config and ~/.aws/credentials"}
	}
	if errors.Is(err, errStalled) {
		return verdict{temporary: true, hint: s.reachHint()}
	}
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.HTTPStatusCode() > 0 {
		return s.judgeAnswer(resp, err)
	}
	return s.judgeConnection(err)
}

// judgeAnswer judges by the answer's code, and by its status where it has none.
func (s *Store) judgeAnswer(resp *smithyhttp.ResponseError, err error) verdict {
	code := ""
	var api smithy.APIError
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	if v, ok := s.judgeCode(code, resp); ok {
		return v
	}
	switch status := resp.HTTPStatusCode(); {
	case status == http.StatusMovedPermanently, status == http.StatusTemporaryRedirect, status == http.StatusPermanentRedirect:
		return s.judgeRedirect(resp, status == http.StatusTemporaryRedirect)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return verdict{cause: fs.ErrPermission, hint: s.accessHint()}
	case status == http.StatusNotFound:
		return verdict{cause: errBareMissing, hint: "does the bucket " + s.o.Bucket + " exist at this endpoint, and is the endpoint an S3 server?"}
	case status == http.StatusConflict && (code == "" || code == "Conflict"):
		return verdict{cause: errConflict, temporary: true}
	case status == http.StatusPreconditionFailed:
		return verdict{cause: storage.ErrExist}
	case status == http.StatusRequestedRangeNotSatisfiable:
		return verdict{cause: errNoRange}
	case status == http.StatusNotImplemented:
		return verdict{hint: "the store lacks what Walden needs: upgrade it or use another one"}
	case status == http.StatusInsufficientStorage:
		return verdict{hint: "the store is full: make it larger, or shorten the retention"}
	case status == http.StatusBadRequest && code == "" || status == http.StatusBadRequest && code == "BadRequest":
		return verdict{hint: "an answer without a reason often means a wrong region or expired credentials; now: " + s.where()}
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return verdict{temporary: true}
	case status < 300:
		// The head of the answer was fine, its body was not.
		return verdict{temporary: true}
	}
	return verdict{}
}

func (s *Store) judgeCode(code string, resp *smithyhttp.ResponseError) (verdict, bool) {
	switch code {
	case "NoSuchKey":
		return verdict{cause: storage.ErrNotExist}, true
	case "NoSuchBucket":
		return verdict{hint: "create the bucket " + s.o.Bucket + ", or correct its name; now: " + s.where()}, true
	case "NoSuchUpload":
		return verdict{cause: errNoUpload, hint: "a lifecycle rule or another program ended it: do not let them end uploads younger than a day"}, true
	case "PreconditionFailed":
		return verdict{cause: storage.ErrExist}, true
	case "ConditionalRequestConflict", "OperationAborted":
		return verdict{cause: errConflict, temporary: true}, true
	case "ObjectParentIsFile", "ExistingObjectIsDirectory", "XMinioParentIsObject", "XMinioObjectExistsAsDirectory":
		return verdict{hint: "this store keeps objects as files: no key can be a directory of another one"}, true
	case "InvalidRange":
		return verdict{cause: errNoRange}, true
	case "AccessDenied", "AllAccessDisabled":
		return verdict{cause: fs.ErrPermission, hint: s.accessHint()}, true
	case "InvalidAccessKeyId":
		return verdict{cause: fs.ErrPermission, hint: "the store does not know this access key: check it, and that it belongs to this endpoint; now: " + s.where()}, true
	case "SignatureDoesNotMatch":
		return verdict{cause: fs.ErrPermission, hint: "check the secret key, and that nothing between here and the store rewrites requests; now: " + s.where()}, true
	case "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "ExpiredTokenException":
		return verdict{cause: fs.ErrPermission, hint: "the session token has expired or is wrong: renew the credentials; now: " + s.where()}, true
	case "RequestTimeTooSkewed":
		// The SDK learns the difference from this answer.
		return verdict{temporary: true, hint: "the clock of this machine is wrong: synchronise it"}, true
	case "PermanentRedirect", "TemporaryRedirect", "Redirect":
		return s.judgeRedirect(resp, code != "PermanentRedirect"), true
	case "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "InvalidRegion":
		return s.judgeRedirect(resp, false), true
	case "InvalidStorageClass":
		return verdict{hint: "the store has no such storage class: choose another one, or none"}, true
	case "InvalidBucketState", "ObjectLockConfigurationNotFoundError", "InvalidBucketObjectLockConfiguration":
		return verdict{hint: "retention needs a bucket with object lock enabled"}, true
	case "QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded":
		return verdict{hint: "the store or the quota is full: make it larger, or shorten the retention"}, true
	case "NotImplemented":
		return verdict{hint: "the store lacks what Walden needs: upgrade it or use another one"}, true
	case "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "RequestTimeoutException", "Throttling",
		"ThrottlingException", "TooManyRequests", "TooManyRequestsException", "RequestLimitExceeded", "BandwidthLimitExceeded",
		"BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch", "IncompleteBody":
		return verdict{temporary: true}, true
	}
	return verdict{}, false
}

func (s *Store) judgeRedirect(resp *smithyhttp.ResponseError, temporary bool) verdict {
	hint := "the bucket is in another region or at another endpoint; now: " + s.where()
	if resp.Response != nil {
		if region := resp.Response.Header.Get("X-Amz-Bucket-Region"); region != "" {
			hint = "the bucket is in the region " + region + ": configure that; now: " + s.where()
		}
	}
	return verdict{temporary: temporary, hint: hint}
}

// judgeConnection judges what happened without an answer.
func (s *Store) judgeConnection(err error) verdict {
	var (
		unknownCA x509.UnknownAuthorityError
		wrongHost x509.HostnameError
		badCert   x509.CertificateInvalidError
		verify    *tls.CertificateVerificationError
		noTLS     tls.RecordHeaderError
		dns       *net.DNSError
		network   net.Error
	)
	switch {
	case errors.As(err, &wrongHost):
		return verdict{hint: "the server's certificate is for another host name: check the endpoint; buckets whose names contain dots need path style"}
	case errors.As(err, &badCert):
		return verdict{hint: "the server's certificate is not valid: check its dates, and this machine's clock"}
	case errors.As(err, &unknownCA), errors.As(err, &verify):
		return verdict{hint: "the server's certificate is signed by nobody this machine trusts: name the CA's PEM file in the configuration"}
	case errors.As(err, &noTLS), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return verdict{hint: "the server does not speak TLS on this port: does the endpoint begin with http://?"}
	case errors.As(err, &dns):
		return verdict{temporary: !dns.IsNotFound, hint: s.reachHint()}
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return verdict{temporary: true, hint: s.reachHint()}
	}
	var send *smithyhttp.RequestSendError
	if errors.As(err, &send) {
		return verdict{temporary: true, hint: s.reachHint()}
	}
	var decode *smithy.DeserializationError
	if errors.As(err, &decode) {
		return verdict{temporary: true, hint: "is the endpoint an S3 server? " + s.where()}
	}
	return verdict{}
}

// where names the place, never a secret.
func (s *Store) where() string {
	endpoint, region := s.o.Endpoint, s.o.Region
	if endpoint == "" {
		endpoint = "AWS"
	}
	if region == "" {
		region = "by default"
	}
	return "bucket " + s.o.Bucket + ", endpoint " + endpoint + ", region " + region
}

func (s *Store) reachHint() string {
	return "is the endpoint right, and reachable from this machine (name, port, firewall, proxy)? " + s.where()
}

func (s *Store) accessHint() string {
	return "the credentials need s3:ListBucket on the bucket " + s.o.Bucket + " (without it an absent object looks like a forbidden one), and " +
		"s3:GetObject, s3:PutObject, s3:AbortMultipartUpload and s3:DeleteObject on its objects"
}
