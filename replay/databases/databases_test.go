package databases

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/walden-pg/walden/internal/crc32c"
)

func contents() *Contents {
	return &Contents{Backup: "b", Databases: []Database{
		{OID: 1, Name: "template1", names: []string{"template1"}, Files: 10, Bytes: 100},
		{OID: 5, Name: "postgres", names: []string{"postgres"}, Files: 10, Bytes: 100},
		{OID: 16384, Name: "app", names: []string{"app"}, Files: 20, Bytes: 200, elsewhere: map[uint32]int64{99: 50}},
		{OID: 16385, Name: "b", names: []string{"a", "b"}, Files: 30, Bytes: 300, elsewhere: map[uint32]int64{99: 70}},
		{OID: 16386, Name: "16384", names: []string{"16384"}},
		{OID: 16387, Name: "model", names: []string{"model"}, template: true},
		{OID: 16388, Files: 1, Bytes: 1},
	}}
}

func oids(list []Database) (oids []uint32) {
	for _, d := range list {
		oids = append(oids, d.OID)
	}
	return oids
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		wanted []string
		chosen []uint32
	}{
		{[]string{"app"}, []uint32{16384}},
		{[]string{"a"}, []uint32{16385}}, // as an older row says
		{[]string{"16384"}, []uint32{16386}},
		{[]string{"16385", "app"}, []uint32{16384, 16385}},
		{[]string{"16388"}, []uint32{16388}},
		{[]string{"template1"}, []uint32{1}},
		{nil, nil},
	} {
		got, err := contents().Choose(c.wanted...)
		if err != nil || !slices.Equal(oids(got.Chosen), c.chosen) {
			t.Errorf("%v: %+v, %v", c.wanted, got, err)
			continue
		}
		if n := len(got.Chosen) + len(got.Templates) + len(got.Hollow); n != 7 {
			t.Errorf("%v: %d databases", c.wanted, n)
		}
	}
	for _, wanted := range []string{"", "nobody", "0", "016385", "+5", "99999999999", "16389"} {
		var unknown *UnknownError
		if _, err := contents().Choose("app", wanted); !errors.As(err, &unknown) || !strings.Contains(err.Error(), "app") {
			t.Errorf("%q: %v", wanted, err)
		}
	}
}

func TestHollowPaths(t *testing.T) {
	c, err := contents().Choose("app")
	if err != nil {
		t.Fatal(err)
	}
	if c.HollowFiles != 41 || c.HollowBytes != 401 || c.HollowIn(99) != 70 || c.HollowIn(98) != 0 {
		t.Errorf("%+v", c)
	}
	c.relations = map[relation]bool{{16384, 20000}: true}
	for path, hollow := range map[string]bool{
		"base/5/1259": true, "base/5": true, "base/1/1259": false, "base/16384/1259": false, "base/16385/PG_VERSION": true,
		"base/16387/1": false, "base/99999/1": false, "base/pgsql_tmp/x": false, "global/1262": false, "PG_VERSION": false,
		"pg_tblspc/99/PG_17_202406281/16385/7": true, "pg_tblspc/99/PG_17_202406281/16384/7": false, "pg_tblspc/99": false,
		"pg_tblspc/99/other/16385/7": false, "base/16384/20000": true, "base/16384/20000_vm": true, "base/16384/20000.12": true,
		"base/16384/20000_fsm.1": true, "base/16384/200001": false, "base/1/20000": false, "/etc/base/5/1": false,
		"pg_tblspc/99/PG_17_202406281/16384/20000": true,
	} {
		if got := c.IsHollow(path); got != hollow {
			t.Errorf("%s: hollow %v", path, got)
		}
		if whole := c.MustBeWhole(path); whole && hollow {
			t.Errorf("%s is hollow and must be whole", path)
		}
	}
	if !c.MustBeWhole("global/1262") || !c.MustBeWhole("base/16384/1259_vm") || c.MustBeWhole("base/99999/1") {
		t.Error("what must be whole")
	}
	if c.State(16384) != Restored || c.State(16387) != Restored || c.State(5) != Emptied || c.State(99999) != Later {
		t.Error("states")
	}
	one, err := (&Contents{Databases: contents().Databases[:2]}).Choose("postgres")
	if err != nil || one.IsPartial() || !c.IsPartial() {
		t.Errorf("%v: the only database, or one of several, is not what it is", err)
	}
	if one.relations = map[relation]bool{{5, 20000}: true}; !one.IsPartial() {
		t.Error("a relation of the only database is left out, and the choice is whole")
	}
	var all *Choice
	if all.IsHollow("base/5/1259") || all.IsPartial() {
		t.Error("without a choice nothing is hollow")
	}
}

