package simulate

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// TickOptions of the ticks.
type TickOptions struct {
	Seed  uint64
	Start event.Time // 0: 2026-01-01T00:00:00Z

	Rate float64 // mean number of ticks a second of event time, bursts apart; 0: 200
	// BurstEvery is the mean time from one burst to the next; 0: 20 s, negative:
	// none. A burst is some hundred ticks of one symbol within a quarter of a
	// second, in which its price runs one way. The first comes within 5 s.
	BurstEvery time.Duration
	// CrossEvery is the mean time from one crossed quote (bid above ask) to the
	// next, bursts apart; 0: 15 s, negative: none.
	CrossEvery time.Duration
}

// Symbols and Venues are those of the ticks.
var (
	Symbols = []string{"BTCUSDT", "ETHUSDT", "SOLUSDT"}
	Venues  = []string{"north", "south"}
)

var firstPrices = []float64{61_800, 2_680, 155}

// Ticks generates trades and best quotes. Its stream has the fields recv_ns
// timestamp (unix_ns), venue string, symbol string, type string (trade or quote);
// of a trade price decimal(2), qty decimal(4); of a quote bid decimal(2), bid_qty
// decimal(4), ask decimal(2), ask_qty decimal(4). The fields of the other type are
// absent. Its key is the symbol.
type Ticks struct {
	o          TickOptions
	r          *rand.Rand
	bursts     *rand.Rand
	books      []book // symbol by venue
	fair       []float64
	at         event.Time // of the next tick
	nextBurst  event.Time
	nextCross  event.Time
	burst      burst
	key, value []byte
}

// book is the best of one symbol at one venue.
type book struct {
	bid, ask       int64 // cents
	bidQty, askQty int64 // ten-thousandths
}

type burst struct {
	left   int // ticks
	symbol int
	drift  float64 // of the price, a tick
}

const ticksPerBurst = 250

// NewTicks makes a generator of ticks.
func NewTicks(o TickOptions) *Ticks {
	o.Start = startOr(o.Start)
	o.Rate = cmpOr(o.Rate, 200)
	o.BurstEvery = cmpOr(o.BurstEvery, 20*time.Second)
	o.CrossEvery = cmpOr(o.CrossEvery, 15*time.Second)
	t := &Ticks{o: o, r: random(o.Seed, seedTicks, 0), bursts: random(o.Seed, seedBursts, 0), at: o.Start, nextBurst: event.MaxTime, nextCross: event.MaxTime,
		books: make([]book, len(Symbols)*len(Venues)), fair: append([]float64(nil), firstPrices...)}
	if o.BurstEvery > 0 {
		t.nextBurst = o.Start.Add(time.Duration(t.bursts.Float64() * 5 * float64(time.Second)))
	}
	if o.CrossEvery > 0 {
		t.nextCross = o.Start.Add(time.Duration(t.bursts.Float64() * 5 * float64(time.Second)))
	}
	for symbol := range Symbols {
		for venue := range Venues {
			t.requote(symbol, venue)
		}
	}
	return t
}

func (t *Ticks) peek() event.Time { return t.at }

// Next is the next tick.
func (t *Ticks) Next() (at event.Time, key, value []byte) {
	at = t.at
	symbol := t.r.IntN(len(Symbols))
	mean := time.Duration(float64(time.Second) / t.o.Rate)
	if t.burst.left == 0 && at >= t.nextBurst {
		direction := float64(2*t.bursts.IntN(2) - 1)
		t.burst = burst{left: ticksPerBurst/2 + t.bursts.IntN(ticksPerBurst), symbol: t.bursts.IntN(len(Symbols)), drift: direction * 0.00004}
		t.nextBurst = at.Add(exponential(t.bursts, t.o.BurstEvery))
	}
	drift := 0.0
	if t.burst.left > 0 {
		t.burst.left--
		symbol, drift, mean = t.burst.symbol, t.burst.drift, time.Millisecond
	}
	t.fair[symbol] *= 1 + drift + 0.000_01*t.r.NormFloat64()
	t.at = at + event.Time(exponential(t.r, mean))
	venue := t.r.IntN(len(Venues))
	if drift != 0 && t.r.IntN(4) > 0 {
		venue = 0 // in a burst the other venue lags, and the two cross each other
	}
	t.encode(at, symbol, venue)
	return at, t.key, t.value
}

// requote puts a book around the fair price, its spread two to six hundredths of
// a per cent.
func (t *Ticks) requote(symbol, venue int) *book {
	b := &t.books[symbol*len(Venues)+venue]
	cents := t.fair[symbol] * 100
	half := cents * (0.000_1 + 0.000_2*t.r.Float64())
	b.bid = max(1, int64(math.Floor(cents-half)))
	b.ask = max(b.bid+1, int64(math.Ceil(cents+half)))
	b.bidQty, b.askQty = 1+t.r.Int64N(50_000), 1+t.r.Int64N(50_000)
	return b
}

// encode makes one tick: three quotes for each trade, as real feeds have or more.
func (t *Ticks) encode(at event.Time, symbol, venue int) {
	t.key = append(t.key[:0], Symbols[symbol]...)
	v := t.value[:0]
	v = appendInt(v, "recv_ns", int64(at))
	v = appendString(v, "venue", Venues[venue])
	v = appendString(v, "symbol", Symbols[symbol])
	cross := at >= t.nextCross
	if !cross && t.r.IntN(4) == 0 {
		b := t.books[symbol*len(Venues)+venue]
		price := b.bid
		if t.r.IntN(2) == 0 {
			price = b.ask
		}
		v = appendString(v, "type", "trade")
		v = appendDecimal(v, "price", price, 2)
		v = appendDecimal(v, "qty", 1+t.r.Int64N(20_000), 4)
		t.value = append(v, '}')
		return
	}
	b := t.requote(symbol, venue)
	quoted := *b
	if cross {
		t.nextCross = at.Add(exponential(t.bursts, t.o.CrossEvery))
		quoted.bid, quoted.ask = b.ask+1+t.bursts.Int64N(20), b.bid
	}
	v = appendString(v, "type", "quote")
	v = appendDecimal(v, "bid", quoted.bid, 2)
	v = appendDecimal(v, "bid_qty", quoted.bidQty, 4)
	v = appendDecimal(v, "ask", quoted.ask, 2)
	v = appendDecimal(v, "ask_qty", quoted.askQty, 4)
	t.value = append(v, '}')
}
