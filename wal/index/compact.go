package index

// Compact is a copy without the lists of transactions and effects and without the
// bytes of the head and the tail: what is worth keeping of many segments at once. It
// still says how the segment relates to others; to join it, the whole is needed.
func (ix *Index) Compact() *Index {
	c := *ix
	c.transactions, c.details = transactionList{}, detailList{}
	c.Effects, c.Omitted = nil, Omitted{}
	c.Head.Bytes, c.Tail.Bytes = nil, nil
	return &c
}
