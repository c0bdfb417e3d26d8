package commitlog

import (
	"context"
	"errors"
	"time"
)

const (
	janitorEvery   = time.Second
	retentionEvery = 10 * time.Second
	complainEvery  = 30 * time.Second
)

// janitor syncs the marks, writes checkpoints and applies retention.
func (l *Log) janitor(ctx context.Context) {
	tick := time.NewTicker(janitorEvery)
	defer tick.Stop()
	var retained, told time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.marks.sync()
		l.marks.rotate()
		retain := l.retaining.Load() && time.Since(retained) >= retentionEvery
		if retain {
			retained = time.Now()
		}
		failures, err := l.tidy(ctx, retain)
		if werr := l.makeRoom(ctx); err == nil && werr != nil {
			failures, err = 1, werr
		}
		// A full disk fails at every partition and every tick: say it now and then.
		if err != nil && time.Since(told) >= complainEvery {
			told = time.Now()
			l.logger.Warn("checkpoint or retention failed; it is tried again, and until then recovery would scan more", "failures", failures, "first", err)
		}
	}
}

// tidy is one round of the janitor over all partitions, with its first error.
func (l *Log) tidy(ctx context.Context, retain bool) (failures int, first error) {
	now := l.o.Now()
	note := func(err error) {
		if err == nil || ended(err) {
			return
		}
		failures++
		if first == nil {
			first = err
		}
	}
	for _, t := range l.Topics() {
		for _, p := range t.now.Load().partitions {
			if ctx.Err() != nil {
				return failures, first
			}
			if p.due(now) {
				slow := p.slow()
				note(p.checkpoint(ctx))
				if slow {
					p.yieldRoom()
				}
			}
			if retain {
				note(p.retain(ctx, now))
			}
		}
	}
	return failures, first
}

// ended reports whether err only says that the end has come.
func ended(err error) bool {
	return errors.Is(err, ErrClosed) || errors.Is(err, ErrDeleted) || errors.Is(err, context.Canceled)
}

// retain deletes segments that are older or more than the topic keeps.
func (p *Partition) retain(ctx context.Context, now time.Time) error {
	config := p.topic.now.Load().parsed
	start := p.Start()
	// What DeleteRecords could not remove because of a compaction.
	if err := p.removeSegments(ctx, func(_, next *segment) bool { return next.base <= start }); err != nil {
		return err
	}
	if !config.delete || config.retentionAge < 0 && config.retentionBytes < 0 {
		p.hold(0, "", 0)
		return nil
	}
	p.mu.Lock()
	segs := p.segs
	owner, pin, pinned := p.lowestPin()
	p.mu.Unlock()
	held := int64(0)
	excess := p.Size() - config.retentionBytes
	old := map[*segment]bool{}
	for i, seg := range segs {
		if i == len(segs)-1 {
			break
		}
		excess -= seg.size
		large := config.retentionBytes >= 0 && excess >= 0
		if !large && config.retentionAge >= 0 {
			newest, err := p.newest(seg)
			if errors.Is(err, errReplaced) {
				return nil // compacted meanwhile; later
			}
			if err != nil {
				return p.wrap(err)
			}
			large = now.Sub(time.UnixMilli(newest)) > config.retentionAge
		}
		if !large {
			break
		}
		if pinned && segs[i+1].base > pin {
			held += seg.size
			continue
		}
		old[seg] = true
	}
	p.hold(held, owner, pin)
	if len(old) == 0 {
		return nil
	}
	return p.removeSegments(ctx, func(seg, _ *segment) bool { return old[seg] })
}

// makeRoom deletes segments early while the disk has less free space than
// Options.MinFreeBytes, the one with the oldest records first.
func (l *Log) makeRoom(ctx context.Context) error {
	for l.o.MinFreeBytes > 0 && ctx.Err() == nil {
		u, err := l.fs.Usage(l.dir)
		if err != nil || u.Free >= l.o.MinFreeBytes {
			return err
		}
		p, seg, at, err := l.oldestDeletable(false)
		broken := ""
		if p == nil && err == nil {
			if p, seg, at, err = l.oldestDeletable(true); p != nil {
				broken, _, _ = p.Pinned()
			}
		}
		if p == nil || err != nil {
			return err
		}
		l.logger.Warn("deleted a segment early: the disk has little room", "topic", p.topic.name, "partition", p.index, "file", seg.file, "bytes", seg.size,
			"newest_record", time.UnixMilli(at), "free", u.Free, "wanted", l.o.MinFreeBytes, "still_needed_by", broken)
		if err := p.removeSegments(ctx, func(one, _ *segment) bool { return one == seg }); err != nil {
			return err
		}
		if p.Start() < seg.end {
			return nil // it is being compacted; later
		}
		l.metrics.early.Add(float64(seg.size))
	}
	return nil
}

// oldestDeletable is the first segment of a partition that may lose it, the one
// with the oldest newest record of all; nil where there is none. A segment that is
// pinned counts only where that is asked for.
func (l *Log) oldestDeletable(pinned bool) (best *Partition, seg *segment, at int64, err error) {
	for _, t := range l.Topics() {
		config := t.now.Load().parsed
		if !config.delete || config.retentionAge < 0 && config.retentionBytes < 0 {
			continue
		}
		for _, p := range t.now.Load().partitions {
			p.mu.Lock()
			var first *segment
			if len(p.segs) > 1 && p.segs[0].base < p.hwPos.base && p.gone == nil {
				first = p.segs[0]
				if _, pin, is := p.lowestPin(); is && !pinned && p.segs[1].base > pin {
					first = nil
				}
			}
			p.mu.Unlock()
			if first == nil {
				continue
			}
			newest, err := p.newest(first)
			if errors.Is(err, errReplaced) {
				continue
			}
			if err != nil {
				return nil, nil, 0, p.wrap(err)
			}
			if best == nil || newest < at {
				best, seg, at = p, first, newest
			}
		}
	}
	return best, seg, at, nil
}
