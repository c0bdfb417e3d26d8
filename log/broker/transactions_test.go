package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/weirstream/weir/log/broker"
)

// protocols are the ways in which clients speak of transactions: KIP-890's, and
// the one before, in which AddPartitionsToTxn comes first.
var protocols = map[string][]kgo.Opt{
	"transactions v2": nil,
	"transactions v1": {kgo.MaxVersions(kversion.V3_7_0())},
}

// eachProtocol runs f with the options of a transactional producer.
func eachProtocol(t *testing.T, f func(t *testing.T, opts []kgo.Opt)) {
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) { f(t, opts) })
	}
}

// producer is a client with a transactional id.
func (n *node) producer(id string, opts ...kgo.Opt) *kgo.Client {
	n.t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.addr), kgo.TransactionalID(id), kgo.RecordPartitioner(kgo.ManualPartitioner())}, opts...)...)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(cl.Close)
	return cl
}

// transact runs one transaction that writes value to each of the partitions of t.
func transact(t testing.TB, cl *kgo.Client, end kgo.TransactionEndTry, value string, partitions ...int32) {
	t.Helper()
	ctx := within(t, patience)
	begin(t, ctx, cl, value, partitions...)
	if err := cl.EndTransaction(ctx, end); err != nil {
		t.Fatalf("end %s: %v", value, err)
	}
}

// begin is transact without its end.
func begin(t testing.TB, ctx context.Context, cl *kgo.Client, value string, partitions ...int32) {
	t.Helper()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	for _, p := range partitions {
		cl.Produce(ctx, &kgo.Record{Topic: "t", Partition: p, Value: []byte(value)}, nil)
	}
	if err := cl.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// committed are the values that a reader of committed records finds in t, up to
// the last stable offset of each partition.
func (n *node) committed(partitions int32) []string {
	n.t.Helper()
	offsets := map[int32]kgo.Offset{}
	ends := map[int32]int64{}
	for i := range partitions {
		offsets[i] = kgo.NewOffset().At(0)
		p, err := n.log.Partition("t", i)
		if err != nil {
			n.t.Fatal(err)
		}
		ends[i] = p.LastStableOffset()
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.addr), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": offsets}), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		n.t.Fatal(err)
	}
	defer cl.Close()
	var values []string
	at := map[int32]int64{}
	behind := func() bool {
		for i, end := range ends {
			if at[i] < end {
				return true
			}
		}
		return false
	}
	for ctx := within(n.t, patience); behind(); {
		// Aborted records are not seen, so that only an empty fetch at the end says
		// that there are no more; markers are seen.
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			n.t.Fatalf("fetch: %v, have %d values, are at %v of %v", err, len(values), at, ends)
		}
		fs.EachRecord(func(r *kgo.Record) {
			at[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				values = append(values, fmt.Sprintf("%d:%s", r.Partition, r.Value))
			}
		})
	}
	slices.Sort(values)
	return values
}

func TestTransactions(t *testing.T) {
	eachProtocol(t, func(t *testing.T, opts []kgo.Opt) {
		n := startNode(t, broker.Options{})
		n.topic("t", 3)
		cl := n.producer("x", opts...)
		transact(t, cl, kgo.TryCommit, "a", 0, 1, 2)
		transact(t, cl, kgo.TryAbort, "b", 0, 1)
		transact(t, cl, kgo.TryCommit, "c", 1)
		want := []string{"0:a", "1:a", "1:c", "2:a"}
		if got := n.committed(3); !slices.Equal(got, want) {
			t.Errorf("committed %v, want %v", got, want)
		}
		n.restart()
		if got := n.committed(3); !slices.Equal(got, want) {
			t.Errorf("after a restart: committed %v, want %v", got, want)
		}
		transact(t, cl, kgo.TryCommit, "d", 2)
		if got, want := n.committed(3), append(slices.Clone(want), "2:d"); !slices.Equal(got, want) {
			t.Errorf("committed %v, want %v", got, want)
		}
	})
}

func TestSecondProducerFencesTheFirst(t *testing.T) {
	eachProtocol(t, func(t *testing.T, opts []kgo.Opt) {
		n := startNode(t, broker.Options{})
		n.topic("t", 1)
		ctx := within(t, patience)
		first, second := n.producer("x", opts...), n.producer("x", opts...)
		begin(t, ctx, first, "first", 0)
		transact(t, second, kgo.TryCommit, "second", 0)
		err := first.EndTransaction(ctx, kgo.TryCommit)
		if !errors.Is(err, kerr.ProducerFenced) && !errors.Is(err, kerr.InvalidProducerEpoch) {
			t.Errorf("the first commits: %v", err)
		}
		if got := n.committed(1); !slices.Equal(got, []string{"0:second"}) {
			t.Errorf("committed %v", got)
		}
	})
}

