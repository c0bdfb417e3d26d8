package endtoend

import (
	"context"
	varints "encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/test/seeds"
)

// keyedConfig has two streams, every event of which is decided, and a window of each
// kind: by the stream's key, by another field, over the other stream.
const keyedConfig = `rules: rules
engine: {checkpoint_every: 300ms}
streams:
  payments:
    topic: payments
    partitions: 3
    format: json
    as: tx
    time: ts
    key: card
    lateness: 1h
    decisions: all
    fields:
      ts: {type: timestamp, layout: unix_ms}
      card: string
      shop: string
      amount: int64
  clicks:
    topic: clicks
    partitions: 2
    format: json
    as: click
    time: ts
    key: user
    lateness: 1h
    decisions: all
    fields:
      ts: {type: timestamp, layout: unix_ms}
      user: string
      ip: string
`

// chaosWindow is a window of the test's rules, and how to recompute it: the stream whose
// events ask, the one whose are in it, the fields that hold the key there.
type chaosWindow struct {
	when, name     string
	reader, over   string
	now, past, sum string
	ms             int64
}

var chaosWindows = []chaosWindow{
	{"%s >= 1", `last("3s").by(tx.card).count()`, "payments", "payments", "card", "card", "", 3000},
	{"%s >= 1", `last("5s").by(tx.shop).count()`, "payments", "payments", "shop", "shop", "", 5000},
	{"%s >= 0", `last("2s").by(tx.shop).sum(tx.amount)`, "payments", "payments", "shop", "shop", "amount", 2000},
	{"%s >= 0", `clicks.last("4s").by(click.user, tx.card).count()`, "payments", "clicks", "card", "user", "", 4000},
	{"%s >= 1", `last("2s").by(click.ip).count()`, "clicks", "clicks", "ip", "ip", "", 2000},
	{"%s >= 0", `payments.last("5s").by(tx.card, click.user).sum(tx.amount)`, "clicks", "payments", "user", "card", "amount", 5000},
}

// TestKillNineKeyed kills the appliance at random moments while events of two streams
// come in, with windows on keyed streams. Every event must have one decision, with the
// values that the order in the keyed streams' topics gives.
func TestKillNineKeyed(t *testing.T) {
	rounds, perLife := 10, 5
	if seeds.Long(t) {
		rounds = 200
	}
	random := seeds.Rand(t)
	for done := 0; done < rounds; done += perLife {
		killKeyed(t, random, perLife, done/perLife%2 == 1)
	}
}

