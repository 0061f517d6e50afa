package databases

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Choice says which databases of a backup are restored.
type Choice struct {
	// Chosen are those that were asked for, Templates those that come always,
	// Hollow the others. By OID.
	Chosen    []Database `json:"restored"`
	Templates []Database `json:"templates"`
	Hollow    []Database `json:"hollow"`
	// HollowFiles and HollowBytes count the files of Hollow, and of the relations that
	// LeaveOut has left out.
	HollowFiles int64 `json:"hollow_files"`
	HollowBytes int64 `json:"hollow_bytes"`

	hollow map[uint32]bool
	// relations are hollow relations of chosen databases.
	relations map[relation]bool
	// hollowIn is HollowBytes by tablespace, but for the default one.
	hollowIn map[uint32]int64
}

// relation is the files of one, by their number in a database.
type relation struct{ database, number uint32 }

// Choose decides for databases by their names or OIDs; a name wins over the same
// OID. A name is looked for in all versions of the rows of pg_database. The error is
// *UnknownError if the backup has no such database.
func (c *Contents) Choose(wanted ...string) (*Choice, error) {
	keep := map[uint32]bool{}
	for _, w := range wanted {
		found := c.find(w)
		if len(found) == 0 {
			return nil, &UnknownError{Name: w, Backup: c.Backup, Databases: c.Databases}
		}
		for _, oid := range found {
			keep[oid] = true
		}
	}
	choice := &Choice{Chosen: []Database{}, Templates: []Database{}, Hollow: []Database{}, hollow: map[uint32]bool{}, hollowIn: map[uint32]int64{}}
	for _, d := range c.Databases {
		switch {
		case keep[d.OID]:
			choice.Chosen = append(choice.Chosen, d)
		case d.template || d.OID == template1:
			choice.Templates = append(choice.Templates, d)
		default:
			choice.Hollow = append(choice.Hollow, d)
			choice.HollowFiles += d.Files
			choice.HollowBytes += d.Bytes
			choice.hollow[d.OID] = true
			for space, bytes := range d.elsewhere {
				choice.hollowIn[space] += bytes
			}
		}
	}
	return choice, nil
}

// find returns the OIDs of the databases that a name may mean.
func (c *Contents) find(wanted string) []uint32 {
	var list []uint32
	for _, d := range c.Databases {
		if slices.Contains(d.names, wanted) {
			list = append(list, d.OID)
		}
	}
	if oid, ok := number(wanted); ok && len(list) == 0 {
		for _, d := range c.Databases {
			if d.OID == oid {
				list = append(list, oid)
			}
		}
	}
	return list
}

// Candidates are the databases that are no templates.
func (c *Contents) Candidates() []Database {
	return slices.DeleteFunc(slices.Clone(c.Databases), func(d Database) bool { return d.template || d.OID == template1 })
}

// Sole returns the one database that is meant where none is named: the only one
// besides templates, or the only one besides these and "postgres". ok is false if
// there are several.
func (c *Contents) Sole() (d Database, ok bool) {
	all := c.Candidates()
	users := slices.DeleteFunc(slices.Clone(all), func(d Database) bool { return d.Name == "postgres" })
	switch {
	case len(users) == 1:
		return users[0], true
	case len(users) == 0 && len(all) == 1:
		return all[0], true
	}
	return Database{}, false
}

// IsHollow tells whether a file of the backup, by its path there, is not restored: it
// belongs to a database, or to a relation, that was left out. A nil Choice restores all.
func (c *Choice) IsHollow(path string) bool {
	if c == nil {
		return false
	}
	_, oid, ok := databaseOf(path)
	return ok && (c.hollow[oid] || c.IsHollowRelation(path))
}

// IsHollowRelation tells whether a file, by its path in the data directory,
// belongs to a relation that was left out of a database that is restored otherwise.
func (c *Choice) IsHollowRelation(path string) bool {
	_, oid, ok := databaseOf(path)
	if !ok || len(c.relations) == 0 {
		return false
	}
	n, ok := fileNumber(path)
	return ok && c.relations[relation{oid, n}]
}

// IsPartial tells whether anything is left out: databases, or relations of a database
// that is restored otherwise. A nil Choice restores all.
func (c *Choice) IsPartial() bool { return c != nil && (len(c.hollow) > 0 || len(c.relations) > 0) }

// LeavesOut tells whether the relation whose files have that number in a database is hollow.
func (c *Choice) LeavesOut(database, number uint32) bool {
	return c.relations[relation{database, number}]
}

// MustBeWhole tells whether WAL may refer only to such pages of a file as are
// there: it is of a database that is restored, or of what databases share.
func (c *Choice) MustBeWhole(path string) bool {
	_, oid, ok := databaseOf(path)
	return !ok || c.State(oid) == Restored && !c.IsHollowRelation(path)
}

// State is what a restore by a Choice makes of a database.
type State int

const (
	// Restored: all of its files are there.
	Restored State = iota
	// Emptied: it is hollow.
	Emptied
	// Later: the backup has nothing of it. What there is of it came with the
	// WAL: it was created after the backup had begun.
	Later
)

// State tells what becomes of the database with an OID.
func (c *Choice) State(oid uint32) State {
	switch has := func(d Database) bool { return d.OID == oid }; {
	case c.hollow[oid]:
		return Emptied
	case slices.ContainsFunc(c.Chosen, has), slices.ContainsFunc(c.Templates, has):
		return Restored
	}
	return Later
}

// HollowIn is how many of HollowBytes lie in a tablespace, by its OID.
func (c *Choice) HollowIn(tablespace uint32) int64 { return c.hollowIn[tablespace] }

// String names what is restored, in a form that tells different choices apart.
func (c *Choice) String() string {
	var list []string
	for _, d := range c.Chosen {
		text := strconv.FormatUint(uint64(d.OID), 10)
		if d.Name != "" {
			text = fmt.Sprintf("%q (%d)", d.Name, d.OID)
		}
		list = append(list, text)
	}
	switch len(list) {
	case 0:
		return "no database but the templates"
	case 1:
		return "database " + list[0]
	}
	return "databases " + strings.Join(list, ", ")
}
