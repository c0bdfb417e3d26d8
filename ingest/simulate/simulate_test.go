package simulate

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/test/seeds"
)

// digest runs a simulation for a time and hashes all of it.
func digest(t *testing.T, o Options, d time.Duration) (sum string, counts map[string]int) {
	t.Helper()
	h := sha256.New()
	counts = map[string]int{}
	s := New(o)
	last := event.MinTime
	for {
		e := s.Next()
		if e.Time < last {
			t.Fatalf("%s: %v comes after %v", e.Stream, e.Time, last)
		}
		last = e.Time
		if e.Time > startOr(o.Start).Add(d) {
			return fmt.Sprintf("%x", h.Sum(nil)), counts
		}
		counts[e.Stream]++
		fmt.Fprintf(h, "%s %d %s %s\n", e.Stream, e.Time, e.Key, e.Value)
	}
}

func TestDeterministic(t *testing.T) {
	first, counts := digest(t, Options{Seed: 7}, 2*time.Minute)
	again, _ := digest(t, Options{Seed: 7}, 2*time.Minute)
	other, _ := digest(t, Options{Seed: 8}, 2*time.Minute)
	if first != again || first == other {
		t.Errorf("digests %s, %s for seed 7, %s for seed 8", first, again, other)
	}
	for stream, want := range map[string]float64{StreamTransactions: 50, StreamClicks: 40, StreamTicks: 200} {
		if rate := float64(counts[stream]) / 120; rate < want/2 || rate > want*2 {
			t.Errorf("%s: %.1f a second, want about %v", stream, rate, want)
		}
	}
	t.Logf("events of two minutes: %v", counts)
}

func streamOf(t *testing.T, name string) *schema.Stream {
	t.Helper()
	fields := map[string]string{
		StreamTransactions: "ts:timestamp id:string card:string customer:string terminal:string merchant:string amount:decimal(2) country:string fraud:bool scenario:int64",
		StreamClicks:       "ts:timestamp visitor:string customer:string path:string status:int64 user_agent:string new_device:bool ip:string",
		StreamTicks:        "recv_ns:timestamp venue:string symbol:string type:string price:decimal(2)? qty:decimal(4)? bid:decimal(2)? bid_qty:decimal(4)? ask:decimal(2)? ask_qty:decimal(4)?",
	}[name]
	s := &schema.Stream{Schema: &event.Schema{Stream: name, Key: -1, ID: -1}, Format: schema.JSON}
	for _, f := range strings.Fields(fields) {
		name, typ, _ := strings.Cut(f, ":")
		typ, optional := strings.CutSuffix(typ, "?")
		ty, err := event.ParseType(typ)
		if err != nil {
			t.Fatal(err)
		}
		layout := schema.Field{}
		if name == "recv_ns" {
			layout.Layout = "unix_ns"
		}
		s.Schema.Fields = append(s.Schema.Fields, event.Field{Name: name, Type: ty, Optional: optional})
		s.Fields = append(s.Fields, layout)
	}
	return s
}

// TestValuesDecode decodes what is simulated with the declared types.
func TestValuesDecode(t *testing.T) {
	type decoded struct {
		d *decode.Decoder
		b event.Batch
	}
	streams := map[string]*decoded{}
	for _, name := range []string{StreamTransactions, StreamClicks, StreamTicks} {
		s := streamOf(t, name)
		var all []int
		for i := range s.Schema.Fields {
			all = append(all, i)
		}
		d, err := decode.New(s, all, decode.Options{})
		if err != nil {
			t.Fatal(err)
		}
		streams[name] = &decoded{d: d}
		streams[name].b.Reset(s.Schema, all)
	}
	s := New(Options{Seed: 1})
	for range 20_000 {
		e := s.Next()
		d := streams[e.Stream]
		d.d.Decode(&d.b, event.Origin{}, []source.Record{{Key: e.Key, Value: e.Value}}, func(_ *source.Record, f decode.Failure) {
			t.Fatalf("%s: %s: %v", e.Stream, e.Value, f)
		})
		if at := d.b.Time[d.b.Len()-1]; at != e.Time {
			t.Fatalf("%s: %s has the time %v", e.Stream, e.Value, at)
		}
		key := map[string]int{StreamTransactions: 2, StreamClicks: 2, StreamTicks: 2}[e.Stream]
		if got := d.b.Cols[key].Bytes(d.b.Len() - 1); string(got) != string(e.Key) {
			t.Fatalf("%s: %s has the key %q", e.Stream, e.Value, e.Key)
		}
	}
	ticks := &streams[StreamTicks].b
	for i := range ticks.Len() {
		trade := string(ticks.Cols[3].Bytes(i)) == "trade"
		if ticks.Cols[4].IsNull(i) == trade || ticks.Cols[6].IsNull(i) != trade {
			t.Fatalf("tick %d: fields of the wrong type", i)
		}
		if i > 0 && ticks.Time[i] <= ticks.Time[i-1] {
			t.Fatalf("tick %d is not after the one before", i)
		}
	}
}

