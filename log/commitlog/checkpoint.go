package commitlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/weirstream/weir/log/vfs"
)

// checkpoint is where recovery may start, and what it cannot see from there. All
// below it was durable when it was written.
type checkpoint struct {
	topic     [16]byte
	start     int64 // first offset
	cleaned   int64 // what lies below was compacted
	at        position
	offset    int64 // at that position
	producers producers
	aborts    []abortCount // by segment, in order
}

// saved is when a partition had its last checkpoint.
type saved struct {
	since int64 // bytes appended after it
	at    time.Time
	base  int64 // the segment that it lies in
}

func (p *Partition) checkpointName() string { return filepath.Join(p.dir, "checkpoint") }

func (c *checkpoint) encode() []byte {
	b := append([]byte(nil), c.topic[:]...)
	for _, v := range []int64{c.start, c.at.base, c.at.pos, c.offset, c.cleaned} {
		b = binary.BigEndian.AppendUint64(b, uint64(v))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.aborts)))
	for _, a := range c.aborts {
		b = binary.BigEndian.AppendUint64(b, uint64(a.base))
		b = binary.BigEndian.AppendUint32(b, a.n)
	}
	return checkpointKind.wrap(c.producers.appendTo(b))
}

// readCheckpoint is nil where there is no usable one.
func (p *Partition) readCheckpoint() (*checkpoint, error) {
	name := p.checkpointName()
	b, err := vfs.ReadFile(p.log.fs, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := decodeCheckpoint(name, b)
	if errors.Is(err, ErrNewerFormat) {
		return nil, err
	}
	if err == nil && c.topic != p.topic.id {
		err = fmt.Errorf("%s: %w: it is of another topic", name, ErrDamagedFile)
	}
	if err != nil {
		p.log.logger.Warn("no use of a checkpoint; the whole partition is scanned", "topic", p.topic.name, "partition", p.index, "err", err)
		return nil, nil
	}
	return c, nil
}

// decodeCheckpoint reads what encode wrote. Errors: ErrNewerFormat,
// ErrDamagedFile.
func decodeCheckpoint(name string, b []byte) (*checkpoint, error) {
	payload, err := checkpointKind.unwrap(name, b)
	if err != nil {
		return nil, err
	}
	version := versionOf(b)
	c, f := &checkpoint{}, newFields(payload)
	copy(c.topic[:], f.take(len(c.topic)))
	c.start, c.at.base, c.at.pos, c.offset = f.i64(), f.i64(), f.i64(), f.i64()
	if version >= 2 {
		c.cleaned = f.i64()
		for n := f.u32(); n > 0 && f.ok; n-- {
			c.aborts = append(c.aborts, abortCount{f.i64(), f.u32()})
		}
	}
	c.producers = readProducers(f, version)
	if !f.ok || c.start < 0 || c.at.base < 0 || c.at.pos < 0 || c.offset < c.at.base {
		return nil, fmt.Errorf("%s: %w", name, ErrDamagedFile)
	}
	return c, nil
}

// due reports whether a partition should have a new checkpoint.
func (p *Partition) due(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.saved.since == 0 || p.blocked() != nil || p.refused != nil {
		return false
	}
	if len(p.segs) > 0 && p.saved.base < p.segs[0].base {
		return true // its segment went when the disk was full
	}
	// With NoSync a checkpoint costs the sync that nobody wanted.
	return p.saved.since >= p.log.o.CheckpointBytes && !p.log.o.NoSync || now.Sub(p.saved.at) >= p.log.o.CheckpointEvery
}

// slow reports that a checkpoint is due because of the time only: little was written.
func (p *Partition) slow() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.saved.since < p.log.o.CheckpointBytes
}

