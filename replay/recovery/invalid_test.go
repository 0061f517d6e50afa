package recovery

import (
	"errors"
	"strings"
	"testing"
)

// What ignore_invalid_pages makes of a PANIC is counted, by file, and fails where
// the file must be whole.
func TestInvalidPages(t *testing.T) {
	const where = "2026-11-22 10:00:00.123 CET [4711] 01000 "
	log := where + "WARNING:  page 3 of relation base/16384/16400 is uninitialized\n" +
		where + "CONTEXT:  WAL redo at 0/5000028 for Heap2/VISIBLE: cutoff xid 735 flags 0x01\n" +
		where + "WARNING:  WAL contains references to invalid pages\n" +
		where + "WARNING:  page 4 of relation base/16384/16400_vm does not exist\n" +
		where + "WARNING:  page 5 of relation pg_tblspc/16390/PG_17_202406281/16385/7 is uninitialized\n" +
		where + "WARNING:  page 5 of relation pg_tblspc/16390/PG_17_202406281/16385/7 is uninitialized\n" +
		where + "WARNING:  page 6 of relation global/1262 is uninitialized\n" +
		where + "WARNING:  page 7 is something else\n"
	for _, n := range []int{1, 50, 1 << 20} {
		o := observe(log, n)
		sums := o.invalidByDatabase()
		if len(sums) != 3 || sums[16384].Count != 2 || sums[16385].Count != 2 || sums[0].Count != 1 ||
			sums[16384].First != "page 3 of relation base/16384/16400 is uninitialized" {
			t.Errorf("%+v", sums)
		}
		if len(o.faults) != 1 {
			t.Errorf("%d other warnings, want 1", len(o.faults))
		}
		if err := o.judgeInvalid(nil, ""); err != nil {
			t.Errorf("not looked at, and yet %v", err)
		}
		if err := o.judgeInvalid(func(file string) bool { return strings.HasPrefix(file, "base/1/") }, ""); err != nil {
			t.Errorf("all of them are hollow, and yet %v", err)
		}
		var f *Failure
		err := o.judgeInvalid(func(file string) bool { return file == "pg_tblspc/16390/PG_17_202406281/16385/7" }, "log")
		if !errors.As(err, &f) || f.Kind != FailureInvalidPages || !strings.Contains(f.Reason, "16385/7 that are not there, 2 times") {
			t.Errorf("%v", err)
		}
	}
}
