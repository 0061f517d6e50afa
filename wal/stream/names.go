package stream

import (
	"context"
	"time"

	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/wal/names"
)

// namesRetry is when it is tried again to read the names, where that failed.
const namesRetry = 30 * time.Second

// keepNames takes a snapshot of the names of databases and relations as soon as a
// server is streamed from, and then every NamesInterval. Nothing depends on it: what
// fails is told, once, and tried again.
func (r *Receiver) keepNames(ctx context.Context) error {
	if r.o.Names == nil || r.o.NamesInterval < 0 {
		return nil
	}
	var trouble string
	unread := map[string]string{}
	for {
		wait := time.Second // nothing is streamed yet
		if host := r.currentHost(); host != (server.Host{}) {
			// What a standby replays it cannot say as well as what was received from it can.
			timeline, _ := r.journal.position()
			result, err := r.o.Names.Take(ctx, names.Source{Conninfo: r.o.Conninfo, Host: &host, Timeline: timeline})
			if ctx.Err() != nil {
				return nil
			}
			wait = r.o.NamesInterval
			if err != nil {
				wait = min(wait, namesRetry)
				if err.Error() != trouble {
					r.o.Logger.Warn("the names of databases and relations cannot be stored: what is dropped now may stay without a name", "error", err)
				}
				trouble = err.Error()
			} else {
				trouble = ""
				r.tellNames(result, unread)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// tellNames logs what was stored, and, once, which databases could not be read.
func (r *Receiver) tellNames(result names.Result, told map[string]string) {
	if result.Written {
		r.state.change(func(st *Status) { st.NameSnapshots++ })
		r.o.Logger.Info("a snapshot of names was stored", "snapshot", result.ID.String(), "databases", result.Databases, "bytes", result.Stored)
	}
	now := map[string]bool{}
	for _, u := range result.Unread {
		now[u.Database] = true
		if text := u.Error(); told[u.Database] != text {
			told[u.Database] = text
			r.o.Logger.Warn(text, "hint", u.Hint())
		}
	}
	for db := range told {
		if !now[db] {
			delete(told, db)
		}
	}
}
