package commitlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// compactTest has a compacted partition and what was put into it.
type compactTest struct {
	testing.TB
	rng      *rand.Rand
	fs       *vfs.Mem
	o        Options
	clock    atomic.Int64 // in milliseconds
	l        *Log
	p        *Partition
	records  map[int64]sentRecord // by offset
	sequence map[int64]int32
	open     map[int64][]int64 // offsets of the open transaction, by producer
	lastSent map[int64][]byte
	lastBase map[int64]int64
	deleted  int64 // by DeleteRecords, below it
}

type sentRecord struct {
	key, value string
	tombstone  bool
	at         int64
	state      recordState
}

type recordState int8

const (
	committed recordState = iota
	undecided
	aborts
)

func newCompactTest(t testing.TB, seed uint64, configs ...string) *compactTest {
	c := &compactTest{TB: t, rng: rand.New(rand.NewPCG(seed, 11)), fs: vfs.NewMem(seed),
		records: map[int64]sentRecord{}, sequence: map[int64]int32{}, open: map[int64][]int64{}, lastSent: map[int64][]byte{}, lastBase: map[int64]int64{}}
	c.clock.Store(1_000_000)
	c.o = testOptions(c.fs)
	c.o.SegmentBytes = int64(1024 << c.rng.IntN(3))
	c.o.CompactBytes = keySize * int64(2+c.rng.IntN(40))
	c.o.roomFrom = int64(1 << c.rng.IntN(16))
	c.o.Now = c.now // the janitor asks, too
	c.l = mustOpenAlone(t, "data", c.o)
	all := append([]string{"cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0", "delete.retention.ms", "10000"}, configs...)
	c.p = mustTopic(t, c.l, "a", 1, all...).Partitions()[0]
	return c
}

// send appends a batch of a few records of producer id, 0 for none.
func (c *compactTest) send(id int64, transactional bool) {
	c.Helper()
	var b record.Builder
	b.Reset(record.BatchOptions{Codec: record.Codec(c.rng.IntN(5)), ProducerID: id, BaseSequence: c.sequence[id], Transactional: transactional})
	base := c.p.End()
	for i := range int64(1 + c.rng.IntN(4)) {
		r := sentRecord{key: fmt.Sprint("k", c.rng.IntN(30)), at: c.clock.Load() + c.rng.Int64N(50), tombstone: c.rng.IntN(5) == 0}
		value := []byte(nil)
		if !r.tombstone {
			r.value = fmt.Sprintf("%d-%s", base+i, make([]byte, c.rng.IntN(60)))
			value = []byte(r.value)
		}
		if transactional {
			r.state = undecided
			c.open[id] = append(c.open[id], base+i)
		}
		c.records[base+i] = r
		b.Append(r.at, []byte(r.key), value, []record.Header{{Key: "h", Value: []byte{1}}})
	}
	c.sequence[id] += int32(b.Count())
	batch, err := b.Build()
	if err != nil {
		c.Fatal(err)
	}
	if got := mustAppend(c, c.p, batch); got != base {
		c.Fatalf("base %d, want %d", got, base)
	}
	c.lastSent[id], c.lastBase[id] = bytes.Clone(batch), base
}

func (c *compactTest) mark(id int64, commit bool) {
	c.Helper()
	if _, err := c.p.AppendMarker(context.Background(), Marker{ProducerID: id, Commit: commit}); err != nil {
		c.Fatal(err)
	}
	for _, offset := range c.open[id] {
		r := c.records[offset]
		r.state = committed
		if !commit {
			r.state = aborts
		}
		c.records[offset] = r
	}
	delete(c.open, id)
}

// step does something that a life brings.
func (c *compactTest) step() {
	c.Helper()
	switch n := c.rng.IntN(40); {
	case n < 14:
		c.send(0, false)
	case n < 20:
		c.send(1+c.rng.Int64N(2), false)
	case n < 30:
		c.send(10+c.rng.Int64N(3), true)
	case n < 36:
		c.mark(10+c.rng.Int64N(3), c.rng.IntN(2) == 0)
	case n < 38:
		c.clock.Add(int64(c.rng.IntN(8000)))
	default:
		if _, err := c.p.compact(context.Background()); err != nil {
			c.Fatal(err)
		}
	}
}

