package databases

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/storage/repository"
	"github.com/walden-pg/walden/wal/archive"
)

// Database is a database that a backup holds files of.
type Database struct {
	// OID is its object id, the name of its directories.
	OID uint32 `json:"oid"`
	// Name is the one that pg_database had for it when the backup was taken;
	// empty: none was found.
	Name string `json:"name,omitempty"`
	// Files and Bytes count its files in the backup.
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`

	names     []string // of all versions of its row
	template  bool
	elsewhere map[uint32]int64 // bytes in tablespaces other than pg_default
}

// String is the name, or the OID where there is none.
func (d Database) String() string {
	if d.Name == "" {
		return strconv.FormatUint(uint64(d.OID), 10)
	}
	return d.Name
}

// Contents is what a backup holds, by database.
type Contents struct {
	// Backup is its id, Databases are by OID.
	Backup    string
	Databases []Database
	// Files and Bytes are those of the whole backup.
	Files, Bytes int64
	// Superusers are the names that the role which initdb made has in the
	// backup; the last is the one it has most likely. It may have been renamed since.
	Superusers []string
}

// Read finds out what a backup holds. It reads the tables of its files, and two
// or three of the files. The error is a *CatalogError where pg_database cannot be made
// out, a *basebackup.FormatError where the tables are not what they should be, or
// one of the repository or of ctx.
func Read(ctx context.Context, repo *repository.Repository, inc archive.Incarnation, m *basebackup.Manifest) (*Contents, error) {
	c := &Contents{Backup: m.ID, Files: m.Files, Bytes: m.Bytes}
	found := map[uint32]*Database{}
	shared := map[string]basebackup.FileEntry{}
	for e, err := range basebackup.ReadFiles(ctx, repo, inc, m) {
		if err != nil {
			return nil, fmt.Errorf("databases: %w", err)
		}
		if e.Kind == basebackup.KindFile && strings.HasPrefix(e.Path, "global/") {
			shared[e.Path] = e
		}
		space, oid, ok := databaseOf(e.Path)
		if !ok {
			continue
		}
		d := found[oid]
		if d == nil {
			d = &Database{OID: oid, elsewhere: map[uint32]int64{}}
			found[oid] = d
		}
		if e.Kind == basebackup.KindFile {
			d.Files++
			d.Bytes += e.Size
			if space != 0 {
				d.elsewhere[space] += e.Size
			}
		}
	}
	r := reader{ctx: ctx, repo: repo, inc: inc, manifest: m, files: shared}
	if err := r.names(c, found); err != nil {
		return nil, err
	}
	for _, oid := range slices.Sorted(maps.Keys(found)) {
		c.Databases = append(c.Databases, *found[oid])
	}
	return c, nil
}

// databaseOf tells the database that a path of a backup belongs to, and its
// tablespace, 0 for pg_default: base/<oid>/…, or
// pg_tblspc/<oid>/PG_<major>_<catalogue version>/<oid>/….
func databaseOf(path string) (space, oid uint32, ok bool) {
	parts := strings.SplitN(path, "/", 5)
	switch {
	case len(parts) > 1 && parts[0] == "base":
		oid, ok = number(parts[1])
	case len(parts) > 3 && parts[0] == "pg_tblspc" && strings.HasPrefix(parts[2], "PG_"):
		if space, ok = number(parts[1]); ok {
			oid, ok = number(parts[3])
		}
	}
	return space, oid, ok
}

// number reads an OID as PostgreSQL writes it in a path.
func number(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n > 0 && s[0] != '0' && s[0] != '+'
}

// reader reads catalogues of a backup.
type reader struct {
	ctx      context.Context
	repo     *repository.Repository
	inc      archive.Incarnation
	manifest *basebackup.Manifest
	files    map[string]basebackup.FileEntry // by path
}

// maxCatalog bounds what is read of a catalogue: a million databases fit.
const maxCatalog = 256 << 20

func (r *reader) read(name string) ([]byte, error) {
	e, ok := r.files[name]
	if !ok {
		return nil, &CatalogError{Backup: r.manifest.ID, File: name, Reason: "the backup does not have it"}
	}
	if e.Size > maxCatalog {
		return nil, &CatalogError{Backup: r.manifest.ID, File: name, Reason: fmt.Sprintf("it has %d bytes", e.Size)}
	}
	f := basebackup.OpenFile(r.ctx, r.repo, r.inc, r.manifest, e)
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("databases: %w", err)
	}
	return b, nil
}

// catalog reads the rows of a mapped shared catalogue.
func (r *reader) catalog(relations map[uint32]uint32, oid uint32) ([]row, error) {
	file := fmt.Sprintf("global/%d", relations[oid])
	b, err := r.read(file)
	if err != nil {
		return nil, err
	}
	list := rows(b)
	if len(list) == 0 {
		return nil, &CatalogError{Backup: r.manifest.ID, File: file, Reason: "it has no rows"}
	}
	return list, nil
}

// relationMap reads which file number the mapped catalogues have.
func (r *reader) relationMap(name string) (map[uint32]uint32, error) {
	b, err := r.read(name)
	if err != nil {
		return nil, err
	}
	relations, err := parseMap(b)
	if err != nil {
		return nil, &CatalogError{Backup: r.manifest.ID, File: name, Reason: err.Error()}
	}
	return relations, nil
}

// names fills in what the catalogues say.
func (r *reader) names(c *Contents, found map[uint32]*Database) error {
	const mapFile = "global/pg_filenode.map"
	relations, err := r.relationMap(mapFile)
	if err != nil {
		return err
	}
	list, err := r.catalog(relations, databaseRelation)
	if err != nil {
		return err
	}
	for _, w := range list {
		d := found[w.oid]
		if d == nil {
			continue // it was dropped: its files are gone
		}
		d.names = append(d.names, w.name)
		d.template = d.template || w.isTemplate(r.manifest.Major)
		if w.live || d.Name == "" {
			d.Name = w.name
		}
	}
	if list, err = r.catalog(relations, authIDRelation); err != nil {
		return err
	}
	slices.SortStableFunc(list, func(a, b row) int { return order(a.live) - order(b.live) })
	for _, w := range list {
		if w.oid == bootstrapUser && !slices.Contains(c.Superusers, w.name) {
			c.Superusers = append(c.Superusers, w.name)
		}
	}
	return nil
}

func order(last bool) int {
	if last {
		return 1
	}
	return 0
}