func TestTransactionTimesOut(t *testing.T) {
	eachProtocol(t, func(t *testing.T, opts []kgo.Opt) {
		n := startNode(t, broker.Options{})
		n.topic("t", 1)
		ctx := within(t, patience)
		cl := n.producer("x", append(opts, kgo.TransactionTimeout(time.Second))...)
		begin(t, ctx, cl, "late", 0)
		p, err := n.log.Partition("t", 0)
		if err != nil {
			t.Fatal(err)
		}
		if lso := p.LastStableOffset(); lso != 0 {
			t.Fatalf("last stable offset %d with an open transaction", lso)
		}
		if err := p.WaitStable(ctx, 0); err != nil {
			t.Fatal(err)
		}
		if err := cl.EndTransaction(ctx, kgo.TryCommit); err == nil {
			t.Error("committed after its timeout")
		} else {
			t.Logf("commit after the timeout: %v", err)
		}
		if err := cl.EndTransaction(ctx, kgo.TryAbort); err != nil {
			t.Logf("abort: %v", err)
		}
		if got := n.committed(1); len(got) != 0 {
			t.Errorf("committed %v", got)
		}
		// Whoever comes next with the id goes on.
		transact(t, n.producer("x", opts...), kgo.TryCommit, "next", 0)
		if got := n.committed(1); !slices.Equal(got, []string{"0:next"}) {
			t.Errorf("committed %v", got)
		}
	})
}

// TestExactlyOnce copies a topic in transactions of a group session, with a member
// that comes and goes and a broker that restarts: every record is in the copy once.
func TestExactlyOnce(t *testing.T) {
	eachProtocol(t, func(t *testing.T, opts []kgo.Opt) {
		n := startNode(t, broker.Options{})
		n.topic("in", 4)
		n.topic("t", 2)
		ctx := within(t, patience)
		const records = 2000
		feed, err := kgo.NewClient(kgo.SeedBrokers(n.addr), kgo.DefaultProduceTopic("in"))
		if err != nil {
			t.Fatal(err)
		}
		defer feed.Close()
		for i := range records {
			feed.Produce(ctx, kgo.StringRecord(fmt.Sprint(i)), func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := feed.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		all, stopAll := context.WithCancel(ctx)
		defer stopAll()
		var copiers sync.WaitGroup
		run := func(ctx context.Context, id string) { copiers.Go(func() { copyInTransactions(t, ctx, n, id, opts) }) }
		run(all, "one")
		passing, stopPassing := context.WithCancel(all)
		run(passing, "two")
		// counted waits until so many records are committed.
		counted := func(want int) {
			for len(n.committed(2)) < want && ctx.Err() == nil && !t.Failed() {
				time.Sleep(20 * time.Millisecond)
			}
		}
		counted(records / 8)
		stopPassing()
		counted(records / 4)
		n.restart()
		counted(records)
		stopAll()
		copiers.Wait()
		got := n.committed(2)
		seen := map[string]int{}
		for _, v := range got {
			seen[v[2:]]++
		}
		if len(got) != records || len(seen) != records {
			t.Errorf("%d records in the copy, %d different; want %d", len(got), len(seen), records)
		}
	})
}

// copyInTransactions copies from "in" to "t" until ctx is done.
func copyInTransactions(t *testing.T, ctx context.Context, n *node, id string, opts []kgo.Opt) {
	s, err := kgo.NewGroupTransactSession(append([]kgo.Opt{kgo.SeedBrokers(n.addr), kgo.TransactionalID(id), kgo.ConsumerGroup("copy"),
		kgo.ConsumeTopics("in"), kgo.DefaultProduceTopic("t"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	// A transaction that it left open would hold readers back until its timeout.
	defer func() { _, _ = s.End(within(t, patience), kgo.TryAbort) }()
	for ctx.Err() == nil {
		fetches := s.PollRecords(ctx, 50)
		if ctx.Err() != nil {
			return
		}
		if err := s.Begin(); err != nil {
			t.Errorf("begin: %v", err)
			return
		}
		fetches.EachRecord(func(r *kgo.Record) { s.Produce(ctx, kgo.SliceRecord(r.Value), nil) })
		if err := s.Client().Flush(ctx); err != nil {
			return
		}
		if _, err := s.End(ctx, kgo.TryCommit); err != nil && ctx.Err() == nil {
			t.Logf("%s: end: %v", id, err)
		}
	}
}
