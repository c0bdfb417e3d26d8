package commitlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// TestCrash runs appenders against a log, cuts the power at a moment of their
// choosing, and opens what is left: every acknowledged batch is there, offsets
// are dense, what is there was sent, and an idempotent producer that goes on after
// the crash leaves nothing twice. Several crashes follow one another.
func TestCrash(t *testing.T) {
	seeds.Each(t, 250, func(t *testing.T, seed uint64) { newCrashTest(t, seed).run() })
}

// crashTest is what outlives the crashes: the file system, and what was promised.
type crashTest struct {
	*testing.T
	rng *rand.Rand
	fs  *vfs.Mem
	o   Options

	mu      sync.Mutex
	sent    map[string]bool             // topic/partition/base/tag
	acked   map[string]map[int64]string // topic/partition: tag by base
	topics  map[string]bool             // made and acknowledged
	mayGo   map[string]bool             // their deletion began
	deleted map[string]bool
	maxID   int64
	crashed bool
	tags    int
	idle    chan struct{} // closed when nobody works
	left    atomic.Int64  // appends until the power goes
	now     chan struct{} // closed then

	sequence int32 // of the idempotent producer, the next one
	pending  string
}

func newCrashTest(t *testing.T, seed uint64) *crashTest {
	c := &crashTest{T: t, rng: rand.New(rand.NewPCG(seed, 7)), fs: vfs.NewMem(seed),
		sent: map[string]bool{}, acked: map[string]map[int64]string{}, topics: map[string]bool{}, mayGo: map[string]bool{}, deleted: map[string]bool{}}
	c.o = testOptions(nil)
	c.o.SegmentBytes = int64(1024 << c.rng.IntN(5))
	c.o.CheckpointBytes = int64(512 << c.rng.IntN(6))
	c.o.UnflushedMax = int64(1024 << c.rng.IntN(8))
	c.o.roomFrom, c.o.marksMax = int64(1<<c.rng.IntN(16)), int64(1<<c.rng.IntN(12))
	return c
}

func (c *crashTest) run() {
	for range 2 + c.rng.IntN(3) {
		l := c.reopen()
		c.work(l)
		c.crash(l)
	}
	l := c.reopen()
	if c.rng.IntN(2) == 0 { // in good order this time
		if err := l.Close(); err != nil {
			c.Fatal(err)
		}
		if c.rng.IntN(2) == 0 {
			c.fs = c.fs.CrashClone() // after a clean shutdown nothing is left to lose
			if _, err := c.fs.Stat("data/clean"); err != nil {
				c.Fatal(err)
			}
		}
		l = c.reopen()
	}
	if err := l.Close(); err != nil {
		c.Fatal(err)
	}
}

// reopen opens and verifies, perhaps with another crash right after, which must
// change nothing.
func (c *crashTest) reopen() *Log {
	c.o.FS = c.fs
	l := mustOpen(c, "data", c.o)
	before := c.verify(l)
	if c.rng.IntN(3) == 0 {
		again := c.fs.CrashClone()
		_ = l.Close()
		c.fs, c.o.FS = again, again
		l = mustOpen(c, "data", c.o)
		if after := c.verify(l); !maps.Equal(before, after) {
			c.Fatalf("recovered %v, and after a crash %v", before, after)
		}
	}
	return l
}

// verify compares the log with what was promised, and returns the ends.
func (c *crashTest) verify(l *Log) map[string]int64 {
	c.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.crashed = false
	ends := map[string]int64{}
	for name := range c.topics {
		if _, ok := l.Topic(name); !ok && !c.mayGo[name] {
			c.Fatalf("topic %s is lost", name)
		}
	}
	for _, topic := range l.Topics() {
		if c.deleted[topic.Name()] {
			c.Fatalf("topic %s is back", topic.Name())
		}
		for _, p := range topic.Partitions() {
			if err := p.Err(); err != nil {
				c.Fatal(err)
			}
			ends[p.String()] = c.verifyPartition(p)
		}
	}
	if id, err := l.NewProducerID(); err != nil || id <= c.maxID {
		c.Fatalf("producer id %d again, %d was given: %v", id, c.maxID, err)
	} else {
		c.maxID = id
	}
	return ends
}