// killKeyed kills one deployment some times and looks at what it has decided.
func killKeyed(t *testing.T, random *rand.Rand, kills int, onDisk bool) {
	t.Helper()
	dir, data := t.TempDir(), t.TempDir()
	text := keyedConfig
	if onDisk {
		text = strings.ReplaceAll(text, "    decisions: all\n", "    decisions: all\n    windows_on_disk: 1s\n")
	}
	var set strings.Builder
	for i, w := range chaosWindows {
		fmt.Fprintf(&set, "id: r%d\nstream: %s\nwhen: '%s'\naction: allow\nmode: live\n---\n", i, w.reader, fmt.Sprintf(w.when, w.name))
	}
	if err := os.MkdirAll(filepath.Join(dir, "rules"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "weir.yaml")
	for path, text := range map[string]string{config: text, filepath.Join(dir, "rules", "all.yaml"): strings.TrimSuffix(set.String(), "---\n")} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	acked := killWhileLoading(t, random, config, data, kills, func(*appliance) {
		// The moment of the kill is the point of the test, not a wait.
		time.Sleep(time.Duration(random.Int64N(int64(700 * time.Millisecond))))
	})
	checkKeyed(t, filepath.Join(data, "log"), acked)
}

// killWhileLoading kills an appliance some times while events come in, each time when
// live has returned, and starts it again. It returns how many events of each stream were
// acknowledged, once they are decided and the appliance has stopped.
func killWhileLoading(t *testing.T, random *rand.Rand, config, data string, kills int, live func(*appliance)) map[string]int64 {
	t.Helper()
	a := start(t, config, data, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	loaded := make(chan loadResult, 1)
	var batches atomic.Int64
	r := rand.New(rand.NewPCG(random.Uint64(), 2))
	go func(broker string) { loaded <- loadKeyed(ctx, broker, r, &batches) }(a.kafka)
	for range kills {
		for n := batches.Load(); batches.Load() == n && len(loaded) == 0; {
			time.Sleep(time.Millisecond) // until events come in again
		}
		live(a)
		a.kill()
		a = start(t, config, data, a)
	}
	cancel()
	load := <-loaded
	if load.err != nil {
		t.Fatalf("load: %v\n%s", load.err, a.out)
	}
	waitKeyed(t, a, load.acked)
	a.stop()
	return load.acked
}

type loadResult struct {
	acked map[string]int64
	err   error
}

// loadKeyed produces events until ctx is done, through whatever happens to the broker.
// What is in the log then counts: some may be there twice.
func loadKeyed(ctx context.Context, broker string, r *rand.Rand, batches *atomic.Int64) loadResult {
	res := loadResult{acked: map[string]int64{}}
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.UnknownTopicRetries(-1), kgo.MetadataMinAge(20*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }))
	if err != nil {
		res.err = err
		return res
	}
	defer cl.Close()
	const firstTime = 1_700_000_000_000
	for i := int64(0); ctx.Err() == nil; {
		var recs []*kgo.Record
		for range 1 + r.IntN(500) {
			at := firstTime + 2*i - r.Int64N(300)
			card := fmt.Sprintf("c%d", r.IntN(200))
			rec := &kgo.Record{Topic: "payments", Key: []byte(card), Value: fmt.Appendf(nil, `{"ts":%d,"card":%q,"shop":"s%d","amount":%d}`, at, card, r.IntN(40), r.IntN(1000))}
			if r.IntN(3) == 0 {
				rec.Topic, rec.Value = "clicks", fmt.Appendf(nil, `{"ts":%d,"user":%q,"ip":"i%d"}`, at, card, r.IntN(40))
			}
			if r.IntN(500) == 0 {
				rec.Value = []byte(`{"ts":`)
			}
			recs = append(recs, rec)
			i++
		}
		// Not under ctx: a record whose fate is unknown would be one too many, or missing.
		if err := cl.ProduceSync(context.Background(), recs...).FirstErr(); err != nil {
			res.err = err
			return res
		}
		for _, rec := range recs {
			res.acked[rec.Topic]++
		}
		batches.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond): // the rate
		}
	}
	return res
}

// waitKeyed waits until everything is decided, or a dead letter.
func waitKeyed(t *testing.T, a *appliance, acked map[string]int64) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		var o overview
		a.get("/v1/overview", &o)
		open := int64(0)
		for _, s := range o.Streams {
			open += s.Lag + max(0, acked[s.Name]-s.Decisions-s.DeadLetters)
		}
		if open == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d events are not decided: %+v\n%s", open, o.Streams, a.out)
		}
		time.Sleep(20 * time.Millisecond) // between two looks at a condition
	}
}

// place is where an event is.
type place struct {
	topic     string
	partition int32
	offset    int64
}

// chaosEvent is an event of the log, nil fields for one that is none.
type chaosEvent struct {
	stream string
	at     int64
	fields map[string]any
}

func (e *chaosEvent) number(field string) int64 {
	n, _ := e.fields[field].(float64)
	return int64(n)
}

// eachRecord reads a topic of a log that nobody else has open.
func eachRecord(t *testing.T, l *commitlog.Log, topic string, each func(partition int32, r *source.Record)) {
	t.Helper()
	for q := int32(0); ; q++ {
		p, err := l.Partition(topic, q)
		if err != nil {
			if q == 0 {
				t.Fatal(err)
			}
			return
		}
		end := p.End()
		src := source.NewPartition(p, source.Options{})
		for next := int64(0); next < end; {
			c, err := src.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i := range c.Records {
				each(q, &c.Records[i])
			}
			next = c.Next
		}
		src.Close()
	}
}

