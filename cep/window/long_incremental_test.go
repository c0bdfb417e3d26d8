package window

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/reservoir"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// longGenerating is a Long of which generations are written, killed and restored, and
// what a Sliding answered for each event.
type longGenerating struct {
	t       *testing.T
	r       *rand.Rand
	w       world
	want    [][]any
	fs      *vfs.Mem
	options reservoir.Options

	op    *Long
	clock *cep.Clock
	at    int // inputs taken
	open  *generation
	all   []generation
	since int // generations since the last crash
}

// TestLongGenerations writes generations of random shares in random slices while events
// go on, crashes, restores from those that are needed, and compares with the full
// snapshot of the moment and with the answers of a Sliding that was never restored.
func TestLongGenerations(t *testing.T) {
	seeds.Each(t, 2000, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 14))
		g := &longGenerating{t: t, r: r, w: newLongWorld(r), options: reservoir.Options{ChunkRows: 1 + r.IntN(20), SegmentBytes: int64(1 + r.IntN(500))}}
		if r.IntN(4) > 0 {
			g.w.inputs = randomInputs(r, 1+r.IntN(400))
		}
		g.answers()
		g.begin(vfs.NewMem(seed))
		for g.at < len(g.w.inputs) && !t.Failed() {
			g.batch(1 + r.IntN(1+r.IntN(40)))
			g.write(r.IntN(3))
			switch {
			case g.open != nil:
			case r.IntN(3) == 0:
				g.freeze()
			case len(g.all) > 0 && r.IntN(8) == 0:
				g.crash()
			}
		}
	})
}

// answers asks a Sliding.
func (g *longGenerating) answers() {
	op, err := New(g.w.cfg)
	if err != nil {
		g.t.Fatal(err)
	}
	b, out := g.rows(g.w.clock(), g.w.inputs)
	if err := op.Process(b, out); err != nil {
		g.t.Fatal(err)
	}
	for i := range b.Len() {
		var row []any
		for slot := range g.w.types {
			row = append(row, goValue(&out.Features[slot], i))
		}
		g.want = append(g.want, row)
	}
}

func (g *longGenerating) rows(clock *cep.Clock, ins []input) (*event.Batch, *cep.Outbox) {
	b, out := &event.Batch{}, &cep.Outbox{}
	project(b)
	for _, in := range ins {
		appendInput(b, in)
	}
	out.Reset(g.w.types)
	clock.Arrive(b, out)
	return b, out
}

func (g *longGenerating) begin(fsys *vfs.Mem) {
	g.fs, g.clock, g.at = fsys, g.w.clock(), 0
	g.op = newLong(g.t, g.w.cfg, fsys, g.options)
}

func (g *longGenerating) batch(n int) {
	if g.r.IntN(6) == 0 {
		g.op = adoptedLong(g.t, g.w.cfg, g.op)
	}
	n = min(n, len(g.w.inputs)-g.at)
	b, out := g.rows(g.clock, g.w.inputs[g.at:g.at+n])
	if err := errors.Join(g.op.Process(b, out), g.op.Advance(g.clock.Watermark(), out)); err != nil {
		g.t.Fatal(err)
	}
	for i := range n {
		for slot, want := range g.want[g.at+i] {
			if got := goValue(&out.Features[slot], i); got != want && got == got {
				g.t.Errorf("input %d slot %d, %+v: %v, Sliding says %v", g.at+i, slot, g.w.cfg.Outputs[slot], got, want)
			}
		}
	}
	g.at += n
}

func (g *longGenerating) freeze() {
	g.open = &generation{full: g.snapshot(), watermark: g.clock.Watermark(), at: g.at}
	g.open.turn = g.op.Freeze(uint64(g.r.Int64N(cep.FullTurn / 2)))
}

// snapshot is the whole state, which lets nothing go.
func (g *longGenerating) snapshot() []byte {
	g.t.Helper()
	var buf bytes.Buffer
	w := cep.NewSnapshotWriter(&buf)
	if err := errors.Join(g.op.snapshot(w), w.Flush()); err != nil {
		g.t.Fatal(err)
	}
	return buf.Bytes()
}

func (g *longGenerating) write(pieces int) {
	for range pieces {
		if g.open == nil {
			return
		}
		piece, done := g.op.Write(nil, g.r.IntN(400))
		if len(piece) > 0 {
			g.open.pieces = append(g.open.pieces, piece)
		}
		if done {
			g.all = append(g.all, *g.open)
			g.open = nil
			g.since++
		}
	}
}

// crash restores the newest generation, or the one before it, in what is left of the
// files.
func (g *longGenerating) crash() {
	if err := g.fs.SyncDir("."); err != nil { // whose directory it is
		g.t.Fatal(err)
	}
	if g.since > 1 && g.r.IntN(4) == 0 {
		g.all = g.all[:len(g.all)-1]
	}
	g.since = 0
	newest := g.all[len(g.all)-1]
	g.begin(g.fs.CrashClone())
	for _, one := range needed(g.all) {
		for _, piece := range one.pieces {
			if err := g.op.Apply(piece); err != nil {
				g.t.Fatal(err)
			}
		}
	}
	if err := errors.Join(g.op.Complete(), g.op.Advance(newest.watermark, nil)); err != nil {
		g.t.Fatal(err)
	}
	if !bytes.Equal(newest.full, g.snapshot()) {
		g.t.Errorf("the state of generation %d, from %d of them, is not that of the full snapshot", len(g.all), len(needed(g.all)))
	}
	g.all = needed(g.all)
	g.rows(g.clock, g.w.inputs[:newest.at])
	g.at = newest.at
}

// TestLongApplyRefuses wants an error and an empty operator from what is no piece.
func TestLongApplyRefuses(t *testing.T) {
	cfg := Config{Keys: []int{1}, Outputs: []Output{{Slot: 0, Extent: Extent{Length: 100}, Aggregate: Count, Value: -1}}}
	for i, piece := range [][]byte{{9}, {longKey}, {longHead, 0, 0}, {longKey, 1, 1, 1, 'k', 0}, {longHead, 1, 7, 0}} {
		op := newLong(t, cfg, vfs.NewMem(1), reservoir.Options{})
		if err := errors.Join(op.Apply(piece), op.Complete()); !errors.Is(err, cep.ErrSnapshot) {
			t.Errorf("piece %d: error %v", i, err)
		}
		if s := op.Stats(); s.Keys != 0 {
			t.Error(fmt.Sprint("piece ", i, ": ", s))
		}
	}
}

func FuzzLongApply(f *testing.F) {
	r := rand.New(rand.NewPCG(3, 13))
	g := &longGenerating{r: r, options: reservoir.Options{ChunkRows: 8}}
	for g.w = newLongWorld(r); len(g.w.inputs) < 60; g.w.inputs = randomInputs(r, 80) {
	}
	op := newLong(f, g.w.cfg, vfs.NewMem(1), g.options)
	g.clock = g.w.clock()
	b, out := g.rows(g.clock, g.w.inputs)
	if err := op.Process(b, out); err != nil {
		f.Fatal(err)
	}
	op.Freeze(cep.FullTurn)
	head, _ := op.Write(nil, 1)
	keys, _ := op.Write(nil, 1<<20)
	f.Add(keys)
	f.Fuzz(func(t *testing.T, data []byte) {
		again := newLong(t, g.w.cfg, vfs.NewMem(1), g.options)
		if again.Apply(head) != nil {
			t.Fatal("the head was refused")
		}
		if again.Apply(data) == nil && again.Complete() == nil {
			longSnapshot(t, again)
		}
	})
}
