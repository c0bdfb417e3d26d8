package window

import (
	"bytes"
	"errors"
	"fmt"
	"math"
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

var testSchema = &event.Schema{Stream: "s", Alias: "s", Key: 1, Fields: []event.Field{
	{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
	{Name: "key", Type: event.Type{Kind: event.String}, Optional: true},
	{Name: "amount", Type: event.Type{Kind: event.Decimal, Scale: 2}},
	{Name: "score", Type: event.Type{Kind: event.Double}, Optional: true},
	{Name: "flag", Type: event.Type{Kind: event.Bool}},
	{Name: "name", Type: event.Type{Kind: event.String}, Optional: true},
	{Name: "lat", Type: event.Type{Kind: event.Double}, Optional: true},
	{Name: "lon", Type: event.Type{Kind: event.Double}, Optional: true},
	{Name: "shop", Type: event.Type{Kind: event.Int64}},
}}

func readInt(field int) func(*event.Batch, int) (uint64, bool) {
	return func(b *event.Batch, row int) (uint64, bool) {
		return uint64(b.Cols[field].Int64[row]), !b.Cols[field].IsNull(row)
	}
}

func readDouble(field int) func(*event.Batch, int) (uint64, bool) {
	return func(b *event.Batch, row int) (uint64, bool) {
		return math.Float64bits(b.Cols[field].Double[row]), !b.Cols[field].IsNull(row)
	}
}

func readBool(field int) func(*event.Batch, int) (uint64, bool) {
	return func(b *event.Batch, row int) (uint64, bool) {
		if b.Cols[field].Bool(row) {
			return 1, true
		}
		return 0, true
	}
}

func readText(field int) func(*event.Batch, int) ([]byte, bool) {
	return func(b *event.Batch, row int) ([]byte, bool) {
		return b.Cols[field].Bytes(row), !b.Cols[field].IsNull(row)
	}
}

// testValues are the values that tests aggregate, in the order of valuesOf.
var testValues = []Value{
	{Type: testSchema.Fields[2].Type, Read: readInt(2)},
	{Type: testSchema.Fields[3].Type, Nullable: true, Read: readDouble(3)},
	{Type: testSchema.Fields[5].Type, Nullable: true, ReadBytes: readText(5)},
	{Type: testSchema.Fields[4].Type, Read: readBool(4)},
	{Type: testSchema.Fields[6].Type, Nullable: true, Read: readDouble(6)},
	{Type: testSchema.Fields[7].Type, Nullable: true, Read: readDouble(7)},
}

func valuesOf(in input) []any {
	vs := []any{in.amount, nil, nil, in.flag, nil, nil}
	if in.score != nil {
		vs[1] = *in.score
	}
	if in.name != nil {
		vs[2] = *in.name
	}
	if in.place != nil {
		vs[4], vs[5] = in.place[0], in.place[1]
	}
	return vs
}

// input is one event of a test.
type input struct {
	key    *string
	shop   int64
	t      event.Time
	amount int64
	score  *float64
	flag   bool
	name   *string
	place  *[2]float64
}

func appendInput(b *event.Batch, in input) {
	b.Offset = append(b.Offset, int64(len(b.Offset)))
	b.Time = append(b.Time, in.t)
	b.Cols[0].AppendInt64(int64(in.t))
	if in.key == nil {
		b.Cols[1].AppendNull()
	} else {
		b.Cols[1].AppendBytes([]byte(*in.key))
	}
	b.Cols[2].AppendInt64(in.amount)
	if in.score == nil {
		b.Cols[3].AppendNull()
	} else {
		b.Cols[3].AppendDouble(*in.score)
	}
	b.Cols[4].AppendBool(in.flag)
	if in.name == nil {
		b.Cols[5].AppendNull()
	} else {
		b.Cols[5].AppendBytes([]byte(*in.name))
	}
	if in.place == nil {
		b.Cols[6].AppendNull()
		b.Cols[7].AppendNull()
	} else {
		b.Cols[6].AppendDouble(in.place[0])
		b.Cols[7].AppendDouble(in.place[1])
	}
	b.Cols[8].AppendInt64(in.shop)
}

// world is one random configuration and its events.
type world struct {
	cfg      Config
	types    []event.Type
	lateness time.Duration
	by       []int // the fields with a watermark of their own
	idle     time.Duration
	inputs   []input
}

func (w *world) clock() *cep.Clock { return cep.NewClock(w.lateness, w.by, w.idle) }

func newWorld(r *rand.Rand) world {
	w := world{lateness: time.Duration(r.IntN(40))}
	if r.IntN(4) == 0 {
		w.lateness = 0
	}
	if r.IntN(3) == 0 {
		w.by, w.idle = []int{8}, w.lateness+time.Duration(1+r.IntN(100))
	}
	w.cfg = Config{Keys: [][]int{{1}, {1}, {1, 8}, {8, 1}, {8}, {}}[r.IntN(6)], Values: testValues}
	if r.IntN(2) == 0 {
		w.cfg.Filter = func(b *event.Batch, row int) bool { return b.Cols[4].Bool(row) }
	}
	if r.IntN(4) == 0 {
		w.cfg.MaxEvents = 1 + r.IntN(30)
	}
	extents := make([]Extent, 1+r.IntN(4))
	for i := range extents {
		extents[i] = randomExtent(r)
	}
	for i := range 1 + r.IntN(8) {
		o := randomOutput(r)
		o.Slot, o.Extent = i, extents[r.IntN(len(extents))]
		w.cfg.Outputs = append(w.cfg.Outputs, o)
		var v event.Type
		if o.Value >= 0 {
			v = w.cfg.Values[o.Value].Type
		}
		w.types = append(w.types, ResultType(o.Aggregate, v))
	}
	n := 1 + r.IntN(24) // most faults show in a small world, some in a large one only
	if r.IntN(16) == 0 {
		n = 1 + r.IntN(400)
	}
	w.inputs = randomInputs(r, n)
	return w
}

func randomExtent(r *rand.Rand) Extent {
	x := Extent{WithoutCurrent: r.IntN(4) == 0}
	if r.IntN(3) == 0 {
		x.Delay = time.Duration(r.IntN(100))
	}
	switch r.IntN(4) {
	case 0:
		x.Events = 1 + r.IntN(20)
	case 1:
		x.Gap = time.Duration(1 + r.IntN(8))
	default:
		x.Length = []time.Duration{1, 5, time.Duration(1 + r.IntN(200)), 300}[r.IntN(4)]
	}
	return x
}

func randomOutput(r *rand.Rand) Output {
	numbers, all := []int{0, 1}, []int{0, 1, 2, 3}
	o := Output{Value: all[r.IntN(4)], N: 1 + r.IntN(4), Q: float64(r.IntN(5)) / 4}
	o.Aggregate = Count + Aggregate(r.IntN(int(IsNew)))
	switch o.Aggregate {
	case Count:
		o.Value = r.IntN(5) - 1
	case Sum, Mean, Variance, Stddev, ZScore, Quantile:
		o.Value = numbers[r.IntN(2)]
	case Rate:
		o.Value = r.IntN(3) - 1
	case Min, Max:
		o.Value = []int{0, 1, 3}[r.IntN(3)]
	case Speed:
		o.Value, o.Value2 = 4, 5
	}
	return o
}

func randomInputs(r *rand.Rand, n int) []input {
	keys := make([]string, 1+r.IntN(8))
	for i := range keys {
		keys[i] = string(bytes.Repeat([]byte{byte('a' + i)}, r.IntN(30)))
		if r.IntN(4) == 0 {
			keys[i] = fmt.Sprint("k", r.IntN(4))
		}
	}
	names := []string{"", "a", "a longer name than eight bytes", "b", "8 bytes!", fmt.Sprint(r.Uint64())}
	step, back, odd := 1+r.IntN(6), 1+r.IntN(80), r.IntN(2) == 0
	now := event.Time(r.IntN(1000) - 500)
	var ins []input
	for range n {
		now += event.Time(r.IntN(step + 1))
		if r.IntN(100) == 0 {
			now += 1000 // everything expires
		}
		in := input{t: now, amount: int64(r.IntN(20000) - 2000), flag: r.IntN(3) > 0}
		if r.IntN(3) == 0 {
			in.t -= event.Time(r.IntN(back))
		}
		if r.IntN(30) > 0 {
			in.key = &keys[r.IntN(len(keys))]
		}
		if odd && r.IntN(50) == 0 {
			in.amount = math.MaxInt64 - int64(r.IntN(3))
		}
		if r.IntN(4) > 0 {
			f := randomDouble(r, odd)
			in.score = &f
		}
		if r.IntN(4) > 0 {
			name := names[r.IntN(len(names))]
			in.name = &name
		}
		if r.IntN(4) > 0 {
			in.place = &[2]float64{float64(r.IntN(170)) - 85, float64(r.IntN(340)) - 170}
		}
		in.shop = int64(r.IntN(2))
		ins = append(ins, in)
	}
	return ins
}

func randomDouble(r *rand.Rand, odd bool) float64 {
	if !odd || r.IntN(3) > 0 {
		return math.Round((r.Float64()-0.3)*1e6) / 1e3
	}
	for {
		if f := math.Float64frombits(r.Uint64()); !math.IsNaN(f) && !math.IsInf(f, 0) && math.Abs(f) < 1e306 {
			return f
		}
	}
}

func project(t *event.Batch) { t.Reset(testSchema, []int{0, 1, 2, 3, 4, 5, 6, 7, 8}) }

// TestAgainstOracle runs random configurations and events in random batches, of which
// nobody reads some values, with snapshot and restore in between, beside the
// recomputation from scratch.
func TestAgainstOracle(t *testing.T) {
	seeds.Each(t, 10_000, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(r)
		first, types := withMore(r, &w)
		op, err := New(first)
		if err != nil {
			t.Fatal(err)
		}
		or := newOracle(w.cfg, w.lateness)
		or.idle = w.idle
		clock := w.clock()
		var b event.Batch
		var out cep.Outbox
		maxBatch := 1 + r.IntN(64)
		skips := r.IntN(2) * r.IntN(5)
		for ins := w.inputs; len(ins) > 0; {
			n := min(len(ins), 1+r.IntN(maxBatch))
			project(&b)
			for _, in := range ins[:n] {
				appendInput(&b, in)
			}
			out.Reset(types)
			out.Skip = someOf(r.Uint64(), skips)
			clock.Arrive(&b, &out)
			if err := op.Process(&b, &out); err != nil {
				t.Fatal(err)
			}
			if err := op.Advance(clock.Watermark(), &out); err != nil {
				t.Fatal(err)
			}
			for i, in := range ins[:n] {
				passes := w.cfg.Filter == nil || in.flag
				for slot, a := range or.row(keyOf(w.cfg.Keys, in), in.shop, in.t, passes, valuesOf(in)) {
					if out.Skips(slot, i) {
						continue
					}
					compare(t, w.cfg.Outputs[slot], a, &out, slot, i)
				}
			}
			if t.Failed() {
				return
			}
			ins = ins[n:]
			switch r.IntN(8) {
			case 0:
				op = restored(t, op.cfg, op, clock.Watermark())
			case 1:
				op = adopted(t, w.cfg, op)
			}
		}
	})
}

// withMore is a world's configuration with more outputs of its extents, in any order.
func withMore(r *rand.Rand, w *world) (Config, []event.Type) {
	cfg, types := w.cfg, slices.Clone(w.types)
	cfg.Outputs = slices.Clone(cfg.Outputs)
	for range r.IntN(3) {
		o := randomOutput(r)
		o.Slot, o.Extent = len(types), w.cfg.Outputs[r.IntN(len(w.cfg.Outputs))].Extent
		cfg.Outputs = append(cfg.Outputs, o)
		var v event.Type
		if o.Value >= 0 {
			v = cfg.Values[o.Value].Type
		}
		types = append(types, ResultType(o.Aggregate, v))
	}
	r.Shuffle(len(cfg.Outputs), func(i, j int) { cfg.Outputs[i], cfg.Outputs[j] = cfg.Outputs[j], cfg.Outputs[i] })
	return cfg, types
}

// adopted is an operator that took over another's state, of which nothing is left there.
func adopted(t *testing.T, cfg Config, op *Sliding) *Sliding {
	t.Helper()
	heir, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	keys := op.Stats().Keys
	if !heir.Adopt(op) {
		t.Fatal("the operator was not taken over")
	}
	if n := heir.Stats().Keys; n != keys || op.records != nil {
		t.Fatalf("%d keys of %d were taken over", n, keys)
	}
	return heir
}

// TestAdoptRefuses leaves an operator as it is whose windows are not all there, or are of
// something else.
func TestAdoptRefuses(t *testing.T) {
	count := Output{Extent: Extent{Length: 100}, Aggregate: Count, Value: -1}
	sum := Output{Slot: 1, Extent: Extent{Length: 100}, Aggregate: Sum}
	has := Config{Keys: []int{1}, Values: testValues[:1], Outputs: []Output{count}}
	other := has
	for name, wants := range map[string]func(){
		"more windows": func() { other.Outputs = []Output{count, sum} },
		"another key":  func() { other.Keys = []int{8} },
		"more values":  func() { other.Values = testValues[:2] },
		"a filter":     func() { other.Filter = func(*event.Batch, int) bool { return true } },
		"fewer events": func() { other.MaxEvents = 7 },
	} {
		other = has
		wants()
		op, err := New(has)
		if err != nil {
			t.Fatal(err)
		}
		heir, err := New(other)
		if err != nil {
			t.Fatal(err)
		}
		if heir.Adopt(op) || len(op.extents) == 0 {
			t.Errorf("%s: taken over", name)
		}
	}
	op, err := New(has)
	if err != nil {
		t.Fatal(err)
	}
	if op.Adopt(op) || op.Adopt(newLong(t, has, vfs.NewMem(1), reservoir.Options{})) {
		t.Error("an operator took over itself, or one of another kind")
	}
}

// someOf skips so many fifths of the values of a batch, and all of some rows; nil for 0.
func someOf(salt uint64, fifths int) func(slot, row int) bool {
	if fifths == 0 {
		return nil
	}
	return func(slot, row int) bool {
		return mix(salt^uint64(row))%3 == 0 || mix(salt^uint64(row)<<8^uint64(slot+1)<<40)%5 < uint64(fifths)
	}
}

// keyOf is the oracle's key; nil where a field of it is absent.
func keyOf(keys []int, in input) *string {
	text := ""
	for _, k := range keys {
		switch {
		case k == 8:
			text += fmt.Sprintf("%d,", in.shop)
		case in.key == nil:
			return nil
		default:
			text += fmt.Sprintf("%q,", *in.key)
		}
	}
	return &text
}

func compare(t *testing.T, o Output, want answer, out *cep.Outbox, slot, row int) {
	t.Helper()
	f := &out.Features[slot]
	if f.Len() <= row {
		t.Fatalf("row %d: no value of %v %+v", row, o.Aggregate, o.Extent)
	}
	got, fault := goValue(f, row), out.FaultAt(slot, row)
	if !want.is(got, fault) {
		t.Errorf("row %d slot %d, %v(%d) of %+v: %v (fault %v), want %v (overflow %v)", row, slot, o.Aggregate, o.Value, o.Extent, got, fault, want.value, want.overflow)
	}
	if o.Extent.Length > 0 && !out.Late[row] {
		marked := slices.ContainsFunc(out.Marks, func(m cep.Fault) bool { return m.Slot == slot && m.Row == row })
		if marked != want.capped {
			t.Errorf("row %d slot %d, %v of %+v: marked as capped %v, want %v", row, slot, o.Aggregate, o.Extent, marked, want.capped)
		}
	}
}

// is reports whether a value, or its fault, is what the oracle wants.
func (want *answer) is(got any, fault error) bool {
	if want.overflow || fault != nil {
		return want.overflow && got == nil && fault == ErrOverflow
	}
	w, double := want.value.(float64)
	g, is := got.(float64)
	switch {
	case !double || !is:
		return got == want.value
	case want.near > 0 && !math.IsInf(w, 0):
		return math.Abs(g-w) <= want.near*math.Abs(w)+1e-300
	}
	return math.Float64bits(canonicalDouble(g)) == math.Float64bits(canonicalDouble(w))
}

// goValue is a value of a column; of a list its text.
func goValue(f *event.Column, i int) any {
	if f.IsNull(i) {
		return nil
	}
	switch f.Type.Kind {
	case event.Double:
		return f.Double[i]
	case event.Bool:
		return f.Bool(i)
	case event.String:
		return string(f.Bytes(i))
	case event.List:
		var values []any
		from, to := f.Span(i)
		for k := from; k < to; k++ {
			values = append(values, goValue(&f.Children[0], k))
		}
		return fmt.Sprint(values)
	}
	return f.Int64[i]
}

func canonicalDouble(f float64) float64 { return math.Float64frombits(canonical(math.Float64bits(f))) }

func snapshotOf(t *testing.T, op *Sliding) []byte {
	t.Helper()
	var buf bytes.Buffer
	sw := cep.NewSnapshotWriter(&buf)
	if err := op.Snapshot(sw); err != nil {
		t.Fatal(err)
	}
	if err := sw.Flush(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func restored(t *testing.T, cfg Config, op *Sliding, watermark event.Time) *Sliding {
	t.Helper()
	snap := snapshotOf(t, op)
	again, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Restore(cep.NewSnapshotReader(bytes.NewReader(snap))); err != nil {
		t.Fatal(err)
	}
	if err := again.Advance(watermark, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snap, snapshotOf(t, again)) {
		t.Error("the snapshot of the restored operator differs")
	}
	return again
}

// TestStateDependsOnContents reaches the same contents by two histories, in
// another order and with much else before, and wants equal bytes and values.
func TestStateDependsOnContents(t *testing.T) {
	seeds.Each(t, 100, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 2))
		cfg := Config{Keys: []int{1}, Values: testValues}
		var types []event.Type
		for i := range 12 {
			o := randomOutput(r)
			o.Slot, o.Extent = i, Extent{Length: []time.Duration{10, 1000}[i%2]}
			cfg.Outputs = append(cfg.Outputs, o)
			var v event.Type
			if o.Value >= 0 {
				v = testValues[o.Value].Type
			}
			types = append(types, ResultType(o.Aggregate, v))
		}
		live := randomInputs(r, 1+r.IntN(400))
		times := map[event.Time]bool{} // distinct, as equal times keep log order
		live = slices.DeleteFunc(live, func(in input) bool { was := times[in.t]; times[in.t] = true; return was || in.key == nil })
		for i := range live {
			live[i].t = live[i].t%400 + 100_000
		}
		slices.SortStableFunc(live, func(a, b input) int { return int(a.t - b.t) })
		live = slices.CompactFunc(live, func(a, b input) bool { return a.t == b.t })
		if len(live) == 0 {
			return
		}
		const lateness = 2000
		run := func(ins []input) (*Sliding, *cep.Outbox) {
			op, err := New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			var b event.Batch
			var out cep.Outbox
			project(&b)
			for _, in := range ins {
				appendInput(&b, in)
			}
			// An event of another key at the end moves the watermark.
			end, f := "end", 0.5
			appendInput(&b, input{key: &end, t: 100_500 + lateness, score: &f})
			appendInput(&b, input{key: live[0].key, t: 100_500, score: &f})
			out.Reset(types)
			cep.NewClock(lateness, nil, 0).Arrive(&b, &out)
			if err := op.Process(&b, &out); err != nil {
				t.Fatal(err)
			}
			return op, &out
		}
		a, outA := run(live)
		other := slices.Clone(live)
		r.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
		var old []input
		for _, in := range randomInputs(r, 1+r.IntN(400)) {
			in.t %= 5000
			old = append(old, in)
		}
		slices.SortStableFunc(old, func(a, b input) int { return int(a.t - b.t) })
		b, outB := run(append(old, other...))
		if !bytes.Equal(snapshotOf(t, a), snapshotOf(t, b)) {
			t.Error("equal contents, different snapshots")
		}
		for slot := range types {
			fa, fb := &outA.Features[slot], &outB.Features[slot]
			la, lb := fa.AppendText(nil, fa.Len()-1), fb.AppendText(nil, fb.Len()-1)
			if !bytes.Equal(la, lb) {
				t.Errorf("slot %d: equal contents, %s and %s", slot, la, lb)
			}
		}
	})
}

