package node

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/rules"
)

// desk gathers what the console shows as it happens: the rates of the last
// second and the newest alerts. Its readers of weir.alerts begin at the end of
// the log, so nothing behind them matters to it.
type desk struct {
	node   *Node
	logger *slog.Logger

	mu       sync.Mutex
	rates    map[string]float64 // events per second by stream
	ends     map[string]int64   // events by stream at the last sample
	alerts   [60]int64          // alerts in each of the last 60 seconds, a ring
	second   int
	seen     int64 // alerts seen since the start
	watchers map[*watcher]struct{}
	errors   map[string]int64     // of each rule, at the last sample
	failed   map[string]time.Time // when each rule's errors were last seen to grow
}

// watcher is one open /v1/live connection.
type watcher struct {
	alerts chan json.RawMessage
	// left counts the alerts that did not fit, under the desk's lock.
	left int64
}

// watcherQueue is how many alerts wait for a slow console before they are
// counted instead of shown.
const watcherQueue = 64

// watchersMax bounds the open live connections.
const watchersMax = 256

var errTooManyWatchers = errors.New("too many open live connections; close a console tab and try again")

func newDesk(n *Node) *desk {
	return &desk{node: n, logger: n.logger, rates: map[string]float64{}, ends: map[string]int64{}, watchers: map[*watcher]struct{}{}, errors: map[string]int64{}, failed: map[string]time.Time{}}
}

func (d *desk) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	parts, err := d.node.partitions(event.TopicAlerts)
	if err != nil {
		return err
	}
	for p := range parts {
		g.Go(func() error { return d.follow(ctx, p) })
	}
	g.Go(func() error { return d.sample(ctx) })
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// tailBackoff is the time between two tries to read a partition of weir.alerts.
const tailBackoff = 5 * time.Second

// follow tails one partition of weir.alerts until ctx is done. A partition that
// cannot be read (damage took it out of service) is no reason to stop the node.
func (d *desk) follow(ctx context.Context, partition int32) error {
	for {
		err := d.tail(ctx, partition)
		if ctx.Err() != nil || err == nil {
			return err
		}
		d.logger.Error("the console cannot follow the alerts and tries again", "topic", event.TopicAlerts, "partition", partition, "err", err, "in", tailBackoff)
		again := time.NewTimer(tailBackoff)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return ctx.Err()
		}
	}
}

// tail follows one partition of weir.alerts until something fails.
func (d *desk) tail(ctx context.Context, partition int32) error {
	from, err := d.node.highWatermark(event.TopicAlerts, partition)
	if err != nil {
		return err
	}
	src, err := d.node.openSource(ctx, event.TopicAlerts, partition, from)
	if err != nil {
		return err
	}
	defer src.Close()
	for {
		chunk, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		d.mu.Lock()
		for i := range chunk.Records {
			d.seen++
			d.alerts[d.second%len(d.alerts)]++
			d.offer(chunk.Records[i].Value)
		}
		d.mu.Unlock()
	}
}

// offer gives an alert to every watcher that has room for it.
func (d *desk) offer(value []byte) {
	var shared json.RawMessage
	for w := range d.watchers {
		if len(w.alerts) == cap(w.alerts) {
			w.left++
			continue
		}
		if shared == nil {
			shared = append(shared, value...) // value belongs to the source
		}
		w.alerts <- shared // only this side sends, under the lock: there is room
	}
}

// sample measures the rates once a second.
func (d *desk) sample(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last := time.Now()
	d.measure(0)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-tick.C:
			d.measure(now.Sub(last))
			last = now
		}
	}
}

func (d *desk) measure(elapsed time.Duration) {
	ends := map[string]int64{}
	for _, s := range d.node.streams() {
		_, end, err := d.node.extent(s.Topic)
		if err != nil {
			continue // the topic was deleted; its rate is gone with it
		}
		ends[s.Schema.Stream] = end
	}
	status := d.node.program.Load().Rules()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.noteErrors(status, time.Now())
	for name, end := range ends {
		if elapsed > 0 {
			d.rates[name] = float64(end-d.ends[name]) / elapsed.Seconds()
		}
		d.ends[name] = end
	}
	d.second++
	d.alerts[d.second%len(d.alerts)] = 0
}

// noteErrors notes which rules have met errors since the last sample. One that counts anew
// has none.
func (d *desk) noteErrors(status []rules.RuleStatus, now time.Time) {
	counted := make(map[string]int64, len(status))
	for i := range status {
		id, n := status[i].ID, status[i].Errors
		switch {
		case n > d.errors[id]:
			d.failed[id] = now
		case n < d.errors[id]:
			delete(d.failed, id)
		}
		counted[id] = n
	}
	maps.DeleteFunc(d.failed, func(id string, at time.Time) bool { return now.Sub(at) > failingFor || counted[id] == 0 })
	d.errors = counted
}

// failing reports whether a rule has met an error in the last minute.
func (d *desk) failing(rule string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, failed := d.failed[rule]
	return failed
}

// rate is a stream's events per second over the last second.
func (d *desk) rate(stream string) float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rates[stream]
}

// alertsLastMinute counts the alerts of the last 60 seconds.
func (d *desk) alertsLastMinute() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	var sum int64
	for _, n := range d.alerts {
		sum += n
	}
	return sum
}

func (d *desk) watch() (*watcher, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.watchers) >= watchersMax {
		return nil, errTooManyWatchers
	}
	w := &watcher{alerts: make(chan json.RawMessage, watcherQueue)}
	d.watchers[w] = struct{}{}
	return w, nil
}

func (d *desk) unwatch(w *watcher) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.watchers, w)
}

// leftOut returns how many alerts were left out since the last call.
func (d *desk) leftOut(w *watcher) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := w.left
	w.left = 0
	return n
}

// extent is the sum over a topic's partitions of their first offset and of
// their high watermark: the difference is how many events it holds.
func (n *Node) extent(topic string) (start, end int64, err error) {
	t, ok := n.log.Topic(topic)
	if !ok {
		return 0, 0, errors.New("no topic " + topic)
	}
	for _, p := range t.Partitions() {
		start += p.Start()
		end += p.HighWatermark()
	}
	return start, end, nil
}
