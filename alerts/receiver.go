package alerts

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// pending is one alert that a receiver has not yet taken.
type pending struct {
	partition int32
	offset    int64
	alert     event.Alert
	data      []byte
	tries     int
	first     time.Time // of the first attempt
	due       time.Time // of the next one
	asked     bool      // the receiver named the time of the next one
}

// batch is a range of weir.alerts that a reader has gone through.
type batch struct {
	partition int32
	from, to  int64
	wanted    []*pending
}

// answer is how an attempt ended.
type answer struct {
	p      *pending
	status int
	retry  bool
	err    error
	began  time.Time
	took   time.Duration
}

// receiver is the side of one receiver. All that is not atomic or under mu
// belongs to the goroutine of run.
type receiver struct {
	Named
	index  int
	o      *Options
	logger *slog.Logger
	m      *metrics
	record chan<- note

	ready   []*pending // not tried since they were read, oldest first
	waiting dueHeap    // tried, or restored with a time
	bytes   int        // of all pending
	flying  int
	answers chan answer
	breaker breaker

	delivered, failed           atomic.Int64
	pendingN, waitingN, flyingN atomic.Int64
	probing                     atomic.Bool
	next                        []atomic.Int64 // by partition: read so far

	mu            sync.Mutex
	lastError     string
	lastErrorAt   event.Time
	lastDelivered event.Time
}

func newReceiver(n Named, o *Options, m *metrics, partitions int32) *receiver {
	if n.RetryFor <= 0 {
		n.RetryFor = DefaultRetryFor
	}
	if n.MaxInFlight <= 0 {
		n.MaxInFlight = DefaultMaxInFlight
	}
	return &receiver{Named: n, o: o, m: m, logger: o.Logger.With("receiver", n.Name), answers: make(chan answer, n.MaxInFlight),
		next: make([]atomic.Int64, partitions), lastErrorAt: event.MinTime, lastDelivered: event.MinTime}
}

// run notifies until ctx ends and the attempts under way have ended.
func (r *receiver) run(ctx context.Context, resume []position) {
	var readers sync.WaitGroup
	batches := make(chan batch)
	for p := range resume {
		r.next[p].Store(resume[p].next)
		readers.Go(func() { r.read(ctx, int32(p), &resume[p], batches) })
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	wake := time.NewTimer(0)
	defer wake.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		r.dispatch(work, now)
		r.show()
		in := batches
		if r.full() {
			in = nil
		}
		wake.Reset(r.sleep(now))
		select {
		case b := <-in:
			r.accept(b)
		case a := <-r.answers:
			r.settle(a)
		case <-wake.C:
		case <-ctx.Done():
		}
	}
	r.drain(cancel)
	readers.Wait()
}

// drain waits for the attempts under way; those that take longer than the drain
// timeout are cut off and count as tried.
func (r *receiver) drain(cancel context.CancelFunc) {
	timeout := time.NewTimer(r.o.DrainTimeout)
	defer timeout.Stop()
	for r.flying > 0 {
		select {
		case a := <-r.answers:
			r.settle(a)
		case <-timeout.C:
			r.logger.Warn("attempts are cut off at the stop; their alerts are sent again after the next start", "attempts", r.flying)
			cancel()
		}
	}
	r.show()
}

func (r *receiver) full() bool {
	return len(r.ready)+len(r.waiting)+r.flying >= r.o.PendingMax || r.bytes >= pendingBytesMax
}

// accept queues what a reader found.
func (r *receiver) accept(b batch) {
	n := note{receiver: r.index, partition: b.partition, from: b.from, to: b.to}
	for _, p := range b.wanted {
		n.opened = append(n.opened, p.offset)
		r.bytes += len(p.data)
		if p.tries > 0 {
			heap.Push(&r.waiting, p)
		} else {
			r.ready = append(r.ready, p)
		}
	}
	r.record <- n
	r.next[b.partition].Store(max(b.to, r.next[b.partition].Load()))
}

