package broker

import (
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirstream/weir/log/commitlog"
)

// topicIDs finds topics by their id. The log is the truth: an entry counts only
// while the log still holds that very topic under its name.
type topicIDs struct {
	mu   sync.Mutex
	byID map[[16]byte]*commitlog.Topic
}

// topicByID is the topic with that id.
func (s *Server) topicByID(id [16]byte) (*commitlog.Topic, bool) {
	s.ids.mu.Lock()
	defer s.ids.mu.Unlock()
	if t, ok := s.ids.byID[id]; ok && s.stands(t) {
		return t, true
	}
	// Unknown, or deleted since: read the list again. It bounds the map.
	s.ids.byID = make(map[[16]byte]*commitlog.Topic)
	for _, t := range s.log.Topics() {
		s.ids.byID[t.ID()] = t
	}
	t, ok := s.ids.byID[id]
	return t, ok
}

func (s *Server) stands(t *commitlog.Topic) bool {
	now, ok := s.log.Topic(t.Name())
	return ok && now.ID() == t.ID()
}

// find is the topic by name or, where byID, by id. The error is Kafka's.
func (s *Server) find(name string, id [16]byte, byID bool) (*commitlog.Topic, error) {
	if byID {
		if t, ok := s.topicByID(id); ok {
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
