package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/reservoir"
	"github.com/weirstream/weir/cep/window"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/table"
	"github.com/weirstream/weir/log/vfs"
)

// shopStream is testStream with two more fields, shop and device, which may be absent.
func shopStream(name string, partitions int32) *schema.Stream {
	s := testStream(partitions)
	s.Topic = "in"
	if name != "s" {
		s.Topic = "in." + name
	}
	s.Schema.Stream, s.Schema.Alias = name, name
	s.Schema.Fields = append(s.Schema.Fields, event.Field{Name: "shop", Type: event.Type{Kind: event.String}},
		event.Field{Name: "device", Type: event.Type{Kind: event.Int64}, Optional: true})
	s.Fields = append(s.Fields, schema.Field{}, schema.Field{})
	return s
}

// shopInputs are random records of shopStream, some late, some bad.
func shopInputs(r *rand.Rand, n int) []string {
	out := make([]string, n)
	now := 1000
	for i := range out {
		now += r.IntN(3)
		at := now
		if r.IntN(5) == 0 {
			at -= r.IntN(12)
		}
		switch r.IntN(40) {
		case 0:
			out[i] = `{"ts": nonsense`
		case 1:
			out[i] = fmt.Sprintf(`{"ts": %d, "key": "k%d", "amount": 1, "shop": "s"}`, at, r.IntN(6))
		default:
			out[i] = fmt.Sprintf(`{"ts": %d, "key": "k%d", "amount": %d.%02d, "shop": "s%d", "device": %d}`, at, r.IntN(6), r.IntN(100), r.IntN(100), r.IntN(5), r.IntN(4))
		}
	}
	return out
}

// shopWindow is a window of a shopProgram: the count and the sum of amounts of the
// events of the stream over, by the field past, as those of the stream reader ask for
// them by their field now.
type shopWindow struct {
	keyed        string // the keyed stream that it is on; empty: it is in its stream's own shards
	over, reader string
	past, now    int
	length       time.Duration
	listed       bool // only of events whose key is in the list watched
	chunk        int  // rows of a chunk of events that it keeps on disk; 0: it keeps them in memory
}

// shopProgram fires rules on what some windows say, and on lists and tables. It panics
// on the amount 666; its windows on keyed streams panic at poisonAmount.
type shopProgram struct {
	id      string
	streams []*schema.Stream
	windows []shopWindow
	truth   *truth // that tells what windows hold, in place of operators; nil: they do
}

func (p *shopProgram) ID() string { return p.id }

// Over implements Stepping: what the one before says is said in the name of both.
func (p *shopProgram) Over(program Program) (Program, error) {
	before := program.(*shopProgram)
	lacks := slices.ContainsFunc(p.windows, func(w shopWindow) bool { return !slices.Contains(before.windows, w) })
	if !lacks || strings.Count(before.id, Over) > 2 {
		return nil, nil
	}
	out := *before
	out.id = p.id + Over + before.id
	return &out, nil
}

// locally is the program with all windows in the shards of their streams.
func (p *shopProgram) locally() *shopProgram {
	local := *p
	local.windows = slices.Clone(p.windows)
	for i := range local.windows {
		local.windows[i].keyed = ""
	}
	return &local
}

// told is the program without operators.
func (p *shopProgram) told(tr *truth) *shopProgram {
	told := *p
	told.truth = tr
	return &told
}

func (p *shopProgram) windowsOf(reader string) (out []shopWindow) {
	for _, w := range p.windows {
		if w.reader == reader {
			out = append(out, w)
		}
	}
	return out
}

// features are those of the windows that a stream reads: two of each.
func (p *shopProgram) features(stream string) (types []event.Type) {
	if p.truth != nil {
		return nil
	}
	for range p.windowsOf(stream) {
		types = append(types, event.Type{Kind: event.Int64}, event.Type{Kind: event.Decimal, Scale: 2})
	}
	return types
}

func (p *shopProgram) slot(w shopWindow) int { return 2 * slices.Index(p.windowsOf(w.reader), w) }

// poisonAmount is an amount at which the windows of keyed streams panic.
const poisonAmount = 77700

// touchy are windows that panic at poisonAmount.
type (
	touchy     struct{ *window.Sliding }
	touchyLong struct{ *window.Long }
)

