package record

import "fmt"

// The records of RMStorage: the high four bits of xl_info (catalog/storage_xlog.h).
const (
	StorageCreate   uint8 = 0x10
	StorageTruncate uint8 = 0x20
)

// StorageCreation is what XLOG_SMGR_CREATE says: a fork of a relation gets its file.
type StorageCreation struct {
	Relation Relation
	Fork     uint32 // 0 main, 1 free space map, 2 visibility map, 3 init
}

// DecodeStorageCreate reads the main data of XLOG_SMGR_CREATE.
func DecodeStorageCreate(main []byte) (StorageCreation, error) {
	if err := need("creation of a relation's file", main, 16); err != nil {
		return StorageCreation{}, err
	}
	return StorageCreation{Relation{le.Uint32(main), le.Uint32(main[4:]), le.Uint32(main[8:])}, le.Uint32(main[12:])}, nil
}

// StorageTruncation is what XLOG_SMGR_TRUNCATE says: forks of a relation
// become shorter.
type StorageTruncation struct {
	Relation Relation
	Blocks   uint32 // the new length of the main fork, in blocks of 8 KiB
	// Main, VisibilityMap and FreeSpaceMap: which forks are cut.
	Main, VisibilityMap, FreeSpaceMap bool
}

// DecodeStorageTruncate reads the main data of XLOG_SMGR_TRUNCATE.
func DecodeStorageTruncate(main []byte) (StorageTruncation, error) {
	if err := need("truncation of a relation's file", main, 20); err != nil {
		return StorageTruncation{}, err
	}
	flags := le.Uint32(main[16:])
	return StorageTruncation{
		Relation: Relation{le.Uint32(main[4:]), le.Uint32(main[8:]), le.Uint32(main[12:])}, Blocks: le.Uint32(main),
		Main: flags&1 != 0, VisibilityMap: flags&2 != 0, FreeSpaceMap: flags&4 != 0,
	}, nil
}

// StandbyLock is the record of RMStandby that tells hot standbys of
// AccessExclusiveLocks (XLOG_STANDBY_LOCK in storage/standbydefs.h).
const StandbyLock uint8 = 0x00

// ExclusiveLock is an AccessExclusiveLock on a relation, which a hot standby takes
// too, and holds until it has replayed the end of the transaction.
type ExclusiveLock struct {
	XID      uint32 // possibly a subtransaction
	Database uint32
	OID      uint32
}

// DecodeStandbyLocks reads the main data of a StandbyLock record: one lock that was
// taken, or at a checkpoint all there are.
func DecodeStandbyLocks(r *Record, main []byte) ([]ExclusiveLock, error) {
	if err := need("locks", main, 4); err != nil {
		return nil, err
	}
	const size = 12
	n := le.Uint32(main)
	main = main[4:]
	if int64(n)*size > int64(len(main)) && !r.Truncated {
		return nil, fmt.Errorf("decode locks: there are %d bytes for %d of them", len(main), n)
	}
	var list []ExclusiveLock
	for ; n > 0 && len(main) >= size; n, main = n-1, main[size:] {
		list = append(list, ExclusiveLock{le.Uint32(main), le.Uint32(main[4:]), le.Uint32(main[8:])})
	}
	return list, nil
}
