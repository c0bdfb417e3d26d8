package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/record"
)

const (
	// maxTransactionalIDs bounds the transactional ids that are kept; idle ones go
	// after Options.TransactionalIDExpiration.
	maxTransactionalIDs = 100_000
	// maxTransactionalIDBytes bounds one of them.
	maxTransactionalIDBytes = 8 << 10
	// completionPatience is how long a request waits for a transaction that is
	// being completed. Its outcome is decided, so that EndTxn is answered all the
	// same.
	completionPatience = 2 * time.Second
	// sweepInterval is how often transactions are looked at for their timeout.
	sweepInterval = time.Second
	// maxMarkers is how many markers are being written at the same time: those of
	// many transactions share the disk's commits.
	maxMarkers = 256
	// markerRetry and markerRetryMax are the waits before a marker that could not be
	// written is tried again.
	markerRetry    = 10 * time.Millisecond
	markerRetryMax = 5 * time.Second
)

// transactions is the transaction coordinator: the states of group.Txn made
// durable in __transaction_state, and what follows from them.
//
// A state is appended before it is acted on, under the lock of its transactional
// id, and an answer leaves when it is durable. Data of a transaction is appended
// under that lock too, shared, so that none can follow its marker. Data need not
// wait for the state that allows it to be durable: where a crash loses that state,
// adopt makes it again from the data.
type transactions struct {
	log     *commitlog.Log
	state   *stateTopic
	logger  *slog.Logger
	metrics *transactionMetrics
	// offsets ends the transaction of m's producer in a partition of
	// __consumer_offsets; durable when it returns.
	offsets    func(ctx context.Context, partition int32, m commitlog.Marker) error
	expiration time.Duration
	loaded     atomic.Bool

	mu   sync.RWMutex
	byID map[string]*transaction
	owed map[string]group.Txn // see owe

	// ctx ends the goroutines below; each is a transaction being completed, or run.
	ctx     context.Context
	work    sync.WaitGroup
	markers chan struct{} // slots
}

// transaction is one transactional id. Who holds mu shared may append data of its
// transaction; who holds it may change the state.
type transaction struct {
	mu      sync.RWMutex
	t       group.Txn
	stored  stored        // t
	barrier stored        // the last completed state: no data before it is durable
	done    chan struct{} // closed when the prepared transaction is completed
}

func newTransactions(l *commitlog.Log, o Options, m *transactionMetrics) *transactions {
	x := &transactions{log: l, logger: o.Logger, metrics: m, expiration: o.TransactionalIDExpiration,
		state: newStateTopic(l, transactionsTopic, o.Logger),
		byID:  map[string]*transaction{}, owed: map[string]group.Txn{}, markers: make(chan struct{}, maxMarkers)}
	x.offsets = func(ctx context.Context, partition int32, m commitlog.Marker) error {
		return x.markPartition(ctx, group.TopicPartition{Topic: offsetsTopic, Partition: partition}, m)
	}
	return x
}

