package commitlog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weirstream/weir/log/record"
)

// Marker ends the transaction of a producer in one partition.
type Marker struct {
	ProducerID       int64
	ProducerEpoch    int16 // with KIP-890 (transactions v2) the bumped one
	CoordinatorEpoch int32
	Commit           bool // else abort
}

// AbortedTransaction is an aborted transaction: the records of its producer from
// FirstOffset to LastOffset, the offset of the marker, do not count.
type AbortedTransaction struct {
	ProducerID  int64
	FirstOffset int64
	LastOffset  int64
}

// ProducerState is what a partition knows of one producer.
type ProducerState struct {
	ProducerID       int64
	Epoch            int16
	LastSequence     int32 // -1: none
	LastTime         time.Time
	CoordinatorEpoch int32 // of its last marker; -1: none
	TxnStart         int64 // first offset of its open transaction; -1: none
}

// ongoing is a transaction that holds the last stable offset back: it is open, or
// its marker is not durable yet.
type ongoing struct {
	producer int64
	first    int64
	marker   int64 // -1: open
}

// aborted is an entry of a segment's transaction index: of an aborted transaction
// whose marker lies in the segment.
type aborted struct {
	AbortedTransaction
	// stable is the last stable offset with the marker: what is aborted later
	// begins there or after it.
	stable int64
}

// txnStep is what a batch does to its producer's transaction.
type txnStep int8

const (
	txnNone txnStep = iota
	txnBegin
	txnCommit
	txnAbort
)

// LastStableOffset is the first offset of the earliest transaction that is open
// or whose marker is not durable, else the high watermark. It never goes back.
func (p *Partition) LastStableOffset() int64 { p.mu.Lock(); defer p.mu.Unlock(); return p.stable() }

// stable is LastStableOffset. The caller holds mu.
func (p *Partition) stable() int64 {
	if len(p.ongoing) == 0 {
		return p.hw
	}
	// Records of an open transaction can have been deleted.
	return min(p.hw, max(p.start, p.ongoing[0].first))
}

// settle drops what no longer holds the last stable offset back. The caller holds
// mu and has moved hw.
func (p *Partition) settle() {
	if len(p.ongoing) > 0 {
		p.ongoing = slices.DeleteFunc(p.ongoing, func(o ongoing) bool { return o.marker >= 0 && o.marker < p.hw })
	}
}

// transact takes in what the accepted batch h in seg does to its producer's
// transaction, which began at offset first. The caller holds mu.
func (p *Partition) transact(seg *segment, h *record.BatchHeader, step txnStep, first int64) {
	switch step {
	case txnBegin:
		p.ongoing = append(p.ongoing, ongoing{h.ProducerID, h.BaseOffset, -1})
	case txnCommit, txnAbort:
		if first < 0 {
			return // a marker of a transaction without records here, or sent again
		}
		stable := h.LastOffset() + 1
		for i := range p.ongoing {
			o := &p.ongoing[i]
			switch {
			case o.producer == h.ProducerID && o.marker < 0:
				o.marker = h.BaseOffset
			case o.marker < 0:
				stable = min(stable, o.first)
			}
		}
		if step == txnAbort {
			seg.aborts = append(seg.aborts, aborted{AbortedTransaction{h.ProducerID, first, h.LastOffset()}, stable})
		}
	}
}

// AppendMarker appends the marker that ends a transaction and returns its offset
// when it is durable. A producer without an open transaction gets its marker as
// well: a coordinator sends one again when it does not know. Errors:
// ErrProducerFenced beside ErrInvalidProducerEpoch where the producer's epoch is
// larger, ErrCoordinatorFenced where a marker of a newer coordinator came before,
// ErrDiskFull, *CorruptError, ErrFailed, ErrDeleted, ErrClosed: nothing was
// appended. ErrFailed or ctx.Err with an offset of 0 or more: as Append.
func (p *Partition) AppendMarker(ctx context.Context, m Marker) (offset int64, err error) {
	now := p.log.o.Now()
	batch := record.AppendMarker(nil, record.Marker{ProducerID: m.ProducerID, ProducerEpoch: m.ProducerEpoch,
		CoordinatorEpoch: m.CoordinatorEpoch, Commit: m.Commit, Timestamp: now.UnixMilli()})
	h, err := record.ParseHeader(batch)
	if err != nil || m.ProducerID < 0 || m.ProducerEpoch < 0 {
		return -1, p.wrap(fmt.Errorf("%w: marker of producer %d epoch %d: %w", ErrInvalidBatch, m.ProducerID, m.ProducerEpoch, cmp.Or(err, record.ErrRecord)))
	}
	if err := p.log.flusher.admit(ctx, int64(len(batch))); err != nil {
		return -1, p.wrap(err)
	}
	if offset, err = p.acceptMarker(&h, batch, m, now); err != nil {
		return -1, p.wrap(err)
	}
	return offset, p.Wait(ctx, offset)
}

