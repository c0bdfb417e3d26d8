package simulate

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// The scenarios of a transaction, the field "scenario". 1 to 3 are the handbook's.
const (
	Legitimate = iota
	LargeAmount
	CompromisedTerminal
	CompromisedCustomer
	CardTesting
	AccountTakeover
)

// What the handbook fixes.
const (
	meanPerDay         = 2.0    // transactions of a customer, between 0 and 4
	secondsDeviation   = 20_000 // around noon
	largeAmount        = 22_000 // in cents, scenario 1
	terminalsPerDay    = 2      // scenario 2
	terminalDays       = 28
	customersPerDay    = 3 // scenario 3
	customerDays       = 14
	customerShare      = 1.0 / 3
	customerMultiplier = 5
)

// withinDay is the share of normal times around noon that fall within the day;
// the others are dropped.
var withinDay = math.Erf(43_200 / (secondsDeviation * math.Sqrt2))

// TransactionOptions of the transactions.
type TransactionOptions struct {
	Seed  uint64
	Start event.Time // of the first day; 0: 2026-01-01T00:00:00Z

	Customers int     // 0: 5,000 as in the handbook
	Terminals int     // 0: 10,000 as in the handbook
	Radius    float64 // within which a customer uses terminals; 0: 5 as in the handbook

	// Day is the event time that one simulated day takes; 0: 24 hours, or what
	// gives Rate. Shorter days hold the same transactions.
	Day time.Duration
	// Rate, if Day is 0 and Rate is not, is the mean number of transactions a
	// second of event time.
	Rate float64

	// Settled draws the compromised terminals and customers of the days before the
	// first too, so that its share of frauds is that of the later ones. In the
	// handbook they only begin.
	Settled bool

	// CardTestEvery is the mean time from one card test to the next (scenario 4);
	// 0: none. The first comes within 3 s.
	CardTestEvery time.Duration
	// CardTestSpacing is the mean time between the transactions of one card test;
	// 0: 800 ms.
	CardTestSpacing time.Duration
}

type customer struct {
	x, y      float64
	mean, std float64 // of amounts
	perDay    float64
	terminals []int32 // within the radius
}

// Transactions generates card transactions. Its stream has the fields id string,
// ts timestamp, card string, customer string, terminal string, merchant string,
// amount decimal(2), country string, fraud bool, scenario int64; its key is the
// card.
type Transactions struct {
	o         TransactionOptions
	customers []customer
	terminals []place
	day       int
	today     []payment // in order of time, from the next one onward
	extra     timeline[payment]
	// For each terminal and customer the first day on which it is no longer
	// compromised.
	terminalUntil []int32
	customerUntil []int32
	cardTests     *rand.Rand
	nextCardTest  event.Time
	takeovers     *rand.Rand
	sequence      int64
	key, value    []byte
}

type place struct{ x, y float64 }

type payment struct {
	at       event.Time
	customer int32
	terminal int32
	cents    int64
	scenario int8
}

// NewTransactions makes a generator of transactions.
func NewTransactions(o TransactionOptions) *Transactions {
	o.Start = startOr(o.Start)
	o.Customers = cmpOr(o.Customers, 5_000)
	o.Terminals = cmpOr(o.Terminals, 10_000)
	o.Radius = cmpOr(o.Radius, 5)
	o.CardTestSpacing = cmpOr(o.CardTestSpacing, 800*time.Millisecond)
	if o.Day <= 0 && o.Rate > 0 {
		perDay := float64(o.Customers) * meanPerDay * withinDay
		o.Day = time.Duration(perDay / o.Rate * float64(time.Second))
	}
	o.Day = cmpOr(max(o.Day, 0), 24*time.Hour)
	t := &Transactions{o: o, terminalUntil: make([]int32, o.Terminals), customerUntil: make([]int32, o.Customers),
		cardTests: random(o.Seed, seedCardTests, 0), takeovers: random(o.Seed, seedTakeoverPayments, 0), nextCardTest: event.MaxTime, day: -1}
	t.makeProfiles()
	if o.Settled {
		for t.day = -terminalDays; t.day < -1; t.day++ {
			t.compromise()
		}
	}
	if o.CardTestEvery > 0 {
		t.nextCardTest = o.Start.Add(time.Duration(t.cardTests.Float64() * 3 * float64(time.Second)))
	}
	return t
}

