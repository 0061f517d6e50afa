package config

import (
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/walden-pg/walden/wal/stream"
)

// Stream is the section of a cluster whose WAL is streamed. Empty values are
// the defaults of wal/stream.
type Stream struct {
	// Slot is the physical replication slot; default walden.
	Slot string `yaml:"slot,omitempty"`
	// Acknowledge is remote (the default) or local.
	Acknowledge string `yaml:"acknowledge,omitempty"`
	// MaxDelay is a duration such as 500ms; default 1s.
	MaxDelay string `yaml:"max_delay,omitempty"`
	// Spool is an absolute directory; default: none.
	Spool string `yaml:"spool,omitempty"`
	// SpoolLimit is a size such as 10GB, which is the default.
	SpoolLimit string `yaml:"spool_limit,omitempty"`
	// NamesInterval is a duration such as 5m, which is the default, or off.
	NamesInterval string `yaml:"names_interval,omitempty"`
}

// Limits of the settings.
const (
	// minDelay: less is no batching at all, and every request of a bucket costs money.
	minDelay = time.Millisecond
	maxDelay = time.Hour
	// minSpool: one segment of the smallest size that is received, and one that is uploaded.
	minSpool = 2 << 20
	// minNames: a look at a large catalogue takes some of a second.
	minNames = time.Second
	maxNames = 24 * time.Hour
)

// StreamError says which setting of a stream section cannot be meant.
type StreamError struct {
	// Key is the setting: max_delay.
	Key string
	Err error
}

// Error names the setting.
func (e *StreamError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns what is wrong with it.
func (e *StreamError) Unwrap() error { return e.Err }

// Options are the settings as the receiver takes them; what is not set stays
// zero, which is the receiver's default. Errors are *StreamError.
func (s Stream) Options() (o stream.Options, err error) {
	for _, setting := range []struct {
		key, value string
		set        func(string) error
	}{
		{"slot", s.Slot, func(v string) error { o.Slot = v; return stream.CheckSlot(v) }},
		{"acknowledge", s.Acknowledge, func(v string) error {
			o.Acknowledge = stream.Acknowledge(v)
			return o.Acknowledge.Valid()
		}},
		{"max_delay", s.MaxDelay, func(v string) (err error) { o.MaxDelay, err = parseDelay(v); return err }},
		{"spool", s.Spool, func(v string) error { o.Spool = v; return absolute(v) }},
		{"spool_limit", s.SpoolLimit, func(v string) (err error) {
			o.SpoolLimit, err = ParseSize(v)
			if err == nil && o.SpoolLimit < minSpool {
				err = fmt.Errorf("%q: at least 2MB", v)
			}
			return err
		}},
		{"names_interval", s.NamesInterval, func(v string) (err error) { o.NamesInterval, err = parseInterval(v); return err }},
	} {
		if setting.value == "" {
			continue
		}
		if err := setting.set(setting.value); err != nil {
			return stream.Options{}, &StreamError{Key: setting.key, Err: err}
		}
	}
	return o, nil
}

// Over returns the settings with those of other that are set in their place.
func (s Stream) Over(other Stream) Stream {
	for _, f := range []struct{ to, from *string }{
		{&s.Slot, &other.Slot}, {&s.Acknowledge, &other.Acknowledge}, {&s.MaxDelay, &other.MaxDelay},
		{&s.Spool, &other.Spool}, {&s.SpoolLimit, &other.SpoolLimit}, {&s.NamesInterval, &other.NamesInterval},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	return s
}

// Complete checks what only the settings together can say.
func (s Stream) Complete() error {
	switch {
	case s.Acknowledge == string(stream.Local) && s.Spool == "":
		return &StreamError{Key: "acknowledge", Err: fmt.Errorf("local needs a spool: what is acknowledged must be on a disk")}
	case s.SpoolLimit != "" && s.Spool == "":
		return &StreamError{Key: "spool_limit", Err: fmt.Errorf("there is no spool to limit")}
	}
	return nil
}

func (s Stream) validate() error {
	if _, err := s.Options(); err != nil {
		return err
	}
	return s.Complete()
}

func parseDelay(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 500ms or 1s", v)
	}
	if d < minDelay || d > maxDelay {
		return 0, fmt.Errorf("%q: between 1ms and 1h", v)
	}
	return d, nil
}

// parseInterval reads names_interval; -1 is off.
func parseInterval(v string) (time.Duration, error) {
	if v == "off" || v == "0" {
		return -1, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration such as 5m, or off", v)
	}
	if d < minNames || d > maxNames {
		return 0, fmt.Errorf("%q: between 1s and 24h, or off", v)
	}
	return d, nil
}

// absolute refuses a directory that depends on where the command was started.
func absolute(v string) error {
	if !filepath.IsAbs(v) {
		return fmt.Errorf("%q: the directory must be absolute, as in /var/spool/walden", v)
	}
	return nil
}

// ParseSize reads a size as PostgreSQL writes it: a number and a unit, whose
// steps are 1024 (10GB, 512MB, 64kB; KiB, MiB, GiB and TiB mean the same).
func ParseSize(v string) (int64, error) {
	number := strings.TrimRight(v, "kKMGTiB")
	shift, ok := map[string]int{"B": 0, "kB": 10, "KB": 10, "KiB": 10, "MB": 20, "MiB": 20, "GB": 30, "GiB": 30, "TB": 40, "TiB": 40}[v[len(number):]]
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !ok || !(n >= 0) || math.Ldexp(n, shift) >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a size such as 512MB or 10GB", v)
	}
	return int64(math.Ldexp(n, shift)), nil
}
