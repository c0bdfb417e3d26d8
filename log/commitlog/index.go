package commitlog

import (
	"container/list"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"sort"
	"sync"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// indexInterval is the number of bytes between index entries, as Kafka's.
const indexInterval = 4096

// noTime is a maximum over no timestamps.
const noTime = math.MinInt64

// indexEntry says where a batch begins and what came before it.
type indexEntry struct {
	rel        uint32 // base offset, relative to the segment's
	pos        uint32
	timeBefore int64 // largest timestamp of the batches before pos
}

// index finds batches by offset and by time. It belongs to one segment.
type index struct {
	entries []indexEntry
	covered int64 // batches below this position are in it
	end     int64 // the offset after them
	maxTime int64 // the largest of their timestamps
	saved   int   // entries that are in the file
	savedTo int64 // covered, as of the file
	fileEnd int64 // where the file's next block goes; 0: write the file anew
}

func (x *index) init(base int64) { *x = index{end: base, maxTime: noTime} }

// add takes in the batch at position covered.
func (x *index) add(base int64, h *record.BatchHeader) {
	if n := len(x.entries); n == 0 || x.covered-int64(x.entries[n-1].pos) >= indexInterval {
		x.entries = append(x.entries, indexEntry{rel: uint32(h.BaseOffset - base), pos: uint32(x.covered), timeBefore: x.maxTime})
	}
	x.covered += int64(h.Size())
	x.end = h.LastOffset() + 1
	x.maxTime = max(x.maxTime, h.MaxTimestamp)
}

// find is where to start looking for the batch with an offset, or for the first
// one with a timestamp: the position of a batch and its base offset, relative to
// the segment's. past says of an entry that what is looked for lies before it.
func (x *index) find(past func(e *indexEntry) bool) (pos, rel int64) {
	i := sort.Search(len(x.entries), func(i int) bool { return past(&x.entries[i]) })
	if i == 0 {
		return 0, 0
	}
	e := x.entries[i-1]
	return int64(e.pos), int64(e.rel)
}

// A block of an index file holds the entries added since the block before:
// count, CRC-32C of what follows, covered, end, maxTime, entries.
const (
	blockHeader = 4 + 4 + 8 + 8 + 8
	entrySize   = 4 + 4 + 8
)

func (x *index) block() []byte {
	entries := x.entries[x.saved:]
	b := make([]byte, 0, blockHeader+len(entries)*entrySize)
	b = binary.BigEndian.AppendUint32(b, uint32(len(entries)))
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(x.covered))
	b = binary.BigEndian.AppendUint64(b, uint64(x.end))
	b = binary.BigEndian.AppendUint64(b, uint64(x.maxTime))
	for _, e := range entries {
		b = binary.BigEndian.AppendUint32(b, e.rel)
		b = binary.BigEndian.AppendUint32(b, e.pos)
		b = binary.BigEndian.AppendUint64(b, uint64(e.timeBefore))
	}
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return b
}

// save appends to the index file what is not in it yet, and cuts what an earlier
// life left after it.
func (x *index) save(fsys vfs.FS, name string) error {
	if x.fileEnd > 0 && x.savedTo == x.covered {
		return nil
	}
	f, err := fsys.OpenFile(name)
	if err != nil {
		return err
	}
	at, b := x.fileEnd, []byte(nil)
	if at == 0 {
		x.saved = 0
		b = indexKind.wrap(nil)
	}
	b = append(b, x.block()...)
	if err = writeAll(f, b, at); err == nil {
		x.saved, x.savedTo, x.fileEnd = len(x.entries), x.covered, at+int64(len(b))
		err = f.Truncate(x.fileEnd) // what an earlier life left behind
	}
	return errors.Join(err, f.Close())
}

