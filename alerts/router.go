package alerts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
)

// Receiver takes notifications.
type Receiver interface {
	// Notify makes one attempt to hand over n. A nil error means that the
	// receiver took it; with an error, retry says whether another attempt may
	// help. An error may be or wrap *Refusal. Notify is called from several
	// goroutines, returns soon after ctx ends, and keeps nothing of n.
	Notify(ctx context.Context, n *Notification) (retry bool, err error)
}

// Notification is one alert on its way to one receiver.
type Notification struct {
	ID       string // the alert's id: the idempotency key
	Receiver string
	Attempt  int         // from 1, over restarts
	Alert    event.Alert // what Data says
	Data     []byte      // the alert's JSON, the same bytes on every attempt; not to be changed
	Status   int         // set by Notify: of the HTTP answer, 0 where there was none
}

// Refusal is an answer that says no.
type Refusal struct {
	Reason     string
	RetryAfter time.Duration // as the receiver asked; 0: it did not
}

func (r *Refusal) Error() string { return r.Reason }

// Named is a receiver and what it wants.
type Named struct {
	Name        string
	Receiver    Receiver
	Match       Match
	RetryFor    time.Duration // how long an alert is tried again; 0: DefaultRetryFor
	MaxInFlight int           // attempts at once; 0: DefaultMaxInFlight
}

// Defaults and bounds.
const (
	DefaultRetryFor    = 3 * 24 * time.Hour
	DefaultMaxInFlight = 8
	DefaultPendingMax  = 1024

	pendingBytesMax = 32 << 20
	recordsMax      = 1000 // delivery records between two positions records
	breakerFailures = 5    // in a row, then the receiver is only probed
	errorBytesMax   = 512  // of an error in a delivery record
)

// Options of a Router. Sources, Partitions, HighWatermark and Sink are required.
type Options struct {
	// Sources opens a partition at an offset.
	Sources func(ctx context.Context, topic string, partition int32, from int64) (source.Source, error)
	// Partitions is how many partitions a topic has.
	Partitions func(topic string) (int32, error)
	// HighWatermark is the durable end of a partition.
	HighWatermark func(topic string, partition int32) (int64, error)
	Sink          sink.Sink

	BackoffMin      time.Duration  // the bound of the first back-off; 0: 1 s
	BackoffMax      time.Duration  // 0: 5 min
	ProbeMax        time.Duration  // the longest between probes of a receiver that fails; 0: 30 s
	RetryAfterMax   time.Duration  // caps Retry-After; 0: 1 h
	DrainTimeout    time.Duration  // for attempts under way, and the last records, at a stop; 0: 15 s
	CheckpointEvery time.Duration  // 0: 5 s
	PendingMax      int            // alerts of one receiver in memory; 0: DefaultPendingMax
	Random          func() float64 // of [0, 1), for jitter; nil: math/rand

	Registerer prometheus.Registerer // nil: no metrics
	Logger     *slog.Logger          // nil: slog.Default()
}

func (o *Options) fill() error {
	if o.Sources == nil || o.Partitions == nil || o.HighWatermark == nil || o.Sink == nil {
		return errors.New("alerts: Sources, Partitions, HighWatermark and Sink are required")
	}
	for _, d := range []struct {
		to    *time.Duration
		value time.Duration
	}{{&o.BackoffMin, time.Second}, {&o.BackoffMax, 5 * time.Minute}, {&o.ProbeMax, 30 * time.Second}, {&o.RetryAfterMax, time.Hour},
		{&o.DrainTimeout, 15 * time.Second}, {&o.CheckpointEvery, 5 * time.Second}} {
		if *d.to <= 0 {
			*d.to = d.value
		}
	}
	if o.PendingMax <= 0 {
		o.PendingMax = DefaultPendingMax
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return nil
}

// Router notifies receivers.
type Router struct {
	o          Options
	receivers  []*receiver
	partitions int32 // of weir.alerts
	recorder   *recorder
}

// New makes a router; it reads and writes nothing yet. The topics weir.alerts and
// weir.deliveries exist.
func New(receivers []Named, o Options) (*Router, error) {
	if err := o.fill(); err != nil {
		return nil, err
	}
	r := &Router{o: o}
	var err error
	if r.partitions, err = o.Partitions(event.TopicAlerts); err != nil {
		return nil, fmt.Errorf("alerts: %w", err)
	}
	deliveries, err := o.Partitions(event.TopicDeliveries)
	if err != nil {
		return nil, fmt.Errorf("alerts: %w", err)
	}
	m := newMetrics()
	names := map[string]bool{}
	for _, n := range receivers {
		if n.Receiver == nil || n.Name == "" || names[n.Name] {
			return nil, fmt.Errorf("alerts: receiver %q: expected a name of its own and a Receiver", n.Name)
		}
		names[n.Name] = true
		r.receivers = append(r.receivers, newReceiver(n, &r.o, m, r.partitions))
	}
	r.recorder = newRecorder(r.receivers, &r.o, r.partitions, deliveries)
	for i, one := range r.receivers {
		one.index, one.record = i, r.recorder.in
	}
	if o.Registerer != nil {
		if err := m.register(o.Registerer, r); err != nil {
			return nil, fmt.Errorf("alerts: metrics: %w", err)
		}
	}
	return r, nil
}

// Run notifies until ctx ends. Then it starts no further attempt, waits for those
// under way (at most DrainTimeout), and returns when all records and positions
// are durable; an error says that they are not, or that the positions of the last
// run could not be read. Run may be called once.
func (r *Router) Run(ctx context.Context) error {
	if err := r.recorder.restore(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("alerts: reading positions back: %w", err)
	}
	var wg sync.WaitGroup
	for i, one := range r.receivers {
		resume := make([]position, r.partitions)
		for p := range resume {
			resume[p] = r.recorder.state[p].receivers[i].clone()
		}
		wg.Go(func() { one.run(ctx, resume) })
	}
	recorded := make(chan error, 1)
	go func() { recorded <- r.recorder.run(ctx) }()
	wg.Wait()
	<-ctx.Done() // without receivers, positions are still kept
	close(r.recorder.in)
	if err := <-recorded; err != nil {
		return fmt.Errorf("alerts: %w", err)
	}
	return nil
}

// Status is how one receiver is doing.
type Status struct {
	Name      string
	Delivered int64 // alerts taken, over restarts
	Failed    int64 // alerts given up, over restarts
	Retrying  int64 // alerts that wait for another attempt
	Pending   int64 // alerts in memory, those being retried included
	InFlight  int64 // attempts under way
	Lag       int64 // alerts of the log, wanted or not, that are not done
	Probing   bool  // the receiver fails; it is only probed

	LastError     string
	LastErrorAt   event.Time // MinTime: none since the start
	LastDelivered event.Time // MinTime: none since the start
}

// Status is how each receiver is doing, in the order of New. It may be called at
// any time, from any goroutine.
func (r *Router) Status() []Status {
	ends := make([]int64, r.partitions)
	for p := range ends {
		ends[p], _ = r.o.HighWatermark(event.TopicAlerts, int32(p)) // a closed log has no lag
	}
	out := make([]Status, len(r.receivers))
	for i, one := range r.receivers {
		out[i] = one.status(ends)
	}
	return out
}