// checkKeyed compares the decisions in a log with what its other topics say they are.
func checkKeyed(t *testing.T, dir string, acked map[string]int64) {
	t.Helper()
	l, err := commitlog.Open(t.Context(), dir, commitlog.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	events, bad := map[place]*chaosEvent{}, map[place]bool{}
	locals := map[string][]place{} // of each partition of each stream, in order
	for _, stream := range []string{"payments", "clicks"} {
		n := int64(0)
		eachRecord(t, l, stream, func(p int32, r *source.Record) {
			n++
			at := place{stream, p, r.Offset}
			e := &chaosEvent{stream: stream}
			if json.Unmarshal(r.Value, &e.fields) != nil {
				bad[at] = true
				return
			}
			e.at = e.number("ts")
			events[at] = e
			of := fmt.Sprintf("%s/%d", stream, p)
			locals[of] = append(locals[of], at)
		})
		if n < acked[stream] {
			t.Errorf("%s has %d records, %d were acknowledged", stream, n, acked[stream])
		}
	}
	want := map[place]map[string]int64{}
	for _, w := range chaosWindows {
		if w.local() {
			for _, order := range locals {
				recompute(w, order, events, want)
			}
		}
	}
	keyed := 0
	for _, info := range l.Topics() {
		topic := info.Name()
		if !strings.HasPrefix(topic, engine.TopicKeyed) {
			continue
		}
		keyed++
		orders := keyedOrders(t, l, topic, events)
		for _, w := range chaosWindows {
			for _, order := range orders {
				if !w.local() && w.on(topic) {
					recompute(w, order, events, want)
				}
			}
		}
	}
	if keyed != 3 {
		t.Errorf("%d keyed streams, expected by shop, by ip, and of cards and users", keyed)
	}
	compareDecisions(t, l, events, bad, want)
}

// local reports whether the window is by the key of its rules' own stream.
func (w *chaosWindow) local() bool {
	return w.over == w.reader && w.now == map[string]string{"payments": "card", "clicks": "user"}[w.reader]
}

// on reports whether the window is on the keyed stream of a topic.
func (w *chaosWindow) on(topic string) bool {
	field, _, _ := strings.Cut(strings.TrimPrefix(topic, engine.TopicKeyed), "-")
	return field == w.past || field == w.now
}

// keyedOrders are the events in each partition of a keyed stream, in its order. Each
// event of its sources is in one of them, once.
func keyedOrders(t *testing.T, l *commitlog.Log, topic string, events map[place]*chaosEvent) [][]place {
	t.Helper()
	var orders [][]place
	seen := map[place]bool{}
	of := map[string]bool{}
	field, _, _ := strings.Cut(strings.TrimPrefix(topic, engine.TopicKeyed), "-")
	eachRecord(t, l, topic, func(q int32, r *source.Record) {
		for int(q) >= len(orders) {
			orders = append(orders, nil)
		}
		sources, rows := blockRows(t, field, r.Value)
		for _, stream := range sources {
			of[stream] = true
		}
		for _, at := range rows {
			if seen[at] || events[at] == nil {
				t.Fatalf("%s[%d]@%d: %v is there twice (%v) or no event", topic, q, r.Offset, at, seen[at])
			}
			seen[at] = true
			orders[q] = append(orders[q], at)
		}
	})
	for at := range events {
		if of[at.topic] && !seen[at] {
			t.Errorf("%s lacks %v", topic, at)
			break
		}
	}
	return orders
}

// taken are the types of the fields that keyed streams take along, by the field in their
// name and stream.
var taken = map[string]map[string][]event.Kind{
	"shop": {"payments": {event.String, event.Int64}},
	"ip":   {"clicks": {event.String}},
	"card": {"payments": {event.String, event.Int64}, "clicks": {event.String}},
}

func skipValues(t *testing.T, b []byte, kinds []event.Kind, n int) []byte {
	t.Helper()
	for _, k := range kinds {
		var c event.Column
		c.Reset(event.Type{Kind: k})
		var err error
		if b, err = c.ReadWire(b, n); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// blockRows reads what of a block tells which events it holds, and of which streams; see
// cep/engine/block.go.
func blockRows(t *testing.T, field string, b []byte) (streams []string, rows []place) {
	t.Helper()
	if b[0] != 1 {
		t.Fatalf("a block of version %d", b[0])
	}
	b = b[1:]
	uvarint := func() uint64 {
		v, n := varints.Uvarint(b)
		b = b[n:]
		return v
	}
	varint := func() int64 {
		v, n := varints.Varint(b)
		b = b[n:]
		return v
	}
	heads := make([]place, uvarint()) // the offset that the first is relative to
	counts := make([]uint64, len(heads))
	total := uint64(0)
	for i := range heads {
		n := uvarint()
		heads[i].topic, b = string(b[:n]), b[n:]
		heads[i].partition = int32(uvarint())
		b = b[8:]
		heads[i].offset = varint()
		varint() // to
		varint() // watermark
		varint() // tables
		counts[i] = uvarint()
		total += counts[i]
		streams = append(streams, heads[i].topic)
	}
	order := make([]byte, total)
	if len(heads) > 1 {
		order, b = b[:total], b[total:]
	}
	parts := make([][]place, len(heads))
	for i, at := range heads {
		for range counts[i] {
			at.offset += int64(uvarint())
			parts[i] = append(parts[i], at)
		}
		for range counts[i] {
			varint() // time
		}
		if counts[i] > 0 {
			if b[0] != 0 {
				t.Fatal("a row is late")
			}
			b = skipValues(t, b[1:], taken[field][at.topic], int(counts[i]))
		}
	}
	if len(b) > 0 {
		t.Fatalf("%d bytes behind a block", len(b))
	}
	if len(heads) == 1 {
		return streams, parts[0]
	}
	for _, part := range order {
		rows = append(rows, parts[part][0])
		parts[part] = parts[part][1:]
	}
	return streams, rows
}

// recompute tells what a window holds for each event, from the ones before it in order.
func recompute(w chaosWindow, order []place, events map[place]*chaosEvent, want map[place]map[string]int64) {
	past := map[any][]*chaosEvent{}
	for _, at := range order {
		e := events[at]
		if e.stream == w.over {
			past[e.fields[w.past]] = append(past[e.fields[w.past]], e)
		}
		if e.stream != w.reader {
			continue
		}
		n, sum := int64(0), int64(0)
		for _, p := range past[e.fields[w.now]] {
			if p.at > e.at-w.ms && p.at <= e.at {
				n, sum = n+1, sum+p.number(w.sum)
			}
		}
		if w.sum != "" {
			n = sum
		}
		if want[at] == nil {
			want[at] = map[string]int64{}
		}
		want[at][w.name] = n
	}
}

// compareDecisions wants one decision for each event, with the values that are known,
// and one dead letter for each record that is none.
func compareDecisions(t *testing.T, l *commitlog.Log, events map[place]*chaosEvent, bad map[place]bool, want map[place]map[string]int64) {
	t.Helper()
	decided, wrong := map[place]bool{}, 0
	eachRecord(t, l, event.TopicDecisions, func(q int32, r *source.Record) {
		var d event.Decision
		if err := d.UnmarshalJSON(r.Value); err != nil {
			t.Fatal(err)
		}
		at := place{d.Topic, d.Partition, d.Offset}
		got := map[string]int64{}
		for _, v := range d.Values {
			n, err := strconv.ParseInt(v.JSON, 10, 64)
			if err != nil {
				t.Fatalf("%v: %s is %s", at, v.Name, v.JSON)
			}
			got[v.Name] = n
		}
		if decided[at] || events[at] == nil || fmt.Sprint(got) != fmt.Sprint(want[at]) {
			if wrong++; wrong < 10 {
				t.Errorf("%v: decided before: %v; values %v, want %v", at, decided[at], got, want[at])
			}
		}
		decided[at] = true
	})
	letters := map[place]bool{}
	eachRecord(t, l, event.TopicDeadLetters, func(_ int32, r *source.Record) {
		var d event.DeadLetter
		if err := json.Unmarshal(r.Value, &d); err != nil {
			t.Fatal(err)
		}
		at := place{d.Topic, d.Partition, d.Offset}
		if letters[at] || !bad[at] {
			t.Errorf("%v: a dead letter, there before: %v, bad: %v", at, letters[at], bad[at])
		}
		letters[at] = true
	})
	if len(decided) != len(events) || len(letters) != len(bad) || wrong > 0 {
		t.Errorf("%d of %d events decided, %d wrong; %d dead letters of %d", len(decided), len(events), wrong, len(letters), len(bad))
	}
	t.Logf("%d events, %d dead letters", len(decided), len(letters))
}
