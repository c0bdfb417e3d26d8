package deadletter

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/record"
)

// TopicReplays holds what was replayed. It has one partition and keeps everything.
const TopicReplays = "weir.replays"

// Headers of a replayed record.
const (
	HeaderReplayed = "weir-replayed" // its dead letter in weir.deadletters: "partition/offset"
	// HeaderOriginal is "topic/partition/offset" of the record that the dead letter
	// was made of, where that fits the declaration now.
	HeaderOriginal = source.HeaderOriginal
)

// Bounds of one chunk, which is written and noted together.
const (
	chunkLetters = 1000
	chunkBytes   = 4 << 20
	batchBytes   = 1 << 20
	doneMax      = 10_000_000 // dead letters that are remembered as replayed
)

// Log is what is written to; *sink.Local is one.
type Log interface {
	AppendBatch(ctx context.Context, topic string, partition int32, batch []byte) (base int64, err error)
	Durable(ctx context.Context, topic string, partition int32, offset int64) error
	End(topic string, partition int32) (int64, error)
	Partitions(topic string) (int32, error)
}

// Open reads a partition from an offset on, up to another, exclusive.
type Open func(ctx context.Context, topic string, partition int32, from, to int64) (source.Source, error)

// Options of a Replayer. The zero value is the default.
type Options struct {
	// Transform rewrites a batch before it is appended; see httpin.Options.
	Transform func(topic string, batch []byte) ([]byte, error)
	Now       func() time.Time // nil: time.Now
	Logger    *slog.Logger     // nil: slog.Default
}

// Replayer replays dead letters of a log's streams. It is safe for use by several;
// one replay runs at a time.
type Replayer struct {
	streams atomic.Pointer[[]*schema.Stream]
	log     Log
	open    Open
	o       Options
	turn    chan struct{}

	mu   sync.Mutex
	done map[place]struct{} // of the topic; nil until the notes were read
}

// place is a dead letter's in weir.deadletters.
type place struct {
	partition int32
	offset    int64
}

func (p place) String() string { return fmt.Sprintf("%d/%d", p.partition, p.offset) }

func parsePlace(s string) (p place, ok bool) {
	a, b, ok := strings.Cut(s, "/")
	n, err := strconv.ParseInt(a, 10, 32)
	m, err2 := strconv.ParseInt(b, 10, 64)
	return place{int32(n), m}, ok && err == nil && err2 == nil
}

// New makes a Replayer.
func New(streams []*schema.Stream, l Log, open Open, o Options) *Replayer {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	r := &Replayer{log: l, open: open, o: o, turn: make(chan struct{}, 1)}
	r.Declare(streams)
	return r
}

// Declare makes replays that begin from now on know these streams.
func (r *Replayer) Declare(streams []*schema.Stream) { r.streams.Store(&streams) }

// ReasonPanic is of records that are in their stream and on which deciding failed:
// they are replayed only where that is asked for, since they would fail again.
const ReasonPanic = "panic"

// Request says which dead letters to replay.
type Request struct {
	Stream string
	Reason string // only those of this reason; empty: any but ReasonPanic
	// Columns are those of the CSV files whose dead letters do not name them; nil:
	// such dead letters are left.
	Columns []string
	DryRun  bool // count, write nothing
}

// Result is what became of the dead letters that a Request names.
type Result struct {
	Read     int64            `json:"read"`     // of the stream and reason
	Replayed int64            `json:"replayed"` // written into the stream now; would be, where it is a dry run
	Already  int64            `json:"already"`  // replayed before
	Bad      map[string]int64 `json:"bad"`      // that still do not fit, by reason
	Cut      int64            `json:"cut"`      // of which only the beginning was kept
	Unknown  int64            `json:"unknown"`  // of a file whose columns are not known
	Unplaced int64            `json:"unplaced"` // whose partition is not known, since the key is sensitive
	// Example is why the first of those that still do not fit does not.
	Example string `json:"example,omitempty"`
}

