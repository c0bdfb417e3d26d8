package anomaly

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// transactional are the options of a transactional client.
func transactional(id string) []kgo.Opt {
	return []kgo.Opt{kgo.TransactionalID(id), kgo.TransactionTimeout(2 * time.Second),
		kgo.RecordDeliveryTimeout(time.Second), kgo.ProduceRequestTimeout(500 * time.Millisecond)}
}

// transactionalID is the one id of a process. Its clients come one after another:
// each fences the one before.
func (p *process) transactionalID() string {
	id := fmt.Sprintf("process-%d", p.id)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.transactions = append(p.transactions, id)
	return id
}

// transact sends in transactions, and commits or aborts them.
func (p *process) transact(operations int) {
	id := p.transactionalID()
	cl := p.client(transactional(id)...)
	defer func() { cl.Close() }()
	for range operations {
		if !p.transaction(cl) || p.rng.IntN(20) == 0 {
			cl.Close()
			cl = p.client(transactional(id)...)
		}
		time.Sleep(time.Duration(p.rng.IntN(20)) * time.Millisecond)
	}
}

// transaction is one of them; false where its client is of no more use.
func (p *process) transaction(cl *kgo.Client) bool {
	ctx, cancel := context.WithTimeout(p.ctx, 2*time.Second)
	defer cancel()
	op := Op{Process: p.id, Invoked: p.rec.Invoke()}
	defer func() { p.rec.Complete(op) }()
	if err := cl.BeginTransaction(); err != nil {
		op.Outcome = Fail // nothing was sent
		return false
	}
	var recs []*kgo.Record
	for range 1 + p.rng.IntN(8) {
		recs = append(recs, p.newRecord(p.rng.IntN(300)))
	}
	sent := p.sendIn(ctx, cl.ProduceSync, &op, recs)
	if p.rng.IntN(4) == 0 {
		return true // and what becomes of it is the next client's to find out
	}
	commit := kgo.TransactionEndTry(sent && p.rng.IntN(3) > 0)
	err := cl.EndTransaction(ctx, commit)
	switch {
	case err != nil:
		return false
	case commit == kgo.TryCommit:
		op.Outcome = OK
	default:
		op.Outcome = Fail
	}
	return true
}

// sendIn sends within a transaction and adds to op what is known of it.
func (p *process) sendIn(ctx context.Context, produce func(context.Context, ...*kgo.Record) kgo.ProduceResults, op *Op, recs []*kgo.Record) bool {
	all := true
	for _, res := range produce(ctx, recs...) {
		one := Record{Offset: NoOffset, Value: parse(res.Record), Source: source(res.Record)}
		if res.Err == nil {
			one.Offset = res.Record.Offset
		}
		all = all && res.Err == nil
		op.Steps = append(op.Steps, Step{Send: true, Key: keyOf(res.Record), Records: []Record{one}})
	}
	return all
}

// transformers is the group of those that consume, transform and produce.
const transformers = "transformers"

// transform consumes inputs, sends an output for each and commits both in one
// transaction, with one client after another.
func (p *process) transform(ctx context.Context) {
	m := &member{process: p, group: transformers}
	id := p.transactionalID()
	for ctx.Err() == nil {
		m.reset()
		s := m.session(id)
		if s == nil {
			return
		}
		for n := 1 + p.rng.IntN(50); n > 0 && ctx.Err() == nil; n-- {
			if !m.transformSome(ctx, s) {
				break
			}
		}
		s.Close()
	}
}

