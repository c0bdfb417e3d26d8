package reservoir

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/log/vfs"
)

// Options of a Reservoir.
type Options struct {
	ChunkRows    int   // 4096 where 0; part of what a snapshot means
	SegmentBytes int64 // from which size on a new file is begun; 16 MiB where 0
}

const (
	defaultChunkRows    = 4096
	defaultSegmentBytes = 16 << 20
	poolMost            = 4 // chunks kept for reuse
)

// Reservoir is rows in a directory.
type Reservoir struct {
	fs           vfs.FS
	dir          string
	columns      int
	chunkRows    int
	segmentBytes int64

	begun     bool
	open      *chunk // the rows since the last full chunk
	top       event.Time
	segments  []segment
	dirty     []int64 // first rows of the segments that were written to since sync
	named     bool    // a file was made, or removed behind the end, since
	iterators []*Iterator
	ahead     []*load
	pool      []*chunk
	enc       encoder
	buf       []byte
}

// load is a chunk that is being read.
type load struct {
	first int64
	done  chan error
	chunk *chunk
}

// New makes a reservoir of rows of so many words, the first of which is the time.
// What is in the directory is looked at by Restore; without it, it is removed
// before the first row.
func New(fsys vfs.FS, dir string, columns int, o Options) *Reservoir {
	if o.ChunkRows <= 0 {
		o.ChunkRows = defaultChunkRows
	}
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = defaultSegmentBytes
	}
	r := &Reservoir{fs: fsys, dir: dir, columns: columns, chunkRows: min(o.ChunkRows, maxRows), segmentBytes: o.SegmentBytes, top: event.MinTime}
	r.open = r.chunk(0)
	return r
}

// begin empties the directory.
func (r *Reservoir) begin() error {
	if err := r.fs.MkdirAll(r.dir); err != nil {
		return err
	}
	firsts, err := r.firsts()
	if err != nil {
		return err
	}
	for _, first := range firsts {
		if err := r.fs.Remove(r.file(first)); err != nil {
			return err
		}
	}
	r.begun = true
	return r.fs.SyncDir(filepath.Dir(r.dir))
}

// chunk is an empty one that begins with a row.
func (r *Reservoir) chunk(first int64) *chunk {
	c := &chunk{}
	if n := len(r.pool); n > 0 {
		c, r.pool = r.pool[n-1], r.pool[:n-1]
	}
	c.reset(first, r.columns)
	return c
}

// Append adds a row. floor is a time that neither this row nor any later one is
// before; it does not fall. words is not retained.
func (r *Reservoir) Append(key uint32, words []uint64, floor event.Time) error {
	if !r.begun {
		if err := r.begin(); err != nil {
			return fmt.Errorf("reservoir %s: %w", r.dir, err)
		}
	}
	c := r.open
	c.keys = append(c.keys, key)
	c.words = append(c.words, words...)
	c.floor = append(c.floor, floor)
	c.n++
	r.top = max(r.top, event.Time(words[0]))
	if c.n < r.chunkRows {
		return nil
	}
	c.after, c.top = floor, r.top
	if err := r.write(c); err != nil {
		return fmt.Errorf("reservoir: %w", err)
	}
	r.open = r.chunk(c.first + int64(c.n))
	r.open.before = r.segments[len(r.segments)-1].sum
	if c.refs == 0 {
		r.recycle(c)
	}
	return nil
}

// End is the number that the next row gets.
func (r *Reservoir) End() int64 { return r.open.first + int64(r.open.n) }

// Disk is the bytes in files.
func (r *Reservoir) Disk() int64 {
	n := int64(0)
	for i := range r.segments {
		n += r.segments[i].size
	}
	return n
}

// Bytes is the memory in use.
func (r *Reservoir) Bytes() int64 {
	n := r.open.bytes() + int64(cap(r.enc.plain)+cap(r.enc.out)+8*cap(r.enc.column)+cap(r.buf))
	for i := range r.segments {
		n += 64 + 24*int64(cap(r.segments[i].chunks))
	}
	for i, it := range r.iterators {
		if it.c != nil && it.c != r.open && !slices.ContainsFunc(r.iterators[:i], func(o *Iterator) bool { return o.c == it.c }) {
			n += it.c.bytes()
		}
	}
	for range r.ahead {
		n += int64(r.chunkRows) * int64(12+8*r.columns)
	}
	for _, c := range r.pool {
		n += c.bytes()
	}
	return n
}

func (c *chunk) bytes() int64 { return int64(4*cap(c.keys) + 8*cap(c.words) + 8*cap(c.floor)) }

// Trim tells that no row before from is asked for any more, neither by an iterator nor
// after a Restore. Files go that have none from there on.
func (r *Reservoir) Trim(from int64) error { return r.trim(from) }

// Iterator reads rows in the order of Append.
type Iterator struct {
	r  *Reservoir
	at int64
	c  *chunk // that at is in, or nil
}

