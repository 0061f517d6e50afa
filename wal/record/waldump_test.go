//go:build unix

package record_test

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/internal/waldump"
	"github.com/walden-pg/walden/wal"
)

// agreement is a way a cluster can be set up.
type agreement struct {
	segmentMB int
	checksums bool
	settings  map[string]string
	all       bool // with what indexes write, and what takes many transactions
	slot      bool // with a logical slot, which makes rewrites of catalogues say more
}

var agreements = []agreement{
	{segmentMB: 1, settings: map[string]string{"wal_level": "replica"}, all: true},
	{segmentMB: 16, settings: map[string]string{"wal_level": "logical", "track_commit_timestamp": "on"}, all: true, slot: true},
	{segmentMB: 64, checksums: true, settings: map[string]string{"wal_level": "logical", "wal_consistency_checking": "heap2,gist,brin"}},
	{segmentMB: 1, settings: map[string]string{"wal_level": "minimal", "max_wal_senders": "0", "wal_log_hints": "on"}},
}

// TestWaldump holds the decoder to pg_waldump of the same major, record by
// record, on WAL that real servers wrote, beginning with initdb.
func TestWaldump(t *testing.T) {
	seen := make(map[int]*kindCounts)
	t.Run("agree", func(t *testing.T) {
		for _, major := range pgtest.Majors() {
			counts := &kindCounts{count: make(map[string]int)}
			seen[major] = counts
			for _, a := range agreements {
				t.Run(fmt.Sprintf("%d/%dMB_%s", major, a.segmentMB, a.settings["wal_level"]), func(t *testing.T) {
					t.Parallel()
					c := a.cluster(t, major)
					a.work(t, c, func() {})
					counts.add(t, waldumpAgrees(t, c, wal.SegmentSize(a.segmentMB)<<20))
				})
			}
		}
	})
	for _, major := range pgtest.Majors() {
		if counts := seen[major]; counts.clusters == len(agreements) {
			counts.check(t, major)
		}
	}
}

func (a agreement) cluster(t *testing.T, major int) *pgtest.Cluster {
	settings := map[string]string{
		"max_prepared_transactions": "10", "max_wal_size": "8GB", "min_wal_size": "8GB", "wal_keep_size": "8GB", "summarize_wal": "off",
		"autovacuum": "off", "shared_buffers": "32MB", "checkpoint_timeout": "1h",
	}
	if major < 17 {
		delete(settings, "summarize_wal")
	}
	maps.Copy(settings, a.settings)
	return pgtest.New(t, pgtest.Options{Major: major, SegmentSizeMB: a.segmentMB, DataChecksums: a.checksums, Settings: settings})
}

// work runs the workload, and restarts the server with other settings; before
// that it calls quiet.
func (a agreement) work(t *testing.T, c *pgtest.Cluster, quiet func()) {
	if a.slot {
		c.Psql("SELECT pg_create_logical_replication_slot('slot', 'pgoutput')")
	}
	work(c, compressions(c), a.all)
	sharedWork(t, c)
	if a.settings["wal_level"] != "minimal" {
		c.Psql(backupWork)
	}
	if a.slot {
		c.Psql("CREATE TABLE c2 (id int); VACUUM FULL pg_attribute; SELECT pg_drop_replication_slot('slot')")
	}
	if a.all {
		agingWork(c)
	}
	quiet()
	c.Configure(map[string]string{"max_connections": "37", "full_page_writes": "off"})
	c.Reload()
	c.WaitFor("full_page_writes off", func() bool { return c.QueryValue("SHOW full_page_writes") == "off" })
	c.Psql("CHECKPOINT") // it goes through the process that logs the change
	c.Restart()
	c.Psql("CHECKPOINT; INSERT INTO x VALUES (70000); SELECT pg_switch_wal()")
}

// waldumpAgrees compares all complete segments, and returns what pg_waldump says.
func waldumpAgrees(t *testing.T, c *pgtest.Cluster, size wal.SegmentSize) []waldump.Record {
	t.Helper()
	end, err := wal.ParseLSN(c.LSN())
	if err != nil {
		t.Fatal(err)
	}
	list := waldump.Segments(t, c, 1, size, end)
	want := waldump.Run(t, c, 1, list[0].Start(), list[len(list)-1].End())
	waldump.Compare(t, c, list, want)
	t.Logf("%d segments, %d records", len(list), len(want))
	return want
}

