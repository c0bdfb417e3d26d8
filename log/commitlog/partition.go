package commitlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirstream/weir/log/record"
)

// Partition is one ordered sequence of batches. Its methods may be called by any
// goroutine.
type Partition struct {
	log   *Log
	topic *Topic
	index int32
	dir   string

	// appendMu serialises appenders; it is held over the write. It guards
	// producers and indexes.
	appendMu  sync.Mutex
	producers producers
	indexes   []string // index files written and not synced, for the next checkpoint

	// mu guards the rest. It is never held over disk access.
	mu    sync.Mutex
	segs  []*segment // by base; the last is active; none before the first append
	start int64      // first offset
	end   int64      // accepted
	hw    int64      // durable; what is below it can be read
	hwPos position   // of hw
	// ongoing are the transactions that hold the last stable offset back, in
	// order of their first offset.
	ongoing []ongoing
	epoch   int32  // stays as it is while the log is open
	epochs  epochs // the last is epoch's
	reign   reign

	gone    error         // deleted or closed: for everybody
	refused error         // no appends: closing
	failed  error         // no appends and nothing past hw: a sync failed
	corrupt *CorruptError // no appends and nothing past hw: found at recovery
	mark    int64         // with corrupt: what was known to be durable

	watch    chan struct{}     // closed at the next change of hw, gone, failed; nil: nobody waits
	watchers []chan<- struct{} // see Watch
	dirty    []*handle         // segments written to since the flusher last took them
	queued   bool              // with the flusher, or being synced
	marked   int64             // hw, or what is about to be: what the file synced says
	newDir   bool              // a segment's name is not durable yet
	behind   int64             // bytes accepted and not durable
	flushed  int64             // bytes made durable since the log was opened

	saved saved // about the last checkpoint; guarded by mu

	pins   map[string]int64 // by owner; guarded by mu
	pinned atomic.Int64     // bytes that retention left because of them

	// writing is shared by those who write the files beside the segments, and held for
	// good by who takes away the directory: see enter.
	writing sync.RWMutex

	// saving is held over a checkpoint, so that none takes the place of a later one.
	saving sync.Mutex

	// cleaning is held by whoever takes segments away or replaces them.
	cleaning sync.Mutex
	cleaned  int64 // what lies below was compacted; guarded by mu
}

// position is a place in the segments.
type position struct {
	base int64 // of the segment
	pos  int64
}

func newPartition(t *Topic, i int32) *Partition {
	epoch := t.log.meta.Epoch
	return &Partition{log: t.log, topic: t, index: i, dir: t.log.partitionDir(t.name, i), producers: producers{}, saved: saved{at: t.log.o.Now()},
		epoch: epoch, epochs: epochs{{epoch, 0}}}
}

// Topic is the topic's name.
func (p *Partition) Topic() string { return p.topic.name }

// Index is the partition's number.
func (p *Partition) Index() int32 { return p.index }

// Start is the first offset.
func (p *Partition) Start() int64 { p.mu.Lock(); defer p.mu.Unlock(); return p.start }

// HighWatermark is the offset after the last durable record: the end for readers.
func (p *Partition) HighWatermark() int64 { p.mu.Lock(); defer p.mu.Unlock(); return p.hw }

// End is the offset after the last accepted record; those from HighWatermark on
// are not durable yet.
func (p *Partition) End() int64 { p.mu.Lock(); defer p.mu.Unlock(); return p.end }

// Flushed is how many bytes became readable since the log was opened.
func (p *Partition) Flushed() int64 { p.mu.Lock(); defer p.mu.Unlock(); return p.flushed }

// LeaderEpoch is stamped on every batch.
func (p *Partition) LeaderEpoch() int32 { p.mu.Lock(); defer p.mu.Unlock(); return p.epoch }

// Size is the bytes of all batches.
func (p *Partition) Size() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var n int64
	for _, s := range p.segs {
		n += s.size
	}
	return n
}

// Err is why the partition is out of service: a *CorruptError, ErrFailed,
// ErrDeleted, ErrClosed, or nil.
func (p *Partition) Err() error { p.mu.Lock(); defer p.mu.Unlock(); return p.blocked() }