// checkpoint writes one that covers all that is accepted now, once that is
// durable.
func (p *Partition) checkpoint(ctx context.Context) error {
	p.saving.Lock()
	defer p.saving.Unlock()
	c, since, indexes, err := p.snapshot()
	if c == nil || err != nil {
		return p.wrap(diskFull(err))
	}
	if err := p.save(ctx, c, indexes); err != nil {
		p.appendMu.Lock()
		defer p.appendMu.Unlock()
		p.indexes = append(indexes, p.indexes...) // for the next one
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.saved = saved{since: p.saved.since - since, at: p.log.o.Now(), base: c.at.base}
	return nil
}

// save makes everything that c relies on durable, and then c. An index below the
// checkpoint is trusted by recovery, so it has to be this one and not what an
// earlier life left in the file.
func (p *Partition) save(ctx context.Context, c *checkpoint, indexes []string) error {
	if err := p.enter(); err != nil {
		return p.wrap(err)
	}
	defer p.writing.RUnlock()
	if p.log.o.NoSync {
		if err := p.syncAll(); err != nil {
			return p.wrap(err)
		}
		p.mu.Lock()
		reign := p.takeReign()
		p.mu.Unlock()
		if reign {
			if err := p.endorse(); err != nil {
				return p.wrap(diskFull(err))
			}
		}
	} else if c.offset > 0 {
		if err := p.Wait(ctx, c.offset-1); err != nil {
			return err
		}
	}
	if err := p.saveAborts(); err != nil {
		return p.wrap(diskFull(err))
	}
	for _, name := range indexes {
		if err := syncIndex(p.log.fs, name); err != nil {
			return p.wrap(diskFull(err))
		}
	}
	return p.wrap(diskFull(vfs.WriteFile(p.log.fs, p.checkpointName(), c.encode())))
}

// saveAborts writes the transaction indexes that have changed.
func (p *Partition) saveAborts() error {
	type change struct {
		seg  *segment
		list []aborted
	}
	var changes []change
	p.mu.Lock()
	for _, seg := range p.segs {
		if seg.abortsSaved != len(seg.aborts) {
			changes = append(changes, change{seg, seg.aborts[:len(seg.aborts):len(seg.aborts)]})
		}
	}
	p.mu.Unlock()
	for _, c := range changes {
		if err := saveTxnIndex(p.log.fs, c.seg.txnIndexFile(), c.list); err != nil {
			return err
		}
		p.mu.Lock()
		c.seg.abortsSaved = len(c.list)
		p.mu.Unlock()
	}
	return nil
}

// syncIndex syncs an index file, if retention has not removed it.
func syncIndex(fsys vfs.FS, name string) error {
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// snapshot is the checkpoint of this moment, not yet durable, with the index files
// that must be durable before it; nil where there is nothing to save.
func (p *Partition) snapshot() (c *checkpoint, since int64, indexes []string, err error) {
	p.appendMu.Lock()
	defer p.appendMu.Unlock()
	p.mu.Lock()
	if len(p.segs) == 0 || p.blocked() != nil {
		p.mu.Unlock()
		return nil, 0, nil, nil
	}
	active := p.segs[len(p.segs)-1]
	c = &checkpoint{topic: p.topic.id, start: p.start, cleaned: p.cleaned, at: position{active.base, active.size}, offset: p.end}
	since = p.saved.since
	for _, seg := range p.segs {
		if len(seg.aborts) > 0 {
			c.aborts = append(c.aborts, abortCount{seg.base, uint32(len(seg.aborts))})
		}
	}
	p.mu.Unlock()
	if err := p.saveIndex(active); err != nil {
		return nil, 0, nil, err
	}
	p.producers.expire(p.log.o.Now(), p.log.o.ProducerExpiry)
	c.producers = producers{}
	for id, one := range p.producers {
		kept := *one
		c.producers[id] = &kept
	}
	indexes, p.indexes = p.indexes, nil
	return c, since, indexes, nil
}

// syncAll syncs the segments from the last checkpoint's on: with NoSync nobody
// else does.
func (p *Partition) syncAll() error {
	p.mu.Lock()
	var segs []*segment
	for _, s := range p.segs {
		if s.base >= p.saved.base {
			segs = append(segs, s)
		}
	}
	p.mu.Unlock()
	for _, seg := range segs {
		h, err := p.log.files.acquire(seg, false)
		if err != nil {
			return err
		}
		err = h.f.Sync()
		h.release()
		if err != nil {
			return err
		}
	}
	return p.log.fs.SyncDir(p.dir)
}

// closeDown writes the last checkpoint of a log that closes. An error is why the
// next Open has to scan. The flusher has ended.
func (p *Partition) closeDown() error {
	p.mu.Lock()
	since, failed, corrupt := p.saved.since, p.failed, p.corrupt
	p.mu.Unlock()
	switch {
	case failed != nil:
		return p.wrap(failed)
	case corrupt != nil:
		return nil // the next Open finds it again
	case since == 0:
		return nil // the last checkpoint covers it
	}
	return p.checkpoint(context.Background())
}

// DeleteRecords deletes what is below an offset, at most the high watermark,
// durably; whole segments free their space. Errors: ErrOffsetOutOfRange,
// ErrDiskFull, ErrDeleted, ErrClosed.
func (p *Partition) DeleteRecords(ctx context.Context, before int64) error {
	p.mu.Lock()
	if err := p.blocked(); err != nil {
		p.mu.Unlock()
		return p.wrap(err)
	}
	if before > p.hw {
		p.mu.Unlock()
		return p.wrap(fmt.Errorf("%w: %d, there are %d to %d", ErrOffsetOutOfRange, before, p.start, p.hw))
	}
	p.start = max(p.start, before)
	p.wake()
	p.mu.Unlock()
	if err := p.checkpoint(ctx); err != nil {
		return err
	}
	return p.removeSegments(ctx, func(seg, next *segment) bool { return next.base <= before })
}

// removeSegments deletes the oldest segments for as long as old says so. The
// active segment stays, and so does what is not durable.
//
// While the partition is being compacted nothing is done: a later round of
// retention comes here again.
func (p *Partition) removeSegments(ctx context.Context, old func(seg, next *segment) bool) error {
	if !p.cleaning.TryLock() {
		return nil
	}
	defer p.cleaning.Unlock()
	p.mu.Lock()
	n := 0
	for p.gone == nil && n+1 < len(p.segs) && p.segs[n].base < p.hwPos.base && old(p.segs[n], p.segs[n+1]) {
		n++
	}
	removed := p.segs[:n]
	p.mu.Unlock()
	if n == 0 {
		return nil
	}
	// The batches that go are all that recovery could learn some producers from,
	// unless the checkpoint lies behind them. On a full disk room comes first; the
	// next checkpoint has them again.
	if err := p.checkpointPast(ctx, removed[n-1]); err != nil && !errors.Is(err, ErrDiskFull) {
		return err
	}
	p.mu.Lock()
	if p.gone != nil {
		p.mu.Unlock()
		return nil
	}
	p.segs = append([]*segment(nil), p.segs[n:]...) // cleaning is held: these are the same
	p.start = max(p.start, p.segs[0].base)
	p.mu.Unlock()
	for _, seg := range removed {
		p.log.files.drop(seg)
		p.log.indexes.drop(seg)
		if err := p.log.fs.Remove(seg.file); err != nil {
			return p.wrap(err)
		}
		_ = p.log.fs.Remove(seg.indexFile()) // it may never have been written
		if len(seg.aborts) > 0 {
			_ = p.log.fs.Remove(seg.txnIndexFile())
		}
	}
	return nil
}