// dispatch starts as many attempts as may run now.
func (r *receiver) dispatch(ctx context.Context, now time.Time) {
	for r.flying < r.MaxInFlight && r.breaker.allows(now, r.flying) {
		p := r.pick(now)
		if p == nil {
			return
		}
		if p.tries == 0 {
			p.first = now
		}
		p.tries++
		r.flying++
		go r.attempt(ctx, p)
	}
}

// pick takes the alert to try next, nil where all wait for their time. A probe
// takes one before its time rather than none.
func (r *receiver) pick(now time.Time) *pending {
	switch {
	case len(r.waiting) > 0 && !r.waiting[0].due.After(now):
		return heap.Pop(&r.waiting).(*pending)
	case len(r.ready) > 0:
		p := r.ready[0]
		r.ready[0] = nil
		r.ready = r.ready[1:]
		return p
	case len(r.waiting) > 0 && r.breaker.open && !r.waiting[0].asked:
		return heap.Pop(&r.waiting).(*pending)
	}
	return nil
}

// sleep is how long nothing will happen by itself.
func (r *receiver) sleep(now time.Time) time.Duration {
	const long = time.Hour
	if r.flying >= r.MaxInFlight || len(r.ready)+len(r.waiting) == 0 || r.breaker.open && r.flying > 0 {
		return long // an answer or a batch comes first
	}
	at := r.breaker.until
	if len(r.ready) == 0 && r.waiting[0].due.After(at) && (!r.breaker.open || r.waiting[0].asked) {
		at = r.waiting[0].due
	}
	return min(max(at.Sub(now), 0), long)
}

// attempt makes one attempt, in a goroutine of its own.
func (r *receiver) attempt(ctx context.Context, p *pending) {
	n := Notification{ID: p.alert.ID, Receiver: r.Name, Attempt: p.tries, Alert: p.alert, Data: p.data}
	a := answer{p: p, began: time.Now()}
	a.retry, a.err = r.Receiver.Notify(ctx, &n)
	a.took, a.status = time.Since(a.began), n.Status
	r.answers <- a
}

// settle decides what an attempt's end means and records it.
func (r *receiver) settle(a answer) {
	now, p := time.Now(), a.p
	r.flying--
	d := &event.Delivery{Time: event.FromTime(a.began), Alert: p.alert.ID, Rule: p.alert.Rule, Receiver: r.Name, Attempt: p.tries,
		Outcome: outcomeDelivered, Status: a.status, DurationMillis: float64(a.took.Microseconds()) / 1000,
		NextAttempt: event.MinTime, AlertPartition: p.partition, AlertOffset: p.offset}
	switch {
	case a.err == nil:
		if r.breaker.success() {
			r.hasten(now)
		}
	case !a.retry:
		d.Outcome, d.Error = outcomeFailed, clipError(a.err)
		r.breaker.success() // it answered: the alert is at fault, not the receiver
	default:
		d.Outcome, d.Error = outcomeRetry, clipError(a.err)
		asked := r.retryAfter(a.err)
		r.breaker.failure(now, asked, r.o)
		p.asked = asked > 0
		if p.due = now.Add(asked); asked == 0 {
			p.due = now.Add(r.backoff(p.tries))
		}
		if p.due.Sub(p.first) > r.RetryFor {
			d.Outcome, d.Error = outcomeFailed, clipError(fmt.Errorf("given up after %s: %w", now.Sub(p.first).Round(time.Second), a.err))
			break
		}
		d.NextAttempt = event.FromTime(p.due)
		heap.Push(&r.waiting, p)
	}
	if d.Outcome != outcomeRetry {
		r.bytes -= len(p.data)
	}
	r.m.attempt(r.Name, d.Outcome, a.took)
	r.remember(d)
	r.record <- note{receiver: r.index, partition: p.partition, attempt: d}
}

// hasten makes the alerts that waited for a receiver that is well again due now,
// but for those whose time the receiver named.
func (r *receiver) hasten(now time.Time) {
	for _, p := range r.waiting {
		if !p.asked {
			p.due = now
		}
	}
	heap.Init(&r.waiting)
}

