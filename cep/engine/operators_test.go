package engine

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirstream/weir/ingest/schema"
)

// TestOperators: what operators hold and cost is told over all shards, and of the keys
// with the most events, of whatever shard; a restart from a checkpoint shows the same.
func TestOperators(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 1))
	in := make([][]string, testPartitions)
	want, events := map[string]int64{}, int64(0)
	for p := range in {
		for k := range 30 { // key k has k events in a partition of its own
			key := fmt.Sprintf("p%d-%02d", p, k)
			for range k*testPartitions + p {
				in[p] = append(in[p], fmt.Sprintf(`{"ts": 1000, "key": "%s", "amount": 1}`, key))
				want[key]++
				events++
			}
		}
		r.Shuffle(len(in[p]), func(i, j int) { in[p][i], in[p][j] = in[p][j], in[p][i] })
	}
	b := newBench(12, in)
	for life := range 2 {
		reg := prometheus.NewRegistry()
		b.opts.Registerer = reg
		all := b.runEngine(t).Operators()
		if len(all) != 1 {
			t.Fatalf("life %d: %d operators", life, len(all))
		}
		o := all[0]
		if o.Stream != "s" || o.Name != "by(s.key)" || !slices.Equal(o.Rules, []string{"often", "big"}) || o.Shards != testPartitions {
			t.Errorf("life %d: %+v", life, o)
		}
		if o.Keys != int64(len(want)) || o.Events != events || o.Bytes == 0 || o.Capped != 0 {
			t.Errorf("life %d: %+v, expected %d keys and %d events", life, o.Stats, len(want), events)
		}
		if life == 0 && (o.Processed != events || o.Time <= 0) || life == 1 && o.Processed != 0 {
			t.Errorf("life %d: %d events in %v", life, o.Processed, o.Time)
		}
		if len(o.Top) != topKeys {
			t.Fatalf("life %d: %d keys at the top", life, len(o.Top))
		}
		for i, k := range o.Top {
			if most := int64(29*testPartitions + testPartitions - 1 - i); k.Events != most || want[k.Key] != most || k.Bytes < 16*most {
				t.Errorf("life %d: key %d is %+v, expected one of %d events", life, i, k, most)
			}
		}
		metrics := fmt.Sprintf("# HELP weir_engine_operator_events Events that the operator holds.\n# TYPE weir_engine_operator_events gauge\nweir_engine_operator_events{operator=%q,stream=\"s\"} %d\n", o.Name, events)
		if err := testutil.GatherAndCompare(reg, bytes.NewBufferString(metrics), "weir_engine_operator_events"); err != nil {
			t.Error(err)
		}
		if n, err := testutil.GatherAndCount(reg); err != nil || n == 0 {
			t.Errorf("%d metrics: %v", n, err)
		}
		if lints, err := testutil.GatherAndLint(reg); err != nil || len(lints) > 0 {
			t.Errorf("metrics: %v %v", err, lints)
		}
		families, _ := reg.Gather()
		for _, f := range families {
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					if strings.HasPrefix(l.GetValue(), "p2-") {
						t.Errorf("%s has a key as a label: %s", f.GetName(), l.GetValue())
					}
				}
			}
		}
	}
}

// TestOperatorsCapped: keys and values that a limit shows in are counted.
func TestOperatorsCapped(t *testing.T) {
	var in []string
	for i := range 10 {
		in = append(in, fmt.Sprintf(`{"ts": %d, "key": "much", "amount": 1}`, 1000+i), fmt.Sprintf(`{"ts": %d, "key": "k%d", "amount": 1}`, 1000+i, i))
	}
	b := newBench(13, nil)
	b.stream = testStream(1)
	b.log.produce("in", 0, in...)
	b.prog = cappedProgram{testProgram{"p1", 20 * time.Second}, 4}
	o := b.runEngine(t).Operators()[0]
	// From its fifth event on a count and a sum lack some.
	if o.Capped != 1 || o.CappedValues != 2*6 || o.Events != 4+10 {
		t.Errorf("%+v", o)
	}
}

// TestOperatorsDeclared: what was counted of an operator stays when another shard takes
// its place.
func TestOperatorsDeclared(t *testing.T) {
	b := newBench(14, [][]string{{`{"ts": 1000, "key": "k", "amount": 1}`, `{"ts": 1001, "key": "k", "amount": 1}`}})
	b.stream = testStream(1)
	e := b.engine(t)
	stop := start(t, e)
	b.log.waitEnds("in", 1)
	again := *b.stream
	if err := e.Declare([]*schema.Stream{&again}, b.prog, nil); err != nil {
		t.Fatal(err)
	}
	b.log.produce("in", 0, `{"ts": 1002, "key": "k", "amount": 1}`)
	b.log.waitEnds("in", 1)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if all := e.Operators(); len(all) != 1 || all[0].Processed != 3 || all[0].Events != 3 {
		t.Errorf("%+v", all)
	}
}
