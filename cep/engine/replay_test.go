package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
)

// replayRange is a random range of each source partition.
type replayRange map[string][2]int64

func (r replayRange) of(topic string, partition int32) (from, to int64) {
	one := r[partName(topic, partition)]
	return one[0], one[1]
}

func randomRange(r *rand.Rand, b *bench, streams []*schema.Stream) replayRange {
	out := replayRange{}
	for _, s := range streams {
		for p := range s.Partitions {
			n := int64(len(b.log.part(s.Topic, p).recs))
			to := r.Int64N(n + 1)
			if r.IntN(2) == 0 {
				to = n
			}
			from := r.Int64N(to + 1)
			if r.IntN(2) == 0 {
				from = 0
			}
			out[partName(s.Topic, p)] = [2]int64{from, to}
		}
	}
	return out
}

// inRange are the outputs of a result that are of events in a range.
func (r replayRange) inRange(results map[string][]string) map[string][]string {
	out := map[string][]string{}
	for name, all := range results {
		_, origin, _ := strings.Cut(name, " of ")
		for _, line := range all {
			at, _, _ := strings.Cut(strings.TrimPrefix(strings.Fields(line)[1], origin+"/"), "/")
			if n, err := strconv.ParseInt(at, 10, 64); err == nil && n >= r[origin][0] && n < r[origin][1] {
				out[name] = append(out[name], line)
			}
		}
	}
	return out
}

// replayed are a replay's outputs in the form of bench.result.
func replayed(r *Replayed, streams []*schema.Stream) map[string][]string {
	out := map[string][]string{}
	for _, s := range streams {
		for p := range s.Partitions {
			for _, topic := range []string{event.TopicDecisions, event.TopicAlerts, event.TopicDeadLetters} {
				name := fmt.Sprintf("%s of %s/%d", topic, s.Topic, p)
				for _, rec := range r.Records(topic, event.Origin{Topic: s.Topic, Partition: p}) {
					out[name] = append(out[name], fmt.Sprintf("%d %s %q %s", rec.Timestamp, originOf(&rec), rec.Key, rec.Value))
				}
			}
		}
	}
	return out
}

func (b *bench) replay(t *testing.T, r *rand.Rand, streams []*schema.Stream, ranges replayRange, o ReplayOptions) map[string][]string {
	t.Helper()
	o.Options = b.opts
	o.Open, o.Sink, o.Range = b.log.open, b.log, ranges.of
	o.BatchRows = 1 + r.IntN(300)*r.IntN(2)
	o.CheckpointEvery = time.Duration(r.IntN(2)) // at every batch, or never
	before := len(b.log.parts)
	got, err := Replay(t.Context(), streams, b.prog, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.log.parts) != before {
		t.Error("the replay wrote to the log")
	}
	return replayed(got, streams)
}

// same reports differences of a replay to what was decided; equal keys that have
// nothing are equal.
func sameReplay(t *testing.T, want, got map[string][]string) {
	t.Helper()
	all := maps.Clone(want)
	for name := range got {
		if _, there := all[name]; !there {
			all[name] = nil
		}
	}
	sameResults(t, all, got)
}

// TestReplayNewKeyed replays a program whose keyed streams are not there: they are made
// in memory, and of one source partition are what its own windows would be.
func TestReplayNewKeyed(t *testing.T) {
	r := rand.New(rand.NewPCG(54, 54))
	all := []*schema.Stream{shopStream("s", 1)}
	prog := &shopProgram{id: "p1", streams: all, windows: []shopWindow{{"shop", "s", "s", 3, 3, 30 * time.Second, false, 0}}}
	b := newKeyedBench(54, prog.locally(), 0, map[string][][]string{"s": {shopInputs(r, 900)}})
	b.run(t)
	b.prog = prog
	ranges := randomRange(r, b.bench, all)
	sameReplay(t, ranges.inRange(b.result()), b.replay(t, r, all, ranges, ReplayOptions{}))
}

