package bigarchive

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/storage"
)

// listResult is the answer to ListObjectsV2.
type listResult struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	IsTruncated           bool
	NextContinuationToken string `xml:",omitempty"`
	KeyCount              int
	EncodingType          string
	Contents              []listEntry
}

type listEntry struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
}

// ServeHTTP answers as an S3 server that holds the archive in any bucket, with path-style
// addresses: listing and reading, no more. Every request takes Latency and is counted.
func (s *Store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodGet && key == "":
		if s.request(r.Context(), q.Get("prefix"), func(c *Count) { c.Lists++ }) == nil {
			s.serveList(w, q)
		}
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		add := func(c *Count) { c.Gets++ }
		if r.Method == http.MethodHead {
			add = func(c *Count) { c.Stats++ }
		}
		if s.request(r.Context(), key, add) == nil {
			s.serveObject(w, r, key)
		}
	default:
		s3Error(w, http.StatusMethodNotAllowed, "MethodNotAllowed")
	}
}

func s3Error(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code)
}

func (s *Store) serveList(w http.ResponseWriter, q url.Values) {
	limit, err := strconv.Atoi(q.Get("max-keys"))
	if err != nil || limit > laterPages {
		limit = laterPages
	}
	page, more := s.Page(q.Get("prefix"), max(q.Get("start-after"), q.Get("continuation-token")), limit)
	res := listResult{IsTruncated: more, KeyCount: len(page), EncodingType: "url"}
	for _, info := range page {
		res.Contents = append(res.Contents, listEntry{
			Key: url.QueryEscape(info.Key), LastModified: info.ModTime.UTC().Format(time.RFC3339), ETag: etag(info), Size: info.Size,
		})
	}
	if more {
		res.NextContinuationToken = page[len(page)-1].Key
	}
	b, err := xml.Marshal(res)
	if err != nil {
		s3Error(w, http.StatusInternalServerError, "InternalError")
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	_, _ = w.Write(append([]byte(xml.Header), b...)) // who has gone needs no answer
}

func etag(info storage.Info) string { return `"` + info.Version + `"` }

func (s *Store) serveObject(w http.ResponseWriter, r *http.Request, key string) {
	b, ok, err := s.Object(r.Context(), key)
	switch {
	case err != nil:
		s3Error(w, http.StatusInternalServerError, "InternalError")
		return
	case !ok:
		s3Error(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	w.Header().Set("ETag", `"one"`)
	http.ServeContent(w, r, "", Began, bytes.NewReader(b))
}
