package window

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/reservoir"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// newLongWorld is a world whose windows Long can answer for.
func newLongWorld(r *rand.Rand) world {
	w := newWorld(r)
	w.cfg.MaxEvents = 0
	extents := make([]Extent, 1+r.IntN(4))
	for i := range extents {
		for extents[i].Length == 0 {
			extents[i] = randomExtent(r)
		}
		if i > 0 && r.IntN(3) == 0 { // windows share offsets
			extents[i].Delay = extents[i-1].Delay + time.Duration(r.IntN(2))*extents[i-1].Length
		}
	}
	w.cfg.Outputs, w.types = nil, nil
	for slot := range 1 + r.IntN(8) {
		o := Output{}
		for o.Aggregate == 0 || !CanBeLong(&o) {
			o = randomOutput(r)
			o.Slot, o.Extent = slot, extents[r.IntN(len(extents))]
		}
		w.cfg.Outputs = append(w.cfg.Outputs, o)
		var v event.Type
		if o.Value >= 0 {
			v = w.cfg.Values[o.Value].Type
		}
		w.types = append(w.types, ResultType(o.Aggregate, v))
	}
	return w
}

// newLong makes a Long with small chunks in a directory.
func newLong(t testing.TB, cfg Config, fsys vfs.FS, o reservoir.Options) *Long {
	t.Helper()
	l, err := NewLong(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	l.Keep(fsys, "rows")
	return l
}

// TestLongAgainstOracle runs random windows over random events in random batches, with
// crashes and restores in between, beside the recomputation from scratch and beside
// Sliding.
func TestLongAgainstOracle(t *testing.T) {
	seeds.Each(t, 10_000, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 11))
		w := newLongWorld(r)
		w.cfg.AskKeys = w.cfg.Keys
		fsys := vfs.NewMem(seed)
		options := reservoir.Options{ChunkRows: 1 + r.IntN(20), SegmentBytes: int64(1 + r.IntN(500))}
		op := newLong(t, w.cfg, fsys, options)
		sliding, err := New(w.cfg)
		if err != nil {
			t.Fatal(err)
		}
		or := newOracle(w.cfg, w.lateness)
		or.idle = w.idle
		clock := w.clock()
		var b event.Batch
		var out, other cep.Outbox
		maxBatch := 1 + r.IntN(128)
		skips := r.IntN(2) * r.IntN(5)
		for ins := w.inputs; len(ins) > 0; {
			n := min(len(ins), 1+r.IntN(maxBatch))
			project(&b)
			for _, in := range ins[:n] {
				appendInput(&b, in)
			}
			out.Reset(w.types)
			out.Skip = someOf(r.Uint64(), skips)
			clock.Arrive(&b, &out)
			other.Reset(w.types)
			other.Late, other.Watermark, other.Low, other.Skip = out.Late, out.Watermark, out.Low, out.Skip
			for _, err := range []error{op.Process(&b, &out), op.Advance(clock.Watermark(), &out), sliding.Process(&b, &other), sliding.Advance(clock.Watermark(), &other)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			for i, in := range ins[:n] {
				passes := w.cfg.Filter == nil || in.flag
				for slot, a := range or.row(keyOf(w.cfg.Keys, in), in.shop, in.t, passes, valuesOf(in)) {
					if out.Skips(slot, i) {
						continue
					}
					compare(t, w.cfg.Outputs[slot], a, &out, slot, i)
					if got, want := goValue(&out.Features[slot], i), goValue(&other.Features[slot], i); got != want && got == got {
						t.Errorf("row %d slot %d: %v, Sliding says %v", i, slot, got, want)
					}
				}
			}
			if t.Failed() {
				t.Logf("%+v lateness %v by %v idle %v", w.cfg.Outputs, w.lateness, w.by, w.idle)
				return
			}
			ins = ins[n:]
			if r.IntN(8) == 0 {
				fsys, op = restoredLong(t, r, w.cfg, fsys, options, op, clock.Watermark())
			}
			if r.IntN(8) == 0 {
				op = adoptedLong(t, w.cfg, op)
			}
			if !op.current && r.IntN(4) == 0 {
				askBoth(t, r, &w, clock.Watermark(), op, sliding)
			}
			if s := op.Stats(); s.Keys > s.Events {
				t.Fatalf("%d keys with %d events", s.Keys, s.Events)
			}
		}
		checkLongLeaves(t, op)
	})
}

