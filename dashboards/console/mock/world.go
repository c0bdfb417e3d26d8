package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// alertsMax bounds the alerts kept.
const alertsMax = 20_000

type field struct {
	Name     string `json:"name"`
	Type     string `json:"type"`
	Optional bool   `json:"optional"`
	From     string `json:"from,omitempty"`
	Layout   string `json:"layout,omitempty"`
}

type stream struct {
	Name            string     `json:"name"`
	Topic           string     `json:"topic"`
	Alias           string     `json:"alias"`
	Partitions      int        `json:"partitions"`
	Format          string     `json:"format"`
	Key             string     `json:"key"`
	Time            string     `json:"time"`
	Fields          []field    `json:"fields"`
	Events          int64      `json:"events"`
	EventsPerSecond float64    `json:"events_per_second"`
	Watermark       *time.Time `json:"watermark"`
	Lag             int64      `json:"lag"`
	Late            int64      `json:"late"`
	DeadLetters     int64      `json:"dead_letters"`
	Decisions       int64      `json:"decisions"`
	Alerts          int64      `json:"alerts"`

	base  float64 // events per second, on average
	carry float64 // the part of an event not yet counted
}

type rule struct {
	ID          string     `json:"id"`
	Stream      string     `json:"stream"`
	When        string     `json:"when"`
	Action      string     `json:"action"`
	Severity    string     `json:"severity"`
	Mode        string     `json:"mode"`
	Score       float64    `json:"score"`
	Message     string     `json:"message"`
	Description string     `json:"description,omitempty"`
	File        string     `json:"file"`
	Line        int        `json:"line"`
	Evaluated   int64      `json:"evaluated"`
	Fired       int64      `json:"fired"`
	NoData      int64      `json:"no_data"`
	Errors      int64      `json:"errors"`
	LastError   string     `json:"last_error,omitempty"`
	LastFired   *time.Time `json:"last_fired"`
	State       string     `json:"state"`
	Since       time.Time  `json:"since"`
	Warming     *warming   `json:"warming,omitempty"`
	Trouble     string     `json:"trouble,omitempty"`

	weight int // how often it fires, beside the others
	raise  func(r *rand.Rand) (key, message string, values []value)
}

type value struct{ name, json string }

type warming struct {
	Percent float64 `json:"percent"`
	Rows    int64   `json:"rows"`
	Of      int64   `json:"of"`
}

type delivery struct {
	Time     time.Time `json:"time"`
	Receiver string    `json:"receiver"`
	Attempt  int       `json:"attempt"`
	Outcome  string    `json:"outcome"`
	Status   int       `json:"status"`
	Error    string    `json:"error,omitempty"`
}

type alert struct {
	ID         string          `json:"id"`
	Time       string          `json:"time"`
	Rule       string          `json:"rule"`
	Stream     string          `json:"stream"`
	Key        string          `json:"key"`
	Severity   string          `json:"severity"`
	Score      float64         `json:"score"`
	Action     string          `json:"action"`
	Message    string          `json:"message"`
	Values     json.RawMessage `json:"values"`
	Topic      string          `json:"topic"`
	Partition  int             `json:"partition"`
	Offset     int64           `json:"offset"`
	Deliveries []delivery      `json:"deliveries"`

	at   time.Time
	fate int // how its delivery goes: 0 at once, 1 after retries, 2 it fails
}

type overview struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Program string    `json:"program"`
	Streams []stream  `json:"streams"`
	Rules   []rule    `json:"rules"`
	Keyed   []keyed   `json:"keyed"`
	Alerts  struct {
		Total     int64 `json:"total"`
		PerMinute int64 `json:"per_minute"`
	} `json:"alerts"`
	Decisions struct {
		Total int64 `json:"total"`
	} `json:"decisions"`
	Deliveries struct {
		Delivered int64 `json:"delivered"`
		Retrying  int64 `json:"retrying"`
		Failed    int64 `json:"failed"`
	} `json:"deliveries"`
	SQL struct {
		Lag   int64 `json:"lag"`
		AgeMS int64 `json:"age_ms"`
	} `json:"sql"`
	Log struct {
		Bytes  int64 `json:"bytes"`
		Topics int   `json:"topics"`
	} `json:"log"`
}

