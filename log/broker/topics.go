package broker

import (
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirstream/weir/log/commitlog"
)

// find is the topic by name or, where byID, by id. The error is Kafka's.
func (s *Server) find(name string, id [16]byte, byID bool) (*commitlog.Topic, error) {
	if byID {
		if t, ok := s.log.TopicByID(id); ok {
			return t, nil
		}
		return nil, kerr.UnknownTopicID
	}
	if t, ok := s.log.Topic(name); ok {
		return t, nil
	}
	return nil, kerr.UnknownTopicOrPartition
}

// partitionOf is partition i of t, which may be nil with the error that made it
// so.
func partitionOf(t *commitlog.Topic, i int32, err error) (*commitlog.Partition, error) {
	if err != nil {
		return nil, err
	}
	p, ok := t.Partition(i)
	if !ok {
		return nil, kerr.UnknownTopicOrPartition
	}
	return p, nil
}

// checkEpoch compares the leader epoch that a client believes in with the
// partition's; -1 is no belief.
func checkEpoch(p *commitlog.Partition, epoch int32) error {
	switch now := p.LeaderEpoch(); {
	case epoch < 0 || epoch == now:
		return nil
	case epoch < now:
		return kerr.FencedLeaderEpoch
	default:
		return kerr.UnknownLeaderEpoch
	}
}
