package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/walden-pg/walden/internal/config"
	"github.com/walden-pg/walden/internal/server"
	"github.com/walden-pg/walden/wal/stream"
)

// hostStreaming is what one host of the connection string says.
type hostStreaming struct {
	host server.Host
	*server.Streaming
	err error
}

// nearLimit is the share of what a slot may hold back at which check warns.
const nearLimit = 0.8

// describeStreams asks every host of the connection string. c.streams stays
// empty where nothing streams: there is no section in the configuration, and
// no slot of the default name.
func (c *checker) describeStreams(ctx context.Context) {
	cluster := c.Config.Clusters[c.Cluster]
	slot, configured := stream.DefaultSlot, cluster.Stream != nil
	if configured && cluster.Stream.Slot != "" {
		slot = cluster.Stream.Slot
	}
	hosts, err := server.Hosts(cluster.Connection)
	if err != nil {
		return // the probe of the connection tells
	}
	var list []hostStreaming
	for _, h := range hosts {
		s := hostStreaming{host: h}
		conn, err := server.ConnectHost(ctx, cluster.Connection, h, server.SQL, nil)
		if err == nil {
			s.Streaming, s.err = server.DescribeStreaming(ctx, conn, slot)
			_ = conn.Close(ctx) // the answers are in already
		} else {
			s.err = err
		}
		configured = configured || s.err == nil && s.Slot != nil
		list = append(list, s)
	}
	if configured {
		c.slot, c.streams = slot, list
	}
}

// streaming reports what describeStreams found.
func (c *checker) streaming() {
	active := c.streamed()
	for _, s := range c.streams {
		probe := "slot"
		if len(c.streams) > 1 {
			probe = "slot on " + s.host.String()
		}
		if s.err != nil {
			if len(c.streams) > 1 {
				c.add(probe, Warn, "without a slot there, WAL can be missing after that host was promoted", "%v", s.err)
			}
			continue // the probe of the connection has told
		}
		c.slotOf(probe, s, active)
		c.senders(s, active)
		if !s.InRecovery {
			c.synchronous(s, active)
		}
	}
	if st := c.Config.Clusters[c.Cluster].Stream; st != nil && st.Spool != "" {
		c.spool(*st)
	}
}

// streamed reports whether a receiver streams from any host now.
func (c *checker) streamed() bool {
	for _, s := range c.streams {
		if s.err == nil && s.Slot != nil && s.Slot.Active {
			return true
		}
	}
	return false
}

func (c *checker) slotOf(probe string, s hostStreaming, active bool) {
	slot := s.Slot
	const start = "start `walden stream`"
	switch {
	case slot == nil && s.Slots >= s.MaxSlots:
		c.add(probe, Fail, "raise max_replication_slots (restart needed), or drop a slot that is not used", "there is no slot %s, and all %d that max_replication_slots allows are in use", c.slot, s.MaxSlots)
		return
	case slot == nil:
		c.add(probe, Warn, start+": it makes the slot", "there is no slot %s", c.slot)
		return
	case !slot.Physical:
		c.add(probe, Fail, "name another one: clusters."+c.Cluster+".stream.slot", "slot %s is a logical one", c.slot)
		return
	case slot.Status == "lost":
		c.add(probe, Fail, start+": it makes the slot anew and tells what is missing; then take a base backup", "slot %s is lost: it held back more than max_slot_wal_keep_size, and the server removed the WAL", c.slot)
		return
	}
	detail := fmt.Sprintf("%s: %s", c.slot, heldBack(slot.Lag))
	switch {
	case slot.Room >= 0:
		detail += fmt.Sprintf(", max_slot_wal_keep_size leaves %s", binary(slot.Room))
	case s.KeepSize < 0:
		detail += ", without a limit (max_slot_wal_keep_size = -1: while nobody streams, WAL can fill the server's disk)"
	}
	near := slot.Room >= 0 && slot.Lag >= 0 && float64(slot.Lag) >= nearLimit*float64(slot.Lag+slot.Room)
	switch {
	case slot.Status == "unreserved" || near:
		c.add(probe, Fail, start+", or find out why it does not keep up; or raise max_slot_wal_keep_size", "%s: the server is about to remove WAL that is needed", detail)
	case !active:
		c.add(probe, Warn, start, "%s, and nobody streams over it", detail)
	case slot.Active:
		c.add(probe, OK, "", "%s, streamed over", detail)
	default:
		c.add(probe, OK, "", "%s, kept for the case that this host is promoted", detail)
	}
}

