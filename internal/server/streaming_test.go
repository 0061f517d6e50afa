package server

import (
	"slices"
	"testing"

	"github.com/walden-pg/walden/internal/pgtest"
)

func TestNamesStandby(t *testing.T) {
	for setting, want := range map[string][2]bool{
		"":                           {},
		"walden":                     {true, false},
		"Walden":                     {true, false},
		`"walden"`:                   {true, false},
		"s1, walden":                 {true, false},
		"*":                          {true, true},
		"FIRST 1 (s1, *)":            {true, true},
		"ANY 1 (walden, *)":          {true, false},
		"2 (s1, s2)":                 {},
		"FIRST 2 (s1,walden,s2)":     {true, false},
		"walden2, s_walden":          {},
		`"a(b", "walden"`:            {true, false},
		`ANY 1 ("wal""den", "x, y")`: {},
		`ANY walden`:                 {true, false}, // not valid; the server would not have taken it
	} {
		if named, star := NamesStandby(setting, "walden"); [2]bool{named, star} != want {
			t.Errorf("%q: %v %v, want %v", setting, named, star, want)
		}
	}
}

func TestApplicationName(t *testing.T) {
	for conninfo, want := range map[string]string{"host=a": "walden", "host=a application_name=w2": "w2"} {
		if got, err := ApplicationName(conninfo); got != want || err != nil {
			t.Errorf("%q: %q, %v", conninfo, got, err)
		}
	}
}

func TestDescribeStreaming(t *testing.T) {
	for _, major := range pgtest.Majors() {
		c := pgtest.New(t, pgtest.Options{Major: major, Settings: map[string]string{"max_slot_wal_keep_size": "1GB", "max_wal_senders": "7", "max_replication_slots": "9"}})
		conn, err := Connect(t.Context(), c.Conninfo(""), SQL, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		s, err := DescribeStreaming(t.Context(), conn, "walden")
		if err != nil || s.Slot != nil || s.MaxSenders != 7 || s.MaxSlots != 9 || s.KeepSize != 1<<30 || s.Synchronous != "" || len(s.RemoteApply) != 0 || s.InRecovery {
			t.Errorf("%d: %+v, %v", major, s, err)
		}
		c.Exec("SELECT pg_create_physical_replication_slot('walden', true)")
		c.Exec("CREATE ROLE careful; ALTER ROLE careful SET synchronous_commit = remote_apply")
		c.Exec("ALTER ROLE careful IN DATABASE postgres SET synchronous_commit = remote_apply")
		c.Exec("ALTER DATABASE template1 SET synchronous_commit = remote_apply")
		c.Configure(map[string]string{"synchronous_commit": "remote_apply"})
		c.Reload()
		c.WaitFor("remote_apply", func() bool { return c.QueryValue("SHOW synchronous_commit") == "remote_apply" })
		again, err := Connect(t.Context(), c.Conninfo(""), SQL, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close(t.Context())
		s, err = DescribeStreaming(t.Context(), again, "walden")
		want := []string{"all by default", "in database template1", "of role careful", "of role careful in database postgres"}
		if err != nil || s.Slot == nil || !s.Slot.Physical || s.Slot.Active || s.Slot.Status != "reserved" || s.Slot.Lag < 0 || s.Slot.Room <= 0 || s.Slots != 1 || !slices.Equal(s.RemoteApply, want) {
			t.Errorf("%d: %+v, %+v, %v", major, s, s.Slot, err)
		}
	}
}
