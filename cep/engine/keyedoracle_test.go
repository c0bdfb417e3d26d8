package engine

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/table"
)

// twoStreams is a program over two streams with windows on two keyed streams: of one's
// own events, and of the other's by the same key.
func twoStreams(a, b int32) *shopProgram {
	return &shopProgram{testProgram: testProgram{"p1", 20 * time.Second}, streams: []*schema.Stream{shopStream("s", a), shopStream("c", b)},
		windows: []keyedWindow{
			{"shop", "s", "s", 3, 3, 30 * time.Second},
			{"shop", "c", "s", 3, 3, 60 * time.Second},
			{"device", "s", "s", 4, 4, 40 * time.Second},
			{"device", "c", "c", 4, 4, 50 * time.Second},
			{"shop", "s", "c", 3, 3, 20 * time.Second},
		}}
}

// twoInputs are random records of twoStreams.
func twoInputs(r *rand.Rand, p *shopProgram, most int) map[string][][]string {
	in := map[string][][]string{}
	for _, s := range p.streams {
		for range s.Partitions {
			in[s.Schema.Stream] = append(in[s.Schema.Stream], shopInputs(r, r.IntN(most)))
		}
	}
	return in
}

// lives runs engines over inputs that come in parts, through some kills; between and
// within lives the list watched changes, where tables is set.
func (b *keyedBench) lives(t *testing.T, r *rand.Rand, in map[string][][]string, kills int, tables bool) {
	t.Helper()
	left := map[string][][]string{}
	for _, s := range b.streams {
		left[s.Schema.Stream] = slices.Clone(in[s.Schema.Stream])
	}
	for parts := 1 + r.IntN(3); parts > 0; parts-- {
		for _, s := range b.streams {
			b.produceSome(r, s.Topic, left[s.Schema.Stream], parts == 1)
		}
		for dead := true; dead; {
			b.opts.BatchRows = 1 + r.IntN(300)
			if r.IntN(8) == 0 {
				b.opts.BatchRows = 1
			}
			b.opts.CheckpointEvery = []time.Duration{time.Nanosecond, time.Millisecond, time.Hour}[r.IntN(3)]
			var changed chan struct{}
			if tables {
				changed = b.changeList(t, r)
			}
			if kills > 0 && r.IntN(3) > 0 {
				kills--
				b.log.mu.Lock()
				b.log.fuse = 1 + r.IntN(80)
				b.log.mu.Unlock()
			}
			b.run(t)
			if tables {
				<-changed
			}
			dead = b.log.isDead()
			b.log.revive()
			b.fs = b.fs.CrashClone()
		}
	}
}

// changeList changes the list watched now, and some more times while events are decided.
func (b *keyedBench) changeList(t *testing.T, r *rand.Rand) chan struct{} {
	t.Helper()
	store := b.openTables(t)
	r = rand.New(rand.NewPCG(r.Uint64(), 4))
	change := func() error {
		changes := []table.Change{{Op: table.OpDeclare, Definition: watched}}
		for range 1 + r.IntN(4) {
			op := []table.Op{table.OpPut, table.OpPut, table.OpRemove}[r.IntN(3)]
			changes = append(changes, table.Change{Op: op, Table: "watched", Entry: table.Entry{Key: []table.Value{{Bytes: fmt.Appendf(nil, "s%d", r.IntN(5))}}}})
		}
		_, err := store.Change(t.Context(), changes)
		return err
	}
	if err := change(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range r.IntN(6) {
			if change() != nil {
				return // killed
			}
		}
	}()
	return done
}

// pastEvent is an event in a naive window.
type pastEvent struct {
	at     event.Time
	amount int64
}

