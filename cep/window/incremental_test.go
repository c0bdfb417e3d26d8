package window

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

// generation is what Freeze and Write made of one moment.
type generation struct {
	turn      uint64
	pieces    [][]byte
	full      []byte // Snapshot at that moment
	watermark event.Time
	at        int // inputs before it
}

// needed leaves out the generations that later ones have superseded.
func needed(all []generation) []generation {
	newest := all[len(all)-1].turn
	return slices.DeleteFunc(slices.Clone(all), func(g generation) bool { return newest-g.turn >= cep.FullTurn })
}

// applied is a new operator with the state of the newest generation.
func applied(t *testing.T, cfg Config, all []generation) *Sliding {
	t.Helper()
	op, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range needed(all) {
		for _, piece := range g.pieces {
			if err := op.Apply(piece); err != nil {
				t.Fatal(err)
			}
		}
	}
	newest := all[len(all)-1]
	if err := op.Advance(newest.watermark, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(newest.full, snapshotOf(t, op)) {
		t.Errorf("the state of generation %d, from %d of them, is not that of the full snapshot", len(all), len(needed(all)))
	}
	return op
}

// TestGenerations writes generations of random shares in random slices while events
// go on, restores from those that are needed, goes on with what was restored, or
// with another made of the full snapshot, and compares with the full snapshot and
// with the answers of an operator that was never restored.
func TestGenerations(t *testing.T) {
	seeds.Each(t, 1500, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 7))
		w := newWorld(r)
		if r.IntN(4) > 0 {
			w.inputs = randomInputs(r, 1+r.IntN(400))
		}
		g := newGenerating(t, r, &w)
		for g.at < len(w.inputs) && !t.Failed() {
			g.batch(1 + r.IntN(1+r.IntN(40)))
			g.write(r.IntN(3))
			switch {
			case g.open != nil:
			case r.IntN(3) == 0:
				g.begin()
			case len(g.all) > 0 && r.IntN(12) == 0:
				g.crash()
			}
		}
	})
}

// generating is an operator of which generations are written, and one of which none
// are.
type generating struct {
	t        *testing.T
	r        *rand.Rand
	w        *world
	op, twin *Sliding
	clock    *cep.Clock
	answers  []string // by input, of twin
	at       int
	open     *generation
	all      []generation
}

func newGenerating(t *testing.T, r *rand.Rand, w *world) *generating {
	g := &generating{t: t, r: r, w: w, clock: w.clock()}
	g.op, g.twin = g.fresh(), g.fresh()
	return g
}

