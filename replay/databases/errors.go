package databases

import (
	"fmt"
	"strings"
)

// UnknownError says that a backup has no database of a name or OID.
type UnknownError struct {
	// Name is what was asked for, Backup the backup's id.
	Name, Backup string
	// Databases are those that there are.
	Databases []Database
}

// Error names the database and those that there are.
func (e *UnknownError) Error() string {
	return fmt.Sprintf("backup %s has no database %q; it has %s", e.Backup, e.Name, Listing(e.Databases))
}

// Hint says what can be done.
func (e *UnknownError) Hint() string {
	return "a database that was renamed since can be named by its OID; one that was created since is in a later backup " +
		"(--backup ID), comes with the WAL when everything is restored, and walden extract finds it too"
}

// CatalogError says that the shared catalogues in a backup cannot be made out, so
// that it is not known which database is which.
type CatalogError struct {
	// Backup is the backup's id, File the path of the file in it.
	Backup, File string
	// Reason says what is wrong.
	Reason string
}

// Error names the file and what is wrong with it.
func (e *CatalogError) Error() string {
	return fmt.Sprintf("%s of backup %s: %s: the names of its databases cannot be found out", e.File, e.Backup, e.Reason)
}

// Hint says what can be done.
func (e *CatalogError) Hint() string {
	return "choose another backup with --backup, or restore all databases"
}

// Listing writes databases in one line: names, and OIDs where there is none.
func Listing(list []Database) string {
	const few = 20
	var names []string
	for i, d := range list {
		if i == few {
			names = append(names, fmt.Sprintf("and %d more", len(list)-few))
			break
		}
		names = append(names, d.String())
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