// TestHandbookProportions compares with the published data set: 1,754,155
// transactions of 183 days, of which 973, 9,077 and 4,631 are frauds of the three
// scenarios; the mean amount is 53.63. Days 40 to 99 (all 28 days of scenario 2
// are full) had 570,163 + 5,025 transactions, 328, 3,137 and 1,560 frauds.
func TestHandbookProportions(t *testing.T) {
	s := NewTransactions(TransactionOptions{Seed: 1})
	day := func(p payment) int { return int((p.at - defaultStart) / event.Time(24*time.Hour)) }
	var counts [4]int
	total, cents := 0, int64(0)
	for {
		p := s.take()
		if day(p) >= 100 {
			break
		}
		if (p.cents > largeAmount) && p.scenario == Legitimate || p.scenario == LargeAmount && p.cents <= largeAmount {
			t.Fatalf("an amount of %d cents is scenario %d", p.cents, p.scenario)
		}
		if day(p) < 40 {
			continue
		}
		counts[p.scenario]++
		total++
		cents += p.cents
	}
	near := func(what string, got, want, tolerance float64) {
		t.Helper()
		t.Logf("%s: %.4g, published %.4g", what, got, want)
		if math.Abs(got-want) > tolerance*want {
			t.Errorf("%s: %v, want %v within %v %%", what, got, want, 100*tolerance)
		}
	}
	near("transactions", float64(total), 575_188, 0.03)
	near("mean amount", float64(cents)/float64(total)/100, 53.63, 0.03)
	near("scenario 1", float64(counts[1]), 328, 0.2)
	near("scenario 2", float64(counts[2]), 3137, 0.2)
	near("scenario 3", float64(counts[3]), 1560, 0.2)
}

// TestScenarios checks each transaction against the handbook's definition, with
// the terminals and customers drawn anew.
func TestScenarios(t *testing.T) {
	const seed, days = 3, 60
	s := NewTransactions(TransactionOptions{Seed: seed, Customers: 500, Terminals: 1000})
	terminals, customers := make([][]int, days), make([][]int, days)
	for d := range days {
		r := random(seed, seedFraud, d)
		terminals[d] = []int{r.IntN(1000), r.IntN(1000)}
		customers[d] = []int{r.IntN(500), r.IntN(500), r.IntN(500)}
	}
	drawn := func(days [][]int, day, length, who int) bool {
		for _, d := range days[max(0, day-length+1) : day+1] {
			if slices.Contains(d, who) {
				return true
			}
		}
		return false
	}
	chosen, compromised := 0, 0
	for {
		p := s.take()
		day := int((p.at - defaultStart) / event.Time(24*time.Hour))
		if day >= days {
			break
		}
		terminal := drawn(terminals, day, terminalDays, int(p.terminal))
		victim := drawn(customers, day, customerDays, int(p.customer))
		if victim {
			compromised++
		}
		switch p.scenario {
		case CompromisedCustomer:
			chosen++
			if !victim || p.cents%customerMultiplier != 0 {
				t.Fatalf("day %d: %+v is scenario 3", day, p)
			}
		case CompromisedTerminal:
			if !terminal {
				t.Fatalf("day %d: %+v is scenario 2", day, p)
			}
		default:
			if terminal {
				t.Fatalf("day %d: %+v at a compromised terminal", day, p)
			}
		}
	}
	if share := float64(chosen) / float64(compromised); math.Abs(share-1.0/3) > 0.05 {
		t.Errorf("%.3f of the compromised customers' %d transactions are multiplied, want a third", share, compromised)
	}
}