// adoptedLong is adopted of a Long.
func adoptedLong(t *testing.T, cfg Config, op *Long) *Long {
	t.Helper()
	heir, err := NewLong(cfg, reservoir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !heir.Adopt(op) || op.rows != nil {
		t.Fatal("the operator was not taken over")
	}
	return heir
}

// TestLongOfAPart gives both operators some of a stream's events, as a partition of a
// keyed stream gets: their watermarks are of events that were never seen there, and the
// lowest one is behind.
func TestLongOfAPart(t *testing.T) {
	seeds.Each(t, 500, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 12))
		w := newLongWorld(r)
		op := newLong(t, w.cfg, vfs.NewMem(seed), reservoir.Options{ChunkRows: 1 + r.IntN(20), SegmentBytes: 200})
		sliding, err := New(w.cfg)
		if err != nil {
			t.Fatal(err)
		}
		clock, low := w.clock(), event.MinTime
		var b event.Batch
		var all, out, other cep.Outbox
		for ins := w.inputs; len(ins) > 0 && !t.Failed(); {
			n := min(len(ins), 1+r.IntN(20))
			project(&b)
			for _, in := range ins[:n] {
				appendInput(&b, in)
			}
			all.Reset(nil)
			clock.Arrive(&b, &all)
			out.Reset(w.types)
			project(&b)
			for i, in := range ins[:n] {
				if r.IntN(3) == 0 {
					appendInput(&b, in)
					out.Late, out.Watermark, out.Low = append(out.Late, all.Late[i]), append(out.Watermark, all.Watermark[i]), append(out.Low, low)
				}
			}
			ins = ins[n:]
			if r.IntN(3) == 0 {
				low = clock.Watermark()
			}
			if b.Len() == 0 {
				continue
			}
			other.Reset(w.types)
			other.Late, other.Watermark, other.Low = out.Late, out.Watermark, out.Low
			if err := errors.Join(op.Process(&b, &out), op.Advance(low, &out), sliding.Process(&b, &other), sliding.Advance(low, &other)); err != nil {
				t.Fatal(err)
			}
			for slot := range w.types {
				for i := range b.Len() {
					if got, want := goValue(&out.Features[slot], i), goValue(&other.Features[slot], i); got != want && got == got {
						t.Errorf("at %d, slot %d: %v, Sliding says %v", b.Time[i], slot, got, want)
					}
				}
			}
		}
	})
}

// askBoth asks both operators for events that do not enter.
func askBoth(t *testing.T, r *rand.Rand, w *world, watermark event.Time, op *Long, sliding *Sliding) {
	t.Helper()
	var b event.Batch
	var out, other cep.Outbox
	project(&b)
	out.Reset(w.types)
	for _, in := range randomInputs(r, 1+r.IntN(4)) {
		in.t = max(watermark, -1000) + event.Time(r.IntN(100)-30)
		appendInput(&b, in)
		out.Late, out.Watermark, out.Low = append(out.Late, in.t < watermark), append(out.Watermark, watermark), append(out.Low, watermark)
	}
	other.Reset(w.types)
	other.Late, other.Watermark, other.Low = out.Late, out.Watermark, out.Low
	if err := errors.Join(op.Ask(&b, &out), sliding.Ask(&b, &other)); err != nil {
		t.Fatal(err)
	}
	for slot := range w.types {
		for i := range b.Len() {
			if got, want := goValue(&out.Features[slot], i), goValue(&other.Features[slot], i); got != want && got == got {
				t.Errorf("asked at %d, slot %d: %v, Sliding says %v", b.Time[i], slot, got, want)
			}
		}
	}
}

