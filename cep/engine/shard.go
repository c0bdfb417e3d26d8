package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/dedupe"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
)

// shard decides the events of one partition of a stream.
type shard struct {
	engine    *Engine
	program   Program
	stream    *schema.Stream
	partition int32
	origin    event.Origin
	logger    *slog.Logger
	metrics   shardMetrics

	mu     sync.Mutex
	status ShardStatus
	shown  *counts // what the metrics have counted, nil before the first restore
	// Beside the log:
	declared  Program  // to change to
	running   Program  // that decides; nil: none yet
	waiting   []string // rules whose windows are warmed
	called    bool     // there is something to do
	interrupt func()   // ends the wait for records; nil: there was none yet

	pace pace

	// The rest belongs to the shard's goroutine.
	state
	journal
	position int64 // all before it are decoded
	clock    *cep.Clock
	project  []int
	decoder  *decode.Decoder
	seen     *dedupe.Seen // what decoder leaves out by; nil where the stream does not ask for it
	source   savedSource
	instance Instance
	*unit    // what is being worked on
	findings []Finding
	refused  []refusal // of the batch, in log order
	outputs  outputs
	meter

	checkpoints checkpoints
	saved       int64  // cursor of the newest one that is durable
	kept        gate   // saved, for the keyed streams' shards
	everSaved   bool   // there is one
	begunNeeds  needs  // of the newest one that was begun
	newestNeeds *needs // of the newest that became durable in this process
	pinned      needs
	idleAt      time.Time // when to see whether the partition is idle

	parking

	warming   *warming // of the program that was declared; nil: there is none
	warmAfter time.Time
	only      map[string]bool // operators that are run; nil: all
	aside     bool            // it reads beside the shard that decides, in whose directory it changes nothing

	pausing atomic.Bool // it shall end with its state
	paused  bool        // it did

	// After a panic, records up to carefulUntil are processed one by one.
	carefulUntil int64
	strikes      map[int64]int    // panics by offset
	poisoned     map[int64]poison // by offset: records to leave out
}

// unit is a batch and what is known of it, from decoding to its outputs.
type unit struct {
	batch    event.Batch
	outbox   cep.Outbox
	from, to int64      // offsets: first, end; equal: nothing is being worked on
	low      event.Time // the watermark behind it
	tables   int64      // it is decided with those before this offset of weir.tables
	taken    time.Time  // from the log
	// Of a unit that is parked, by projection: each row's partition, and by partition the
	// offset before which all features must be there.
	routes    [][]int32
	needs     [][]int64
	projected atomic.Bool   // all its rows are in the keyed streams
	letters   []sink.Record // its dead letters: what is late is only known once it is decided that it panics at nothing
	weight    int           // of rows and letters
}

// state is what a checkpoint holds beside the operators.
type state struct {
	cursor int64 // all before it are decided
	counts counts
	// The tables in force are those before the offset changes of weir.tables; the
	// shard's marks before the offset journaled of the journal were used.
	changes, journaled int64
	passed             []passed // in order
}

type counts struct{ events, decisions, alerts, late, deadLetters int64 }

func newShard(e *Engine, s *schema.Stream, prog Program, partition int32, m *metrics) *shard {
	sh := &shard{
		engine: e, program: prog, declared: prog, stream: s, partition: partition, origin: event.Origin{Topic: s.Topic, Partition: partition},
		logger:  e.logger.With("stream", s.Schema.Stream, "topic", s.Topic, "partition", partition),
		metrics: m.of(s.Schema.Stream, partition), unit: &unit{}, strikes: map[int64]int{}, poisoned: map[int64]poison{},
	}
	sh.checkpoints = e.checkpointsIn(sh.dir())
	sh.meter.stream = s.Schema.Stream
	sh.status = ShardStatus{Stream: s.Schema.Stream, Topic: s.Topic, Partition: partition, Watermark: event.MinTime}
	return sh
}

