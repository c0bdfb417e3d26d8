package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/checkpoint"
	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/dedupe"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
)

// restore puts the shard where its newest checkpoint left it, or at the beginning
// of the log.
func (s *shard) restore(ctx context.Context) error {
	s.mu.Lock()
	s.program = s.declared
	s.mu.Unlock()
	for below := uint64(math.MaxUint64); ; {
		if err := s.begin(); err != nil {
			return err
		}
		st, err := s.newest(below)
		if err != nil {
			return fmt.Errorf("%s[%d]: read checkpoints: %w", s.origin.Topic, s.partition, err)
		}
		if st != nil {
			if err := s.startWith(st.program); err != nil {
				return err
			}
		}
		if err = s.restoreFrom(ctx, st); !errors.Is(err, checkpoint.ErrDamaged) {
			return err
		}
		s.warnUnusable(st.saved.Generation, err)
		below = st.saved.Generation
	}
}

// restoreFrom puts the shard where a checkpoint left it; nil: at the beginning.
func (s *shard) restoreFrom(ctx context.Context, st *savedState) error {
	switch {
	case st == nil && s.engine.opts.replayed != nil:
		var err error
		if st, err = s.beginRange(ctx); err != nil {
			return err
		}
	case st == nil:
		st = fresh()
	case st.source.known && st.source.topic != s.source.topic:
		s.logger.Warn("the stream reads another topic than its checkpoint is of: the shard begins at the start of the topic", "before", st.source.topic)
		s.checkpoints.store.Restart()
		st = fresh() // whatever was decided of this topic is looked for in all outputs
	case st.source.known && st.source.id != s.source.id && st.source.id != "" && s.source.id != "":
		return s.beginAnew(ctx)
	}
	if err := s.reachable(ctx, st.cursor); err != nil {
		return err
	}
	if err := s.operators(ctx, st); err != nil {
		return err
	}
	s.state, s.position = st.state, st.cursor
	s.saved, s.everSaved, s.checkpoints.begun = s.cursor, st.saved != nil, time.Now()
	s.kept.reach(s.saved)
	s.inForce = st.program
	if err := s.openJournal(ctx, s.journaled); err != nil {
		return err
	}
	for i := range s.outputs.topics {
		if err := s.scan(ctx, &s.outputs.topics[i], st.ends); err != nil {
			return err
		}
		s.settled = max(s.settled, s.outputs.topics[i].reach)
	}
	s.closeDecided(st.program)
	if err := s.openProjections(ctx, st.ends); err != nil {
		return err
	}
	s.publish(s.cursor)
	s.showOperators(true)
	return nil
}

// closeDecided notes up to where programs have decided that the shard cannot follow: what
// they decided was durable before the journal named another one, so it stands, and of an
// event without a decision nothing is made. The first in force at the cursor is before.
func (s *shard) closeDecided(before string) {
	if s.engine.opts.Journal != JournalLive {
		return
	}
	for i := range s.marks {
		if m := &s.marks[i]; m.Kind == kindProgram {
			if !s.follows(before) {
				t := &s.outputs.topics[toDecisions]
				t.closed = m.Cursor
				s.settled = max(s.settled, m.Cursor)
			}
			before = m.Program
		}
	}
}

// follows reports whether the shard decides what a program has decided by that one.
func (s *shard) follows(id string) bool {
	if id == s.program.ID() || s.engine.opts.Programs == nil {
		return id == s.program.ID()
	}
	p, err := s.engine.programOf(id)
	return err == nil && canChange(s.program, p)
}

// beginRange fills the operators with what is before the range that is replayed, and
// returns where the shard stands then.
func (s *shard) beginRange(ctx context.Context) (*savedState, error) {
	from, _ := s.engine.opts.replayed(s.origin.Topic, s.partition)
	if from == 0 {
		return fresh(), nil
	}
	if err := s.fill(ctx, from, 0); err != nil {
		return nil, err
	}
	return &savedState{state: state{cursor: from, changes: s.changes, journaled: s.journaled}}, nil
}

func fresh() *savedState { return &savedState{} }

// beginAnew is restore where the topic was deleted and made again: its events have
// the identities of others that were decided before. What is in the outputs now
// suppresses nothing, and a checkpoint says so before the first event is decided.
func (s *shard) beginAnew(ctx context.Context) error {
	s.logger.Warn("the topic was deleted and made again: the shard begins at its start")
	s.checkpoints.store.Restart()
	for i := range s.outputs.topics {
		o := &s.outputs.topics[i]
		end, err := s.durableEnd(ctx, o)
		if err != nil {
			return err
		}
		o.from, o.end = end, end
	}
	clear(s.strikes)
	clear(s.poisoned)
	s.carefulUntil, s.shown = 0, nil
	if s.journals() {
		end, err := s.journalEnd(ctx)
		if err != nil {
			return err
		}
		s.journaled = end
	}
	s.mu.Lock()
	s.status.HighWatermark = 0
	s.mu.Unlock()
	if err := s.save(ctx); err != nil {
		return err
	}
	if err := s.openProjections(ctx, nil); err != nil {
		return err
	}
	s.publish(s.cursor)
	return nil
}