func (p *Partition) String() string {
	return fmt.Sprintf("topic %s partition %d", p.topic.name, p.index)
}

// wrap adds the place to an error.
func (p *Partition) wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("topic %s partition %d: %w", p.topic.name, p.index, err)
}

// blocked is why nothing past hw will come. The caller holds mu.
func (p *Partition) blocked() error {
	switch {
	case p.gone != nil:
		return p.gone
	case p.corrupt != nil:
		return p.corrupt
	}
	return p.failed
}

// wake tells waiters that something changed. The caller holds mu.
func (p *Partition) wake() {
	p.signal()
	if p.watch != nil {
		close(p.watch)
		p.watch = nil
	}
}

// Append checks and appends one record batch. It stamps base offset and leader
// epoch (with LogAppendTime also the time) in place, and does not retain batch.
// With acks 0 it returns once the batch is accepted and not yet durable, with
// acks 1 or -1 after the fsync that covers it. base is the offset of the first
// record, or of the first copy where an idempotent producer sent the batch before.
//
// A transactional batch opens or continues its producer's transaction.
//
// Errors: ErrInvalidBatch (with an error of package record), ErrBatchTooLarge,
// ErrInvalidAcks, ErrOutOfOrderSequence, ErrInvalidProducerEpoch,
// ErrInvalidTxnState, ErrInvalidRecord (in a compacted topic), ErrDiskFull, *CorruptError, ErrFailed, ErrDeleted,
// ErrClosed: nothing was appended. ErrFailed or ctx.Err with a base of 0 or more:
// it was accepted, and whether it will be durable is not known.
func (p *Partition) Append(ctx context.Context, batch []byte, acks int16) (base int64, err error) {
	h, err := checkBatch(batch)
	if err == nil && h.ProducerID >= 0 && h.BaseSequence < 0 {
		err = fmt.Errorf("%w: producer %d with sequence %d", ErrInvalidBatch, h.ProducerID, h.BaseSequence)
	}
	if err != nil {
		return -1, p.wrap(err)
	}
	return p.append(ctx, &h, batch, acks)
}

// AppendUnsequenced is Append for a coordinator that writes into the transaction
// of a producer with batches that have no sequence (-1), as a group's coordinator
// does for TxnOffsetCommit: epoch and transaction are checked, and nothing is
// known to be a duplicate.
func (p *Partition) AppendUnsequenced(ctx context.Context, batch []byte, acks int16) (base int64, err error) {
	h, err := checkBatch(batch)
	if err == nil && h.BaseSequence != -1 {
		err = fmt.Errorf("%w: sequence %d where none is expected", ErrInvalidBatch, h.BaseSequence)
	}
	if err != nil {
		return -1, p.wrap(err)
	}
	return p.append(ctx, &h, batch, acks)
}

func (p *Partition) append(ctx context.Context, h *record.BatchHeader, batch []byte, acks int16) (base int64, err error) {
	if acks < -1 || acks > 1 {
		return -1, p.wrap(fmt.Errorf("%w: %d", ErrInvalidAcks, acks))
	}
	config := p.topic.now.Load().parsed
	if acks == -1 && config.minInsync > 1 {
		return -1, p.wrap(fmt.Errorf("%w: min.insync.replicas is %d, there is one replica", ErrNotEnoughReplicas, config.minInsync))
	}
	if config.walks() {
		if err := p.checkRecords(config, h, batch); err != nil {
			return -1, p.wrap(err)
		}
	}
	if config.recompress && h.Codec() != config.codec {
		return p.appendRecompressed(ctx, config.codec, batch, acks)
	}
	if err := p.log.flusher.admit(ctx, int64(len(batch))); err != nil {
		return -1, p.wrap(err)
	}
	base, last, err := p.accept(h, batch)
	if err != nil {
		return -1, p.wrap(err)
	}
	if acks == 0 {
		return base, nil
	}
	return base, p.Wait(ctx, last)
}