func cmpOr[T int | float64 | time.Duration](v, otherwise T) T {
	if v == 0 {
		return otherwise
	}
	return v
}

// makeProfiles is the handbook's generate_customer_profiles_table,
// generate_terminal_profiles_table and get_list_terminals_within_radius.
func (t *Transactions) makeProfiles() {
	r := random(t.o.Seed, seedProfiles, 0)
	t.terminals = make([]place, t.o.Terminals)
	for i := range t.terminals {
		t.terminals[i] = place{100 * r.Float64(), 100 * r.Float64()}
	}
	near := newGrid(t.terminals, t.o.Radius)
	t.customers = make([]customer, t.o.Customers)
	for i := range t.customers {
		c := &t.customers[i]
		c.x, c.y = 100*r.Float64(), 100*r.Float64()
		c.mean = 5 + 95*r.Float64()
		c.std = c.mean / 2
		c.perDay = 2 * meanPerDay * r.Float64()
		if c.terminals = near.within(c.x, c.y); len(c.terminals) == 0 {
			// Where terminals are sparse; the handbook's profiles are not.
			c.terminals = []int32{int32(i % len(t.terminals))}
		}
	}
}

// grid finds the places within a radius.
type grid struct {
	places []place
	radius float64
	cells  map[[2]int][]int32
}

func newGrid(places []place, radius float64) *grid {
	g := &grid{places: places, radius: radius, cells: map[[2]int][]int32{}}
	for i, p := range places {
		c := g.cell(p.x, p.y)
		g.cells[c] = append(g.cells[c], int32(i))
	}
	return g
}

func (g *grid) cell(x, y float64) [2]int {
	return [2]int{int(math.Floor(x / g.radius)), int(math.Floor(y / g.radius))}
}

