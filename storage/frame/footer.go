package frame

// Footer says what an object is. It is the last FooterSize bytes of the
// object, never encrypted.
type Footer struct {
	// Version is the format of the object: FormatVersion.
	Version uint16
	// Kind says what the object is.
	Kind Kind
	// Codec says how its frames are compressed.
	Codec Codec
	// Envelope is 0 for plain objects, 1 for those in an age envelope.
	Envelope uint8
	// Epoch is the epoch of the key of an encrypted object, 0 for plain ones.
	Epoch uint32
	// RawLength is the number of raw bytes.
	RawLength int64
	// BodyLength is the number of stored bytes before the footer.
	BodyLength int64
	// IndexOffset and IndexLength say where in the body the index lies.
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
