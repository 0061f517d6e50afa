package names

import "container/list"

// cache keeps what was read and decoded, the most recently used of it, up to a
// number of bytes. It is guarded by its Reader.
type cache struct {
	limit, used int64
	entries     map[any]*list.Element
	order       list.List // of *cached, most recently used first
}

type cached struct {
	key, value any
	size       int64
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, entries: map[any]*list.Element{}}
}

func (c *cache) get(key any) (value any, ok bool) {
	e, ok := c.entries[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).value, true
}

// put adds a value of about size bytes. It stays at least until the next is
// added, however large it is.
func (c *cache) put(key, value any, size int64) {
	if e, ok := c.entries[key]; ok {
		c.remove(e)
	}
	c.entries[key] = c.order.PushFront(&cached{key, value, size})
	c.used += size
	for c.used > c.limit && c.order.Len() > 1 {
		c.remove(c.order.Back())
	}
}

func (c *cache) remove(e *list.Element) {
	v := c.order.Remove(e).(*cached)
	delete(c.entries, v.key)
	c.used -= v.size
}
