package engine

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
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

// keyedWindow is a window of the test's program: of a length, over the stream over, by
// the field there, read by events of the stream reader by the field there.
type keyedWindow struct {
	keyed        string
	over, reader string
	past, now    int
	length       time.Duration
}

// Slots 0 and 1 are local, as of testProgram; each keyedWindow has two of its reader's
// slots, a count and a sum of amounts.
const localSlots = 2

// shopProgram fires a rule on each event that tells all its features.
type shopProgram struct {
	testProgram
	streams []*schema.Stream
	windows []keyedWindow
	listed  int  // the first so many windows hold only events whose key is in the list watched
	local   bool // computes what it can in the source's shards
	known   map[event.Origin]map[int64][]string
}

func (p *shopProgram) windowsOf(reader string) (out []keyedWindow) {
	for _, w := range p.windows {
		if w.reader == reader {
			out = append(out, w)
		}
	}
	return out
}

func (p *shopProgram) features(stream string) []event.Type {
	types := []event.Type{{Kind: event.Int64}, {Kind: event.Decimal, Scale: 2}}
	for range p.windowsOf(stream) {
		types = append(types, types[:localSlots]...)
	}
	return types
}

func (p *shopProgram) slot(w keyedWindow) int {
	return localSlots + 2*slices.Index(p.windowsOf(w.reader), w)
}

// poisonAmount is an amount at which the windows of keyed streams panic.
const poisonAmount = 77700

func (p *shopProgram) operator(w keyedWindow, tables **table.View) (Operator, error) {
	amount := func(b *event.Batch, row int) (uint64, bool) {
		if b.Cols[2].Int64[row] == poisonAmount {
			panic("poison")
		}
		return uint64(b.Cols[2].Int64[row]), true
	}
	slot := p.slot(w)
	var filter func(*event.Batch, int) bool
	if slices.Index(p.windows, w) < p.listed {
		filter = func(b *event.Batch, row int) bool { return inList(*tables, b, w.past, row) }
	}
	op, err := window.New(window.Config{Keys: []int{w.past}, AskKeys: []int{w.now}, Filter: filter, Values: []window.Value{{Type: event.Type{Kind: event.Decimal, Scale: 2}, Read: amount}},
		Outputs: []window.Output{{Slot: slot, Extent: window.Extent{Length: w.length}, Aggregate: window.Count, Value: -1}, {Slot: slot + 1, Extent: window.Extent{Length: w.length}, Aggregate: window.Sum}}})
	return Operator{Identity: fmt.Sprint(w), Name: fmt.Sprint(w), Operator: op}, err
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
	in, err := newTestInstance(s, p.longest, 0)
	if err != nil {
		return nil, err
	}
	out := &shopInstance{testInstance: in.(*testInstance), p: p, stream: s.Schema.Stream, ops: in.Operators()}
	if p.local {
		for _, w := range p.windowsOf(out.stream) {
			op, err := p.operator(w, &out.tables)
			if err != nil {
				return nil, err
			}
			out.ops = append(out.ops, op)
		}
	}
	return out, nil
}

func (p *shopProgram) Keyed() (out []Keyed) {
	if p.local || p.known != nil {
		return nil
	}
	for _, w := range p.windows {
		i := slices.IndexFunc(out, func(k Keyed) bool { return k.Name == w.keyed })
		if i < 0 {
			i = len(out)
			out = append(out, Keyed{Name: w.keyed})
		}
		add := func(stream string, key int) *KeyedSource {
			if at := out[i].source(stream); at >= 0 {
				return &out[i].Sources[at]
			}
			s := p.streams[slices.IndexFunc(p.streams, func(s *schema.Stream) bool { return s.Schema.Stream == stream })]
			out[i].Sources = append(out[i].Sources, KeyedSource{Stream: s, Key: []int{key}, Fields: slices.Compact([]int{2, 3, 4})})
			return &out[i].Sources[len(out[i].Sources)-1]
		}
		add(w.over, w.past)
		src := add(w.reader, w.now)
		src.Reads = append(src.Reads, p.slot(w), p.slot(w)+1)
	}
	return out
}