func (g *grid) within(x, y float64) (found []int32) {
	at := g.cell(x, y)
	for dx := -1; dx <= 1; dx++ {
		for dy := -1; dy <= 1; dy++ {
			for _, i := range g.cells[[2]int{at[0] + dx, at[1] + dy}] {
				if p := g.places[i]; math.Hypot(p.x-x, p.y-y) < g.radius {
					found = append(found, i)
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

// nextDay makes the transactions of the next simulated day that has any.
func (t *Transactions) nextDay() {
	for t.today = t.today[:0]; len(t.today) == 0; {
		t.day++
		t.compromise()
		r := random(t.o.Seed, seedDay, t.day)
		for i := range t.customers {
			t.addCustomersDay(r, int32(i))
		}
	}
	slices.SortStableFunc(t.today, func(a, b payment) int { return cmp.Compare(a.at, b.at) })
	slices.Reverse(t.today) // the next one last, so that taking it is cutting it off
}

// addCustomersDay is the handbook's generate_transactions_table for one day, and
// its frauds.
func (t *Transactions) addCustomersDay(r *rand.Rand, i int32) {
	c := &t.customers[i]
	for range poisson(r, c.perDay) {
		seconds := 43_200 + secondsDeviation*r.NormFloat64()
		amount := c.mean + c.std*r.NormFloat64()
		if amount < 0 {
			amount = 2 * c.mean * r.Float64()
		}
		pick, share := r.Float64(), r.Float64()
		if seconds <= 0 || seconds >= 86_400 {
			continue
		}
		within := event.Time(seconds / 86_400 * float64(t.o.Day))
		p := payment{
			at:       t.o.Start + event.Time(t.day)*event.Time(t.o.Day) + within/1e6*1e6,
			customer: i,
			terminal: c.terminals[int(pick*float64(len(c.terminals)))],
			cents:    int64(math.Round(amount * 100)),
		}
		t.defraud(&p, share < customerShare)
		t.today = append(t.today, p)
	}
}

// compromise is the part of the handbook's add_frauds that draws today's
// terminals and customers.
func (t *Transactions) compromise() {
	r := random(t.o.Seed, seedFraud, t.day)
	for range min(terminalsPerDay, len(t.terminals)) {
		t.terminalUntil[r.IntN(len(t.terminals))] = int32(t.day + terminalDays)
	}
	for range min(customersPerDay, len(t.customers)) {
		t.customerUntil[r.IntN(len(t.customers))] = int32(t.day + customerDays)
	}
}

// defraud is the part of add_frauds that marks a transaction; a later scenario
// wins over an earlier one, as there.
func (t *Transactions) defraud(p *payment, chosen bool) {
	if p.cents > largeAmount {
		p.scenario = LargeAmount
	}
	if int32(t.day) < t.terminalUntil[p.terminal] {
		p.scenario = CompromisedTerminal
	}
	if int32(t.day) < t.customerUntil[p.customer] && chosen {
		p.scenario = CompromisedCustomer
		p.cents *= customerMultiplier
	}
}

// poisson is a Poisson-distributed number (Knuth); mean is small.
func poisson(r *rand.Rand, mean float64) (n int) {
	limit := math.Exp(-mean)
	for p := r.Float64(); p > limit; p *= r.Float64() {
		n++
	}
	return n
}

// addCardTest adds one card test: three to five small amounts, then a large one.
func (t *Transactions) addCardTest() {
	r, at := t.cardTests, roundUpMillis(t.nextCardTest)
	victim := int32(r.IntN(len(t.customers)))
	step := func(cents int64) {
		t.extra.push(at, payment{at: at, customer: victim, terminal: int32(r.IntN(len(t.terminals))), cents: cents, scenario: CardTesting})
		at = roundUpMillis(at.Add(time.Duration((0.5 + r.Float64()) * float64(t.o.CardTestSpacing))))
	}
	t.nextCardTest = at.Add(exponential(r, t.o.CardTestEvery))
	for range 3 + r.IntN(3) {
		step(50 + r.Int64N(440))
	}
	step(25_000 + r.Int64N(65_000))
}

// payAfterTakeover adds the payment of an account take-over: four to eight times
// the customer's mean, and never a small one.
func (t *Transactions) payAfterTakeover(at event.Time, victim int32) {
	r := t.takeovers
	amount := max(t.customers[victim].mean*(4+4*r.Float64()), 60+60*r.Float64())
	t.extra.push(at, payment{at: at, customer: victim, terminal: int32(r.IntN(len(t.terminals))), cents: int64(math.Round(amount * 100)), scenario: AccountTakeover})
}

func (t *Transactions) peek() event.Time {
	if len(t.today) == 0 {
		t.nextDay()
	}
	first := min(t.today[len(t.today)-1].at, t.extra.peek())
	for t.nextCardTest <= first {
		t.addCardTest()
		first = min(first, t.extra.peek())
	}
	return first
}

// Next is the next transaction.
func (t *Transactions) Next() (at event.Time, key, value []byte) {
	p := t.take()
	t.encode(&p)
	return p.at, t.key, t.value
}

func (t *Transactions) take() (p payment) {
	if first := t.peek(); first == t.extra.peek() {
		_, p = t.extra.pop()
		return p
	}
	p = t.today[len(t.today)-1]
	t.today = t.today[:len(t.today)-1]
	return p
}

var countries = [...]string{"FR", "DE", "BE", "NL", "ES", "IT", "PT", "CH", "AT", "GB"}

func (t *Transactions) encode(p *payment) {
	t.sequence++
	t.key = strconv.AppendInt(t.key[:0], int64(p.customer), 10)
	who := string(t.key)
	v := t.value[:0]
	v = appendString(v, "id", fmt.Sprintf("t%09d", t.sequence))
	v = appendTime(v, "ts", p.at)
	v = appendString(v, "card", who)
	v = appendString(v, "customer", who)
	v = appendString(v, "terminal", strconv.Itoa(int(p.terminal)))
	v = appendString(v, "merchant", "merchant-"+strconv.Itoa(int(p.terminal)/20))
	v = appendDecimal(v, "amount", p.cents, 2)
	v = appendString(v, "country", countries[int(t.terminals[p.terminal].x/100*float64(len(countries)))])
	v = appendBool(v, "fraud", p.scenario != Legitimate)
	v = appendInt(v, "scenario", int64(p.scenario))
	t.value = append(v, '}')
}