// restoredLong is a Long from another's snapshot, in what a crash leaves of its files.
func restoredLong(t *testing.T, r *rand.Rand, cfg Config, fsys *vfs.Mem, o reservoir.Options, op *Long, watermark event.Time) (*vfs.Mem, *Long) {
	t.Helper()
	if err := fsys.SyncDir("."); err != nil { // whose directory it is
		t.Fatal(err)
	}
	snap := longSnapshot(t, op)
	if r.IntN(2) == 0 {
		fsys = fsys.CrashClone()
	}
	again := newLong(t, cfg, fsys, o)
	if err := again.Restore(cep.NewSnapshotReader(bytes.NewReader(snap))); err != nil {
		t.Fatal(err)
	}
	if err := again.Advance(watermark, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snap, longSnapshot(t, again)) {
		t.Error("the snapshot of the restored operator differs")
	}
	return fsys, again
}

func longSnapshot(t *testing.T, op *Long) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := cep.NewSnapshotWriter(&buf)
	if err := errors.Join(op.Snapshot(w), w.Flush()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// checkLongLeaves wants nothing left once nothing can be asked for.
func checkLongLeaves(t *testing.T, op *Long) {
	t.Helper()
	if err := op.Advance(1<<40, nil); err != nil {
		t.Fatal(err)
	}
	s := op.Stats()
	if s.Keys != 0 || s.Events != 0 || op.arena.used != 0 || len(op.wide)+len(op.wideSquares) != 0 || op.dict.table.n != 0 {
		t.Errorf("%d keys, %d events, %d words, %d wide sums and %d texts left", s.Keys, s.Events, op.arena.used, len(op.wide)+len(op.wideSquares), op.dict.table.n)
	}
	for i := range op.offsets {
		if n := op.offsets[i].zone.n(); n > 0 {
			t.Errorf("%d rows left in the zone of %v", n, op.offsets[i].back)
		}
	}
}

// TestLongRemakes restores a snapshot for other windows over the same events and wants
// them as if they had been there from the beginning.
func TestLongRemakes(t *testing.T) {
	seeds.Each(t, 1000, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 12))
		w := newLongWorld(r)
		reach := time.Duration(0)
		for _, o := range w.cfg.Outputs {
			reach = max(reach, o.Extent.Delay+o.Extent.Length)
		}
		// The other windows: the first of those of the same reach, and some within it.
		next := w
		next.cfg.Outputs = nil
		for _, o := range w.cfg.Outputs {
			if o.Extent.Delay+o.Extent.Length == reach {
				next.cfg.Outputs, next.types = []Output{o}, []event.Type{w.types[o.Slot]}
			}
		}
		next.cfg.Outputs[0].Slot = 0
		for _, o := range newLongWorld(r).cfg.Outputs {
			if o.Extent.Delay+o.Extent.Length > reach {
				continue
			}
			o.Slot = len(next.cfg.Outputs)
			var v event.Type
			if o.Value >= 0 {
				v = w.cfg.Values[o.Value].Type
			}
			next.cfg.Outputs, next.types = append(next.cfg.Outputs, o), append(next.types, ResultType(o.Aggregate, v))
		}
		options := reservoir.Options{ChunkRows: 1 + r.IntN(20)}
		fsys := vfs.NewMem(seed)
		before, always := newLong(t, w.cfg, fsys, options), newLong(t, next.cfg, vfs.NewMem(1), options)
		clock := w.clock()
		half := r.IntN(len(w.inputs) + 1)
		var b event.Batch
		var out, other cep.Outbox
		project(&b)
		for _, in := range w.inputs[:half] {
			appendInput(&b, in)
		}
		out.Reset(w.types)
		clock.Arrive(&b, &out)
		other.Reset(next.types)
		other.Late, other.Watermark, other.Low = out.Late, out.Watermark, out.Low
		if err := errors.Join(before.Process(&b, &out), before.Advance(clock.Watermark(), &out), always.Process(&b, &other), always.Advance(clock.Watermark(), &other)); err != nil {
			t.Fatal(err)
		}
		after := newLong(t, next.cfg, fsys, options)
		if err := after.Restore(cep.NewSnapshotReader(bytes.NewReader(longSnapshot(t, before)))); err != nil {
			t.Fatal(err)
		}
		if err := after.Advance(clock.Watermark(), nil); err != nil {
			t.Fatal(err)
		}
		project(&b)
		for _, in := range w.inputs[half:] {
			appendInput(&b, in)
		}
		out.Reset(next.types)
		clock.Arrive(&b, &out)
		other.Reset(next.types)
		other.Late, other.Watermark, other.Low = out.Late, out.Watermark, out.Low
		if err := errors.Join(after.Process(&b, &out), always.Process(&b, &other)); err != nil {
			t.Fatal(err)
		}
		for slot := range next.types {
			for i := range b.Len() {
				if got, want := goValue(&out.Features[slot], i), goValue(&other.Features[slot], i); got != want && got == got {
					t.Errorf("row %d, %+v: %v, want %v", i, next.cfg.Outputs[slot], got, want)
				}
			}
		}
		checkLongLeaves(t, after)
	})
}

