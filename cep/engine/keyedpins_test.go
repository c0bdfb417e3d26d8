package engine

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/test/seeds"
)

// TestKeyedPins takes from a keyed stream what is not pinned, and its checkpoints: windows
// that are made again from the rest say what they said.
func TestKeyedPins(t *testing.T) {
	seeds.Each(t, 4, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 8))
		var rounds [][]string
		all := shopInputs(r, 1500)
		for part := range slices.Chunk(all, 100) {
			rounds = append(rounds, part)
		}
		prog := &shopProgram{id: "p1", streams: []*schema.Stream{shopStream("s", 1)},
			windows: []shopWindow{{"shop", "s", "s", 3, 3, 60 * time.Second, false, 0}}}
		want := newKeyedBench(seed, prog.locally(), 0, map[string][][]string{"s": {all}})
		want.run(t)

		pins := &pinning{pins: map[string]int64{}}
		b := newKeyedBench(seed+1, prog, 1+r.Int32N(2), nil)
		b.opts.CheckpointEvery = time.Nanosecond
		b.opts.Pin = func(owner, topic string, partition int32, from int64) {
			if strings.HasPrefix(topic, TopicKeyed) && strings.HasPrefix(owner, "engine: "+TopicKeyed) { // the sources' are at its end
				pins.pin(owner, topic, partition, from)
			}
		}
		e := b.engine(t)
		stop := start(t, e)
		for i, part := range rounds[:len(rounds)-1] {
			b.log.produce("in", 0, part...)
			for e.Status()[0].Cursor < int64(100*(i+1)) && t.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		b.log.start = map[string]int64{}
		for part, from := range pins.pins {
			if from == 0 {
				t.Errorf("all of %s is pinned", part)
			}
			b.log.start[part] = from
		}
		if len(b.log.start) == 0 {
			t.Error("nothing is pinned")
		}
		b.forgetKeyed(t)
		b.log.produce("in", 0, rounds[len(rounds)-1]...)
		b.run(t)
		sameResults(t, want.result(), b.result())
	})
}

// TestKeyedUnpin: a stream whose program reads a keyed stream no more pins nothing of it
// once its checkpoints are of the new program, whether that was declared to a process that
// ran the one before or to the next one.
func TestKeyedUnpin(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		r := rand.New(rand.NewPCG(9, 9))
		prog := &shopProgram{id: "p1", streams: []*schema.Stream{shopStream("s", 1)},
			windows: []shopWindow{{"shop", "s", "s", 3, 3, 60 * time.Second, false, 0}}}
		without := *prog
		without.id, without.windows = "p2", nil
		pins := &pinning{pins: map[string]int64{}}
		b := newKeyedBench(1, prog, 1, map[string][][]string{"s": {shopInputs(r, 200)}})
		b.opts.Programs = catalogue{prog, &without}.byID
		b.opts.CheckpointEvery, b.opts.Pin = time.Nanosecond, func(owner, topic string, partition int32, from int64) {
			pins.pin(owner, owner+" "+topic, partition, from)
		}
		keyed := func() (n int) {
			pins.mu.Lock()
			defer pins.mu.Unlock()
			for part := range pins.pins {
				if strings.Contains(part, " "+TopicKeyed) {
					n++
				}
			}
			return n
		}
		b.run(t)
		if keyed() != 2 {
			t.Errorf("%d pins of the keyed stream, want the source's and its shard's: %v", keyed(), pins.pins)
		}
		if restarts {
			b.prog = &without
		}
		clear(pins.pins) // they are of a process
		e := b.engine(t)
		stop := start(t, e)
		if err := e.Declare(b.streams, &without, nil); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the program is in force", func() bool { return e.Status()[0].Program == without.id })
		waitUntil(t, "no pin of the keyed stream is left", func() bool {
			b.log.produce("in", 0, shopInputs(r, 10)...)
			b.log.waitEnds("in", 1)
			return keyed() == 0
		})
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
}
