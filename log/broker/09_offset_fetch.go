package broker

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/group"
)

// OffsetFetch: how far groups have read.
//
// Behaviour:
//   - a partition without a committed offset, and every partition of a group that
//     does not exist, has offset -1 and no error;
//   - no topics (null; in versions 0 and 1 there is no such thing) means all
//     partitions with an offset;
//   - with RequireStable a partition for which an open transaction has an offset is
//     UNSTABLE_OFFSET_COMMIT, which clients try again;
//   - what is shown is durable;
//   - a group, or a partition of it, that is named more than once is answered once.
//
// Versions: 2 has an error of the whole and all topics, 5 leader epochs, 6 is
// flexible, 7 RequireStable, 8 asks for many groups, 9 names the member of a group
// of the consumer protocol, 10 names topics by id.

// fetchedOffset is one partition's answer; the error is Kafka's.
type fetchedOffset struct {
	group.Offset
	err error
}

var noOffset = group.Offset{Offset: -1, LeaderEpoch: -1}

// reading is a group whose offsets are read.
type reading struct {
	c      *cell // nil: there is no such group
	stable bool
	asked  map[group.TopicPartition]bool
}

// first reports whether a partition was not asked for before.
func (r reading) first(p group.TopicPartition) bool {
	if r.asked[p] {
		return false
	}
	r.asked[p] = true
	return true
}

// of is the offset of a partition. The caller holds the cell's lock.
func (r reading) of(p group.TopicPartition) fetchedOffset {
	if r.c == nil {
		return fetchedOffset{Offset: noOffset}
	}
	if r.stable && r.c.offsets.Unstable(p) {
		return fetchedOffset{Offset: noOffset, err: kerr.UnstableOffsetCommit}
	}
	if at, ok := r.c.offsets.Get(p); ok {
		return fetchedOffset{Offset: at}
	}
	return fetchedOffset{Offset: noOffset}
}

// all are the partitions with an offset, by topic. The caller holds the cell's
// lock.
func (r reading) all() []kmsg.OffsetFetchRequestTopic {
	if r.c == nil {
		return nil
	}
	by := map[string][]int32{}
	for _, p := range r.c.offsets.Partitions() {
		// To one who wants what is stable, those of open transactions are not known to
		// be without an offset.
		if _, ok := r.c.offsets.Get(p); ok || r.stable {
			by[p.Topic] = append(by[p.Topic], p.Partition)
		}
	}
	list := make([]kmsg.OffsetFetchRequestTopic, 0, len(by))
	for topic, parts := range by {
		slices.Sort(parts)
		list = append(list, kmsg.OffsetFetchRequestTopic{Topic: topic, Partitions: parts})
	}
	slices.SortFunc(list, func(a, b kmsg.OffsetFetchRequestTopic) int { return cmp.Compare(a.Topic, b.Topic) })
	return list
}

// readOffsets calls read with a group's offsets and returns when all that read saw
// is durable.
func (g *groups) readOffsets(ctx context.Context, id string, stable bool, member *string, epoch int32, read func(reading)) error {
	c, err := g.lock(id, false)
	if errors.Is(err, errNoGroup) {
		read(reading{asked: map[group.TopicPartition]bool{}})
		return nil
	}
	if err != nil {
		return err
	}
	if c.consumer != nil {
		if kerr := c.consumer.MayFetch(member, epoch); kerr != nil {
			c.mu.Unlock()
			return kerr
		}
	}
	read(reading{c, stable, map[group.TopicPartition]bool{}})
	at := c.last
	c.mu.Unlock()
	return durable(ctx, at)
}

