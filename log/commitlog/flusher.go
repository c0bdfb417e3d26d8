package commitlog

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxSyncs is how many partitions are synced at the same time: the disk commits them
// together.
const maxSyncs = 8

// flusher makes appends durable. While it syncs a partition, appends to that one
// collect for its next sync: that is the group commit. A partition waits for its own
// syncs and for no other one's, but where more than maxSyncs have something: they take
// turns.
type flusher struct {
	log    *Log
	marks  *syncedFile
	behind atomic.Int64 // bytes accepted and not durable

	mu    sync.Mutex
	queue []*Partition  // to be synced; of those with Partition.queued the others are being
	syncs int           // goroutines that do
	ended chan struct{} // of stop: closed when there is none; nil: nobody waits
	room  chan struct{} // closed when behind shrinks; nil: nobody waits
}

func newFlusher(l *Log) *flusher { return &flusher{log: l, marks: l.marks} }

// admit waits until n more bytes may be accepted.
func (f *flusher) admit(ctx context.Context, n int64) error {
	if f.fits(n) {
		return nil
	}
	began := time.Now()
	defer func() { f.log.metrics.waited(time.Since(began)) }()
	for {
		f.mu.Lock()
		if f.fits(n) {
			f.mu.Unlock()
			return nil
		}
		if f.room == nil {
			f.room = make(chan struct{})
		}
		room := f.room
		f.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// fits: a batch larger than the limit passes alone.
func (f *flusher) fits(n int64) bool {
	behind := f.behind.Load()
	return behind == 0 || behind+n <= f.log.o.UnflushedMax
}

func (f *flusher) wrote(n int64) { f.behind.Add(n) }

// done takes n bytes off what is not durable.
func (f *flusher) done(n int64) {
	f.behind.Add(-n)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.room != nil {
		close(f.room)
		f.room = nil
	}
}

// enqueue asks for a sync of p, which is queued nowhere.
func (f *flusher) enqueue(p *Partition) {
	f.mu.Lock()
	f.queue = append(f.queue, p)
	more := f.syncs < maxSyncs
	if more {
		f.syncs++
	}
	f.mu.Unlock()
	if more {
		go f.run()
	}
}

// stop returns when everything enqueued is durable.
func (f *flusher) stop() {
	f.mu.Lock()
	ended := make(chan struct{})
	if f.syncs > 0 {
		f.ended = ended
	} else {
		close(ended)
	}
	f.mu.Unlock()
	<-ended
	f.marks.close()
}

// run syncs what is queued, until nothing is.
func (f *flusher) run() {
	for {
		f.mu.Lock()
		if len(f.queue) == 0 {
			f.syncs--
			if f.syncs == 0 && f.ended != nil {
				close(f.ended)
				f.ended = nil
			}
			f.mu.Unlock()
			return
		}
		p := f.queue[0]
		f.queue = slices.Delete(f.queue, 0, 1)
		f.mu.Unlock()
		f.commit(p)
	}
}

// commit syncs what a partition has and publishes it.
func (f *flusher) commit(p *Partition) {
	began := time.Now()
	t := p.take()
	t.sync()
	f.marks.append(&t)
	f.publish(&t)
	f.log.metrics.flushed(time.Since(began))
	if p.more() {
		f.enqueue(p)
	}
}

// task is what one partition has to sync.
type task struct {
	p       *Partition
	dirty   []*handle
	newDir  bool
	reign   bool // the leader epochs are to be made durable
	end     int64
	endPos  position
	covered int64 // bytes
	err     error
}

// take is what has to be synced for all that p accepted so far.
func (p *Partition) take() task {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := task{p: p, dirty: p.dirty, newDir: p.newDir, end: p.end, covered: p.behind}
	if n := len(p.segs); n > 0 {
		t.endPos = position{p.segs[n-1].base, p.segs[n-1].size}
	}
	p.dirty, p.newDir = nil, false
	t.reign = p.takeReign()
	return t
}

// more reports whether something was written while p was synced; where nothing was, the
// next write asks for a sync.
func (p *Partition) more() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queued = len(p.dirty) > 0
	return p.queued
}

func (t *task) sync() {
	for _, h := range t.dirty {
		if t.err == nil {
			t.err = h.f.Sync()
		}
		h.release()
	}
	if t.err == nil && t.reign {
		t.err = t.p.endorse()
	}
	if t.err == nil && t.newDir && !t.reign { // endorse has synced the names, too
		t.err = t.p.log.fs.SyncDir(t.p.dir)
	}
}

func (f *flusher) publish(t *task) {
	p := t.p
	if t.err != nil {
		p.mu.Lock()
		ended := p.gone != nil
		p.mu.Unlock()
		if !ended {
			p.fail(t.err)
		}
		return
	}
	p.mu.Lock()
	covered := min(t.covered, p.behind) // less where the partition ended meanwhile
	if p.failed == nil {
		p.hw, p.hwPos = t.end, t.endPos
		p.flushed += covered
		p.settle()
	}
	p.behind -= covered
	p.wake()
	p.mu.Unlock()
	f.done(covered)
}
