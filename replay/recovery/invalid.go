package recovery

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// InvalidPages are references by WAL to pages of one database that are not there,
// or all zeros.
type InvalidPages struct {
	// Count is their number; one page may be referred to often.
	Count int64
	// First is PostgreSQL's sentence about the first of them.
	First string
}

// The sentences of report_invalid_page and of what follows it (xlogutils.c).
var invalidPage = lazily(`^page \d+ of relation (\S+) (?:is uninitialized|does not exist)$`)

const invalidSummary = "WAL contains references to invalid pages"

// takeInvalid recognises the warnings that ignore_invalid_pages makes of what
// would be a PANIC.
func (o *observer) takeInvalid(text string) bool {
	if text == invalidSummary {
		return true
	}
	m := invalidPage().FindStringSubmatch(text)
	if m == nil {
		return false
	}
	if o.invalid == nil {
		o.invalid = map[string]InvalidPages{}
	}
	p := o.invalid[m[1]]
	if p.Count++; p.Count == 1 {
		p.First = text
	}
	o.invalid[m[1]] = p
	return true
}

// invalidByDatabase sums them up.
func (o *observer) invalidByDatabase() map[uint32]InvalidPages {
	sums := map[uint32]InvalidPages{}
	for _, file := range slices.Sorted(maps.Keys(o.invalid)) {
		sum, p := sums[databaseOfFile(file)], o.invalid[file]
		if sum.Count == 0 {
			sum.First = p.First
		}
		sum.Count += p.Count
		sums[databaseOfFile(file)] = sum
	}
	return sums
}

// databaseOfFile tells the database from a file's path as GetRelationPath makes
// it: global/1262, base/16384/1259_vm, pg_tblspc/16390/PG_17_202406281/16384/16400.
// What is none of these counts as shared.
func databaseOfFile(path string) uint32 {
	parts := strings.Split(path, "/")
	at := -1
	switch parts[0] {
	case "base":
		at = 1
	case "pg_tblspc":
		at = 3
	}
	if at < 0 || at >= len(parts)-1 {
		return 0
	}
	n, err := strconv.ParseUint(parts[at], 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// judgeInvalid makes a failure of references to pages of what should be whole.
func (o *observer) judgeInvalid(whole func(string) bool, logFile string) error {
	if whole == nil {
		return nil
	}
	for _, file := range slices.Sorted(maps.Keys(o.invalid)) {
		if !whole(file) {
			continue
		}
		p := o.invalid[file]
		return &Failure{
			Kind: FailureInvalidPages, LogFile: logFile, Messages: []string{p.First},
			Reason: fmt.Sprintf("the WAL refers to pages of %s that are not there, %d times", file, p.Count),
			Hint:   "what was restored is not whole: restore from another backup (--backup), or restore all databases to see whether PostgreSQL gets through",
		}
	}
	return nil
}
