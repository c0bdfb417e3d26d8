package simulate

import (
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// ClickOptions of the clicks.
type ClickOptions struct {
	Seed  uint64
	Start event.Time // 0: 2026-01-01T00:00:00Z

	Customers int     // 0: 5,000
	Rate      float64 // mean number of clicks a second of event time; 0: 40
	// ThinkTime is the mean time between two clicks of a session; 0: 3 s.
	ThinkTime time.Duration
	// TakeoverEvery is the mean time from one account take-over to the next; 0:
	// none. The first comes within 5 s.
	TakeoverEvery time.Duration
	// NewDevices is the share of honest logins from a new device; 0: 0.01,
	// negative: none.
	NewDevices float64
}

// Clicks generates the clicks of web sessions. Its stream has the fields ts
// timestamp, visitor string, customer string, path string, status int64,
// user_agent string, new_device bool, ip string; its key is the customer.
type Clicks struct {
	o            ClickOptions
	sessions     *rand.Rand
	nextSession  event.Time
	takeovers    *rand.Rand
	nextTakeover event.Time
	devices      uint64 // how many new ones there were
	queue        timeline[click]
	pay          func(at event.Time, customer int32) // the payment of a take-over; may be nil
	key, value   []byte
}

type click struct {
	customer  int32
	device    uint64
	path      string
	status    int
	newDevice bool
}

// meanClicks is the mean number of clicks of a session.
const meanClicks = 6

// NewClicks makes a generator of clicks.
func NewClicks(o ClickOptions) *Clicks {
	o.Start = startOr(o.Start)
	o.Customers = cmpOr(o.Customers, 5_000)
	o.Rate = cmpOr(o.Rate, 40)
	o.ThinkTime = cmpOr(o.ThinkTime, 3*time.Second)
	o.NewDevices = max(cmpOr(o.NewDevices, 0.01), 0)
	c := &Clicks{o: o, sessions: random(o.Seed, seedSessions, 0), takeovers: random(o.Seed, seedTakeovers, 0), nextSession: o.Start, nextTakeover: event.MaxTime}
	if o.TakeoverEvery > 0 {
		c.nextTakeover = o.Start.Add(time.Duration(c.takeovers.Float64() * 5 * float64(time.Second)))
	}
	return c
}

var pages = [...]string{"/", "/search", "/products/shoes", "/products/coats", "/products/watches", "/products/phones", "/basket", "/help", "/offers", "/orders"}

var accountPages = [...]string{"/account/email", "/account/password", "/account/address", "/account/phone"}

var userAgents = [...]string{
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Safari/605.1.15",
	"Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
	"Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Mobile Safari/537.36",
}

// addSession adds the clicks of one honest session: pages, sometimes a login, and
// now and then a look at the account.
func (c *Clicks) addSession() {
	r, at := c.sessions, c.nextSession
	c.nextSession = at.Add(exponential(r, time.Duration(meanClicks/c.o.Rate*float64(time.Second))))
	who := int32(r.IntN(c.o.Customers))
	known := click{customer: who, device: uint64(who)<<1 | uint64(r.IntN(2)), status: 200}
	login := -1
	if r.IntN(2) == 0 {
		login = r.IntN(3)
		if r.Float64() < c.o.NewDevices {
			c.devices++
			known.device, known.newDevice = 1<<40|c.devices, true
		}
	}
	n := 2 + r.IntN(2*meanClicks-3)
	for i := range n {
		one := known
		switch {
		case i == login:
			one.path, one.status = "/login", 302
		case r.IntN(50) == 0:
			one.path, one.status = "/old-page", 404
		case login >= 0 && i > login && !known.newDevice && r.IntN(40) == 0:
			one.path = accountPages[r.IntN(len(accountPages))]
		default:
			one.path = pages[r.IntN(len(pages))]
		}
		c.queue.push(roundUpMillis(at), one)
		at = at.Add(exponential(r, c.o.ThinkTime))
	}
}

// addTakeover adds one account take-over: logins that fail, one from a new device
// that does not, changes of the account's data, and, where there is a stream of
// transactions, a payment after them.
func (c *Clicks) addTakeover() {
	r, at := c.takeovers, c.nextTakeover
	c.nextTakeover = at.Add(exponential(r, c.o.TakeoverEvery))
	c.devices++
	thief := click{customer: int32(r.IntN(c.o.Customers)), device: 1<<40 | c.devices, newDevice: true}
	step := func(path string, status int) {
		one := thief
		one.path, one.status = path, status
		c.queue.push(roundUpMillis(at), one)
		at = at.Add(time.Duration((0.5 + r.Float64()) * float64(time.Second)))
	}
	for range r.IntN(3) {
		step("/login", 401)
	}
	step("/login", 302)
	first := r.IntN(len(accountPages))
	for i := range 1 + r.IntN(3) {
		step(accountPages[(first+i)%len(accountPages)], 200)
	}
	if c.pay != nil {
		c.pay(roundUpMillis(at), thief.customer)
	}
}

// roundUpMillis rounds up to whole milliseconds, so that steps keep their order.
func roundUpMillis(t event.Time) event.Time { return (t + 999_999) / 1e6 * 1e6 }

func (c *Clicks) peek() event.Time {
	for c.nextSession <= c.queue.peek() {
		c.addSession()
	}
	for c.nextTakeover <= c.queue.peek() {
		c.addTakeover()
	}
	return c.queue.peek()
}

// Next is the next click.
func (c *Clicks) Next() (at event.Time, key, value []byte) {
	c.peek()
	at, one := c.queue.pop()
	c.key = strconv.AppendInt(c.key[:0], int64(one.customer), 10)
	v := c.value[:0]
	v = appendTime(v, "ts", at)
	v = appendString(v, "visitor", hashed("v", one.device))
	v = appendString(v, "customer", string(c.key))
	v = appendString(v, "path", one.path)
	v = appendInt(v, "status", int64(one.status))
	v = appendString(v, "user_agent", userAgents[one.device%uint64(len(userAgents))])
	v = appendBool(v, "new_device", one.newDevice)
	v = appendString(v, "ip", hashed("ip-", one.device^0x5bd1e995))
	c.value = append(v, '}')
	return at, c.key, c.value
}
