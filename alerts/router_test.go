package alerts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

// desk is a receiver that remembers what it was sent and answers by a script.
type desk struct {
	t      testing.TB
	answer func(n *Notification) (retry bool, err error) // nil: yes
	takes  time.Duration

	mu    sync.Mutex
	sends []send
	body  map[string][]byte
	busy  int
	most  int
}

type send struct {
	id      string
	attempt int
	at      time.Time
	ok      bool
}

func (d *desk) Notify(ctx context.Context, n *Notification) (bool, error) {
	d.mu.Lock()
	d.busy++
	d.most = max(d.most, d.busy)
	if d.body == nil {
		d.body = map[string][]byte{}
	}
	if first, ok := d.body[n.ID]; ok && !bytes.Equal(first, n.Data) {
		d.t.Errorf("%s came twice with different content: %s and %s", n.ID, first, n.Data)
	}
	d.body[n.ID] = bytes.Clone(n.Data)
	takes := d.takes
	d.mu.Unlock()
	s := send{id: n.ID, attempt: n.Attempt, at: time.Now()}
	var retry bool
	var err error
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-ctx.Done():
			retry, err = true, ctx.Err()
		}
	}
	if err == nil && d.answer != nil {
		retry, err = d.answer(n)
	}
	s.ok = err == nil
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy--
	d.sends = append(d.sends, s)
	return retry, err
}

func (d *desk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sends)
}

func (d *desk) got() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	ids := map[string]int{}
	for _, s := range d.sends {
		if s.ok {
			ids[s.id]++
		}
	}
	return ids
}

func quiet(o Options) Options {
	o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	return o
}

// start runs a router; stop ends it and reports what Run returned.
func start(t testing.TB, o Options, receivers ...Named) (r *Router, stop func() error) {
	t.Helper()
	r, err := New(receivers, quiet(o))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return r, func() error { cancel(); return <-done }
}

func mustStop(t testing.TB, stop func() error) {
	t.Helper()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func TestEachReceiverGetsWhatItWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 3, 2)
		all, high := &desk{t: t}, &desk{t: t}
		reg := prometheus.NewRegistry()
		o := l.options()
		o.Registerer = reg
		r, stop := start(t, o, Named{Name: "all", Receiver: all}, Named{Name: "high", Receiver: high, Match: Match{SeverityMin: "high", Rules: []string{"r"}}})
		severities := []string{"low", "medium", "high", "critical"}
		for i := range 400 {
			l.raise(i, func(a *event.Alert) { a.Severity = severities[i%4] })
		}
		synctest.Wait()
		if n := len(all.got()); n != 400 {
			t.Errorf("all got %d alerts, want 400", n)
		}
		if n := len(high.got()); n != 200 {
			t.Errorf("high got %d alerts, want 200", n)
		}
		st := r.Status()
		if st[0].Delivered != 400 || st[1].Delivered != 200 || st[0].Lag != 0 || st[1].Lag != 0 || st[0].Pending != 0 {
			t.Errorf("status %+v", st)
		}
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
			t.Errorf("metrics: %v %v", problems, err)
		}
		mustStop(t, stop)
		if n := len(l.deliveries()); n != 600 {
			t.Errorf("%d deliveries recorded, want 600", n)
		}
		for _, d := range l.deliveries() {
			if d.Outcome != outcomeDelivered || d.Attempt != 1 || d.Rule != "r" {
				t.Fatalf("delivery %+v", d)
			}
		}
		// Nothing is sent again.
		_, stop = start(t, l.options(), Named{Name: "all", Receiver: all}, Named{Name: "high", Receiver: high})
		synctest.Wait()
		mustStop(t, stop)
		if n := len(all.sends) + len(high.sends); n != 600 {
			t.Errorf("%d sends after a restart, want 600 as before", n)
		}
	})
}

func TestSlowReceiverHoldsUpOnlyItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 2, 1)
		slow, fast := &desk{t: t, takes: time.Minute}, &desk{t: t}
		r, stop := start(t, l.options(), Named{Name: "slow", Receiver: slow, MaxInFlight: 3}, Named{Name: "fast", Receiver: fast})
		for i := range 5000 {
			l.raise(i, nil)
		}
		synctest.Wait()
		st := r.Status()
		if n := len(fast.got()); n != 5000 || st[1].Lag != 0 {
			t.Errorf("fast got %d, lag %d", n, st[1].Lag)
		}
		if slow.most != 3 || st[0].InFlight != 3 {
			t.Errorf("%d attempts of slow at once, want 3", slow.most)
		}
		if st[0].Lag != 5000 || st[0].Pending > DefaultPendingMax+batchMax {
			t.Errorf("slow: lag %d, in memory %d", st[0].Lag, st[0].Pending)
		}
		began := time.Now()
		mustStop(t, stop) // the three under way are cut off
		if took := time.Since(began); took != 15*time.Second {
			t.Errorf("the stop took %s", took)
		}
	})
}

func TestBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 1, 1)
		d := &desk{t: t, answer: func(n *Notification) (bool, error) {
			if n.Attempt <= 4 {
				return true, errors.New("not now")
			}
			return false, nil
		}}
		o := l.options()
		o.Random = func() float64 { return 0.5 }
		_, stop := start(t, o, Named{Name: "d", Receiver: d})
		l.raise(0, nil)
		time.Sleep(time.Hour)
		mustStop(t, stop)
		var waits []time.Duration
		for i := 1; i < len(d.sends); i++ {
			waits = append(waits, d.sends[i].at.Sub(d.sends[i-1].at))
		}
		want := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second}
		if fmt.Sprint(waits) != fmt.Sprint(want) {
			t.Errorf("waits %v, want half of a bound that doubles: %v", waits, want)
		}
		ds := l.deliveries()
		if len(ds) != 5 || ds[0].Outcome != outcomeRetry || ds[4].Outcome != outcomeDelivered || ds[4].Attempt != 5 ||
			ds[0].NextAttempt != event.FromTime(d.sends[1].at) || ds[0].Error != "not now" {
			t.Errorf("deliveries %+v", ds)
		}
	})
}

func TestFullJitter(t *testing.T) {
	one := func() float64 { return 0.9999999 }
	for tries, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 9: 256 * time.Second, 10: 5 * time.Minute, 40: 5 * time.Minute, 1 << 30: 5 * time.Minute} {
		if got := fullJitter(time.Second, 5*time.Minute, tries, one).Round(time.Second); got != want {
			t.Errorf("attempt %d: at most %s, want %s", tries, got, want)
		}
	}
	if got := fullJitter(time.Second, time.Minute, 5, func() float64 { return 0 }); got != 0 {
		t.Errorf("at least %s, want 0", got)
	}
}

func TestRetryAfterHoldsTheWholeReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 1, 1)
		first := true
		d := &desk{t: t, answer: func(*Notification) (bool, error) {
			if first {
				first = false
				return true, &Refusal{Reason: "429", RetryAfter: 90 * time.Second}
			}
			return false, nil
		}}
		_, stop := start(t, l.options(), Named{Name: "d", Receiver: d, MaxInFlight: 1})
		began := time.Now()
		for i := range 10 {
			l.raise(i, nil)
		}
		time.Sleep(time.Hour)
		mustStop(t, stop)
		for i, s := range d.sends {
			if after := s.at.Sub(began); i > 0 && after != 90*time.Second {
				t.Errorf("send %d after %s, want 90s", i, after)
			}
		}
		if len(d.got()) != 10 {
			t.Errorf("%d delivered", len(d.got()))
		}
	})
}

func TestRetryAfterIsCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 1, 1)
		d := &desk{t: t, answer: func(n *Notification) (bool, error) {
			if n.Attempt == 1 {
				return true, &Refusal{Reason: "429", RetryAfter: 1000 * time.Hour}
			}
			return false, nil
		}}
		_, stop := start(t, l.options(), Named{Name: "d", Receiver: d})
		l.raise(0, nil)
		time.Sleep(2 * time.Hour)
		mustStop(t, stop)
		if len(d.sends) != 2 || d.sends[1].at.Sub(d.sends[0].at) != time.Hour {
			t.Errorf("sends %+v, want the second after an hour", d.sends)
		}
	})
}

func TestReceiverDownIsProbedAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 2, 1)
		var up atomic.Bool
		d := &desk{t: t, answer: func(*Notification) (bool, error) {
			if !up.Load() {
				return true, errors.New("connection refused")
			}
			return false, nil
		}}
		r, stop := start(t, l.options(), Named{Name: "d", Receiver: d})
		for i := range 3000 {
			l.raise(i, nil)
		}
		time.Sleep(time.Hour)
		if n := d.count(); n < 60 || n > 1500 { // a probe each 15 s in the mean
			t.Errorf("%d attempts in an hour of outage", n)
		}
		if st := r.Status()[0]; !st.Probing || st.Lag != 3000 || st.LastError != "connection refused" {
			t.Errorf("status %+v", st)
		}
		up.Store(true)
		time.Sleep(31 * time.Second) // the longest between probes
		synctest.Wait()
		if n := len(d.got()); n != 3000 {
			t.Errorf("%d delivered half a minute after the outage, want 3000", n)
		}
		if st := r.Status()[0]; st.Probing || st.Lag != 0 || st.Retrying != 0 {
			t.Errorf("status %+v", st)
		}
		mustStop(t, stop)
	})
}

func TestOneBadAlertDoesNotHoldUpTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 1, 1)
		bad := event.AlertID("tx", 0, 7, "r")
		d := &desk{t: t, answer: func(n *Notification) (bool, error) {
			if n.ID == bad {
				return true, errors.New("500")
			}
			return false, nil
		}}
		r, stop := start(t, l.options(), Named{Name: "d", Receiver: d, RetryFor: 2 * time.Hour})
		for i := range 5000 {
			l.raise(i, nil)
		}
		time.Sleep(time.Minute)
		if n := len(d.got()); n != 4999 {
			t.Errorf("%d delivered beside the bad one, want 4999", n)
		}
		if st := r.Status()[0]; st.Retrying != 1 || st.Lag != 1 {
			t.Errorf("status %+v", st)
		}
		time.Sleep(3 * time.Hour)
		mustStop(t, stop)
		ds := l.deliveries()
		last := ds[len(ds)-1]
		if last.Outcome != outcomeFailed || last.Alert != bad || !strings.Contains(last.Error, "given up after") || last.Attempt < 10 {
			t.Errorf("the bad one ends as %+v", last)
		}
		if st := r.Status()[0]; st.Failed != 1 || st.Delivered != 4999 {
			t.Errorf("status %+v", st)
		}
	})
}

func TestRefusalForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 1, 1)
		d := &desk{t: t, answer: func(n *Notification) (bool, error) { n.Status = 404; return false, errors.New("404 Not Found") }}
		_, stop := start(t, l.options(), Named{Name: "d", Receiver: d})
		for i := range 20 {
			l.raise(i, nil)
		}
		synctest.Wait()
		mustStop(t, stop)
		if len(d.sends) != 20 {
			t.Errorf("%d attempts, want 20", len(d.sends))
		}
		for _, v := range l.deliveries() {
			if v.Outcome != outcomeFailed || v.Status != 404 || v.Attempt != 1 {
				t.Fatalf("delivery %+v", v)
			}
		}
	})
}

func TestGracefulStopLetsAttemptsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 1, 1)
		l.lazy = true
		d := &desk{t: t, takes: 3 * time.Second}
		_, stop := start(t, l.options(), Named{Name: "d", Receiver: d})
		for i := range 100 {
			l.raise(i, nil)
		}
		synctest.Wait() // eight are under way
		mustStop(t, stop)
		if len(d.got()) != 8 {
			t.Fatalf("%d delivered, want the 8 that were under way", len(d.got()))
		}
		// The stop made it durable: even a crash after it sends none of them again.
		l = l.crash()
		_, stop = start(t, l.options(), Named{Name: "d", Receiver: d})
		time.Sleep(time.Hour)
		mustStop(t, stop)
		if len(d.sends) != 100 || len(d.got()) != 100 {
			t.Errorf("%d sends of %d alerts, want 100 of 100", len(d.sends), len(d.got()))
		}
	})
}

// TestRestartKeepsBackOff restarts a router while an alert waits for a
// Retry-After.
func TestRestartKeepsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 1, 1)
		d := &desk{t: t, answer: func(n *Notification) (bool, error) {
			if n.Attempt == 1 {
				return true, &Refusal{Reason: "429", RetryAfter: 10 * time.Minute}
			}
			return false, nil
		}}
		for range 3 {
			_, stop := start(t, l.options(), Named{Name: "d", Receiver: d})
			if d.count() == 0 {
				l.raise(0, nil)
			}
			time.Sleep(time.Minute)
			mustStop(t, stop)
			l = l.crash()
		}
		_, stop := start(t, l.options(), Named{Name: "d", Receiver: d})
		time.Sleep(time.Hour)
		mustStop(t, stop)
		if len(d.sends) != 2 || d.sends[1].attempt != 2 || d.sends[1].at.Sub(d.sends[0].at) != 10*time.Minute {
			t.Errorf("sends %+v, want the second, as attempt 2, after 10m", d.sends)
		}
	})
}

func TestNewReceiverBeginsAtTheLastStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 2, 1)
		_, stop := start(t, l.options()) // no receiver yet
		for i := range 50 {
			l.raise(i, nil)
		}
		synctest.Wait()
		mustStop(t, stop)
		for i := range 10 { // raised by an engine that starts before the router
			l.raise(50+i, nil)
		}
		d := &desk{t: t}
		_, stop = start(t, l.options(), Named{Name: "d", Receiver: d})
		for i := range 5 {
			l.raise(60+i, nil)
		}
		synctest.Wait()
		mustStop(t, stop)
		if len(d.got()) != 15 {
			t.Errorf("a new receiver got %d alerts, want the 15 since the last stop", len(d.got()))
		}
	})
}

func TestRestartReadsABoundedTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 1, 1)
		d := &desk{t: t}
		_, stop := start(t, l.options(), Named{Name: "d", Receiver: d})
		const n = 12_000
		for i := range n {
			l.raise(i, nil)
		}
		synctest.Wait()
		l = l.crash() // no last positions record
		mustStop(t, stop)
		_, stop = start(t, l.options(), Named{Name: "d", Receiver: d})
		synctest.Wait()
		mustStop(t, stop)
		if l.reads > 4*recordsMax {
			t.Errorf("the restart read %d of %d records", l.reads, n)
		}
		if len(d.sends) != n {
			t.Errorf("%d sends, want %d", len(d.sends), n)
		}
	})
}

func TestLogThatCannotBeWrittenHoldsAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 1, 1)
		d := &desk{t: t}
		_, stop := start(t, l.options(), Named{Name: "d", Receiver: d})
		for i := range 10 {
			l.raise(i, nil)
		}
		synctest.Wait()
		l.mu.Lock()
		l.broken = errors.New("no space left on device")
		l.mu.Unlock()
		time.Sleep(time.Hour)
		l.mu.Lock()
		l.broken = nil
		l.mu.Unlock()
		for i := range 5000 {
			l.raise(10+i, nil)
		}
		time.Sleep(time.Minute)
		if d.count() != 5010 {
			t.Errorf("%d sends, want 5010", d.count())
		}
		d.mu.Lock()
		d.takes = time.Second
		d.mu.Unlock()
		l.raise(5010, nil)
		synctest.Wait()
		l.mu.Lock()
		l.broken = errors.New("no space left on device")
		l.mu.Unlock()
		if err := stop(); err == nil || !strings.Contains(err.Error(), "no space left") {
			t.Errorf("stop with a full disk: %v", err)
		}
	})
}

func TestForeignRecordsAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemLog(seeds.Rand(t), 1, 1)
		d := &desk{t: t}
		for _, bad := range []string{"", "not JSON", "{}", `{"id":5}`} {
			l.parts[event.TopicAlerts][0].records = append(l.parts[event.TopicAlerts][0].records, memRecord(bad, len(l.parts[event.TopicAlerts][0].records)))
			l.parts[event.TopicDeliveries][0].records = append(l.parts[event.TopicDeliveries][0].records, memRecord(bad, len(l.parts[event.TopicDeliveries][0].records)))
		}
		l.parts[event.TopicDeliveries][0].flush(4)
		l.raise(0, nil)
		_, stop := start(t, l.options(), Named{Name: "d", Receiver: d})
		synctest.Wait()
		mustStop(t, stop)
		if len(d.got()) != 1 {
			t.Errorf("%d delivered, want 1", len(d.got()))
		}
	})
}

// TestCrashes kills the router at random moments and starts it again on what was
// durable.
func TestCrashes(t *testing.T) {
	seeds.Each(t, 12, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) { crashRound(t, rand.New(rand.NewPCG(seed, 1))) })
	})
}

func crashRound(t *testing.T, random *rand.Rand) {
	l := newMemLog(rand.New(rand.NewPCG(random.Uint64(), 1)), 1+random.IntN(4), 1+random.IntN(3))
	l.lazy = true
	var mu sync.Mutex
	scripted := rand.New(rand.NewPCG(random.Uint64(), 1)) // under mu
	flaky := func(*Notification) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		switch scripted.IntN(12) {
		case 0:
			return true, errors.New("500")
		case 1:
			return true, &Refusal{Reason: "429", RetryAfter: time.Duration(scripted.IntN(3000)) * time.Millisecond}
		}
		return false, nil
	}
	desks := []*desk{{t: t, answer: flaky, takes: 20 * time.Millisecond}, {t: t}}
	var raised []event.Alert
	for range 5 {
		recorded := map[string]bool{} // durably done before this life
		for _, d := range l.deliveries() {
			if d.Outcome != outcomeRetry {
				recorded[d.Receiver+d.Alert] = true
			}
		}
		begun := []int{len(desks[0].sends), len(desks[1].sends)}
		o := l.options()
		o.Random = func() float64 { mu.Lock(); defer mu.Unlock(); return scripted.Float64() }
		o.CheckpointEvery = time.Duration(1+random.IntN(2000)) * time.Millisecond
		o.PendingMax = 1 + random.IntN(300)
		_, stop := start(t, o, Named{Name: "0", Receiver: desks[0]}, Named{Name: "1", Receiver: desks[1]})
		for range random.IntN(400) {
			raised = append(raised, l.raise(len(raised), nil))
		}
		time.Sleep(time.Duration(random.IntN(4000)) * time.Millisecond)
		crashed := l.crash()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		l = crashed
		for i, d := range desks {
			for _, s := range d.sends[begun[i]:] {
				if recorded[strconv.Itoa(i)+s.id] {
					t.Errorf("receiver %d got %s again although its delivery was durable", i, s.id)
				}
			}
		}
	}
	r, stop := start(t, l.options(), Named{Name: "0", Receiver: desks[0]}, Named{Name: "1", Receiver: desks[1]})
	time.Sleep(6 * time.Hour)
	mustStop(t, stop)
	for i, d := range desks {
		got := d.got()
		for _, a := range raised {
			if got[a.ID] == 0 {
				t.Errorf("receiver %d never got %s", i, a.ID)
			}
		}
		// Each alert has one durable end, so the totals agree over the restarts.
		if st := r.Status()[i]; st.Delivered != int64(len(raised)) || st.Lag != 0 {
			t.Errorf("receiver %d: delivered %d, lag %d of %d", i, st.Delivered, st.Lag, len(raised))
		}
	}
}
