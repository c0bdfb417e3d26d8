package reservoir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/log/vfs"
)

const segmentSuffix = ".rows"

// segment is a file of chunks.
type segment struct {
	first  int64 // number of its first row
	size   int64
	chunks []place
	sum    uint32 // of the last chunk
}

// place is where a chunk is in its segment, and what is asked of it without reading.
type place struct {
	at         int64
	after, top event.Time
}

func (r *Reservoir) file(first int64) string {
	return filepath.Join(r.dir, fmt.Sprintf("%020d%s", first, segmentSuffix))
}

// place is where the chunk is that begins with a row: its segment, and which of it.
func (r *Reservoir) place(first int64) (*segment, int, bool) {
	i, found := slices.BinarySearchFunc(r.segments, first, func(s segment, row int64) int {
		switch {
		case row < s.first:
			return 1
		case row >= s.first+int64(len(s.chunks)*r.chunkRows):
			return -1
		}
		return 0
	})
	if !found {
		return nil, 0, false
	}
	s := &r.segments[i]
	return s, int(first-s.first) / r.chunkRows, true
}

// end is where the chunk at an index ends in its file.
func (s *segment) end(i int) int64 {
	if i+1 < len(s.chunks) {
		return s.chunks[i+1].at
	}
	return s.size
}

// write appends a full chunk to the newest segment, or to a new one.
func (r *Reservoir) write(c *chunk) error {
	data := r.enc.encode(c)
	if n := len(r.segments); n == 0 || r.segments[n-1].size >= r.segmentBytes {
		r.segments = append(r.segments, segment{first: c.first})
		r.named = true
	}
	s := &r.segments[len(r.segments)-1]
	name := r.file(s.first)
	f, err := r.fs.OpenFile(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, s.size)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	s.chunks = append(s.chunks, place{s.size, c.after, c.top})
	s.size += int64(len(data))
	s.sum = sumOf(data)
	if len(r.dirty) == 0 || r.dirty[len(r.dirty)-1] != s.first {
		r.dirty = append(r.dirty, s.first)
	}
	return nil
}

// sync makes durable what was written.
func (r *Reservoir) sync() error {
	for _, first := range r.dirty {
		f, err := r.fs.OpenFile(r.file(first))
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("sync %s: %w", r.file(first), err)
		}
	}
	r.dirty = r.dirty[:0]
	if r.named {
		if err := r.fs.SyncDir(r.dir); err != nil {
			return err
		}
	}
	r.named = false
	return nil
}

// stretch is the bytes of a chunk in a file.
type stretch struct {
	name       string
	first      int64
	chunkRows  int
	columns    int
	from, size int64
}

func (r *Reservoir) stretch(first int64) (stretch, error) {
	s, i, found := r.place(first)
	if !found {
		return stretch{}, fmt.Errorf("reservoir %s: %w: row %d is in no file", r.dir, ErrDamaged, first)
	}
	return stretch{r.file(s.first), first, r.chunkRows, r.columns, s.chunks[i].at, s.end(i) - s.chunks[i].at}, nil
}