// TestKeysLeave wants the memory of keys back once nothing can ask for them.
func TestKeysLeave(t *testing.T) {
	cfg := Config{Keys: []int{1}, Outputs: []Output{{Slot: 0, Extent: Extent{Length: 100}, Aggregate: Count, Value: -1}}}
	op, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var b event.Batch
	var out cep.Outbox
	clock := cep.NewClock(50, nil, 0)
	most := int64(0)
	for i := 0; i < 200_000; i += 100 {
		project(&b)
		for j := i; j < i+100; j++ {
			key := fmt.Sprintf("card-number-%d", j) // each key once
			appendInput(&b, input{key: &key, t: event.Time(j)})
		}
		out.Reset([]event.Type{{Kind: event.Int64}})
		clock.Arrive(&b, &out)
		if err := op.Process(&b, &out); err != nil {
			t.Fatal(err)
		}
		most = max(most, op.Stats().Keys)
	}
	if most > 2000 {
		t.Errorf("%d keys held at once where 150 are live", most)
	}
	if b := op.Stats().Bytes; b > 4<<20 {
		t.Errorf("%d bytes held", b)
	}
}

func TestIntegerKeys(t *testing.T) {
	schema := &event.Schema{Fields: []event.Field{{Name: "k", Type: event.Type{Kind: event.Int64}}}}
	op, err := New(Config{Keys: []int{0}, Outputs: []Output{{Slot: 0, Extent: Extent{Length: 100}, Aggregate: Count, Value: -1}}})
	if err != nil {
		t.Fatal(err)
	}
	var b event.Batch
	b.Reset(schema, []int{0})
	var out cep.Outbox
	out.Reset([]event.Type{{Kind: event.Int64}})
	for i, k := range []int64{1, 2, 1, -1, 1, 2} {
		b.Offset = append(b.Offset, int64(i))
		b.Time = append(b.Time, event.Time(i))
		b.Cols[0].AppendInt64(k)
	}
	cep.NewClock(0, nil, 0).Arrive(&b, &out)
	if err := op.Process(&b, &out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.Features[0].Int64, []int64{1, 1, 2, 1, 3, 2}; !slices.Equal(got, want) {
		t.Errorf("counts %v, want %v", got, want)
	}
}

func TestNewRefuses(t *testing.T) {
	one := []Output{{Extent: Extent{Length: 1}, Aggregate: Count, Value: -1}}
	of := func(o Output) Config {
		if o.Extent == (Extent{}) {
			o.Extent.Length = 1
		}
		return Config{Values: testValues, Outputs: []Output{o}}
	}
	for name, cfg := range map[string]Config{
		"no outputs":       {},
		"no extent":        {Outputs: []Output{{Aggregate: Count, Value: -1}}},
		"two extents":      of(Output{Aggregate: Count, Value: -1, Extent: Extent{Length: 1, Events: 1}}),
		"negative length":  of(Output{Aggregate: Count, Value: -1, Extent: Extent{Length: -1}}),
		"negative delay":   of(Output{Aggregate: Count, Value: -1, Extent: Extent{Length: 1, Delay: -1}}),
		"far":              of(Output{Aggregate: Count, Value: -1, Extent: Extent{Length: math.MaxInt64}}),
		"unknown value":    of(Output{Aggregate: Sum, Value: 9}),
		"no value":         of(Output{Aggregate: Sum, Value: -1}),
		"no aggregate":     of(Output{}),
		"sum of text":      of(Output{Aggregate: Sum, Value: 2}),
		"least text":       of(Output{Aggregate: Min, Value: 2}),
		"lag of nothing":   of(Output{Aggregate: Lag, Value: 0}),
		"quantile above 1": of(Output{Aggregate: Quantile, Value: 0, Q: 1.5}),
		"speed of money":   of(Output{Aggregate: Speed, Value: 0, Value2: 4}),
		"too many events":  {Outputs: one, MaxEvents: 1 << 30},
		"value of no kind": {Outputs: one, Values: []Value{{}}},
		"more than 64":     {Outputs: one, Values: slices.Repeat(testValues, 11)},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzRestore(f *testing.F) {
	cfg := Config{Keys: []int{1}, MaxEvents: 100, Values: testValues}
	for i := range 30 {
		o := randomOutput(rand.New(rand.NewPCG(uint64(i), 3)))
		o.Slot, o.Extent = i, randomExtent(rand.New(rand.NewPCG(uint64(i), 4)))
		cfg.Outputs = append(cfg.Outputs, o)
	}
	op, err := New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{})
	f.Add([]byte{2, 6, 8, 0})
	var b event.Batch
	var out cep.Outbox
	project(&b)
	for _, in := range randomInputs(rand.New(rand.NewPCG(1, 5)), 20) {
		appendInput(&b, in)
	}
	var types []event.Type
	for _, o := range cfg.Outputs {
		var v event.Type
		if o.Value >= 0 {
			v = testValues[o.Value].Type
		}
		types = append(types, ResultType(o.Aggregate, v))
	}
	out.Reset(types)
	cep.NewClock(1000, nil, 0).Arrive(&b, &out)
	if err := op.Process(&b, &out); err != nil {
		f.Fatal(err)
	}
	var buf bytes.Buffer
	w := cep.NewSnapshotWriter(&buf)
	if err := errors.Join(op.Snapshot(w), w.Flush()); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		op, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		op.reserveMax = 1000
		if op.Restore(cep.NewSnapshotReader(bytes.NewReader(data))) != nil {
			return
		}
		restored(t, cfg, op, event.MinTime)
	})
}
