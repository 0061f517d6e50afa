package protocol

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/walden-pg/walden/basebackup"
)

// version15 is the first that takes options in parentheses and answers with
// one COPY (server_version_num).
const version15 = 150000

// minVersion is the oldest server supported.
const minVersion = 140000

// command writes BASE_BACKUP in the syntax of the server's version
// (replication/repl_gram.y). The WAL is not asked for: it comes through the
// archive. Tablespace maps neither: links are made anew when restoring.
func command(version int, o basebackup.SourceOptions) (string, error) {
	if err := checkOptions(o); err != nil {
		return "", err
	}
	fast := o.Checkpoint == basebackup.CheckpointFast
	if version < version15 {
		words := []string{"BASE_BACKUP", "LABEL", quoteLiteral(o.Label), "PROGRESS"}
		if fast {
			words = append(words, "FAST")
		}
		// The server would wait for its own archive; Walden waits itself, and knows what for.
		words = append(words, "NOWAIT")
		if o.MaxRate > 0 {
			words = append(words, "MAX_RATE", fmt.Sprint(o.MaxRate))
		}
		words = append(words, "MANIFEST", "'yes'", "MANIFEST_CHECKSUMS", "'CRC32C'")
		return strings.Join(words, " "), nil
	}
	checkpoint := basebackup.CheckpointSpread
	if fast {
		checkpoint = basebackup.CheckpointFast
	}
	options := []string{
		"LABEL " + quoteLiteral(o.Label),
		"PROGRESS",
		"CHECKPOINT " + quoteLiteral(string(checkpoint)),
		"WAIT false",
		"VERIFY_CHECKSUMS true",
		"MANIFEST 'yes'",
		"MANIFEST_CHECKSUMS 'CRC32C'",
		"TARGET 'client'",
	}
	if o.MaxRate > 0 {
		options = append(options, fmt.Sprintf("MAX_RATE %d", o.MaxRate))
	}
	return "BASE_BACKUP (" + strings.Join(options, ", ") + ")", nil
}

func checkOptions(o basebackup.SourceOptions) error {
	switch o.Checkpoint {
	case "", basebackup.CheckpointFast, basebackup.CheckpointSpread:
	default:
		return fmt.Errorf("unknown checkpoint mode %q: it is %q or %q", o.Checkpoint, basebackup.CheckpointFast, basebackup.CheckpointSpread)
	}
	if o.MaxRate != 0 && (o.MaxRate < basebackup.MinMaxRate || o.MaxRate > basebackup.MaxMaxRate) {
		return fmt.Errorf("rate limit of %d KiB/s: PostgreSQL accepts %d to %d", o.MaxRate, basebackup.MinMaxRate, basebackup.MaxMaxRate)
	}
	if len(o.Label) > basebackup.MaxLabel {
		return fmt.Errorf("the label has %d bytes, at most %d are allowed", len(o.Label), basebackup.MaxLabel)
	}
	// The label becomes a line of backup_label.
	if !utf8.ValidString(o.Label) || strings.ContainsFunc(o.Label, unicode.IsControl) {
		return fmt.Errorf("the label %q holds control characters or is not UTF-8", o.Label)
	}
	return nil
}
