package group

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// TxnState is where a transactional id stands, with Kafka's numbers.
type TxnState int8

// The states of a transactional id. TxnPrepareEpochFence is Kafka's name for the
// moment between fencing a producer and aborting its transaction; here that is one
// step, so that it is never entered. TxnDead is an id about to be forgotten.
const (
	TxnEmpty TxnState = iota
	TxnOngoing
	TxnPrepareCommit
	TxnPrepareAbort
	TxnCompleteCommit
	TxnCompleteAbort
	TxnDead
	TxnPrepareEpochFence
)

var txnStateNames = [...]string{"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence"}

// String is the name that Kafka's DescribeTransactions uses.
func (s TxnState) String() string {
	if s >= 0 && int(s) < len(txnStateNames) {
		return txnStateNames[s]
	}
	return fmt.Sprintf("state %d", int8(s))
}

// ParseTxnState is the state of a name; false where there is none.
func ParseTxnState(name string) (TxnState, bool) {
	i := slices.Index(txnStateNames[:], name)
	return TxnState(i), i >= 0
}

// What a transaction coordinator refuses. The broker gives each its Kafka code,
// which depends on the version of the request.
var (
	ErrConcurrentTransactions = errors.New("the transaction before is being completed")
	ErrInvalidTxnState        = errors.New("the transaction is not in a state for this")
	ErrTxnTimedOut            = errors.New("the transaction ran into its timeout and was aborted")
	ErrProducerFenced         = errors.New("there is a newer producer with this transactional id")
	ErrProducerIDMapping      = errors.New("the producer id does not belong to this transactional id")
)

// maxEpoch is the last epoch of a producer id. It only ever stands in markers: who
// would get it as a producer gets a new id.
const maxEpoch = math.MaxInt16

// Producer is a producer id with its epoch.
type Producer struct {
	ID    int64
	Epoch int16
}

// NoProducer is the absence of one.
var NoProducer = Producer{-1, -1}

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

func (p TopicPartition) compare(q TopicPartition) int {
	return cmp.Or(cmp.Compare(p.Topic, q.Topic), cmp.Compare(p.Partition, q.Partition))
}

// sortedSet is ps in order without repetition; it sorts in place.
func sortedSet(ps []TopicPartition) []TopicPartition {
	slices.SortFunc(ps, TopicPartition.compare)
	return slices.Compact(ps)
}

// Txn is what the coordinator knows of one transactional id. It is a value: each
// method returns what would be next, and the caller makes that durable before
// anybody acts on it. Slices are never changed in place.
type Txn struct {
	ID string // the transactional id
	Producer
	// PrevProducerID had the id before its epochs were used up; NextProducerID gets
	// it when the transaction that is being completed is. -1: none.
	PrevProducerID, NextProducerID int64
	// LastEpoch is the epoch before the last bump that its producer may not have
	// heard of; -1: none. It is not durable.
	LastEpoch  int16
	Timeout    time.Duration
	State      TxnState
	Partitions []TopicPartition // of the transaction, in order
	Started    time.Time        // of the transaction; zero: none
	Updated    time.Time
	// Version is 2 where the producer bumps its epoch with each transaction
	// (KIP-890), else 0.
	Version int16
	// TimedOut: what was aborted last ran into its timeout. It is not durable.
	TimedOut bool
}

// NewTxn is a transactional id that nobody has used yet. Init gives it an id.
func NewTxn(id string) Txn {
	return Txn{ID: id, Producer: NoProducer, PrevProducerID: -1, NextProducerID: -1, LastEpoch: -1}
}

// Preparing reports whether the transaction's outcome is decided and not yet known
// to all its partitions.
func (t Txn) Preparing() bool { return t.State == TxnPrepareCommit || t.State == TxnPrepareAbort }

// Commits reports whether the outcome is, or was, a commit.
func (t Txn) Commits() bool { return t.State == TxnPrepareCommit || t.State == TxnCompleteCommit }

// Has reports whether the transaction contains a partition.
func (t Txn) Has(p TopicPartition) bool {
	_, ok := slices.BinarySearchFunc(t.Partitions, p, TopicPartition.compare)
	return ok
}

// Overdue reports whether the transaction has run into its timeout.
func (t Txn) Overdue(now time.Time) bool {
	return t.State == TxnOngoing && now.Sub(t.Started) >= t.Timeout
}

// Idle reports whether the id may be forgotten: no transaction is open and it was
// not used for so long.
func (t Txn) Idle(now time.Time, retention time.Duration) bool {
	return (t.State == TxnEmpty || t.State == TxnCompleteCommit || t.State == TxnCompleteAbort) && now.Sub(t.Updated) >= retention
}

