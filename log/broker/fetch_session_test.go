package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// sessionRequest asks for partitions 0 to n-1 of a topic.
func sessionRequest(topic string, n int32) *kmsg.FetchRequest {
	req := &kmsg.FetchRequest{Version: 12}
	rt := kmsg.FetchRequestTopic{Topic: topic}
	for i := range n {
		rt.Partitions = append(rt.Partitions, kmsg.FetchRequestTopicPartition{Partition: i})
	}
	req.Topics = append(req.Topics, rt)
	return req
}

// TestSessionCache: who gets a session where there is no room for all.
func TestSessionCache(t *testing.T) {
	m, err := newMetrics(nil, newBudget(1), newBudget(1))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_000_000, 0)
	c := newFetchSessions(m)
	c.most, c.mostParts, c.now = 3, 100, func() time.Time { return now }
	check := func(want int) {
		t.Helper()
		parts := 0
		for _, s := range c.byID {
			parts += len(s.parts)
		}
		if len(c.byID) != want || c.idle.Len() != want || parts != c.parts {
			t.Fatalf("%d sessions, %d in line, %d partitions counted as %d; expected %d", len(c.byID), c.idle.Len(), parts, c.parts, want)
		}
	}
	var made []*fetchSession
	for i := range 3 {
		s := c.add(sessionRequest(fmt.Sprint(i), int32(10*(i+1))))
		if s == nil {
			t.Fatal("no session while there is room")
		}
		made = append(made, s)
		now = now.Add(time.Second)
	}
	check(3)
	if c.add(sessionRequest("young", 99)) != nil {
		t.Error("a session in use for a moment was evicted")
	}
	// In use, and old enough to make room for a larger one only.
	now = now.Add(evictableAfter)
	for i, s := range made {
		if got, err := c.next(&kmsg.FetchRequest{Version: 12, SessionID: s.id, SessionEpoch: 1}); got != s || err != nil {
			t.Fatal(i, err)
		}
	}
	if c.add(sessionRequest("small", 5)) != nil {
		t.Error("a larger session was evicted for a smaller")
	}
	large := c.add(sessionRequest("large", 15))
	if large == nil || c.byID[made[0].id] != nil || c.byID[made[1].id] == nil {
		t.Error("the smallest session did not make room")
	}
	check(3)
	// Idle for long: the longest idle makes room for anyone.
	now = now.Add(evictableAfter + 1)
	if _, err := c.next(&kmsg.FetchRequest{Version: 12, SessionID: made[1].id, SessionEpoch: 2}); err != nil {
		t.Fatal(err)
	}
	if c.add(sessionRequest("any", 1)) == nil || c.byID[made[2].id] != nil || c.byID[made[1].id] == nil {
		t.Error("the longest idle session did not make room")
	}
	check(3)
	// One that grows beyond the bound is not kept.
	grow := sessionRequest("more", 90)
	grow.SessionID, grow.SessionEpoch = made[1].id, 3
	if _, err := c.next(grow); err == nil {
		t.Error("a session grew beyond the bound")
	}
	check(2)
	c.remove(large.id)
	c.remove(large.id)
	check(1)
	if c.add(sessionRequest("none", 0)) != nil {
		t.Error("a session of nothing")
	}
}