// reachable refuses a cursor beyond the end of the log, where the shard would wait
// without a word for what was decided before. What the sink does not know, as an
// external topic, has no end.
func (s *shard) reachable(ctx context.Context, cursor int64) error {
	end, err := s.engine.opts.Sink.End(s.origin.Topic, s.partition)
	if err != nil || cursor <= end {
		return nil
	}
	// Damage says more than the end that it makes.
	now, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.engine.opts.Sink.Durable(now, s.origin.Topic, s.partition, cursor-1); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s[%d]: the checkpoint is at offset %d and the topic ends at %d: %w", s.origin.Topic, s.partition, cursor, end, err)
	}
	return fmt.Errorf("%s[%d]: the checkpoint is at offset %d and the topic ends at %d: it is not the topic that was decided; remove %s to begin anew",
		s.origin.Topic, s.partition, cursor, end, s.dir())
}

// sourceNow is what a checkpoint of this shard is made of.
func (s *shard) sourceNow() (savedSource, error) {
	src := savedSource{known: true, topic: s.origin.Topic}
	type field struct{ Name, Type, From, Layout string }
	fields := make([]field, len(s.stream.Schema.Fields))
	for i, f := range s.stream.Schema.Fields {
		fields[i] = field{f.Name, fmt.Sprint(f.Type, f.Optional), s.stream.Fields[i].From, s.stream.Fields[i].Layout}
	}
	declared := map[string]any{"format": s.stream.Format, "columns": s.stream.Columns, "delimiter": s.stream.Delimiter, "fields": fields,
		"time": s.stream.Schema.Time, "zone": fmt.Sprint(s.stream.Zone), "lateness": s.stream.Lateness, "max_ahead": s.stream.MaxAhead}
	for i := range s.stream.Fields {
		if m := s.stream.Fields[i].Members; len(m) > 0 {
			declared["members of "+s.stream.Schema.Fields[i].Name] = m
		}
	}
	if len(s.stream.WatermarkBy) > 0 {
		declared["watermark_by"], declared["watermark_idle"] = s.stream.WatermarkBy, s.stream.WatermarkIdle
	}
	if s.stream.Dedupe > 0 {
		declared["dedupe"], declared["id"] = s.stream.Dedupe, s.stream.Schema.ID
	}
	text, err := json.Marshal(declared)
	if err != nil {
		return src, err
	}
	src.declared = string(text)
	if s.engine.opts.TopicID != nil {
		if src.id, err = s.engine.opts.TopicID(s.origin.Topic); err != nil {
			return src, err
		}
	}
	return src, nil
}

// begin makes everything that a life needs anew.
func (s *shard) begin() error {
	var err error
	if s.source, err = s.sourceNow(); err != nil {
		return fmt.Errorf("stream %s: %w", s.stream.Schema.Stream, err)
	}
	if s.instance, err = s.program.Instance(s.stream); err != nil {
		return fmt.Errorf("stream %s: %w", s.stream.Schema.Stream, err)
	}
	if !s.aside {
		if err := s.engine.placeEvents(s.dir(), s.instance.Operators()); err != nil {
			return fmt.Errorf("%s[%d]: %w", s.origin.Topic, s.partition, err)
		}
	}
	s.project = s.project[:0]
	needed := map[int]bool{}
	for _, i := range s.instance.Needs() {
		needed[i] = true
	}
	if k := s.stream.Schema.Key; k >= 0 {
		needed[k] = true // for the outputs
	}
	for _, i := range s.stream.WatermarkBy {
		needed[i] = true
	}
	for _, k := range s.keyed {
		if at := k.source(s.stream.Schema.Stream); at >= 0 {
			for _, i := range k.Sources[at].Fields {
				needed[i] = true
			}
		}
	}
	for i := range s.stream.Schema.Fields {
		if needed[i] {
			s.project = append(s.project, i)
		}
	}
	s.seen = nil
	if s.stream.Dedupe > 0 {
		s.seen = dedupe.New(s.stream.Dedupe)
	}
	if s.decoder, err = decode.New(s.stream, s.project, decode.Options{Seen: s.seen}); err != nil {
		return err
	}
	s.outputs = newOutputs(s.partition, s.engine.opts.OutputPartitions)
	s.clock = cep.NewClock(s.stream.Lateness, s.stream.WatermarkBy, s.stream.WatermarkIdle)
	s.state, s.journal, s.position = state{}, journal{}, 0
	s.parking = parking{keyed: s.keyed, woken: make(chan struct{}, 1)}
	return nil
}

