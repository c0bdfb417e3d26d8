package broker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/group"
)

// groupConsumer is a member of a group that notes what it read and holds.
type groupConsumer struct {
	cl   *kgo.Client
	mu   sync.Mutex
	held map[int32]bool
	read map[string]int
	stop context.CancelFunc
	done chan struct{}
	over sync.Once
}

func consumeGroup(t testing.TB, n *node, id, topic string, opts ...kgo.Opt) *groupConsumer {
	t.Helper()
	c := &groupConsumer{held: map[int32]bool{}, read: map[string]int{}, done: make(chan struct{})}
	note := func(held bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, p := range parts[topic] {
				if delete(c.held, p); held {
					c.held[p] = true
				}
			}
		}
	}
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.addr), kgo.ConsumerGroup(id), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(100 * time.Millisecond), kgo.FetchMaxWait(200 * time.Millisecond), kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(note(true)), kgo.OnPartitionsRevoked(note(false)), kgo.OnPartitionsLost(note(false))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	c.cl = cl
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	go func() {
		defer close(c.done)
		for ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				c.mu.Lock()
				c.read[string(r.Value)]++
				c.mu.Unlock()
			})
			if err := cl.CommitUncommittedOffsets(ctx); err != nil && ctx.Err() == nil {
				t.Logf("commit: %v", err)
			}
		}
	}()
	t.Cleanup(func() { c.close() })
	return c
}

func (c *groupConsumer) close() {
	c.over.Do(func() {
		c.stop()
		<-c.done
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = c.cl.CommitUncommittedOffsets(ctx) // of what was polled last
		c.cl.Close()
	})
}

func (c *groupConsumer) holds() int { c.mu.Lock(); defer c.mu.Unlock(); return len(c.held) }

// nextGroups makes franz-go use the consumer protocol (KIP-848).
var nextGroups = context.WithValue(context.Background(), "opt_in_kafka_next_gen_balancer_beta", true) //lint:ignore SA1029 franz-go's key

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// TestFindCoordinatorMakesTopics: who has asked for a coordinator sees the topic of
// its state.
func TestFindCoordinatorMakesTopics(t *testing.T) {
	n := startNode(t, broker.Options{})
	cl, ctx := kgoClient(t, n), within(t, patience)
	for kind, topic := range []string{"__consumer_offsets", "__transaction_state"} {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorType, req.CoordinatorKey, req.CoordinatorKeys = int8(kind), "k", []string{"k"}
		if _, err := req.RequestWith(ctx, cl); err != nil {
			t.Fatal(err)
		}
		topics, err := kadm.NewClient(cl).ListTopicsWithInternal(ctx, topic)
		if err != nil || topics[topic].Err != nil || !topics[topic].IsInternal {
			t.Errorf("%s: %v, %+v", topic, err, topics[topic])
		}
	}
}

// TestGroupPattern: what a member's pattern matches is assigned to it, internal
// topics included.
func TestGroupPattern(t *testing.T) {
	n := startNode(t, broker.Options{Groups: group.Config{Heartbeat: 100 * time.Millisecond}})
	n.topic("orders", 2)
	n.topic("orders-v2", 2)
	held := func(topic, pattern string) *groupConsumer {
		return consumeGroup(t, n, "of "+topic, topic, kgo.ConsumeTopics(pattern), kgo.ServerSideBalancer(), kgo.ConsumeRegex())
	}
	orders, internal := held("orders", "ord.*"), held("__consumer_offsets", "orders-v2|__consumer_off.*")
	eventually(t, "the partitions of a topic", func() bool { return orders.holds() == 2 })
	eventually(t, "partitions of an internal topic", func() bool { return internal.holds() > 0 })
}

// TestGroupClients: members of franz-go share partitions, take over from one that
// leaves, and read on where the group was after a restart of the broker.
func TestGroupClients(t *testing.T) {
	for name, opts := range map[string][]kgo.Opt{
		"eager":       {kgo.Balancers(kgo.RangeBalancer())},
		"consumer":    {kgo.WithContext(nextGroups)},
		"cooperative": {kgo.Balancers(kgo.CooperativeStickyBalancer())},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, broker.Options{Groups: group.Config{Heartbeat: 100 * time.Millisecond}})
			n.topic("events", 6)
			produce := func(from, to int) {
				cl, err := kgo.NewClient(kgo.SeedBrokers(n.addr), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
				if err != nil {
					t.Fatal(err)
				}
				defer cl.Close()
				for i := from; i < to; i++ {
					if err := cl.ProduceSync(within(t, patience), &kgo.Record{Topic: "events", Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
			}
			produce(0, 60)
			a, b := consumeGroup(t, n, "g", "events", opts...), consumeGroup(t, n, "g", "events", opts...)
			eventually(t, "three partitions each", func() bool { return a.holds() == 3 && b.holds() == 3 })
			all := func(from, to int, cs ...*groupConsumer) func() bool {
				return func() bool {
					for i := from; i < to; i++ {
						found := 0
						for _, c := range cs {
							c.mu.Lock()
							found += c.read[fmt.Sprint(i)]
							c.mu.Unlock()
						}
						if found == 0 {
							return false
						}
					}
					return true
				}
			}
			eventually(t, "60 read", all(0, 60, a, b))
			b.close()
			eventually(t, "the other has all", func() bool { return a.holds() == 6 })
			n.restart()
			produce(60, 120)
			eventually(t, "read on after a restart", all(60, 120, a))
			a.close()
			c := consumeGroup(t, n, "g", "events", opts...)
			eventually(t, "a new member has all", func() bool { return c.holds() == 6 })
			produce(120, 180)
			eventually(t, "read by the new member", all(120, 180, c))
			c.mu.Lock()
			defer c.mu.Unlock()
			for i := range 120 {
				if c.read[fmt.Sprint(i)] > 0 {
					t.Fatalf("record %d was committed and is read again", i)
				}
			}
		})
	}
}