func (c *crashTest) verifyPartition(p *Partition) int64 {
	c.Helper()
	got, err := readAll(p, 0, 1+c.rng.IntN(5000))
	if err != nil {
		c.Fatal(err)
	}
	next, seen := int64(0), map[string]bool{}
	acked := maps.Clone(c.acked[p.String()])
	r := record.NewReader(record.Options{})
	for _, b := range got {
		h, _ := record.Check(b)
		if h.BaseOffset != next {
			c.Fatalf("%v: offset %d after %d", p, h.BaseOffset, next)
		}
		next = h.LastOffset() + 1
		r.Reset(b)
		rec, err := r.Next()
		if err != nil {
			c.Fatal(err)
		}
		tag := string(rec.Key)
		if !c.sent[fmt.Sprint(p, h.BaseOffset, tag)] {
			c.Fatalf("%v: batch %s at %d was never sent there", p, tag, h.BaseOffset)
		}
		if want, ok := acked[h.BaseOffset]; ok && want != tag {
			c.Fatalf("%v: %s at %d, acknowledged was %s", p, tag, h.BaseOffset, want)
		}
		delete(acked, h.BaseOffset)
		if seen[tag] {
			c.Fatalf("%v: batch %s is there twice", p, tag)
		}
		seen[tag] = true
	}
	for range min(next, 20) { // the indexes are those of these batches
		offset := c.rng.Int64N(next)
		run, err := p.Read(p.NewCursor(offset), 1)
		if h, herr := record.ParseHeader(run); err != nil || herr != nil || h.BaseOffset > offset || h.LastOffset() < offset {
			c.Fatalf("%v: looked for offset %d, found %d to %d: %v", p, offset, h.BaseOffset, h.LastOffset(), err)
		}
	}
	if len(acked) > 0 {
		c.Fatalf("%v: ends at %d, but %v were acknowledged", p, next, acked)
	}
	if p.HighWatermark() != next || p.End() != next {
		c.Fatalf("%v: watermark %d, end %d, read to %d", p, p.HighWatermark(), p.End(), next)
	}
	return next
}

// work runs appenders until they stop themselves or the crash comes.
func (c *crashTest) work(l *Log) {
	for _, name := range []string{"a", "b"} {
		if _, ok := l.Topic(name); !ok {
			mustTopic(c, l, name, 3)
			c.mu.Lock()
			c.topics[name] = true
			c.mu.Unlock()
		}
	}
	c.left.Store(1 + c.rng.Int64N(120))
	c.now = make(chan struct{})
	var group sync.WaitGroup
	for range 3 {
		rng := rand.New(rand.NewPCG(c.rng.Uint64(), 1))
		group.Go(func() { c.appender(l, rng) })
	}
	rng := rand.New(rand.NewPCG(c.rng.Uint64(), 2))
	group.Go(func() { c.idempotent(l, rng) })
	group.Go(func() { c.admin(l) })
	c.idle = make(chan struct{})
	go func(idle chan struct{}) {
		group.Wait()
		close(idle)
	}(c.idle)
	select {
	case <-c.idle:
	case <-c.now:
	}
}

// step counts an append that is under way or done.
func (c *crashTest) step() {
	if c.left.Add(-1) == 0 {
		close(c.now)
	}
}

func (c *crashTest) appender(l *Log, rng *rand.Rand) {
	for range 5 + rng.IntN(25) {
		p, err := l.Partition([]string{"a", "b"}[rng.IntN(2)], int32(rng.IntN(2)))
		if err != nil {
			return
		}
		if !c.append(p, record.BatchOptions{}, c.tag(), rng, int16(rng.IntN(3)-1)) {
			return
		}
		if rng.IntN(10) == 0 {
			_ = p.checkpoint(context.Background()) // the crash may come first
		}
		if rng.IntN(10) == 0 {
			l.marks.rotate()
		}
	}
}