func (p *Partition) acceptMarker(h *record.BatchHeader, batch []byte, m Marker, now time.Time) (int64, error) {
	p.appendMu.Lock()
	defer p.appendMu.Unlock()
	p.mu.Lock()
	err, end, reign := p.refusal(), p.end, p.reign
	p.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if err := p.producers.checkMarker(m); err != nil {
		return 0, err
	}
	if reign == reignNew {
		if err := p.beginReign(); err != nil {
			return 0, err
		}
	}
	seg, err := p.segmentFor(h, int64(len(batch)), end, now, p.topic.now.Load().parsed)
	if err != nil {
		return 0, diskFull(err)
	}
	step := txnAbort
	if m.Commit {
		step = txnCommit
	}
	if err := p.put(seg, h, batch, step, p.producers.txnStart(m.ProducerID)); err != nil {
		return 0, err
	}
	p.producers.mark(m, now)
	return end, nil
}

// WaitStable returns once the last stable offset is past offset. Errors: as Wait.
func (p *Partition) WaitStable(ctx context.Context, offset int64) error {
	return p.await(ctx, func() bool { return p.stable() > offset })
}

// AbortedTransactions are the aborted transactions with a record in [from, to) or
// a marker at or after from, in order of their markers: what a reader of
// committed records needs to know of what it read there.
func (p *Partition) AbortedTransactions(from, to int64) []AbortedTransaction {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.segs) == 0 {
		return nil
	}
	var list []AbortedTransaction
	for _, seg := range p.segs[p.find(from):] {
		i, _ := slices.BinarySearchFunc(seg.aborts, from, func(a aborted, from int64) int { return cmp.Compare(a.LastOffset, from) })
		for _, a := range seg.aborts[i:] {
			if a.FirstOffset < to {
				list = append(list, a.AbortedTransaction)
			}
			if a.stable >= to {
				return list
			}
		}
	}
	return list
}

// OpenTransaction tells of a producer's open transaction: its first offset and
// the producer's epoch.
func (p *Partition) OpenTransaction(producerID int64) (first int64, epoch int16, open bool) {
	p.appendMu.Lock()
	defer p.appendMu.Unlock()
	one := p.producers[producerID]
	if one == nil || one.txn < 0 {
		return -1, -1, false
	}
	return one.txn, one.epoch, true
}

// Producers are the producers that the partition remembers, in order of id.
func (p *Partition) Producers() []ProducerState {
	p.appendMu.Lock()
	defer p.appendMu.Unlock()
	list := make([]ProducerState, 0, len(p.producers))
	for _, id := range p.producers.sorted(cmp.Compare[int64]) {
		one := p.producers[id]
		s := ProducerState{ProducerID: id, Epoch: one.epoch, LastSequence: -1, LastTime: one.last, CoordinatorEpoch: one.coordinator, TxnStart: one.txn}
		if one.n > 0 {
			s.LastSequence = one.kept[one.n-1].last
		}
		list = append(list, s)
	}
	return list
}

// checkMarker refuses a marker of an old producer epoch or of an old coordinator.
func (ps producers) checkMarker(m Marker) error {
	p := ps[m.ProducerID]
	switch {
	case p == nil:
		return nil
	case m.ProducerEpoch < p.epoch:
		return fmt.Errorf("%w: %w: marker of producer %d epoch %d, the epoch is %d", ErrProducerFenced, ErrInvalidProducerEpoch, m.ProducerID, m.ProducerEpoch, p.epoch)
	case m.CoordinatorEpoch < p.coordinator:
		return fmt.Errorf("%w: marker of producer %d with coordinator epoch %d, there was one with %d", ErrCoordinatorFenced, m.ProducerID, m.CoordinatorEpoch, p.coordinator)
	}
	return nil
}

// ongoing are the open transactions in order of their first offset.
func (ps producers) ongoing() []ongoing {
	var list []ongoing
	for id, p := range ps {
		if p.txn >= 0 {
			list = append(list, ongoing{id, p.txn, -1})
		}
	}
	slices.SortFunc(list, func(a, b ongoing) int { return cmp.Compare(a.first, b.first) })
	return list
}

// txnStart is the first offset of a producer's open transaction, -1 for none.
func (ps producers) txnStart(id int64) int64 {
	if p := ps[id]; p != nil {
		return p.txn
	}
	return -1
}

// mark remembers an appended marker: the transaction is over, and a larger epoch
// is the producer's from now on.
func (ps producers) mark(m Marker, now time.Time) {
	_, known := ps[m.ProducerID]
	p := ps.get(m.ProducerID, m.ProducerEpoch)
	if !known {
		p.unsure = true
	}
	p.txn, p.coordinator, p.last = -1, m.CoordinatorEpoch, now
}