// naive recomputes the windows of a program from the keyed streams' topics, each event's
// from the first record on, in the order that the topics have.
func (b *keyedBench) naive(t *testing.T, p *shopProgram) map[event.Origin]map[int64][]string {
	t.Helper()
	known := map[event.Origin]map[int64][]string{}
	for _, k := range p.Keyed() {
		for q := range b.parts {
			past := make([]map[string][]pastEvent, len(p.windows))
			for i := range past {
				past[i] = map[string][]pastEvent{}
			}
			b.eachBlock(t, &k, q, func(h *blockHeader, batch *event.Batch, out *cep.Outbox) {
				var view *table.View
				if b.opts.Tables != nil {
					var err error
					if view, err = b.opts.Tables.At(t.Context(), h.tables); err != nil {
						t.Fatal(err)
					}
				}
				for row := range batch.Len() {
					for i, w := range p.windows {
						if w.keyed == k.Name {
							p.naiveRow(i, h.stream, batch, out, row, past[i], view, known)
						}
					}
				}
			})
		}
	}
	return known
}

// naiveRow takes an event into one window and notes what the window tells it.
func (p *shopProgram) naiveRow(i int, stream string, b *event.Batch, out *cep.Outbox, row int, past map[string][]pastEvent, view *table.View, known map[event.Origin]map[int64][]string) {
	w := p.windows[i]
	if key := string(b.Cols[w.past].AppendText(nil, row)); stream == w.over && !out.Late[row] && !b.Cols[w.past].IsNull(row) && (i >= p.listed || inList(view, b, w.past, row)) {
		past[key] = append(past[key], pastEvent{b.Time[row], b.Cols[2].Int64[row]})
	}
	if stream != w.reader {
		return
	}
	count, sum := "null", "null"
	if !b.Cols[w.now].IsNull(row) {
		from := b.Time[row].Sub(w.length)
		if out.Late[row] {
			from = max(from, out.Watermark[row].Sub(w.length))
		}
		n, total := int64(0), int64(0)
		for _, e := range past[string(b.Cols[w.now].AppendText(nil, row))] {
			if e.at > from && e.at <= b.Time[row] {
				n++
				total += e.amount
			}
		}
		var c event.Column
		c.Reset(event.Type{Kind: event.Decimal, Scale: 2})
		c.AppendInt64(total)
		count, sum = fmt.Sprint(n), string(c.AppendJSON(nil, 0))
	}
	origin, offset := b.OriginOf(row), b.Offset[row]
	if known[origin] == nil {
		known[origin] = map[int64][]string{}
	}
	if known[origin][offset] == nil {
		known[origin][offset] = make([]string, 2*len(p.windowsOf(stream)))
	}
	at := p.slot(w) - localSlots
	known[origin][offset][at], known[origin][offset][at+1] = count, sum
}

// eachBlock is the rows in a partition of a keyed stream, in order, each a batch of its
// own.
func (b *keyedBench) eachBlock(t *testing.T, k *Keyed, q int32, each func(*blockHeader, *event.Batch, *cep.Outbox)) {
	t.Helper()
	for i, rec := range b.log.part(k.topic(), q).recs {
		r := blockReader{data: rec.Value}
		headers := r.headers(nil)
		order := r.order(headers)
		if len(headers) == 1 {
			order = make([]uint8, headers[0].rows)
		}
		batches, outs := make([]event.Batch, len(headers)), make([]cep.Outbox, len(headers))
		for n := range headers {
			h := &headers[n]
			if r.err != nil || k.source(h.stream) < 0 {
				t.Fatalf("%s[%d]@%d: %v, of %q", k.topic(), q, i, r.err, h.stream)
			}
			src := &k.Sources[k.source(h.stream)]
			batches[n].Reset(src.Stream.Schema, src.Fields)
			outs[n].Reset(nil)
			if h.rows > 0 {
				if err := r.rows(h, event.MinTime, &batches[n], &outs[n], src.Fields); err != nil {
					t.Fatalf("%s[%d]@%d: %v", k.topic(), q, i, err)
				}
			}
		}
		next := make([]int, len(headers))
		for _, n := range order {
			row := next[n]
			next[n]++
			src := &k.Sources[k.source(headers[n].stream)]
			var one event.Batch
			one.Reset(src.Stream.Schema, src.Fields)
			one.Origin = append(one.Origin, event.Origin{Topic: src.Stream.Topic, Partition: headers[n].partition})
			one.Offset, one.Time = batches[n].Offset[row:row+1], batches[n].Time[row:row+1]
			for _, f := range src.Fields {
				one.Cols[f].AppendFrom(&batches[n].Cols[f], row)
			}
			each(&headers[n], &one, &cep.Outbox{Late: outs[n].Late[row : row+1], Watermark: outs[n].Watermark[row : row+1], Low: outs[n].Low[row : row+1]})
		}
	}
}

