package record

// pageParts is what is kept of a record that crosses pages, without its fixed
// header. The parts stay where they are, in the Reader's chunk, until that is
// needed for the next one: most records are not decoded, and of those that are
// most bytes are images of pages, which nobody looks at.
type pageParts struct {
	list  [][]byte // in order; none is empty
	have  int      // bytes in list
	limit int      // of have
	store []byte   // what was saved of them
	saved bool     // list[0] lies in store
	joint []byte   // what crosses from one part to the next, joined
}

func (p *pageParts) reset() {
	p.list, p.have, p.saved = p.list[:0], 0, false
}

func (p *pageParts) add(part []byte) {
	part = part[:min(len(part), p.limit-p.have)]
	if len(part) > 0 {
		p.list = append(p.list, part)
		p.have += len(part)
	}
}

// save moves the parts to memory of their own, where they become one.
func (p *pageParts) save() {
	rest := p.list
	switch {
	case len(rest) == 0:
		return
	case p.saved:
		rest = rest[1:]
	default:
		p.store = p.store[:0]
	}
	for _, part := range rest {
		p.store = append(p.store, part...)
	}
	p.list = append(p.list[:0], p.store)
	p.saved = true
}

// Bytes is what follows the record's header, as far as it is kept, in one piece.
// It is valid as long as the record.
func (r *Record) Bytes() []byte {
	if r.pages != nil {
		r.pages.save()
		r.Data, r.pages = r.pages.list[0], nil
	}
	return r.Data
}

// locate finds the data that the fragment headers announce. It begins at the
// offset at of the first part.
func (p *pageParts) locate(d *Decoded, at int) {
	c := cutter{pages: p, part: p.list[0][at:]}
	p.joint = p.joint[:0]
	for i := range d.Blocks {
		blk := &d.Blocks[i]
		c.skip(int(blk.ImageLength))
		if n := int(blk.DataLength); n > 0 {
			if data := c.cut(n); len(data) == n {
				blk.Data = data
			}
		}
	}
	if n := int(min(d.MainLength, KeepTransactionBytes)); n > 0 {
		d.Main = c.cut(n)
	}
}

// cutter goes over the parts.
type cutter struct {
	pages *pageParts
	part  []byte // what is left of the current one
	at    int    // its number
}

// follow goes on to the next part; false: there is none.
func (c *cutter) follow() bool {
	if c.at+1 >= len(c.pages.list) {
		return false
	}
	c.at++
	c.part = c.pages.list[c.at]
	return true
}

// skip passes over n bytes, as far as there are so many.
func (c *cutter) skip(n int) {
	for n > len(c.part) {
		n -= len(c.part)
		if !c.follow() {
			c.part = nil
			return
		}
	}
	c.part = c.part[n:]
}

// cut returns the next n bytes, or those there are.
func (c *cutter) cut(n int) []byte {
	if n <= len(c.part) {
		b := c.part[:n]
		c.part = c.part[n:]
		return b
	}
	from := len(c.pages.joint)
	for {
		k := min(n, len(c.part))
		c.pages.joint = append(c.pages.joint, c.part[:k]...)
		c.part = c.part[k:]
		if n -= k; n == 0 || !c.follow() {
			return c.pages.joint[from:]
		}
	}
}