// ErrUnknownStream is returned for a stream that is not declared.
var ErrUnknownStream = errors.New("there is no such stream")

// Replay writes the dead letters that fit now into their stream. Cancelled or
// failed, it has done what the Result says, and the same call goes on.
func (r *Replayer) Replay(ctx context.Context, q Request) (Result, error) {
	res := Result{Bad: map[string]int64{}}
	streams := *r.streams.Load()
	i := slices.IndexFunc(streams, func(s *schema.Stream) bool { return s.Schema.Stream == q.Stream })
	if i < 0 {
		return res, fmt.Errorf("%w: %q", ErrUnknownStream, q.Stream)
	}
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
	case <-ctx.Done():
		return res, ctx.Err()
	}
	if err := r.recall(ctx); err != nil {
		return res, fmt.Errorf("what was replayed before: %w", err)
	}
	p := &replay{r: r, ctx: ctx, q: q, stream: streams[i], res: &res}
	parts, err := r.log.Partitions(event.TopicDeadLetters)
	if err != nil {
		return res, err
	}
	for part := range parts {
		if err := p.partition(part); err != nil {
			return res, err
		}
	}
	return res, nil
}

// replay is one call of Replay.
type replay struct {
	r      *Replayer
	ctx    context.Context
	q      Request
	stream *schema.Stream
	res    *Result

	columns     []string // of the file that the letters at hand are of
	columnsSeen bool
	letters     []letter
	bytes       int
}

// letter is a dead letter that may be replayed.
type letter struct {
	event.DeadLetter
	at      place
	written int64    // its record's timestamp, ms since the epoch
	columns []string // of CSV; nil: JSON
}

// partition replays one partition of weir.deadletters.
func (p *replay) partition(part int32) error {
	end, err := p.r.log.End(event.TopicDeadLetters, part)
	if err != nil {
		return err
	}
	p.columns, p.columnsSeen = nil, false
	err = p.r.scan(p.ctx, event.TopicDeadLetters, part, 0, end, func(rec *source.Record) error {
		p.noteColumns(rec)
		var l letter
		if l.UnmarshalJSON(rec.Value) != nil || l.Stream != p.q.Stream || p.q.Reason != "" && l.Reason != p.q.Reason {
			return nil
		}
		l.at, l.written = place{part, rec.Offset}, rec.Timestamp
		p.res.Read++
		if !p.take(&l) {
			return nil
		}
		p.letters = append(p.letters, l)
		if p.bytes += len(l.Raw); len(p.letters) < chunkLetters && p.bytes < chunkBytes {
			return nil
		}
		return p.chunk()
	})
	if err != nil {
		return err
	}
	return p.chunk()
}

// noteColumns keeps the columns that the first record of a batch of a file names.
func (p *replay) noteColumns(rec *source.Record) {
	for i := range rec.Headers {
		switch h := &rec.Headers[i]; h.Key {
		case loader.HeaderColumns:
			p.columns = nil
			p.columnsSeen = json.Unmarshal(h.Value, &p.columns) == nil
			return
		case loader.HeaderLoad: // of a load that did not name them yet
			p.columns, p.columnsSeen = nil, false
		}
	}
}

// take reports whether a letter can be tried, and counts it where not.
func (p *replay) take(l *letter) bool {
	inTopic := l.File == ""
	if inTopic && p.stream.Format == schema.CSV {
		l.columns = p.stream.Columns
	}
	if !inTopic {
		l.columns = p.columns
		if !p.columnsSeen && !isObject(l.Raw) {
			l.columns = p.q.Columns
		}
	}
	key := p.stream.Schema.Key
	switch {
	case p.r.isDone(l.at):
		p.res.Already++
	case l.Reason == ReasonPanic && p.q.Reason != ReasonPanic:
		p.res.Bad[ReasonPanic]++
	case l.Reason == decode.ReasonDuplicate, l.Reason == decode.ReasonLate:
		p.res.Bad[l.Reason]++
	case len(l.Raw) >= loader.MaxRaw:
		p.res.Cut++
	case !inTopic && l.columns == nil && !p.columnsSeen && !isObject(l.Raw):
		p.res.Unknown++
	case !inTopic && key >= 0 && len(p.stream.Fields) > key && p.stream.Fields[key].Sensitive != "":
		p.res.Unplaced++
	default:
		return true
	}
	return false
}

