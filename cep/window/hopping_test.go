package window

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

// hoppingOracle keeps every event that entered and looks at all of them for each
// window: the meaning of HoppingConfig written down once more.
type hoppingOracle struct {
	cfg     HoppingConfig
	entered []hoppingEvent
	low     event.Time
	missed  int64
}

type hoppingEvent struct {
	entered
	key string
}

// expected is one result: behind a row, of a window and key.
type expected struct {
	after      int
	begin, end event.Time
	key        string
	answers    []answer
}

// windows are the begins of the windows that hold a time, in order.
func (o *hoppingOracle) windows(t event.Time) (begins []event.Time) {
	hop, offset := event.Time(o.cfg.Hop), event.Time(o.cfg.Offset)
	begin := offset
	for begin > t {
		begin -= hop
	}
	for begin+hop <= t {
		begin += hop
	}
	for ; t < begin+event.Time(o.cfg.Size); begin -= hop {
		begins = append(begins, begin)
	}
	slices.Reverse(begins)
	return begins
}

func (o *hoppingOracle) row(key *string, t event.Time, passes bool, values []any) {
	begins := o.windows(t)
	if key == nil || !passes || len(begins) == 0 {
		return
	}
	if last := begins[len(begins)-1]; last.Add(o.cfg.Size) <= o.low {
		o.missed++
		return
	}
	o.entered = append(o.entered, hoppingEvent{entered{len(o.entered), t, values}, *key})
}

// open are the results of all windows with events that end behind the watermark, and up
// to a time.
func (o *hoppingOracle) open(to event.Time, after int) (out []expected) {
	var begins []event.Time
	for _, e := range o.entered {
		for _, begin := range o.windows(e.t) {
			if end := begin.Add(o.cfg.Size); end > o.low && end <= to && !slices.Contains(begins, begin) {
				begins = append(begins, begin)
			}
		}
	}
	slices.Sort(begins)
	for _, begin := range begins {
		out = append(out, o.results(begin, after)...)
	}
	return out
}

// results are those of one window.
func (o *hoppingOracle) results(begin event.Time, after int) (out []expected) {
	end := begin.Add(o.cfg.Size)
	grain := event.Time(gcd(o.cfg.Size, o.cfg.Hop))
	if o.cfg.Hop > o.cfg.Size {
		grain = event.Time(o.cfg.Size) // one pane
	}
	var in []hoppingEvent
	for _, e := range o.entered {
		if e.t >= begin && e.t < end {
			in = append(in, e)
		}
	}
	first := func(e hoppingEvent) event.Time { return (e.t - begin) / grain }
	order := slices.Clone(in)
	slices.SortStableFunc(order, func(a, b hoppingEvent) int { return cmp.Compare(first(a), first(b)) })
	slices.SortStableFunc(in, func(a, b hoppingEvent) int { return cmp.Compare(a.t, b.t) })
	seen := map[string]bool{}
	aggregates := &oracle{cfg: Config{Values: o.cfg.Values}}
	for _, e := range order {
		if seen[e.key] {
			continue
		}
		seen[e.key] = true
		var of []entered
		for _, other := range in {
			if other.key == e.key {
				of = append(of, other.entered)
			}
		}
		one := expected{after: after, begin: begin, end: end, key: e.key}
		for i := range o.cfg.Outputs {
			c := o.cfg.Outputs[i]
			c.Extent = Extent{Length: o.cfg.Size}
			one.answers = append(one.answers, aggregates.aggregate(&c, of, end-1, -1, nil))
		}
		out = append(out, one)
	}
	return out
}

// hoppingWorld is a world with windows at fixed places.
type hoppingWorld struct {
	world
	hopping HoppingConfig
}

func newHoppingWorld(r *rand.Rand) hoppingWorld {
	w := hoppingWorld{world: newWorld(r)}
	c := HoppingConfig{Keys: w.cfg.Keys, Filter: w.cfg.Filter, Values: testValues, Slot: r.IntN(3)}
	for _, k := range c.Keys {
		c.KeyTypes = append(c.KeyTypes, testSchema.Fields[k].Type)
	}
	c.Size = time.Duration(1 + r.IntN(60))
	switch r.IntN(5) {
	case 0, 1:
	case 2:
		c.Hop = c.Size
		for _, d := range []time.Duration{2, 3, 5} {
			if c.Hop%d == 0 && r.IntN(2) == 0 {
				c.Hop /= d
			}
		}
	case 3:
		c.Hop = time.Duration(1 + r.IntN(int(c.Size)))
	default:
		c.Hop = c.Size + time.Duration(r.IntN(20))
	}
	if r.IntN(2) == 0 {
		c.Offset = time.Duration(r.IntN(200) - 100)
	}
	for range 1 + r.IntN(6) {
		o := randomOutput(r)
		for o.Aggregate == Lag || o.Aggregate == ZScore || o.Aggregate == IsNew {
			o = randomOutput(r)
		}
		c.Outputs = append(c.Outputs, o)
	}
	w.hopping = c
	return w
}