// operators restores their state from a checkpoint, or makes it again from the
// log where one of them is not in it.
func (s *shard) operators(ctx context.Context, st *savedState) error {
	if st.clock == nil {
		return nil // nothing was before
	}
	if st.source.known && st.source.declared != s.source.declared {
		s.logger.Info("the stream's declaration has changed: the state of its windows is made from the log")
		return s.fill(ctx, st.cursor, st.journaled)
	}
	if err := s.clock.Restore(cep.NewSnapshotReader(bytes.NewReader(st.clock))); err != nil {
		return fmt.Errorf("%s[%d]: the watermark in the checkpoint: %w", s.origin.Topic, s.partition, err)
	}
	why := replayOperators(s.checkpoints.store, st.saved, st.operators, s.stateful())
	if why != nil && errors.Is(why, checkpoint.ErrDamaged) {
		return why
	}
	if why != nil {
		s.logger.Info("the state of windows is made from the log", "why", why)
		return s.fill(ctx, st.cursor, st.journaled)
	}
	for _, op := range s.stateful() {
		if err := op.Advance(s.clock.Watermark(), &s.outbox); err != nil {
			return err
		}
	}
	return nil
}

// replayOperators gives operators their state in a checkpoint; old is what one of a
// version before it could be written in pieces holds. Its error says why that cannot be.
func replayOperators(store *checkpoint.Store, saved *checkpoint.Saved, old map[string][]byte, operators []Operator) error {
	ops := map[string]*restoring{}
	for _, op := range operators {
		if _, whole := old[op.Identity]; !whole && !saved.Has(op.Identity) {
			return fmt.Errorf("a window is new: %s", op.Identity)
		}
		ops[op.Identity] = &restoring{Operator: op, whole: old[op.Identity]}
	}
	err := store.Replay(saved, func(identity string, generation uint64, piece []byte) error {
		if one := ops[identity]; one != nil {
			return one.take(generation, piece)
		}
		return nil // no longer in the program
	})
	for _, op := range ops {
		c, completes := op.Operator.Operator.(cep.Completer)
		switch {
		case err != nil:
		case op.whole != nil:
			err = op.failed(op.Restore(cep.NewSnapshotReader(bytes.NewReader(op.whole))))
		case completes:
			err = op.failed(c.Complete())
		}
	}
	return err
}

// restoring is an operator that is given its state.
type restoring struct {
	Operator
	whole      []byte // of one that is not incremental, or of an older version
	generation uint64 // of which that is
}

func (r *restoring) take(generation uint64, piece []byte) error {
	if inc, ok := r.Operator.Operator.(cep.Incremental); ok {
		return r.failed(inc.Apply(piece))
	}
	if generation != r.generation {
		r.whole, r.generation = r.whole[:0], generation
	}
	r.whole = append(r.whole, piece...)
	return nil
}

func (r *restoring) failed(err error) error {
	if err != nil {
		return fmt.Errorf("state in the checkpoint cannot be used: %s: %w", r.Identity, err)
	}
	return nil
}

// fill runs the log, merged with the journal, up to an offset through the
// operators, deciding nothing. Of the marks at that offset, it uses those before the
// offset journaled of the journal.
func (s *shard) fill(ctx context.Context, to, journaled int64) error {
	s.checkpoints.store.Restart()
	if err := s.begin(); err != nil {
		return err
	}
	if err := s.openJournal(ctx, 0); err != nil {
		return err
	}
	s.filling = true
	operate := func() error { return s.operate(ctx) }
	src, err := s.engine.opts.Open(ctx, s.origin.Topic, s.partition, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	for at := s.position; at < to; {
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
		if err := s.batches(ctx, recs, operate); err != nil {
			return err
		}
	}
	// Between the last record and the checkpoint, time may have passed.
	if err := s.useMarks(ctx, to, journaled, operate); err != nil {
		return err
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
	end, err := s.durableEnd(ctx, o)
	if err != nil {
		return err
	}
	o.end = o.from
	if o.from >= end {
		return nil
	}
	from := o.from
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
			if !ours || err != nil {
				continue
			}
			o.written[id] = struct{}{}
			o.reach = max(o.reach, offset+1)
			if o.topic == event.TopicDecisions && strings.HasSuffix(rest, "/"+event.RoleLive) {
				var d event.Decision
				if err := d.UnmarshalJSON(c.Records[i].Value); err != nil {
					return fmt.Errorf("%s[%d]@%d: %w", o.topic, o.partition, c.Records[i].Offset, err)
				}
				o.decided[offset] = d.Rules
			}
		}
	}
	o.end = end
	return nil
}

// durableEnd is the end of an output partition once all before it is durable: what was
// accepted in an earlier life of this process may still become so, and is waited
// for, else it could appear behind the scan.
func (s *shard) durableEnd(ctx context.Context, o *output) (int64, error) {
	end, err := s.engine.opts.Sink.End(o.topic, o.partition)
	if err != nil {
		return 0, fmt.Errorf("end of %s[%d]: %w", o.topic, o.partition, err)
	}
	if end == 0 || end <= o.from {
		return end, nil
	}
	if err := s.engine.opts.Sink.Durable(ctx, o.topic, o.partition, end-1); err != nil {
		return 0, fmt.Errorf("wait for %s[%d]@%d: %w", o.topic, o.partition, end-1, err)
	}
	return end, nil
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