// oracle is what a program decides where it is told all features of keyed streams, in
// one life.
func (b *keyedBench) oracle(t *testing.T, seed uint64, in map[string][][]string) map[string][]string {
	t.Helper()
	told := *b.prog.(*shopProgram)
	told.known = b.naive(t, &told)
	want := newKeyedBench(seed, &told, 0, in)
	want.run(t)
	return want.result()
}

func records(of map[string][]string) (n int) {
	for _, recs := range of {
		n += len(recs)
	}
	return n
}

// TestKeyedOracle wants what is decided through any lives to be what the order in the
// keyed streams' topics says, with two streams of several partitions on two keyed
// streams, and no event in those twice.
func TestKeyedOracle(t *testing.T) {
	decided := 0
	testSeeds(t, 100, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 11))
		prog := twoStreams(1+r.Int32N(3), 1+r.Int32N(2))
		in := twoInputs(r, prog, 400)
		b := newKeyedBench(seed, prog, 1+r.Int32N(4), nil)
		b.lives(t, r, in, r.IntN(7), false)
		b.checkBlocks(t)
		got := b.result()
		sameResults(t, b.oracle(t, seed+1, in), got)
		decided += records(got)
	})
	if decided == 0 {
		t.Error("nothing was ever decided: the test looks at nothing")
	}
}

// TestKeyedOracleWithLists is TestKeyedOracle where conditions of windows read a list
// that changes meanwhile. The same log and journal then give the same decisions in one
// life, from the keyed streams' topics as they are.
func TestKeyedOracleWithLists(t *testing.T) {
	testSeeds(t, 15, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 12))
		prog := twoStreams(1+r.Int32N(3), 1+r.Int32N(2))
		prog.listed = 2
		in := twoInputs(r, prog, 400)
		b := newKeyedBench(seed, prog, 1+r.Int32N(4), nil)
		b.lives(t, r, in, r.IntN(7), true)
		b.checkBlocks(t)
		got := b.result()
		b.openTables(t)
		sameResults(t, b.oracle(t, seed+1, in), got)

		again := b.again(seed+2, "in", TopicKeyed, TopicJournal, table.TopicTables)
		again.openTables(t)
		again.opts.BatchRows = 1 + r.IntN(300)
		again.run(t)
		sameResults(t, got, again.result())
		for name, p := range b.log.parts {
			if strings.HasPrefix(name, TopicKeyed) && len(again.log.parts[name].recs) < len(p.recs) {
				t.Errorf("%s has %d records after a replay, and %d before", name, len(again.log.parts[name].recs), len(p.recs))
			}
		}
		again.checkBlocks(t)
	})
}

// replay is a bench with some topics of another and nothing that it decided, which uses
// the journal as it is.
func (b *keyedBench) again(seed uint64, topics ...string) *keyedBench {
	again := newKeyedBench(seed, b.prog.(*shopProgram), b.parts, nil)
	for name, p := range b.log.parts {
		if slices.ContainsFunc(topics, func(topic string) bool { return strings.HasPrefix(name, topic) }) {
			again.log.parts[name] = &memPartition{recs: slices.Clone(p.recs), durable: len(p.recs)}
		}
	}
	again.opts = b.opts
	again.opts.Journal = JournalReplay
	return again
}