func TestSole(t *testing.T) {
	if _, ok := contents().Sole(); ok {
		t.Error("one of several")
	}
	c := &Contents{Databases: contents().Databases[:2]}
	if d, ok := c.Sole(); !ok || d.OID != 5 {
		t.Errorf("%+v", d)
	}
	c.Databases = contents().Databases[:3]
	if d, ok := c.Sole(); !ok || d.OID != 16384 {
		t.Errorf("%+v", d)
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern   string
		yes, noes []string
	}{
		{"orders", []string{"orders"}, []string{"Orders", "orders2", "xorders"}},
		{"Public.ORDERS", []string{"orders"}, []string{"ORDERS"}},
		{`public."Orders"`, []string{"Orders"}, []string{"orders"}},
		{`"a""b.c*"`, []string{`a"b.c*`}, []string{`a"b.cd`}},
		{"ord*", []string{"ord", "orders"}, []string{"xord"}},
		{"*.o?d", []string{"old", "odd"}, []string{"od"}},
		{"t[0-9]+", []string{"t12"}, []string{"t"}},
		{"a|b", []string{"a", "b"}, []string{"ab"}},
		{"a$1", []string{"a$1"}, []string{"a"}},
	} {
		test, ok := compile([]string{"never", c.pattern})
		if !ok {
			t.Errorf("%s is not understood", c.pattern)
			continue
		}
		for _, name := range c.yes {
			if !test(name) {
				t.Errorf("%s does not match %s", c.pattern, name)
			}
		}
		for _, name := range c.noes {
			if test(name) {
				t.Errorf("%s matches %s", c.pattern, name)
			}
		}
	}
	if _, ok := compile([]string{"a["}); ok {
		t.Error("a pattern that is none was understood")
	}
}

func TestDamagedMap(t *testing.T) {
	for _, size := range []int{512, 524} {
		b := make([]byte, size)
		binary.LittleEndian.PutUint32(b, mapMagic)
		binary.LittleEndian.PutUint32(b[4:], 1)
		binary.LittleEndian.PutUint32(b[8:], databaseRelation)
		binary.LittleEndian.PutUint32(b[12:], 4711)
		at := map[int]int{512: 504, 524: 520}[size]
		binary.LittleEndian.PutUint32(b[at:], crc32c.Checksum(b[:at]))
		if m, err := parseMap(b); err != nil || m[databaseRelation] != 4711 {
			t.Errorf("%d bytes: %v, %v", size, m, err)
		}
		for i := range at + 4 {
			b[i] ^= 1
			if _, err := parseMap(b); err == nil {
				t.Errorf("%d bytes with byte %d changed are accepted", size, i)
			}
			b[i] ^= 1
		}
		if _, err := parseMap(b[:size-1]); err == nil {
			t.Error("a truncated map is accepted")
		}
	}
}

// No bytes make the reader of rows panic, or give a row that is not within its page.
func FuzzRows(f *testing.F) {
	page := make([]byte, pageSize)
	binary.LittleEndian.PutUint16(page[12:], 28)
	binary.LittleEndian.PutUint16(page[14:], 8000)
	binary.LittleEndian.PutUint32(page[24:], 8000|lpNormal<<15|180<<17)
	page[8022] = 24
	copy(page[8024:], "\x01\x00\x00\x00template1")
	if list := rows(page); len(list) != 1 || list[0].name != "template1" || list[0].oid != 1 || !list[0].live {
		f.Fatalf("%+v", list)
	}
	f.Add(page)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, r := range rows(b) {
			if r.name == "" || len(r.name) >= nameLength || len(r.rest) > pageSize {
				t.Errorf("%+v", r)
			}
			r.isTemplate(14)
			r.isTemplate(17)
			r.relFileNode()
		}
		for tuple := range tuples(b) {
			readPair(tuple)
		}
		_, _ = parseMap(b)
	})
}
