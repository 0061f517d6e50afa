// Package frame is the container of everything Walden seals: segments,
// fragments, packs, tables and manifests.
//
// A stored object is a run of independently compressed, standard LZ4 or
// Zstandard frames, followed by an index and a footer. Both of those are
// skippable frames, which the two formats define, so `lz4 -dc` and `zstd -dc`
// reproduce the raw bytes with no help from Walden. The index holds checksums
// of every frame and of every page of raw bytes; the footer says what the
// object is and where it belongs. The layout is specified in docs/format.md.
//
// Every frame but the last holds exactly MaxFrame raw bytes, so the frame of a
// raw offset is found by division and any range is one ranged read away.
//
// The package knows nothing of PostgreSQL.
package frame

import (
	"fmt"
	"hash"

	"github.com/zeebo/blake3"
)

const (
	// MaxFrame is the number of raw bytes in every frame but the last, which
	// holds 1 to MaxFrame.
	MaxFrame = 1 << 20
	// PageSize is the number of raw bytes that have a checksum of their own.
	// The last page of an object may be shorter.
	PageSize = 8192
	// FooterSize is the stored length of the footer in bytes, its skippable
	// frame header included. It is the same in every version of the format.
	FooterSize = 256
	// FormatVersion is the version of the container that this package writes,
	// and the only one it reads.
	FormatVersion = 1
)

// Kind says what an object is. The footer holds it, and a reader that expects
// another kind refuses the object.
type Kind uint16

// The kinds of objects. The numbers are part of the format.
const (
	KindSegment       Kind = 1  // a sealed WAL segment
	KindPartial       Kind = 2  // a .partial segment
	KindFragment      Kind = 3  // a piece of the segment that is being written
	KindHistory       Kind = 4  // a timeline history file
	KindBackupHistory Kind = 5  // a .backup file
	KindPack          Kind = 6  // frames of base-backup data
	KindExtents       Kind = 7  // a shard of a backup's table of extents
	KindManifest      Kind = 8  // a backup's manifest
	KindClaim         Kind = 9  // a backup's claim of its id and parent
	KindRollup        Kind = 10 // a roll-up of segment indexes
	KindNames         Kind = 11 // what the numbers in the WAL were called
	KindIdentity      Kind = 12 // the identity of an incarnation
	KindRecord        Kind = 13 // a lease, a tombstone, an audit or a drill record
)

var kindNames = [...]string{
	KindSegment: "segment", KindPartial: "partial", KindFragment: "fragment", KindHistory: "history",
	KindBackupHistory: "backup history", KindPack: "pack", KindExtents: "extents", KindManifest: "manifest",
	KindClaim: "claim", KindRollup: "roll-up", KindNames: "names", KindIdentity: "identity", KindRecord: "record",
}

// String returns the kind's name, or "kind N" for one this version does not know.
func (k Kind) String() string {
	if int(k) < len(kindNames) && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint16(k))
}

// Codec says how frames are compressed. The numbers are part of the format.
type Codec uint8

const (
	// CodecNone stores raw bytes: LZ4 frames whose block is not compressed.
	CodecNone Codec = 0
	// CodecLZ4 writes LZ4 frames of one block each.
	CodecLZ4 Codec = 1
	// CodecZstd writes single-segment Zstandard frames.
	CodecZstd Codec = 2
)

// ParseCodec returns the codec called "none", "lz4" or "zstd".
func ParseCodec(name string) (Codec, error) {
	switch name {
	case "none":
		return CodecNone, nil
	case "lz4":
		return CodecLZ4, nil
	case "zstd":
		return CodecZstd, nil
	}
	return 0, fmt.Errorf("unknown compression %q: it is lz4, zstd or none", name)
}

// String returns the codec's name as ParseCodec takes it.
func (c Codec) String() string {
	switch c {
	case CodecNone:
		return "none"
	case CodecLZ4:
		return "lz4"
	case CodecZstd:
		return "zstd"
	}
	return fmt.Sprintf("codec %d", uint8(c))
}

// Section is a part of an object's own facts, kept in its index. Types are
// allotted in docs/format.md; a reader passes over those it does not know.
type Section struct {
	Type uint16
	Data []byte // at most 1 GiB together with the rest of the index
}

// rawDigestContext separates the key of the raw digest from any other use of
// a repository's id. It is part of the format.
const rawDigestContext = "walden 2026-11 raw digest of a frame object, keyed by repository id"

// NewRawHasher returns the hash that a footer's RawDigest holds: BLAKE3, 32
// bytes, keyed with a key derived from the repository's id.
func NewRawHasher(repositoryID [16]byte) hash.Hash {
	var key [32]byte
	blake3.DeriveKey(rawDigestContext, repositoryID[:], key[:])
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		// NewKeyed refuses only keys that are not 32 bytes long.
		panic("frame: " + err.Error())
	}
	return h
}

// NameDigest returns what a footer holds of the key an object is stored
// under: the first 16 bytes of the key's BLAKE3.
func NameDigest(name string) [16]byte {
	sum := blake3.Sum256([]byte(name))
	return [16]byte(sum[:16])
}