// TestKeyedReplay has one source partition, whose order is all there is: from the log
// and the journal alone, without the keyed streams' topics, the same is decided.
func TestKeyedReplay(t *testing.T) {
	testSeeds(t, 15, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 13))
		prog := &shopProgram{testProgram: testProgram{"p1", 20 * time.Second}, streams: []*schema.Stream{shopStream("s", 1)},
			listed:  1,
			windows: []keyedWindow{{"shop", "s", "s", 3, 3, 30 * time.Second}, {"device", "s", "s", 4, 4, 40 * time.Second}}}
		in := twoInputs(r, prog, 800)
		b := newKeyedBench(seed, prog, 1+r.Int32N(3), nil)
		b.lives(t, r, in, r.IntN(7), true)
		got := b.result()
		again := b.again(seed+1, "in", TopicJournal, table.TopicTables)
		again.openTables(t)
		again.opts.BatchRows = 1 + r.IntN(300)
		again.run(t)
		sameResults(t, got, again.result())
	})
}

// TestKeyedProgramChange decides some events with one program and the others with one
// that has more windows: those know of the events before.
func TestKeyedProgramChange(t *testing.T) {
	testSeeds(t, 15, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 14))
		whole := twoStreams(1+r.Int32N(3), 1+r.Int32N(2))
		first := *whole
		switch r.IntN(3) {
		case 0:
			first.local, first.windows = true, nil
		case 1:
			first.windows = whole.windows[:2] // only by shop
		case 2:
			first.windows = whole.windows[3:]
		}
		whole.id = "p2"
		before, after := twoInputs(r, whole, 300), twoInputs(r, whole, 300)
		b := newKeyedBench(seed, &first, 1+r.Int32N(4), nil)
		b.lives(t, r, before, r.IntN(4), false)
		told := map[event.Origin]map[int64][]string{}
		if !first.local {
			told = b.naive(t, &first)
		}
		held := map[string]int{}
		for name, p := range b.log.parts {
			held[name] = len(p.recs)
		}
		b.prog = whole
		b.lives(t, r, after, r.IntN(4), false)
		b.checkBlocks(t)
		for _, k := range whole.Keyed() {
			b.checkFrozen(t, &k, before, held)
		}

		one, two := first, *whole
		one.known, two.known = told, b.naive(t, whole)
		want := newKeyedBench(seed+1, &one, 0, before)
		want.run(t)
		for _, s := range b.streams {
			for p, values := range after[s.Schema.Stream] {
				want.log.produce(s.Topic, int32(p), values...)
			}
		}
		want.prog = &two
		want.run(t)
		sameResults(t, want.result(), b.result())
	})
}

// checkFrozen wants the events before the program changed to be in a keyed stream that
// was not there before in the order of their times, and of topic, partition and offset
// where those are equal; one that is behind a younger one of its partition counts as
// old as that.
func (b *keyedBench) checkFrozen(t *testing.T, k *Keyed, before map[string][][]string, held map[string]int) {
	t.Helper()
	type row struct {
		at     event.Time
		origin event.Origin
		offset int64
	}
	all := map[event.Origin][]row{}
	parts := make([][]row, b.parts)
	for q := range b.parts {
		if held[partName(k.topic(), q)] > 0 {
			return // it was there
		}
		b.eachBlock(t, k, q, func(h *blockHeader, batch *event.Batch, _ *cep.Outbox) {
			for i := range batch.Len() {
				if x := (row{batch.Time[i], batch.OriginOf(i), batch.Offset[i]}); x.offset < int64(len(before[h.stream][h.partition])) {
					all[x.origin] = append(all[x.origin], x)
					parts[q] = append(parts[q], x)
				}
			}
		})
	}
	effective := map[event.Origin]map[int64]event.Time{}
	for origin, rows := range all {
		slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.offset, b.offset) })
		effective[origin] = map[int64]event.Time{}
		newest := event.MinTime
		for _, x := range rows {
			newest = max(newest, x.at)
			effective[origin][x.offset] = newest
		}
	}
	for q, rows := range parts {
		if !slices.IsSortedFunc(rows, func(a, b row) int {
			return cmp.Or(cmp.Compare(effective[a.origin][a.offset], effective[b.origin][b.offset]), cmp.Compare(a.origin.Topic, b.origin.Topic),
				cmp.Compare(a.origin.Partition, b.origin.Partition), cmp.Compare(a.offset, b.offset))
		}) {
			t.Errorf("%s[%d] is not filled in the order of time, topic, partition, offset", k.topic(), q)
		}
	}
}

