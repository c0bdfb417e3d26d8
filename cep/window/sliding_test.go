package window

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

var testSchema = &event.Schema{Stream: "s", Alias: "s", Key: 1, Fields: []event.Field{
	{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
	{Name: "key", Type: event.Type{Kind: event.String}, Optional: true},
	{Name: "amount", Type: event.Type{Kind: event.Decimal, Scale: 2}},
	{Name: "score", Type: event.Type{Kind: event.Double}, Optional: true},
	{Name: "flag", Type: event.Type{Kind: event.Bool}},
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

// input is one event of a test.
type input struct {
	key    *string
	t      event.Time
	amount int64
	score  *float64
	flag   bool
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
}

// seeds gives each seed of a randomised test; WEIR_SEED runs one alone.
func seeds(t *testing.T, n int, run func(t *testing.T, seed uint64)) {
	if s := os.Getenv("WEIR_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		run(t, seed)
		return
	}
	if testing.Short() {
		n = min(n, 50)
	}
	if s := os.Getenv("WEIR_SEEDS"); s != "" {
		if more, err := strconv.Atoi(s); err == nil {
			n = max(n, 10*more)
		}
	}
	base := uint64(time.Now().UnixNano())
	for i := range n {
		seed := base + uint64(i)
		run(t, seed)
		if t.Failed() {
			t.Fatalf("WEIR_SEED=%d", seed)
		}
	}
}

// world is one random configuration and its events.
type world struct {
	cfg      Config
	types    []event.Type
	lateness time.Duration
	inputs   []input
}

func newWorld(r *rand.Rand) world {
	w := world{lateness: time.Duration(r.IntN(40))}
	if r.IntN(4) == 0 {
		w.lateness = 0
	}
	w.cfg = Config{Key: 1}
	if r.IntN(2) == 0 {
		w.cfg.Filter = func(b *event.Batch, row int) bool { return b.Cols[4].Bool(row) }
	}
	if r.IntN(4) > 0 {
		w.cfg.Values = append(w.cfg.Values, Value{Type: testSchema.Fields[2].Type, Read: readInt(2)})
	}
	if r.IntN(2) == 0 {
		w.cfg.Values = append(w.cfg.Values, Value{Type: testSchema.Fields[3].Type, Nullable: true, Read: readDouble(3)})
	}
	lengths := []time.Duration{1, 5, time.Duration(1 + r.IntN(200)), 300}
	for i := range 1 + r.IntN(6) {
		o := Output{Slot: i, Length: lengths[r.IntN(len(lengths))], Aggregate: Count}
		if n := len(w.cfg.Values); n > 0 && r.IntN(4) > 0 {
			o.Aggregate, o.Value = Sum+Aggregate(r.IntN(2)), r.IntN(n)
		}
		var v event.Type
		if o.Aggregate != Count {
			v = w.cfg.Values[o.Value].Type
		}
		w.cfg.Outputs = append(w.cfg.Outputs, o)
		w.types = append(w.types, ResultType(o.Aggregate, v))
	}
	w.inputs = randomInputs(r)
	return w
}

func randomInputs(r *rand.Rand) []input {
	keys := make([]string, 1+r.IntN(8))
	for i := range keys {
		keys[i] = string(bytes.Repeat([]byte{byte('a' + i)}, r.IntN(30)))
		if r.IntN(4) == 0 {
			keys[i] = fmt.Sprint("k", r.IntN(4))
		}
	}
	step, back, odd := 1+r.IntN(6), 1+r.IntN(80), r.IntN(2) == 0
	now := event.Time(r.IntN(1000) - 500)
	var ins []input
	for range 1 + r.IntN(400) {
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

func project(t *event.Batch) { t.Reset(testSchema, []int{0, 1, 2, 3, 4}) }

// TestAgainstOracle runs random configurations and events in random batches,
// with snapshot and restore in between, beside the recomputation from scratch.
func TestAgainstOracle(t *testing.T) {
	seeds(t, 400, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(r)
		op, err := New(w.cfg)
		if err != nil {
			t.Fatal(err)
		}
		or := newOracle(w.cfg, w.lateness)
		greatest := event.MinTime
		var b event.Batch
		var out cep.Outbox
		maxBatch := 1 + r.IntN(64)
		for ins := w.inputs; len(ins) > 0; {
			n := min(len(ins), 1+r.IntN(maxBatch))
			project(&b)
			for _, in := range ins[:n] {
				appendInput(&b, in)
			}
			out.Reset(w.types)
			greatest = watermarks(&out, greatest, w.lateness, b.Time)
			if err := op.Process(&b, &out); err != nil {
				t.Fatal(err)
			}
			if err := op.Advance(greatest.Sub(w.lateness), &out); err != nil {
				t.Fatal(err)
			}
			for i, in := range ins[:n] {
				passes := w.cfg.Filter == nil || in.flag
				for slot, a := range or.row(in.key, in.t, passes, valuesOf(w.cfg, in)) {
					compare(t, a, &out, slot, i)
				}
			}
			if t.Failed() {
				return
			}
			ins = ins[n:]
			if r.IntN(8) == 0 {
				op = restored(t, w.cfg, op, greatest.Sub(w.lateness))
			}
		}
	})
}

func valuesOf(cfg Config, in input) []any {
	var vs []any
	for _, v := range cfg.Values {
		switch {
		case v.Type.Kind == event.Decimal:
			vs = append(vs, in.amount)
		case in.score == nil:
			vs = append(vs, nil)
		default:
			vs = append(vs, *in.score)
		}
	}
	return vs
}

func compare(t *testing.T, want answer, out *cep.Outbox, slot, row int) {
	t.Helper()
	f := &out.Features[slot]
	switch {
	case want.overflow:
		if !f.IsNull(row) || out.FaultAt(slot, row) != ErrOverflow {
			t.Errorf("row %d slot %d: no overflow where the sum is %v", row, slot, want.i)
		}
	case want.i != nil:
		if f.IsNull(row) || !want.i.IsInt64() || f.Int64[row] != want.i.Int64() {
			t.Errorf("row %d slot %d: %v (null %v), want %v", row, slot, f.Int64[row], f.IsNull(row), want.i)
		}
	case want.f != nil:
		if f.IsNull(row) || math.Float64bits(f.Double[row]) != math.Float64bits(*want.f) {
			t.Errorf("row %d slot %d: %v (null %v), want %v", row, slot, f.Double[row], f.IsNull(row), *want.f)
		}
	case !f.IsNull(row) || out.FaultAt(slot, row) != nil:
		t.Errorf("row %d slot %d: a value where there is none", row, slot)
	}
}

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
	seeds(t, 100, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 2))
		cfg := Config{Key: 1, Values: []Value{
			{Type: testSchema.Fields[2].Type, Read: readInt(2)},
			{Type: testSchema.Fields[3].Type, Nullable: true, Read: readDouble(3)},
		}, Outputs: []Output{{Slot: 0, Length: 1000, Aggregate: Sum}, {Slot: 1, Length: 1000, Aggregate: Sum, Value: 1}, {Slot: 2, Length: 10, Aggregate: Mean, Value: 1}}}
		types := []event.Type{testSchema.Fields[2].Type, {Kind: event.Double}, {Kind: event.Double}}
		live := randomInputs(r)
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
			watermarks(&out, event.MinTime, lateness, b.Time)
			if err := op.Process(&b, &out); err != nil {
				t.Fatal(err)
			}
			return op, &out
		}
		a, outA := run(live)
		other := slices.Clone(live)
		r.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
		var old []input
		for _, in := range randomInputs(r) {
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
	cfg := Config{Key: 1, Outputs: []Output{{Slot: 0, Length: 100, Aggregate: Count}}}
	op, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var b event.Batch
	var out cep.Outbox
	greatest := event.MinTime
	const lateness = 50
	most := int64(0)
	for i := 0; i < 200_000; i += 100 {
		project(&b)
		for j := i; j < i+100; j++ {
			key := fmt.Sprintf("card-number-%d", j) // each key once
			appendInput(&b, input{key: &key, t: event.Time(j)})
		}
		out.Reset([]event.Type{{Kind: event.Int64}})
		greatest = watermarks(&out, greatest, lateness, b.Time)
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
	op, err := New(Config{Key: 0, Outputs: []Output{{Slot: 0, Length: 100, Aggregate: Count}}})
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
	watermarks(&out, event.MinTime, 0, b.Time)
	if err := op.Process(&b, &out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.Features[0].Int64, []int64{1, 1, 2, 1, 3, 2}; !slices.Equal(got, want) {
		t.Errorf("counts %v, want %v", got, want)
	}
}

func TestNewRefuses(t *testing.T) {
	one := []Output{{Length: 1, Aggregate: Count}}
	for name, cfg := range map[string]Config{
		"no outputs":      {},
		"length":          {Outputs: []Output{{Aggregate: Count}}},
		"value of string": {Outputs: one, Values: []Value{{Type: event.Type{Kind: event.String}}}},
		"unknown value":   {Outputs: []Output{{Length: 1, Aggregate: Sum, Value: 1}}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzRestore(f *testing.F) {
	cfg := Config{Key: 1, Values: []Value{{Type: testSchema.Fields[3].Type, Nullable: true, Read: readDouble(3)}},
		Outputs: []Output{{Length: 100, Aggregate: Sum}}}
	op, _ := New(cfg)
	f.Add([]byte{})
	f.Add([]byte{1, 3, 0})
	var one []byte
	one = append(one, 1, 3, 1, 1, 'k', 1, 2)
	one = binary.LittleEndian.AppendUint64(one, math.Float64bits(1e300))
	f.Add(binary.LittleEndian.AppendUint64(one, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		if op.Restore(cep.NewSnapshotReader(bytes.NewReader(data))) != nil {
			return
		}
		restored(t, cfg, op, event.MinTime)
	})
}