// FreshID gives a producer id that was never used.
type FreshID func() (int64, error)

// Init starts a producer with this transactional id and fences those before it.
// expected is what the producer believes it is (KIP-360), or NoProducer.
//
// Where a transaction is ongoing, next is that transaction being aborted: once it
// is completed, Init with the same arguments goes on.
func (t Txn) Init(now time.Time, timeout time.Duration, expected Producer, fresh FreshID) (next Txn, err error) {
	if !t.mayBe(expected) {
		return t, ErrProducerFenced
	}
	next = t
	switch t.State {
	case TxnPrepareCommit, TxnPrepareAbort:
		return t, ErrConcurrentTransactions
	case TxnOngoing:
		if expected != NoProducer && expected != t.Producer {
			return t, ErrProducerFenced
		}
		if next, err = t.fence(now, fresh); err != nil {
			return t, err
		}
		if expected == NoProducer {
			// Whoever had the transaction shall not take the new epoch for its own.
			next.LastEpoch = -1
		}
		return next, nil
	case TxnEmpty, TxnCompleteCommit, TxnCompleteAbort:
	default:
		return t, ErrInvalidTxnState
	}
	next.Timeout, next.Updated, next.State, next.Started, next.TimedOut = timeout, now, TxnEmpty, time.Time{}, false
	next.Version = 0 // what the one before spoke says nothing of this one
	switch {
	case t.Epoch < 0:
		next.Producer, err = renew(fresh)
	case expected != NoProducer && expected != t.Producer:
		// A retry of the one whose answer was lost.
	case t.Epoch >= maxEpoch-1:
		next.PrevProducerID, next.LastEpoch = t.Producer.ID, t.Epoch
		next.Producer, err = renew(fresh)
	default:
		next.Epoch, next.LastEpoch = t.Epoch+1, t.Epoch
	}
	if err != nil {
		return t, err
	}
	if expected == NoProducer {
		next.LastEpoch = -1
	}
	return next, nil
}

// mayBe reports whether a producer that believes to be expected is the one that
// has the transactional id, or was until a bump that it may not have heard of.
func (t Txn) mayBe(expected Producer) bool {
	switch {
	case expected == NoProducer || t.Epoch < 0 || expected == t.Producer:
		return true
	case t.LastEpoch < 0 || expected.Epoch != t.LastEpoch:
		return false
	}
	return expected.ID == t.Producer.ID || expected.ID == t.PrevProducerID && t.Epoch == 0
}

func renew(fresh FreshID) (Producer, error) {
	id, err := fresh()
	return Producer{id, 0}, err
}

// Add puts partitions into the producer's transaction, which it opens where there
// is none. changed is false where nothing was new. version is 2 where the producer
// speaks KIP-890.
func (t Txn) Add(now time.Time, p Producer, version int16, parts ...TopicPartition) (next Txn, changed bool, err error) {
	if err := t.check(p); err != nil {
		return t, false, err
	}
	next = t
	switch t.State {
	case TxnPrepareCommit, TxnPrepareAbort:
		return t, false, ErrConcurrentTransactions
	case TxnEmpty, TxnCompleteCommit, TxnCompleteAbort:
		next.State, next.Started, next.Partitions, next.Version, next.TimedOut = TxnOngoing, now, nil, version, false
		changed = true
	case TxnOngoing:
	default:
		return t, false, ErrInvalidTxnState
	}
	if fresh := slices.DeleteFunc(slices.Clone(parts), next.Has); len(fresh) > 0 {
		next.Partitions = sortedSet(slices.Concat(next.Partitions, fresh))
		changed = true
	}
	if !changed {
		return t, false, nil
	}
	next.Updated = now
	return next, true, nil
}

// Adopt gives an open transaction that was found in a partition back to its
// producer's, where it can be told to be of it. After a crash the partition's data
// may be there and not the state that Add made for it; who then goes on with the
// transaction must have both. Where ok is false nobody can end it any more.
func (t Txn) Adopt(now time.Time, p Producer, part TopicPartition) (next Txn, changed, ok bool) {
	if t.Preparing() && t.Producer.ID == p.ID {
		return t, false, t.Has(part)
	}
	next, changed, err := t.Add(now, p, t.Version, part)
	return next, changed, err == nil
}

