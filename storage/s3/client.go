package s3

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
)

// connect returns the client, which the first call makes. Making it reads
// files and the environment, no more; a failure is tried again by the next call.
func (s *Store) connect(ctx context.Context) (*awss3.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		return s.client, nil
	}
	client, err := s.o.client(ctx)
	if err != nil {
		return nil, err
	}
	s.client = client
	return client, nil
}

func (o *Options) client(ctx context.Context) (*awss3.Client, error) {
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(o.http()),
		config.WithEndpointCredentialOptions(func(eo *endpointcreds.Options) { eo.HTTPClient = o.http() }),
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	if o.AccessKey != "" {
		load = append(load, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(o.AccessKey, o.SecretKey, o.SessionToken)))
	}
	load = append(load, silent)
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, &configError{err}
	}
	if cfg.Region == "" {
		cfg.Region = defaultRegion
	}
	// The configuration has put AWS_CA_BUNDLE, if it is set, into this client.
	hc, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok {
		return nil, &configError{fmt.Errorf("the AWS configuration made an HTTP client of type %T", cfg.HTTPClient)}
	}
	transport, err := o.trust(hc.GetTransport())
	if err != nil {
		return nil, err
	}
	return awss3.NewFromConfig(cfg, func(so *awss3.Options) {
		so.UsePathStyle = o.PathStyle
		if o.Endpoint != "" {
			so.BaseEndpoint = aws.String(o.Endpoint)
		}
		so.Credentials = &provider{next: cfg.Credentials}
		so.Retryer = aws.NopRetryer{}
		so.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		// Ranges cannot be checked, and frames check themselves.
		so.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		so.HTTPClient = &http.Client{
			Transport: &watchdog{next: transport, idle: o.idle},
			// A redirect is told to the user: its target expects another signature.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}), nil
}

// http returns the client of the SDK's own look-ups, such as those for
// credentials. The watchdog does not see them, so each has a bound of its own.
// The store itself uses the transport only, which has none.
func (o *Options) http() *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithTimeout(o.idle).
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = 15 * time.Second }).
		WithTransportOptions(func(t *http.Transport) {
			t.TLSHandshakeTimeout = 15 * time.Second
			t.ForceAttemptHTTP2 = false // one connection would carry all parts
			t.MaxIdleConnsPerHost = 64
		})
}

// trust returns the transport for the store itself.
func (o *Options) trust(t *http.Transport) (*http.Transport, error) {
	t = t.Clone()
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t.TLSClientConfig.InsecureSkipVerify = o.InsecureSkipVerify
	pool, err := o.pool()
	if err != nil {
		return nil, err
	}
	if pool != nil {
		t.TLSClientConfig.RootCAs = pool
	}
	if o.transport != nil {
		o.transport(t)
	}
	return t, nil
}

// pool returns the system's certificates and those of CAFile; nil without a CAFile.
func (o *Options) pool() (*x509.CertPool, error) {
	if o.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read CA file: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA file %s holds no PEM certificate", o.CAFile)
	}
	return pool, nil
}

// configError is an error of the AWS configuration: of the environment or the shared files.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

// credentialsError says that there are no credentials, or none any more.
type credentialsError struct {
	error
	had bool // there were some before: a renewal failed
}

func (e *credentialsError) Unwrap() error { return e.error }

// provider tells failures to get credentials from failures of the store.
type provider struct {
	next aws.CredentialsProvider
	had  atomic.Bool
}

func (p *provider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if p.next == nil {
		return aws.Credentials{}, &credentialsError{error: errors.New("no credentials are configured")}
	}
	c, err := p.next.Retrieve(ctx)
	if err != nil {
		return c, &credentialsError{error: err, had: p.had.Load()}
	}
	p.had.Store(true)
	return c, nil
}
