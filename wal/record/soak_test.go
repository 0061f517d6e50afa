//go:build unix

package record_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal"
)

// TestSoakWaldump is TestWaldump for the stated time: settings by chance, the
// workload beside pgbench, and a crash of the server in the midst of it.
func TestSoakWaldump(t *testing.T) {
	random, until := pgtest.Soak(t)
	majors := pgtest.Majors()
	for round := 0; time.Now().Before(until); round++ {
		a := randomAgreement(random)
		major := majors[random.IntN(len(majors))]
		name := fmt.Sprintf("%d/%d/%dMB_%s", round, major, a.segmentMB, a.settings["wal_level"])
		t.Run(name, func(t *testing.T) { soakAgreement(t, random, a, major) })
	}
}

// randomAgreement is a way a cluster can be set up, by chance.
func randomAgreement(random *rand.Rand) agreement {
	one := func(values ...string) string { return values[random.IntN(len(values))] }
	a := agreement{
		segmentMB: 1 << random.IntN(7), checksums: random.IntN(2) == 0, all: true,
		settings: map[string]string{
			"wal_level":              one("replica", "logical"),
			"wal_compression":        one("off", "pglz", "lz4", "zstd"),
			"wal_log_hints":          one("on", "off"),
			"track_commit_timestamp": one("on", "off"),
			"full_page_writes":       one("on", "on", "off"),
			"autovacuum":             one("on", "off"),
			"checkpoint_timeout":     one("30s", "1h"),
			"wal_buffers":            one("-1", "64kB", "16MB"),
			"commit_delay":           strconv.Itoa(random.IntN(1000)),
		},
	}
	a.slot = a.settings["wal_level"] == "logical" && random.IntN(2) == 0
	return a
}

func soakAgreement(t *testing.T, random *rand.Rand, a agreement, major int) {
	c := a.cluster(t, major)
	c.PgbenchInit(1)
	load := c.PgbenchStart("-c", "4")
	if random.IntN(2) == 0 {
		time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
		load.Abandon()
		c.Kill()
		c.Start()
		load = c.PgbenchStart("-c", "2")
	}
	a.work(t, c, func() { load.Stop() })
	waldumpAgrees(t, c, wal.SegmentSize(a.segmentMB)<<20)
}