// failed tells that the shard stopped and starts again in a while.
func (s *shard) failed(err error, wait time.Duration) {
	s.logger.Error("the shard stopped and starts again from its checkpoint", "err", err, "in", wait)
	s.metrics.restarts.Inc()
	s.mu.Lock()
	s.status.Err = err.Error()
	s.status.Restarts++
	s.mu.Unlock()
}

// guard makes a panic in do an error, and notes where it was.
func (s *shard) guard(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = s.panicked(r)
		}
	}()
	return do()
}

// run decides what comes until ctx is done, and then writes the last checkpoint, for
// which work leaves some time.
func (s *shard) run(ctx, work context.Context) error {
	src, err := s.engine.opts.Open(ctx, s.origin.Topic, s.partition, s.cursor)
	if err != nil {
		return err
	}
	defer src.Close()
	defer func() {
		if !s.paused {
			s.checkpoints.abandon()
		}
	}()
	take := func() error {
		s.taken = time.Now()
		return s.take(work)
	}
	defer s.endWarming()
	s.arrive(s.engine.opts.Now())
	defer s.halted()
	for {
		// Those of an earlier life behind the last record.
		if err := s.useMarks(work, s.position, math.MaxInt64, take); err != nil {
			return err
		}
		if err := s.changeProgram(work, ctx); err != nil && ctx.Err() == nil {
			return err
		}
		if s.pausing.Load() && len(s.marks) == 0 && s.position >= s.settled {
			return s.pause(work)
		}
		if err := s.reads(work, src); err != nil {
			return err
		}
		chunk, err := s.next(ctx, src)
		switch {
		case ctx.Err() != nil:
			if s.lane != nil {
				s.merger.stop(s.lane)
			}
			if err := s.checkpoint(work); !errors.Is(err, errUnmerged) {
				return err
			}
			return nil // the checkpoint before does
		case errors.Is(err, context.DeadlineExceeded):
			// Nothing came until there was something to do for a checkpoint, or an idle
			// mark was due.
			if err := s.rest(work, take); err != nil {
				return err
			}
		case errors.Is(err, context.Canceled):
			// Features came first, or a program.
		case errors.Is(err, io.EOF): // of a range that is replayed
			if s.lane != nil {
				if err := s.merger.read(work, s.lane, false); err != nil {
					return err
				}
			}
			if err := s.drained(work); err != nil || !s.engine.opts.goesOn {
				return err
			}
			return s.checkpoint(work)
		case err != nil:
			return fmt.Errorf("%s[%d]@%d: %w", s.origin.Topic, s.partition, s.cursor, err)
		default:
			if err := s.chunk(work, chunk); err != nil {
				return err
			}
		}
		if err := s.release(work); err != nil {
			return err
		}
		if err := s.keep(work); err != nil {
			return err
		}
	}
}

// pause decides what is left and ends the run, for another one to go on with the state.
func (s *shard) pause(ctx context.Context) error {
	if s.lane != nil {
		if err := s.merger.pause(ctx, s.lane); err != nil {
			return err
		}
	}
	if err := s.drained(ctx); err != nil {
		return err
	}
	s.checkpoints.leave()
	s.paused = true
	return nil
}

// drained decides what is left.
func (s *shard) drained(ctx context.Context) error {
	err := s.drain(ctx)
	s.publish(s.cursor)
	return err
}

// lingering is a context that ends some time after ctx: what was begun may be
// finished, but not forever.
func lingering(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return work, func() { stop(); cancel() }
}

// next waits for records, not longer than until a checkpoint or an idle mark is due, or
// a unit that is parked has its features.
func (s *shard) next(ctx context.Context, src source.Source) (source.Chunk, error) {
	wait := s.checkpoints.due(s.position != s.saved)
	if s.marksIdle() {
		wait = min(wait, s.idleAt.Sub(s.engine.opts.Now()))
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if s.isCalled(cancel) {
		return source.Chunk{}, context.Canceled
	}
	if len(s.parked) > 0 && s.gather.ready(s.parked[0], cancel) {
		return source.Chunk{}, context.Canceled
	}
	return src.Next(ctx)
}

// isCalled reports whether there is something to do beside the log, or else has
// interrupt called when there is.
func (s *shard) isCalled(interrupt func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	called := s.called
	s.called, s.interrupt = false, interrupt
	return called
}

var errPanic = errors.New("panic")

// contained makes a panic in do an error.
func contained(do func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errPanic, r)
		}
	}()
	return do()
}

