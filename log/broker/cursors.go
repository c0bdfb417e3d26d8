package broker

import (
	"sync/atomic"

	"github.com/weirstream/weir/log/commitlog"
)

const (
	// maxCursors and maxCursorBytes bound what one connection keeps between
	// fetches; maxIdleBytes bounds the buffers that all connections keep.
	maxCursors     = 64
	maxCursorBytes = 4 << 20
	maxIdleBytes   = 64 << 20
)

// cursors are a connection's places in partitions, kept from one fetch to the
// next because a consumer nearly always goes on where it stopped: the log then
// need not look the place up. They belong to the connection's writer.
type cursors struct {
	idle  map[*commitlog.Partition]*cursor
	total *atomic.Int64 // bytes of the buffers that all connections keep
}

// cursor is a place in a partition, with a buffer that holds what was read there.
type cursor struct {
	partition *commitlog.Partition
	c         *commitlog.Cursor
	size      int64 // of the largest read
}

// take is a cursor of p at offset; nobody else has it until it is put back.
func (cs *cursors) take(p *commitlog.Partition, offset int64) *cursor {
	c := cs.idle[p]
	if c == nil {
		return &cursor{partition: p, c: p.NewCursor(offset)}
	}
	delete(cs.idle, p)
	cs.total.Add(-c.size)
	if c.c.Offset() != offset {
		c.c.SeekTo(offset)
	}
	return c
}

// read reads whole batches; they are the cursor's until it is put back.
func (c *cursor) read(bytesMax int, committed bool) ([]byte, error) {
	from := c.partition.Read
	if committed {
		from = c.partition.ReadCommitted
	}
	data, err := from(c.c, max(1, bytesMax))
	c.size = max(c.size, int64(len(data)))
	return data, err
}

// put keeps c for the next fetch, within the bounds.
func (cs *cursors) put(c *cursor) {
	if c.size > maxCursorBytes || len(cs.idle) >= maxCursors || cs.idle[c.partition] != nil {
		return
	}
	if cs.total.Add(c.size) > maxIdleBytes {
		cs.total.Add(-c.size)
		return
	}
	if cs.idle == nil {
		cs.idle = make(map[*commitlog.Partition]*cursor)
	}
	cs.idle[c.partition] = c
}

// close forgets all.
func (cs *cursors) close() {
	for _, c := range cs.idle {
		cs.total.Add(-c.size)
	}
	cs.idle = nil
}
