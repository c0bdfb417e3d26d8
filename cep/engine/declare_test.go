package engine

import (
	"math/rand/v2"
	"testing"

	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/test/seeds"
)

// TestDeclare declares streams anew, again and again, while the engine runs: what is
// written equals a run straight through. A stream that is added is decided from its
// beginning, a shard that is not touched goes on, and one that is removed ends.
func TestDeclare(t *testing.T) {
	seeds.Each(t, 12, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 11))
		in := randomInput(r)
		straight := newBench(seed, in)
		straight.run(t)
		want := straight.result()

		b := newBench(seed+1, in)
		other := testStream(1)
		other.Topic, other.Schema.Stream, other.Schema.Alias = "other", "other", "other"
		b.log.produce("other", 0, inputs(r, 200)...)
		e := b.engine(t, func(o *Options) { o.BatchRows = 1 + r.IntN(50) })
		stop := start(t, e)
		for range 1 + r.IntN(5) {
			again := *b.stream
			b.stream = &again
			if err := e.Declare([]*schema.Stream{b.stream}, b.prog, nil); err != nil {
				t.Fatal(err)
			}
		}
		first := e.shards()[0]
		if err := e.Declare([]*schema.Stream{b.stream, other}, b.prog, nil); err != nil {
			t.Fatal(err)
		}
		if e.shards()[0] != first {
			t.Error("a shard that is as before was replaced")
		}
		b.log.waitEnds("in", testPartitions)
		b.log.waitEnds("other", 1)
		if got := e.Status(); len(got) != testPartitions+1 || got[testPartitions].Stream != "other" || got[testPartitions].Events == 0 {
			t.Errorf("status %+v", got)
		}
		if err := e.Declare([]*schema.Stream{b.stream, {Topic: "in", Schema: other.Schema}}, b.prog, nil); err == nil {
			t.Error("two streams of one topic are taken")
		}
		if err := e.Declare([]*schema.Stream{b.stream}, b.prog, nil); err != nil {
			t.Fatal(err)
		}
		if got := len(e.Status()); got != testPartitions {
			t.Errorf("%d shards after a stream was removed", got)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		sameResults(t, want, b.result())
		if err := e.Declare([]*schema.Stream{b.stream, other}, b.prog, nil); err != nil { // too late: nothing starts
			t.Fatal(err)
		}
	})
}
