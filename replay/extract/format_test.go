package extract

import "testing"

func TestParseFormat(t *testing.T) {
	for _, s := range []string{"plain", "p", "custom", "c", "directory", "d", "tar", "t"} {
		if f, err := ParseFormat(s); err != nil || f[0] != s[0] {
			t.Errorf("%s: %s, %v", s, f, err)
		}
	}
	for _, s := range []string{"", "pl", "zip", "Plain"} {
		if f, err := ParseFormat(s); err == nil {
			t.Errorf("%q is %s", s, f)
		}
	}
}
