package drill

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/replay/catalog"
	"github.com/walden-pg/walden/replay/plan"
	"github.com/walden-pg/walden/replay/scratch"
	"github.com/walden-pg/walden/wal"
	"github.com/walden-pg/walden/wal/archive"
)

// Loss is what would have been lost had the source been lost when the drill began.
type Loss struct {
	// Seconds is how old the newest commit could be that is not archived: 0 if all of the
	// server's WAL was; -1: nothing can be said.
	Seconds float64 `json:"seconds"`
	// Text says so in words, and how it is known.
	Text string `json:"text"`
	// ServerLSN is how far the server's WAL was written, 0: it was not asked; ArchivedLSN is where that
	// in the archive ends, ArchivedTime the last commit (or checkpoint) before that.
	ServerLSN    wal.LSN    `json:"server_lsn,omitempty"`
	ArchivedLSN  wal.LSN    `json:"archived_lsn"`
	ArchivedTime *time.Time `json:"archived_time,omitempty"`
}

// position is how far a server is.
type position struct {
	lsn  wal.LSN
	time time.Time
}

// connectTimeout bounds how long the source is waited for: it may be lost.
const connectTimeout = 10 * time.Second

const positionSQL = `SELECT (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_flush_lsn() END)::text, ` +
	`(extract(epoch FROM clock_timestamp()) * 1000000)::bigint::text, (SELECT system_identifier::text FROM pg_control_system())`

// ask asks the source how far it is.
func ask(ctx context.Context, conninfo string, inc archive.Incarnation) (position, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := server.Connect(ctx, conninfo, server.SQL, nil)
	if err != nil {
		return position{}, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := scratch.Query(ctx, conn, positionSQL)
	if err != nil {
		return position{}, err
	}
	if len(rows) != 1 || rows[0][0] == "" {
		return position{}, fmt.Errorf("it does not tell its position")
	}
	if id, err := strconv.ParseUint(rows[0][2], 10, 64); err != nil || id != inc.SystemID {
		return position{}, fmt.Errorf("it is another cluster: its system identifier is %s, that of the archive %d", rows[0][2], inc.SystemID)
	}
	micros, err := strconv.ParseInt(rows[0][1], 10, 64)
	if err != nil {
		return position{}, fmt.Errorf("its clock: %w", err)
	}
	lsn, err := wal.ParseLSN(rows[0][0])
	return position{lsn: lsn, time: time.UnixMicro(micros).UTC()}, err
}

// lossOf holds the archive's end against where the server was before the archive was listed;
// nil: it was not asked, or asking failed with the error.
func lossOf(windows []catalog.Window, size wal.SegmentSize, at *position, failed error, began time.Time) *Loss {
	if len(windows) == 0 {
		return &Loss{Seconds: -1, Text: "nothing can be restored, so everything would be lost"}
	}
	end := windows[len(windows)-1].To
	l := &Loss{ArchivedLSN: end.LSN, ArchivedTime: end.Time}
	now, basis := began, "the server was not asked"
	if failed != nil {
		basis = fmt.Sprintf("the server could not be asked (%v)", failed)
	}
	if at != nil {
		l.ServerLSN, now = at.lsn, at.time
		if end.LSN >= catalog.EndBefore(at.lsn, size) {
			l.Text = fmt.Sprintf("nothing: the archive has all that the server had written when the drill began, up to %s", at.lsn)
			return l
		}
		basis = fmt.Sprintf("the server had written up to %s", at.lsn)
	}
	if end.Time == nil {
		l.Seconds, l.Text = -1, fmt.Sprintf("not known: the WAL in the archive ends at %s, and has no time near there; %s", end.LSN, basis)
		return l
	}
	l.Seconds = max(0, now.Sub(*end.Time).Seconds())
	l.Text = fmt.Sprintf("at most %s: the archive ends at %s, and its last transaction is of %s; %s",
		round(l.Seconds), end.LSN, plan.FormatTime(*end.Time), basis)
	return l
}

func round(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Minute {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