// TestLongRefuses: what needs its events is for Sliding.
func TestLongRefuses(t *testing.T) {
	for _, o := range []Output{
		{Aggregate: Min, Extent: Extent{Length: 1}}, {Aggregate: First, Extent: Extent{Length: 1}}, {Aggregate: Lag, N: 1, Extent: Extent{Length: 1}},
		{Aggregate: Count, Value: -1, Extent: Extent{Events: 3}}, {Aggregate: Count, Value: -1, Extent: Extent{Gap: 3}},
	} {
		if _, err := NewLong(Config{Values: testValues, Outputs: []Output{o}}, reservoir.Options{}); err == nil {
			t.Errorf("%+v: accepted", o)
		}
	}
}

// TestLongDamage wants an error from Restore once a damaged chunk was met, so that the
// state is made again from the log.
func TestLongDamage(t *testing.T) {
	cfg := Config{Keys: []int{1}, Outputs: []Output{{Slot: 0, Extent: Extent{Length: 100}, Aggregate: Count, Value: -1}}}
	mem := vfs.NewMem(1)
	options := reservoir.Options{ChunkRows: 10, SegmentBytes: 1}
	op := newLong(t, cfg, mem, options)
	process := func(op *Long, from, to int) error {
		var b event.Batch
		var out cep.Outbox
		project(&b)
		key := "k"
		for i := from; i < to; i++ {
			appendInput(&b, input{key: &key, t: event.Time(i)})
		}
		out.Reset([]event.Type{{Kind: event.Int64}})
		clock := cep.NewClock(0, nil, 0)
		clock.Arrive(&b, &out)
		return op.Process(&b, &out)
	}
	if err := process(op, 0, 95); err != nil {
		t.Fatal(err)
	}
	snap := longSnapshot(t, op)
	names, err := mem.List("rows")
	if err != nil || !slices.Contains(names, "00000000000000000030.rows") {
		t.Fatal(names, err)
	}
	if err := vfs.FlipByte(mem, "rows/00000000000000000030.rows", 80); err != nil {
		t.Fatal(err)
	}
	again := newLong(t, cfg, mem, options)
	if err := again.Restore(cep.NewSnapshotReader(bytes.NewReader(snap))); err != nil {
		t.Fatal(err)
	}
	if err := process(again, 95, 300); !errors.Is(err, reservoir.ErrDamaged) {
		t.Fatalf("error %v where a chunk is damaged", err)
	}
	again = newLong(t, cfg, mem, options)
	if err := again.Restore(cep.NewSnapshotReader(bytes.NewReader(snap))); !errors.Is(err, reservoir.ErrDamaged) {
		t.Fatalf("restored with the error %v", err)
	}
	// As the engine does: from the log.
	if err := process(again, 0, 300); err != nil {
		t.Fatal(err)
	}
	if s := again.Stats(); s.Events > 110 {
		t.Errorf("%d events held", s.Events)
	}
}

