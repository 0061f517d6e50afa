//go:build unix

package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walden-pg/walden/internal/pgtest"
	"github.com/walden-pg/walden/wal"
)

// busy is one busy history with three timelines: sessions that commit, roll back,
// use savepoints, prepare and end what was prepared, change tables and set restore
// points, some by names that were used before. Backups are taken meanwhile.
type busy struct {
	*site
	random  *rand.Rand
	backups []string
	// ways are the records on the way to each timeline, by its number.
	ways map[wal.TimelineID]*way
}

// sessions work at a time; each does so many transactions on each timeline, twice.
const (
	sessions     = 4
	transactions = 40
)

// pointName is one of a few names: those of restore points are used again and again.
func pointName(r *rand.Rand) string { return "point " + strconv.Itoa(r.IntN(60)) }

// newBusy lives the history. The third timeline leaves the second or the first.
func newBusy(t *testing.T, major int, seed uint64) *busy {
	t.Helper()
	b := &busy{
		site:   newSite(t, siteOptions{major: major, settings: map[string]string{"max_prepared_transactions": "30"}}),
		random: rand.New(rand.NewPCG(seed, 7)), ways: map[wal.TimelineID]*way{},
	}
	b.pg.Exec("CREATE TABLE account (id int PRIMARY KEY, balance bigint); INSERT INTO account SELECT i, 0 FROM generate_series(1, 500) i; CREATE TABLE note (id bigserial, text text)")
	b.begin("a")()
	b.backups = append(b.backups, b.backup())
	b.live("b")
	b.promote("second", 1)
	b.live("c")
	b.promote("third", wal.TimelineID(1+b.random.IntN(2)))
	b.live("d")
	for tli := wal.TimelineID(1); tli <= 3; tli++ {
		b.ways[tli] = b.readWay(tli)
	}
	return b
}

// idle is how long nothing happens at the end of each timeline.
const idle = time.Second

// live works, takes a backup meanwhile, works on, and idles.
func (b *busy) live(round string) {
	b.t.Helper()
	wait := b.begin(round)
	b.backups = append(b.backups, b.backup())
	wait()
	b.begin(round + "2")()
	time.Sleep(idle)
	b.pg.Exec("SELECT pg_create_restore_point('quiet')")
	b.archiveAll()
}

// promote goes back to some transaction on the way to a timeline, and on from there as
// a new timeline. What that way goes on with is archived already, and is left behind.
func (b *busy) promote(name string, from wal.TimelineID) {
	b.t.Helper()
	ends := b.readWay(from).ends()
	b.pg.Stop(pgtest.Fast)
	// Somewhere in the last two thirds, so that there is something to leave.
	e := ends[len(ends)/3+b.random.IntN(len(ends)/3)]
	dir := b.restore(name, "--lsn", e.lsn.String(), "--timeline", from.String(), "--action", "promote", "--keep-archiving")
	b.pg = b.open(dir)
	b.pointTo(b.pg)
}

// begin lets the sessions begin their work; what it returns waits for its end.
func (b *busy) begin(round string) (wait func()) {
	b.t.Helper()
	var all sync.WaitGroup
	errs := make([]error, sessions)
	for i := range sessions {
		seed := b.random.Uint64()
		all.Add(1)
		go func() {
			defer all.Done()
			errs[i] = b.session(fmt.Sprintf("%s-%d", round, i), rand.New(rand.NewPCG(seed, 1)))
		}()
	}
	return func() {
		b.t.Helper()
		all.Wait()
		for _, err := range errs {
			check(b.t, err)
		}
	}
}

// session is one connection that works.
func (b *busy) session(name string, r *rand.Rand) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, b.pg.Conninfo("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for n := range transactions {
		for _, sql := range b.transaction(r, fmt.Sprintf("%s-%d", name, n)) {
			if _, err := conn.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		time.Sleep(time.Duration(r.IntN(5)) * time.Millisecond)
	}
	return nil
}

