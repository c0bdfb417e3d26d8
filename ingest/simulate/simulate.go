package simulate

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// The names of the streams.
const (
	StreamTransactions = "transactions"
	StreamClicks       = "clicks"
	StreamTicks        = "ticks"
)

// Options of a Simulation. The zero value is the demo: about 50 transactions, 40
// clicks and 200 ticks a second of event time, each kind of fraud within the first
// half minute. In it a CardTestEvery or TakeoverEvery of 0 is 20 s or 30 s, a
// negative one none.
type Options struct {
	Seed  uint64
	Start event.Time // of the first events; 0: 2026-01-01T00:00:00Z

	Transactions TransactionOptions
	Clicks       ClickOptions
	Ticks        TickOptions
}

// Event is one event of one of the streams.
type Event struct {
	Stream string
	Time   event.Time
	Key    []byte
	Value  []byte // JSON
}

// Simulation is the three streams merged by time.
type Simulation struct {
	transactions *Transactions
	clicks       *Clicks
	ticks        *Ticks
}

// New makes a Simulation. Seed and Start of o stand for those of the streams.
func New(o Options) *Simulation {
	o.Transactions.Seed, o.Clicks.Seed, o.Ticks.Seed = o.Seed, o.Seed, o.Seed
	o.Transactions.Start, o.Clicks.Start, o.Ticks.Start = o.Start, o.Start, o.Start
	if o.Transactions.Rate == 0 && o.Transactions.Day == 0 {
		o.Transactions.Rate = 50
	}
	if o.Transactions.CardTestEvery == 0 {
		o.Transactions.CardTestEvery = 20 * time.Second
	}
	if o.Clicks.TakeoverEvery == 0 {
		o.Clicks.TakeoverEvery = 30 * time.Second
	}
	o.Transactions.Settled = true
	tx := NewTransactions(o.Transactions)
	o.Clicks.Customers = len(tx.customers)
	clicks := NewClicks(o.Clicks)
	clicks.pay = tx.payAfterTakeover
	return &Simulation{transactions: tx, clicks: clicks, ticks: NewTicks(o.Ticks)}
}

// Next is the next event of the streams; of events at the same time, clicks come
// first, then transactions.
func (s *Simulation) Next() Event {
	var e Event
	click, tx, tick := s.clicks.peek(), s.transactions.peek(), s.ticks.peek()
	switch {
	case click <= tx && click <= tick:
		e.Stream = StreamClicks
		e.Time, e.Key, e.Value = s.clicks.Next()
	case tx <= tick:
		e.Stream = StreamTransactions
		e.Time, e.Key, e.Value = s.transactions.Next()
	default:
		e.Stream = StreamTicks
		e.Time, e.Key, e.Value = s.ticks.Next()
	}
	return e
}

// defaultStart is 2026-01-01T00:00:00Z.
const defaultStart = event.Time(1_767_225_600_000_000_000)

func startOr(t event.Time) event.Time {
	if t == 0 {
		return defaultStart
	}
	return t
}

// Each source of randomness has its own sequence, so that one does not shift the
// others.
const (
	seedProfiles = iota + 1
	seedDay
	seedFraud
	seedCardTests
	seedTakeoverPayments
	seedSessions
	seedTakeovers
	seedTicks
	seedBursts
)

func random(seed uint64, purpose, n int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(purpose)<<32|uint64(uint32(n))))
}

// exponential is the time to the next of events that come at random, every mean
// on average; at least a microsecond, at most ten means.
func exponential(r *rand.Rand, mean time.Duration) time.Duration {
	d := time.Duration(min(r.ExpFloat64(), 10) * float64(mean))
	return max(d, time.Microsecond)
}

// timeline is a min-heap by time; equal times keep the order in which they came.
type timeline[T any] struct {
	items []timed[T]
	count uint64
}

type timed[T any] struct {
	at    event.Time
	order uint64
	item  T
}

func (h *timeline[T]) less(i, j int) bool {
	a, b := &h.items[i], &h.items[j]
	return a.at < b.at || a.at == b.at && a.order < b.order
}

// peek is the time of the first, MaxTime where there is none.
func (h *timeline[T]) peek() event.Time {
	if len(h.items) == 0 {
		return event.MaxTime
	}
	return h.items[0].at
}

func (h *timeline[T]) push(at event.Time, item T) {
	h.count++
	h.items = append(h.items, timed[T]{at, h.count, item})
	for i := len(h.items) - 1; i > 0 && h.less(i, (i-1)/2); i = (i - 1) / 2 {
		h.items[i], h.items[(i-1)/2] = h.items[(i-1)/2], h.items[i]
	}
}

func (h *timeline[T]) pop() (event.Time, T) {
	first := h.items[0]
	last := len(h.items) - 1
	h.items[0] = h.items[last]
	h.items = h.items[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child+1 < last && h.less(child+1, child) {
			child++
		}
		if child >= last || !h.less(child, i) {
			return first.at, first.item
		}
		h.items[i], h.items[child] = h.items[child], h.items[i]
		i = child
	}
}

func appendString(dst []byte, name, value string) []byte {
	dst = appendName(dst, name)
	return event.AppendJSONString(dst, value)
}

func appendName(dst []byte, name string) []byte {
	if len(dst) == 0 {
		dst = append(dst, '{')
	} else {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

func appendTime(dst []byte, name string, t event.Time) []byte {
	dst = appendName(dst, name)
	return event.AppendJSONTime(dst, t)
}

func appendDecimal(dst []byte, name string, v int64, scale int) []byte {
	dst = appendName(dst, name)
	return event.AppendDecimal(dst, v, scale)
}

func appendInt(dst []byte, name string, v int64) []byte {
	dst = appendName(dst, name)
	return strconv.AppendInt(dst, v, 10)
}

func appendBool(dst []byte, name string, v bool) []byte {
	dst = appendName(dst, name)
	return strconv.AppendBool(dst, v)
}

// hashed stands for an identifier that was hashed before it came in.
func hashed(prefix string, v uint64) string {
	v *= 0x9e3779b97f4a7c15
	v ^= v >> 29
	v *= 0xbf58476d1ce4e5b9
	return fmt.Sprintf("%s%012x", prefix, v>>16)
}
