package frame

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/walden-pg/walden/internal/crc32c"
)

// Footer says what an object is. It is the last FooterSize bytes of the
// object, never encrypted.
type Footer struct {
	// Version is the format of the object: FormatVersion.
	Version uint16
	// Kind says what the object is.
	Kind Kind
	// Codec says how its frames are compressed.
	Codec Codec
	// Envelope is 0 for plain objects, 1 for those in an age envelope. Readers
	// of this version refuse all but 0.
	Envelope uint8
	// Epoch is the epoch of the key of an encrypted object, 0 for plain ones.
	Epoch uint32
	// RawLength is the number of raw bytes.
	RawLength int64
	// BodyLength is the number of stored bytes before the footer.
	BodyLength int64
	// IndexOffset and IndexLength say where in the body the index lies. The
	// index ends where the body does.
	IndexOffset, IndexLength int64
	// HasRawDigest says that RawDigest was computed.
	HasRawDigest bool
	// RawDigest is BLAKE3 of the raw bytes, keyed: see NewRawHasher.
	RawDigest [32]byte
	// StoredDigest is BLAKE3 of the BodyLength bytes before the footer.
	StoredDigest [32]byte
	// RepositoryID is the id of the repository the object was written for.
	RepositoryID [16]byte
	// NameDigest is the digest of the object's key: see NameDigest.
	NameDigest [16]byte
}

// StoredSize returns the size of the whole stored object, in bytes.
func (f Footer) StoredSize() int64 { return f.BodyLength + FooterSize }

const (
	indexMagic   = 0x184D2A5E // a skippable frame of both formats
	footerMagic  = 0x184D2A5F // another
	skippableTop = 8          // length of a skippable frame's header

	indexWord  = "WALDENIX" // the first bytes of an index
	footerWord = "WALDENFT" // the first bytes of a footer

	envelopePlain = 0
	envelopeAge   = 1

	flagRawDigest = 1 << 0
)

// Offsets in the footer; docs/format.md has the whole picture.
const (
	footerSignature = 160 // algorithm u8, 7 zeros, key id 8, signature 64
	footerZeros     = 240 // 12 zeros
	footerCRC       = FooterSize - 4
)

// appendFooter appends the footer's FooterSize bytes.
func appendFooter(b []byte, f Footer) []byte {
	start := len(b)
	le := binary.LittleEndian
	b = le.AppendUint32(b, footerMagic)
	b = le.AppendUint32(b, FooterSize-skippableTop)
	b = append(b, footerWord...)
	b = le.AppendUint16(b, f.Version)
	b = le.AppendUint16(b, uint16(f.Kind))
	b = append(b, byte(f.Codec), f.Envelope)
	var flags uint16
	if f.HasRawDigest {
		flags |= flagRawDigest
	}
	b = le.AppendUint16(b, flags)
	b = le.AppendUint32(b, f.Epoch)
	b = le.AppendUint32(b, 0)
	for _, n := range [...]int64{f.RawLength, f.BodyLength, f.IndexOffset, f.IndexLength} {
		b = le.AppendUint64(b, uint64(n))
	}
	b = append(b, f.RepositoryID[:]...)
	b = append(b, f.NameDigest[:]...)
	b = append(b, f.RawDigest[:]...)
	b = append(b, f.StoredDigest[:]...)
	b = append(b, make([]byte, footerCRC-footerSignature)...)
	return le.AppendUint32(b, crc32c.Checksum(b[start:]))
}

// isFooter reports whether b begins like a footer.
func isFooter(b []byte) bool {
	return len(b) >= skippableTop+len(footerWord) &&
		binary.LittleEndian.Uint32(b) == footerMagic &&
		binary.LittleEndian.Uint32(b[4:]) == FooterSize-skippableTop &&
		string(b[skippableTop:skippableTop+len(footerWord)]) == footerWord
}

// parseFooter decodes the FooterSize bytes of b, which isFooter accepts. What
// it returns is consistent in itself. Its errors lack object and offset.
func parseFooter(b []byte) (Footer, *Error) {
	le := binary.LittleEndian
	if crc32c.Checksum(b[:footerCRC]) != le.Uint32(b[footerCRC:]) {
		return Footer{}, &Error{Kind: Corrupt, Reason: "the footer's checksum does not match"}
	}
	f := Footer{
		Version: le.Uint16(b[16:]), Kind: Kind(le.Uint16(b[18:])), Codec: Codec(b[20]), Envelope: b[21],
		Epoch:        le.Uint32(b[24:]),
		RepositoryID: [16]byte(b[64:]), NameDigest: [16]byte(b[80:]),
		RawDigest: [32]byte(b[96:]), StoredDigest: [32]byte(b[128:]),
	}
	// A later version may give the rest another meaning: ask for the version
	// before looking at it.
	if f.Version != FormatVersion {
		return f, &Error{Kind: Version, Reason: fmt.Sprintf(
			"it has format version %d, this version of Walden knows %d; use a newer one", f.Version, FormatVersion)}
	}
	flags := le.Uint16(b[22:])
	f.HasRawDigest = flags&flagRawDigest != 0
	for i, n := range [...]*int64{&f.RawLength, &f.BodyLength, &f.IndexOffset, &f.IndexLength} {
		v := le.Uint64(b[32+8*i:])
		if v > math.MaxInt64/2 {
			return f, &Error{Kind: Corrupt, Reason: "the footer holds an impossible length"}
		}
		*n = int64(v)
	}
	return f, f.check(b, flags&^flagRawDigest != 0)
}

// check refuses what this version cannot read, or what contradicts itself.
func (f Footer) check(b []byte, unknownFlags bool) *Error {
	refuse := func(k ErrorKind, format string, args ...any) *Error {
		return &Error{Kind: k, Reason: fmt.Sprintf(format, args...)}
	}
	switch {
	case f.Envelope == envelopeAge:
		return refuse(Encrypted, "encrypted (key epoch %d), this version cannot read it", f.Epoch)
	case f.Envelope != envelopePlain:
		return refuse(Version, "it is in an envelope of unknown type %d", f.Envelope)
	case f.Codec > CodecZstd:
		return refuse(Version, "it is compressed with unknown %v", f.Codec)
	case unknownFlags:
		return refuse(Version, "its footer has unknown flags")
	case b[footerSignature] != 0:
		return refuse(Version, "it has a signature of unknown type %d", b[footerSignature])
	case f.Kind == 0:
		return refuse(Corrupt, "the footer names no kind")
	case f.Epoch != 0:
		return refuse(Corrupt, "a plain object with a key epoch")
	case !allZero(b[28:32]) || !allZero(b[footerSignature:footerCRC]):
		return refuse(Corrupt, "bytes of the footer that must be zero are not")
	case !f.HasRawDigest && f.RawDigest != [32]byte{}:
		return refuse(Corrupt, "the footer holds a raw digest that it does not announce")
	case f.IndexLength < minIndexSize || f.IndexLength > maxIndexSize:
		return refuse(Corrupt, "an index of %d bytes is impossible", f.IndexLength)
	case f.IndexOffset+f.IndexLength != f.BodyLength:
		return refuse(Corrupt, "the index does not end where the footer begins")
	}
	return nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