func checkBatch(batch []byte) (record.BatchHeader, error) {
	h, err := record.Check(batch)
	switch {
	case err != nil:
		return h, fmt.Errorf("%w: %w", ErrInvalidBatch, err)
	case h.Size() != len(batch):
		return h, fmt.Errorf("%w: %w: %d bytes after the batch", ErrInvalidBatch, record.ErrSize, len(batch)-h.Size())
	case h.Control():
		return h, fmt.Errorf("%w: a client may not write control batches", ErrInvalidBatch)
	case h.Transactional() && h.ProducerID < 0:
		return h, fmt.Errorf("%w: a transactional batch without a producer id", ErrInvalidBatch)
	}
	return h, nil
}

// accept gives the batch its offsets and writes it, or finds that it is a
// duplicate.
func (p *Partition) accept(h *record.BatchHeader, batch []byte) (base, last int64, err error) {
	p.appendMu.Lock()
	defer p.appendMu.Unlock()
	config := p.topic.now.Load().parsed
	if len(batch) > config.maxBatch {
		return 0, 0, fmt.Errorf("%w: %d bytes, at most %d", ErrBatchTooLarge, len(batch), config.maxBatch)
	}
	p.mu.Lock()
	err, end, reign := p.refusal(), p.end, p.reign
	p.mu.Unlock()
	if err != nil {
		return 0, 0, err
	}
	if h.ProducerID >= 0 {
		base, last, duplicate, err := p.producers.check(h)
		if duplicate || err != nil {
			return base, last, err
		}
	}
	now := p.log.o.Now()
	if reign == reignNew {
		if err := p.beginReign(); err != nil {
			return 0, 0, err
		}
	}
	seg, err := p.segmentFor(h, int64(len(batch)), end, now, config)
	if err != nil {
		return 0, 0, diskFull(err)
	}
	if config.logAppendTime {
		h.MaxTimestamp = now.UnixMilli()
		record.SetLogAppendTime(batch, h.MaxTimestamp)
	}
	step := txnNone
	if h.Transactional() && p.producers.txnStart(h.ProducerID) < 0 {
		step = txnBegin
	}
	if err := p.put(seg, h, batch, step, -1); err != nil {
		return 0, 0, err
	}
	if h.ProducerID >= 0 {
		p.producers.update(h, now)
	}
	return end, h.LastOffset(), nil
}

// put gives the batch the next offsets and writes it. first is where the
// transaction began that it ends. The caller holds appendMu.
func (p *Partition) put(seg *segment, h *record.BatchHeader, batch []byte, step txnStep, first int64) error {
	p.mu.Lock()
	h.BaseOffset, h.LeaderEpoch = p.end, p.epoch
	p.mu.Unlock()
	record.SetBaseOffset(batch, h.BaseOffset)
	record.SetLeaderEpoch(batch, h.LeaderEpoch)
	return p.write(seg, h, batch, step, first)
}

// refusal is why no batch is accepted. The caller holds mu.
func (p *Partition) refusal() error {
	if err := p.blocked(); err != nil {
		return err
	}
	return p.refused
}

// segmentFor is the segment that n bytes at offset end go to, a new one where the
// active is full or old.
func (p *Partition) segmentFor(h *record.BatchHeader, n, end int64, now time.Time, config *topicConfig) (*segment, error) {
	p.mu.Lock()
	var seg *segment
	if len(p.segs) > 0 {
		seg = p.segs[len(p.segs)-1]
	}
	p.mu.Unlock()
	if seg == nil {
		return p.roll(nil, end, now)
	}
	if seg.unclean {
		// Cut what a failed write left, before anything follows it.
		if err := p.cut(seg); err != nil {
			return nil, err
		}
	}
	full := seg.size+n > config.segmentBytes || seg.size+n > math.MaxUint32 || end+int64(h.LastOffsetDelta)-seg.base > math.MaxInt32
	if seg.size > 0 && (full || now.Sub(seg.made) > config.segmentAge) {
		return p.roll(seg, end, now)
	}
	return seg, nil
}

