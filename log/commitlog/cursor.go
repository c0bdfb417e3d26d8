package commitlog

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/weirstream/weir/log/record"
)

// Cursor is a reader's place in a partition. It belongs to one goroutine at a
// time, holds no file open and needs no closing.
type Cursor struct {
	p      *Partition
	offset int64 // next
	seg    *segment
	pos    int64 // of the batch with offset, within seg; -1: to be found
	inside bool  // offset may lie within the batch at pos
	buf    []byte
}

// NewCursor is a cursor that reads from offset on.
func (p *Partition) NewCursor(offset int64) *Cursor {
	return &Cursor{p: p, offset: offset, pos: -1, inside: true}
}

// Offset is the offset that the next Read begins at.
func (c *Cursor) Offset() int64 { return c.offset }

// SeekTo moves the cursor.
func (c *Cursor) SeekTo(offset int64) { c.offset, c.seg, c.pos, c.inside = offset, nil, -1, true }

// Read returns whole batches from c's offset to the high watermark, each with a
// CRC that was just checked, at most bytesMax bytes unless the first batch alone
// is larger; nothing at the high watermark. It advances c. The bytes belong to
// the cursor until its next Read. The first batch may begin before c's offset.
//
// Errors: ErrOffsetOutOfRange, *CorruptError (the cursor stays before the damage),
// ErrFailed at the high watermark of a partition that failed, ErrDeleted,
// ErrClosed.
func (p *Partition) Read(c *Cursor, bytesMax int) ([]byte, error) { return p.read(c, bytesMax, false) }

// ReadCommitted is Read up to the last stable offset. Aborted and control batches
// are still in what it returns, see AbortedTransactions.
func (p *Partition) ReadCommitted(c *Cursor, bytesMax int) ([]byte, error) {
	return p.read(c, bytesMax, true)
}

func (p *Partition) read(c *Cursor, bytesMax int, committed bool) ([]byte, error) {
	for {
		at, more, err := p.place(c, committed)
		if !more || err != nil {
			return nil, err
		}
		out, err := p.readAt(c, at, bytesMax)
		if errors.Is(err, errReplaced) {
			c.SeekTo(c.offset)
			continue
		}
		if len(out) > 0 || err != nil {
			return out, err
		}
	}
}

// bounds are where a read ends.
type bounds struct {
	limit int64 // in bytes, within the segment
	stop  int64 // the first offset not to be read
	epochs
}

// place puts c on the segment it reads from, and returns up to where; more is
// false at the high watermark, or at the last stable offset.
func (p *Partition) place(c *Cursor, committed bool) (at bounds, more bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone != nil {
		return at, false, p.wrap(p.gone)
	}
	if c.offset < p.start || c.offset > p.end {
		return at, false, p.wrap(fmt.Errorf("%w: %d, there are %d to %d", ErrOffsetOutOfRange, c.offset, p.start, p.hw))
	}
	at.stop, at.epochs = p.hw, p.epochs
	if committed {
		at.stop = p.stable()
	}
	if c.offset >= at.stop {
		return at, false, p.wrap(p.blocked())
	}
	if c.seg != nil && p.segs[p.find(c.seg.base)] != c.seg {
		c.SeekTo(c.offset) // it was removed, or replaced by compaction
	}
	if c.seg != nil && c.pos >= 0 {
		if at.limit = p.limit(c.seg); c.pos < at.limit {
			return at, true, nil
		}
		// At the end of a segment.
		i := p.find(c.seg.base) + 1
		if i >= len(p.segs) {
			return at, false, nil
		}
		c.seg, c.pos = p.segs[i], 0
		at.limit = p.limit(c.seg)
		return at, true, nil
	}
	c.seg, c.pos = p.segs[p.find(c.offset)], -1
	at.limit = p.limit(c.seg)
	return at, true, nil
}

// find is the index of the last segment with a base of at most offset, the first
// where there is none. The caller holds mu.
func (p *Partition) find(offset int64) int {
	i, ok := slices.BinarySearchFunc(p.segs, offset, func(s *segment, offset int64) int {
		switch {
		case s.base < offset:
			return -1
		case s.base > offset:
			return 1
		}
		return 0
	})
	if !ok {
		i--
	}
	return max(i, 0)
}

// limit is up to where seg can be read. The caller holds mu.
func (p *Partition) limit(seg *segment) int64 {
	switch {
	case seg.base < p.hwPos.base:
		return seg.size
	case seg.base == p.hwPos.base:
		return p.hwPos.pos
	}
	return 0
}

