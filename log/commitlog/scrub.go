package commitlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// maxDamage bounds the damaged batches that are remembered one by one.
const maxDamage = 1000

// damageList remembers the damage found since Open, so that each is told once.
type damageList struct {
	logger  *slog.Logger
	metrics *metrics
	mu      sync.Mutex
	known   map[damageKey]*CorruptError
}

type damageKey struct {
	file string
	pos  int64
}

func (d *damageList) init(logger *slog.Logger, m *metrics) {
	d.logger, d.metrics, d.known = logger, m, map[damageKey]*CorruptError{}
}

func (d *damageList) found(e *CorruptError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := damageKey{e.File, e.Position}
	if d.known[key] != nil || len(d.known) >= maxDamage {
		return
	}
	d.known[key] = e
	d.metrics.corrupt(e)
	d.logger.Error("corrupt batch", "topic", e.Topic, "partition", e.Partition, "offset", e.Offset, "file", e.File, "position", e.Position,
		"reason", e.Reason, "offline", e.Offline, "repair", e.Repair)
}

// Damage is what was found damaged since Open, by reads, the scrubber and
// recovery, in order of place; at most 1000.
func (l *Log) Damage() []*CorruptError {
	l.damage.mu.Lock()
	defer l.damage.mu.Unlock()
	var list []*CorruptError
	for _, e := range l.damage.known {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *CorruptError) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Position, b.Position))
	})
	return list
}

// VerifyProgress is how far a Verify is.
type VerifyProgress struct {
	Topic     string
	Partition int32
	File      string
	Bytes     int64 // verified so far, over all partitions
	Total     int64 // when Verify began
}

// Verify reads everything durable and checks each batch, and that the transaction
// indexes have every aborted transaction that the batches show. It returns the damage
// it found, which is also logged and counted; err is of ctx or of the disk. progress,
// if not nil, is called after each segment.
func (l *Log) Verify(ctx context.Context, progress func(VerifyProgress)) ([]*CorruptError, error) {
	return l.verify(ctx, progress, func(int) {})
}

func (l *Log) verify(ctx context.Context, progress func(VerifyProgress), read func(int)) ([]*CorruptError, error) {
	topics := l.Topics()
	var found []*CorruptError
	var state VerifyProgress
	for _, t := range topics {
		for _, p := range t.now.Load().partitions {
			state.Total += p.Size()
		}
	}
	for _, t := range topics {
		for _, p := range t.now.Load().partitions {
			p.mu.Lock()
			segs := slices.Clone(p.segs)
			p.mu.Unlock()
			replay := newTxnReplay()
			for _, seg := range segs {
				some, n, err := p.verifySegment(ctx, seg, &replay, read)
				found = append(found, some...)
				if err != nil {
					return found, err
				}
				state.Topic, state.Partition, state.File = t.name, p.index, seg.file
				state.Bytes += n
				if progress != nil {
					progress(state)
				}
			}
		}
	}
	return found, nil
}

// verifySegment checks one segment, and goes on after what is damaged. A segment
// that was removed meanwhile is in order.
func (p *Partition) verifySegment(ctx context.Context, seg *segment, replay *txnReplay, read func(int)) (found []*CorruptError, n int64, err error) {
	p.mu.Lock()
	there := p.gone == nil && slices.Contains(p.segs, seg)
	limit := p.limit(seg)
	end, epochs := seg.end, p.epochs
	active := there && p.segs[len(p.segs)-1] == seg
	p.mu.Unlock()
	if !there {
		return nil, 0, nil
	}
	h, err := p.log.files.acquire(seg, false)
	if errors.Is(err, errReplaced) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, p.lost(seg, 0, seg.base, err)
	}
	defer h.release()
	s := scanner{f: h.f, epochs: epochs, next: seg.base, limit: limit, crc: true, read: read}
	var aborts segment // what seg's transaction index must have
	for {
		if err := ctx.Err(); err != nil {
			return found, s.pos, err
		}
		head, b, d, err := s.batch()
		switch {
		case errors.Is(err, io.EOF):
			found = append(found, p.verifyAborts(seg, aborts.aborts)...)
			if !active && s.next != end && len(found) == 0 {
				d = &damage{pos: s.pos, offset: s.next, reason: fmt.Sprintf("the segment ends before offset %d", end)}
				found = append(found, asCorrupt(p.damaged(seg, d)))
			}
			return found, limit, nil
		case err != nil:
			return found, s.pos, p.lost(seg, s.pos, s.next, err)
		case d == nil:
			replay.batch(&aborts, &head, b)
			continue
		}
		found = append(found, asCorrupt(p.damaged(seg, d)))
		more, err := s.resync()
		if err != nil {
			return found, s.pos, p.lost(seg, s.pos, s.next, err)
		}
		if !more {
			return found, limit, nil
		}
	}
}

// verifyAborts finds aborted transactions that seg's index lacks: who reads committed
// records would take theirs for good. An index may have more than want, of records
// that compaction or retention took.
func (p *Partition) verifyAborts(seg *segment, want []aborted) (found []*CorruptError) {
	p.mu.Lock()
	there, have := slices.Contains(p.segs, seg), seg.aborts
	p.mu.Unlock()
	if !there {
		return nil // compacted meanwhile: batches and index are others'
	}
	for _, w := range want {
		if slices.ContainsFunc(have, func(a aborted) bool { return a.ProducerID == w.ProducerID && a.LastOffset == w.LastOffset }) {
			continue
		}
		e := &CorruptError{Topic: p.topic.name, Partition: p.index, Offset: w.LastOffset, File: seg.txnIndexFile(),
			Reason: fmt.Sprintf("the transaction index lacks that of producer %d, which was aborted here; weir log repair makes it anew", w.ProducerID)}
		p.log.damage.found(e)
		found = append(found, e)
	}
	return found
}

func asCorrupt(err error) *CorruptError {
	var e *CorruptError
	errors.As(err, &e)
	return e
}

// scrubber verifies the log once after Open and then again and again, slowly.
func (l *Log) scrubber(ctx context.Context) {
	for {
		_, err := l.verify(ctx, nil, l.pace(ctx))
		if ctx.Err() != nil {
			return
		}
		if err != nil && !ended(err) {
			l.logger.Warn("scrub ended early", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(l.o.ScrubEvery):
		}
	}
}

// pace holds back a reader so that it does not exceed the scrub rate.
func (l *Log) pace(ctx context.Context) func(n int) {
	began := time.Now()
	var bytes int64
	return func(n int) {
		bytes += int64(n)
		l.metrics.scrubbed(n)
		due := time.Duration(float64(bytes) / float64(l.o.ScrubBytesPerSecond) * float64(time.Second))
		ahead := due - time.Since(began)
		if ahead < 10*time.Millisecond {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(ahead):
		}
	}
}
