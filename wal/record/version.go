package record

import "fmt"

// The majors this package reads.
const (
	MinMajor = 14
	MaxMajor = 19
)

// XLOG_PAGE_MAGIC of each major (access/xlog_internal.h).
const (
	Magic14 uint16 = 0xD10D
	Magic15 uint16 = 0xD110
	Magic16 uint16 = 0xD113
	Magic17 uint16 = 0xD116
	Magic18 uint16 = 0xD118
	Magic19 uint16 = 0xD122 // since its release candidate

	// magic19Beta is that of 19beta1, whose records this package reads alike. It
	// had one resource manager more.
	magic19Beta uint16 = 0xD120
)

// Major is the major version of PostgreSQL that writes pages with this magic
// number; false for one this package does not know.
func Major(magic uint16) (int, bool) {
	switch magic {
	case Magic14:
		return 14, true
	case Magic15:
		return 15, true
	case Magic16:
		return 16, true
	case Magic17:
		return 17, true
	case Magic18:
		return 18, true
	case Magic19, magic19Beta:
		return 19, true
	}
	return 0, false
}

// Magic is the magic number of a major version; false outside MinMajor to MaxMajor.
func Magic(major int) (uint16, bool) {
	switch major {
	case 14:
		return Magic14, true
	case 15:
		return Magic15, true
	case 16:
		return Magic16, true
	case 17:
		return Magic17, true
	case 18:
		return Magic18, true
	case 19:
		return Magic19, true
	}
	return 0, false
}

// flagLayout is how a major uses the bits of xlp_info. 19 gave up the
// "backup blocks removable" bit and moved the overwrite flag into its place.
type flagLayout struct {
	overwrite uint16
	all       uint16
}

// Bits of xlp_info that mean the same in all majors.
const (
	pageContinues  uint16 = 0x0001 // XLP_FIRST_IS_CONTRECORD
	pageLongHeader uint16 = 0x0002 // XLP_LONG_HEADER
)

func flagsOf(major int) flagLayout {
	if major >= 19 {
		return flagLayout{overwrite: 0x0004, all: 0x0007}
	}
	return flagLayout{overwrite: 0x0008, all: 0x000F}
}

// RMGR is the id of a resource manager: which part of PostgreSQL a record belongs to.
type RMGR uint8

// The built-in resource managers (access/rmgrlist.h). 128 to 255 are those of extensions.
const (
	RMXLOG RMGR = iota
	RMTransaction
	RMStorage
	RMCLOG
	RMDatabase
	RMTablespace
	RMMultiXact
	RMRelMap
	RMStandby
	RMHeap2
	RMHeap
	RMBtree
	RMHash
	RMGin
	RMGist
	RMSequence
	RMSPGist
	RMBRIN
	RMCommitTs
	RMReplicationOrigin
	RMGeneric
	RMLogicalMessage
	RMXLOG2 // only in 19's betas

	// RMCustom is the first id extensions can use, since 15 (RM_MIN_CUSTOM_ID).
	RMCustom RMGR = 128
)

var rmgrNames = [...]string{
	"XLOG", "Transaction", "Storage", "CLOG", "Database", "Tablespace", "MultiXact", "RelMap",
	"Standby", "Heap2", "Heap", "Btree", "Hash", "Gin", "Gist", "Sequence", "SPGist", "BRIN",
	"CommitTs", "ReplicationOrigin", "Generic", "LogicalMessage", "XLOG2",
}

// String is the name pg_waldump uses.
func (r RMGR) String() string {
	switch {
	case int(r) < len(rmgrNames):
		return rmgrNames[r]
	case r >= RMCustom:
		return fmt.Sprintf("custom%03d", uint8(r))
	}
	return fmt.Sprintf("rmgr %d", uint8(r))
}

// validRMGR tells whether pages of this magic number, which is of this major,
// can have records of the resource manager.
func validRMGR(major int, magic uint16, r RMGR) bool {
	switch {
	case r <= RMLogicalMessage:
		return true
	case r == RMXLOG2:
		return magic == magic19Beta
	}
	return major >= 15 && r >= RMCustom
}