func compareResults(t *testing.T, w *hoppingWorld, want []expected, rows *cep.Rows) {
	t.Helper()
	c := &w.hopping
	for i, e := range want {
		if i >= len(rows.After) {
			t.Errorf("%d results, want %d; missing %+v", len(rows.After), len(want), e)
			return
		}
		begin, end := event.Time(rows.Cols[0].Int64[i]), event.Time(rows.Cols[1].Int64[i])
		var key strings.Builder
		for k, field := range c.Keys {
			if field == 8 {
				fmt.Fprintf(&key, "%d,", rows.Cols[2+k].Int64[i])
			} else {
				fmt.Fprintf(&key, "%q,", rows.Cols[2+k].Bytes(i))
			}
		}
		if rows.After[i] != e.after || begin != e.begin || end != e.end || key.String() != e.key {
			t.Errorf("result %d is behind %d, of [%d, %d) and %s; want %d, [%d, %d), %s", i, rows.After[i], begin, end, key.String(), e.after, e.begin, e.end, e.key)
			return
		}
		for j, a := range e.answers {
			col := 2 + len(c.Keys) + j
			var fault error
			for _, f := range rows.Faults {
				if f.Slot == col && f.Row == i {
					fault = f.Err
				}
			}
			if got := goValue(&rows.Cols[col], i); !a.is(got, fault) {
				t.Errorf("result %d of [%d, %d) and %s: %v(%d) is %v (fault %v), want %v (overflow %v)", i, begin, end, e.key, c.Outputs[j].Aggregate, c.Outputs[j].Value, got, fault, a.value, a.overflow)
			}
		}
	}
	if len(rows.After) > len(want) {
		t.Errorf("%d results, want %d; too many of [%d, %d)", len(rows.After), len(want), rows.Cols[0].Int64[len(want)], rows.Cols[1].Int64[len(want)])
	}
}

