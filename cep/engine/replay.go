package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/vfs"
)

// ReplayOptions say what is decided again.
type ReplayOptions struct {
	// Options as the engine that decided has them. Nothing is written through Sink,
	// which tells where topics end; FS, Dir, Registerer, OutputPartitions, KeyedTopic and
	// Pin are not used. Journal says where lists and tables come from: JournalPin, or else
	// JournalReplay. CheckpointEvery is for what has to be done again after a panic in
	// the program; a checkpoint is held in memory, and there is none where it is 0.
	Options
	// Range is which offsets of a source partition are decided: from up to to, which are
	// in the log. What is before is read for the windows.
	Range func(topic string, partition int32) (from, to int64)
	// KeyedPartitions is how many partitions the topic of a keyed stream has, false where
	// it is not there: it is made in memory then. A nil one says that none is there. The
	// order that a keyed stream has is kept: a replay reads it where it is.
	KeyedPartitions func(topic string) (int32, bool)
}

// Replayed is what a replay decided.
type Replayed struct {
	Status []ShardStatus // counts are those of the range
	log    *replayLog
}

// Records are what the events of a source partition made in an output topic, in order.
func (r *Replayed) Records(topic string, source event.Origin) []source.Record {
	var out []record
	prefix := fmt.Sprintf("%s/%d/", source.Topic, source.Partition)
	for _, rec := range r.log.part(topic, 0).recs {
		if strings.HasPrefix(originOf(&rec), prefix) {
			out = append(out, rec)
		}
	}
	return out
}

type record = source.Record

// Replay runs a program over a range of the log and returns what it decides, writing
// nothing: the very loop of Run, with sources that end and a log in memory behind what
// is there. With the program that decided, and JournalReplay, that is what was decided,
// byte for byte but for the latency header. With Options.Programs, what the journal names
// another program for is decided by that one; one that is not known is an error.
func Replay(ctx context.Context, streams []*schema.Stream, prog Program, o ReplayOptions) (*Replayed, error) {
	l := newReplayLog(&o)
	run := l.options(&o)
	e, err := New(streams, prog, run)
	if err != nil {
		return nil, err
	}
	for _, s := range e.shards() {
		from, to := o.Range(s.origin.Topic, s.partition)
		end, err := o.Sink.End(s.origin.Topic, s.partition)
		if err != nil {
			return nil, fmt.Errorf("replay %s[%d]: %w", s.origin.Topic, s.partition, err)
		}
		if from < 0 || from > to || to > end {
			return nil, fmt.Errorf("replay %s[%d]: a range from %d to %d where the log ends at %d", s.origin.Topic, s.partition, from, to, end)
		}
	}
	stretches, err := e.stretches(ctx)
	if err != nil {
		return nil, err
	}
	for i := range stretches {
		run.replayed, run.goesOn = stretches[i].of, i+1 < len(stretches)
		l.ranges = run.replayed
		if e, err = New(streams, stretches[i].program, run); err != nil {
			return nil, err
		}
		if err := e.replay(ctx); err != nil {
			return nil, err
		}
	}
	return &Replayed{Status: e.Status(), log: l}, nil
}

// options are those of the engine that replays.
func (l *replayLog) options(o *ReplayOptions) Options {
	run := o.Options
	run.FS, run.Dir, run.Open, run.Sink = vfs.NewMem(1), "replay", l.open, l
	run.Registerer, run.OutputPartitions, run.Pin, run.replayed = nil, nil, nil, o.Range
	run.KeyedTopic = func(topic string, partitions int32) (int32, error) {
		if o.KeyedPartitions != nil {
			if n, there := o.KeyedPartitions(topic); there {
				return n, l.keep(topic, n)
			}
		}
		return partitions, nil
	}
	if o.TopicID != nil {
		run.TopicID = func(topic string) (string, error) {
			if strings.HasPrefix(topic, TopicKeyed) {
				return "", nil // made in memory, or read from its beginning
			}
			return o.TopicID(topic)
		}
	}
	if run.Journal == JournalLive {
		run.Journal = JournalReplay
	}
	if run.CheckpointEvery <= 0 {
		run.CheckpointEvery = never
	}
	return run
}

