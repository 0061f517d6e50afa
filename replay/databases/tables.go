package databases

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

const (
	classRelation    = 1259 // pg_class
	inheritsRelation = 2611 // pg_inherits
	indexRelation    = 2610 // pg_index
	// firstNormal is the first OID that initdb does not give (FirstNormalObjectId in transam.h).
	firstNormal = 16384
	// worthIt is the size from which on a relation is left out: what is smaller
	// lies in a frame with others. All sequences are smaller, and pg_dump reads
	// those that belong to a table.
	worthIt = 1 << 20
)

// LeaveOut makes those relations of the chosen databases hollow too that pg_dump does
// not read when it dumps the tables with names of these patterns: all but the
// catalogues, such tables, their partitions and the tables that inherit from them, what
// belongs to all these, and what is small. The indexes of the tables are needed where
// pg_dump plans queries on them, which it does not to copy them.
//
// It goes by pg_class and pg_inherits as they lie in the backup, and by the patterns as far as they are
// understood here, so it is a guess: what is unclear is kept, but a table that was
// renamed since is not known. Who dumps must make sure that a hollow relation cannot be read.
// It tells whether anything was left out. Errors are those of Read.
func (c *Choice) LeaveOut(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, m *basebackup.Manifest, patterns []string, indexes bool) (bool, error) {
	wanted, ok := compile(patterns)
	if !ok {
		return false, nil
	}
	files := map[uint32]map[string]basebackup.FileEntry{}
	for _, d := range c.Chosen {
		files[d.OID] = map[string]basebackup.FileEntry{}
	}
	for e, err := range basebackup.ReadFiles(ctx, repo, inc, m) {
		if err != nil {
			return false, fmt.Errorf("databases: %w", err)
		}
		if _, oid, ok := databaseOf(e.Path); ok && files[oid] != nil && e.Kind == basebackup.KindFile {
			files[oid][e.Path] = e
		}
	}
	c.relations = map[relation]bool{}
	for i := range c.Chosen {
		d := &c.Chosen[i]
		r := reader{ctx: ctx, repo: repo, inc: inc, manifest: m, files: files[d.OID]}
		unread, err := r.unread(wanted, indexes)
		if err != nil {
			return false, err
		}
		c.leaveOut(d, files[d.OID], unread)
	}
	return len(c.relations) > 0, nil
}

// leaveOut makes relations of a database hollow, if they are large.
func (c *Choice) leaveOut(d *Database, files map[string]basebackup.FileEntry, unread map[uint32]bool) {
	sizes := map[uint32]int64{}
	for name, e := range files {
		if n, ok := fileNumber(name); ok && unread[n] {
			sizes[n] += e.Size
		}
	}
	for name, e := range files {
		n, ok := fileNumber(name)
		if !ok || sizes[n] < worthIt {
			continue
		}
		c.relations[relation{d.OID, n}] = true
		c.HollowFiles++
		c.HollowBytes += e.Size
		if space, _, _ := databaseOf(name); space != 0 {
			c.hollowIn[space] += e.Size
		}
	}
}