func (g *generating) fresh() *Sliding {
	op, err := New(g.w.cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	op.walkFrom = uint32(1 + g.r.IntN(6))
	return op
}

// batch gives the next inputs to the operator, and to the twin where it did not
// have them yet.
func (g *generating) batch(n int) {
	if g.r.IntN(6) == 0 { // a change of the program, in the middle of a generation or not
		g.op = adopted(g.t, g.w.cfg, g.op)
	}
	n = min(n, len(g.w.inputs)-g.at)
	var b event.Batch
	var out, other cep.Outbox
	project(&b)
	for _, in := range g.w.inputs[g.at : g.at+n] {
		appendInput(&b, in)
	}
	out.Reset(g.w.types)
	other.Reset(g.w.types)
	g.clock.Arrive(&b, &out)
	other.Late, other.Watermark, other.Low = out.Late, out.Watermark, out.Low
	g.process(g.op, &b, &out)
	if len(g.answers) == g.at {
		g.process(g.twin, &b, &other)
		for i := range n {
			g.answers = append(g.answers, answersOf(&other, i))
		}
	}
	for i := range n {
		if g.at+i < len(g.answers) && answersOf(&out, i) != g.answers[g.at+i] {
			g.t.Errorf("input %d: %s, want %s", g.at+i, answersOf(&out, i), g.answers[g.at+i])
		}
	}
	g.at += n
}

func (g *generating) process(op *Sliding, b *event.Batch, out *cep.Outbox) {
	if err := op.Process(b, out); err != nil {
		g.t.Fatal(err)
	}
	if err := op.Advance(g.clock.Watermark(), out); err != nil {
		g.t.Fatal(err)
	}
}

func answersOf(out *cep.Outbox, row int) string {
	var text []byte
	for i := range out.Features {
		f := &out.Features[i]
		if f.IsNull(row) {
			text = append(text, "-; "...)
		} else {
			text = append(f.AppendText(text, row), "; "...)
		}
		if out.MarkAt(i, row) != nil {
			text = append(text, "capped; "...)
		}
	}
	return string(text)
}

func (g *generating) begin() {
	share := uint64(g.r.IntN(4)) * cep.FullTurn / 6
	if g.r.IntN(8) == 0 {
		share = cep.FullTurn
	}
	one := &generation{full: snapshotOf(g.t, g.op), watermark: g.clock.Watermark(), at: g.at}
	one.turn = g.op.Freeze(share)
	g.open = one
}

// write writes up to n pieces of the open generation.
func (g *generating) write(n int) {
	for ; g.open != nil && n > 0; n-- {
		piece, done := g.op.Write(nil, 1+g.r.IntN(200))
		if len(piece) > 0 {
			g.open.pieces = append(g.open.pieces, piece)
		}
		if done {
			g.all = append(g.all, *g.open)
			g.open = nil
			applied(g.t, g.w.cfg, g.all)
		}
	}
}

// crash goes back to the newest generation that was written to its end.
func (g *generating) crash() {
	newest := g.all[len(g.all)-1]
	if g.r.IntN(4) == 0 { // a checkpoint of an older version
		g.op = g.fresh()
		if err := g.op.Restore(cep.NewSnapshotReader(bytes.NewReader(newest.full))); err != nil {
			g.t.Fatal(err)
		}
		if err := g.op.Advance(newest.watermark, nil); err != nil {
			g.t.Fatal(err)
		}
		g.all = nil
	} else {
		g.op = applied(g.t, g.w.cfg, g.all)
		g.op.walkFrom = uint32(1 + g.r.IntN(6))
	}
	g.open, g.at, g.clock = nil, newest.at, g.w.clock()
	var b event.Batch
	var out cep.Outbox
	project(&b)
	for _, in := range g.w.inputs[:g.at] {
		appendInput(&b, in)
	}
	out.Reset(g.w.types)
	g.clock.Arrive(&b, &out)
}

// TestCappedAfterRestore: what is marked as capped does not depend on how much is there of
// what nothing may ask for, which a snapshot leaves out.
func TestCappedAfterRestore(t *testing.T) {
	seeds.Each(t, 200, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 8))
		w := newWorld(r)
		w.inputs = randomInputs(r, 150)
		w.cfg.MaxEvents = 4 + r.IntN(20)
		w.cfg.Outputs = []Output{
			{Slot: 0, Extent: Extent{Events: 1 + r.IntN(w.cfg.MaxEvents)}, Aggregate: Count, Value: -1},
			{Slot: 1, Extent: Extent{Gap: time.Duration(1 + r.IntN(6))}, Aggregate: Count, Value: -1}}
		w.types = []event.Type{ResultType(Count, event.Type{}), ResultType(Count, event.Type{})}
		g := newGenerating(t, r, &w)
		for g.at < len(w.inputs) && !t.Failed() {
			g.batch(1 + r.IntN(20))
			full := snapshotOf(t, g.op)
			g.op = g.fresh()
			if err := g.op.Restore(cep.NewSnapshotReader(bytes.NewReader(full))); err != nil {
				t.Fatal(err)
			}
			if err := g.op.Advance(g.clock.Watermark(), nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestGenerationsAreSmall: a generation holds what has changed, of a key with many
// events only the new ones, and what all that are needed hold is bounded.
func TestGenerationsAreSmall(t *testing.T) {
	op, err := New(Config{Keys: []int{1}, Values: testValues[:1], Outputs: []Output{{Extent: Extent{Length: 1 << 40}, Aggregate: Count, Value: -1}}})
	if err != nil {
		t.Fatal(err)
	}
	var b event.Batch
	var out cep.Outbox
	clock := cep.NewClock(0, nil, 0)
	at := event.Time(0)
	feed := func(keys []string) {
		project(&b)
		for i := range keys {
			at++
			appendInput(&b, input{key: &keys[i], t: at})
		}
		out.Reset([]event.Type{{Kind: event.Int64}})
		clock.Arrive(&b, &out)
		if err := op.Process(&b, &out); err != nil {
			t.Fatal(err)
		}
	}
	var sizes []int
	var turns []uint64
	generation := func(share uint64) int {
		turns = append(turns, op.Freeze(share))
		n := 0
		for done := false; !done; {
			var piece []byte
			piece, done = op.Write(nil, 1<<14)
			n += len(piece)
			if len(piece) > 1<<15 {
				t.Errorf("a piece of %d bytes", len(piece))
			}
		}
		sizes = append(sizes, n)
		return n
	}
	keys := make([]string, 5000)
	for i := range keys {
		keys[i] = fmt.Sprint("key ", i)
	}
	feed(slices.Repeat(keys, 4))
	feed(slices.Repeat([]string{"large"}, 100_000))
	all := generation(0)
	feed([]string{"key 1", "key 2", "large"})
	if n := generation(0); n == 0 || n > 200 {
		t.Errorf("three keys that changed take %d bytes of %d", n, all)
	}
	for range 100 {
		feed(keys[:50])
		changed, size := op.Size()
		if changed == 0 || changed > size/20 {
			t.Fatalf("%d of %d bytes have changed", changed, size)
		}
		generation(uint64(changed) * cep.FullTurn / uint64(size))
	}
	sum := 0
	for i, n := range sizes {
		if turns[len(turns)-1]-turns[i] < cep.FullTurn {
			sum += n
		}
	}
	op.changes.based = false
	if whole := generation(0); sum > 5*whole/2 {
		t.Errorf("the generations that are needed take %d bytes, the state %d", sum, whole)
	}
}

func FuzzApply(f *testing.F) {
	cfg := Config{Keys: []int{1}, MaxEvents: 100, Values: testValues}
	for i := range 30 {
		o := randomOutput(rand.New(rand.NewPCG(uint64(i), 3)))
		o.Slot, o.Extent = i, randomExtent(rand.New(rand.NewPCG(uint64(i), 4)))
		cfg.Outputs = append(cfg.Outputs, o)
	}
	types := make([]event.Type, len(cfg.Outputs))
	for i, o := range cfg.Outputs {
		var v event.Type
		if o.Value >= 0 {
			v = testValues[o.Value].Type
		}
		types[i] = ResultType(o.Aggregate, v)
	}
	run := func(t testing.TB, op *Sliding, seed uint64) {
		var b event.Batch
		var out cep.Outbox
		project(&b)
		for _, in := range randomInputs(rand.New(rand.NewPCG(seed, 5)), 20) {
			appendInput(&b, in)
		}
		out.Reset(types)
		cep.NewClock(1000, nil, 0).Arrive(&b, &out)
		if err := op.Process(&b, &out); err != nil {
			t.Fatal(err)
		}
	}
	op, err := New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	op.walkFrom = 2
	for i := range uint64(3) {
		run(f, op, i)
		op.Freeze(cep.FullTurn / 2)
		for done := false; !done; {
			var piece []byte
			piece, done = op.Write(nil, 1<<16)
			f.Add(piece)
		}
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		op, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		op.reserveMax = 1000
		if op.Apply(data) != nil {
			return
		}
		run(t, op, 9)
		restored(t, cfg, op, op.low)
	})
}