// feed is one live connection.
type feed struct {
	alerts chan []byte
	left   int64
}

type world struct {
	mu      sync.Mutex
	rand    *rand.Rand
	started time.Time
	last    time.Time
	streams []*stream
	rules   []*rule
	keyed   []keyed
	alerts  []*alert // oldest first
	open    []*alert // whose delivery is not settled
	total   int64
	recent  []time.Time // of the last minute's alerts
	rate    float64     // alerts per second
	carry   float64
	feeds   map[*feed]struct{}
	refuse  time.Time // live connections are refused until then
}

func newWorld(state string, seed uint64, now time.Time) (*world, error) {
	w := &world{rand: rand.New(rand.NewPCG(seed, 0)), started: now.Add(-47 * time.Minute), last: now, feeds: map[*feed]struct{}{}}
	past, over := 0, time.Hour
	switch state {
	case "none":
	case "empty":
		w.streams = demoStreams()
		for _, s := range w.streams {
			s.base = 0
		}
	case "demo":
		w.streams, w.rules = demoStreams(), demoRules()
		w.keyed = demoKeyed(now)
		w.rate, past, over = 0.25, 140, 45*time.Minute
	case "heavy":
		w.streams, w.rules = heavyStreams(), heavyRules(200)
		w.keyed = heavyKeyed(now)
		for i := 29; i < len(w.rules); i += 31 {
			w.warm(w.rules[i].ID, float64(i%97)+0.5, "")
		}
		w.rate, past, over = 20, 5_000, 3*time.Hour
	default:
		return nil, fmt.Errorf("no state %q: expected none, empty, demo or heavy", state)
	}
	if past == 0 {
		return w, nil
	}
	w.settle(now)
	for i := range past {
		at := now.Add(-over * time.Duration(past-i) / time.Duration(past)).Add(-time.Duration(w.rand.IntN(900)) * time.Millisecond)
		w.raise(w.pick(), "", at)
		w.deliver(at.Add(time.Hour))
	}
	return w, nil
}

// settle gives counters the size that the past would have left them with.
func (w *world) settle(now time.Time) {
	for i, s := range w.streams {
		s.Events = int64(s.base * 2820)
		s.Late, s.DeadLetters = int64(i*i%7), int64(i%3*i%5)
		s.Decisions = s.Events / 40
		mark := now.Add(-5 * time.Second).UTC()
		s.Watermark = &mark
	}
	for i, r := range w.rules {
		for _, s := range w.streams {
			if s.Name == r.Stream && r.Mode != "off" {
				r.Evaluated = s.Events
			}
		}
		r.NoData = int64(i % 5 * i * 3)
	}
}

// advance moves the world to now.
func (w *world) advance(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	dt := now.Sub(w.last).Seconds()
	w.last = now
	phase := float64(now.UnixMilli()) / 1000
	for i, s := range w.streams {
		if s.base == 0 {
			continue
		}
		wave := 1 + 0.28*math.Sin(phase/(17+3*float64(i)))*math.Sin(phase/5.3+float64(i)) + 0.06*w.rand.NormFloat64()
		s.EventsPerSecond = math.Max(0, s.base*wave)
		s.carry += s.EventsPerSecond * dt
		whole := int64(s.carry)
		s.carry -= float64(whole)
		s.Events += whole
		s.Decisions += whole / 30
		s.Lag = int64(w.rand.IntN(int(s.base/60) + 2))
		mark := now.Add(-5*time.Second - time.Duration(w.rand.IntN(400))*time.Millisecond).UTC()
		s.Watermark = &mark
		for _, r := range w.rules {
			if r.Stream == s.Name && r.Mode != "off" {
				r.Evaluated += whole
				if r.LastError != "" && w.rand.IntN(200) == 0 {
					r.Errors++
				}
			}
		}
	}
	for w.carry += w.rate * dt; w.carry >= 1; w.carry-- {
		w.raise(w.pick(), "", now.Add(-time.Duration(w.rand.IntN(80))*time.Millisecond))
	}
	w.deliver(now)
	for len(w.recent) > 0 && now.Sub(w.recent[0]) > time.Minute {
		w.recent = w.recent[1:]
	}
}

