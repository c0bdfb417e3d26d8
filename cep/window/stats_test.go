package window

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

// TestTopKeys: the keys with the most events are told, and the memory of all keys is
// what the operator has in use.
func TestTopKeys(t *testing.T) {
	seeds.Each(t, 20, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 7))
		cfg := Config{Keys: []int{1}, Values: testValues[:2]}
		var types []event.Type
		for i, a := range []Aggregate{Count, Sum, Distinct, Quantile, Max, Min} {
			cfg.Outputs = append(cfg.Outputs, Output{Slot: i, Extent: Extent{Length: time.Hour * time.Duration(1+i%2)}, Aggregate: a, Q: 0.5})
			types = append(types, ResultType(a, testValues[0].Type))
		}
		op, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int64{}
		var b event.Batch
		var out cep.Outbox
		project(&b)
		keys := 1 + r.IntN(40)
		for i := range 2000 {
			key := fmt.Sprintf("%0*d", 1+r.IntN(20), r.IntN(1+r.IntN(keys)))
			appendInput(&b, input{key: &key, t: event.Time(i), amount: int64(r.IntN(500))})
			want[key]++
		}
		out.Reset(types)
		cep.NewClock(0, nil, 0).Arrive(&b, &out)
		if err := op.Process(&b, &out); err != nil {
			t.Fatal(err)
		}
		top := op.TopKeys(5)
		var counts []int64
		for _, n := range want {
			counts = append(counts, n)
		}
		slices.SortFunc(counts, func(a, b int64) int { return cmp.Compare(b, a) })
		if len(top) != min(5, len(want)) {
			t.Fatalf("%d keys of %d", len(top), len(want))
		}
		for i, k := range top {
			if k.Events != counts[i] || want[k.Key] != k.Events {
				t.Errorf("key %d is %+v, expected one with %d events", i, k, counts[i])
			}
		}
		bytes := int64(0)
		for _, k := range op.TopKeys(len(want)) {
			bytes += k.Bytes
		}
		if used := op.arena.used*8 + int64(len(want))*op.recordBytes(); bytes != used {
			t.Errorf("the keys have %d bytes, in use are %d", bytes, used)
		}
	})
}

// TestCappedKeysLeave: a key that is gone no longer counts as one that lacks events.
func TestCappedKeysLeave(t *testing.T) {
	op, err := New(Config{Keys: []int{1}, MaxEvents: 2, Outputs: []Output{{Slot: 0, Extent: Extent{Length: 100}, Aggregate: Count, Value: -1}}})
	if err != nil {
		t.Fatal(err)
	}
	var b event.Batch
	var out cep.Outbox
	clock := cep.NewClock(0, nil, 0)
	process := func(key string, times ...event.Time) {
		project(&b)
		for _, at := range times {
			appendInput(&b, input{key: &key, t: at})
		}
		out.Reset([]event.Type{{Kind: event.Int64}})
		clock.Arrive(&b, &out)
		if err := op.Process(&b, &out); err != nil {
			t.Fatal(err)
		}
	}
	process("a", 1, 2, 3)
	if s := op.Stats(); s.Capped != 1 || s.Events != 2 {
		t.Errorf("%+v with three events where two are held", s)
	}
	process("b", 1000, 1001) // the watermark is that before the second
	if s := op.Stats(); s.Capped != 0 || s.Keys != 1 {
		t.Errorf("%+v once the key is gone", s)
	}
}