// panicked notes where a panic happened, for the next life.
func (s *shard) panicked(r any) error {
	first, end := s.from, s.to
	text := fmt.Sprint(r)
	s.logger.Error("panic", "offset", first, "end", end, "panic", text, "stack", string(debug.Stack()))
	err := fmt.Errorf("%s[%d]@%d: %w: %s", s.origin.Topic, s.partition, first, errPanic, text)
	switch {
	case end == first: // not in a batch
	case end-first == 1:
		if s.strikes[first]++; s.strikes[first] >= 2 {
			s.poisoned[first] = poison{text: text}
		}
	}
	s.carefulUntil = max(s.carefulUntil, end)
	s.unit = &unit{}
	return err
}

// chunk decides a chunk in batches.
func (s *shard) chunk(ctx context.Context, c source.Chunk) error {
	taken := time.Now()
	if c.From > s.position || c.Lost > 0 {
		s.logger.Error("records are no longer in the log, by retention or a repair: they are not decided", "from", s.position, "to", c.Next, "missing", max(0, c.From-s.position)+c.Lost)
	}
	if s.lane != nil {
		if err := s.merger.read(ctx, s.lane, true); err != nil { // until all of the chunk is decoded
			return err
		}
	}
	err := s.batches(ctx, c.Records, func() error {
		s.taken = taken
		return s.take(ctx)
	})
	if err != nil {
		return err
	}
	s.position = c.Next
	s.arrived(c.HighWatermark)
	if len(c.Records) > 0 {
		s.arrive(s.engine.opts.Now())
	}
	return nil
}

// take decides the batch at hand, or parks it where it waits for features.
func (s *shard) take(ctx context.Context) error {
	if len(s.projections) > 0 {
		return s.park(ctx)
	}
	return s.finish(ctx)
}

// arrived shows where the shard stands when it has nothing at hand.
func (s *shard) arrived(highWatermark int64) {
	if len(s.parked) == 0 {
		s.cursor = s.position
	}
	s.publish(highWatermark)
}

// batches cuts records into batches, at the latest where the journal changes
// something, decodes each and calls then.
func (s *shard) batches(ctx context.Context, recs []source.Record, then func() error) error {
	for len(recs) > 0 {
		n := min(len(recs), s.engine.opts.BatchRows)
		if recs[0].Offset < s.carefulUntil {
			n = 1
		}
		n, err := s.merge(ctx, func(i int) int64 { return recs[i].Offset }, n, then)
		if err != nil {
			return err
		}
		s.from, s.to = recs[0].Offset, recs[n-1].Offset+1
		s.tables = s.changes
		s.outputs.reset()
		s.process(recs[:n])
		if err := then(); err != nil {
			return err
		}
		s.position = recs[n-1].Offset + 1
		recs = recs[n:]
	}
	return nil
}

// process decodes records into the batch and describes its rows in the outbox.
func (s *shard) process(recs []source.Record) {
	s.batch.Reset(s.stream.Schema, s.project)
	if p, bad := s.poisoned[recs[0].Offset]; bad && len(recs) == 1 {
		s.deadLetter(&recs[0], decode.Failure{Reason: "panic", Detail: p.text})
		s.takeID(recs)
		recs = nil
	}
	s.batch.Watermark = s.clock.Watermark()
	s.refused = s.refused[:0]
	s.decoder.Decode(&s.batch, s.origin, recs, s.refuse)
	s.outbox.Reset(s.instance.Features())
	refused := s.refused
	s.clock.Arrive(&s.batch, &s.outbox)
	s.low = s.clock.Watermark()
	for row, late := range s.outbox.Late {
		if late {
			s.counts.late++
			refused = s.lettersBefore(refused, s.batch.Offset[row])
			for recs[0].Offset < s.batch.Offset[row] {
				recs = recs[1:]
			}
			s.lateLetter(&recs[0], row)
		}
	}
	s.lettersBefore(refused, math.MaxInt64)
	s.counts.events += int64(s.batch.Len())
}