func (t touchy) Process(b *event.Batch, out *cep.Outbox) error {
	touch(b)
	return t.Sliding.Process(b, out)
}

func (t touchyLong) Process(b *event.Batch, out *cep.Outbox) error {
	touch(b)
	return t.Long.Process(b, out)
}

func touch(b *event.Batch) {
	if slices.Contains(b.Cols[2].Int64, poisonAmount) {
		panic("poison")
	}
}

func (p *shopProgram) operator(w shopWindow, tables **table.View) (Operator, error) {
	slot, x, amount := p.slot(w), window.Extent{Length: w.length}, event.Type{Kind: event.Decimal, Scale: 2}
	cfg := window.Config{Keys: []int{w.past}, Values: []window.Value{{Type: amount, Read: func(b *event.Batch, row int) (uint64, bool) { return uint64(b.Cols[2].Int64[row]), true }}},
		Outputs: []window.Output{{Slot: slot, Extent: x, Aggregate: window.Count, Value: -1}, {Slot: slot + 1, Extent: x, Aggregate: window.Sum}}}
	if w.keyed != "" {
		cfg.AskKeys = []int{w.now}
	}
	if w.listed {
		cfg.Filter = func(b *event.Batch, row int) bool { return inList(*tables, b, w.past, row) }
	}
	op := Operator{Identity: fmt.Sprint(w), Name: fmt.Sprint(w)}
	if w.chunk > 0 {
		long, err := window.NewLong(cfg, reservoir.Options{ChunkRows: w.chunk, SegmentBytes: 200})
		op.Operator = long
		if w.keyed != "" {
			op.Operator = touchyLong{long}
		}
		return op, err
	}
	sliding, err := window.New(cfg)
	op.Operator = sliding
	if w.keyed != "" {
		op.Operator = touchy{sliding}
	}
	return op, err
}

// inList reports whether an event's key is in the list watched.
func inList(v *table.View, b *event.Batch, key, row int) bool {
	if v == nil || b.Cols[key].IsNull(row) {
		return false
	}
	_, in := v.Table("watched").Find(b.Cols[key].AppendText(nil, row), b.Time[row])
	return in
}

func (p *shopProgram) Instance(s *schema.Stream) (Instance, error) {
	out := &shopInstance{p: p, stream: s.Schema.Stream}
	for _, w := range p.windowsOf(out.stream) {
		if w.keyed != "" || p.truth != nil {
			continue
		}
		op, err := p.operator(w, &out.tables)
		if err != nil {
			return nil, err
		}
		out.ops = append(out.ops, op)
	}
	return out, nil
}

