package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

// wall is a clock that a test sets and that goes on from there.
type wall struct{ ahead atomic.Int64 }

func (w *wall) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func (w *wall) set(unix int64) { w.ahead.Store(int64(time.Until(time.Unix(unix, 0)))) }

// at is the time in whole Unix seconds.
func at(unix int64) event.Time { return event.FromTime(time.Unix(unix, 0)) }

const testIdle = 10 * time.Second

// idling runs an engine in a bubble and gives it to a test of what time does.
func idling(t *testing.T, partitions int32, test func(t *testing.T, b *bench, w *wall, watermarks func() []event.Time)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(1, nil)
		b.stream = testStream(partitions)
		b.stream.Idle = testIdle
		w := &wall{}
		w.set(100_000)
		e := b.engine(t, func(o *Options) { o.Now = w.now })
		stop := start(t, e)
		synctest.Wait()
		test(t, b, w, func() (out []event.Time) {
			synctest.Wait()
			for _, s := range e.Status() {
				if s.Err != "" {
					t.Errorf("partition %d: %s", s.Partition, s.Err)
				}
				out = append(out, s.Watermark)
			}
			return out
		})
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
}

func eventAt(unix int64) string { return fmt.Sprintf(`{"ts": %d, "key": "k", "amount": 1}`, unix) }

func sameTimes(t *testing.T, when string, got []event.Time, want ...event.Time) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: watermarks %v, want %v", when, got, want)
	}
}

// TestIdleFollows lets a partition be without records while another goes on, and then
// both.
func TestIdleFollows(t *testing.T) {
	idling(t, 3, func(t *testing.T, b *bench, w *wall, watermarks func() []event.Time) {
		time.Sleep(300 * time.Millisecond) // so that nothing happens at once
		b.log.produce("in", 0, eventAt(100_000))
		b.log.produce("in", 1, eventAt(100_000))
		time.Sleep(400 * time.Millisecond)
		goOn := func(n int) { // events come 2 s after their time
			for range n {
				time.Sleep(time.Second)
				b.log.produce("in", 0, eventAt(w.now().Unix()-2))
			}
		}
		goOn(9)
		sameTimes(t, "before the idle time", watermarks(), at(100_002), at(99_995), event.MinTime)
		goOn(1)
		// The empty one is 10 s behind the newest of the second, which was not idle then,
		// and 5 s for the lateness. A mark of the second would not be ahead of its event.
		sameTimes(t, "after it", watermarks(), at(100_003), at(99_995), at(99_985))
		goOn(10)
		sameTimes(t, "10 s later", watermarks(), at(100_013), at(100_002), at(100_002))
		time.Sleep(40 * time.Second)
		// All are idle now: the clock's time, less the idle time, less the lateness.
		for p, got := range watermarks() {
			if now := event.FromTime(w.now()); got > now.Sub(15*time.Second) || got < now.Sub(26*time.Second) {
				t.Errorf("partition %d: watermark %v at %v", p, got, now)
			}
		}
	})
}

// TestIdleNotMarked has partitions without records that wait.
func TestIdleNotMarked(t *testing.T) {
	t.Run("old data", func(t *testing.T) {
		idling(t, 2, func(t *testing.T, b *bench, w *wall, watermarks func() []event.Time) {
			for i := range int64(600) { // a file that is loaded fast: all of it to one partition
				b.log.produce("in", 0, eventAt(1000+100*i))
				time.Sleep(time.Second)
			}
			sameTimes(t, "while it is loaded", watermarks(), at(1000+100*599-5), event.MinTime)
			b.log.produce("in", 1, eventAt(1000))
			sameTimes(t, "the other partition's turn", watermarks(), at(1000+100*599-5), at(995))
			if n := b.journaled(kindIdle); n != 0 {
				t.Errorf("%d marks", n)
			}
		})
	})
	t.Run("an open transaction", func(t *testing.T) {
		idling(t, 1, func(t *testing.T, b *bench, w *wall, watermarks func() []event.Time) {
			b.log.produce("in", 0, eventAt(100_000), eventAt(100_001))
			synctest.Wait()
			b.log.mu.Lock()
			p := b.log.part("in", 0)
			p.recs = append(p.recs, p.recs[0]) // there, and not to be read yet
			b.log.mu.Unlock()
			time.Sleep(time.Minute)
			sameTimes(t, "while it is open", watermarks(), at(99_996))
			b.log.mu.Lock()
			p.recs = p.recs[:2]
			b.log.mu.Unlock()
			time.Sleep(testIdle)
			if got := watermarks(); got[0] <= at(99_996) {
				t.Errorf("once it is aborted: watermark %v", got)
			}
		})
	})
	t.Run("far behind the others", func(t *testing.T) {
		idling(t, 2, func(t *testing.T, b *bench, w *wall, watermarks func() []event.Time) {
			b.log.produce("in", 0, eventAt(50_000)) // old data was being loaded there
			for range int64(59) {
				b.log.produce("in", 1, eventAt(w.now().Unix()))
				time.Sleep(time.Minute)
			}
			if got := watermarks(); got[0] != at(49_995) {
				t.Errorf("within an hour: watermark %v", got[0])
			}
			for range int64(3) {
				b.log.produce("in", 1, eventAt(w.now().Unix()))
				time.Sleep(time.Minute)
			}
			if got := watermarks(); got[0] < at(103_000) {
				t.Errorf("after an hour: watermark %v", got[0])
			}
		})
	})
	t.Run("switched off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(1, nil)
			b.stream = testStream(1)
			w := &wall{}
			w.set(100_000)
			b.opts.Now = w.now
			b.log.produce("in", 0, eventAt(100_000))
			stop := time.AfterFunc(time.Hour, func() { b.log.produce("in", 0) })
			defer stop.Stop()
			b.run(t)
			if n := b.journaled(kindIdle); n != 0 {
				t.Errorf("%d marks", n)
			}
		})
	})
}