func (w *world) pick() *rule {
	sum := 0
	for _, r := range w.rules {
		sum += r.weight
	}
	n := w.rand.IntN(sum)
	for _, r := range w.rules {
		if n -= r.weight; n < 0 {
			return r
		}
	}
	panic("unreachable: n is less than the sum")
}

func (w *world) raise(r *rule, key string, at time.Time) *alert {
	k, message, values := r.raise(w.rand)
	if key != "" {
		k = key
	}
	var s *stream
	for _, s = range w.streams {
		if s.Name == r.Stream {
			break
		}
	}
	text := []byte{'{'}
	for i, v := range values {
		if i > 0 {
			text = append(text, ',')
		}
		name, _ := json.Marshal(v.name)
		text = append(append(append(text, name...), ':'), v.json...)
	}
	at = at.UTC()
	a := &alert{
		Time: at.Format(time.RFC3339Nano), Rule: r.ID, Stream: r.Stream, Key: k, Severity: r.Severity, Score: r.Score, Action: r.Action,
		Message: message, Values: append(text, '}'), Topic: s.Topic, Partition: w.rand.IntN(s.Partitions), Offset: 48_000 + w.total, Deliveries: []delivery{}, at: at,
	}
	a.ID = fmt.Sprintf("%s/%d/%d/%s", a.Topic, a.Partition, a.Offset, a.Rule)
	switch n := w.rand.IntN(100); {
	case n < 6:
		a.fate = 1
	case n < 8:
		a.fate = 2
	}
	w.total++
	s.Alerts++
	r.Fired++
	r.LastFired = &a.at
	if at.After(w.last.Add(-time.Minute)) {
		w.recent = append(w.recent, at)
	}
	w.alerts = append(w.alerts, a)
	if len(w.alerts) > alertsMax {
		w.alerts = w.alerts[1:]
	}
	w.open = append(w.open, a)
	w.offer(a)
	return a
}

// offer sends an alert to the live connections, without its deliveries, as the
// record in weir.alerts has none.
func (w *world) offer(a *alert) {
	if len(w.feeds) == 0 {
		return
	}
	bare := *a
	bare.Deliveries = nil
	data, err := json.Marshal(struct {
		alert
		Deliveries *struct{} `json:"deliveries,omitempty"`
	}{alert: bare})
	if err != nil {
		panic(err)
	}
	for f := range w.feeds {
		select {
		case f.alerts <- data:
		default:
			f.left++
		}
	}
}

// deliver moves the deliveries that are not settled.
func (w *world) deliver(now time.Time) {
	keep := w.open[:0]
	for _, a := range w.open {
		for !a.settled() {
			n := len(a.Deliveries)
			due := a.at.Add(150*time.Millisecond + time.Duration(n*n)*2*time.Second)
			if now.Before(due) {
				break
			}
			d := delivery{Time: due.UTC(), Receiver: "fraud-desk", Attempt: n + 1, Outcome: "delivered", Status: 200}
			switch {
			case a.fate == 1 && n < 3:
				d.Outcome, d.Status, d.Error = "retry", 503, "the receiver answered 503 Service Unavailable"
			case a.fate == 2:
				d.Outcome, d.Status, d.Error = "failed", 410, "the receiver answered 410 Gone: it no longer exists"
			}
			a.Deliveries = append(a.Deliveries, d)
		}
		if !a.settled() {
			keep = append(keep, a)
		}
	}
	w.open = keep
}