// sourcesOf are the streams of a keyed stream.
func (p *shopProgram) sourcesOf(keyed string) (out []string) {
	for _, w := range p.windows {
		if w.keyed == keyed {
			out = append(out, w.over, w.reader)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// topicOf is the topic of a window's keyed stream: another one with other sources.
func (p *shopProgram) topicOf(w *shopWindow) string {
	return TopicKeyed + w.keyed + "." + strings.Join(p.sourcesOf(w.keyed), ".")
}

func (p *shopProgram) Keyed() (out []Keyed) {
	if p.truth != nil {
		return nil
	}
	for _, w := range p.windows {
		name := strings.TrimPrefix(p.topicOf(&w), TopicKeyed)
		if w.keyed == "" {
			continue
		}
		at := slices.IndexFunc(out, func(k Keyed) bool { return k.Name == name })
		if at < 0 {
			at = len(out)
			k := Keyed{Name: name}
			for _, s := range p.streams {
				if slices.Contains(p.sourcesOf(w.keyed), s.Schema.Stream) {
					k.Sources = append(k.Sources, KeyedSource{Stream: s, Key: []int{w.past}, Fields: []int{2, 3, 4}})
				}
			}
			out = append(out, k)
		}
		reader := &out[at].Sources[out[at].source(w.reader)]
		reader.Reads = append(reader.Reads, p.slot(w), p.slot(w)+1)
	}
	return out
}

func (p *shopProgram) KeyedInstance(i int) (KeyedInstance, error) {
	k := p.Keyed()[i]
	out := &shopKeyed{p: p, keyed: k}
	for _, w := range p.windows {
		if w.keyed == "" || p.topicOf(&w) != k.topic() {
			continue
		}
		op, err := p.operator(w, &out.tables)
		if err != nil {
			return nil, err
		}
		out.ops = append(out.ops, KeyedOperator{Operator: op, Over: k.source(w.over), Reader: k.source(w.reader)})
	}
	return out, nil
}

type shopKeyed struct {
	p     *shopProgram
	keyed Keyed
	ops   []KeyedOperator

	tables *table.View
}

func (k *shopKeyed) UseTables(v *table.View) { k.tables = v }

func (k *shopKeyed) Operators() []KeyedOperator { return k.ops }
func (k *shopKeyed) Features(source int) []event.Type {
	return k.p.features(k.keyed.Sources[source].Stream.Schema.Stream)
}

type shopInstance struct {
	p      *shopProgram
	stream string
	ops    []Operator
	tables *table.View
}

func (i *shopInstance) UseTables(v *table.View) { i.tables = v }

func (i *shopInstance) Needs() []int           { return []int{2, 3, 4} }
func (i *shopInstance) Features() []event.Type { return i.p.features(i.stream) }
func (i *shopInstance) Operators() []Operator  { return i.ops }

func (i *shopInstance) Decide(b *event.Batch, out *cep.Outbox, dst []Finding) ([]Finding, error) {
	for row := range b.Len() {
		amount := b.Cols[2].Int64[row]
		if amount == 66600 {
			panic("666")
		}
		var text []string
		if i.p.truth != nil {
			var err error
			if text, err = i.p.truth.features(i.p, i.stream, b, out, row, i.tables); err != nil {
				return nil, err
			}
		}
		for c := range out.Features {
			text = append(text, string(out.Features[c].AppendJSON(nil, row)))
		}
		var values event.Values
		for c := range text {
			values = append(values, event.Value{Name: fmt.Sprint("f", c), JSON: text[c]})
		}
		if amount%5 != 4 {
			dst = append(dst, Finding{Row: row, Rule: "windows", Action: "alert", Severity: "low", Score: float64(amount % 7), Values: values})
		}
		if inList(i.tables, b, 1, row) {
			dst = append(dst, Finding{Row: row, Rule: "watched", Action: "allow"})
		}
		if i.tables != nil {
			r, there := i.tables.Table("limits").Find(b.Cols[1].AppendText(nil, row), b.Time[row])
			if there && amount > int64(r.Bits(0)) {
				dst = append(dst, Finding{Row: row, Rule: "over", Action: "decline", Severity: "high", Message: "over", Values: event.Values{{Name: "limit", JSON: fmt.Sprint(int64(r.Bits(0)))}}})
			}
		}
		if amount%7 == 3 {
			dst = append(dst, Finding{Row: row, Rule: "quiet", Shadow: true, Action: "review", Values: values})
		}
	}
	return dst, nil
}

// keyedBench is a bench with more than one stream and keyed streams of some partitions.
type keyedBench struct {
	*bench
	streams []*schema.Stream
	parts   int32
}

func newKeyedBench(seed uint64, prog *shopProgram, parts int32, in map[string][][]string) *keyedBench {
	b := &keyedBench{bench: newBench(seed, nil), parts: parts}
	b.prog, b.streams, b.stream = prog, prog.streams, prog.streams[0]
	for _, s := range prog.streams {
		for p, values := range in[s.Schema.Stream] {
			b.log.produce(s.Topic, int32(p), values...)
		}
	}
	return b
}

func (b *keyedBench) engine(t *testing.T, changes ...func(*Options)) *Engine {
	t.Helper()
	keyed := func(o *Options) { o.KeyedTopic = func(string, int32) (int32, error) { return b.parts, nil } }
	return b.bench.engineOf(t, b.streams, append(changes, keyed)...)
}

// run runs an engine until all input is decided or the log is killed.
func (b *keyedBench) run(t *testing.T) {
	t.Helper()
	b.until(t, b.engine(t), b.streams)
}

func (b *keyedBench) result() map[string][]string {
	out := map[string][]string{}
	for _, s := range b.streams {
		for p := range s.Partitions {
			origin := fmt.Sprintf("%s/%d", s.Topic, p)
			for _, topic := range []string{event.TopicDecisions, event.TopicAlerts, event.TopicDeadLetters} {
				out[topic+" of "+origin] = b.log.outputOf(topic, outputPartitions, origin)
			}
		}
	}
	return out
}

// forgetKeyed removes the checkpoints of keyed streams' shards.
func (b *keyedBench) forgetKeyed(t *testing.T) {
	t.Helper()
	names, err := b.fs.List("checkpoints")
	names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, TopicKeyed) })
	if err != nil || len(names) == 0 {
		t.Fatal("no checkpoints of a keyed stream", err)
	}
	for _, name := range names {
		if err := vfs.RemoveAll(b.fs, "checkpoints/"+name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKeyedResumes wants a keyed stream's shards to go on from their checkpoints after
// an orderly stop, and to make their state again where these are gone.
func TestKeyedResumes(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	first, second := shopInputs(r, 600), shopInputs(r, 300)
	prog := &shopProgram{id: "p1", streams: []*schema.Stream{shopStream("s", 1)},
		windows: []shopWindow{{"shop", "s", "s", 3, 3, 90 * time.Second, false, 0}}}
	rows := func(e *Engine) (n int64) {
		for _, k := range e.KeyedStatus() {
			n += k.Rows
		}
		return n
	}
	all := map[string][][]string{"s": {append(slices.Clone(first), second...)}}
	want := newKeyedBench(4, prog.locally(), 0, all)
	want.run(t)
	b := newKeyedBench(4, prog, 3, map[string][][]string{"s": {first}})
	b.run(t)
	b.log.produce("in", 0, second...)
	e := b.engine(t)
	b.until(t, e, b.streams)
	sameResults(t, want.result(), b.result())
	if n := rows(e); n == 0 || n > int64(len(second)) {
		t.Errorf("after a restart %d rows were taken in, of %d new events", n, len(second))
	}
	b.forgetKeyed(t)
	b.log.produce("in", 0, second...)
	e = b.engine(t)
	b.until(t, e, b.streams)
	if n := rows(e); n < int64(len(first)) {
		t.Errorf("without checkpoints %d rows were taken in", n)
	}
}

// TestKeyedAfterDamage flips a byte of a source's newest checkpoint: the source decides
// events again that the keyed stream's newest checkpoint has passed, and finds their
// features, as that one is not used then.
func TestKeyedAfterDamage(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	parts := [][]string{shopInputs(r, 300), shopInputs(r, 300), shopInputs(r, 300)}
	prog := &shopProgram{id: "p1", streams: []*schema.Stream{shopStream("s", 1)},
		windows: []shopWindow{{"shop", "s", "s", 3, 3, 90 * time.Second, false, 0}}}
	want := newKeyedBench(6, prog.locally(), 0, map[string][][]string{"s": {slices.Concat(parts...)}})
	want.run(t)
	b := newKeyedBench(6, prog, 2, nil)
	for i, part := range parts {
		b.log.produce("in", 0, part...)
		if i == 2 {
			names, err := b.fs.List("checkpoints/s-0")
			if err != nil {
				t.Fatal(err)
			}
			names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".manifest") })
			if len(names) != 2 {
				t.Fatalf("%d checkpoints, want two", len(names))
			}
			if err := vfs.FlipByte(b.fs, "checkpoints/s-0/"+slices.Max(names), 20); err != nil {
				t.Fatal(err)
			}
		}
		b.run(t)
	}
	sameResults(t, want.result(), b.result())
}

