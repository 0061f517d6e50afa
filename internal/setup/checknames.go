package setup

import (
	"context"

	"github.com/walden-pg/walden/wal/names"
)

// names tries whether the names in every database can be read: what is dropped in one
// that cannot has none.
func (c *checker) names(ctx context.Context) {
	const probe = "names"
	unread, err := names.Probe(ctx, names.Source{Conninfo: c.Config.Clusters[c.Cluster].Connection})
	switch {
	case err != nil:
		c.add(probe, Warn, hintOf(err), "they cannot be read, what is dropped has none: %v", err)
	case len(unread) == 0:
		c.add(probe, OK, "", "databases, schemas and relations can be read in every database")
	}
	for _, u := range unread {
		c.add(probe, Warn, u.Hint(), "%v", u)
	}
}
