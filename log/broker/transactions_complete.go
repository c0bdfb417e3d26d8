package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
)

// complete takes a prepared transaction to its end: when the decision is durable,
// the markers; when they are, the completed state. It owns the transaction from
// Prepare to Complete, and gives up only when the broker ends: recover goes on.
func (x *transactions) complete(tr *transaction, t group.Txn, prepared stored) {
	began := time.Now()
	if err := prepared.wait(x.ctx); err != nil {
		if x.ctx.Err() == nil {
			x.logger.Error("transaction not decided; it is aborted or completed after a restart", "id", t.ID, "err", err)
		}
		return
	}
	refused, err := x.mark(x.ctx, t)
	if err == nil && len(refused) > 0 {
		err = x.owe(x.ctx, t, refused)
	}
	if err != nil {
		return // the broker ends
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	next := t.Complete(time.Now())
	if err := x.persist(x.ctx, func() error { return x.store(x.ctx, tr, next) }); err != nil {
		return
	}
	tr.barrier = tr.stored
	close(tr.done)
	x.metrics.ended(t.Commits(), time.Since(began))
}

// persist repeats what the disk refuses until it is taken, or ctx is done.
func (x *transactions) persist(ctx context.Context, try func() error) error {
	for wait := markerRetry; ; wait = min(2*wait, markerRetryMax) {
		err := try()
		if err == nil || ctx.Err() != nil || errors.Is(err, commitlog.ErrClosed) {
			return err
		}
		x.metrics.retries.Inc()
		x.logger.Warn("transaction waits for the disk", "err", err, "wait", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mark writes t's marker into all its partitions. refused are those that take none
// before the log is opened again; the error is ctx's or ErrClosed.
func (x *transactions) mark(ctx context.Context, t group.Txn) (refused []group.TopicPartition, err error) {
	m := commitlog.Marker{ProducerID: t.Producer.ID, ProducerEpoch: t.Epoch, Commit: t.Commits()}
	if len(t.Partitions) == 1 { // no goroutine for the most common case
		out, err := x.markOne(ctx, t.Partitions[0], m)
		if out {
			refused = t.Partitions
		}
		return refused, err
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, part := range t.Partitions {
		select {
		case x.markers <- struct{}{}:
		case <-ctx.Done():
			all.Wait()
			return nil, ctx.Err()
		}
		all.Go(func() {
			defer func() { <-x.markers }()
			out, failed := x.markOne(ctx, part, m)
			mu.Lock()
			defer mu.Unlock()
			err = errors.Join(err, failed)
			if out {
				refused = append(refused, part)
			}
		})
	}
	all.Wait()
	return refused, err
}

// markOne writes a marker, again where the disk is full. A partition that is gone
// needs none; out says that it is there and takes nothing.
func (x *transactions) markOne(ctx context.Context, part group.TopicPartition, m commitlog.Marker) (out bool, err error) {
	err = x.persist(ctx, func() error {
		var err error
		if part.Topic == offsetsTopic {
			err = x.offsets(ctx, part.Partition, m)
		} else {
			err = x.markPartition(ctx, part, m)
		}
		var corrupt *commitlog.CorruptError
		switch {
		case errors.As(err, &corrupt), errors.Is(err, commitlog.ErrFailed):
			x.logger.Error("transaction marker not written: the partition is out of service; it follows after a repair and a restart",
				"topic", part.Topic, "partition", part.Partition, "producer", m.ProducerID, "epoch", m.ProducerEpoch, "commit", m.Commit, "err", err)
			out, err = true, nil
		case errors.Is(err, commitlog.ErrDeleted), errors.Is(err, commitlog.ErrUnknownTopic), errors.Is(err, commitlog.ErrUnknownPartition):
			err = nil
		case errors.Is(err, commitlog.ErrProducerFenced), errors.Is(err, commitlog.ErrCoordinatorFenced):
			x.logger.Warn("transaction marker not written: there was a later one", "topic", part.Topic, "partition", part.Partition, "err", err)
			err = nil
		}
		return err
	})
	return out, err
}

func (x *transactions) markPartition(ctx context.Context, part group.TopicPartition, m commitlog.Marker) error {
	p, err := x.log.Partition(part.Topic, part.Partition)
	if err != nil {
		return err
	}
	_, err = p.AppendMarker(ctx, m)
	return err
}

// owedPrefix begins the transactional ids under which owe keeps markers. No client
// may use it.
const owedPrefix = "weir.owed."

// owe keeps the markers that damaged partitions did not take, so that the others,
// and the producer, need not wait for a repair: each as a prepared transaction of
// its own, that recover completes before the partition takes anything else. Where
// one is owed already it stands: nothing of a later transaction came in since.
func (x *transactions) owe(ctx context.Context, t group.Txn, refused []group.TopicPartition) error {
	t.NextProducerID = -1
	for _, part := range refused {
		t.ID = fmt.Sprintf("%s%d.%s.%d", owedPrefix, t.Producer.ID, part.Topic, part.Partition)
		t.Partitions = []group.TopicPartition{part}
		x.mu.Lock()
		_, before := x.owed[t.ID]
		if !before {
			x.owed[t.ID] = t
		}
		x.mu.Unlock()
		if before {
			continue
		}
		var st stored
		err := x.persist(ctx, func() (err error) {
			st, err = x.append(ctx, t.ID, t.Value())
			return err
		})
		if err == nil {
			err = st.wait(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