// TestKeyedPartitions decides the same events in logs of other numbers of partitions,
// keyed and not: over what was there before a window came, and what came one by one
// since, the decisions are equal but for their origins.
func TestKeyedPartitions(t *testing.T) {
	testSeeds(t, 10, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 15))
		type input struct{ stream, key, text string }
		events := make([]input, 300)
		for i := range events {
			e := &events[i]
			e.stream, e.key = []string{"s", "s", "c"}[r.IntN(3)], fmt.Sprintf("k%d", r.IntN(6))
			e.text = fmt.Sprintf(`{"ts": %d, "key": %q, "amount": %d.%02d, "shop": "s%d", "device": %d}`, 1000+i, e.key, r.IntN(100), r.IntN(100), r.IntN(5), r.IntN(4))
		}
		old := 200 + r.IntN(80)
		var want []string
		for i := range 3 {
			prog := twoStreams(1+r.Int32N(4), 1+r.Int32N(3))
			b := newKeyedBench(seed, prog, 1+r.Int32N(4), nil)
			produce := func(e input) {
				s := b.streams[slices.IndexFunc(b.streams, func(s *schema.Stream) bool { return s.Schema.Stream == e.stream })]
				b.log.produce(s.Topic, sink.Partition([]byte(e.key), s.Partitions), e.text)
			}
			for _, e := range events[:old] {
				produce(e)
			}
			none := *prog
			none.local, none.windows = true, nil
			b.prog = &none
			b.run(t)
			prog.id = "p2"
			b.prog = prog
			b.oneByOne(t, len(events)-old, func(j int) { produce(events[old+j]) })
			got := b.withoutOrigins(t, event.Time(1000+old)*event.Time(time.Second))
			if len(got) != len(events)-old {
				t.Fatalf("%d decisions, want %d", len(got), len(events)-old)
			}
			if i == 0 {
				want = got
			}
			sameResults(t, map[string][]string{"decisions": want}, map[string][]string{"decisions": got})
		}
	})
}

// oneByOne runs an engine while records are produced, each when the one before is in
// the keyed streams.
func (b *keyedBench) oneByOne(t *testing.T, n int, produce func(i int)) {
	t.Helper()
	e := b.engine(t)
	stop := start(t, e)
	for i := range n {
		produce(i)
		for _, s := range b.streams {
			b.log.waitEnds(s.Topic, int(s.Partitions))
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// withoutOrigins are the decisions on events from a time on, by time, without where the
// events are.
func (b *keyedBench) withoutOrigins(t *testing.T, from event.Time) (out []string) {
	t.Helper()
	var all []event.Decision
	for p := range int32(outputPartitions) {
		for _, rec := range b.log.part(event.TopicDecisions, p).recs {
			var d event.Decision
			if err := d.UnmarshalJSON(rec.Value); err != nil {
				t.Fatal(err)
			}
			if d.Time >= from {
				d.Topic, d.Partition, d.Offset = "", 0, 0
				all = append(all, d)
			}
		}
	}
	slices.SortFunc(all, func(a, b event.Decision) int { return cmp.Compare(a.Time, b.Time) })
	for i := range all {
		out = append(out, string(all[i].AppendJSON(nil)))
	}
	return out
}

// TestKeyedStop stops an engine while far more of one stream is in a keyed stream than
// its shard has decided again since a kill. The other's events, behind that, are decided.
func TestKeyedStop(t *testing.T) {
	prog := &shopProgram{testProgram: testProgram{"p1", 20 * time.Second}, streams: []*schema.Stream{shopStream("s", 1), shopStream("c", 1)},
		windows: []keyedWindow{{"shop", "s", "s", 3, 3, 30 * time.Second}, {"shop", "c", "c", 3, 3, 30 * time.Second}}}
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
			b.log.waitEnds("in.c", 1)
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
