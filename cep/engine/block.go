package engine

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// A record of a keyed stream's topic is a block: parts, each the rows of one source
// partition between two offsets that have their key in this partition of the keyed
// stream, and the order of all of them. Numbers are varints, the zigzag ones where they
// may be below zero:
//
//	version
//	the number of parts; of each:
//	  length and name of the stream, its partition, a hash of its topic's identity in 8 bytes
//	  from, to: the source offsets that it tells all rows of
//	  the source's watermark behind to
//	  the offset of weir.tables before which changes are in force
//	  the number of rows
//	where there is more than one part: of each row, in order, its part in one byte
//	of each part with rows:
//	  of each row the offset less the one before, and then of each the time likewise
//	  1 where any row is late: the bitmap of those, and of each its watermark; else 0
//	  the fields' values, as event.Column writes them
//
// A part without rows says that there are none.
const (
	blockVersion = 1
	blockParts   = 255 // at most
)

var errBlock = errors.New("not a block of a keyed stream")

// blockHeader is what a part of a block says beside its rows.
type blockHeader struct {
	stream      string
	partition   int32
	incarnation uint64
	from, to    int64
	watermark   event.Time
	tables      int64
	rows        int
}

// blockPart is some rows of a batch as a part of a block.
type blockPart struct {
	blockHeader
	batch  *event.Batch
	outbox *cep.Outbox
	rows   []int32
	fields []int
}

// appendBlock writes a block of parts whose rows are in an order.
func appendBlock(dst []byte, parts []blockPart, order []uint8) []byte {
	dst = binary.AppendUvarint(append(dst, blockVersion), uint64(len(parts)))
	for i := range parts {
		h := &parts[i]
		dst = append(binary.AppendUvarint(dst, uint64(len(h.stream))), h.stream...)
		dst = binary.AppendUvarint(dst, uint64(h.partition))
		dst = binary.LittleEndian.AppendUint64(dst, h.incarnation)
		dst = binary.AppendVarint(dst, h.from)
		dst = binary.AppendVarint(dst, h.to)
		dst = binary.AppendVarint(dst, int64(h.watermark))
		dst = binary.AppendVarint(dst, h.tables)
		dst = binary.AppendUvarint(dst, uint64(len(h.rows)))
	}
	if len(parts) > 1 {
		dst = append(dst, order...)
	}
	for i := range parts {
		if len(parts[i].rows) > 0 {
			dst = parts[i].appendRows(dst)
		}
	}
	return dst
}

func (p *blockPart) appendRows(dst []byte) []byte {
	b, out := p.batch, p.outbox
	offset, time, late := p.from, int64(0), false
	for _, r := range p.rows {
		dst = binary.AppendUvarint(dst, uint64(b.Offset[r]-offset))
		offset = b.Offset[r]
		late = late || out.Late[r]
	}
	for _, r := range p.rows {
		dst = binary.AppendVarint(dst, int64(b.Time[r])-time)
		time = int64(b.Time[r])
	}
	if !late {
		dst = append(dst, 0)
	} else {
		dst = append(dst, 1)
		at := len(dst)
		dst = append(dst, make([]byte, (len(p.rows)+7)/8)...)
		for i, r := range p.rows {
			if out.Late[r] {
				dst[at+i>>3] |= 1 << (i & 7)
			}
		}
		for _, r := range p.rows {
			if out.Late[r] {
				dst = binary.AppendVarint(dst, int64(out.Watermark[r]))
			}
		}
	}
	for _, f := range p.fields {
		dst = b.Cols[f].AppendWire(dst, p.rows)
	}
	return dst
}

// blockReader reads a block's parts. The first error stays.
type blockReader struct {
	data []byte
	err  error
}

func (r *blockReader) fail() { r.data, r.err = nil, errBlock }

func (r *blockReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.data)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *blockReader) varint() int64 {
	v, n := binary.Varint(r.data)
	if n <= 0 {
		r.fail()
		return 0
	}
	r.data = r.data[n:]
	return v
}

func (r *blockReader) bytes(n uint64) []byte {
	if n > uint64(len(r.data)) {
		r.fail()
		return nil
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

// headers reads what stands before the order of the rows, into dst.
func (r *blockReader) headers(dst []blockHeader) []blockHeader {
	if v := r.bytes(1); r.err == nil && v[0] != blockVersion {
		r.err = fmt.Errorf("%w: version %d, this program reads %d", errBlock, v[0], blockVersion)
	}
	n := r.uvarint()
	if r.err == nil && n > blockParts {
		r.fail()
	}
	for ; n > 0 && r.err == nil; n-- {
		dst = append(dst, r.header())
	}
	return dst
}

func (r *blockReader) header() (h blockHeader) {
	h.stream = string(r.bytes(r.uvarint()))
	p := r.uvarint()
	h.partition = int32(p)
	if id := r.bytes(8); r.err == nil {
		h.incarnation = binary.LittleEndian.Uint64(id)
	}
	h.from, h.to = r.varint(), r.varint()
	h.watermark = event.Time(r.varint())
	h.tables = r.varint()
	n := r.uvarint()
	if r.err == nil && (p > 1<<30 || h.from < 0 || h.to < h.from || n > uint64(len(r.data))) {
		r.fail()
	}
	h.rows = int(n)
	return h
}

// order reads the part of each row. Of a single part there is none to read.
func (r *blockReader) order(parts []blockHeader) []uint8 {
	if len(parts) < 2 || r.err != nil {
		return nil
	}
	total, left := 0, [blockParts]int{}
	for i := range parts {
		total += parts[i].rows
		left[i] = parts[i].rows
	}
	order := r.bytes(uint64(total))
	for _, p := range order {
		if int(p) >= len(parts) || left[p] == 0 {
			r.fail()
			return nil
		}
		left[p]--
	}
	return order
}

// rows reads the rows of a part behind those before it into an empty batch, and what is
// known of them into an outbox; low is the lowest watermark of the keyed stream before
// the block.
func (r *blockReader) rows(h *blockHeader, low event.Time, b *event.Batch, out *cep.Outbox, fields []int) error {
	offset, time := h.from, int64(0)
	for i := range h.rows {
		delta := r.uvarint()
		if r.err != nil || delta > uint64(h.to-offset) || i > 0 && delta == 0 {
			return errBlock
		}
		offset += int64(delta)
		b.Offset = append(b.Offset, offset)
	}
	if offset >= h.to && h.rows > 0 {
		return errBlock
	}
	for range h.rows {
		time += r.varint()
		b.Time = append(b.Time, event.Time(time))
		out.Late, out.Watermark, out.Low = append(out.Late, false), append(out.Watermark, low), append(out.Low, low)
	}
	if flag := r.bytes(1); r.err == nil && flag[0] == 1 {
		late := r.bytes(uint64(h.rows+7) / 8)
		for i := 0; i < h.rows && r.err == nil; i++ {
			if late[i>>3]&(1<<(i&7)) != 0 {
				out.Late[i], out.Watermark[i] = true, event.Time(r.varint())
			}
		}
	}
	for _, f := range fields {
		if r.err == nil {
			r.data, r.err = b.Cols[f].ReadWire(r.data, h.rows)
		}
	}
	return r.err
}

// end wants nothing behind the last part.
func (r *blockReader) end() error {
	if r.err == nil && len(r.data) > 0 {
		r.err = errBlock
	}
	return r.err
}