// isObject reports whether raw begins as JSON does.
func isObject(raw []byte) bool {
	for _, c := range raw {
		if c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c == '{'
		}
	}
	return false
}

// out is a record to write.
type out struct {
	letter     *letter
	time       int64
	key, value []byte
	partition  int32
}

// chunk tries the letters at hand and writes those that are good.
func (p *replay) chunk() error {
	defer func() { p.letters, p.bytes = p.letters[:0], 0 }()
	good, err := p.try()
	if err != nil || len(good) == 0 {
		return err
	}
	if !p.q.DryRun {
		if err := p.write(good); err != nil {
			return err
		}
	}
	p.res.Replayed += int64(len(good))
	return nil
}

// try decodes the letters, those of one kind of text together.
func (p *replay) try() (good []out, err error) {
	parts, err := p.r.log.Partitions(p.stream.Topic)
	if err != nil {
		return nil, err
	}
	rest := p.letters
	for len(rest) > 0 {
		n := 1
		for n < len(rest) && slices.Equal(rest[n].columns, rest[0].columns) && (rest[n].columns == nil) == (rest[0].columns == nil) && rest[n].File == rest[0].File {
			n++
		}
		some, err := p.tryAlike(rest[:n], parts)
		if err != nil {
			return nil, err
		}
		good = append(good, some...)
		rest = rest[n:]
	}
	return good, nil
}

