package anomaly

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestExpelledMember: a member whose JoinGroup comes too late for a rebalance is not
// in the group any more, and another one transforms and commits what it had been
// given. What it polled before it hears of that it must not commit: the broker
// refuses the member and the generation that polled it.
func TestExpelledMember(t *testing.T) {
	r := newRun(t, 1, bug{}) // odd: cooperative
	r.slow = &slowness{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r.ctx = ctx
	cl := r.newProcess().client()
	for i := range 20 {
		rec := &kgo.Record{Topic: inputs, Partition: int32(i % partitions), Value: fmt.Append(nil, i+1)}
		if err := cl.ProduceSync(ctx, rec).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	cl.Close()
	late := &member{process: r.newProcess(), group: transformers}
	other := &member{process: r.newProcess(), group: transformers}
	var hold atomic.Bool
	held, release := make(chan struct{}), make(chan struct{})
	r.hold = func(client string, req kmsg.Request) {
		if _, join := req.(*kmsg.JoinGroupRequest); join && client == who(late.id) && hold.CompareAndSwap(true, false) {
			close(held)
			<-release
		}
	}
	late.reset()
	first := late.session(late.transactionalID())
	defer first.Close()
	until(ctx, t, func() bool { return late.has() == partitions && first.Client().BufferedFetchRecords() > 0 })
	hold.Store(true)
	other.reset()
	second := other.session(other.transactionalID())
	defer second.Close()
	<-held
	for !other.copySome(ctx, second) {
		if ctx.Err() != nil {
			t.Fatal("the member that has the partitions could not commit")
		}
	}
	commitCtx := late.asPolled(ctx)
	_, before := first.Client().GroupMetadata()
	polled := first.PollRecords(ctx, -1)
	if polled.NumRecords() == 0 {
		t.Fatal("the late member has nothing to commit")
	}
	close(release)
	until(ctx, t, func() bool {
		_, generation := first.Client().GroupMetadata()
		return generation != before // it has joined again
	})
	if late.copyOf(ctx, first, commitCtx, polled) {
		t.Error("two members committed the same inputs")
	}
	first.AllowRebalance()
	r.stop()
}

// until waits for a condition.
func until(ctx context.Context, t *testing.T, condition func() bool) {
	t.Helper()
	for !condition() {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			t.Fatal("waited in vain")
		}
	}
}

// has is how many partitions the member has.
func (m *member) has() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.next)
}

// copySome transforms what it polls; it reports whether that was committed.
func (m *member) copySome(ctx context.Context, s *kgo.GroupTransactSession) bool {
	defer s.AllowRebalance()
	commitCtx := m.asPolled(ctx)
	pollCtx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	polled := s.PollRecords(pollCtx, -1)
	return polled.NumRecords() > 0 && m.copyOf(ctx, s, commitCtx, polled)
}

func (m *member) copyOf(ctx context.Context, s *kgo.GroupTransactSession, commitCtx context.Context, polled kgo.Fetches) bool {
	if err := s.Begin(); err != nil {
		m.t.Fatal(err)
	}
	for it := polled.RecordIter(); !it.Done(); {
		in := it.Next()
		if err := s.ProduceSync(ctx, &kgo.Record{Topic: outputs, Partition: in.Partition, Value: in.Value}).FirstErr(); err != nil {
			m.t.Fatal(err)
		}
	}
	committed, err := s.End(commitCtx, kgo.TryCommit)
	if err != nil {
		m.t.Fatal(err)
	}
	return committed
}