func (p *shopProgram) KeyedInstance(i int) (KeyedInstance, error) {
	k := p.Keyed()[i]
	out := &shopKeyed{p: p, keyed: k}
	for _, w := range p.windows {
		if w.keyed != k.Name {
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
	*testInstance
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
		f := Finding{Row: row, Rule: "all", Action: "alert"}
		text := make([]string, len(out.Features))
		for c := range out.Features {
			if row < out.Features[c].Len() {
				text[c] = string(out.Features[c].AppendJSON(nil, row))
			}
		}
		if i.p.known != nil {
			copy(text[localSlots:], i.p.known[b.OriginOf(row)][b.Offset[row]])
		}
		for c := range text {
			f.Values = append(f.Values, event.Value{Name: fmt.Sprint("f", c), JSON: text[c]})
		}
		if b.Cols[2].Int64[row] == 66600 {
			panic("666")
		}
		dst = append(dst, f)
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

func (b *keyedBench) engine(t *testing.T) *Engine {
	t.Helper()
	o := b.opts
	o.FS, o.Dir, o.Open, o.Sink = b.fs, "checkpoints", b.log.open, b.log
	o.KeyedTopic = func(string, int32) (int32, error) { return b.parts, nil }
	e, err := New(b.streams, b.prog, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// run runs an engine until all input is decided or the log is killed.
func (b *keyedBench) run(t *testing.T) {
	t.Helper()
	b.until(t, b.engine(t), b.streams)
}

// untilDecided decides all input in random lives, of which all but the last are killed.
func (b *keyedBench) untilDecided(t *testing.T, r *rand.Rand) {
	t.Helper()
	b.bench.untilDecided(r, r.IntN(6), 60, func() { b.run(t) })
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

// TestKeyedEqualsLocal has one source partition: its order is the keyed streams' order,
// however many partitions those have, so what is decided is the same bytes as with
// windows in the source's own shard.
func TestKeyedEqualsLocal(t *testing.T) {
	testSeeds(t, 10, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 3))
		in := map[string][][]string{"s": {shopInputs(r, 200+r.IntN(1500))}}
		prog := &shopProgram{testProgram: testProgram{"p1", 20 * time.Second}, streams: []*schema.Stream{shopStream("s", 1)},
			windows: []keyedWindow{{"shop", "s", "s", 3, 3, 30 * time.Second}, {"shop", "s", "s", 3, 3, 90 * time.Second}, {"device", "s", "s", 4, 4, 40 * time.Second}}}
		local := *prog
		local.local = true
		want := newKeyedBench(seed, &local, 0, in)
		want.run(t)

		b := newKeyedBench(seed+1, prog, 1+r.Int32N(4), in)
		b.untilDecided(t, r)
		b.checkBlocks(t)
		sameResults(t, want.result(), b.result())
	})
}

// TestKeyedInTime has events of distinct times that are all there when the engine
// begins, in any number of partitions of two streams: keyed streams take them in the
// order of time, through kills and restarts, so that what is decided is what one
// partition of each decides, but for where it was logged.
func TestKeyedInTime(t *testing.T) {
	testSeeds(t, 10, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 5))
		n := 100 + r.IntN(1200)
		events := map[string][]string{}
		for i := range n {
			name := []string{"s", "s", "c"}[r.IntN(3)]
			events[name] = append(events[name], fmt.Sprintf(`{"ts": %d, "key": "k%d", "amount": %d.%02d, "shop": "s%d", "device": %d}`, 1000+i, r.IntN(6), r.IntN(100), r.IntN(100), r.IntN(5), r.IntN(4)))
		}
		bench := func(seed uint64, partitions, parts int32) *keyedBench {
			in := map[string][][]string{}
			for name, all := range events {
				in[name] = make([][]string, partitions)
				for _, e := range all {
					p := int(e[strings.Index(e, `"key": "k`)+9]) % int(partitions) // its key's
					in[name][p] = append(in[name][p], e)
				}
			}
			prog := &shopProgram{testProgram: testProgram{"p1", 20 * time.Second}, streams: []*schema.Stream{shopStream("s", partitions), shopStream("c", partitions)},
				windows: []keyedWindow{{"shop", "s", "s", 3, 3, 30 * time.Second}, {"shop", "c", "s", 3, 3, 90 * time.Second}, {"device", "s", "s", 4, 4, 40 * time.Second}, {"device", "c", "c", 4, 4, 40 * time.Second}}}
			return newKeyedBench(seed, prog, parts, in)
		}
		want := bench(seed, 1, 1)
		want.run(t)
		b := bench(seed+1, 1+r.Int32N(4), 1+r.Int32N(4))
		b.untilDecided(t, r)
		b.checkBlocks(t)
		sameResults(t, want.byTime(), b.byTime())
	})
}