// unread are the numbers of the files that only hold relations which are not
// wanted. Every version of a row of pg_class counts: a number that one of them
// gives to a relation that is wanted is wanted.
func (r *reader) unread(wanted func(string) bool, indexes bool) (map[uint32]bool, error) {
	mapFile := mapFileIn(r.files)
	if mapFile == "" {
		return nil, &CatalogError{Backup: r.manifest.ID, File: mapName, Reason: "the backup does not have that of the database"}
	}
	relations, list, err := r.classes(mapFile)
	if err != nil {
		return nil, err
	}
	keep, mapped := map[string]bool{}, map[uint32]bool{}
	for _, number := range relations {
		mapped[number] = true
	}
	named := map[uint32]bool{}
	for _, w := range list {
		if w.oid >= firstNormal && wanted(w.name) {
			named[w.oid] = true
		}
	}
	if err := r.addChildren(named, path.Dir(mapFile), list); err != nil {
		return nil, err
	}
	if indexes {
		if err := r.addIndexes(named, path.Dir(mapFile), list); err != nil {
			return nil, err
		}
	}
	for _, w := range list {
		if w.oid < firstNormal || named[w.oid] {
			keep[w.name] = true
			// By its name TOAST belongs to a table (create_toast_table in toasting.c).
			toast := fmt.Sprintf("pg_toast_%d", w.oid)
			keep[toast], keep[toast+"_index"] = true, true
		}
	}
	unread := map[uint32]bool{}
	for _, w := range list {
		if number, ok := w.relFileNode(); ok && number >= firstNormal && !mapped[number] {
			unread[number] = true
		}
	}
	for _, w := range list {
		if number, ok := w.relFileNode(); ok && keep[w.name] {
			delete(unread, number)
		}
	}
	return unread, nil
}

// addChildren adds to tables all that inherit from one of them, partitions among them,
// by the rows of pg_inherits, whatever their version is.
func (r *reader) addChildren(tables map[uint32]bool, dir string, classes []row) error {
	list, err := r.pairs(inheritsRelation, dir, classes)
	if err != nil {
		return err
	}
	children := map[uint32][]uint32{}
	for _, p := range list {
		children[p.table] = append(children[p.table], p.of)
	}
	for queue := slices.Collect(maps.Keys(tables)); len(queue) > 0; queue = queue[1:] {
		for _, child := range children[queue[0]] {
			if !tables[child] {
				tables[child] = true
				queue = append(queue, child)
			}
		}
	}
	return nil
}

// addIndexes adds to tables their indexes.
func (r *reader) addIndexes(tables map[uint32]bool, dir string, classes []row) error {
	list, err := r.pairs(indexRelation, dir, classes)
	if err != nil {
		return err
	}
	for _, p := range list {
		if tables[p.table] {
			tables[p.of] = true
		}
	}
	return nil
}

