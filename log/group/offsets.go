package group

import (
	"iter"
	"maps"
)

// Offset is what a group committed for a partition.
type Offset struct {
	Offset      int64
	LeaderEpoch int32 // -1: not told
	Metadata    string
	Time        int64 // of the commit, in ms since the epoch
	// Place is where the commit stands in its partition of the state topic: the
	// later one counts.
	Place int64
}

// Offsets are the offsets of one group. The zero value has none.
type Offsets struct {
	committed map[TopicPartition]Offset
	pending   map[int64]map[TopicPartition]Offset // of open transactions, by producer id
}

// Get is the committed offset of a partition.
func (o *Offsets) Get(p TopicPartition) (Offset, bool) {
	at, ok := o.committed[p]
	return at, ok
}

// Unstable reports whether an open transaction has an offset for p, so that the
// committed one may soon be another.
func (o *Offsets) Unstable(p TopicPartition) bool {
	for _, of := range o.pending {
		if _, ok := of[p]; ok {
			return true
		}
	}
	return false
}

// All are the committed offsets, in no order.
func (o *Offsets) All() iter.Seq2[TopicPartition, Offset] { return maps.All(o.committed) }

// Unstables are the partitions with offsets of open transactions; one may come
// more than once.
func (o *Offsets) Unstables() iter.Seq[TopicPartition] {
	return func(yield func(TopicPartition) bool) {
		for _, of := range o.pending {
			for p := range of {
				if !yield(p) {
					return
				}
			}
		}
	}
}

// Len is the number of partitions with a committed offset.
func (o *Offsets) Len() int { return len(o.committed) }

// Idle reports whether there is nothing to remember: neither offsets nor open
// transactions.
func (o *Offsets) Idle() bool { return len(o.committed) == 0 && len(o.pending) == 0 }

// Commit notes a commit, unless a later one is known.
func (o *Offsets) Commit(p TopicPartition, at Offset) {
	if old, ok := o.committed[p]; ok && old.Place > at.Place {
		return
	}
	if o.committed == nil {
		o.committed = make(map[TopicPartition]Offset)
	}
	o.committed[p] = at
}

// CommitPending notes an offset that counts once its producer's transaction is
// committed.
func (o *Offsets) CommitPending(producer int64, p TopicPartition, at Offset) {
	if o.pending == nil {
		o.pending = make(map[int64]map[TopicPartition]Offset)
	}
	of := o.pending[producer]
	if of == nil {
		of = make(map[TopicPartition]Offset)
		o.pending[producer] = of
	}
	of[p] = at
}

// HasPending reports whether the producer's transaction has offsets here.
func (o *Offsets) HasPending(producer int64) bool { return len(o.pending[producer]) > 0 }

// End ends the transaction of a producer; its offsets count where it was committed
// and nothing later was.
func (o *Offsets) End(producer int64, commit bool) {
	of := o.pending[producer]
	delete(o.pending, producer)
	if !commit {
		return
	}
	for p, at := range of {
		o.Commit(p, at)
	}
}

// Delete forgets the committed offset of a partition.
func (o *Offsets) Delete(p TopicPartition) { delete(o.committed, p) }

// DropPending forgets what open transactions have for partitions that gone names.
func (o *Offsets) DropPending(gone func(TopicPartition) bool) {
	for producer, of := range o.pending {
		maps.DeleteFunc(of, func(p TopicPartition, _ Offset) bool { return gone(p) })
		if len(of) == 0 {
			delete(o.pending, producer)
		}
	}
}

// HasOpen reports whether any open transaction has offsets here.
func (o *Offsets) HasOpen() bool { return len(o.pending) > 0 }