// TestKeyedPanic has an event that the windows of a keyed stream panic at: it is decided
// without what they would say, enters none of them, and all others are decided.
func TestKeyedPanic(t *testing.T) {
	prog := &shopProgram{id: "p1", streams: []*schema.Stream{shopStream("s", 1)},
		windows: []shopWindow{{"shop", "s", "s", 3, 3, time.Hour, false, 0}}}
	var in []string
	for i := range 40 {
		amount := 1
		if i == 20 {
			amount = poisonAmount / 100
		}
		in = append(in, fmt.Sprintf(`{"ts": %d, "key": "k", "amount": %d, "shop": "s1"}`, 1000+i, amount))
	}
	b := newKeyedBench(1, prog, 1, map[string][][]string{"s": {in}})
	e := b.engine(t)
	stop := start(t, e)
	for e.Status()[0].Cursor < int64(len(in)) && t.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	decisions := b.log.outputOf(event.TopicDecisions, outputPartitions, "in/0")
	if len(decisions) != len(in) {
		t.Fatalf("%d decisions of %d events", len(decisions), len(in))
	}
	for i, d := range decisions {
		want := fmt.Sprintf(`"f0":%d,`, i+1)
		switch {
		case i == 20:
			want = `"f0":null,"f1":null`
		case i > 20:
			want = fmt.Sprintf(`"f0":%d,"f1":"%d.00"`, i, i)
		}
		if !strings.Contains(d, want) {
			t.Errorf("event %d: %s, want %s", i, d, want)
		}
	}
}