// run loads the state, and then sees to timeouts until ctx is done. It returns
// when everything it started has ended.
func (x *transactions) run(ctx context.Context) {
	x.ctx = ctx
	defer x.work.Wait()
	x.recover(ctx)
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			x.sweep(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// ready is nil where the coordinator can answer for a transactional id.
func (x *transactions) ready(id string) error {
	if !x.loaded.Load() {
		return kerr.CoordinatorLoadInProgress
	}
	return x.state.ready(x.state.partition(id))
}

// find is the transactional id's state, nil where nobody has it.
func (x *transactions) find(id string) (*transaction, error) {
	if id == "" {
		return nil, refuse(kerr.InvalidRequest, "empty transactional id")
	}
	if err := x.ready(id); err != nil {
		return nil, err
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	if tr := x.byID[id]; tr != nil {
		return tr, nil
	}
	return nil, group.ErrProducerIDMapping
}

// make is find, with a new state where there is none.
func (x *transactions) make(id string) (*transaction, error) {
	switch tr, err := x.find(id); {
	case !errors.Is(err, group.ErrProducerIDMapping):
		return tr, err
	case len(id) > maxTransactionalIDBytes || strings.HasPrefix(id, owedPrefix):
		return nil, refuse(kerr.InvalidRequest, fmt.Sprintf("transactional id of %d bytes, at most %d, not beginning with %q", len(id), maxTransactionalIDBytes, owedPrefix))
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if tr := x.byID[id]; tr != nil {
		return tr, nil
	}
	if len(x.byID) >= maxTransactionalIDs {
		x.logger.Warn("transactional id refused: too many are in use", "id", id, "limit", maxTransactionalIDs)
		return nil, refuse(kerr.PolicyViolation, fmt.Sprintf("%d transactional ids are in use", maxTransactionalIDs))
	}
	tr := &transaction{t: group.NewTxn(id)}
	x.byID[id] = tr
	return tr, nil
}

// store appends next, and it is the state from now on. A prepared transaction
// begins to be completed. The caller holds tr.mu.
func (x *transactions) store(ctx context.Context, tr *transaction, next group.Txn) error {
	st, err := x.append(ctx, next.ID, next.Value())
	if err != nil {
		return err
	}
	tr.t, tr.stored = next, st
	if next.Preparing() {
		tr.done = make(chan struct{})
		x.work.Go(func() { x.complete(tr, next, st) })
	}
	return nil
}

func (x *transactions) append(ctx context.Context, id string, value []byte) (stored, error) {
	return x.state.append(ctx, x.state.partition(id), record.BatchOptions{}, time.Now(), keyValue{group.TxnKey(id), value})
}

// init gives a producer its id and epoch (InitProducerId). It completes what was
// ongoing first, and returns when everything is durable.
func (x *transactions) init(ctx context.Context, id string, timeout time.Duration, expected group.Producer) (group.Producer, error) {
	giveUp := time.Now().Add(completionPatience)
	for {
		tr, err := x.make(id)
		if err != nil {
			return group.NoProducer, err
		}
		tr.mu.Lock()
		next, err := tr.t.Init(time.Now(), timeout, expected, x.log.NewProducerID)
		if err == nil {
			err = x.store(ctx, tr, next)
		}
		st, done, dead := tr.stored, tr.done, tr.t.State == group.TxnDead
		tr.mu.Unlock()
		switch {
		case dead: // forgotten just now
		case err == nil && next.Preparing() || errors.Is(err, group.ErrConcurrentTransactions):
			if err := waitDone(ctx, done, giveUp); err != nil {
				return group.NoProducer, err
			}
		case err != nil:
			return group.NoProducer, err
		default:
			return next.Producer, st.wait(ctx)
		}
	}
}

// waitDone waits for a transaction to be completed; CONCURRENT_TRANSACTIONS where
// that takes too long.
func waitDone(ctx context.Context, done <-chan struct{}, giveUp time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, giveUp)
	defer cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return group.ErrConcurrentTransactions
	}
}

// add puts partitions into a producer's transaction. What it returns must be
// durable before the client is told.
func (x *transactions) add(ctx context.Context, id string, p group.Producer, version int16, parts ...group.TopicPartition) (stored, error) {
	tr, err := x.find(id)
	if err != nil {
		return stored{}, err
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	next, changed, err := tr.t.Add(time.Now(), p, version, parts...)
	if err == nil && changed {
		err = x.store(ctx, tr, next)
	}
	return tr.stored, err
}

// enter lets data of a producer's transaction into a partition: until leave is
// called the transaction is not ended. Where implicit, the partition is added if it
// is not part of it (KIP-890). The data is told to be durable once st is, too.
func (tr *transaction) enter(ctx context.Context, x *transactions, p group.Producer, part group.TopicPartition, implicit bool) (st stored, err error) {
	for {
		tr.mu.RLock()
		id, err := tr.t.ID, tr.t.Verify(p, part)
		switch {
		case err == nil && tr.barrier.durable():
			return tr.stored, nil
		case err == nil:
			barrier := tr.barrier
			tr.mu.RUnlock()
			if err := barrier.wait(ctx); err != nil {
				return stored{}, err
			}
			continue
		}
		tr.mu.RUnlock()
		if !implicit || !errors.Is(err, group.ErrInvalidTxnState) {
			return stored{}, err
		}
		if _, err := x.add(ctx, id, p, 2, part); err != nil {
			return stored{}, err
		}
	}
}

func (tr *transaction) leave() { tr.mu.RUnlock() }

// end decides a transaction (EndTxn). finish waits until that is durable and, for
// a while, until it is completed; it returns who may begin the next.
func (x *transactions) end(ctx context.Context, id string, p group.Producer, commit, bump bool) (finish func(context.Context) (group.Producer, error), err error) {
	tr, err := x.find(id)
	if err != nil {
		return nil, err
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	next, changed, err := tr.t.End(time.Now(), p, commit, bump, x.log.NewProducerID)
	if err == nil && changed {
		err = x.store(ctx, tr, next)
	}
	// Of a transaction that is being completed this is a retry.
	if errors.Is(err, group.ErrConcurrentTransactions) {
		next, err = tr.t, nil
	}
	if err != nil {
		return nil, err
	}
	st, done := tr.stored, tr.done
	if done == nil { // completed before this process began
		done = closed
	}
	return func(ctx context.Context) (group.Producer, error) {
		giveUp := time.Now().Add(completionPatience)
		if err := st.wait(ctx); err != nil {
			return group.NoProducer, err
		}
		_ = waitDone(ctx, done, giveUp) // decided all the same
		return next.Successor(), nil
	}, nil
}

// closed is a channel that is.
var closed = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// sweep aborts what ran into its timeout and forgets what nobody uses.
func (x *transactions) sweep(now time.Time) {
	x.mu.RLock()
	list := make([]*transaction, 0, len(x.byID))
	for _, tr := range x.byID {
		list = append(list, tr)
	}
	x.mu.RUnlock()
	for _, tr := range list {
		tr.mu.RLock()
		overdue, idle, id := tr.t.Overdue(now), tr.t.Idle(now, x.expiration), tr.t.ID
		tr.mu.RUnlock()
		var err error
		switch {
		case overdue:
			err = x.timeOut(tr, now)
		case idle:
			err = x.forget(tr, now)
		}
		if err != nil && x.ctx.Err() == nil {
			x.logger.Error("transaction not aborted or forgotten; trying again", "id", id, "err", err)
		}
	}
}

func (x *transactions) timeOut(tr *transaction, now time.Time) error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if !tr.t.Overdue(now) {
		return nil
	}
	was := tr.t
	next, err := was.TimeOut(now, x.log.NewProducerID)
	if err != nil {
		return err
	}
	if err := x.store(x.ctx, tr, next); err != nil {
		return err
	}
	x.metrics.timedOut.Inc()
	x.logger.Warn("transaction aborted: it ran into its timeout", "id", was.ID, "producer", was.Producer.ID, "epoch", was.Epoch, "open", now.Sub(was.Started).Round(time.Millisecond), "timeout", was.Timeout)
	return nil
}

func (x *transactions) forget(tr *transaction, now time.Time) error {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if !tr.t.Idle(now, x.expiration) {
		return nil
	}
	if tr.t.Epoch >= 0 {
		if _, err := x.append(x.ctx, tr.t.ID, nil); err != nil {
			return err
		}
	}
	tr.t.State = group.TxnDead
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.byID, tr.t.ID)
	return nil
}

// OpenTransaction is a transaction that holds readers of committed records back.
type OpenTransaction struct {
	ID         string // the transactional id
	Producer   int64
	Epoch      int16
	State      string
	Since      time.Time
	Timeout    time.Duration // after which an ongoing one is aborted
	Partitions []group.TopicPartition
}

// OpenTransactions are the transactions that are not completed, in no order.
func (s *Server) OpenTransactions() []OpenTransaction {
	var list []OpenTransaction
	for _, t := range s.txns.all() {
		if t.State == group.TxnOngoing || t.Preparing() {
			list = append(list, OpenTransaction{t.ID, t.Producer.ID, t.Epoch, t.State.String(), t.Started, t.Timeout, t.Partitions})
		}
	}
	return list
}

// all are the states of all transactional ids, in no order.
func (x *transactions) all() []group.Txn {
	x.mu.RLock()
	list := make([]*transaction, 0, len(x.byID))
	for _, tr := range x.byID {
		list = append(list, tr)
	}
	x.mu.RUnlock()
	txns := make([]group.Txn, 0, len(list))
	for _, tr := range list {
		tr.mu.RLock()
		if tr.t.Epoch >= 0 && tr.t.State != group.TxnDead {
			txns = append(txns, tr.t)
		}
		tr.mu.RUnlock()
	}
	return txns
}