// pass makes an empty batch behind the records before an offset: time passes as by an
// event of time t.
func (s *shard) pass(offset int64, t event.Time) {
	s.from, s.to, s.tables = offset, offset, s.changes
	s.outputs.reset()
	s.batch.Reset(s.stream.Schema, s.project)
	s.batch.Watermark = s.clock.Watermark()
	s.outbox.Reset(s.instance.Features())
	s.clock.Pass(t)
	s.low = s.clock.Watermark()
}

// refusal is a record that the decoder did not take.
type refusal struct {
	record *source.Record
	why    decode.Failure
}

func (s *shard) refuse(r *source.Record, f decode.Failure) {
	s.refused = append(s.refused, refusal{r, f})
}

// lettersBefore writes the dead letters of records before an offset, so that those of
// late events stand among them in the order of the log, and returns the others.
func (s *shard) lettersBefore(refused []refusal, offset int64) []refusal {
	for len(refused) > 0 && refused[0].record.Offset < offset {
		s.deadLetter(refused[0].record, refused[0].why)
		refused = refused[1:]
	}
	return refused
}

// lateLetter copies a late event to the dead letters; the event itself is taken.
func (s *shard) lateLetter(r *source.Record, row int) {
	at, wm := s.batch.Time[row], s.outbox.Watermark[row]
	s.letter(r, decode.Failure{Reason: decode.ReasonLate, Field: s.stream.Schema.Fields[s.stream.Schema.Time].Name,
		Detail: fmt.Sprintf("the event time %v is %v behind the watermark: the event was taken, this is a copy", at, wm.Time().Sub(at.Time()))})
}

// finish runs the program on a decoded batch and writes what it finds.
func (s *shard) finish(ctx context.Context) error {
	if err := s.operate(ctx); err != nil {
		return err
	}
	if s.gather != nil {
		if err := s.gather.merge(s.unit); err != nil {
			return fmt.Errorf("%s[%d]: %w", s.origin.Topic, s.partition, err)
		}
	}
	if err := s.decide(); err != nil {
		return err
	}
	if err := s.outputs.write(ctx, s, time.Since(s.taken)); err != nil {
		return err
	}
	s.cursor, s.from = s.to, s.to
	return nil
}

// decide runs the rules on the batch and makes the outputs.
func (s *shard) decide() error {
	var err error
	s.findings, err = s.instance.Decide(&s.batch, &s.outbox, s.findings[:0])
	if err != nil {
		return fmt.Errorf("%s[%d]: %w", s.origin.Topic, s.partition, err)
	}
	found := s.findings
	if !s.stream.AllDecisions {
		for len(found) > 0 {
			n := 1
			for n < len(found) && found[n].Row == found[0].Row {
				n++
			}
			s.row(found[0].Row, found[:n])
			found = found[n:]
		}
		return nil
	}
	for row := range s.batch.Len() {
		n := 0
		for n < len(found) && found[n].Row == row {
			n++
		}
		s.row(row, found[:n])
		found = found[n:]
	}
	return nil
}