// session is a client that consumes and produces in transactions of an id; nil where
// there is none.
func (m *member) session(id string) *kgo.GroupTransactSession {
	opts := append(m.process.options(transactional(id)...), kgo.ConsumerGroup(m.group), kgo.ConsumeTopics(inputs),
		kgo.BlockRebalanceOnPoll(), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	s, err := kgo.NewGroupTransactSession(append(opts, m.options()...)...)
	if err != nil {
		m.t.Errorf("transact session: %v", err)
		return nil
	}
	return s
}

// asPolled has a transaction commit its positions as the member that was given what
// it polled, as KIP-447 wants it. By itself franz-go v1.22.2 names the member that it
// is by then: one that was expelled, did not hear of it but when it joined again, and
// had polled meanwhile, would commit what another member has committed.
func (m *member) asPolled(ctx context.Context) context.Context {
	m.mu.Lock()
	is := m.is
	m.mu.Unlock()
	return kgo.PreTxnCommitFnContext(ctx, func(req *kmsg.TxnOffsetCommitRequest) error {
		req.MemberID, req.Generation = is.id, is.generation
		return nil
	})
}

// transformSome is one transaction; false where its client is of no more use.
func (m *member) transformSome(ctx context.Context, s *kgo.GroupTransactSession) bool {
	pollCtx, cancelPoll := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancelPoll()
	op := Op{Process: m.id, Group: m.group, Invoked: m.rec.Invoke(), Committed: map[Key]int64{}}
	// The end is waited for also when the run is over: not to is a crash of the
	// client, of which there are others.
	commitCtx := m.asPolled(m.ctx)
	fetches := s.PollRecords(pollCtx, 1+m.rng.IntN(50))
	op.Polled = m.rec.Invoke()
	s.AllowRebalance() // from here on
	if op.Steps = m.steps(fetches); len(op.Steps) == 0 {
		return true
	}
	for _, step := range op.Steps {
		op.Committed[step.Key] = step.Records[len(step.Records)-1].Offset + 1
	}
	defer func() { m.rec.Complete(op) }()
	endCtx, cancel := context.WithTimeout(commitCtx, 2*time.Second)
	defer cancel()
	if err := s.Begin(); err != nil {
		op.Outcome = Fail // nothing was sent
		return false
	}
	var outs []*kgo.Record
	for it := fetches.RecordIter(); !it.Done(); {
		in := it.Next()
		outs = append(outs, &kgo.Record{Topic: outputs, Partition: in.Partition, Value: fmt.Appendf(nil, "%d %d", m.values.Add(1), parse(in))})
	}
	sent := m.sendIn(endCtx, s.ProduceSync, &op, outs)
	m.dawdle()
	commit := kgo.TransactionEndTry(sent && m.rng.IntN(5) > 0)
	committed, err := s.End(endCtx, commit)
	switch {
	case err != nil:
		return false
	case !committed:
		op.Outcome = Fail
		return true
	}
	op.Outcome = OK
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, position := range op.Committed {
		if _, mine := m.next[k]; mine {
			m.next[k] = position
		}
	}
	return true
}

// source is the input that an output was made of.
func source(rec *kgo.Record) int64 {
	var value, from int64
	if rec.Topic == outputs {
		if _, err := fmt.Sscan(string(rec.Value), &value, &from); err != nil {
			return 0
		}
	}
	return from
}

// settle ends every transaction that was left open: whoever takes up an id ends
// what it had begun.
func (r *run) settle() (settled bool) {
	r.mu.Lock()
	ids := r.transactions
	r.mu.Unlock()
	settled = true
	for _, id := range ids {
		if err := r.takeUp(id); err != nil {
			r.complain("seed %d: the transactions of %s are not ended within %v: %v", r.seed, id, r.patience, err)
			settled = false
		}
	}
	return settled
}

// takeUp becomes the producer of id.
func (r *run) takeUp(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), r.patience)
	defer cancel()
	cl := r.client(transactional(id)...)
	defer cl.Close()
	_, _, err := cl.ProducerID(ctx)
	for err != nil && ctx.Err() == nil {
		_, _, err = cl.ProducerID(ctx)
	}
	return err
}

// reset is the beginning of another member.
func (m *member) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next = map[Key]int64{}
	m.assigned()
}

// options are those of a member's client, beside what it consumes and how.
func (m *member) options() []kgo.Opt {
	balancers := []kgo.GroupBalancer{kgo.CooperativeStickyBalancer()}
	if m.seed%2 == 0 {
		balancers = []kgo.GroupBalancer{kgo.RangeBalancer(), kgo.RoundRobinBalancer()}
	}
	change := func(given bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, cl *kgo.Client, parts map[string][]int32) {
			id, generation := cl.GroupMetadata()
			m.change(membership{id, generation}, parts, given)
		}
	}
	return []kgo.Opt{
		kgo.WithLogger(clientLog{m.trace, who(m.id)}),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// Longer than a busy machine keeps a client from answering: one that was removed claims
		// its old partitions with its new generation, whoever has read them meanwhile.
		kgo.SessionTimeout(500 * time.Millisecond), kgo.RebalanceTimeout(500 * time.Millisecond), kgo.HeartbeatInterval(20 * time.Millisecond),
		kgo.Balancers(balancers...), kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)),
	}
}

// change is a rebalance.
func (m *member) change(is membership, parts map[string][]int32, given bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if given {
		m.is = is
	}
	for topic, indexes := range parts {
		for _, i := range indexes {
			if given {
				m.next[Key{topic, i}] = NoOffset
			} else {
				delete(m.next, Key{topic, i})
			}
		}
	}
	m.assigned()
}

// assigned records what the member polls from here on. The caller holds mu.
func (m *member) assigned() {
	m.rec.Complete(Op{Process: m.id, Group: m.group, Invoked: m.rec.Invoke(), Outcome: OK, Assign: maps.Clone(m.next)})
}