func (c *compactTest) compactAll() {
	c.Helper()
	for {
		done, err := c.p.compact(context.Background())
		if err != nil {
			c.Fatal(err)
		}
		if !done {
			return
		}
	}
}

// latest is the last committed value by key below an offset, the obvious way;
// tombstones are in it as "".
func (c *compactTest) latest(below int64) map[string]string {
	m := map[string]string{}
	for offset := c.p.Start(); offset < below; offset++ {
		if r, ok := c.records[offset]; ok && r.state == committed {
			m[r.key] = r.value
		}
	}
	return m
}

func sameLatest(got, want map[string]string) bool {
	dead := func(_ string, v string) bool { return v == "" }
	got, want = maps.Clone(got), maps.Clone(want)
	maps.DeleteFunc(got, dead)
	maps.DeleteFunc(want, dead)
	return maps.Equal(got, want)
}

// replica is what a reader of committed records makes of what it reads.
type replica struct {
	c      *compactTest
	next   int64
	values map[string]string
	seen   map[int64]bool
}

func newReplica(c *compactTest) *replica {
	return &replica{c: c, next: c.p.Start(), values: map[string]string{}, seen: map[int64]bool{}}
}

// take reads a run that p returned from offset from on.
func (v *replica) take(p *Partition, from int64, run []byte) error {
	end := from
	for b := run; len(b) > 0; {
		h, err := record.CheckStored(b)
		if err != nil {
			return err
		}
		end, b = h.LastOffset()+1, b[h.Size():]
	}
	list := p.AbortedTransactions(from, end)
	var w record.Rewriter
	for b := run; len(b) > 0; {
		h, _ := record.CheckStored(b)
		if h.BaseOffset > v.next || h.LastOffset() < v.next {
			return fmt.Errorf("batch %d to %d where %d is next", h.BaseOffset, h.LastOffset(), v.next)
		}
		recs, err := w.Records(b)
		if err != nil {
			return err
		}
		b = b[h.Size():]
		if h.Control() {
			v.next = h.LastOffset() + 1
			continue
		}
		dropped := false
		for _, a := range list {
			dropped = dropped || h.Transactional() && a.ProducerID == h.ProducerID && a.FirstOffset <= h.BaseOffset && h.BaseOffset < a.LastOffset
		}
		for _, r := range recs {
			if err := v.record(&r, dropped); err != nil {
				return err
			}
		}
		v.next = h.LastOffset() + 1
	}
	return nil
}

func (v *replica) record(r *record.Record, dropped bool) error {
	if r.Offset < v.next {
		return nil // the cursor began within a batch
	}
	want, ok := v.c.records[r.Offset]
	if !ok || string(r.Key) != want.key || string(r.Value) != want.value || (r.Value == nil) != want.tombstone || r.Timestamp != want.at || len(r.Headers) != 1 {
		return fmt.Errorf("offset %d: %q=%q at %d, want %+v", r.Offset, r.Key, r.Value, r.Timestamp, want)
	}
	if want.state != committed != dropped {
		return fmt.Errorf("offset %d: aborted %v, want state %d", r.Offset, dropped, want.state)
	}
	if v.seen[r.Offset] {
		return fmt.Errorf("offset %d twice", r.Offset)
	}
	v.seen[r.Offset] = true
	if !dropped {
		v.values[want.key] = want.value
	}
	return nil
}

// verify reads everything committed and compares.
func (c *compactTest) verify() {
	c.Helper()
	if err := c.p.Err(); err != nil {
		c.Fatal(err)
	}
	v := newReplica(c)
	cur := c.p.NewCursor(v.next)
	for {
		from := cur.Offset()
		run, err := c.p.ReadCommitted(cur, 1+c.rng.IntN(3000))
		if err != nil {
			c.Fatal(err)
		}
		if len(run) == 0 {
			break
		}
		if err := v.take(c.p, from, run); err != nil {
			c.Fatal(err)
		}
	}
	if stable := c.p.LastStableOffset(); v.next != stable || !sameLatest(v.values, c.latest(stable)) {
		c.Fatalf("read to %d of %d: %v, want %v", v.next, stable, v.values, c.latest(stable))
	}
	for range 10 {
		offset := c.rng.Int64N(c.p.HighWatermark() + 1)
		if offset == c.p.HighWatermark() || offset < c.p.Start() {
			continue
		}
		run, err := c.p.Read(c.p.NewCursor(offset), 1)
		if h, herr := record.ParseHeader(run); err != nil || herr != nil || h.BaseOffset > offset || h.LastOffset() < offset {
			c.Fatalf("looked for offset %d, found %d to %d: %v", offset, h.BaseOffset, h.LastOffset(), err)
		}
	}
	if found, err := c.l.Verify(context.Background(), nil); err != nil || len(found) > 0 {
		c.Fatal(found, err)
	}
}