// replay decides the engine's range.
func (e *Engine) replay(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, g := range e.groups {
		g.start(ctx)
	}
	for _, g := range e.groups {
		<-g.ended
		if g.err != nil {
			cancel()
		}
		err = errors.Join(err, g.err)
	}
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// stretch is what one program decides of each source partition, which may be nothing.
type stretch struct {
	program Program
	ranges  map[event.Origin][2]int64
}

func (s *stretch) of(topic string, partition int32) (from, to int64) {
	one := s.ranges[event.Origin{Topic: topic, Partition: partition}]
	return one[0], one[1]
}

// decider is a program that has decided a source partition from an offset on.
type decider struct {
	program  string
	from     int64
	journals int64 // where the journal says so, -1: it does not
}

// stretches are the ranges of one program each that make up the range of a replay, in the
// order in which they came into force. What windows hold for an event follows from the
// log, the journal and the order of keyed streams up to it, whoever decided when. So each
// stretch is a replay by itself. It goes on from the checkpoints of the one before.
func (e *Engine) stretches(ctx context.Context) (out []stretch, err error) {
	shards := e.shards()
	deciders, at := make([][]decider, len(shards)), make([]int64, len(shards))
	for i, s := range shards {
		from, to := e.opts.replayed(s.origin.Topic, s.partition)
		if deciders[i], err = s.deciders(ctx, from, to); err != nil {
			return nil, err
		}
		at[i] = from
	}
	for {
		next := decider{program: e.declared.program.ID(), journals: math.MaxInt64}
		for _, d := range deciders {
			if len(d) > 0 && d[0].journals < next.journals {
				next = d[0]
			}
		}
		if next.journals == math.MaxInt64 && len(out) > 0 {
			return out, nil
		}
		one := stretch{e.declared.program, map[event.Origin][2]int64{}}
		if next.program != one.program.ID() {
			if one.program, err = e.programOf(next.program); err != nil {
				return nil, fmt.Errorf("replay what the program %s has decided: %w", next.program, err)
			}
		}
		for i, s := range shards {
			from := at[i]
			if d := deciders[i]; len(d) > 0 && d[0].program == next.program {
				if deciders[i] = d[1:]; len(d) > 1 {
					at[i] = d[1].from
				} else {
					_, at[i] = e.opts.replayed(s.origin.Topic, s.partition)
				}
			}
			one.ranges[s.origin] = [2]int64{from, at[i]}
		}
		out = append(out, one)
	}
}

// deciders are those of a range of the shard, by the journal.
func (s *shard) deciders(ctx context.Context, from, to int64) (out []decider, err error) {
	if from == to {
		return nil, nil
	}
	out = []decider{{s.program.ID(), from, -1}}
	if s.engine.opts.Programs == nil {
		return out, nil
	}
	if s.source, err = s.sourceNow(); err != nil {
		return nil, err
	}
	if err := s.openJournal(ctx, 0); err != nil {
		return nil, err
	}
	for i := range s.marks {
		m := &s.marks[i]
		if m.Kind != kindProgram || m.Cursor >= to {
			continue
		}
		one := decider{m.Program, max(from, m.Cursor), m.offset}
		if last := &out[len(out)-1]; last.from == one.from {
			*last = one // that one has decided nothing of it
		} else {
			out = append(out, one)
		}
	}
	return out, nil
}

// replayLog is the log as replayed shards see it: sources that end with their range,
// the real keyed streams up to where they ended at the beginning, and what the replay
// writes, in memory.
type replayLog struct {
	real   Options
	ranges func(topic string, partition int32) (from, to int64)

	mu      sync.Mutex
	changed sync.Cond
	parts   map[string]*replayPart
}

// replayPart is what the replay wrote to a partition, behind what is really there.
type replayPart struct {
	base int64
	recs []record
}

func newReplayLog(o *ReplayOptions) *replayLog {
	l := &replayLog{real: o.Options, parts: map[string]*replayPart{}, ranges: o.Range}
	l.changed.L = &l.mu
	return l
}

// part is a partition that the replay writes. Outputs have one.
func (l *replayLog) part(topic string, partition int32) *replayPart {
	name := fmt.Sprint(topic, "/", partition)
	if l.parts[name] == nil {
		l.parts[name] = &replayPart{}
	}
	return l.parts[name]
}

// keep notes where the partitions of a real keyed stream end.
func (l *replayLog) keep(topic string, partitions int32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for q := range partitions {
		if p := l.part(topic, q); p.base == 0 && len(p.recs) == 0 {
			var err error
			if p.base, err = l.real.Sink.End(topic, q); err != nil {
				return err
			}
		}
	}
	return nil
}

// isWritten reports whether a topic is one that the replay writes.
func isWritten(topic string) bool {
	return slices.Contains([]string{event.TopicDecisions, event.TopicAlerts, event.TopicDeadLetters}, topic) || strings.HasPrefix(topic, TopicKeyed)
}

func (l *replayLog) Append(_ context.Context, topic string, partition int32, recs []sink.Record) (int64, error) {
	if !isWritten(topic) {
		return 0, fmt.Errorf("a replay does not write to %s", topic)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.part(topic, partition)
	base := p.base + int64(len(p.recs))
	for i := range recs {
		one := recs[i].Clone()
		one.Offset = base + int64(i)
		p.recs = append(p.recs, one)
	}
	l.changed.Broadcast()
	return base, nil
}

func (l *replayLog) Durable(context.Context, string, int32, int64) error { return nil }

func (l *replayLog) End(topic string, partition int32) (int64, error) {
	if !isWritten(topic) {
		return l.real.Sink.End(topic, partition)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.part(topic, partition)
	return p.base + int64(len(p.recs)), nil
}

func (l *replayLog) open(ctx context.Context, topic string, partition int32, from int64) (source.Source, error) {
	to, written := int64(0), isWritten(topic)
	if written {
		l.mu.Lock()
		to = l.part(topic, partition).base
		l.mu.Unlock()
	} else if topic != TopicJournal {
		_, to = l.ranges(topic, partition)
	}
	s := &replaySource{log: l, topic: topic, partition: partition, at: from, to: to, written: written}
	if topic == TopicJournal || from < to {
		var err error
		if s.real, err = l.real.Open(ctx, topic, partition, from); err != nil {
			return nil, err
		}
		if topic == TopicJournal {
			return s.real, nil
		}
	}
	return s, nil
}

// replaySource reads what is really there up to an offset, and then ends, or goes on
// with what the replay writes.
type replaySource struct {
	log       *replayLog
	real      source.Source // nil: nothing is read from there
	topic     string
	partition int32
	at, to    int64
	written   bool
}

func (s *replaySource) Next(ctx context.Context) (source.Chunk, error) {
	switch {
	case s.at < s.to:
		c, err := s.real.Next(ctx)
		for len(c.Records) > 0 && c.Records[len(c.Records)-1].Offset >= s.to {
			c.Records = c.Records[:len(c.Records)-1]
		}
		c.Next = min(c.Next, s.to)
		if err == nil {
			s.at = c.Next
		}
		return c, err
	case !s.written:
		return source.Chunk{}, io.EOF
	}
	l := s.log
	stop := context.AfterFunc(ctx, func() { l.mu.Lock(); l.changed.Broadcast(); l.mu.Unlock() })
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.part(s.topic, s.partition)
	for s.at >= p.base+int64(len(p.recs)) {
		if ctx.Err() != nil {
			return source.Chunk{}, ctx.Err()
		}
		l.changed.Wait()
	}
	end := p.base + int64(len(p.recs))
	c := source.Chunk{Topic: s.topic, Partition: s.partition, From: s.at, Next: end, HighWatermark: end, Records: p.recs[s.at-p.base:]}
	s.at = end
	return c, nil
}

func (s *replaySource) SeekTo(int64) error { return errors.New("a replay reads from its beginning on") }

func (s *replaySource) Close() error {
	if s.real == nil {
		return nil
	}
	return s.real.Close()
}