func (p *Partition) cut(seg *segment) error {
	f, err := p.log.files.acquire(seg, false)
	if err != nil {
		return err
	}
	defer f.release()
	if err := f.f.Truncate(seg.size); err != nil {
		return err
	}
	seg.unclean, seg.room, seg.fresh = false, 0, 0
	p.cutOff(f)
	return nil
}

// roll makes a new active segment. The caller holds appendMu.
func (p *Partition) roll(old *segment, base int64, now time.Time) (*segment, error) {
	busy := old != nil && old.room > 0
	if old != nil {
		if err := p.saveIndex(old); err != nil {
			return nil, err
		}
		if err := p.giveBack(old); err != nil {
			return nil, err
		}
	}
	seg := newSegment(p.dir, base, now)
	if busy {
		seg.fresh = p.log.o.roomFrom
	}
	f, err := p.log.files.acquire(seg, true)
	if err != nil {
		return nil, err
	}
	f.release()
	p.mu.Lock()
	defer p.mu.Unlock()
	if old != nil {
		old.maxTime, old.timed = old.index.maxTime, true
		old.index = index{} // from now on it is the index cache's
	}
	p.segs = append(p.segs, seg)
	p.newDir = true
	return seg, nil
}

// yieldRoom returns the space that was taken ahead: many partitions that are seldom
// written to must not hold it. The next large write takes some again.
func (p *Partition) yieldRoom() {
	p.appendMu.Lock()
	defer p.appendMu.Unlock()
	p.mu.Lock()
	segs := p.segs
	p.mu.Unlock()
	if n := len(segs); n > 0 {
		_ = p.giveBack(segs[n-1]) // it keeps it then
	}
}

// giveBack returns the space that was taken ahead for a segment, durably before a
// checkpoint behind it is: what lies before that one is not scanned for where batches
// end. The caller holds appendMu.
func (p *Partition) giveBack(seg *segment) error {
	if seg.room == 0 {
		return nil
	}
	f, err := p.log.files.acquire(seg, false)
	if err != nil {
		return err
	}
	defer f.release()
	smaller, err := seg.giveBack(f.f)
	if smaller {
		p.cutOff(f)
	}
	return err
}

// cutOff has a file synced that got smaller. The caller holds appendMu.
func (p *Partition) cutOff(f *handle) {
	p.mu.Lock()
	queue := false
	if p.blocked() == nil && !p.log.o.NoSync {
		queue = p.soil(f)
	}
	p.mu.Unlock()
	if queue {
		p.log.flusher.enqueue(p)
	}
}

// soil notes that a file is to be synced, and reports whether the partition is to be
// queued for that. The caller holds mu.
func (p *Partition) soil(f *handle) (queue bool) {
	if n := len(p.dirty); n == 0 || p.dirty[n-1] != f {
		p.dirty = append(p.dirty, f.ref())
	}
	queue = !p.queued
	p.queued = true
	return queue
}

// saveIndex brings the index file of the active segment up to date; the next
// checkpoint syncs it. The caller holds appendMu. Where it cannot be written it is
// removed: what an earlier life left in it may be of batches that were cut. An
// absent index costs a scan later.
func (p *Partition) saveIndex(seg *segment) error {
	err := seg.index.save(p.log.fs, seg.indexFile())
	if err == nil {
		if !slices.Contains(p.indexes, seg.indexFile()) {
			p.indexes = append(p.indexes, seg.indexFile())
		}
		return nil
	}
	seg.index.fileEnd = 0
	if rerr := p.log.fs.Remove(seg.indexFile()); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		return errors.Join(err, rerr)
	}
	p.log.logger.Warn("index not saved; it will be made again", "file", seg.indexFile(), "err", err)
	return nil
}