// transaction is the statements of one that is like any other of an application, or
// of its administrator.
func (b *busy) transaction(r *rand.Rand, id string) []string {
	insert := "INSERT INTO note (text) VALUES ('" + id + "')"
	switch r.IntN(15) {
	case 0:
		return []string{"BEGIN", insert, "ROLLBACK"}
	case 1, 2:
		return []string{"BEGIN", insert, "SAVEPOINT a", insert, "SAVEPOINT b", insert, "RELEASE b", "RELEASE a", insert, "COMMIT"}
	case 3:
		return []string{"BEGIN", insert, "SAVEPOINT a", insert, "ROLLBACK TO a", insert, "SAVEPOINT c", insert, "COMMIT"}
	case 4:
		return []string{"BEGIN", "SAVEPOINT a", insert, "RELEASE a", "ROLLBACK"}
	case 5, 6, 7:
		list := []string{"BEGIN", insert, "SAVEPOINT a", insert, "PREPARE TRANSACTION '" + id + "'", insert}
		switch r.IntN(3) {
		case 0:
			return append(list, "COMMIT PREPARED '"+id+"'")
		case 1:
			return append(list, "ROLLBACK PREPARED '"+id+"'")
		}
		if r.IntN(8) > 0 { // a few are left
			return append(list, insert, "COMMIT PREPARED '"+id+"'")
		}
		return list
	case 8:
		table := `"t-` + id + `"`
		return []string{"CREATE TABLE " + table + " AS SELECT i, repeat('x', 20) FROM generate_series(1, 100) i", "CREATE INDEX ON " + table + " (i)", "DROP TABLE " + table}
	case 9, 10:
		return []string{"SELECT pg_create_restore_point('" + pointName(r) + "')"}
	case 11:
		return []string{"SELECT pg_logical_emit_message(false, 'walden', repeat('" + id + "', " + strconv.Itoa(1+r.IntN(4000)) + "))"}
	case 12:
		if r.IntN(4) == 0 {
			return []string{[]string{"CHECKPOINT", "SELECT pg_switch_wal()", "VACUUM note"}[r.IntN(3)]}
		}
	}
	return []string{fmt.Sprintf("UPDATE account SET balance = balance + 1 WHERE id = %d", 1+r.IntN(500))}
}

// backupTimes are when the backups began, by their ids.
func (b *busy) backupTimes() map[string]listedBackup {
	b.t.Helper()
	var list struct {
		Backups []listedBackup `json:"backups"`
	}
	b.run("list", "--json").ok(b.t).json(b.t, &list)
	times := map[string]listedBackup{}
	for _, x := range list.Backups {
		times[x.ID] = x
	}
	if len(times) != len(b.backups) {
		b.t.Fatalf("%d backups are listed, %d were taken", len(times), len(b.backups))
	}
	return times
}

// listedBackup is a backup as list tells of it.
type listedBackup struct {
	ID            string         `json:"id"`
	Timeline      wal.TimelineID `json:"timeline"`
	StartLSN      wal.LSN        `json:"start_lsn"`
	CheckpointLSN wal.LSN        `json:"checkpoint_lsn"`
	StopLSN       wal.LSN        `json:"stop_lsn"`
	StartTime     time.Time      `json:"start_time"`
}

// leads reports whether a backup lies on the way to a timeline.
func (b *busy) leads(x listedBackup, tli wal.TimelineID) bool {
	h := b.ways[tli].history
	return h.Contains(x.Timeline, x.CheckpointLSN) && h.Contains(x.Timeline, x.StopLSN-1)
}

// newest is the highest timeline that a backup leads to.
func (b *busy) newest(ids []string, times map[string]listedBackup) wal.TimelineID {
	for tli := wal.TimelineID(3); tli > 0; tli-- {
		if slices.ContainsFunc(ids, func(id string) bool { return b.leads(times[id], tli) }) {
			return tli
		}
	}
	return 0
}