func offsetFetch(ctx context.Context, c *conn, req *kmsg.OffsetFetchRequest) kmsg.Response {
	resp := response[*kmsg.OffsetFetchResponse](req)
	if req.Version >= 8 {
		groups := distinct(req.Groups, func(rg *kmsg.OffsetFetchRequestGroup) string { return rg.Group })
		for i := range groups {
			resp.Groups = append(resp.Groups, c.srv.fetchGroupOffsets(ctx, req, &groups[i]))
		}
		return resp
	}
	err := c.srv.groups.readOffsets(ctx, req.Group, req.RequireStable, nil, -1, func(r reading) {
		topics := req.Topics
		if topics == nil && req.Version >= 2 {
			topics = r.all()
		}
		for _, rt := range topics {
			st := kmsg.NewOffsetFetchResponseTopic()
			st.Topic = rt.Topic
			for _, i := range rt.Partitions {
				place := group.TopicPartition{Topic: rt.Topic, Partition: i}
				if !r.first(place) {
					continue
				}
				sp := kmsg.NewOffsetFetchResponseTopicPartition()
				at := r.of(place)
				sp.Partition, sp.Offset, sp.LeaderEpoch, sp.Metadata, sp.ErrorCode = i, at.Offset.Offset, at.LeaderEpoch, &at.Metadata, c.srv.code(at.err)
				st.Partitions = append(st.Partitions, sp)
			}
			resp.Topics = append(resp.Topics, st)
		}
	})
	if err != nil {
		resp.Topics, resp.ErrorCode = refusedOffsets(req, c.srv.code(err)), c.srv.code(err)
	}
	return resp
}

// refusedOffsets are the asked partitions with an error; versions 0 and 1 have no
// other place for one.
func refusedOffsets(req *kmsg.OffsetFetchRequest, code int16) []kmsg.OffsetFetchResponseTopic {
	if req.Version >= 2 {
		return nil
	}
	var list []kmsg.OffsetFetchResponseTopic
	for _, rt := range req.Topics {
		st := kmsg.NewOffsetFetchResponseTopic()
		st.Topic = rt.Topic
		for _, i := range rt.Partitions {
			sp := kmsg.NewOffsetFetchResponseTopicPartition()
			sp.Partition, sp.Offset, sp.Metadata, sp.ErrorCode = i, -1, new(string), code
			st.Partitions = append(st.Partitions, sp)
		}
		list = append(list, st)
	}
	return list
}

// fetchGroupOffsets is one group's answer from version 8 on.
func (s *Server) fetchGroupOffsets(ctx context.Context, req *kmsg.OffsetFetchRequest, rg *kmsg.OffsetFetchRequestGroup) kmsg.OffsetFetchResponseGroup {
	sg := kmsg.NewOffsetFetchResponseGroup()
	sg.Group = rg.Group
	err := s.groups.readOffsets(ctx, rg.Group, req.RequireStable, rg.MemberID, rg.MemberEpoch, func(r reading) {
		topics := rg.Topics
		if topics == nil {
			topics = s.identified(r.all())
		}
		for _, rt := range topics {
			sg.Topics = append(sg.Topics, s.fetchTopicOffsets(req.Version, r, rt))
		}
	})
	if err != nil {
		sg.Topics, sg.ErrorCode = nil, s.code(err)
	}
	return sg
}

// identified gives topics their ids; one that is gone has none.
func (s *Server) identified(topics []kmsg.OffsetFetchRequestTopic) []kmsg.OffsetFetchRequestGroupTopic {
	var list []kmsg.OffsetFetchRequestGroupTopic
	for _, t := range topics {
		gt := kmsg.OffsetFetchRequestGroupTopic{Topic: t.Topic, Partitions: t.Partitions}
		if found, ok := s.log.Topic(t.Topic); ok {
			gt.TopicID = found.ID()
			list = append(list, gt)
		}
	}
	return list
}

func (s *Server) fetchTopicOffsets(version int16, r reading, rt kmsg.OffsetFetchRequestGroupTopic) kmsg.OffsetFetchResponseGroupTopic {
	st := kmsg.NewOffsetFetchResponseGroupTopic()
	st.Topic, st.TopicID = rt.Topic, rt.TopicID
	name, err := rt.Topic, error(nil)
	if version >= 10 {
		t, ferr := s.find("", rt.TopicID, true)
		if err = ferr; err == nil {
			name = t.Name()
		}
	}
	for _, i := range rt.Partitions {
		at := fetchedOffset{Offset: noOffset, err: err}
		if place := (group.TopicPartition{Topic: name, Partition: i}); err == nil {
			if !r.first(place) {
				continue
			}
			at = r.of(place)
		}
		sp := kmsg.NewOffsetFetchResponseGroupTopicPartition()
		sp.Partition, sp.Offset, sp.LeaderEpoch, sp.Metadata, sp.ErrorCode = i, at.Offset.Offset, at.LeaderEpoch, &at.Metadata, s.code(at.err)
		st.Partitions = append(st.Partitions, sp)
	}
	return st
}
