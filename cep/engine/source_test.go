package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/sink"
)

// TestTopicMadeAnew deletes the topic and makes it again, with less in it and with
// more than was decided: its events are decided, and once, although others had
// their offsets.
func TestTopicMadeAnew(t *testing.T) {
	for _, after := range []int{2, 9} {
		b := newBench(13, nil)
		b.stream = testStream(1)
		id := "first"
		b.opts.TopicID = func(string) (string, error) { return id, nil }
		fill := func(n int) {
			for i := range n {
				b.log.produce("in", 0, fmt.Sprintf(`{"ts": %d, "key": "k", "amount": 96}`, 1000+100*i))
			}
		}
		fill(5)
		b.run(t)
		id = "second"
		delete(b.log.parts, "in/0")
		fill(after)
		b.run(t)
		b.log.ends = map[string]bool{}
		b.run(t) // a restart adds nothing
		got := b.log.outputOf(event.TopicDecisions, outputPartitions, "in/0")
		if len(got) != 5+after || !strings.Contains(got[5], "in/0/0/live") {
			t.Errorf("%d decisions, want %d: %q", len(got), 5+after, got)
		}
	}
}

// TestStreamReadsAnotherTopic changes the topic of a stream: all of the other
// topic is decided; back at the first one, nothing is decided twice.
func TestStreamReadsAnotherTopic(t *testing.T) {
	b := newBench(14, nil)
	b.stream = testStream(1)
	run := func(topic string) {
		b.log.ends = map[string]bool{}
		b.stream.Topic = topic
		o := b.opts
		o.FS, o.Dir, o.Open, o.Sink = b.fs, "checkpoints", b.log.open, b.log
		e, err := New(streams(b), b.prog, o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		b.log.waitEnds(topic, 1)
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		b.log.produce("in", 0, fmt.Sprintf(`{"ts": %d, "key": "k", "amount": 96}`, 1000+i))
		b.log.produce("other", 0, fmt.Sprintf(`{"ts": %d, "key": "k", "amount": 97}`, 500+i))
	}
	b.log.produce("other", 0, `{"ts": 503, "key": "k", "amount": 97}`)
	for _, topic := range []string{"in", "other", "in", "other"} {
		run(topic)
	}
	for topic, want := range map[string]int{"in": 3, "other": 4} {
		got := slices.DeleteFunc(b.log.outputOf(event.TopicDecisions, outputPartitions, topic+"/0"), func(s string) bool { return !strings.Contains(s, "/live") })
		if len(got) != want {
			t.Errorf("%s: %d decisions, want %d: %q", topic, len(got), want, got)
		}
	}
	if got := b.log.outputOf(event.TopicDecisions, outputPartitions, "other/0"); strings.Contains(strings.Join(got, ""), `"late":true`) {
		t.Errorf("the watermark of one topic was used for the other: %q", got)
	}
}

// TestDeclarationChange changes how late an event may be: what comes after equals
// a run with that declaration alone.
func TestDeclarationChange(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 15))
	first, second := inputs(r, 800), inputs(r, 800)
	b := newBench(15, nil)
	b.stream = testStream(1)
	b.log.produce("in", 0, first...)
	b.run(t)
	b.stream.Lateness = 0
	b.log.produce("in", 0, second...)
	b.run(t)

	alone := newBench(16, nil)
	alone.stream = testStream(1)
	alone.stream.Lateness = 0
	alone.log.produce("in", 0, append(slices.Clone(first), second...)...)
	alone.run(t)
	got, want := b.result(), alone.result()
	for name := range want {
		want[name], got[name] = since(want[name], len(first)), since(got[name], len(first))
	}
	sameResults(t, want, got)
}

// TestDamageIsNamed wants the damage, and no advice to begin anew, where the log
// ends early because of it.
func TestDamageIsNamed(t *testing.T) {
	b := newBench(17, nil)
	b.stream = testStream(1)
	for i := range 3 {
		b.log.produce("in", 0, fmt.Sprintf(`{"ts": %d, "key": "k", "amount": 96}`, 1000+i))
	}
	b.run(t)
	b.log.parts["in/0"].recs = b.log.parts["in/0"].recs[:1]
	o := b.opts
	o.FS, o.Dir, o.Open, o.Sink = b.fs, "checkpoints", b.log.open, damagedLog{b.log}
	e, err := New(streams(b), b.prog, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.shards[0].restore(t.Context()); !errors.Is(err, errDamage) || strings.Contains(err.Error(), "remove") {
		t.Errorf("error %v", err)
	}
}

var errDamage = errors.New("damage")

type damagedLog struct{ *memLog }

func (damagedLog) Durable(context.Context, string, int32, int64) error { return errDamage }

var _ sink.Sink = damagedLog{}