// verifyDedupe sends the last batch of each producer once more.
func (c *compactTest) verifyDedupe() {
	c.Helper()
	for id, batch := range c.lastSent {
		if id == 0 {
			continue
		}
		if base, err := c.p.Append(context.Background(), bytes.Clone(batch), -1); err != nil || base != c.lastBase[id] {
			c.Fatalf("producer %d: duplicate at %d, want %d: %v", id, base, c.lastBase[id], err)
		}
	}
}

func (c *compactTest) reopen(fsys *vfs.Mem, crashed bool) {
	c.Helper()
	if err := c.l.Close(); err != nil && !crashed {
		c.Fatal(err)
	}
	c.fs, c.o.FS = fsys, fsys
	if c.rng.IntN(2) == 0 { // all that is known comes from the batches
		if err := fsys.Remove("data/topics/a-0/checkpoint"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			c.Fatal(err)
		}
	}
	repairSound(c, c.o, c.rng)
	c.l = mustOpenAlone(c, "data", c.o)
	c.p = mustPartition(c, c.l, "a", 0)
}

// TestCompact compares, over a life with transactions, compactions, restarts and
// crashes, what readers see with plain maps.
func TestCompact(t *testing.T) {
	seeds.Each(t, 15, func(t *testing.T, seed uint64) {
		c := newCompactTest(t, seed)
		for range 12 {
			for range 40 {
				c.step()
			}
			c.verify()
			switch c.rng.IntN(4) {
			case 0:
				c.reopen(c.fs, false)
			case 1:
				c.reopen(c.fs.CrashClone(), true)
			}
			c.verify()
			c.verifyDedupe()
		}
		c.finish()
	})
}

func (c *compactTest) now() time.Time { return time.UnixMilli(c.clock.Load()) }

// finish decides all transactions, lets all horizons pass, and sees that one
// record by key is left, and no tombstone.
func (c *compactTest) finish() {
	c.Helper()
	for id := range c.open {
		c.mark(id, c.rng.IntN(2) == 0)
	}
	for range 4 {
		c.clock.Add(time.Minute.Milliseconds())
		for len(c.p.segs) > 0 {
			n := len(c.p.segs)
			c.send(0, false)
			if len(c.p.segs) > n {
				break
			}
		}
		c.compactAll()
		c.verify()
	}
	cleaned := c.p.cleaned
	c.reopen(c.fs, false)
	c.verify()
	c.verifyDedupe()
	batches, err := readAllStored(c.p)
	if err != nil {
		c.Fatal(err)
	}
	left := map[string]int64{}
	for _, b := range batches {
		h, _ := record.ParseHeader(b)
		var w record.Rewriter
		recs, err := w.Records(b)
		if err != nil {
			c.Fatal(err)
		}
		for _, r := range recs {
			if r.Offset >= cleaned || h.Control() {
				continue
			}
			if before, twice := left[string(r.Key)]; twice {
				c.Fatalf("key %s is left at %d and %d, compacted to %d", r.Key, before, r.Offset, cleaned)
			}
			left[string(r.Key)] = r.Offset
			if r.Value == nil && r.Timestamp < c.now().Add(-2*time.Minute).UnixMilli() {
				c.Fatalf("tombstone of %s at %d is left", r.Key, r.Offset)
			}
		}
	}
	if len(left) == 0 {
		c.Fatal("nothing was compacted")
	}
	if err := c.l.Close(); err != nil {
		c.Fatal(err)
	}
}