// Iterator is one that begins with the row of a number.
func (r *Reservoir) Iterator(at int64) *Iterator {
	it := &Iterator{r: r, at: at}
	r.iterators = append(r.iterators, it)
	return it
}

// Close ends the use of an iterator.
func (it *Iterator) Close() {
	it.leave()
	it.r.iterators = slices.DeleteFunc(it.r.iterators, func(o *Iterator) bool { return o == it })
}

// Rows are rows that follow each other in memory.
type Rows struct {
	Keys  []uint32
	Words []uint64 // of each row, one after the other
}

// Row is the number of the row that comes next.
func (it *Iterator) Row() int64 { return it.at }

// Due is the next rows, as far as they must be read before every row with a time up
// to t has been. It does not move the iterator. The rows are valid until it moves or
// a row is appended. whole tells that they reach the end of a chunk, behind which more
// may be due.
func (it *Iterator) Due(t event.Time) (rows Rows, whole bool, err error) {
	if it.at >= it.r.End() {
		return Rows{}, false, nil
	}
	if it.c == nil || it.at >= it.c.first+int64(it.r.chunkRows) {
		if err := it.enter(); err != nil {
			return Rows{}, false, err
		}
	}
	c := it.c
	from := int(it.at - c.first)
	to := from
	for to < c.n && to < from+near && c.floor[to] <= t {
		to++
	}
	if to == from+near {
		n, _ := slices.BinarySearchFunc(c.floor[to:c.n], t, func(f, t event.Time) int {
			if f <= t {
				return -1
			}
			return 1
		})
		to += n
	}
	return c.rows(from, to), to == it.r.chunkRows, nil
}

// near is how far Due goes step by step.
const near = 8

func (c *chunk) rows(from, to int) Rows {
	return Rows{Keys: c.keys[from:to], Words: c.words[from*c.columns : to*c.columns]}
}

// Skip moves the iterator over n of the rows that Due gave.
func (it *Iterator) Skip(n int) { it.at += int64(n) }

// enter finds the chunk of the iterator's row, and has the next one read.
func (it *Iterator) enter() error {
	r := it.r
	it.leave()
	first := it.at - it.at%int64(r.chunkRows)
	c, err := r.acquire(first)
	if err != nil {
		return r.condemn(err)
	}
	it.c = c
	c.refs++
	r.readAhead(first + int64(r.chunkRows))
	return nil
}

func (it *Iterator) leave() {
	if c := it.c; c != nil {
		it.c = nil
		if c.refs--; c.refs == 0 && c != it.r.open {
			it.r.recycle(c)
		}
	}
}

func (r *Reservoir) recycle(c *chunk) {
	if len(r.pool) < poolMost {
		r.pool = append(r.pool, c)
	}
}

// held is the chunk that begins with a row where it is in memory, else nil.
func (r *Reservoir) held(first int64) *chunk {
	if first == r.open.first {
		return r.open
	}
	for _, it := range r.iterators {
		if it.c != nil && it.c.first == first {
			return it.c
		}
	}
	return nil
}

// acquire is the chunk that begins with a row.
func (r *Reservoir) acquire(first int64) (*chunk, error) {
	if c := r.held(first); c != nil {
		return c, nil
	}
	if i := slices.IndexFunc(r.ahead, func(l *load) bool { return l.first == first }); i >= 0 {
		l := r.ahead[i]
		r.ahead = slices.Delete(r.ahead, i, i+1)
		return l.chunk, <-l.done
	}
	s, err := r.stretch(first)
	if err != nil {
		return nil, err
	}
	c := r.chunk(first)
	return c, s.load(r.fs, c)
}

// readAhead has a chunk read that will be asked for, where it is in a file.
func (r *Reservoir) readAhead(first int64) {
	if r.held(first) != nil || len(r.ahead) >= len(r.iterators) ||
		slices.ContainsFunc(r.ahead, func(l *load) bool { return l.first == first }) {
		return
	}
	s, err := r.stretch(first)
	if err != nil {
		return // it is not there yet
	}
	l := &load{first: first, done: make(chan error, 1), chunk: r.chunk(first)}
	r.ahead = append(r.ahead, l)
	fsys := r.fs
	go func() { l.done <- s.load(fsys, l.chunk) }()
}

// Find visits the rows of a key with a time in (after, upTo], the latest chunk first. It
// reads the keys alone of chunks that have none of them. words is valid during the call.
func (r *Reservoir) Find(key uint32, after, upTo event.Time, visit func(row int64, words []uint64)) error {
	r.open.find(key, after, upTo, visit)
	for i := len(r.segments) - 1; i >= 0; i-- {
		s := &r.segments[i]
		for j := len(s.chunks) - 1; j >= 0; j-- {
			if s.chunks[j].top <= after {
				return nil
			}
			if floor := r.floorBefore(i, j); floor > upTo {
				continue
			}
			if err := r.findIn(s.first+int64(j*r.chunkRows), key, after, upTo, visit); err != nil {
				return r.condemn(err)
			}
		}
	}
	return nil
}