// byTime is what was decided, but for where the events were logged, by time.
func (b *keyedBench) byTime() map[string][]string {
	origin := regexp.MustCompile(`in(\.c)?/\d+/\d+|"(partition|offset)":\d+`)
	out := map[string][]string{}
	for name, all := range b.result() {
		topic, _, _ := strings.Cut(name, " ")
		for _, one := range all {
			out[topic] = append(out[topic], origin.ReplaceAllString(one, ""))
		}
	}
	for _, all := range out {
		slices.Sort(all)
	}
	return out
}

// TestKeyedResumes wants a keyed stream's shards to go on from their checkpoints after
// an orderly stop, and to make their state again where these are gone.
func TestKeyedResumes(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	first, second := shopInputs(r, 600), shopInputs(r, 300)
	prog := &shopProgram{testProgram: testProgram{"p1", 20 * time.Second}, streams: []*schema.Stream{shopStream("s", 1)},
		windows: []keyedWindow{{"shop", "s", "s", 3, 3, 90 * time.Second}}}
	rows := func(e *Engine) (n int64) {
		for _, k := range e.KeyedStatus() {
			n += k.Rows
		}
		return n
	}
	all := map[string][][]string{"s": {append(slices.Clone(first), second...)}}
	local := *prog
	local.local = true
	want := newKeyedBench(4, &local, 0, all)
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
	names, err := b.fs.List("checkpoints")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, TopicKeyed) {
			files, err := b.fs.List("checkpoints/" + name)
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			for _, f := range files {
				if err := b.fs.Remove("checkpoints/" + name + "/" + f); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
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
	prog := &shopProgram{testProgram: testProgram{"p1", 20 * time.Second}, streams: []*schema.Stream{shopStream("s", 1)},
		windows: []keyedWindow{{"shop", "s", "s", 3, 3, 90 * time.Second}}}
	local := *prog
	local.local = true
	want := newKeyedBench(6, &local, 0, map[string][][]string{"s": {slices.Concat(parts...)}})
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
	prog := &shopProgram{testProgram: testProgram{"p1", 20 * time.Second}, streams: []*schema.Stream{shopStream("s", 1)},
		windows: []keyedWindow{{"shop", "s", "s", 3, 3, time.Hour}}}
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
		want := fmt.Sprintf(`"f2":%d,`, i+1)
		switch {
		case i == 20:
			want = `"f2":null,"f3":null`
		case i > 20:
			want = fmt.Sprintf(`"f2":%d,"f3":"%d.00"`, i, i)
		}
		if !strings.Contains(d, want) {
			t.Errorf("event %d: %s, want %s", i, d, want)
		}
	}
}

// checkBlocks wants no row to be in a keyed stream twice, and none to be left out.
func (b *keyedBench) checkBlocks(t *testing.T) {
	t.Helper()
	for name, p := range b.log.parts {
		if !strings.HasPrefix(name, TopicKeyed) {
			continue
		}
		next := map[string]int64{}
		for i := range p.recs {
			r := blockReader{data: p.recs[i].Value}
			headers := r.headers(nil)
			if r.err != nil {
				t.Fatalf("%s@%d: %v", name, i, r.err)
			}
			for _, h := range headers {
				of := partName(h.stream, h.partition)
				if h.from != next[of] {
					t.Fatalf("%s@%d: a block of %s from %d to %d, the one before ended at %d", name, i, of, h.from, h.to, next[of])
				}
				next[of] = h.to
			}
		}
	}
}