func (r *receiver) retryAfter(err error) time.Duration {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return min(max(refusal.RetryAfter, 0), r.o.RetryAfterMax)
	}
	return 0
}

// backoff is full jitter: anywhere between nothing and a bound that doubles with
// each attempt (M. Brooker, "Exponential Backoff and Jitter", 2015).
func (r *receiver) backoff(tries int) time.Duration {
	return fullJitter(r.o.BackoffMin, r.o.BackoffMax, tries, r.o.Random)
}

func fullJitter(least, most time.Duration, tries int, random func() float64) time.Duration {
	bound := most
	if shift := tries - 1; shift < 32 && least<<shift > 0 && least<<shift>>shift == least {
		bound = min(most, least<<shift)
	}
	return time.Duration(random() * float64(bound))
}

// clipError is err as one bounded line.
func clipError(err error) string {
	text := strings.ToValidUTF8(strings.Join(strings.Fields(err.Error()), " "), "\ufffd")
	if len(text) > errorBytesMax {
		text = strings.ToValidUTF8(text[:errorBytesMax], "") + "..."
	}
	return text
}

// breaker keeps a receiver that fails from being overrun. It has no clock of its
// own.
type breaker struct {
	failures int       // in a row
	open     bool      // only probes
	probes   int       // in a row that failed
	until    time.Time // nothing is sent before
}

// allows reports whether an attempt may start while flying others run.
func (b *breaker) allows(now time.Time, flying int) bool {
	return !now.Before(b.until) && (!b.open || flying == 0)
}

// success notes an answer; it reports whether that closed the breaker.
func (b *breaker) success() (closed bool) {
	closed = b.open
	*b = breaker{until: b.until}
	if closed {
		b.until = time.Time{}
	}
	return closed
}

// failure notes an attempt that failed. asked is the Retry-After, which holds for
// the whole receiver.
func (b *breaker) failure(now time.Time, asked time.Duration, o *Options) {
	b.failures++
	wait := asked
	switch {
	case b.open && !now.Before(b.until):
		b.probes++
		wait = max(wait, fullJitter(o.BackoffMin, o.ProbeMax, b.probes+1, o.Random))
	case !b.open && b.failures >= breakerFailures:
		b.open, b.probes = true, 0
		wait = max(wait, fullJitter(o.BackoffMin, o.ProbeMax, 1, o.Random))
	}
	if at := now.Add(wait); wait > 0 && at.After(b.until) {
		b.until = at
	}
}

// dueHeap has the alert that is due first at its top.
type dueHeap []*pending

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(*pending)) }
func (h *dueHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return p
}

// show publishes the sizes of the queues for Status.
func (r *receiver) show() {
	r.pendingN.Store(int64(len(r.ready) + len(r.waiting) + r.flying))
	r.waitingN.Store(int64(len(r.waiting)))
	r.flyingN.Store(int64(r.flying))
	r.probing.Store(r.breaker.open)
}

// remember keeps what Status says of the last attempts.
func (r *receiver) remember(d *event.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.Outcome == outcomeDelivered {
		r.lastDelivered = d.Time
		return
	}
	r.lastError, r.lastErrorAt = d.Error, d.Time
}

// count is called by the recorder.
func (r *receiver) count(outcome string) {
	switch outcome {
	case outcomeDelivered:
		r.delivered.Add(1)
	case outcomeFailed:
		r.failed.Add(1)
	}
}

func (r *receiver) status(ends []int64) Status {
	s := Status{Name: r.Name, Delivered: r.delivered.Load(), Failed: r.failed.Load(), Retrying: r.waitingN.Load(),
		Pending: r.pendingN.Load(), InFlight: r.flyingN.Load(), Probing: r.probing.Load()}
	s.Lag = s.Pending
	for p := range ends {
		s.Lag += max(0, ends[p]-r.next[p].Load())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.LastError, s.LastErrorAt, s.LastDelivered = r.lastError, r.lastErrorAt, r.lastDelivered
	return s
}