// TestKeyedBlockAgain ends a life within a block of several sources' rows: the next one
// delivers each row once.
func TestKeyedBlockAgain(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	prog := &shopProgram{id: "p1", streams: []*schema.Stream{shopStream("s", 3)}, windows: []shopWindow{{"shop", "s", "s", 3, 3, time.Hour, false, 0}}}
	b := newKeyedBench(7, prog, 1, map[string][][]string{"s": {shopInputs(r, 50), shopInputs(r, 50), shopInputs(r, 50)}})
	e := b.engine(t)
	b.until(t, e, b.streams)
	k := e.groups[0].keyed[0]
	for i := range k.sources {
		s := k.sources[i].shard
		s.gather = newGather(s.projections, 0)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	ended := 0
	for i := range b.log.part(k.topic.topic(), 0).recs {
		rec := &b.log.part(k.topic.topic(), 0).recs[i]
		if err := k.block(gone, rec); errors.Is(err, context.Canceled) {
			ended++
		}
		if err := k.block(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	if ended == 0 {
		t.Fatal("no block was ended: the test looks at nothing")
	}
	for i := range k.sources {
		last := int64(-1)
		for _, p := range k.sources[i].shard.gather.reads[0].queues[0].parts {
			for _, offset := range p.offsets {
				if offset <= last {
					t.Fatalf("source %d: the features of %d behind those of %d", i, offset, last)
				}
				last = offset
			}
		}
	}
}

// waitRows waits until a partition of a keyed stream has rows of a source.
func (l *memLog) waitRows(t *testing.T, name, stream string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for from := 0; ; l.cond.Wait() {
		p := l.parts[name]
		for ; p != nil && from < len(p.recs); from++ {
			r := blockReader{data: p.recs[from].Value}
			parts := r.headers(nil)
			if r.err != nil {
				t.Error(r.err)
			}
			if slices.ContainsFunc(parts, func(h blockHeader) bool { return h.stream == stream && h.rows > 0 }) {
				return
			}
		}
	}
}

// TestKeyedStop stops an engine while far more of one stream is in a keyed stream than
// its shard has decided again since a kill. The other's events, behind that, are decided.
func TestKeyedStop(t *testing.T) {
	prog := &shopProgram{id: "p1", streams: []*schema.Stream{shopStream("s", 1), shopStream("c", 1)},
		windows: []shopWindow{{"shop", "s", "s", 3, 3, 30 * time.Second, false, 0}, {"shop", "c", "c", 3, 3, 30 * time.Second, false, 0}}}
	const many, few = 3 * gatherRows, 10
	b := newKeyedBench(1, prog, 1, map[string][][]string{"s": {shopInputs(rand.New(rand.NewPCG(1, 17)), many)}})
	life := func(kill bool) error {
		e := b.engine(t)
		stop := start(t, e)
		if kill {
			b.log.waitEnds("in", 1)
			b.log.mu.Lock()
			b.log.dead = true
			b.log.mu.Unlock()
		} else {
			b.log.waitRows(t, partName(prog.topicOf(&prog.windows[1]), 0), "c")
		}
		return stop()
	}
	life(true) //nolint:errcheck // killed
	b.log.revive()
	b.log.produce("in.c", 0, shopInputs(rand.New(rand.NewPCG(2, 17)), few)...)
	if err := life(false); err != nil {
		t.Fatal(err)
	}
	if n := len(b.log.outputOf(event.TopicDecisions, outputPartitions, "in.c/0")); n == 0 {
		t.Error("nothing of the other stream was decided")
	}
}