// readAt reads from c's segment below limit; nothing where it holds no batch at
// or after c's offset.
func (p *Partition) readAt(c *Cursor, at bounds, bytesMax int) ([]byte, error) {
	limit := at.limit
	h, err := p.log.files.acquire(c.seg, false)
	if err != nil {
		return nil, p.lost(c.seg, max(c.pos, 0), c.offset, err)
	}
	defer h.release()
	if c.pos < 0 {
		if err := p.seek(c, h, at); err != nil || c.pos >= limit {
			return nil, err
		}
	}
	n, err := c.fill(h, min(max(int64(bytesMax), record.HeaderSize), limit-c.pos))
	if err != nil {
		return nil, p.lost(c.seg, c.pos, c.offset, err)
	}
	if first, err := record.ParseHeader(c.buf[:n]); err == nil && first.Size() > n && int64(first.Size()) <= limit-c.pos {
		if n, err = c.fill(h, int64(first.Size())); err != nil {
			return nil, p.lost(c.seg, c.pos, c.offset, err)
		}
	}
	whole, d := c.checked(c.buf[:n], at)
	if d != nil && whole == 0 {
		return nil, p.damaged(c.seg, d)
	}
	return c.buf[:whole], nil
}

// fill reads n bytes at c's position, fewer where the file ends.
func (c *Cursor) fill(h *handle, n int64) (int, error) {
	if int64(cap(c.buf)) < n {
		c.buf = make([]byte, n)
	}
	got, err := h.f.ReadAt(c.buf[:n], c.pos)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	return got, nil
}

// checked is how many bytes of b are whole and valid batches. c advances past
// them. Where there is none, d says why.
func (c *Cursor) checked(b []byte, at bounds) (whole int, d *damage) {
	for whole < len(b) && c.offset < at.stop {
		h, err := record.CheckStored(b[whole:])
		switch {
		case errors.Is(err, record.ErrShort) && whole > 0:
			return whole, nil
		case err == nil && (h.BaseOffset > c.offset || h.LastOffset() < c.offset || h.BaseOffset != c.offset && !c.inside):
			err = fmt.Errorf("base offset %d where %d must be", h.BaseOffset, c.offset)
		case err == nil && h.LeaderEpoch != at.epochs.at(h.BaseOffset):
			err = fmt.Errorf("leader epoch %d where %d must be", h.LeaderEpoch, at.epochs.at(h.BaseOffset))
		}
		if err != nil {
			// What is good before goes out first; the next Read comes here again.
			return whole, &damage{pos: c.pos, offset: c.offset, reason: err.Error()}
		}
		whole += h.Size()
		c.pos += int64(h.Size())
		c.offset, c.inside = h.LastOffset()+1, false
	}
	if whole == 0 {
		return 0, &damage{pos: c.pos, offset: c.offset, reason: fmt.Sprintf("the file ends before byte %d", at.limit)}
	}
	return whole, nil
}

// seek sets c's position to the batch that has its offset, or the first after it;
// to limit where there is none.
func (p *Partition) seek(c *Cursor, h *handle, at bounds) error {
	rel := c.offset - c.seg.base
	pos, base, err := p.indexed(c.seg, func(e *indexEntry) bool { return int64(e.rel) > rel })
	if err != nil {
		return p.wrap(err)
	}
	s := scanner{f: h.f, epochs: at.epochs, pos: pos, next: base, limit: at.limit, buf: c.buf[:0], small: true, crc: true}
	defer func() { c.buf = s.buf[:0] }()
	for {
		head, _, d, err := s.batch()
		if errors.Is(err, io.EOF) {
			c.pos = at.limit
			return nil
		}
		if d != nil {
			// Another batch may be damaged, and the one looked for not.
			var found bool
			if found, err = s.resync(); err == nil && (!found || s.next > c.offset) {
				return p.damaged(c.seg, d)
			}
		}
		if err != nil {
			return p.lost(c.seg, s.pos, c.offset, err)
		}
		if d == nil && head.LastOffset() >= c.offset {
			c.pos = s.pos - int64(head.Size())
			return nil
		}
	}
}

// indexed is a position in seg, and its offset, from which to look for what does
// not lie past an index entry.
func (p *Partition) indexed(seg *segment, past func(e *indexEntry) bool) (pos, offset int64, err error) {
	p.mu.Lock()
	if n := len(p.segs); n > 0 && p.segs[n-1] == seg {
		defer p.mu.Unlock()
		pos, offset = seg.index.find(past)
		return pos, seg.base + offset, nil
	}
	p.mu.Unlock()
	x, err := p.log.sealedIndex(seg)
	if err != nil {
		return 0, 0, err
	}
	pos, offset = x.find(past)
	return pos, seg.base + offset, nil
}