func TestProfiles(t *testing.T) {
	s := NewTransactions(TransactionOptions{Seed: 1, Customers: 300, Terminals: 2000})
	for i, c := range s.customers {
		var want []int32
		for k, p := range s.terminals {
			if math.Hypot(p.x-c.x, p.y-c.y) < 5 {
				want = append(want, int32(k))
			}
		}
		if len(want) == 0 {
			want = []int32{int32(i)}
		}
		if !slices.Equal(c.terminals, want) {
			t.Fatalf("customer %d uses the terminals %v, want %v", i, c.terminals, want)
		}
		if c.mean < 5 || c.mean >= 100 || c.std != c.mean/2 || c.perDay < 0 || c.perDay >= 4 {
			t.Fatalf("customer %d: %+v", i, c)
		}
	}
	if got := NewTransactions(TransactionOptions{Rate: 100}).o.Day; math.Abs(got.Seconds()-96.9) > 0.2 {
		t.Errorf("5,000 customers make 100 transactions a second in days of %v", got)
	}
	sparse := NewTransactions(TransactionOptions{Customers: 3, Terminals: 1, Radius: 0.001, Rate: 1})
	for range 100 {
		sparse.Next()
	}
}

type demoEvent struct {
	Card, Customer, Path, Symbol, Type string
	Amount, Bid, Ask                   float64
	Status, Scenario                   int
	New                                bool `json:"new_device"`
	stream                             string
	at                                 event.Time
}

func demo(t *testing.T, seed uint64, d time.Duration) (out []demoEvent) {
	t.Helper()
	for s := New(Options{Seed: seed}); ; {
		e := s.Next()
		if e.Time > defaultStart.Add(d) {
			return out
		}
		one := demoEvent{stream: e.Stream, at: e.Time}
		if err := json.Unmarshal(e.Value, &one); err != nil {
			t.Fatalf("%s: %v", e.Value, err)
		}
		out = append(out, one)
	}
}

// TestDemoShowsEverythingSoon wants each thing that a sample rule finds within the
// first half minute, for any seed.
func TestDemoShowsEverythingSoon(t *testing.T) {
	for seed := range uint64(5) {
		events := demo(t, seed, 30*time.Second)
		small, stage, scenarios := map[string]int{}, map[string]int{}, map[int]int{}
		tested, takenOver, crossed, burst := 0, 0, 0, 0
		perSecond := map[event.Time]int{}
		for _, e := range events {
			switch e.stream {
			case StreamTransactions:
				scenarios[e.Scenario]++
				if e.Amount < 5 {
					small[e.Card]++
				}
				if e.Amount >= 200 && small[e.Card] >= 3 {
					tested++
				}
				if stage[e.Customer] == 2 && e.Scenario == AccountTakeover {
					takenOver++
				}
			case StreamClicks:
				switch {
				case e.Path == "/login" && e.New && e.Status == 302:
					stage[e.Customer] = 1
				case strings.HasPrefix(e.Path, "/account") && stage[e.Customer] > 0:
					stage[e.Customer] = 2
				}
			case StreamTicks:
				if e.Type == "quote" && e.Bid >= e.Ask {
					crossed++
				}
				if perSecond[e.at/1e9]++; perSecond[e.at/1e9] == 300 {
					burst++
				}
			}
		}
		t.Logf("seed %d: %d events, %d card tests, %d take-overs, %d crossed quotes, %d bursts, scenarios %v", seed, len(events), tested, takenOver, crossed, burst, scenarios)
		if tested == 0 || takenOver == 0 || crossed == 0 || burst == 0 || scenarios[LargeAmount]+scenarios[CompromisedTerminal]+scenarios[CompromisedCustomer] == 0 {
			t.Errorf("seed %d: something is missing", seed)
		}
	}
}

func TestTimeline(t *testing.T) {
	r := seeds.Rand(t)
	var h timeline[int]
	type pair struct {
		at event.Time
		n  int
	}
	var oracle []pair
	for n := range 5000 {
		if len(oracle) > 0 && r.IntN(2) == 0 {
			slices.SortStableFunc(oracle, func(a, b pair) int { return int(a.at - b.at) })
			if h.peek() != oracle[0].at {
				t.Fatalf("peek is %d, want %d", h.peek(), oracle[0].at)
			}
			if at, got := h.pop(); at != oracle[0].at || got != oracle[0].n {
				t.Fatalf("got %d at %d, want %+v", got, at, oracle[0])
			}
			oracle = oracle[1:]
			continue
		}
		at := event.Time(r.IntN(50))
		h.push(at, n)
		oracle = append(oracle, pair{at, n})
	}
}

func BenchmarkNext(b *testing.B) {
	s := New(Options{Transactions: TransactionOptions{Rate: 10_000}, Clicks: ClickOptions{Rate: 10_000}, Ticks: TickOptions{Rate: 10_000}})
	b.ReportAllocs()
	for b.Loop() {
		s.Next()
	}
}