// read reads up to so many bytes of it, into buf where they fit. An error of reading
// is damage as well: what a disk does not give back is lost.
func (s *stretch) read(fsys vfs.FS, buf []byte, most int64) ([]byte, error) {
	f, err := fsys.Open(s.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.damaged(err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	n := min(most, s.size)
	buf = slices.Grow(buf[:0], int(n))[:n]
	if got, err := f.ReadAt(buf, s.from); int64(got) < n {
		return nil, s.damaged(err)
	}
	return buf, nil
}

func (s *stretch) damaged(err error) error {
	return &damage{s.name, fmt.Errorf("%s: the chunk of row %d at byte %d is %w: %w", s.name, s.first, s.from, ErrDamaged, err)}
}

// damage is an error with the file that has it.
type damage struct {
	file string
	err  error
}

func (d *damage) Error() string { return d.err.Error() }
func (d *damage) Unwrap() error { return d.err }

// check refuses a chunk of other rows than those looked for.
func (s *stretch) check(h *header) error {
	if h.first != s.first || h.rows != s.chunkRows || h.columns != s.columns {
		return s.damaged(fmt.Errorf("it has %d rows of %d columns from row %d", h.rows, h.columns, h.first))
	}
	return nil
}

// load reads and decodes a chunk. It touches nothing of the reservoir.
func (s *stretch) load(fsys vfs.FS, c *chunk) error {
	var e encoder
	data, err := s.read(fsys, nil, s.size)
	if err != nil {
		return err
	}
	if err := e.decode(c, data); err != nil {
		return s.damaged(err)
	}
	return s.check(&header{first: c.first, rows: c.n, columns: c.columns})
}

// condemn removes the file of a damaged chunk: nobody can use it, and Restore is to
// find that it is missing. It returns the error.
func (r *Reservoir) condemn(err error) error {
	var d *damage
	if !errors.As(err, &d) {
		return err
	}
	if gone := r.fs.Remove(d.file); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		return errors.Join(err, gone)
	}
	return err
}

// trim removes the oldest segments, as far as they have no row from a number on.
func (r *Reservoir) trim(from int64) error {
	for len(r.segments) > 0 {
		s := &r.segments[0]
		if s.first+int64(len(s.chunks)*r.chunkRows) > from {
			return nil
		}
		if err := r.fs.Remove(r.file(s.first)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		r.dirty = slices.DeleteFunc(r.dirty, func(first int64) bool { return first == s.first })
		r.segments = slices.Delete(r.segments, 0, 1)
	}
	return nil
}

// firsts are the first rows of the segment files that there are, in order.
func (r *Reservoir) firsts() ([]int64, error) {
	names, err := r.fs.List(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var firsts []int64
	for _, n := range names {
		digits, ours := strings.CutSuffix(n, segmentSuffix)
		if first, err := strconv.ParseInt(digits, 10, 64); ours && err == nil && first >= 0 {
			firsts = append(firsts, first)
		}
	}
	slices.Sort(firsts)
	return firsts, err
}

// reopen finds the chunks of the rows [from, end) in the files, the last of them with a
// sum, and cuts what is behind end.
func (r *Reservoir) reopen(from, end int64, sum uint32) error {
	firsts, err := r.firsts()
	if err != nil {
		return err
	}
	for _, first := range firsts {
		if first >= end {
			if err := r.fs.Remove(r.file(first)); err != nil {
				return err
			}
			continue
		}
		if err := r.reopenSegment(first, end); err != nil {
			return err
		}
	}
	// What is removed and cut, here or by a Restore before that nobody knows of, is to
	// stay so once a snapshot has been made: the next rows may begin other files, and
	// a crash that brought back the old ones would leave rows in two.
	r.named = true
	others := false
	if n := len(r.segments); n > 0 {
		r.dirty = append(r.dirty, r.segments[n-1].first)
		others = r.segments[n-1].sum != sum || r.endOfSegments() != end
	}
	from -= from % int64(r.chunkRows)
	for next := from; next < end; {
		s, _, found := r.place(next)
		if !found {
			return fmt.Errorf("reservoir %s: %w: the rows from %d on are in no file", r.dir, ErrDamaged, next)
		}
		next = s.first + int64(len(s.chunks)*r.chunkRows)
	}
	switch {
	case !others:
		return nil
	case from >= end:
		return r.trim(math.MaxInt64) // nobody needs them
	}
	return fmt.Errorf("reservoir %s: %w: the rows before %d are not those of the snapshot: the state was made again since", r.dir, ErrDamaged, end)
}

// reopenSegment walks the chunks of a file up to row end and cuts what is behind. A
// file that ends before, or has other rows, shows in what is missing.
func (r *Reservoir) reopenSegment(first, end int64) error {
	f, err := r.fs.OpenFile(r.file(first))
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	s := segment{first: first}
	var head [headerBytes]byte
	for row := first; row < end; row += int64(r.chunkRows) {
		if n, err := f.ReadAt(head[:], s.size); n < headerBytes {
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("%s: %w", r.file(first), err)
			}
			break
		}
		h, err := parseHeader(head[:])
		if err != nil || h.first != row || h.rows != r.chunkRows || h.columns != r.columns || s.size+h.size() > size {
			break
		}
		if before, known := r.sumBefore(&s, row); known && h.before != before {
			break
		}
		s.sum = h.sum
		s.chunks = append(s.chunks, place{s.size, h.after, h.top})
		s.size += h.size()
	}
	if len(s.chunks) == 0 {
		return nil
	}
	if len(r.segments) > 0 && r.endOfSegments() != first {
		// A crash brought back files that were removed, but not all between.
		if err := r.trim(first); err != nil {
			return err
		}
		if len(r.segments) > 0 {
			return fmt.Errorf("reservoir %s: %w: the rows from %d on are in two files", r.dir, ErrDamaged, first)
		}
	}
	r.segments = append(r.segments, s)
	if s.size < size {
		return f.Truncate(s.size)
	}
	return nil
}

// sumBefore is the sum of the chunk before a row that is the next of a segment, where
// that chunk is there.
func (r *Reservoir) sumBefore(s *segment, row int64) (sum uint32, known bool) {
	if len(s.chunks) > 0 {
		return s.sum, true
	}
	if len(r.segments) > 0 && r.endOfSegments() == row {
		return r.segments[len(r.segments)-1].sum, true
	}
	return 0, false
}

func (r *Reservoir) endOfSegments() int64 {
	s := &r.segments[len(r.segments)-1]
	return s.first + int64(len(s.chunks)*r.chunkRows)
}