// Verify is nil where the producer's transaction is ongoing and contains the
// partition.
func (t Txn) Verify(p Producer, part TopicPartition) error {
	if err := t.check(p); err != nil {
		return err
	}
	switch {
	case t.Preparing():
		return ErrConcurrentTransactions
	case t.State != TxnOngoing || !t.Has(part):
		return ErrInvalidTxnState
	}
	return nil
}

func (t Txn) check(p Producer) error {
	switch {
	case p.ID != t.Producer.ID:
		return ErrProducerIDMapping
	case p.Epoch != t.Epoch:
		return ErrProducerFenced
	}
	return nil
}

// End decides the producer's transaction. With bump, as EndTxn has it from version
// 5 on, the producer's epoch grows, so that no late request of this transaction can
// be taken for one of the next. changed is false where it was decided before and
// this is a retry; the answer in both cases is Successor.
func (t Txn) End(now time.Time, p Producer, commit, bump bool, fresh FreshID) (next Txn, changed bool, err error) {
	retry := bump && t.isRetry(p)
	if !retry {
		if err := t.check(p); err != nil {
			return t, false, err
		}
	}
	switch t.State {
	case TxnOngoing:
		if retry { // of the transaction before: this one is not its to end
			return t, false, ErrProducerFenced
		}
		next, err = t.prepare(now, commit, bump, fresh)
		return next, err == nil, err
	case TxnPrepareCommit, TxnPrepareAbort:
		if commit != t.Commits() {
			return t, false, ErrInvalidTxnState
		}
		return t, false, ErrConcurrentTransactions
	case TxnEmpty, TxnCompleteCommit, TxnCompleteAbort:
		done := t.State != TxnEmpty && commit == t.Commits()
		switch {
		case done && (retry || !bump):
			return t, false, nil
		case retry && commit && t.TimedOut:
			return t, false, ErrTxnTimedOut
		case commit || retry || !bump:
			return t, false, ErrInvalidTxnState
		}
		// An abort of a transaction without partitions: the epoch grows all the same.
		t.Partitions, t.Started = nil, now
		next, err = t.prepare(now, false, true, fresh)
		return next, err == nil, err
	}
	return t, false, ErrInvalidTxnState
}

// isRetry reports whether p is the producer as it was before the last transaction
// was ended with a bump.
func (t Txn) isRetry(p Producer) bool {
	if t.Version < 2 {
		return false
	}
	bumped := p.ID == t.Producer.ID && p.Epoch >= 0 && t.Epoch == p.Epoch+1
	renewed := p.ID == t.PrevProducerID && p.Epoch >= maxEpoch-1 && t.Epoch == 0
	return bumped || renewed
}

// Successor is the producer that may go on once the transaction is completed.
func (t Txn) Successor() Producer {
	if t.NextProducerID >= 0 {
		return Producer{t.NextProducerID, 0}
	}
	return t.Producer
}

// TimeOut aborts an ongoing transaction and fences its producer, which may go on
// with Init and what it believes to be (KIP-588).
func (t Txn) TimeOut(now time.Time, fresh FreshID) (Txn, error) {
	next, err := t.fence(now, fresh)
	if err != nil {
		return t, err
	}
	next.TimedOut = true
	return next, nil
}

// fence aborts an ongoing transaction with a new epoch, that its producer has not.
func (t Txn) fence(now time.Time, fresh FreshID) (Txn, error) {
	version := t.Version
	next, err := t.prepare(now, false, true, fresh)
	next.Version = version
	return next, err
}

func (t Txn) prepare(now time.Time, commit, bump bool, fresh FreshID) (next Txn, err error) {
	next = t
	next.State, next.Updated, next.TimedOut = TxnPrepareAbort, now, false
	if commit {
		next.State = TxnPrepareCommit
	}
	if !bump {
		return next, nil
	}
	next.Version, next.LastEpoch = 2, t.Epoch
	if t.Epoch >= maxEpoch-1 {
		if next.NextProducerID, err = fresh(); err != nil {
			return t, err
		}
	}
	if t.Epoch < maxEpoch {
		next.Epoch = t.Epoch + 1
	}
	return next, nil
}

// Complete is what follows a prepared transaction when all its partitions have
// their marker.
func (t Txn) Complete(now time.Time) Txn {
	next := t
	next.State = TxnCompleteAbort
	if t.State == TxnPrepareCommit {
		next.State = TxnCompleteCommit
	}
	if t.NextProducerID >= 0 {
		next.PrevProducerID, next.Producer, next.NextProducerID = t.Producer.ID, Producer{t.NextProducerID, 0}, -1
	}
	next.Partitions, next.Updated, next.Started = nil, now, time.Time{}
	return next
}
