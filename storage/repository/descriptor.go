package repository

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/zeebo/blake3"

	"github.com/walden-pg/walden/storage/frame"
)

// DescriptorKey is the key of the object that makes a store a repository.
const DescriptorKey = "walden.json"

const (
	// maxDescriptor bounds its size, in bytes.
	maxDescriptor = 64 << 10

	repositoryFormat = 1
	encryptionNone   = "none"
)

// descriptor is the content of walden.json, which is written once. It is
// plain JSON for whoever looks at a bucket; the check makes damage as visible
// as in every other object.
type descriptor struct {
	Format     int    `json:"format"`
	Repository string `json:"repository"`
	Encryption string `json:"encryption"`
	Created    string `json:"created"`
	// Check is the first 16 bytes, in hex, of the BLAKE3 of the file's bytes
	// with an empty check.
	Check string `json:"check"`

	id [16]byte
}

// newDescriptor returns the descriptor of a new repository.
func newDescriptor(now time.Time) (descriptor, error) {
	d := descriptor{Format: repositoryFormat, Encryption: encryptionNone, Created: now.UTC().Format(time.RFC3339)}
	if _, err := rand.Read(d.id[:]); err != nil {
		return d, fmt.Errorf("make a repository id: %w", err)
	}
	// A random UUID, RFC 9562 section 5.4.
	d.id[6] = d.id[6]&0x0f | 0x40
	d.id[8] = d.id[8]&0x3f | 0x80
	d.Repository = FormatID(d.id)
	return d, nil
}

// encode returns the only bytes that parseDescriptor takes for d.
func (d descriptor) encode() []byte {
	d.Check = ""
	sum := blake3.Sum256(d.render())
	d.Check = hex.EncodeToString(sum[:16])
	return d.render()
}

func (d descriptor) render() []byte {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		// Strings and an int can always be rendered.
		panic("repository: " + err.Error())
	}
	return append(b, '\n')
}

// parseDescriptor decodes walden.json. Whatever is not exactly what encode
// writes is refused.
func parseDescriptor(b []byte) (descriptor, error) {
	refuse := func(kind frame.ErrorKind, err error, format string, args ...any) (descriptor, error) {
		return descriptor{}, &frame.Error{Object: DescriptorKey, Kind: kind, Reason: fmt.Sprintf(format, args...), Err: err}
	}
	// Other formats may have other fields: ask for the format first.
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return refuse(frame.Corrupt, err, "it is not the JSON that Walden wrote")
	}
	if head.Format != repositoryFormat {
		return refuse(frame.Version, nil, "the repository has format %d, this version of Walden knows %d; use a newer one",
			head.Format, repositoryFormat)
	}
	var d descriptor
	if err := json.Unmarshal(b, &d); err != nil {
		return refuse(frame.Corrupt, err, "it is not the JSON that Walden wrote")
	}
	var ok bool
	switch d.id, ok = parseUUID(d.Repository); {
	case !bytes.Equal(b, d.encode()):
		return refuse(frame.Corrupt, nil, "its content was changed: it does not match its check")
	case d.Encryption != encryptionNone:
		return refuse(frame.Encrypted, nil, "the repository has encryption %q, this version of Walden cannot read it", d.Encryption)
	case !ok:
		return refuse(frame.Corrupt, nil, "%q is not a repository id", d.Repository)
	}
	if _, err := time.Parse(time.RFC3339, d.Created); err != nil {
		return refuse(frame.Corrupt, err, "its time of creation is wrong")
	}
	return d, nil
}

// FormatID returns the text form of a repository id.
func FormatID(id [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// parseUUID is the strict inverse of FormatID; the id of zeros is none.
func parseUUID(s string) ([16]byte, bool) {
	if len(s) != 36 {
		return [16]byte{}, false
	}
	b, err := hex.DecodeString(s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:])
	if err != nil || len(b) != 16 {
		return [16]byte{}, false
	}
	id := [16]byte(b)
	return id, id != [16]byte{} && FormatID(id) == s
}