func (c *crashTest) tag() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tags++
	return fmt.Sprint("t", c.tags)
}

// append sends one batch and notes what it may expect; false after the crash.
func (c *crashTest) append(p *Partition, o record.BatchOptions, tag string, rng *rand.Rand, acks int16) bool {
	batch := newBatch(o, tag, 1+rng.IntN(4), rng.IntN(700), 1)
	base, err := p.Append(context.Background(), batch, 0)
	if err != nil {
		return false
	}
	c.step()
	h, _ := record.ParseHeader(batch)
	c.mu.Lock()
	c.sent[fmt.Sprint(p, base, tag)] = true
	c.mu.Unlock()
	if acks == 0 {
		return true
	}
	if p.Wait(context.Background(), base+int64(h.LastOffsetDelta)) != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.crashed {
		return false // the promise came too late to count
	}
	if c.acked[p.String()] == nil {
		c.acked[p.String()] = map[int64]string{}
	}
	c.acked[p.String()][base] = tag
	return true
}

// idempotent is a producer that retries the batch it has no ack for, forever.
func (c *crashTest) idempotent(l *Log, rng *rand.Rand) {
	p, err := l.Partition("a", 2)
	for range 5 + rng.IntN(20) {
		c.mu.Lock()
		if c.crashed || err != nil {
			c.mu.Unlock()
			return
		}
		if c.pending == "" {
			c.pending = fmt.Sprint("i", c.sequence)
		}
		tag, o := c.pending, record.BatchOptions{ProducerID: 77, BaseSequence: c.sequence}
		c.mu.Unlock()
		// One record each, so that a retry has the same sequences.
		base, err := p.Append(context.Background(), newBatch(o, tag, 1, 100, 1), 0)
		if err != nil {
			if errors.Is(err, ErrOutOfOrderSequence) {
				c.Error(err)
			}
			return
		}
		c.step()
		c.mu.Lock()
		c.sent[fmt.Sprint(p, base, tag)] = true
		c.mu.Unlock()
		if p.Wait(context.Background(), base) != nil {
			return
		}
		c.mu.Lock()
		if !c.crashed {
			if c.acked[p.String()] == nil {
				c.acked[p.String()] = map[int64]string{}
			}
			c.acked[p.String()][base] = tag
			c.pending = ""
			c.sequence++
		}
		c.mu.Unlock()
	}
}

// admin makes and deletes topics, and takes producer ids.
func (c *crashTest) admin(l *Log) {
	name := strings.ToUpper(c.tag())
	if _, err := l.CreateTopic(TopicSpec{Name: name, Partitions: 1}); err != nil {
		return
	}
	c.mu.Lock()
	if !c.crashed {
		c.topics[name] = true
	}
	c.mu.Unlock()
	if id, err := l.NewProducerID(); err == nil {
		c.mu.Lock()
		if !c.crashed {
			c.maxID = max(c.maxID, id)
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	known := slices.Sorted(maps.Keys(c.topics))
	c.mu.Unlock()
	for _, name := range known {
		if name == "a" || name == "b" {
			continue
		}
		c.mu.Lock()
		c.mayGo[name] = true
		c.mu.Unlock()
		if l.DeleteTopic(name) == nil {
			c.mu.Lock()
			if !c.crashed {
				c.deleted[name] = true
			}
			c.mu.Unlock()
		}
	}
}

// crash takes what the disk may hold at this moment. Promises made before it
// count, later ones do not.
func (c *crashTest) crash(l *Log) {
	c.mu.Lock()
	c.crashed = true
	c.fs = c.fs.CrashClone()
	c.mu.Unlock()
	_ = l.Close() // of the machine that is no more
	<-c.idle
}
