package reservoir

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"

	"github.com/klauspost/compress/s2"

	"github.com/weirstream/weir/ingest/event"
)

// A chunk in a file is a header, the keys and the rows, each with a checksum:
//
//	magic, which is the version    4 bytes
//	rows, columns                  4, 4
//	bytes of the keys              4
//	bytes of the rows, and before compression  4, 4
//	number of the first row        8
//	time that the first is told from  8
//	floor: no later row is before it  8
//	top: no row up to here is behind it  8
//	CRC-32C of the keys and of the rows  4, 4
//	before: the last field of the chunk before, 0 of none  4
//	CRC-32C of the header up to here  4
//
// So the last field says which chunk it is, and which were before it.
//
// All numbers are little-endian. A column of numbers stands in byte planes: how
// many planes there are, then the lowest byte of each number, the next byte of each,
// and so on as far as any is not 0. The keys are one such column, as they are, so that
// one key is looked for without reading the rest; the rows are one for each word,
// signed numbers folded (0, -1, 1, -2), times as differences from the one before, all
// compressed with S2.
const (
	chunkMagic  = "WRC2"
	headerBytes = 72
	maxRows     = 1 << 16
	maxColumns  = 80
)

// ErrDamaged is wrapped by every error about a chunk that is not what was written.
var ErrDamaged = errors.New("damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunk is some rows in memory.
type chunk struct {
	first   int64 // number of the first row
	n       int
	columns int
	keys    []uint32
	words   []uint64     // columns for each row, of which the first is the time
	floor   []event.Time // for each row, a time that neither it nor any later row is before
	after   event.Time   // the same for the rows behind the chunk
	top     event.Time   // no row up to the chunk's last is behind it
	before  uint32       // the sum of the chunk before
	refs    int          // iterators in it
}

func (c *chunk) reset(first int64, columns int) {
	c.first, c.n, c.columns, c.before, c.refs = first, 0, columns, 0, 0
	c.keys, c.words, c.floor = c.keys[:0], c.words[:0], c.floor[:0]
}

func (c *chunk) row(i int) []uint64 { return c.words[i*c.columns : (i+1)*c.columns] }

// header is what a chunk's first bytes say.
type header struct {
	rows, columns             int
	keyBytes, rowBytes, plain int
	first                     int64
	base, after, top          event.Time
	keySum, rowSum            uint32
	before, sum               uint32
}

func (h *header) size() int64 { return int64(headerBytes + h.keyBytes + h.rowBytes) }

// encoder keeps the buffers of encoding and decoding.
type encoder struct {
	column []uint64
	plain  []byte
	out    []byte
}

// encode is the chunk as it is in a file, valid until the next call.
func (e *encoder) encode(c *chunk) []byte {
	e.column = e.column[:0]
	for _, k := range c.keys {
		e.column = append(e.column, uint64(k))
	}
	var head [headerBytes]byte
	e.out = appendPlanes(append(e.out[:0], head[:]...), e.column)
	keyBytes := len(e.out) - headerBytes
	base := uint64(0)
	if c.n > 0 {
		base = c.words[0]
	}
	e.plain = e.plain[:0]
	for col := range c.columns {
		e.column = e.column[:0]
		last := base
		for i := col; i < len(c.words); i += c.columns {
			w := c.words[i]
			if col == 0 {
				w, last = w-last, w
			}
			e.column = append(e.column, fold(w))
		}
		e.plain = appendPlanes(e.plain, e.column)
	}
	rows := len(e.out)
	e.out = append(e.out, make([]byte, s2.MaxEncodedLen(len(e.plain)))...)
	e.out = e.out[:rows+len(s2.Encode(e.out[rows:], e.plain))]
	h := e.out[:headerBytes]
	copy(h, chunkMagic)
	for i, n := range []int{c.n, c.columns, keyBytes, len(e.out) - rows, len(e.plain)} {
		binary.LittleEndian.PutUint32(h[4+4*i:], uint32(n))
	}
	for i, n := range []uint64{uint64(c.first), base, uint64(c.after), uint64(c.top)} {
		binary.LittleEndian.PutUint64(h[24+8*i:], n)
	}
	binary.LittleEndian.PutUint32(h[56:], crc32.Checksum(e.out[headerBytes:rows], castagnoli))
	binary.LittleEndian.PutUint32(h[60:], crc32.Checksum(e.out[rows:], castagnoli))
	binary.LittleEndian.PutUint32(h[64:], c.before)
	binary.LittleEndian.PutUint32(h[68:], crc32.Checksum(h[:68], castagnoli))
	return e.out
}

// sumOf is which chunk an encoded one is.
func sumOf(data []byte) uint32 { return binary.LittleEndian.Uint32(data[68:]) }

// fold makes small numbers of either sign small.
func fold(w uint64) uint64   { return w<<1 ^ uint64(int64(w)>>63) }
func unfold(w uint64) uint64 { return w>>1 ^ -(w & 1) }

// appendPlanes appends a column in byte planes.
func appendPlanes(dst []byte, column []uint64) []byte {
	var all uint64
	for _, w := range column {
		all |= w
	}
	planes := (bits.Len64(all) + 7) / 8
	dst = append(dst, byte(planes))
	for p := range planes {
		for _, w := range column {
			dst = append(dst, byte(w>>(8*p)))
		}
	}
	return dst
}

// planesOf takes a column of n numbers, of at most so many bytes, from the front of
// data: its planes one after the other, and what is behind them.
func planesOf(data []byte, n, most int) (planes, rest []byte, err error) {
	if len(data) == 0 || int(data[0]) > most || len(data) < 1+int(data[0])*n {
		return nil, nil, errors.New("a column is not as long as it says")
	}
	end := 1 + int(data[0])*n
	return data[1:end], data[end:], nil
}

// parseHeader reads a chunk's first bytes.
func parseHeader(data []byte) (h header, err error) {
	switch {
	case len(data) < headerBytes:
		return h, errors.New("its header is cut off")
	case string(data[:3]) != chunkMagic[:3]:
		return h, errors.New("no chunk begins there")
	case data[3] != chunkMagic[3]:
		return h, fmt.Errorf("version %q, this program reads %q", data[3], chunkMagic[3])
	case crc32.Checksum(data[:68], castagnoli) != sumOf(data):
		return h, errors.New("the checksum of its header does not match")
	}
	for i, to := range []*int{&h.rows, &h.columns, &h.keyBytes, &h.rowBytes, &h.plain} {
		*to = int(binary.LittleEndian.Uint32(data[4+4*i:]))
	}
	h.first = int64(binary.LittleEndian.Uint64(data[24:]))
	for i, to := range []*event.Time{&h.base, &h.after, &h.top} {
		*to = event.Time(binary.LittleEndian.Uint64(data[32+8*i:]))
	}
	h.keySum, h.rowSum = binary.LittleEndian.Uint32(data[56:]), binary.LittleEndian.Uint32(data[60:])
	h.before, h.sum = binary.LittleEndian.Uint32(data[64:]), sumOf(data)
	if h.rows > maxRows || h.columns < 1 || h.columns > maxColumns || h.keyBytes > 1+4*h.rows || h.plain > h.columns*(1+8*h.rows) || h.rowBytes > s2.MaxEncodedLen(h.plain) {
		return h, fmt.Errorf("%d rows of %d columns in %d bytes", h.rows, h.columns, h.rowBytes)
	}
	return h, nil
}

// keysOf is the planes of a chunk's keys. data begins with the chunk's header.
func (h *header) keysOf(data []byte) ([]byte, error) {
	if len(data) < headerBytes+h.keyBytes {
		return nil, errors.New("it is cut off")
	}
	data = data[headerBytes : headerBytes+h.keyBytes]
	if crc32.Checksum(data, castagnoli) != h.keySum {
		return nil, errors.New("the checksum of its keys does not match")
	}
	planes, rest, err := planesOf(data, h.rows, 4)
	if err == nil && len(rest) > 0 {
		err = errors.New("there is something behind its keys")
	}
	return planes, err
}

// decode reads a chunk into c.
func (e *encoder) decode(c *chunk, data []byte) error {
	h, err := parseHeader(data)
	if err != nil {
		return err
	}
	c.reset(h.first, h.columns)
	if int64(len(data)) != h.size() {
		return fmt.Errorf("%d bytes, its header says %d", len(data), h.size())
	}
	keys, err := h.keysOf(data)
	if err != nil {
		return err
	}
	rows := data[headerBytes+h.keyBytes:]
	if crc32.Checksum(rows, castagnoli) != h.rowSum {
		return errors.New("the checksum of its rows does not match")
	}
	n, err := s2.DecodedLen(rows)
	if err != nil {
		return err
	}
	if n != h.plain {
		return fmt.Errorf("its rows are %d bytes where its header says %d", n, h.plain)
	}
	if e.plain, err = s2.Decode(e.plain[:cap(e.plain)], rows); err != nil {
		return err
	}
	c.n, c.after, c.top, c.before = h.rows, h.after, h.top, h.before
	c.keys = append(c.keys, make([]uint32, h.rows)...)
	for p := 0; len(keys) > 0; p++ {
		for i, b := range keys[:h.rows] {
			c.keys[i] |= uint32(b) << (8 * p)
		}
		keys = keys[h.rows:]
	}
	c.words = append(c.words, make([]uint64, h.rows*h.columns)...)
	rest := e.plain
	for col := range h.columns {
		var planes []byte
		if planes, rest, err = planesOf(rest, h.rows, 8); err != nil {
			return err
		}
		c.setColumn(col, planes)
	}
	if len(rest) > 0 {
		return errors.New("there is something behind its rows")
	}
	c.finish(h.base)
	return nil
}

// setColumn fills a column of the words, which are 0, from its planes.
func (c *chunk) setColumn(col int, planes []byte) {
	if c.n == 0 {
		return
	}
	count := len(planes) / c.n
	for p := range count {
		at := col
		for _, b := range planes[p*c.n : (p+1)*c.n] {
			c.words[at] |= uint64(b) << (8 * p)
			at += c.columns
		}
	}
	if count > 0 {
		for at := col; at < len(c.words); at += c.columns {
			c.words[at] = unfold(c.words[at])
		}
	}
}

// finish makes times of the differences, and what follows from the times.
func (c *chunk) finish(base event.Time) {
	last := uint64(base)
	for at := 0; at < len(c.words); at += c.columns {
		last += c.words[at]
		c.words[at] = last
	}
	c.floor = append(c.floor, make([]event.Time, c.n)...)
	low := c.after
	for i := c.n - 1; i >= 0; i-- {
		low = min(low, event.Time(c.words[i*c.columns]))
		c.floor[i] = low
	}
}

// find visits the places of a key among planes of n keys.
func find(planes []byte, n int, key uint32, visit func(i int)) {
	count := 0
	if n > 0 {
		count = len(planes) / n
	}
	if bits.Len32(key) > 8*count {
		return
	}
	if count == 0 {
		for i := range n {
			visit(i)
		}
		return
	}
	for i := 0; i < n; i++ {
		next := bytes.IndexByte(planes[i:n], byte(key))
		if next < 0 {
			return
		}
		i += next
		same := true
		for p := 1; p < count; p++ {
			same = same && planes[p*n+i] == byte(key>>(8*p))
		}
		if same {
			visit(i)
		}
	}
}
