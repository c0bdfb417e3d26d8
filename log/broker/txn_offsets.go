package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/record"
)

// Offsets that are part of a transaction: what the transaction coordinator asks of
// the group coordinator.

// offsetsPartition is where the offsets of a group are kept, for AddOffsetsToTxn:
// the partition that is part of the transaction. The topic is made.
func (g *groups) offsetsPartition(id string) (group.TopicPartition, error) {
	if err := g.topic.ensure(); err != nil {
		return group.TopicPartition{}, err
	}
	return group.TopicPartition{Topic: offsetsTopic, Partition: g.topic.partition(id)}, nil
}

// completeTxnOffsets ends a transaction in a partition of __consumer_offsets: it
// appends the marker, and once that is durable the offsets of the transaction
// count, or never will. It may be called again. While the partition is being read
// it waits, for else the marker might be taken for one of before.
func (g *groups) completeTxnOffsets(ctx context.Context, partition int32, m commitlog.Marker) error {
	p, err := g.topic.at(partition)
	if err != nil {
		return err
	}
	if err := g.topic.awaitLoad(ctx, partition); err != nil {
		return err
	}
	if _, err := p.AppendMarker(ctx, m); err != nil {
		return err
	}
	g.endTxn(partition, m.ProducerID, m.Commit)
	return nil
}

// addTxnOffsets is TxnOffsetCommit once the transaction coordinator has found that
// the producer's transaction includes offsetsPartition of the group: offsets are
// appended as a batch of the transaction, and pending until completeTxnOffsets. It
// checks member, generation and instance id and that topics exist, and returns when
// the offsets are durable.
func (g *groups) addTxnOffsets(ctx context.Context, s *Server, req *kmsg.TxnOffsetCommitRequest) *kmsg.TxnOffsetCommitResponse {
	in := commit{group: req.Group, caller: group.Caller{MemberID: req.MemberID, Instance: req.InstanceID, Generation: req.Generation}, version: 9, txn: true,
		batch: record.BatchOptions{ProducerID: req.ProducerID, ProducerEpoch: req.ProducerEpoch, BaseSequence: -1, Transactional: true}}
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := commitTopic{name: rt.Topic}
		found, err := s.find(rt.Topic, rt.TopicID, req.Version >= 6)
		if t.err = err; err == nil {
			t.name = found.Name()
		}
		for _, rp := range rt.Partitions {
			t.add(found, rp.Partition, rp.Offset, rp.LeaderEpoch, rp.Metadata)
		}
		in.topics = append(in.topics, t)
	}
	g.commit(ctx, &in)
	resp := response[*kmsg.TxnOffsetCommitResponse](req)
	for i := range in.topics {
		st := kmsg.NewTxnOffsetCommitResponseTopic()
		st.Topic, st.TopicID = req.Topics[i].Topic, req.Topics[i].TopicID
		for _, p := range in.topics[i].parts {
			sp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			sp.Partition, sp.ErrorCode = p.index, s.code(p.err)
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

// noteTxn remembers that a transaction has offsets in c.
func (g *groups) noteTxn(c *cell, producer int64) {
	g.txnMu.Lock()
	defer g.txnMu.Unlock()
	k := txnKey{c.partition, producer}
	if g.txns[k] == nil {
		g.txns[k] = map[*cell]bool{}
	}
	g.txns[k][c] = true
}

// endTxn lets the offsets of a transaction count, or not.
func (g *groups) endTxn(partition int32, producer int64, commit bool) {
	g.txnMu.Lock()
	k := txnKey{partition, producer}
	cells := g.txns[k]
	delete(g.txns, k)
	g.txnMu.Unlock()
	for c := range cells {
		c.mu.Lock()
		c.offsets.End(producer, commit)
		c.mu.Unlock()
	}
}