// row makes the outputs of one event: the live decision, a decision for each
// shadow rule, an alert for each live rule that does more than allow.
func (s *shard) row(row int, found []Finding) {
	d := event.Decision{
		Time: s.batch.Time[row], Stream: s.stream.Schema.Stream, Key: s.key(row), Program: s.program.ID(),
		Late: s.outbox.Late[row], Topic: s.origin.Topic, Partition: s.partition, Offset: s.batch.Offset[row],
	}
	live := d
	live.Role, live.Action = event.RoleLive, "allow"
	found, silent := s.outputs.standing(d.Identity(), found)
	fired := s.stream.AllDecisions && !silent
	first := true
	for i := range found {
		f := &found[i]
		if f.Shadow {
			continue
		}
		fired = true
		live.Rules = append(live.Rules, f.Rule)
		live.Action = severer(live.Action, f.Action)
		if first || f.Score > live.Score {
			live.Score = f.Score
		}
		first = false
		live.Values = union(live.Values, f.Values)
	}
	if fired {
		s.outputs.decision(s, &live)
	}
	for i := range found {
		f := &found[i]
		switch {
		case f.Shadow:
			one := d
			one.Role, one.Action, one.Score, one.Rules, one.Values = "shadow:"+f.Rule, f.Action, f.Score, []string{f.Rule}, f.Values
			s.outputs.decision(s, &one)
		case f.Action != "allow":
			s.outputs.alert(s, &event.Alert{
				ID: event.AlertID(d.Topic, d.Partition, d.Offset, f.Rule), Time: d.Time, Rule: f.Rule, Stream: d.Stream, Key: d.Key,
				Severity: f.Severity, Score: f.Score, Action: f.Action, Message: f.Message, Values: f.Values,
				Topic: d.Topic, Partition: d.Partition, Offset: d.Offset,
			})
		}
	}
}

// key is the event's key as text, empty where it has none.
func (s *shard) key(row int) string {
	if s.stream.Schema.Key < 0 {
		return ""
	}
	return string(s.batch.Cols[s.stream.Schema.Key].AppendText(nil, row))
}

var actions = []string{"allow", "alert", "review", "decline"}

// severer is the more severe of two actions.
func severer(a, b string) string {
	if slices.Index(actions, b) > slices.Index(actions, a) {
		return b
	}
	return a
}

// union appends the values whose names are not there yet.
func union(dst, more event.Values) event.Values {
	if dst == nil {
		return more[:len(more):len(more)]
	}
	for _, v := range more {
		if !slices.ContainsFunc(dst, func(d event.Value) bool { return d.Name == v.Name }) {
			dst = append(dst, v)
		}
	}
	return dst
}

// publish shows where the shard stands.
func (s *shard) publish(highWatermark int64) {
	wm := s.clock.Watermark()
	s.mu.Lock()
	st := &s.status
	st.Cursor, st.HighWatermark, st.Watermark, st.Err = s.cursor, max(st.HighWatermark, highWatermark, s.cursor), wm, ""
	st.Program, s.running = s.program.ID(), s.program
	st.Events, st.Decisions, st.Alerts = s.counts.events, s.counts.decisions, s.counts.alerts
	st.Late, st.DeadLetters, st.Changes = s.counts.late, s.counts.deadLetters, s.changes
	lag := st.HighWatermark - st.Cursor
	s.pace.newest, s.pace.behind = s.clock.Newest(), lag > 0
	s.mu.Unlock()
	s.metrics.lag.Set(float64(lag))
	s.metrics.changes.Set(float64(s.changes))
	if wm != event.MinTime {
		s.metrics.watermark.Set(seconds(wm))
	}
	s.count()
	s.showOperators(false)
}

// count adds to the metrics what this process has not counted before: a restart
// goes back in the log and counts nothing twice.
func (s *shard) count() {
	now := s.counts
	if s.shown == nil {
		s.shown = &now
		return
	}
	for _, c := range []struct {
		metric prometheus.Counter
		now    int64
		shown  *int64
	}{
		{s.metrics.events, now.events, &s.shown.events}, {s.metrics.decisions, now.decisions, &s.shown.decisions},
		{s.metrics.alerts, now.alerts, &s.shown.alerts}, {s.metrics.late, now.late, &s.shown.late},
		{s.metrics.deadLetters, now.deadLetters, &s.shown.deadLetters},
	} {
		if c.now > *c.shown {
			c.metric.Add(float64(c.now - *c.shown))
			*c.shown = c.now
		}
	}
}