func readAllStored(p *Partition) (batches [][]byte, err error) {
	c := p.NewCursor(p.Start())
	for {
		run, err := p.Read(c, 1<<20)
		if err != nil || len(run) == 0 {
			return batches, err
		}
		for len(run) > 0 {
			h, err := record.CheckStored(run)
			if err != nil {
				return batches, err
			}
			batches = append(batches, bytes.Clone(run[:h.Size()]))
			run = run[h.Size():]
		}
	}
}

// stepFS calls before with every change of the file system.
type stepFS struct {
	vfs.FS
	before func()
}

type stepFile struct {
	vfs.File
	fs *stepFS
}

func (s *stepFS) file(f vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &stepFile{f, s}, nil
}
func (s *stepFS) Create(name string) (vfs.File, error)   { s.before(); return s.file(s.FS.Create(name)) }
func (s *stepFS) OpenFile(name string) (vfs.File, error) { return s.file(s.FS.OpenFile(name)) }
func (s *stepFS) Remove(name string) error               { s.before(); return s.FS.Remove(name) }
func (s *stepFS) Rename(from, to string) error           { s.before(); return s.FS.Rename(from, to) }
func (s *stepFS) SyncDir(dir string) error               { s.before(); return s.FS.SyncDir(dir) }
func (f *stepFile) Sync() error                          { f.fs.before(); return f.File.Sync() }
func (f *stepFile) WriteAt(b []byte, off int64) (int, error) {
	f.fs.before()
	return f.File.WriteAt(b, off)
}