func FuzzLongRestore(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 13))
	cfg := Config{Keys: []int{1}, Values: testValues}
	var types []event.Type
	for len(cfg.Outputs) < 20 {
		o := randomOutput(r)
		o.Slot, o.Extent = len(cfg.Outputs), Extent{Length: time.Duration(1 + r.IntN(200)), Delay: time.Duration(r.IntN(2) * 50)}
		if !CanBeLong(&o) {
			continue
		}
		var v event.Type
		if o.Value >= 0 {
			v = testValues[o.Value].Type
		}
		cfg.Outputs, types = append(cfg.Outputs, o), append(types, ResultType(o.Aggregate, v))
	}
	mem := vfs.NewMem(1)
	options := reservoir.Options{ChunkRows: 8}
	op := newLong(f, cfg, mem, options)
	var b event.Batch
	var out cep.Outbox
	project(&b)
	for _, in := range randomInputs(r, 40) {
		appendInput(&b, in)
	}
	out.Reset(types)
	cep.NewClock(30, nil, 0).Arrive(&b, &out)
	var buf bytes.Buffer
	w := cep.NewSnapshotWriter(&buf)
	if err := errors.Join(op.Process(&b, &out), op.Snapshot(w), w.Flush(), mem.SyncDir(".")); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		again := newLong(t, cfg, mem.CrashClone(), options)
		if again.Restore(cep.NewSnapshotReader(bytes.NewReader(data))) == nil {
			longSnapshot(t, again)
		}
	})
}

// TestLongForgetsAmongRows gives batches in which the last event of a key leaves, and its
// record goes to another key, between two events of other keys: an event behind is of its
// own key, whatever record that had when the batch began.
func TestLongForgetsAmongRows(t *testing.T) {
	seeds.Each(t, 300, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 13))
		cfg := Config{Keys: []int{1}, Values: testValues, Outputs: []Output{
			{Slot: 0, Extent: Extent{Length: 5}, Aggregate: Count, Value: -1}, {Slot: 1, Extent: Extent{Length: 5}, Aggregate: Sum, Value: 0}}}
		types := []event.Type{{Kind: event.Int64}, ResultType(Sum, testValues[0].Type)}
		op := newLong(t, cfg, vfs.NewMem(seed), reservoir.Options{ChunkRows: 8})
		sliding, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		clock := cep.NewClock(5, nil, 0)
		for now, batch := event.Time(1000), 0; batch < 20 && !t.Failed(); batch++ {
			var b event.Batch
			var out, other cep.Outbox
			project(&b)
			for range 1 + r.IntN(40) {
				now += event.Time(r.IntN(3))
				key := string(rune('a' + r.IntN(12)))
				appendInput(&b, input{key: &key, t: now - event.Time(r.IntN(2)*r.IntN(6)), amount: r.Int64N(100)})
			}
			out.Reset(types)
			clock.Arrive(&b, &out)
			other.Reset(types)
			other.Late, other.Watermark, other.Low = out.Late, out.Watermark, out.Low
			if err := errors.Join(op.Process(&b, &out), sliding.Process(&b, &other)); err != nil {
				t.Fatal(err)
			}
			for slot := range types {
				for i := range b.Len() {
					if got, want := goValue(&out.Features[slot], i), goValue(&other.Features[slot], i); got != want {
						t.Errorf("at %d, slot %d: %v, Sliding says %v", b.Time[i], slot, got, want)
					}
				}
			}
		}
	})
}
