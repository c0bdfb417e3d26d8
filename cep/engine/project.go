package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/sink"
)

// markEvery is after how many source offsets without a row a partition of a keyed
// stream is told how far its source is.
const markEvery = 4096

// projection is a keyed stream as a shard of one of its sources writes it.
type projection struct {
	topic  string
	source *KeyedSource
	parts  []projected // by its partitions
	route  []int32     // of the batch at hand: each row's partition
	key    []byte
	buf    []byte
}

// projected is one partition of a keyed stream.
type projected struct {
	output
	next int64      // all rows before this source offset are there
	told event.Time // the watermark that came with them
	rows []int32    // of the batch at hand
}

func newProjection(topic string, source *KeyedSource, partitions int32) *projection {
	p := &projection{topic: topic, source: source, parts: make([]projected, partitions)}
	for i := range p.parts {
		p.parts[i].output, p.parts[i].told = newOutput(topic, int32(i)), event.MinTime
	}
	return p
}

// appendKey appends what an event's key is routed by: of one field its text, which
// for a string is how Kafka's producers would key it, of several each with its length.
func appendKey(dst []byte, b *event.Batch, fields []int, row int) []byte {
	if len(fields) == 1 {
		return b.Cols[fields[0]].AppendText(dst, row)
	}
	for _, f := range fields {
		at := len(dst)
		dst = b.Cols[f].AppendText(append(dst, 0, 0, 0, 0), row)
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	return dst
}

// assign finds each row's partition.
func (p *projection) assign(b *event.Batch) {
	p.route = p.route[:0]
	for i := range p.parts {
		p.parts[i].rows = p.parts[i].rows[:0]
	}
	for row := range b.Len() {
		p.key = appendKey(p.key[:0], b, p.source.Key, row)
		to := sink.Partition(p.key, int32(len(p.parts)))
		p.route = append(p.route, to)
		if part := &p.parts[to]; b.Offset[row] >= part.next {
			part.rows = append(part.rows, int32(row))
		}
	}
}

// write appends the batch's rows to the partitions, and to those that got none for
// long, or all where mark is set, how far the source is.
func (p *projection) write(ctx context.Context, to blockTo, b *event.Batch, out *cep.Outbox, mark bool) error {
	for q := range p.parts {
		part := &p.parts[q]
		if len(part.rows) == 0 && (part.next > to.to || part.next == to.to && part.told >= to.watermark || !mark && to.to-part.next < markEvery) {
			continue
		}
		if err := p.append(ctx, to, int32(q), b, out); err != nil {
			return err
		}
	}
	return nil
}

// append writes a block of a partition's rows.
func (p *projection) append(ctx context.Context, to blockTo, q int32, b *event.Batch, out *cep.Outbox) error {
	part := &p.parts[q]
	h := blockHeader{stream: p.source.Stream.Schema.Stream, partition: to.partition, incarnation: to.incarnation,
		from: part.next, to: to.to, watermark: to.watermark, tables: to.tables}
	p.buf = appendBlock(p.buf[:0], &h, b, out, part.rows, p.source.Fields)
	rec := sink.Record{Value: p.buf}
	if n := len(part.rows); n > 0 {
		rec.Timestamp = b.Time[part.rows[n-1]].Millis()
	}
	at, err := to.sink.Append(ctx, p.topic, q, []sink.Record{rec})
	if err != nil {
		return fmt.Errorf("write to %s[%d]: %w", p.topic, q, err)
	}
	part.last, part.next, part.told = at, to.to, to.watermark
	return nil
}

// incarnation tells the shard's topic from others of its name, in blocks.
func (s *shard) incarnation() uint64 { return xxhash.Sum64String(s.source.id) }

// blockTo is what the blocks of a batch have in common.
type blockTo struct {
	sink        sink.Sink
	partition   int32 // of the source
	incarnation uint64
	to          int64 // all rows before are told
	watermark   event.Time
	tables      int64
}

// projections makes the shard's part of the keyed streams that its stream is a source
// of, and finds what an earlier life has written there behind ends.
func (s *shard) openProjections(ctx context.Context, ends []savedEnd) error {
	s.projections, s.gather = nil, nil
	var reads []*projection
	for _, k := range s.keyed {
		at := k.source(s.stream.Schema.Stream)
		if at < 0 {
			continue
		}
		p := newProjection(k.topic(), &k.Sources[at], k.partitions)
		for j := range p.parts {
			if err := s.scanProjected(ctx, &p.parts[j], ends); err != nil {
				return err
			}
			// What is there was projected with its tables, and as no mark lay before it.
			s.settled = max(s.settled, p.parts[j].reach)
		}
		s.projections = append(s.projections, p)
		if len(p.source.Reads) > 0 {
			reads = append(reads, p)
		}
	}
	if len(s.projections) > 0 {
		s.gather = newGather(reads, s.cursor)
		if replayed := s.engine.opts.replayed; replayed != nil {
			_, s.gather.until = replayed(s.origin.Topic, s.partition)
		}
	}
	return nil
}

// scanProjected finds how far the source's rows are in a partition of a keyed stream.
func (s *shard) scanProjected(ctx context.Context, p *projected, ends []savedEnd) error {
	for _, e := range ends {
		if e.topic == p.topic && e.partition == p.partition {
			p.from = e.end
			p.next = s.cursor // a checkpoint is written when all rows before it are there
		}
	}
	end, err := s.durableEnd(ctx, &p.output)
	if err != nil {
		return err
	}
	p.end = max(p.from, end)
	if p.from >= end {
		return nil
	}
	src, err := s.engine.opts.Open(ctx, p.topic, p.partition, p.from)
	if err != nil {
		return err
	}
	defer src.Close()
	for at := p.from; at < end; {
		c, err := src.Next(ctx)
		if err != nil {
			return fmt.Errorf("%s[%d]@%d: look for what is projected: %w", p.topic, p.partition, at, err)
		}
		at = c.Next
		for i := range c.Records {
			r := blockReader{data: c.Records[i].Value}
			h := r.header()
			if r.err != nil {
				return fmt.Errorf("%s[%d]@%d: %w", p.topic, p.partition, c.Records[i].Offset, r.err)
			}
			if h.stream == s.stream.Schema.Stream && h.partition == s.partition && h.incarnation == s.incarnation() {
				p.reach, p.told = max(p.reach, h.to), max(p.told, h.watermark)
			}
		}
	}
	p.next = max(p.next, p.reach)
	return nil
}

// projectBatch writes the batch at hand to the keyed streams.
func (s *shard) projectBatch(ctx context.Context) error {
	to := blockTo{sink: s.engine.opts.Sink, partition: s.partition, incarnation: s.incarnation(), to: s.to, watermark: s.low, tables: s.tables}
	for _, p := range s.projections {
		p.assign(&s.batch)
		if err := p.write(ctx, to, &s.batch, &s.outbox, s.from == s.to); err != nil {
			return fmt.Errorf("%s[%d]@%d: %w", s.origin.Topic, s.partition, s.from, err)
		}
	}
	return nil
}

// markProjections tells all partitions of the keyed streams how far the shard is, where
// they do not know.
func (s *shard) markProjections(ctx context.Context) error {
	for _, p := range s.projections {
		if err := s.mark(ctx, p, s.position, s.clock.Watermark(), s.changes); err != nil {
			return err
		}
	}
	return nil
}

// mark tells all partitions of a keyed stream how far the shard is.
func (s *shard) mark(ctx context.Context, p *projection, position int64, watermark event.Time, tables int64) error {
	to := blockTo{sink: s.engine.opts.Sink, partition: s.partition, incarnation: s.incarnation(), to: position, watermark: watermark, tables: tables}
	var none event.Batch
	none.Reset(s.stream.Schema, p.source.Fields)
	p.assign(&none)
	if err := p.write(ctx, to, &none, &cep.Outbox{}, true); err != nil {
		return fmt.Errorf("%s[%d]@%d: %w", s.origin.Topic, s.partition, position, err)
	}
	return nil
}

var errNoKeyed = errors.New("the program reads keyed streams, and Options.KeyedTopic is missing")
