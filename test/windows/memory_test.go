package windows

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/rules"
	"github.com/weirstream/weir/test/seeds"
)

// payments have an 8-byte key.
var payments = &schema.Stream{Topic: "payments", Partitions: 1,
	Schema: &event.Schema{Stream: "payments", Alias: "pay", Time: 0, Key: 1, ID: -1, Fields: []event.Field{
		{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
		{Name: "account", Type: event.Type{Kind: event.Int64}},
		{Name: "amount", Type: event.Type{Kind: event.Decimal, Scale: 2}},
	}}}

// memoryWindows are the count, sum and mean of eight lengths.
func memoryWindows() rules.Set {
	var set rules.Set
	for _, span := range []string{"1h", "6h", "1d", "7d", "14d", "30d", "60d", "90d"} {
		last := fmt.Sprintf(`last("%s").by(pay.account)`, span)
		set = append(set, rules.Rule{ID: "over-" + span, Stream: "payments", Action: "alert", Mode: "live",
			When: fmt.Sprintf(`%s.count() > 100 || %[1]s.sum(pay.amount) > 10000 || %[1]s.mean(pay.amount) > 1000`, last)})
	}
	return set
}

// resetPeak makes peakNow begin anew.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// What docs/reference/windows.md tells: bytes of a key with an event, and what a
// process with ten million of them may need.
const (
	perKeyMost = 300
	peakMost   = 4_000_000_000
)

// TestMemoryPerKey: with WEIR_LONG=1 ten million keys, which have to fit in 4 GB, all
// of the process counted; else two hundred thousand.
func TestMemoryPerKey(t *testing.T) {
	keys, more := 200_000, 50_000
	if seeds.Long(t) {
		keys, more = 10_000_000, 2_000_000
	}
	program, err := rules.Compile(memoryWindows(), rules.Catalog{Streams: []*schema.Stream{payments}})
	if err != nil {
		t.Fatal(err)
	}
	in, err := program.Instance(payments)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	before := peakNow(t)
	resetPeak()
	start := time.Now()
	m := &mill{t: t, in: in, clock: cep.NewClock(0, nil, 0)}
	for i := range keys {
		m.event(uint64(i))
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range more {
		m.event(uint64(r.IntN(keys)))
	}
	m.flush()
	took := time.Since(start)
	var held cep.Stats
	for _, op := range in.Operators() {
		s := op.Operator.(interface{ Stats() cep.Stats }).Stats()
		held.Keys, held.Events, held.Bytes = held.Keys+s.Keys, held.Events+s.Events, held.Bytes+s.Bytes
	}
	if held.Keys != int64(keys) || held.Events != int64(keys+more) {
		t.Fatalf("%d keys with %d events are held, expected %d with %d", held.Keys, held.Events, keys, keys+more)
	}
	t.Logf("%d keys, 8 lengths with count, sum and mean: operator %.2f GB, %.1f bytes a key, %.1f a key and window; the process %.2f GB before, %.2f GB at most; %v an event",
		keys, float64(held.Bytes)/1e9, float64(held.Bytes)/float64(keys), float64(held.Bytes)/float64(keys)/8,
		float64(before)/1e9, float64(peakNow(t))/1e9, (took / time.Duration(keys+more)).Round(time.Nanosecond))
	if held.Bytes > perKeyMost*int64(keys) {
		t.Errorf("%d bytes a key, expected at most %d", held.Bytes/int64(keys), perKeyMost)
	}
	if peak := peakNow(t); peak > peakMost {
		t.Errorf("the process had %d bytes, expected at most %d", peak, int64(peakMost))
	}
	runtime.KeepAlive(in)
}

// mill makes events of a second each, in batches as a shard does.
type mill struct {
	t        *testing.T
	in       engine.Instance
	batch    event.Batch
	out      cep.Outbox
	findings []engine.Finding
	clock    *cep.Clock
	rows     int64
}

func (m *mill) event(key uint64) {
	b := &m.batch
	if b.Len() == 0 {
		b.Reset(payments.Schema, m.in.Needs())
	}
	b.Offset = append(b.Offset, m.rows)
	b.Time = append(b.Time, event.Time(m.rows*100_000)) // a tenth of a millisecond between two
	b.Cols[1].AppendInt64(int64(key * 0x9e3779b97f4a7c15))
	b.Cols[2].AppendInt64(m.rows % 10_000)
	m.rows++
	if b.Len() == batchRows {
		m.flush()
	}
}

func (m *mill) flush() {
	if m.batch.Len() == 0 {
		return
	}
	m.out.Reset(m.in.Features())
	m.clock.Arrive(&m.batch, &m.out)
	m.in.(engine.Preparer).Prepare(&m.batch, &m.out)
	for _, op := range m.in.Operators() {
		if err := op.Process(&m.batch, &m.out); err != nil {
			m.t.Fatal(err)
		}
	}
	var err error
	if m.findings, err = m.in.Decide(&m.batch, &m.out, m.findings[:0]); err != nil {
		m.t.Fatal(err)
	}
	if len(m.findings) > 0 {
		m.t.Fatalf("%d rules fired", len(m.findings))
	}
	m.batch.Reset(payments.Schema, m.in.Needs())
}

// peakNow is the most memory that the process had since resetPeak, in bytes.
func peakNow(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skipf("not run: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
