package verify

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/walden-pg/walden/basebackup"
	"github.com/walden-pg/walden/wal"
)

// effect is what a finding takes from what can be restored. The zero effect takes nothing.
type effect struct {
	// cuts are stretches of WAL that cannot be read.
	cuts []cut
	// backups cannot be used.
	backups []string
	// history is the timeline whose ancestry is not known; 0: none.
	history wal.TimelineID
	// fragment, or partial segment, cannot be read; what that means depends on what else there is.
	fragment, partial *place
	// all says that nothing can be restored, and why.
	all string
	// harmless says why nothing depends on it.
	harmless string
	// unless is said where nothing that can be restored turns out to depend on it.
	unless string
}

// cut is the WAL from one position to before another, on one timeline.
type cut struct {
	timeline wal.TimelineID
	from, to wal.LSN
}

func cutSegments(first wal.Segment, last uint64) []cut {
	end := wal.Segment{Timeline: first.Timeline, Number: last, Size: first.Size}
	return []cut{{first.Timeline, first.Start(), end.End()}}
}

// effectOf is what follows if an object cannot be used.
func (c *checker) effectOf(p place) effect {
	switch p.kind {
	case KindSegment:
		return effect{cuts: cutSegments(p.file.Segment, p.file.Segment.Number), unless: "no backup needs this WAL"}
	case KindFragment:
		return effect{fragment: &p, unless: "what it holds is there in other objects, or no backup needs it"}
	case KindPartial:
		return effect{partial: &p, unless: "what it holds is there in other objects, or no backup needs it"}
	case KindManifest:
		return effect{backups: []string{p.backup}}
	case KindPack, KindTable:
		return effect{backups: c.backups.users(p.key), unless: "no backup needs it"}
	case KindHistory:
		return effect{history: p.file.Timeline}
	case KindIdentity:
		return effect{all: "no command finds this incarnation, and nothing of it can be restored, until a copy of this object is put back"}
	}
	return effect{harmless: harmlessBecause[p.kind]}
}

// harmlessBecause says why no moment depends on objects of a kind.
var harmlessBecause = map[Kind]string{
	KindBackupHistory: "no restore needs it: the backup's manifest has what it says",
	KindRollup:        "it only makes plans faster: `walden index` makes it again from the segments",
	KindNames:         "no restore needs it; the names of what was dropped around that time may not be known",
	KindClaim:         "no restore needs it: the backup is complete by its manifest",
	KindRecord:        "it only tells what earlier verifications did: objects are verified again, and an earlier record serves",
	KindRate:          "it only serves the estimates of plans",
	KindUnknown:       "no restore needs it",
}

// backupState is what is known of the objects of backups.
type backupState struct {
	claims    map[string]bool // that are there
	manifests map[string]*basebackup.Manifest
	damaged   map[string]bool // manifests that cannot be read
	claimed   map[string]string
	// objects are the packs and tables that are there.
	objects map[string]stored
	// needed are those that manifests name, with who does.
	needed map[string]*needed
}

// stored is a pack or table that is there.
type stored struct {
	place  place
	size   int64
	digest [32]byte
	sound  bool
}

// needed is a pack or table as manifests name it.
type needed struct {
	kind   Kind
	digest string // hexadecimal
	size   int64
	by     []string
}

func newBackupState() backupState {
	return backupState{
		claims: map[string]bool{}, manifests: map[string]*basebackup.Manifest{}, damaged: map[string]bool{}, claimed: map[string]string{},
		objects: map[string]stored{}, needed: map[string]*needed{},
	}
}

// note takes an object of a backup.
func (b *backupState) note(s seen) {
	switch s.kind {
	case KindClaim:
		b.claims[s.backup] = true
	case KindManifest:
		if s.damage != nil {
			b.damaged[s.backup] = true
		} else {
			b.manifests[s.backup] = s.manifest
		}
	case KindPack, KindTable:
		b.objects[s.key] = stored{place: s.place, size: s.info.Size, digest: s.footer.StoredDigest, sound: s.damage == nil}
	}
}

// users are the backups that need a pack or table.
func (b *backupState) users(key string) []string {
	if n := b.needed[key]; n != nil {
		return n.by
	}
	return nil
}

// need notes what a manifest names.
func (b *backupState) need(kind Kind, key, digest string, size int64, by string) {
	n := b.needed[key]
	if n == nil {
		n = &needed{kind: kind, digest: digest, size: size}
		b.needed[key] = n
	}
	n.by = append(n.by, by)
}

// ids are all backups of which anything is there, in order.
func (b *backupState) ids() []string {
	all := map[string]bool{}
	for id := range b.claims {
		all[id] = true
	}
	for id := range b.manifests {
		all[id] = true
	}
	for id := range b.damaged {
		all[id] = true
	}
	for _, o := range b.objects {
		all[o.place.backup] = true
	}
	return keysOf(all)
}

func keysOf[K cmp.Ordered, V any](m map[K]V) []K {
	list := make([]K, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
