package engine

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

// blockSchema has a field of each kind of value that a block can hold.
var blockSchema = &event.Schema{Stream: "s", Alias: "s", Time: 0, Key: 1, ID: -1, Fields: []event.Field{
	{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
	{Name: "key", Type: event.Type{Kind: event.String}},
	{Name: "on", Type: event.Type{Kind: event.Bool}, Optional: true},
	{Name: "at", Type: event.Type{Kind: event.Double}, Optional: true},
	{Name: "tags", Type: event.ListOf(event.Type{Kind: event.String}), Optional: true},
}}

var blockFields = []int{1, 2, 3, 4}

// randomPart is a part of some rows.
func randomPart(r *rand.Rand) blockPart {
	b, out := &event.Batch{}, &cep.Outbox{}
	b.Reset(blockSchema, blockFields)
	p := blockPart{batch: b, outbox: out, fields: blockFields, blockHeader: blockHeader{stream: "s", partition: r.Int32N(4), incarnation: r.Uint64(),
		from: r.Int64N(100), watermark: event.Time(r.Int64()), tables: r.Int64N(9)}}
	offset := p.from
	late := r.IntN(2) == 0
	for i := range r.IntN(20) {
		p.rows = append(p.rows, int32(i))
		offset += 1 + r.Int64N(3)
		b.Offset, b.Time = append(b.Offset, offset), append(b.Time, event.Time(r.Int64N(int64(time.Hour))))
		out.Late, out.Watermark = append(out.Late, late && r.IntN(3) == 0), append(out.Watermark, event.Time(r.Int64N(1000)))
		b.Cols[1].AppendBytes([]byte("abcdef"[:r.IntN(7)]))
		b.Cols[2].AppendBool(r.IntN(2) == 0)
		if r.IntN(2) == 0 {
			b.Cols[3].AppendDouble(r.Float64())
		} else {
			b.Cols[3].AppendNull()
		}
		for range r.IntN(3) {
			b.Cols[4].Children[0].AppendBytes([]byte("tag"))
		}
		b.Cols[4].AppendNested()
	}
	p.to = offset + 1 + r.Int64N(3)
	return p
}

// randomBlock is a block of some parts, with what it was made of.
func randomBlock(r *rand.Rand) (data []byte, parts []blockPart, order []uint8) {
	for i := range 1 + r.IntN(3) {
		parts = append(parts, randomPart(r))
		for range parts[i].rows {
			order = append(order, uint8(i))
		}
	}
	r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	return appendBlock(nil, parts, order), parts, order
}

// readBlock reads a whole block and writes it again.
func readBlock(data []byte) (parts []blockPart, order []uint8, again []byte, err error) {
	r := blockReader{data: data}
	headers := r.headers(nil)
	order = r.order(headers)
	for i := range headers {
		if r.err != nil {
			break
		}
		p := blockPart{blockHeader: headers[i], batch: &event.Batch{}, outbox: &cep.Outbox{}, fields: blockFields}
		p.batch.Reset(blockSchema, blockFields)
		parts = append(parts, p)
		if p.blockHeader.rows == 0 {
			continue
		}
		if err := r.rows(&headers[i], event.MinTime, p.batch, p.outbox, blockFields); err != nil {
			return parts, order, nil, err
		}
		for row := range headers[i].rows {
			parts[i].rows = append(parts[i].rows, int32(row))
		}
	}
	if err := r.end(); err != nil {
		return parts, order, nil, err
	}
	return parts, order, appendBlock(nil, parts, order), nil
}

// TestBlocks reads random blocks back, each as it was, and none of its beginnings.
func TestBlocks(t *testing.T) {
	seeds.Each(t, 200, func(t *testing.T, seed uint64) {
		data, parts, order := randomBlock(rand.New(rand.NewPCG(seed, 16)))
		read, gotOrder, again, err := readBlock(data)
		if err != nil || !bytes.Equal(again, data) || len(read) != len(parts) || len(parts) > 1 && !bytes.Equal(gotOrder, order) {
			t.Fatalf("%v; order %v, want %v; read and written again:\n got %x\nwant %x", err, gotOrder, order, again, data)
		}
		for n := range parts {
			b, out, got, described := parts[n].batch, parts[n].outbox, read[n].batch, read[n].outbox
			for i := range b.Len() {
				if got.Offset[i] != b.Offset[i] || got.Time[i] != b.Time[i] || described.Late[i] != out.Late[i] || out.Late[i] && described.Watermark[i] != out.Watermark[i] {
					t.Errorf("row %d: offset %d, time %d, late %v at %d; want %d, %d, %v at %d", i, got.Offset[i], got.Time[i], described.Late[i], described.Watermark[i],
						b.Offset[i], b.Time[i], out.Late[i], out.Watermark[i])
				}
				for _, f := range blockFields {
					if g, w := got.Cols[f].AppendJSON(nil, i), b.Cols[f].AppendJSON(nil, i); !bytes.Equal(g, w) {
						t.Errorf("row %d, field %d: %s, want %s", i, f, g, w)
					}
				}
			}
		}
		for n := range data {
			if _, _, _, err := readBlock(data[:n]); err == nil {
				t.Errorf("the first %d of %d bytes are a block", n, len(data))
			}
		}
	})
}

// FuzzBlock wants anything to be read or refused, at a cost in proportion to its
// length, and what is read to be the same when it is written and read again.
func FuzzBlock(f *testing.F) {
	f.Add([]byte{blockVersion})
	for seed := range uint64(8) {
		data, _, _ := randomBlock(rand.New(rand.NewPCG(seed, 16)))
		f.Add(data)
	}
	// A million rows, said in a few bytes.
	f.Add([]byte{blockVersion, 1, 1, 's', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x89, 0x7a, 0, 0, 0xc0, 0x84, 0x3d})
	f.Fuzz(func(t *testing.T, data []byte) {
		parts, _, again, err := readBlock(data)
		held := 0
		for n := range parts {
			b, out := parts[n].batch, parts[n].outbox
			held += 8*cap(b.Offset) + 8*cap(b.Time) + cap(out.Late) + 8*cap(out.Watermark) + 8*cap(out.Low)
			for i := range b.Cols {
				held += columnBytes(&b.Cols[i])
			}
		}
		if limit := 256*len(data) + 4096; held > limit {
			t.Fatalf("%d bytes held for a block of %d", held, len(data))
		}
		if err != nil {
			return
		}
		if _, _, third, err := readBlock(again); err != nil || !bytes.Equal(third, again) {
			t.Fatalf("%v: read, written and read again:\n got %x\nwant %x", err, third, again)
		}
	})
}

func columnBytes(c *event.Column) int {
	n := 8*cap(c.Int64) + 8*cap(c.Double) + cap(c.Bits) + 4*cap(c.Offsets) + cap(c.Data)
	for i := range c.Children {
		n += columnBytes(&c.Children[i])
	}
	return n
}