// floorBefore is a time that no row of a chunk is before.
func (r *Reservoir) floorBefore(segment, i int) event.Time {
	if i > 0 {
		return r.segments[segment].chunks[i-1].after
	}
	if segment > 0 {
		before := r.segments[segment-1].chunks
		return before[len(before)-1].after
	}
	return event.MinTime
}

func (c *chunk) find(key uint32, after, upTo event.Time, visit func(row int64, words []uint64)) {
	for i, k := range c.keys {
		if t := event.Time(c.words[i*c.columns]); k == key && t > after && t <= upTo {
			visit(c.first+int64(i), c.row(i))
		}
	}
}

// findIn is Find in the chunk that begins with a row.
func (r *Reservoir) findIn(first int64, key uint32, after, upTo event.Time, visit func(row int64, words []uint64)) error {
	if c := r.held(first); c != nil {
		c.find(key, after, upTo, visit)
		return nil
	}
	s, err := r.stretch(first)
	if err != nil {
		return err
	}
	if r.buf, err = s.read(r.fs, r.buf, int64(headerBytes+1+4*r.chunkRows)); err != nil {
		return err
	}
	h, err := parseHeader(r.buf)
	if err != nil {
		return s.damaged(err)
	}
	if err := s.check(&h); err != nil {
		return err
	}
	keys, err := h.keysOf(r.buf)
	if err != nil {
		return s.damaged(err)
	}
	there := false
	find(keys, h.rows, key, func(int) { there = true })
	if !there {
		return nil
	}
	c := r.chunk(first)
	defer r.recycle(c)
	if err := s.load(r.fs, c); err != nil {
		return err
	}
	c.find(key, after, upTo, visit)
	return nil
}

// snapshotVersion is the first number of a snapshot. Version 2: words of a row, rows
// of a chunk, the first row that is needed, rows in files, the greatest time, and the
// rows since as a chunk, which says behind which chunk of the files it is.
const snapshotVersion = 2

// Snapshot writes where the reservoir stands, once all that is in files is durable.
// from is the first row that Restore is to find.
func (r *Reservoir) Snapshot(w *cep.SnapshotWriter, from int64) error {
	if !r.begun {
		if err := r.begin(); err != nil {
			return fmt.Errorf("reservoir %s: %w", r.dir, err)
		}
	}
	if err := r.sync(); err != nil {
		return fmt.Errorf("reservoir: %w", err)
	}
	w.Uvarint(snapshotVersion)
	w.Uvarint(uint64(r.columns))
	w.Uvarint(uint64(r.chunkRows))
	w.Uvarint(uint64(from))
	w.Uvarint(uint64(r.open.first))
	w.Varint(int64(r.top))
	c := r.open
	c.after, c.top = event.MinTime, r.top
	if c.n > 0 {
		c.after = c.floor[c.n-1]
	}
	w.Bytes(r.enc.encode(c))
	return nil
}

// Restore replaces the rows by those of a snapshot, and returns the first that was
// needed then. Iterators of before are not to be used again.
func (r *Reservoir) Restore(s *cep.SnapshotReader) (from int64, err error) {
	*r = *New(r.fs, r.dir, r.columns, Options{r.chunkRows, r.segmentBytes})
	if v := s.Uvarint(); s.Err() == nil && v != snapshotVersion {
		return 0, fmt.Errorf("reservoir: %w: version %d, this program reads %d", cep.ErrSnapshot, v, snapshotVersion)
	}
	if columns, rows := s.Uvarint(), s.Uvarint(); s.Err() == nil && (columns != uint64(r.columns) || rows != uint64(r.chunkRows)) {
		return 0, fmt.Errorf("reservoir: %w: %d rows of %d words in a chunk where this program has %d of %d", cep.ErrSnapshot, rows, columns, r.chunkRows, r.columns)
	}
	from = int64(s.Uvarint())
	end := int64(s.Uvarint())
	top := event.Time(s.Varint())
	data := s.Bytes(nil, headerBytes+maxRows*(8+9*maxColumns))
	if s.Err() != nil {
		return 0, fmt.Errorf("reservoir: %w", s.Err())
	}
	c := r.open
	if err := r.enc.decode(c, data); err != nil {
		return 0, fmt.Errorf("reservoir: %w: the last rows: %w", cep.ErrSnapshot, err)
	}
	if c.columns != r.columns || c.n >= r.chunkRows || c.first != end || end%int64(r.chunkRows) != 0 || from < 0 || from > end+int64(c.n) {
		*r = *New(r.fs, r.dir, r.columns, Options{r.chunkRows, r.segmentBytes})
		return 0, fmt.Errorf("reservoir: %w: %d rows behind row %d, needed from row %d on", cep.ErrSnapshot, c.n, end, from)
	}
	r.top = top
	if err := r.fs.MkdirAll(r.dir); err != nil {
		return 0, fmt.Errorf("reservoir %s: %w", r.dir, err)
	}
	if err := r.reopen(from, end, c.before); err != nil {
		return 0, fmt.Errorf("reservoir: %w", err)
	}
	r.begun = true
	return from, nil
}