func newHopping(t testing.TB, c HoppingConfig) *Hopping {
	t.Helper()
	h, err := NewHopping(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func hoppingSnapshot(t testing.TB, h *Hopping) []byte {
	t.Helper()
	var buf bytes.Buffer
	sw := cep.NewSnapshotWriter(&buf)
	if err := errors.Join(h.Snapshot(sw), sw.Flush()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestHoppingAgainstOracle runs random windows and events in random batches, with time
// that passes in between and snapshot and restore, beside the recomputation from
// scratch: the same results in the same order behind the same rows, whatever the
// batches.
func TestHoppingAgainstOracle(t *testing.T) {
	results, missed := 0, int64(0)
	seeds.Each(t, 10_000, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 11))
		w := newHoppingWorld(r)
		c := w.hopping
		op, clock := newHopping(t, c), w.clock()
		if c.Hop == 0 {
			c.Hop = c.Size
		}
		w.hopping = c
		or := &hoppingOracle{cfg: c, low: event.MinTime}
		var b event.Batch
		var out cep.Outbox
		maxBatch := 1 + r.IntN(64)
		for ins := w.inputs; ; {
			n := min(len(ins), r.IntN(maxBatch+1))
			project(&b)
			for _, in := range ins[:n] {
				appendInput(&b, in)
			}
			out.Reset(nil)
			clock.Arrive(&b, &out)
			if n == 0 && r.IntN(4) == 0 { // time passes without an event
				clock.Pass(clock.Newest().Add(time.Duration(r.IntN(50))))
			}
			if err := errors.Join(op.Process(&b, &out), op.Advance(clock.Watermark(), &out)); err != nil {
				t.Fatal(err)
			}
			var want []expected
			for i, in := range ins[:n] {
				want = append(want, or.open(out.Low[i], i-1)...)
				or.low = out.Low[i]
				or.row(keyOf(c.Keys, in), in.t, c.Filter == nil || in.flag, valuesOf(in))
			}
			want = append(want, or.open(clock.Watermark(), n-1)...)
			or.low = clock.Watermark()
			results += len(want)
			rows := out.Result(c.Slot, op.ResultTypes())
			compareResults(t, &w, want, rows)
			if r.IntN(4) == 0 {
				early := &cep.Rows{Cols: make([]event.Column, len(op.ResultTypes()))}
				for i, typ := range op.ResultTypes() {
					early.Cols[i].Reset(typ)
				}
				op.Open(7, early)
				compareResults(t, &w, or.open(event.MaxTime, 7), early)
			}
			if op.Missed() != or.missed {
				t.Errorf("%d events missed, want %d", op.Missed(), or.missed)
			}
			if t.Failed() {
				return
			}
			if ins = ins[n:]; len(ins) == 0 {
				break
			}
			if r.IntN(8) == 0 {
				text := hoppingSnapshot(t, op)
				op = newHopping(t, c)
				if err := op.Restore(cep.NewSnapshotReader(bytes.NewReader(text))); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(text, hoppingSnapshot(t, op)) {
					t.Fatal("the snapshot of the restored operator differs")
				}
			}
		}
		missed += or.missed
		out.Reset(nil)
		if err := op.Advance(event.MaxTime, &out); err != nil {
			t.Fatal(err)
		}
		if s := op.Stats(); s.Keys != 0 || op.arena.used != 0 || len(op.wide)+len(op.wideSquares) != 0 {
			t.Errorf("when all is closed, %+v, %d words and %d wide sums are held", s, op.arena.used, len(op.wide)+len(op.wideSquares))
		}
	})
	if results == 0 || missed == 0 {
		t.Errorf("%d results and %d missed events: the test looks at nothing", results, missed)
	}
}

func TestHoppingConfig(t *testing.T) {
	count := []Output{{Aggregate: Count, Value: -1}}
	for name, c := range map[string]HoppingConfig{
		"a size of 0s and a hop of 0s":        {Outputs: count},
		"no outputs":                          {Size: time.Second},
		"a size or hop above":                 {Size: time.Second, Hop: 1 << 62, Outputs: count},
		"panes where 65536 are the most":      {Size: time.Hour, Hop: 7, Outputs: count},
		"0 types of 1 key fields":             {Size: time.Second, Keys: []int{1}, Outputs: count},
		"lag is about a current event":        {Size: time.Second, Values: testValues, Outputs: []Output{{Aggregate: Lag, N: 1}}},
		"no sum of a value of type string":    {Size: time.Second, Values: testValues, Outputs: []Output{{Aggregate: Sum, Value: 2}}},
		"no such aggregate":                   {Size: time.Second, Values: testValues, Outputs: []Output{{Aggregate: 99}}},
		"window: a value of type list(int64)": {Size: time.Second, Values: []Value{{Type: event.ListOf(event.Type{Kind: event.Int64})}}, Outputs: count},
	} {
		if _, err := NewHopping(c); err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(name, " of type list(int64)")) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func FuzzHoppingRestore(f *testing.F) {
	c := HoppingConfig{Keys: []int{1, 8}, KeyTypes: []event.Type{testSchema.Fields[1].Type, testSchema.Fields[8].Type}, Values: testValues, Size: 40, Hop: 10}
	for i := range 30 {
		if o := randomOutput(rand.New(rand.NewPCG(uint64(i), 3))); o.Aggregate != Lag && o.Aggregate != ZScore && o.Aggregate != IsNew {
			c.Outputs = append(c.Outputs, o)
		}
	}
	f.Add([]byte{})
	run := func(t testing.TB, op *Hopping) {
		var b event.Batch
		var out cep.Outbox
		project(&b)
		for _, in := range randomInputs(rand.New(rand.NewPCG(1, 5)), 20) {
			appendInput(&b, in)
		}
		out.Reset(nil)
		cep.NewClock(1000, nil, 0).Arrive(&b, &out)
		if err := errors.Join(op.Process(&b, &out), op.Advance(0, &out)); err != nil {
			t.Fatal(err)
		}
	}
	op := newHopping(f, c)
	run(f, op)
	f.Add(hoppingSnapshot(f, op))
	f.Fuzz(func(t *testing.T, data []byte) {
		op := newHopping(t, c)
		if err := op.Restore(cep.NewSnapshotReader(bytes.NewReader(data))); err != nil {
			return
		}
		text := hoppingSnapshot(t, op)
		again := newHopping(t, c)
		if err := again.Restore(cep.NewSnapshotReader(bytes.NewReader(text))); err != nil {
			t.Fatalf("what was restored cannot be restored again: %v", err)
		}
		run(t, op)
	})
}