func heldBack(lag int64) string {
	if lag < 0 {
		return "holds back no WAL yet"
	}
	return "holds back " + binary(lag)
}

func binary(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// senders looks for room for a receiver, and for a backup beside it.
func (c *checker) senders(s hostStreaming, active bool) {
	need := minWalSenders
	if !active {
		need++
	}
	if left := s.MaxSenders - s.Senders; left < need {
		c.add("walsenders", Warn, fmt.Sprintf("max_wal_senders = %d or more (restart needed)", s.Senders+need),
			"%s: %d of max_wal_senders = %d are in use: too few are left for a receiver and a backup at the same time", s.host, s.Senders, s.MaxSenders)
	}
}

// synchronous looks whether commits wait for us, and for what we never say.
func (c *checker) synchronous(s hostStreaming, active bool) {
	const probe = "synchronous commits"
	name, err := server.ApplicationName(c.Config.Clusters[c.Cluster].Connection)
	if err != nil {
		return // see describeStreams
	}
	named, star := server.NamesStandby(s.Synchronous, name)
	section := c.Config.Clusters[c.Cluster].Stream
	switch {
	case !named:
		c.add(probe, OK, "", "they do not wait for the repository: what is lost with the server is at most max_delay and one upload")
		return
	case len(s.RemoteApply) > 0:
		c.add(probe, Warn, "synchronous_commit = on: it waits until WAL is in the repository; walden never applies it",
			"synchronous_standby_names = %s names %s, and with synchronous_commit = remote_apply (%s) commits wait for ever once they wait for it",
			quoteSetting(s.Synchronous), name, strings.Join(s.RemoteApply, ", "))
	case star:
		c.add(probe, Warn, "name the standbys instead of *, if this is not meant", "synchronous_standby_names = %s makes commits wait for any receiver, %s too", quoteSetting(s.Synchronous), name)
	case !active:
		c.add(probe, Warn, "start `walden stream`", "synchronous_standby_names = %s names %s, which is not there: commits can wait for it", quoteSetting(s.Synchronous), name)
	default:
		c.add(probe, OK, "", "synchronous_standby_names = %s names %s", quoteSetting(s.Synchronous), name)
	}
	if section != nil && section.Acknowledge == string(stream.Local) {
		c.add("acknowledge", Warn, "acknowledge: remote", "commits wait only for this machine's spool (acknowledge: local), not for the repository")
	}
}

func quoteSetting(v string) string { return "'" + v + "'" }

// spool probes the directory, without making it.
func (c *checker) spool(st config.Stream) {
	o, err := st.Options()
	if err != nil {
		c.fail("spool", err)
		return
	}
	limit := o.SpoolLimit
	if limit == 0 {
		limit = stream.DefaultSpoolLimit
	}
	dir, err := existing(o.Spool)
	if err == nil {
		err = writable(dir)
	}
	if err != nil {
		c.add("spool", Fail, "the user that runs `walden stream` must be able to write there; was check run as that user?", "%v", err)
		return
	}
	free, err := stream.FreeSpace(dir)
	if err != nil {
		c.fail("spool", fmt.Errorf("%s: %w", o.Spool, err))
		return
	}
	if used := content(o.Spool); free+used < limit {
		c.add("spool", Warn, "lower spool_limit, or give it more room: a full disk stops the stream until the repository takes WAL again",
			"%s: spool_limit is %s, but only %s are free and %s in use", o.Spool, binary(limit), binary(free), binary(used))
		return
	}
	c.add("spool", OK, "", "%s: writable, %s free for spool_limit %s", o.Spool, binary(free), binary(limit))
}

// existing is the directory, or the nearest one above it that exists.
func existing(dir string) (string, error) {
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return "", fmt.Errorf("%s is not a directory", dir)
		case err == nil:
			return dir, nil
		case !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir):
			return "", err
		}
		dir = filepath.Dir(dir)
	}
}

func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".walden-check-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// content is how many bytes a directory holds, as far as can be seen.
func content(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // a file may be gone, and what cannot be seen does not count
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n
}
