package group

import (
	"iter"
	"maps"
	"slices"
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

// Partitions are those with an offset, of open transactions included, in no order.
func (o *Offsets) Partitions() []TopicPartition {
	list := slices.Collect(maps.Keys(o.committed))
	seen := map[TopicPartition]bool{}
	for _, of := range o.pending {
		for p := range of {
			if _, ok := o.committed[p]; !ok && !seen[p] {
				seen[p] = true
				list = append(list, p)
			}
		}
	}
	return list
}

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

// Delete forgets the committed offset of a partition, and what open transactions
// have for it: they came before.
func (o *Offsets) Delete(p TopicPartition) {
	delete(o.committed, p)
	for producer, of := range o.pending {
		if delete(of, p); len(of) == 0 {
			delete(o.pending, producer)
		}
	}
}