// damaged makes the error for a batch that cannot be served; the first time, it
// is logged and counted.
func (p *Partition) damaged(seg *segment, d *damage) error {
	e := &CorruptError{Topic: p.topic.name, Partition: p.index, Offset: d.offset, File: seg.file, Position: d.pos, Reason: d.reason}
	p.log.damage.found(e)
	return e
}

// lost is the error for a file that cannot be read: the error of the partition's
// end, where that is why, else of the disk.
func (p *Partition) lost(seg *segment, pos, offset int64, err error) error {
	p.mu.Lock()
	gone, start := p.gone, p.start
	p.mu.Unlock()
	switch {
	case gone != nil:
		return p.wrap(gone)
	case offset < start:
		return p.wrap(fmt.Errorf("%w: %d, the first is %d", ErrOffsetOutOfRange, offset, start))
	}
	return p.wrap(fmt.Errorf("read %s at byte %d, offset %d: %w", seg.file, pos, offset, err))
}

// OffsetForTime is the first record with a timestamp of at least ms (ms since the
// epoch), below the high watermark; offset and timestamp are -1 where there is
// none. Errors: as Read.
func (p *Partition) OffsetForTime(ms int64) (offset, timestamp int64, err error) {
	for {
		offset, timestamp, err = p.offsetForTime(ms)
		if !errors.Is(err, errReplaced) {
			return offset, timestamp, err
		}
	}
}

func (p *Partition) offsetForTime(ms int64) (offset, timestamp int64, err error) {
	p.mu.Lock()
	segs := slices.Clone(p.segs)
	gone := p.gone
	p.mu.Unlock()
	if gone != nil {
		return -1, -1, p.wrap(gone)
	}
	for _, seg := range segs {
		newest, err := p.newest(seg)
		if err != nil {
			return -1, -1, p.wrap(err)
		}
		if newest < ms {
			continue
		}
		if offset, timestamp, err = p.firstSince(seg, ms); offset >= 0 || err != nil {
			return offset, timestamp, err
		}
	}
	return -1, -1, nil
}

// newest is the largest timestamp in seg.
func (p *Partition) newest(seg *segment) (int64, error) {
	p.mu.Lock()
	active := p.segs[len(p.segs)-1] == seg
	known, newest := seg.timed, seg.maxTime
	if active {
		known, newest = true, seg.index.maxTime
	}
	p.mu.Unlock()
	if known {
		return newest, nil
	}
	x, err := p.log.sealedIndex(seg)
	if err != nil {
		return 0, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	seg.maxTime, seg.timed = x.maxTime, true
	return x.maxTime, nil
}

// firstSince looks for a record in one segment.
func (p *Partition) firstSince(seg *segment, ms int64) (offset, timestamp int64, err error) {
	h, err := p.log.files.acquire(seg, false)
	if err != nil {
		return -1, -1, p.lost(seg, 0, seg.base, err)
	}
	defer h.release()
	pos, base, err := p.indexed(seg, func(e *indexEntry) bool { return e.timeBefore >= ms })
	if err != nil {
		return -1, -1, p.wrap(err)
	}
	p.mu.Lock()
	limit, start, epochs := p.limit(seg), p.start, p.epochs
	p.mu.Unlock()
	s := scanner{f: h.f, epochs: epochs, pos: pos, next: base, limit: limit}
	for {
		at := s.pos
		head, _, d, err := s.batch()
		if errors.Is(err, io.EOF) {
			return -1, -1, nil
		}
		if err != nil {
			return -1, -1, p.lost(seg, at, s.next, err)
		}
		if d != nil {
			return -1, -1, p.damaged(seg, d)
		}
		if head.MaxTimestamp < ms || head.LastOffset() < start {
			continue
		}
		if offset, timestamp, err = p.firstInBatch(&s, at, head.BaseOffset, ms, start); offset >= 0 || err != nil {
			return offset, timestamp, err
		}
	}
}

// firstInBatch looks for a record in the batch at a position. Where the records
// cannot be decoded the batch itself is the answer.
func (p *Partition) firstInBatch(s *scanner, at, base, ms, start int64) (offset, timestamp int64, err error) {
	one := scanner{f: s.f, epochs: s.epochs, pos: at, next: base, limit: s.limit, crc: true}
	h, b, d, err := one.batch()
	if err != nil {
		return -1, -1, p.wrap(err)
	}
	if d != nil {
		return -1, -1, nil // reading will name it
	}
	r := record.NewReader(record.Options{SkipCRC: true})
	r.Reset(b)
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return -1, -1, nil
		}
		if err != nil {
			return h.BaseOffset, h.MaxTimestamp, nil
		}
		if rec.Timestamp >= ms && rec.Offset >= start {
			return rec.Offset, rec.Timestamp, nil
		}
	}
}