func (a *alert) settled() bool {
	n := len(a.Deliveries)
	return n > 0 && a.Deliveries[n-1].Outcome != "retry"
}

func (w *world) raiseNow(id, key string) *alert {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rules) == 0 {
		w.rules = demoRules()
	}
	r := w.rules[0]
	for _, one := range w.rules {
		if one.ID == id {
			r = one
		}
	}
	return w.raise(r, key, time.Now())
}

// operator is what the windows of a rule hold and cost.
type operator struct {
	Stream     string   `json:"stream"`
	Name       string   `json:"name"`
	Rules      []string `json:"rules"`
	Keys       int64    `json:"keys"`
	Events     int64    `json:"events"`
	Bytes      int64    `json:"bytes"`
	CappedKeys int64    `json:"capped_keys"`
	NanosEach  float64  `json:"ns_per_event"`
}

var windowKey = regexp.MustCompile(`\.by\([^)]*\)`)

// operators are those of the rules with a window, by their key.
func (w *world) operators() []operator {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := []operator{}
	for _, r := range w.rules {
		name := strings.TrimPrefix(windowKey.FindString(r.When), ".")
		i := slices.IndexFunc(out, func(o operator) bool { return o.Stream == r.Stream && o.Name == name })
		switch {
		case name == "":
		case i >= 0:
			out[i].Rules = append(out[i].Rules, r.ID)
		default:
			n := int64(len(out) + 1)
			out = append(out, operator{Stream: r.Stream, Name: name, Rules: []string{r.ID}, Keys: 1200 * n, Events: 31_000 * n, Bytes: 1_400_000 * n, CappedKeys: n - 1, NanosEach: 640})
		}
	}
	return out
}

func (w *world) overview() overview {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := overview{Version: "v0.1.0", Started: w.started.UTC(), Program: "9f31c07ae24b", Streams: []stream{}, Rules: []rule{}}
	var events, decisions int64
	for _, s := range w.streams {
		o.Streams = append(o.Streams, *s)
		events += s.Events
		decisions += s.Decisions
	}
	for _, r := range w.rules {
		one := *r
		switch one.State, one.Since = "active", w.started.UTC(); {
		case r.Mode == "off":
			one.State = "off"
		case r.Warming != nil:
			one.State, one.Since = "warming", w.last.Add(-90*time.Second).UTC()
		case r.LastError != "":
			one.State, one.Trouble = "failing", r.LastError
		}
		o.Rules = append(o.Rules, one)
	}
	o.Keyed = append([]keyed{}, w.keyed...)
	o.Alerts.Total, o.Alerts.PerMinute = w.total, int64(len(w.recent))
	o.Decisions.Total = decisions
	for _, a := range w.open {
		if len(a.Deliveries) > 0 {
			o.Deliveries.Retrying++
		}
	}
	o.Deliveries.Failed = w.total / 50
	o.Deliveries.Delivered = w.total - int64(len(w.open)) - o.Deliveries.Failed
	if events > 0 {
		o.SQL.Lag, o.SQL.AgeMS = int64(w.rand.IntN(900)), int64(20+w.rand.IntN(90))
	}
	o.Log.Bytes, o.Log.Topics = events*141+40_960, len(w.streams)+4
	return o
}

func (w *world) watch() (*feed, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Now().Before(w.refuse) || len(w.feeds) >= 64 {
		return nil, false
	}
	f := &feed{alerts: make(chan []byte, 64)}
	w.feeds[f] = struct{}{}
	return f, true
}

func (w *world) unwatch(f *feed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.feeds, f)
}

func (w *world) leftOut(f *feed) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := f.left
	f.left = 0
	return n
}

func (w *world) drop(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = time.Now().Add(d)
	for f := range w.feeds {
		close(f.alerts)
		delete(w.feeds, f)
	}
}