// TestReplayGoesOn replays over a change between programs with equal windows, in their
// streams' shards and on a keyed stream: behind it, state is what it was before, and what
// made that is not read again.
func TestReplayGoesOn(t *testing.T) {
	r := rand.New(rand.NewPCG(56, 56))
	all := []*schema.Stream{shopStream("s", 1)}
	programs := changingKeyed(all)
	first, last := programs[0], programs[6]
	b := newKeyedBench(56, first, 1, map[string][][]string{"s": {shopInputs(r, 900)}})
	b.opts.Programs = catalogue{first, last}.byID
	b.run(t)
	for b.prog = last; b.journaled(kindProgram) < 2; b.run(t) {
		b.log.produce("in", 0, shopInputs(r, 300)...)
	}
	b.log.produce("in", 0, shopInputs(r, 500)...)
	b.run(t)
	changed := int64(0)
	for _, rec := range b.log.part(TopicJournal, 0).recs {
		var j journalRecord
		if err := json.Unmarshal(rec.Value, &j); err != nil {
			t.Fatal(err)
		}
		changed = max(changed, j.Cursor)
	}
	keyed := last.Keyed()[0]
	o := ReplayOptions{Options: b.opts, KeyedPartitions: func(string) (int32, bool) { return b.parts, true },
		Range: replayRange{"in/0": {0, int64(len(b.log.part("in", 0).recs))}}.of}
	var mu sync.Mutex
	opened := map[string][]int64{}
	o.Sink, o.Open = b.log, func(ctx context.Context, topic string, partition int32, from int64) (source.Source, error) {
		mu.Lock()
		defer mu.Unlock()
		opened[topic] = append(opened[topic], from)
		return b.log.open(ctx, topic, partition, from)
	}
	for _, o.CheckpointEvery = range []time.Duration{0, time.Nanosecond, time.Millisecond} {
		clear(opened)
		got, err := Replay(t.Context(), all, first, o)
		if err != nil {
			t.Fatal(err)
		}
		sameReplay(t, b.result(), replayed(got, all))
		if at := opened["in"]; !slices.Equal(at, []int64{0, changed}) {
			t.Errorf("the stream was read from %d, and the program changed at %d", at, changed)
		}
		if at := opened[keyed.topic()]; at[len(at)-1] == 0 { // behind the looks for what is there
			t.Errorf("the keyed stream was read from %d", at)
		}
	}
}

func TestReplayErrors(t *testing.T) {
	b := newBench(55, [][]string{{eventAt(1000)}, nil, nil})
	o := ReplayOptions{Options: b.opts, Range: replayRange{"in/0": {0, 2}}.of}
	o.Open, o.Sink = b.log.open, b.log
	if _, err := Replay(t.Context(), streams(b), b.prog, o); err == nil || !strings.Contains(err.Error(), "replay in[0]: a range from 0 to 2 where the log ends at 1") {
		t.Errorf("beyond the end: %v", err)
	}
	o.Range = replayRange{"in/0": {0, 1}}.of
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Replay(gone, streams(b), b.prog, o); !errors.Is(err, context.Canceled) {
		t.Errorf("without time: %v", err)
	}
	b.opts.Programs = catalogue{b.prog}.byID
	o.Programs = b.opts.Programs
	b.log.produce(TopicJournal, 0, `{"kind":"program","program":"lost","topic":"in","partition":0,"cursor":0}`)
	if _, err := Replay(t.Context(), streams(b), b.prog, o); err == nil || !strings.Contains(err.Error(), `replay what the program lost has decided: no program "lost"`) {
		t.Errorf("a program that is not there: %v", err)
	}
	b.log.produce(TopicJournal, 0, fmt.Sprintf(`{"kind":"program","program":%q,"topic":"in","partition":0,"cursor":0}`, b.prog.ID()))
	if _, err := Replay(t.Context(), streams(b), b.prog, o); err != nil {
		t.Errorf("one that is not there and has decided nothing: %v", err)
	}
	b.log.produce(TopicJournal, 0, `{"kind":"unheard of","topic":"in","partition":0,"cursor":0}`)
	b.stream.Idle = time.Minute
	if _, err := Replay(t.Context(), streams(b), b.prog, o); err == nil || !strings.Contains(err.Error(), "unheard of") {
		t.Errorf("a journal of a newer version: %v", err)
	}
}
