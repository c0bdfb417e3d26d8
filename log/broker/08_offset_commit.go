package broker

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/record"
)

// OffsetCommit: note how far a group has read.
//
// Behaviour:
//   - answered when the offsets are durable; what was acknowledged is found again
//     after a crash, and OffsetFetch shows no offset that could still be lost;
//   - a member names its generation; generation -1 without a member is for groups
//     without members, which are made by it;
//   - a member of a group of the consumer protocol names its epoch; one of before is as
//     good for partitions that it has had since then (KIP-1251), else it is
//     STALE_MEMBER_EPOCH, to a member that speaks the classic protocol
//     ILLEGAL_GENERATION;
//   - a commit counts as a heartbeat;
//   - partitions that do not exist are UNKNOWN_TOPIC_OR_PARTITION, metadata over
//     4096 bytes is OFFSET_METADATA_TOO_LARGE; the others are committed;
//   - the retention time that versions 2 to 4 may ask for is not heeded: offsets of
//     a group without members go after Options.Groups.Retention.
//
// Versions: 1 brought members, 6 leader epochs, 7 static members, 8 is flexible,
// 9 serves KIP-848 and has its errors, 10 names topics by id.

// commit are offsets that a request wants committed, with what became of each.
type commit struct {
	group   string
	caller  group.Caller
	version int16 // of OffsetCommit: which errors it knows
	txn     bool
	batch   record.BatchOptions
	topics  []commitTopic
}

type commitTopic struct {
	topic *commitlog.Topic // nil where there is an error
	name  string
	parts []commitPart
	err   error
}

type commitPart struct {
	index int32
	at    group.Offset
	err   error
}

// add adds a partition of t, which is nil where the topic has an error.
func (ct *commitTopic) add(t *commitlog.Topic, index int32, offset int64, epoch int32, metadata *string) {
	ct.topic = t
	p := commitPart{index: index, at: group.Offset{Offset: offset, LeaderEpoch: epoch}}
	if metadata != nil {
		p.at.Metadata = *metadata
	}
	if _, p.err = partitionOf(t, index, ct.err); p.err == nil && len(p.at.Metadata) > maxOffsetMetadata {
		p.err = kerr.OffsetMetadataTooLarge
	}
	ct.parts = append(ct.parts, p)
}

func offsetCommit(ctx context.Context, c *conn, req *kmsg.OffsetCommitRequest) kmsg.Response {
	s := c.srv
	in := commit{group: req.Group, caller: group.Caller{MemberID: req.MemberID, Instance: req.InstanceID, Generation: req.Generation}, version: req.Version}
	for i := range req.Topics {
		rt := &req.Topics[i]
		t := commitTopic{name: rt.Topic}
		found, err := s.find(rt.Topic, rt.TopicID, req.Version >= 10)
		if t.err = err; err == nil {
			t.name = found.Name()
		}
		for _, rp := range rt.Partitions {
			epoch := rp.LeaderEpoch
			if req.Version < 6 {
				epoch = -1
			}
			t.add(found, rp.Partition, rp.Offset, epoch, rp.Metadata)
		}
		in.topics = append(in.topics, t)
	}
	s.groups.commit(ctx, &in)
	resp := response[*kmsg.OffsetCommitResponse](req)
	for i := range in.topics {
		st := kmsg.NewOffsetCommitResponseTopic()
		st.Topic, st.TopicID = req.Topics[i].Topic, req.Topics[i].TopicID
		for _, p := range in.topics[i].parts {
			sp := kmsg.NewOffsetCommitResponseTopicPartition()
			sp.Partition, sp.ErrorCode = p.index, s.code(p.err)
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp
}

// fail gives every partition that has no error yet this one.
func (in *commit) fail(err error) {
	for i := range in.topics {
		in.topics[i].fail(err)
	}
}

func (ct *commitTopic) fail(err error) {
	for i := range ct.parts {
		if p := &ct.parts[i]; p.err == nil {
			p.err = err
		}
	}
}

// commit commits what in asks for, and returns when it is durable.
func (g *groups) commit(ctx context.Context, in *commit) {
	at, err := g.accept(ctx, in)
	if err == nil {
		err = durable(ctx, at)
	}
	if err != nil {
		in.fail(err)
	}
}

// accept checks who commits, and appends the offsets.
func (g *groups) accept(ctx context.Context, in *commit) (stored, error) {
	c, err := g.lock(in.group, in.caller.Generation < 0)
	if errors.Is(err, errNoGroup) {
		if in.version >= 9 {
			return stored{}, kerr.GroupIDNotFound
		}
		return stored{}, kerr.IllegalGeneration
	}
	if err != nil {
		return stored{}, err
	}
	defer c.mu.Unlock()
	now := time.Now()
	if err := g.mayCommit(c, now, in); err != nil {
		return stored{}, err
	}
	var records []group.Record
	for i := range in.topics {
		t := &in.topics[i]
		if now, _ := g.log.Topic(t.name); t.topic != nil && now != t.topic {
			t.fail(kerr.UnknownTopicOrPartition) // deleted meanwhile: topicDeleted may have been here
		}
		for j := range t.parts {
			if p := &t.parts[j]; p.err == nil {
				p.at.Time = now.UnixMilli()
				records = append(records, group.StoredOffset(c.id, group.TopicPartition{Topic: t.name, Partition: p.index}, p.at))
			}
		}
	}
	if len(records) == 0 {
		return stored{}, nil
	}
	if err := g.store(ctx, c, now, in.batch, records); err != nil {
		g.logger.Warn("offsets not committed", "group", c.id, "err", err)
		if codeOf(err) == kerr.KafkaStorageError {
			err = kerr.CoordinatorNotAvailable
		}
		return stored{}, err
	}
	place := c.last.offset - int64(len(records)) + 1
	for i := range in.topics {
		t := &in.topics[i]
		for j := range t.parts {
			p := &t.parts[j]
			if p.err != nil {
				continue
			}
			p.at.Place = place
			place++
			if in.txn {
				c.offsets.CommitPending(in.batch.ProducerID, group.TopicPartition{Topic: t.name, Partition: p.index}, p.at)
			} else {
				c.offsets.Commit(group.TopicPartition{Topic: t.name, Partition: p.index}, p.at)
			}
		}
	}
	if in.txn {
		g.noteTxn(c, in.batch.ProducerID)
	}
	g.metrics.commits.Add(float64(len(records)))
	return c.last, nil
}

// held reports whether the member has had all of the partitions since the epoch that
// it names.
func (in *commit) held(g *group.Consumer) bool {
	for i := range in.topics {
		t := &in.topics[i]
		for j := range t.parts {
			if p := &t.parts[j]; p.err == nil && !g.HeldSince(in.caller.MemberID, in.caller.Generation, group.Slot{Topic: t.topic.ID(), Partition: p.index}) {
				return false
			}
		}
	}
	return true
}

// mayCommit says whether the caller may commit to c, whose lock is held.
func (g *groups) mayCommit(c *cell, now time.Time, in *commit) error {
	var err *kerr.Error
	switch {
	case c.consumer != nil:
		err = c.consumer.MayCommit(now, in.caller, in.txn, in.version)
		if (err == kerr.StaleMemberEpoch || err == kerr.IllegalGeneration) && in.held(c.consumer) {
			err = nil
		}
	case c.classic == nil && in.caller.Generation < 0:
	default:
		err = g.members(c, now).MayCommit(now, in.caller, in.txn)
		g.arm(c)
	}
	if err != nil {
		return err
	}
	return nil
}
