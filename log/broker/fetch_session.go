package broker

import (
	"container/list"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A fetch session (KIP-227) remembers which partitions a client reads and what it
// was told of them, so that its requests name only what changed and the answers
// only what is new. Sessions are kept in a cache with two bounds, sessions and
// their partitions; whom it has no room for reads without one, as before KIP-227.
const (
	maxSessions          = 1000
	maxSessionPartitions = 256 << 10
	// evictableAfter is how long a session must have been idle to make room for any
	// other, and have lived to make room for a larger one.
	evictableAfter = 2 * time.Minute
)

// sessionPart is a partition of a session. Sessions of requests before version 13
// know topics by name, later ones by id.
type sessionPart struct {
	sessionKey
	offset           int64
	epoch, lastEpoch int32
	limit            int32
	watermark, start int64 // as last told; -1: never, or with an error
}

type sessionKey struct {
	name      string
	id        [16]byte
	partition int32
}

type fetchSession struct {
	id   int32
	byID bool // topics by id

	mu    sync.Mutex
	epoch int32 // that the next request must bear
	parts map[sessionKey]*list.Element
	order list.List // of *sessionPart: the next to be served first

	// guarded by the cache's mu
	made, used time.Time
	size       int
	element    *list.Element // in fetchSessions.idle; nil: no longer in the cache
}

// fetchSessions is the cache.
type fetchSessions struct {
	most, mostParts int
	now             func() time.Time
	metrics         *metrics

	mu    sync.Mutex
	byID  map[int32]*fetchSession
	idle  list.List // of *fetchSession, the longest unused first
	parts int       // of all sessions
}

func newFetchSessions(m *metrics) *fetchSessions {
	return &fetchSessions{most: maxSessions, mostParts: maxSessionPartitions, now: time.Now, metrics: m, byID: map[int32]*fetchSession{}}
}

// add makes a session of what a full request names; nil where there is no room or
// nothing to remember.
func (c *fetchSessions) add(req *kmsg.FetchRequest) *fetchSession {
	s := &fetchSession{byID: req.Version >= 13, epoch: 1, parts: map[sessionKey]*list.Element{}}
	s.update(req)
	n := len(s.parts)
	if n == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	for len(c.byID) >= c.most || c.parts+n > c.mostParts {
		old := c.evictable(n, now)
		if old == nil {
			return nil
		}
		c.drop(old)
		c.metrics.sessionsEvicted.Inc()
	}
	for s.id == 0 || c.byID[s.id] != nil {
		s.id = rand.Int32N(math.MaxInt32) + 1 // positive; guessing it gains nothing, anyone may read everything
	}
	c.byID[s.id] = s
	s.made, s.used, s.size = now, now, n
	s.element = c.idle.PushBack(s)
	c.parts += n
	c.measure()
	return s
}

// evictable is the session that makes room for one of n partitions, if any. The
// caller holds mu.
func (c *fetchSessions) evictable(n int, now time.Time) *fetchSession {
	front := c.idle.Front()
	if front == nil {
		return nil
	}
	if s := front.Value.(*fetchSession); now.Sub(s.used) > evictableAfter {
		return s
	}
	var smallest *fetchSession
	for _, s := range c.byID {
		if now.Sub(s.made) > evictableAfter && s.size < n && (smallest == nil || s.size < smallest.size) {
			smallest = s
		}
	}
	return smallest
}

// drop takes s out of the cache. The caller holds mu.
func (c *fetchSessions) drop(s *fetchSession) {
	delete(c.byID, s.id)
	c.idle.Remove(s.element)
	s.element = nil
	c.parts -= s.size
	c.measure()
}

func (c *fetchSessions) measure() {
	c.metrics.sessions.Set(float64(len(c.byID)))
	c.metrics.sessionParts.Set(float64(c.parts))
}

// remove ends a session, if it is there.
func (c *fetchSessions) remove(id int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.byID[id]; s != nil {
		c.drop(s)
	}
}

// next is the session that an incremental request goes on with, brought up to date
// by it. The error is Kafka's.
func (c *fetchSessions) next(req *kmsg.FetchRequest) (*fetchSession, error) {
	c.mu.Lock()
	s := c.byID[req.SessionID]
	if s == nil {
		c.mu.Unlock()
		return nil, kerr.FetchSessionIDNotFound
	}
	s.used = c.now()
	c.idle.MoveToBack(s.element)
	c.mu.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.byID != (req.Version >= 13):
		return nil, kerr.FetchSessionTopicIDError
	case s.epoch != req.SessionEpoch:
		return nil, kerr.InvalidFetchSessionEpoch
	}
	if s.epoch++; s.epoch < 0 {
		s.epoch = 1
	}
	s.update(req)
	if !c.resized(s, len(s.parts)) {
		return nil, kerr.FetchSessionIDNotFound
	}
	return s, nil
}

// resized notes how many partitions s has; false where s is not kept: it was
// evicted meanwhile or there is no room, upon which its client starts over.
func (c *fetchSessions) resized(s *fetchSession, n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.element == nil {
		return false
	}
	c.parts += n - s.size
	s.size = n
	if c.parts > c.mostParts {
		c.drop(s)
		return false
	}
	c.measure()
	return true
}

// update adds, changes and forgets what a request says. The caller holds mu, or
// has s for itself.
func (s *fetchSession) update(req *kmsg.FetchRequest) {
	for i := range req.Topics {
		rt := &req.Topics[i]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			key := sessionKey{rt.Topic, rt.TopicID, rp.Partition}
			e := s.parts[key]
			if e == nil {
				e = s.order.PushBack(&sessionPart{sessionKey: key, watermark: -1, start: -1})
				s.parts[key] = e
			}
			part := e.Value.(*sessionPart)
			part.offset, part.limit, part.epoch, part.lastEpoch = rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LastFetchedEpoch
		}
	}
	for i := range req.ForgottenTopics {
		ft := &req.ForgottenTopics[i]
		for _, partition := range ft.Partitions {
			key := sessionKey{ft.Topic, ft.TopicID, partition}
			if e := s.parts[key]; e != nil {
				s.order.Remove(e)
				delete(s.parts, key)
			}
		}
	}
}

// wanted are the partitions to read, the next in turn first.
func (s *fetchSession) wanted() []fetchedPart {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]fetchedPart, 0, s.order.Len())
	for e := s.order.Front(); e != nil; e = e.Next() {
		p := e.Value.(*sessionPart)
		list = append(list, newFetchedPart(p.sessionKey, p.offset, p.limit, p.epoch, p.lastEpoch))
	}
	return list
}

// told notes what is about to be told of parts, and returns those of which there
// is something to tell: all where full. What got records goes to the end of the
// line, so that a full answer does not starve the others.
func (s *fetchSession) told(parts []fetchedPart, full bool) []*fetchedPart {
	s.mu.Lock()
	defer s.mu.Unlock()
	tell := make([]*fetchedPart, 0, len(parts))
	for i := range parts {
		part := &parts[i]
		e := s.parts[part.sessionKey]
		if e == nil { // forgotten by another connection's request
			continue
		}
		was := e.Value.(*sessionPart)
		if full || part.err != nil || part.diverging != nil || len(part.data) > 0 || was.watermark != part.watermark || was.start != part.start {
			tell = append(tell, part)
		}
		was.watermark, was.start = part.watermark, part.start
		if part.err != nil { // tell when it is over
			was.watermark, was.start = -1, -1
		}
		if len(part.data) > 0 {
			s.order.MoveToBack(e)
		}
	}
	return tell
}