// load reads an index file as far as it is valid and does not go past limit, the
// size of its segment. An absent or damaged file is an empty index; a newer one
// is ErrNewerFormat.
func (x *index) load(fsys vfs.FS, name string, base, limit int64) error {
	x.init(base)
	b, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := indexKind.header(name, b); errors.Is(err, ErrNewerFormat) {
		return err
	} else if err != nil {
		return nil
	}
	x.fileEnd = envelopeSize
	for x.loadBlock(b[x.fileEnd:], limit) {
	}
	if x.covered == 0 {
		x.fileEnd = 0
	}
	x.saved, x.savedTo = len(x.entries), x.covered
	return nil
}

func (x *index) loadBlock(b []byte, limit int64) bool {
	if len(b) < blockHeader {
		return false
	}
	n := int64(binary.BigEndian.Uint32(b))
	size := blockHeader + n*entrySize
	if size > int64(len(b)) || crc32.Checksum(b[8:size], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return false
	}
	f := newFields(b[8:size])
	covered, end, maxTime := f.i64(), f.i64(), f.i64()
	if covered > limit || covered < x.covered || end < x.end {
		return false
	}
	for range n {
		x.entries = append(x.entries, indexEntry{rel: f.u32(), pos: f.u32(), timeBefore: f.i64()})
	}
	x.covered, x.end, x.maxTime = covered, end, maxTime
	x.fileEnd += size
	return true
}

// extend scans the segment from where the index ends to limit, by headers alone.
// Damage ends it without an error: the index then covers what lies before.
func (x *index) extend(f vfs.File, base, limit int64) error {
	s := scanner{f: f, pos: x.covered, next: x.end, limit: limit, anyEpoch: true}
	for {
		h, _, d, err := s.batch()
		if errors.Is(err, io.EOF) || d != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if h.LastOffset()-base > math.MaxUint32 {
			return fmt.Errorf("offset %d does not belong in the segment of base %d", h.LastOffset(), base)
		}
		x.add(base, &h)
	}
}

// maxIndexes bounds the indexes of sealed segments in memory; one of 128 MiB has
// half a megabyte.
const maxIndexes = 64

// indexCache holds the complete indexes of sealed segments, the longest unused
// go first.
type indexCache struct {
	mu   sync.Mutex
	used list.List // of cachedIndex, the longest unused first
	all  map[*segment]*list.Element
}

type cachedIndex struct {
	seg *segment
	x   *index
}

// get is the index of a sealed segment, which the caller must not modify. One
// that is damaged or incomplete is made anew from the segment.
func (l *Log) sealedIndex(seg *segment) (*index, error) {
	c := &l.indexes
	c.mu.Lock()
	if e := c.all[seg]; e != nil {
		c.used.MoveToBack(e)
		c.mu.Unlock()
		return e.Value.(cachedIndex).x, nil
	}
	c.mu.Unlock()
	x := &index{}
	if err := x.load(l.fs, seg.indexFile(), seg.base, seg.size); err != nil {
		return nil, err
	}
	if x.covered < seg.size {
		h, err := l.files.acquire(seg, false)
		if err != nil {
			return nil, err
		}
		err = x.extend(h.f, seg.base, seg.size)
		h.release()
		if err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if seg.noIndex {
		return nil, errReplaced
	}
	if x.savedTo < x.covered { // with mu: once the segment was dropped, the name is another's
		if err := x.save(l.fs, seg.indexFile()); err != nil {
			l.logger.Warn("index not saved; it will be made again", "file", seg.indexFile(), "err", err)
		}
	}
	if c.all == nil {
		c.all = map[*segment]*list.Element{}
	}
	if c.all[seg] == nil {
		c.all[seg] = c.used.PushBack(cachedIndex{seg, x})
		if c.used.Len() > maxIndexes {
			c.remove(c.used.Front())
		}
	}
	return x, nil
}

func (c *indexCache) remove(e *list.Element) {
	delete(c.all, e.Value.(cachedIndex).seg)
	c.used.Remove(e)
}

// drop forgets the index of a segment that is removed.
func (c *indexCache) drop(seg *segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seg.noIndex = true
	if e := c.all[seg]; e != nil {
		c.remove(e)
	}
}
