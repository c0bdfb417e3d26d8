package engine

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
)

// restore puts the shard where its newest checkpoint left it, or at the beginning
// of the log.
func (s *shard) restore(ctx context.Context) error {
	if err := s.begin(); err != nil {
		return err
	}
	st, err := s.newest()
	if err != nil {
		return fmt.Errorf("%s[%d]: read checkpoints: %w", s.origin.Topic, s.partition, err)
	}
	if st == nil {
		st = &savedState{state: state{greatest: event.MinTime}}
	}
	// A topic that was deleted and made again would make the shard wait for its
	// old cursor. What the sink does not know, as an external topic, has no end.
	if end, err := s.engine.opts.Sink.End(s.origin.Topic, s.partition); err == nil && st.cursor > end {
		return fmt.Errorf("%s[%d]: the checkpoint is at offset %d and the topic ends at %d: it is not the topic that was decided; remove %s to begin anew",
			s.origin.Topic, s.partition, st.cursor, end, s.dir())
	}
	if err := s.operators(ctx, st); err != nil {
		return err
	}
	s.state = st.state
	s.saved, s.savedAt = s.cursor, time.Now()
	for i := range s.outputs.topics {
		if err := s.scan(ctx, &s.outputs.topics[i], st.ends); err != nil {
			return err
		}
	}
	s.publish(s.cursor)
	return nil
}

// begin makes everything that a life needs anew.
func (s *shard) begin() error {
	var err error
	if s.instance, err = s.engine.program.Instance(s.stream); err != nil {
		return fmt.Errorf("stream %s: %w", s.stream.Schema.Stream, err)
	}
	s.project = s.project[:0]
	needed := map[int]bool{}
	for _, i := range s.instance.Needs() {
		needed[i] = true
	}
	if k := s.stream.Schema.Key; k >= 0 {
		needed[k] = true // for the outputs
	}
	for i := range s.stream.Schema.Fields {
		if needed[i] {
			s.project = append(s.project, i)
		}
	}
	if s.decoder, err = decode.New(s.stream, s.project, decode.Options{}); err != nil {
		return err
	}
	s.outputs = newOutputs(s.partition, s.engine.opts.OutputPartitions)
	s.state = state{greatest: event.MinTime}
	return nil
}

// operators restores their state from a checkpoint, or makes it again from the
// log where one of them is not in it.
func (s *shard) operators(ctx context.Context, st *savedState) error {
	if st.cursor == 0 {
		return nil
	}
	for _, op := range s.instance.Operators() {
		data, found := st.operators[op.Identity]
		if !found {
			s.logger.Info("a window is new: its state is made from the log", "operator", op.Identity)
			return s.fill(ctx, st.cursor)
		}
		if err := op.Restore(cep.NewSnapshotReader(bytes.NewReader(data))); err != nil {
			s.logger.Warn("state in the checkpoint cannot be used: it is made again from the log", "operator", op.Identity, "err", err)
			return s.fill(ctx, st.cursor)
		}
		s.greatest = st.greatest
		if err := op.Advance(s.watermark(), &s.outbox); err != nil {
			return err
		}
	}
	return nil
}

// fill runs the log up to an offset through the operators, deciding nothing.
func (s *shard) fill(ctx context.Context, to int64) error {
	if err := s.begin(); err != nil {
		return err
	}
	src, err := s.engine.opts.Open(ctx, s.origin.Topic, s.partition, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	for at := int64(0); at < to; {
		c, err := src.Next(ctx)
		if err != nil {
			return fmt.Errorf("%s[%d]@%d: fill windows: %w", s.origin.Topic, s.partition, at, err)
		}
		at = c.Next
		recs := c.Records
		for len(recs) > 0 && recs[len(recs)-1].Offset >= to {
			recs = recs[:len(recs)-1]
		}
		// Dead letters were written before: batches drops them.
		if err := s.batches(recs, func() error { return nil }); err != nil {
			return err
		}
	}
	s.outputs.reset()
	return nil
}

// scan reads an output partition from where the checkpoint left it, and notes
// which of the shard's records are there.
func (s *shard) scan(ctx context.Context, o *output, ends []savedEnd) error {
	for _, e := range ends {
		if e.topic == o.topic && e.partition == o.partition {
			o.from = e.end
		}
	}
	end, err := s.engine.opts.Sink.End(o.topic, o.partition)
	if err != nil {
		return fmt.Errorf("end of %s[%d]: %w", o.topic, o.partition, err)
	}
	o.end = o.from
	if o.from >= end {
		return nil
	}
	from := o.from
	// What was accepted in an earlier life of this process may still become
	// durable: it is waited for, else it could appear behind the scan.
	if err := s.engine.opts.Sink.Durable(ctx, o.topic, o.partition, end-1); err != nil {
		return fmt.Errorf("wait for %s[%d]@%d: %w", o.topic, o.partition, end-1, err)
	}
	src, err := s.engine.opts.Open(ctx, o.topic, o.partition, from)
	if err != nil {
		return err
	}
	defer src.Close()
	prefix := s.origin.Topic + "/" + strconv.Itoa(int(s.partition)) + "/"
	for from < end {
		c, err := src.Next(ctx)
		if err != nil {
			return fmt.Errorf("%s[%d]@%d: look for what is decided: %w", o.topic, o.partition, from, err)
		}
		from = c.Next
		for i := range c.Records {
			id := originOf(&c.Records[i])
			rest, ours := strings.CutPrefix(id, prefix)
			digits, _, _ := strings.Cut(rest, "/")
			offset, err := strconv.ParseInt(digits, 10, 64)
			if ours && err == nil {
				o.written[id] = struct{}{}
				o.reach = max(o.reach, offset+1)
			}
		}
	}
	o.end = end
	return nil
}

// originOf is a record's identity, empty where it has none.
func originOf(r *source.Record) string {
	for i := range r.Headers {
		if r.Headers[i].Key == event.HeaderOrigin {
			return string(r.Headers[i].Value)
		}
	}
	return ""
}