// pairs reads the rows of a catalogue that begin with two OIDs, from every file that a
// version of its row in pg_class gives it. A file that is not there was replaced while
// the backup was taken: what came instead is in the WAL.
func (r *reader) pairs(catalog uint32, dir string, classes []row) ([]pair, error) {
	var list []pair
	seen := map[uint32]bool{}
	for _, w := range classes {
		number, ok := w.relFileNode()
		if !ok || w.oid != catalog || seen[number] {
			continue
		}
		seen[number] = true
		first := fmt.Sprintf("%s/%d", dir, number)
		if _, ok := r.files[first]; !ok {
			continue
		}
		err := r.eachSegment(first, func(b []byte) {
			for tuple := range tuples(b) {
				if p, ok := readPair(tuple); ok {
					list = append(list, p)
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// eachSegment reads the files of a relation, of which first is the first.
func (r *reader) eachSegment(first string, do func([]byte)) error {
	name := first
	for segment := 1; ; segment++ {
		b, err := r.read(name)
		if err != nil {
			return err
		}
		do(b)
		name = first + "." + strconv.Itoa(segment)
		if _, ok := r.files[name]; !ok {
			return nil
		}
	}
}

// mapName is the file in a database's directory that says which file number the
// mapped catalogues have, pg_class among them.
const mapName = "pg_filenode.map"

func mapFileIn(files map[string]basebackup.FileEntry) string {
	for name := range files {
		if path.Base(name) == mapName {
			return name
		}
	}
	return ""
}

// classes reads the mapped catalogues' numbers and the rows of pg_class of the
// database that a map is of.
func (r *reader) classes(mapFile string) (map[uint32]uint32, []row, error) {
	relations, err := r.relationMap(mapFile)
	if err != nil {
		return nil, nil, err
	}
	var list []row
	first := fmt.Sprintf("%s/%d", path.Dir(mapFile), relations[classRelation])
	err = r.eachSegment(first, func(b []byte) { list = append(list, rows(b)...) })
	return relations, list, err
}

// Holding returns those of the databases that are no templates in which there was a
// table, or another relation, with a name of one of the patterns when the backup
// was taken, or before that: every version of a row counts that is still there. The schema does not
// count, and a pattern that is not understood may be of any. Errors are those of Read.
func (c *Contents) Holding(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, m *basebackup.Manifest, patterns []string) ([]Database, error) {
	wanted, ok := compile(patterns)
	if !ok {
		return c.Candidates(), nil
	}
	candidates := map[uint32]*reader{}
	for _, d := range c.Candidates() {
		candidates[d.OID] = &reader{ctx: ctx, repo: repo, inc: inc, manifest: m, files: map[string]basebackup.FileEntry{}}
	}
	for e, err := range basebackup.ReadFiles(ctx, repo, inc, m) {
		if err != nil {
			return nil, fmt.Errorf("databases: %w", err)
		}
		// pg_class is among the first files of a database unless it was rewritten:
		// then it may be any that is not a fork.
		_, oid, ok := databaseOf(e.Path)
		base := path.Base(e.Path)
		if ok && candidates[oid] != nil && e.Kind == basebackup.KindFile && (base == mapName || !strings.Contains(base, "_")) {
			candidates[oid].files[e.Path] = e
		}
	}
	var list []Database
	for _, d := range c.Candidates() {
		r := candidates[d.OID]
		mapFile := mapFileIn(r.files)
		if mapFile == "" {
			continue // it was being created, or dropped
		}
		_, classes, err := r.classes(mapFile)
		if err != nil {
			return nil, err
		}
		for _, w := range classes {
			if w.oid >= firstNormal && wanted(w.name) {
				list = append(list, d)
				break
			}
		}
	}
	return list, nil
}

// relFileNode reads that of a row of pg_class: behind the name come relnamespace,
// reltype, reloftype, relowner and relam (pg_class.h).
func (r row) relFileNode() (uint32, bool) {
	const at = 5 * 4
	if len(r.rest) < at+4 {
		return 0, false
	}
	return binary.LittleEndian.Uint32(r.rest[at:]), true
}

// fileNumber is the number in the name of a relation's file: 16400, 16400.1, 16400_vm.
func fileNumber(file string) (uint32, bool) {
	base := path.Base(file)
	if at := strings.IndexAny(base, "._"); at > 0 {
		base = base[:at]
	}
	return number(base)
}

// compile makes a test of a relation's name out of patterns of pg_dump, as
// processSQLNamePattern reads them: unless in quotes letters are folded to lower case, and
// * and ? stand for any characters and one; a dot divides schema and name. The schema does not
// count here. ok is false where a pattern cannot be understood.
func compile(patterns []string) (test func(string) bool, ok bool) {
	var list []*regexp.Regexp
	for _, p := range patterns {
		form, err := regexp.Compile("^(?:" + expression(p) + ")$")
		if err != nil {
			return nil, false
		}
		list = append(list, form)
	}
	return func(name string) bool {
		for _, form := range list {
			if form.MatchString(name) {
				return true
			}
		}
		return false
	}, true
}

func expression(pattern string) string {
	var b strings.Builder
	quoted := false
	letters := []rune(pattern)
	for i := 0; i < len(letters); i++ {
		c := letters[i]
		switch {
		case c == '"' && quoted && i+1 < len(letters) && letters[i+1] == '"':
			b.WriteRune('"')
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
			b.WriteString(regexp.QuoteMeta(string(c)))
		case c == '.':
			b.Reset() // that was a schema, or a database
		case c == '*':
			b.WriteString(".*")
		case c == '?':
			b.WriteByte('.')
		case c == '$':
			b.WriteString(`\$`)
		default:
			b.WriteString(strings.ToLower(string(c)))
		}
	}
	return b.String()
}
