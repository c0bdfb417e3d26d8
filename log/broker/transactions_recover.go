package broker

import (
	"context"
	"strings"
	"time"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/record"
)

// recover makes the states that a life before left whole: owed markers are written,
// open data goes back to its transaction or is aborted, and prepared transactions
// go on being completed. Requests are answered from then on.
func (x *transactions) recover(ctx context.Context) {
	x.state.load(ctx, x)
	x.payOwed(ctx)
	x.adopt(ctx)
	if ctx.Err() != nil {
		return
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, tr := range x.byID {
		tr.mu.Lock()
		if t := tr.t; t.Preparing() {
			tr.done = make(chan struct{})
			x.work.Go(func() { x.complete(tr, t, stored{}) })
		}
		tr.mu.Unlock()
	}
	x.loaded.Store(true)
}

// replay implements replayer: the last state of an id counts.
func (x *transactions) replay(partition int32, _ *record.BatchHeader, r *record.Record) {
	id, err := group.ReadTxnKey(r.Key)
	var t group.Txn
	if err == nil && r.Value != nil {
		t, err = group.ReadTxn(id, r.Value)
	}
	if err != nil {
		x.logger.Error("record of a transactional id passed over", "topic", transactionsTopic, "partition", partition, "offset", r.Offset, "err", err)
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	switch owed := strings.HasPrefix(id, owedPrefix); {
	case owed && r.Value == nil:
		delete(x.owed, id)
	case owed:
		x.owed[id] = t
	case r.Value == nil:
		delete(x.byID, id)
	default:
		x.byID[id] = &transaction{t: t}
	}
}

func (x *transactions) replayMarker(int32, *record.BatchHeader, bool) {}
func (x *transactions) replayed(int32)                                {}

// whole reports whether every partition of the state could be read.
func (x *transactions) whole() bool {
	if !x.state.made() {
		return true
	}
	for _, p := range x.state.topic.Partitions() {
		if x.state.ready(p.Index()) != nil {
			return false
		}
	}
	return true
}

// payOwed writes the markers that partitions did not take, before they can take
// anything else.
func (x *transactions) payOwed(ctx context.Context) {
	for id, t := range x.owed {
		refused, err := x.mark(ctx, t)
		if err != nil {
			return
		}
		if len(refused) > 0 {
			continue // another time
		}
		if _, err := x.append(ctx, id, nil); err != nil {
			x.logger.Warn("markers written are kept as owed", "id", id, "err", err)
			continue // they are written again, which does no harm
		}
		delete(x.owed, id)
	}
}

// adopt looks for open transactions in the partitions. A crash can have kept data
// and lost the state that let it in: then it is in the transaction all the same.
// What belongs to no transaction that could still end is aborted.
func (x *transactions) adopt(ctx context.Context) {
	byProducer := map[int64]*transaction{}
	for _, tr := range x.byID {
		byProducer[tr.t.Producer.ID] = tr
	}
	for _, topic := range x.log.Topics() {
		for _, p := range topic.Partitions() {
			if p.Err() != nil {
				continue
			}
			for _, s := range p.Producers() {
				if s.TxnStart >= 0 && ctx.Err() == nil {
					x.adoptOne(ctx, p, s, byProducer[s.ProducerID])
				}
			}
		}
	}
}

func (x *transactions) adoptOne(ctx context.Context, p *commitlog.Partition, s commitlog.ProducerState, tr *transaction) {
	part := group.TopicPartition{Topic: p.Topic(), Partition: p.Index()}
	m := commitlog.Marker{ProducerID: s.ProducerID, ProducerEpoch: s.Epoch}
	if tr != nil {
		next, changed, ok := tr.t.Adopt(time.Now(), group.Producer{ID: s.ProducerID, Epoch: s.Epoch}, part)
		if changed {
			if err := x.store(ctx, tr, next); err != nil {
				x.logger.Error("transaction not found again; it holds readers of committed records back until a restart", "id", next.ID, "topic", part.Topic, "partition", part.Partition, "err", err)
				return
			}
		}
		if ok {
			return
		}
		m.ProducerEpoch = max(m.ProducerEpoch, tr.t.Epoch)
	} else if !x.whole() {
		return // its transaction may be where nothing can be read
	}
	x.metrics.hanging.Inc()
	x.logger.Warn("transaction aborted that nobody could end", "topic", part.Topic, "partition", part.Partition, "producer", s.ProducerID, "epoch", s.Epoch, "offset", s.TxnStart)
	_, _ = x.markOne(ctx, part, m)
}