// idleLives runs an engine over inputs that come in parts, with waits between them,
// through a number of kills. It returns how many marks were written.
func idleLives(t *testing.T, b *bench, w *wall, r *rand.Rand, in [][]string, kills int) int {
	t.Helper()
	b.opts.Now = w.now
	for rounds := 3 + r.IntN(6); rounds >= 0; rounds-- {
		newest := int64(1000)
		for p, values := range in {
			n := r.IntN(len(values)/2 + 1)
			if rounds == 0 {
				n = len(values)
			} else if r.IntN(3) == 0 {
				n = 0
			}
			b.log.produce("in", int32(p), values[:n]...)
			in[p] = values[n:]
			for _, rec := range b.log.part("in", int32(p)).recs {
				var ts int64
				if _, err := fmt.Sscanf(string(rec.Value), `{"ts": %d,`, &ts); err == nil {
					newest = max(newest, ts)
				}
			}
		}
		w.set(newest + r.Int64N(20))
		for {
			b.opts.BatchRows = 1 + r.IntN(300)
			b.opts.CheckpointEvery = []time.Duration{time.Nanosecond, time.Second, time.Hour}[r.IntN(3)]
			if kills > 0 && r.IntN(2) == 0 {
				kills--
				b.log.fuse = 1 + r.IntN(30)
			}
			b.runFor(t, time.Duration(r.IntN(60))*time.Second)
			dead := b.log.dead
			b.log.revive()
			b.fs = b.fs.CrashClone()
			if !dead {
				break
			}
		}
	}
	return b.journaled(kindIdle)
}

// journaled is how many records of a kind are in the journal.
func (b *bench) journaled(kind string) (n int) {
	for _, r := range b.log.part(TopicJournal, 0).recs {
		if strings.Contains(string(r.Value), fmt.Sprintf(`"kind":%q`, kind)) {
			n++
		}
	}
	return n
}

// runFor runs an engine until all input is decided, and then for some time.
func (b *bench) runFor(t *testing.T, d time.Duration) {
	t.Helper()
	e := b.engine(t)
	stop := start(t, e)
	if killed := b.log.waitEnds("in", int(b.stream.Partitions)); !killed {
		time.Sleep(d)
	}
	if err := stop(); err != nil && !b.log.isDead() {
		t.Fatal(err)
	}
}

// TestIdleReplay wants what was decided through kills, restarts and idle marks to be
// what the log and the journal give again, in batches of any size, and killed again.
func TestIdleReplay(t *testing.T) {
	marks, matter := 0, 0
	seeds.Each(t, 25, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 41))
			b, w := newBench(seed, nil), &wall{}
			b.stream.AllDecisions = r.IntN(2) == 0
			b.stream.Idle = testIdle
			in := make([][]string, testPartitions)
			for p := range in {
				in[p] = inputs(r, r.IntN(300))
			}
			marks += idleLives(t, b, w, r, in, r.IntN(6))
			want := b.result()

			straight := replayOf(seed+1, b)
			straight.opts.BatchRows, straight.opts.CheckpointEvery = 1+r.IntN(300)*r.IntN(2), time.Hour
			straight.run(t)
			sameResults(t, want, straight.result())

			again := replayOf(seed+2, b)
			again.untilDecided(r, r.IntN(5), 30, func() { again.run(t) })
			sameResults(t, want, again.result())

			without := replayOf(seed+3, b)
			delete(without.log.parts, partName(TopicJournal, 0))
			without.run(t)
			if fmt.Sprint(without.result()) != fmt.Sprint(want) {
				matter++
			}
		})
	})
	if marks == 0 || matter == 0 {
		t.Errorf("%d marks, and %d worlds in which they mattered: the test looks at nothing", marks, matter)
	}
}

// TestFillWithIdleMarks loses a window's state: it is made again from the log with the
// marks where they were, the ones at the checkpoint's own cursor among them.
func TestFillWithIdleMarks(t *testing.T) {
	seeds.Each(t, 15, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 42))
			b, w := newBench(seed, nil), &wall{}
			b.stream = testStream(1)
			b.stream.Idle, b.stream.AllDecisions = testIdle, true
			idleLives(t, b, w, r, [][]string{inputs(r, 200)}, 0)
			second := inputs(r, 100)

			whole := b.clone(seed + 1)
			for _, one := range []*bench{b, whole} {
				one.opts.Journal = JournalReplay
				one.log.produce("in", 0, second...)
			}
			b.prog = renamed{b.prog} // its operator is not in the checkpoint
			b.run(t)
			whole.run(t)
			sameResults(t, whole.result(), b.result())
		})
	})
}

// TestIdleAtTheStart marks a partition before its first event, restarts, and wants the
// mark to be in force.
func TestIdleAtTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, w := newBench(1, nil), &wall{}
		w.set(100_000)
		b.stream = testStream(2)
		b.stream.Idle, b.opts.Now = testIdle, w.now
		b.log.produce("in", 0, eventAt(100_000))
		b.runFor(t, time.Minute)
		b.log.produce("in", 1, eventAt(99_000))
		b.opts.Journal = JournalReplay
		b.run(t)
		if got := b.log.outputOf(event.TopicDeadLetters, outputPartitions, "in/1"); len(got) != 1 || !strings.Contains(got[0], `"late"`) {
			t.Errorf("dead letters %q", got)
		}
	})
}