// TestCompactDelete has a topic of policy compact,delete over a life with crashes:
// retention takes the oldest segments, compaction records of the rest, and what is
// there from the first offset on agrees with plain maps.
func TestCompactDelete(t *testing.T) {
	seeds.Each(t, 10, func(t *testing.T, seed uint64) {
		c := newCompactTest(t, seed, "cleanup.policy", "compact,delete", "retention.bytes", "6000", "retention.ms", "20000")
		for range 12 {
			for range 30 {
				c.step()
			}
			start := c.p.Start()
			switch c.rng.IntN(3) {
			case 0:
				if err := c.p.retain(t.Context(), c.now()); err != nil {
					t.Fatal(err)
				}
			case 1:
				before := start + c.rng.Int64N(c.p.HighWatermark()-start+1)
				if err := c.p.DeleteRecords(context.Background(), before); err != nil || c.p.Start() < before {
					t.Fatal(c.p.Start(), before, err)
				}
				c.deleted = before
			}
			c.verify()
			if c.rng.IntN(2) == 0 {
				c.fs = c.fs.CrashClone()
				_ = c.l.Close()
				c.o.FS = c.fs
				c.l = mustOpenAlone(t, "data", c.o)
				c.p = mustPartition(t, c.l, "a", 0)
				if c.p.Start() < c.deleted { // that was durable
					t.Fatalf("start %d, deleted to %d", c.p.Start(), c.deleted)
				}
			}
			c.verify()
			c.verifyDedupe() // the batches may be gone, the producers are not forgotten
		}
		if err := c.l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCompactCrash takes what a crash may leave before every change that a
// compaction makes to the disk, and opens that.
func TestCompactCrash(t *testing.T) {
	seeds.Each(t, 3, func(t *testing.T, seed uint64) {
		c := newCompactTest(t, seed)
		for range 150 {
			c.step()
		}
		steps := &stepFS{FS: c.fs, before: func() {}}
		mem := c.fs
		if err := c.l.Close(); err != nil {
			t.Fatal(err)
		}
		c.o.FS = steps
		c.l = mustOpenAlone(t, "data", c.o)
		c.p = mustPartition(t, c.l, "a", 0)
		var clones []*vfs.Mem
		steps.before = func() { clones = append(clones, mem.CrashClone()) }
		c.compactAll()
		steps.before = func() {}
		c.verify()
		l := c.l
		for i, clone := range clones {
			c.o.FS = clone
			c.l = mustOpenAlone(t, "data", c.o)
			c.p = mustPartition(t, c.l, "a", 0)
			c.verify()
			c.verifyDedupe()
			names, err := clone.List("data/topics/a-0")
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if bytes.HasSuffix([]byte(name), []byte(swapSuffix)) || bytes.HasSuffix([]byte(name), []byte(cleanedSuffix)) {
					t.Fatalf("clone %d: %s is left", i, name)
				}
			}
			c.compactAll()
			c.verify()
			if err := c.l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestCompactWhileRead has readers follow a partition that is appended to and
// compacted: each sees every offset once, and ends with the last values by key.
func TestCompactWhileRead(t *testing.T) {
	seed := seeds.One(t)
	c := newCompactTest(t, seed)
	var mu sync.Mutex // of c.records
	ctx, stop := context.WithCancel(context.Background())
	var group sync.WaitGroup
	views := make([]*replica, 3)
	for i := range views {
		views[i] = newReplica(c)
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		group.Go(func() {
			v, cur := views[i], c.p.NewCursor(0)
			for {
				from := cur.Offset()
				run, err := c.p.ReadCommitted(cur, 1+rng.IntN(2000))
				if err == nil && len(run) > 0 {
					mu.Lock()
					err = v.take(c.p, from, run)
					mu.Unlock()
				}
				if err != nil {
					t.Error(err)
					return
				}
				if len(run) > 0 {
					if rng.IntN(50) == 0 { // start over
						v.next, v.values, v.seen = 0, map[string]string{}, map[int64]bool{}
						cur.SeekTo(0)
					}
					continue
				}
				if c.p.WaitStable(ctx, from) != nil {
					return
				}
			}
		})
	}
	compactions := make(chan struct{})
	go func() {
		defer close(compactions)
		for ctx.Err() == nil {
			if _, err := c.p.compact(ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
				return
			}
		}
	}()
	for range 600 {
		mu.Lock()
		switch c.rng.IntN(3) {
		case 0:
			c.send(0, false)
		case 1:
			c.send(10, true)
		default:
			c.mark(10, c.rng.IntN(2) == 0)
		}
		mu.Unlock()
	}
	mu.Lock()
	c.mark(10, true)
	mu.Unlock()
	for _, v := range views {
		for caught := false; !caught && !t.Failed(); {
			mu.Lock()
			caught = v.next == c.p.LastStableOffset()
			mu.Unlock()
		}
	}
	stop()
	group.Wait()
	<-compactions
	for _, v := range views {
		if !sameLatest(v.values, c.latest(c.p.End())) {
			t.Fatalf("%v, want %v", v.values, c.latest(c.p.End()))
		}
	}
	if err := c.l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCompactRefusals: a compacted topic takes records with keys that it can read.
func TestCompactRefusals(t *testing.T) {
	c := newCompactTest(t, 1)
	var b record.Builder
	b.Reset(record.BatchOptions{Codec: record.Gzip})
	b.Append(1, nil, []byte("x"), nil)
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.p.Append(context.Background(), batch, -1); !errors.Is(err, ErrInvalidRecord) {
		t.Fatal(err)
	}
	b.Reset(record.BatchOptions{})
	b.Append(1, []byte("k"), nil, nil)
	if batch, err = b.Build(); err != nil {
		t.Fatal(err)
	}
	batch[record.HeaderSize]++ // the record's length
	record.SetLogAppendTime(batch, 1)
	if _, err := c.p.Append(context.Background(), batch, -1); !errors.Is(err, ErrInvalidBatch) {
		t.Fatal(err)
	}
	if c.p.End() != 0 {
		t.Fatal(c.p.End())
	}
	if err := c.l.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCompactDamage leaves a partition with a damaged batch as it is.
func TestCompactDamage(t *testing.T) {
	c := newCompactTest(t, 2)
	for len(c.p.segs) < 4 {
		c.send(0, false)
	}
	before := c.p.Size()
	if err := vfs.FlipByte(c.fs, c.p.segs[1].file, 70); err != nil {
		t.Fatal(err)
	}
	var damage *CorruptError
	if _, err := c.p.compact(context.Background()); !errors.As(err, &damage) || damage.File != c.p.segs[1].file {
		t.Fatal(err)
	}
	if c.p.Size() != before {
		t.Fatal("something was thrown away")
	}
	if err := vfs.FlipByte(c.fs, c.p.segs[1].file, 70); err != nil {
		t.Fatal(err)
	}
	c.compactAll()
	c.verify()
	if err := c.l.Close(); err != nil {
		t.Fatal(err)
	}
}
