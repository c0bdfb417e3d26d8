package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/sink"
)

// markEvery is after how many source offsets without a row a partition of a keyed
// stream is told how far its source is.
const markEvery = 4096

// projection is a keyed stream as one partition of a source is written to it. The
// group's merger writes it.
type projection struct {
	topic  string
	source *KeyedSource
	index  int         // among the shard's
	parts  []projected // by its partitions
	key    []byte
}

// projected is one partition of a keyed stream.
type projected struct {
	output
	next int64      // all rows before this source offset are there
	told event.Time // the watermark that came with them
}

func newProjection(topic string, source *KeyedSource, partitions int32, index int) *projection {
	p := &projection{topic: topic, source: source, index: index, parts: make([]projected, partitions)}
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

// route notes each row's partition with a unit, and before which offset its features
// must be there.
func (p *projection) route(u *unit) {
	for len(u.routes) <= p.index {
		u.routes, u.needs = append(u.routes, nil), append(u.needs, nil)
	}
	routes := u.routes[p.index][:0]
	needs := slices.Grow(u.needs[p.index][:0], len(p.parts))[:len(p.parts)]
	clear(needs)
	b := &u.batch
	for row := range b.Len() {
		p.key = appendKey(p.key[:0], b, p.source.Key, row)
		q := sink.Partition(p.key, int32(len(p.parts)))
		routes = append(routes, q)
		needs[q] = b.Offset[row] + 1
	}
	u.routes[p.index], u.needs[p.index] = routes, needs
}

// incarnation tells the shard's topic from others of its name, in blocks.
func (s *shard) incarnation() uint64 { return xxhash.Sum64String(s.source.id) }

// openProjections makes the shard's part of the keyed streams that its stream is a source
// of, and finds what an earlier life has written there behind ends.
func (s *shard) openProjections(ctx context.Context, ends []savedEnd) error {
	s.projections = nil
	for _, k := range s.keyed {
		at := k.source(s.stream.Schema.Stream)
		if at < 0 {
			continue
		}
		p := newProjection(k.topic(), &k.Sources[at], k.partitions, len(s.projections))
		for j := range p.parts {
			if err := s.scanProjected(ctx, &p.parts[j], ends); err != nil {
				return err
			}
			// What is there was projected with its tables, and as no mark lay before it.
			s.settled = max(s.settled, p.parts[j].reach)
		}
		s.projections = append(s.projections, p)
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
	if p.from > end {
		s.logger.Warn("a keyed stream ends before what the checkpoint saw of it: the events decided so far are brought into it again", "topic", p.topic, "partition", p.partition, "saw", p.from, "end", end)
		p.from, p.next = 0, 0
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
			parts := r.headers(nil)
			if r.err != nil {
				return fmt.Errorf("%s[%d]@%d: %w", p.topic, p.partition, c.Records[i].Offset, r.err)
			}
			for _, h := range parts {
				if h.stream == s.stream.Schema.Stream && h.partition == s.partition && h.incarnation == s.incarnation() {
					p.reach, p.told = max(p.reach, h.to), max(p.told, h.watermark)
				}
			}
		}
	}
	p.next = max(p.next, p.reach)
	return nil
}

var errNoKeyed = errors.New("the program reads keyed streams, and Options.KeyedTopic is missing")
