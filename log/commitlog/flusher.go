package commitlog

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// maxSyncs is how many files of a round are synced at the same time: the disk
// commits them together.
const maxSyncs = 8

// flusher makes appends durable. While it syncs one round, appends collect for
// the next: that is the group commit, over all partitions.
type flusher struct {
	log    *Log
	marks  *syncedFile // only the flusher's goroutine writes
	kick   chan struct{}
	quit   chan struct{}
	ended  chan struct{}
	behind atomic.Int64 // bytes accepted and not durable

	mu    sync.Mutex
	queue []*Partition
	room  chan struct{} // closed when behind shrinks; nil: nobody waits
}

func newFlusher(l *Log) *flusher {
	f := &flusher{log: l, marks: l.marks, kick: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{})}
	go f.run()
	return f
}

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

// enqueue asks for a sync of p in the next round.
func (f *flusher) enqueue(p *Partition) {
	f.mu.Lock()
	f.queue = append(f.queue, p)
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// stop ends the flusher after everything enqueued is durable.
func (f *flusher) stop() {
	close(f.quit)
	<-f.ended
}

func (f *flusher) run() {
	defer close(f.ended)
	var parts []*Partition
	for {
		select {
		case <-f.kick:
		case <-f.quit:
			for f.round(&parts) {
			}
			f.marks.close()
			return
		}
		f.round(&parts)
	}
}

// task is what one partition has in a round.
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

// round syncs what is queued and publishes it. parts is a buffer to reuse.
func (f *flusher) round(parts *[]*Partition) bool {
	f.mu.Lock()
	*parts, f.queue = f.queue, (*parts)[:0]
	f.mu.Unlock()
	if len(*parts) == 0 {
		return false
	}
	began := time.Now()
	tasks := make([]task, len(*parts))
	for i, p := range *parts {
		tasks[i] = p.take()
	}
	f.sync(tasks)
	f.marks.append(tasks)
	for i := range tasks {
		f.publish(&tasks[i])
	}
	clear(*parts)
	f.log.metrics.flushed(time.Since(began))
	return true
}

// sync runs the syncs of all tasks, a few at a time.
func (f *flusher) sync(tasks []task) {
	if len(tasks) == 1 {
		tasks[0].sync()
		return
	}
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(maxSyncs, len(tasks)) {
		group.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(tasks) {
					return
				}
				tasks[i].sync()
			}
		})
	}
	group.Wait()
}

// take is what has to be synced for all that p accepted so far.
func (p *Partition) take() task {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queued = false
	t := task{p: p, dirty: p.dirty, newDir: p.newDir, end: p.end, covered: p.behind}
	if n := len(p.segs); n > 0 {
		t.endPos = position{p.segs[n-1].base, p.segs[n-1].size}
	}
	p.dirty, p.newDir = nil, false
	t.reign = p.takeReign()
	return t
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