// write puts the batch into the active segment and lets it be seen.
func (p *Partition) write(seg *segment, h *record.BatchHeader, batch []byte, step txnStep, first int64) error {
	f, err := p.log.files.acquire(seg, false)
	if err != nil {
		return err
	}
	defer f.release()
	seg.reserve(f.f, int64(len(batch)), p.log.o.roomFrom, p.topic.now.Load().parsed.segmentBytes)
	if err := writeAll(f.f, batch, seg.size); err != nil {
		seg.unclean = true
		if cerr := p.cut(seg); cerr != nil {
			p.log.logger.Warn("bytes of a failed write not cut yet", "file", seg.file, "position", seg.size, "err", cerr)
		}
		return diskFull(fmt.Errorf("append to %s: %w", seg.file, err))
	}
	p.log.metrics.appended(len(batch))
	p.mu.Lock()
	seg.index.add(seg.base, h)
	seg.size += int64(len(batch))
	seg.end = h.LastOffset() + 1
	p.end = seg.end
	p.saved.since += int64(len(batch))
	p.transact(seg, h, step, first)
	if p.log.o.NoSync {
		p.hw, p.hwPos = p.end, position{seg.base, seg.size}
		p.flushed += int64(len(batch))
		p.settle()
		p.wake()
		p.mu.Unlock()
		return nil
	}
	p.behind += int64(len(batch))
	queue := p.soil(f)
	p.mu.Unlock()
	p.log.flusher.wrote(int64(len(batch)))
	if queue {
		p.log.flusher.enqueue(p)
	}
	return nil
}

// Wait returns once the record at offset is durable. Errors: ctx.Err, ErrClosed,
// ErrDeleted, ErrFailed, *CorruptError.
func (p *Partition) Wait(ctx context.Context, offset int64) error {
	return p.await(ctx, func() bool { return p.hw > offset })
}

// await returns once done, which is called with mu held.
func (p *Partition) await(ctx context.Context, done func() bool) error {
	for {
		p.mu.Lock()
		if !errors.Is(p.gone, ErrDeleted) && done() {
			p.mu.Unlock()
			return nil
		}
		if err := p.blocked(); err != nil {
			p.mu.Unlock()
			return p.wrap(err)
		}
		if p.watch == nil {
			p.watch = make(chan struct{})
		}
		changed := p.watch
		p.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Flush returns once all that was accepted before the call is durable. Errors: as
// Wait.
func (p *Partition) Flush(ctx context.Context) error {
	end := p.End()
	if end == 0 {
		return nil
	}
	return p.Wait(ctx, end-1)
}

// fail takes the partition out of service after a failed sync. The kernel may
// have marked pages clean that are not on the disk, so what was not durable is
// cut off as well as that can be done.
func (p *Partition) fail(err error) {
	p.log.logger.Error("sync failed; the partition takes no appends until the log is opened again", "topic", p.topic.name, "partition", p.index, "err", err)
	p.appendMu.Lock() // no append is under way
	defer p.appendMu.Unlock()
	p.mu.Lock()
	if p.failed == nil {
		p.failed = fmt.Errorf("%w: %w", ErrFailed, diskFull(err))
	}
	p.log.flusher.done(p.behind)
	p.behind = 0
	dirty := p.dirty
	p.dirty = nil
	hw := p.hwPos
	segs := p.segs
	p.wake()
	p.mu.Unlock()
	for _, h := range dirty {
		h.release()
	}
	for _, seg := range segs {
		to := int64(0)
		switch {
		case seg.base < hw.base:
			continue
		case seg.base == hw.base:
			to = hw.pos
		}
		if f, err := p.log.files.acquire(seg, false); err == nil {
			_ = f.f.Truncate(to) // recovery looks at it again
			f.release()
		}
	}
}

// refuse takes no more appends, and waits for one under way.
func (p *Partition) refuse(why error) {
	p.appendMu.Lock()
	defer p.appendMu.Unlock()
	p.mu.Lock()
	p.refused = why
	p.mu.Unlock()
}

// enter shares writing, unless the partition has been deleted.
func (p *Partition) enter() error {
	if !p.writing.TryRLock() {
		return ErrDeleted
	}
	return nil
}

// shut ends the partition for everybody: deleted or closed.
func (p *Partition) shut(why error) {
	p.appendMu.Lock()
	defer p.appendMu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = why
	p.wake()
	p.log.flusher.done(p.behind)
	p.behind = 0
	for _, h := range p.dirty {
		h.release()
	}
	p.dirty = nil
	for _, seg := range p.segs {
		p.log.files.drop(seg)
		p.log.indexes.drop(seg)
	}
}
