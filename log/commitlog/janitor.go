package commitlog

import (
	"context"
	"errors"
	"time"
)

const (
	janitorEvery   = time.Second
	retentionEvery = 10 * time.Second
)

// janitor syncs the marks, writes checkpoints and applies retention.
func (l *Log) janitor(ctx context.Context) {
	tick := time.NewTicker(janitorEvery)
	defer tick.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.marks.sync()
		now := l.o.Now()
		retain := time.Since(last) >= retentionEvery
		if retain {
			last = time.Now()
		}
		for _, t := range l.Topics() {
			for _, p := range t.now.Load().partitions {
				if ctx.Err() != nil {
					return
				}
				if p.due(now) {
					l.grumble("checkpoint not written; recovery will scan more", p.checkpoint(ctx))
				}
				if retain {
					l.grumble("retention not applied", p.retain(now))
				}
			}
		}
	}
}

// grumble logs an error of housekeeping, unless it only says that the end is near.
func (l *Log) grumble(what string, err error) {
	if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrDeleted) && !errors.Is(err, context.Canceled) {
		l.logger.Warn(what, "err", err)
	}
}

// retain deletes segments that are older or more than the topic keeps.
func (p *Partition) retain(now time.Time) error {
	config := p.topic.now.Load().parsed
	if !config.delete || config.retentionAge < 0 && config.retentionBytes < 0 {
		return nil
	}
	p.mu.Lock()
	segs := p.segs
	p.mu.Unlock()
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
			if err != nil {
				return p.wrap(err)
			}
			large = now.Sub(time.UnixMilli(newest)) > config.retentionAge
		}
		if !large {
			break
		}
		old[seg] = true
	}
	if len(old) == 0 {
		return nil
	}
	return p.removeSegments(func(seg, _ *segment) bool { return old[seg] })
}
