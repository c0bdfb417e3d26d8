package engine

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// A record of a keyed stream's topic is a block: the rows of one source partition
// between two offsets that have their key in this partition of the keyed stream.
// Numbers are varints, the zigzag ones where they may be below zero:
//
//	version
//	length and name of the stream, its partition, a hash of its topic's identity in 8 bytes
//	from, to: the source offsets that it tells all rows of
//	the source's watermark behind to
//	the offset of weir.tables before which changes are in force
//	the number of rows; of each the offset less the one before, and the time likewise
//	1 where any row is late: the bitmap of those, and of each its watermark; else 0
//	the fields' values, as event.Column writes them
//
// A block without rows says that there are none.
const blockVersion = 1

var errBlock = errors.New("not a block of a keyed stream")

// blockHeader is what a block says beside its rows.
type blockHeader struct {
	stream      string
	partition   int32
	incarnation uint64
	from, to    int64
	watermark   event.Time
	tables      int64
	rows        int
}

// appendBlock writes a block of some rows of a batch.
func appendBlock(dst []byte, h *blockHeader, b *event.Batch, out *cep.Outbox, rows []int32, fields []int) []byte {
	dst = append(dst, blockVersion)
	dst = append(binary.AppendUvarint(dst, uint64(len(h.stream))), h.stream...)
	dst = binary.AppendUvarint(dst, uint64(h.partition))
	dst = binary.LittleEndian.AppendUint64(dst, h.incarnation)
	dst = binary.AppendVarint(dst, h.from)
	dst = binary.AppendVarint(dst, h.to)
	dst = binary.AppendVarint(dst, int64(h.watermark))
	dst = binary.AppendVarint(dst, h.tables)
	dst = binary.AppendUvarint(dst, uint64(len(rows)))
	offset, time, late := h.from, int64(0), false
	for _, r := range rows {
		dst = binary.AppendUvarint(dst, uint64(b.Offset[r]-offset))
		offset = b.Offset[r]
		late = late || out.Late[r]
	}
	for _, r := range rows {
		dst = binary.AppendVarint(dst, int64(b.Time[r])-time)
		time = int64(b.Time[r])
	}
	if !late {
		dst = append(dst, 0)
	} else {
		dst = append(dst, 1)
		at := len(dst)
		dst = append(dst, make([]byte, (len(rows)+7)/8)...)
		for i, r := range rows {
			if out.Late[r] {
				dst[at+i>>3] |= 1 << (i & 7)
			}
		}
		for _, r := range rows {
			if out.Late[r] {
				dst = binary.AppendVarint(dst, int64(out.Watermark[r]))
			}
		}
	}
	for _, f := range fields {
		dst = b.Cols[f].AppendWire(dst, rows)
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

// header reads what stands before the rows.
func (r *blockReader) header() (h blockHeader) {
	if v := r.bytes(1); r.err == nil && v[0] != blockVersion {
		r.err = fmt.Errorf("%w: version %d, this program reads %d", errBlock, v[0], blockVersion)
	}
	if r.err != nil {
		return h
	}
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

// rows reads the rows behind a header into an empty batch, and what is known of them
// into an outbox; low is the lowest watermark of the keyed stream before them.
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
	if r.err == nil && len(r.data) > 0 {
		r.err = errBlock
	}
	return r.err
}
