package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walden-pg/walden/replay/find"
)

func tableAction(i int, known bool) find.Action {
	r := &find.Relation{DatabaseOID: 5, Database: "shop", File: uint32(16384 + i), Known: known}
	r.Text = fmt.Sprintf("relation %d of database shop, not in any name snapshot", r.File)
	text := "dropped " + r.Text
	if known {
		r.Schema, r.Name, r.Type, r.Text = "sales", fmt.Sprint("t", i), "table", fmt.Sprint("sales.t", i)
		text = "dropped table " + r.Text
	}
	return find.Action{Kind: find.Drop, Relation: r, Text: text}
}

func TestFindActionLines(t *testing.T) {
	var e find.Event
	e.Text = "committed"
	if d := cmp.Diff([]string{"committed"}, actionLines(e)); d != "" {
		t.Error(d)
	}
	for i := range 3 {
		e.Actions = append(e.Actions, tableAction(i, true))
	}
	e.Actions = append(e.Actions, tableAction(3, false))
	want := []string{"dropped table sales.t0", "dropped table sales.t1", "dropped table sales.t2", "dropped relation 16387 of database shop, not in any name snapshot"}
	if d := cmp.Diff(want, actionLines(e)); d != "" {
		t.Error(d)
	}
	e.Actions = nil
	for i := range 7 {
		e.Actions = append(e.Actions, tableAction(i, true))
	}
	for i := range 9 {
		e.Actions = append(e.Actions, tableAction(i, false))
	}
	e.Actions = append(e.Actions, find.Action{Kind: find.Delete, Rows: 5, Relation: e.Actions[0].Relation, Text: "deleted 5 rows from sales.t0"})
	e.Incomplete = true
	want = []string{
		"dropped 7 tables of schema sales: t0, t1, t2, t3, t4 and 2 more",
		"dropped 9 relations of database shop that are in no name snapshot: 16384, 16385, 16386, 16387, 16388, 16389, 16390, 16391, and 1 more",
		"deleted 5 rows from sales.t0, or more: not all that it did is known",
	}
	if d := cmp.Diff(want, actionLines(e)); d != "" {
		t.Error(d)
	}
}

// TestFindNameTime: a name that may have been another is told with its time.
func TestFindNameTime(t *testing.T) {
	var e find.Event
	for i := range 5 {
		a := tableAction(i, true)
		at := time.Date(2026, 11, 22, 12, 0, i/4, 0, time.UTC)
		a.Relation.NameTime, a.Relation.NameDoubt = &at, i > 0
		e.Actions = append(e.Actions, a)
	}
	want := []string{
		"dropped table sales.t0",
		"dropped table sales.t1 (its name at 2026-11-22 12:00:00+00)", "dropped table sales.t2 (its name at 2026-11-22 12:00:00+00)",
		"dropped table sales.t3 (its name at 2026-11-22 12:00:00+00)", "dropped table sales.t4 (its name at 2026-11-22 12:00:01+00)",
	}
	if d := cmp.Diff(want, actionLines(e)); d != "" {
		t.Error(d)
	}
	for _, a := range e.Actions {
		*a.Relation.NameTime = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	}
	e.Actions[0].Relation.NameDoubt = true
	want = []string{"dropped 5 tables of schema sales: t0, t1, t2, t3, t4 (their names at 2026-11-22 12:00:00+00)"}
	if d := cmp.Diff(want, actionLines(e)); d != "" {
		t.Error(d)
	}
}

// TestFindForgotten: what was given up is told, and is a finding.
func TestFindForgotten(t *testing.T) {
	for n, want := range map[int]string{0: "", 1: "GIVEN UP: what 1 transaction had done", 3: "GIVEN UP: what 3 transactions had done"} {
		var out bytes.Buffer
		tail := findTail{Summary: &find.Summary{Forgotten: n}, Snapshots: 1}
		if err := (&findText{w: &out}).end(tail, find.Options{}); err != nil {
			t.Fatal(err)
		}
		if tail.incomplete() != (n > 0) || !strings.Contains(out.String(), want) || strings.Contains(out.String(), "GIVEN UP") != (n > 0) {
			t.Errorf("%d: %q", n, out.String())
		}
	}
}

// collected is a findOutput that keeps what it is given.
type collected struct{ xids []uint32 }

func (c *collected) event(ev find.Event) error {
	c.xids = append(c.xids, ev.XID)
	return nil
}
func (c *collected) end(findTail, find.Options) error { return nil }

func TestFindLimit(t *testing.T) {
	for limit, want := range map[int][]uint32{0: {1, 2, 3, 4, 5}, 1: {5}, 3: {3, 4, 5}, 5: {1, 2, 3, 4, 5}, 9: {1, 2, 3, 4, 5}} {
		c := &collected{}
		l := &lastEvents{limit: limit, out: c}
		for xid := range uint32(5) {
			if err := l.event(find.Event{XID: xid + 1}); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.flush(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, c.xids); d != "" {
			t.Errorf("%d: %s", limit, d)
		}
	}
}

// TestFindJSON: one document, whole or not at all.
func TestFindJSON(t *testing.T) {
	for n := range 3 {
		spool, err := newSpool()
		if err != nil {
			t.Fatal(err)
		}
		defer spool.Close()
		var out bytes.Buffer
		f := &findJSON{stdout: &out, spool: spool, w: bufio.NewWriter(spool), cluster: `ma"in`, incarnation: 2}
		now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
		for range n {
			if err := f.event(find.Event{Kind: find.Drop, LSN: 77, Time: &now, Actions: []find.Action{tableAction(1, true)}}); err != nil {
				t.Fatal(err)
			}
		}
		if out.Len() > 0 {
			t.Errorf("%d events: %q came before the end", n, out.String())
		}
		if err := f.end(findTail{Summary: &find.Summary{Segments: 3}, Snapshots: 1, Unnamed: []string{}}, find.Options{}); err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Cluster       string
			Incarnation   int
			Events        []struct{ Kind, LSN string }
			Segments      int
			NameSnapshots int `json:"name_snapshots"`
		}
		dec := json.NewDecoder(strings.NewReader(out.String()))
		dec.UseNumber()
		if err := dec.Decode(&doc); err != nil || dec.More() || doc.Events == nil {
			t.Fatalf("%d events: %v\n%s", n, err, out.String())
		}
		if doc.Cluster != `ma"in` || len(doc.Events) != n || doc.Segments != 3 || doc.NameSnapshots != 1 || doc.Incarnation != 2 {
			t.Errorf("%d events: %+v", n, doc)
		}
	}
}
