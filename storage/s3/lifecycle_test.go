package s3

import (
	"fmt"
	"io"
	"net/http"
	"testing"
)

func TestAbandonedUploadsExpire(t *testing.T) {
	const abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
	for name, c := range map[string]struct {
		rule string
		want bool
	}{
		"whole bucket":     {"<Status>Enabled</Status><Filter><Prefix></Prefix></Filter>" + abort, true},
		"old form":         {"<Status>Enabled</Status><Prefix></Prefix>" + abort, true},
		"our prefix":       {"<Status>Enabled</Status><Filter><Prefix>pre/</Prefix></Filter>" + abort, true},
		"another prefix":   {"<Status>Enabled</Status><Filter><Prefix>other/</Prefix></Filter>" + abort, false},
		"disabled":         {"<Status>Disabled</Status><Filter><Prefix></Prefix></Filter>" + abort, false},
		"other action":     {"<Status>Enabled</Status><Filter><Prefix></Prefix></Filter><Expiration><Days>7</Days></Expiration>", false},
		"for tagged alone": {"<Status>Enabled</Status><Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>" + abort, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := scriptedWithPrefix(t, func(w http.ResponseWriter, r *http.Request) {
				if !r.URL.Query().Has("lifecycle") {
					t.Errorf("unexpected request %s", r.URL)
				}
				fmt.Fprintf(w, `<?xml version="1.0"?><LifecycleConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Rule><ID>a</ID>%s</Rule></LifecycleConfiguration>`, c.rule)
			})
			if got, err := s.AbandonedUploadsExpire(t.Context()); got != c.want || err != nil {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	s := scriptedWithPrefix(t, fails(http.StatusNotFound, "NoSuchLifecycleConfiguration"))
	if got, err := s.AbandonedUploadsExpire(t.Context()); got || err != nil {
		t.Errorf("without rules: %v, %v", got, err)
	}
	s = scriptedWithPrefix(t, fails(http.StatusForbidden, "AccessDenied"))
	if _, err := s.AbandonedUploadsExpire(t.Context()); err == nil {
		t.Error("a refusal was taken for an answer")
	}
}

func scriptedWithPrefix(t *testing.T, h http.HandlerFunc) *Store {
	t.Helper()
	s := scripted(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		h(w, r)
	})
	s.o.Prefix = "pre/"
	return s
}
