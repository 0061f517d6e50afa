package find

import (
	"fmt"
	"slices"
	"strings"
)

// Kind says what happened.
type Kind string

// The kinds, of which an event has one and its actions each one.
const (
	DropDatabase   Kind = "drop-database"
	DropTablespace Kind = "drop-tablespace"
	Drop           Kind = "drop"     // of a relation
	Truncate       Kind = "truncate" // TRUNCATE
	Rewrite        Kind = "rewrite"  // VACUUM FULL, CLUSTER, ALTER TABLE, REINDEX: the same content in a new file
	Delete         Kind = "delete"
	Update         Kind = "update"
	Insert         Kind = "insert"
	Create         Kind = "create" // of a relation
	CreateDatabase Kind = "create-database"
	MoveDatabase   Kind = "move-database" // ALTER DATABASE SET TABLESPACE
	RestorePoint   Kind = "restore-point"
	Promotion      Kind = "promotion" // a timeline begins
	Prepared       Kind = "prepared"  // a transaction that is left prepared at the end of the WAL
	Backup         Kind = "backup"    // a base backup ended
	Checkpoint     Kind = "checkpoint"
	Settings       Kind = "settings" // the settings changed that a standby must follow
	Commit         Kind = "commit"   // any transaction that committed
	Abort          Kind = "abort"
)

// kinds are all, the weightiest first.
var kinds = [...]Kind{
	DropDatabase, DropTablespace, Drop, Truncate, Rewrite, Delete, Update, Insert, Create, CreateDatabase, MoveDatabase,
	RestorePoint, Promotion, Prepared, Backup, Checkpoint, Settings, Commit, Abort,
}

// Kinds are all kinds there are.
func Kinds() []Kind { return slices.Clone(kinds[:]) }

// defaultKinds are those that a person looks for who does not know what happened.
var defaultKinds = [...]Kind{
	DropDatabase, DropTablespace, Drop, Truncate, Delete, Update, Insert, CreateDatabase, MoveDatabase,
	RestorePoint, Promotion, Prepared,
}

// tableKinds are those that happen to a table.
var tableKinds = [...]Kind{Drop, Truncate, Rewrite, Delete, Update, Insert, Create}

// ParseKinds reads a list of kinds with commas between them; "all" is all of them.
func ParseKinds(list string) ([]Kind, error) {
	var found []Kind
	for word := range strings.SplitSeq(list, ",") {
		k := Kind(strings.ToLower(strings.TrimSpace(word)))
		switch {
		case k == "all":
			found = append(found, kinds[:]...)
		case slices.Contains(kinds[:], k):
			found = append(found, k)
		default:
			return nil, fmt.Errorf("there is no kind %q: the kinds are %s and all", word, joinKinds(kinds[:]))
		}
	}
	return found, nil
}

func joinKinds(list []Kind) string {
	words := make([]string, len(list))
	for i, k := range list {
		words[i] = string(k)
	}
	return strings.Join(words, ", ")
}

// weight orders kinds: less is weightier.
func (k Kind) weight() int { return slices.Index(kinds[:], k) }