// tryAlike decodes letters of one file, or of records, with the same columns.
func (p *replay) tryAlike(ls []letter, parts int32) (good []out, err error) {
	now := p.r.o.Now().UnixMilli()
	text := loader.Text{Columns: ls[0].columns, Arrived: now}
	if file := ls[0].File; file != "" && file != "http" {
		text.Arrived = 0 // as in a load, where the record's time is the event's
	}
	at := 0
	text.Values = func() *loader.Raw {
		if at == len(ls) {
			return nil
		}
		at++
		return &loader.Raw{Text: ls[at-1].Raw}
	}
	rows, err := loader.NewRows(p.stream, text)
	var problem *schema.Problem
	if errors.As(err, &problem) { // a file without a column that is needed now
		p.res.Bad[decode.ReasonMissing] += int64(len(ls))
		p.res.Example = cmp.Or(p.res.Example, problem.Message)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	err = rows.Each(p.ctx, func(row *loader.Row) error {
		l := &ls[row.Event-1]
		o := out{letter: l, time: cmp.Or(text.Arrived, row.Time), key: slices.Clone(row.Key), value: slices.Clone(row.Value)}
		switch {
		case l.File == "" && l.Topic == p.stream.Topic && l.Partition < parts:
			o.partition = l.Partition
		case row.Key != nil:
			o.partition = sink.Partition(row.Key, parts)
		default:
			o.partition = int32(l.at.offset % int64(parts))
		}
		good = append(good, o)
		return nil
	}, func(n int64, d *event.DeadLetter) error {
		p.res.Bad[d.Reason]++
		f := decode.Failure{Reason: d.Reason, Field: d.Field, Detail: d.Detail}
		p.res.Example = cmp.Or(p.res.Example, f.Error())
		return nil
	})
	return good, err
}

// write announces, appends and notes the good ones of a chunk.
func (p *replay) write(good []out) error {
	n := note{Stream: p.stream.Schema.Stream, Partition: good[0].letter.at.partition, First: good[0].letter.at.offset}
	for i := range good {
		n.Offsets = append(n.Offsets, good[i].letter.at.offset)
	}
	parts, err := p.r.log.Partitions(p.stream.Topic)
	if err != nil {
		return err
	}
	for i := range parts {
		end, err := p.r.log.End(p.stream.Topic, i)
		if err != nil {
			return err
		}
		n.Starts = append(n.Starts, end)
	}
	at, err := p.r.note(p.ctx, &n)
	if err != nil {
		return err
	}
	if err := p.r.log.Durable(p.ctx, TopicReplays, 0, at); err != nil {
		return err
	}
	// From here on, what was written is not known until it is looked for.
	ctx := context.WithoutCancel(p.ctx)
	if err := p.append(ctx, good, parts); err != nil {
		p.r.forget()
		return err
	}
	n.Settled, n.Starts = true, nil
	if _, err := p.r.note(ctx, &n); err != nil {
		p.r.forget()
		return err
	}
	return p.r.remember(&n)
}

// append writes the records and waits until they are durable.
func (p *replay) append(ctx context.Context, good []out, parts int32) error {
	last := make(map[int32]int64, parts)
	var b record.Builder
	for part := range parts {
		b.Reset(record.BatchOptions{})
		send := func() error {
			if b.Count() == 0 {
				return nil
			}
			n := int64(b.Count())
			batch, err := b.Build()
			if err == nil && p.r.o.Transform != nil {
				batch, err = p.r.o.Transform(p.stream.Topic, batch)
			}
			if err != nil {
				return fmt.Errorf("%s[%d]: %w", p.stream.Topic, part, err)
			}
			base, err := p.r.log.AppendBatch(ctx, p.stream.Topic, part, batch)
			last[part] = base + n - 1
			b.Reset(record.BatchOptions{})
			return err
		}
		for i := range good {
			if o := &good[i]; o.partition == part {
				if b.Count() > 0 && b.Len()+len(o.value) > batchBytes {
					if err := send(); err != nil {
						return err
					}
				}
				b.Append(o.time, o.key, o.value, p.headers(o))
			}
		}
		if err := send(); err != nil {
			return err
		}
	}
	for part, offset := range last {
		if err := p.r.log.Durable(ctx, p.stream.Topic, part, offset); err != nil {
			return err
		}
	}
	return nil
}

func (p *replay) headers(o *out) []record.Header {
	hs := []record.Header{{Key: HeaderReplayed, Value: []byte(o.letter.at.String())}}
	// The record fits where it stands unless its own time bounds it: a decoder
	// that reads it again measures max_ahead from there.
	l := o.letter
	if l.File != "" || l.Topic != p.stream.Topic {
		return hs
	}
	if p.stream.MaxAhead > 0 && l.written != -1 && p.tooEarly(l) {
		return hs
	}
	return append(hs, record.Header{Key: HeaderOriginal, Value: fmt.Appendf(nil, "%s/%d/%d", l.Topic, l.Partition, l.Offset)})
}

// tooEarly reports whether the original record, at its own time, is refused.
func (p *replay) tooEarly(l *letter) bool {
	refused := false
	once := &loader.Raw{Text: l.Raw}
	rows, err := loader.NewRows(p.stream, loader.Text{Columns: l.columns, Arrived: cmp.Or(l.written, 1), Values: func() *loader.Raw {
		one := once
		once = nil
		return one
	}})
	if err == nil {
		err = rows.Each(p.ctx, func(*loader.Row) error { return nil }, func(int64, *event.DeadLetter) error { refused = true; return nil })
	}
	return refused || err != nil
}

// scan gives the records of a range to each.
func (r *Replayer) scan(ctx context.Context, topic string, partition int32, from, to int64, each func(rec *source.Record) error) error {
	if from >= to {
		return nil
	}
	src, err := r.open(ctx, topic, partition, from, to)
	if err != nil {
		return err
	}
	defer src.Close()
	for {
		c, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s[%d]: %w", topic, partition, err)
		}
		for i := range c.Records {
			if err := each(&c.Records[i]); err != nil {
				return err
			}
		}
	}
}
