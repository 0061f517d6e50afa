package basebackup

import (
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/walden-pg/walden/wal/archive"
)

// idPattern is what a backup's id looks like.
var idPattern = regexp.MustCompile(`^\d{8}T\d{6}Z-[0-9a-z]{4}$`)

const idTime = "20060102T150405Z"

// newID makes an id of the time and four random characters.
func newID(now time.Time) string {
	const alphabet = "0123456789abcdefghijklmnopqrstuvwxyz"
	random := make([]byte, 4)
	_, _ = rand.Read(random) // never fails
	for i, b := range random {
		random[i] = alphabet[int(b)%len(alphabet)]
	}
	return now.UTC().Format(idTime) + "-" + string(random)
}

// CheckID returns an error if id is not a backup's id.
func CheckID(id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("%q is not a backup id; ids look like 20261122T213000Z-k3f9", id)
	}
	if _, err := time.Parse(idTime, id[:len("20261122T213000Z")]); err != nil {
		return errors.Join(fmt.Errorf("%q is not a backup id", id), err)
	}
	return nil
}

func backupsPrefix(inc archive.Incarnation) string { return inc.Prefix() + "backups/" }

// ClaimKey is the key of the claim of the backup id.
func ClaimKey(inc archive.Incarnation, id string) string {
	return backupsPrefix(inc) + id + "/started"
}

// ManifestKey is the key of the manifest of the backup id.
func ManifestKey(inc archive.Incarnation, id string) string {
	return backupsPrefix(inc) + id + "/manifest"
}

// PackKey is the key of pack n of the backup id.
func PackKey(inc archive.Incarnation, id string, n int) string {
	return fmt.Sprintf("%spacks/%s/%06d", inc.Prefix(), id, n)
}

// ShardKey is the key of shard n of the backup id.
func ShardKey(inc archive.Incarnation, id string, n int) string {
	return fmt.Sprintf("%sextents/%s/%06d", inc.Prefix(), id, n)
}
