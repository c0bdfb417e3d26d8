package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
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
		e := b.engine(t)
		stop := start(t, e)
		b.log.waitEnds(topic, 1)
		if err := stop(); err != nil {
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
	e := b.engine(t, func(o *Options) { o.Sink = damagedLog{b.log} })
	if err := e.shards()[0].restore(t.Context()); !errors.Is(err, errDamage) || strings.Contains(err.Error(), "remove") {
		t.Errorf("error %v", err)
	}
}

var errDamage = errors.New("damage")

type damagedLog struct{ *memLog }

func (damagedLog) Durable(context.Context, string, int32, int64) error { return errDamage }

var _ sink.Sink = damagedLog{}

// TestEditAfterKill kills an engine and starts it with edited rules: events that
// the first program had decided keep its decisions, with the alerts that they name
// and no others; what it had not reached is the second program's.
func TestEditAfterKill(t *testing.T) {
	b := newBench(20, nil)
	b.stream = testStream(1)
	b.prog = ruleAbove{"before", 5000}
	for i := range 6 {
		b.log.produce("in", 0, fmt.Sprintf(`{"ts": %d, "key": "k", "amount": %d}`, 1000+i, 20*(i+1)))
	}
	b.run(t)
	names, err := b.fs.List("checkpoints/s-0")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names { // as a kill before the first one
		if err := b.fs.Remove("checkpoints/s-0/" + n); err != nil {
			t.Fatal(err)
		}
	}
	alerts := b.log.part(event.TopicAlerts, 0)
	alerts.recs = alerts.recs[:len(alerts.recs)-1] // and between decision and alert
	alerts.durable = len(alerts.recs)
	b.log.produce("in", 0, `{"ts": 1007, "key": "k", "amount": 90}`)
	b.prog = both{ruleAbove{"before", 5000}, ruleAbove{"after", 3000}}
	b.run(t)
	var got []string
	for _, topic := range []string{event.TopicDecisions, event.TopicAlerts} {
		for _, s := range b.log.outputOf(topic, outputPartitions, "in/0") {
			got = append(got, strings.Fields(s)[1])
		}
	}
	want := []string{"in/0/2/live", "in/0/3/live", "in/0/4/live", "in/0/5/live", "in/0/6/live",
		"in/0/2/before", "in/0/3/before", "in/0/4/before", "in/0/5/before", "in/0/6/before", "in/0/6/after"}
	if !slices.Equal(got, want) {
		t.Errorf(" got %q\nwant %q", got, want)
	}
}

// ruleAbove fires on amounts from a least one on, in hundredths.
type ruleAbove struct {
	rule  string
	least int64
}

func (p ruleAbove) ID() string                                { return p.rule }
func (p ruleAbove) Instance(*schema.Stream) (Instance, error) { return both{p}, nil }

// both are several such rules.
type both []ruleAbove

func (p both) ID() string                                { return fmt.Sprint(p) }
func (p both) Instance(*schema.Stream) (Instance, error) { return p, nil }
func (p both) Needs() []int                              { return []int{2} }
func (p both) Features() []event.Type                    { return nil }
func (p both) Operators() []Operator                     { return nil }

func (p both) Decide(b *event.Batch, _ *cep.Outbox, dst []Finding) ([]Finding, error) {
	for row := range b.Len() {
		for _, r := range p {
			if b.Cols[2].Int64[row] >= r.least {
				dst = append(dst, Finding{Row: row, Rule: r.rule, Action: "decline", Severity: "low"})
			}
		}
	}
	return dst, nil
}