// kindCounts are how many records of each kind were compared.
type kindCounts struct {
	mu       sync.Mutex
	count    map[string]int
	clusters int
}

func (k *kindCounts) add(t *testing.T, list []waldump.Record) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.clusters++
	for _, r := range list {
		k.count[r.RMGR+"/"+r.Kind]++
	}
}

// expected are the kinds that the workload makes on every major.
const expected = `
BRIN CREATE_INDEX DESUMMARIZE INSERT INSERT+INIT REVMAP_EXTEND SAMEPAGE_UPDATE UPDATE+INIT
Btree DEDUP DELETE INSERT_LEAF INSERT_META INSERT_POST INSERT_UPPER MARK_PAGE_HALFDEAD META_CLEANUP NEWROOT REUSE_PAGE SPLIT_L SPLIT_R UNLINK_PAGE UNLINK_PAGE_META VACUUM
CLOG ZEROPAGE
CommitTs ZEROPAGE
Database CREATE_FILE_COPY CREATE_WAL_LOG DROP
Generic Generic
Gin CREATE_PTREE DELETE_LISTPAGE INSERT INSERT_LISTPAGE SPLIT UPDATE_META_PAGE VACUUM_DATA_LEAF_PAGE VACUUM_PAGE
Gist DELETE PAGE_DELETE PAGE_SPLIT PAGE_UPDATE
Hash ADD_OVFL_PAGE DELETE INIT_BITMAP_PAGE INIT_META_PAGE INSERT MOVE_PAGE_CONTENTS SPLIT_ALLOCATE_PAGE SPLIT_CLEANUP SPLIT_COMPLETE SPLIT_PAGE SQUEEZE_PAGE UPDATE_META_PAGE
Heap DELETE HEAP_CONFIRM HOT_UPDATE INPLACE INSERT INSERT+INIT LOCK TRUNCATE UPDATE UPDATE+INIT
Heap2 LOCK_UPDATED MULTI_INSERT MULTI_INSERT+INIT NEW_CID REWRITE
LogicalMessage MESSAGE
MultiXact CREATE_ID TRUNCATE_ID ZERO_MEM_PAGE ZERO_OFF_PAGE
RelMap UPDATE
ReplicationOrigin DROP SET
SPGist ADD_LEAF ADD_NODE MOVE_LEAFS PICKSPLIT SPLIT_TUPLE VACUUM_LEAF VACUUM_REDIRECT VACUUM_ROOT
Sequence LOG
Standby INVALIDATIONS LOCK RUNNING_XACTS
Storage CREATE TRUNCATE
Tablespace CREATE DROP
Transaction ABORT ABORT_PREPARED ASSIGNMENT COMMIT COMMIT_PREPARED INVALIDATION PREPARE
XLOG BACKUP_END CHECKPOINT_ONLINE CHECKPOINT_SHUTDOWN FPI FPI_FOR_HINT FPW_CHANGE NEXTOID PARAMETER_CHANGE RESTORE_POINT SWITCH
`

// expectedOf are those that it makes on this major beside.
func expectedOf(major int) string {
	s := "Heap2 PRUNE_ON_ACCESS PRUNE_VACUUM_SCAN PRUNE_VACUUM_CLEANUP\nXLOG CHECKPOINT_REDO\n"
	if major < 17 {
		s = "Heap2 PRUNE VACUUM FREEZE_PAGE\n"
	}
	if major < 19 {
		return s + "Heap2 VISIBLE\n"
	}
	return s + "XLOG LOGICAL_DECODING_STATUS_CHANGE\n"
}

// check fails if a kind of record that the workload is there for was not made.
func (k *kindCounts) check(t *testing.T, major int) {
	t.Helper()
	t.Logf("PostgreSQL %d: %d kinds of records", major, len(k.count))
	for line := range strings.Lines(expected + expectedOf(major)) {
		kinds := strings.Fields(line)
		for _, kind := range kinds[min(1, len(kinds)):] {
			if name := kinds[0] + "/" + kind; k.count[name] == 0 {
				t.Errorf("PostgreSQL %d: the workload made no %s", major, name)
			}
		}
	}
}
