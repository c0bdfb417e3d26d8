package broker

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/vfs"
)

// coordinator runs the transaction coordinator of l, with offsets in place of the
// group coordinator's part, until stop.
func coordinator(t *testing.T, l *commitlog.Log, offsets func(commitlog.Marker) error) (x *transactions, stop func()) {
	t.Helper()
	x = newTransactions(l, Options{}.withDefaults(), newTransactionMetrics())
	x.logger = slog.New(slog.DiscardHandler)
	if topic, ok := l.Topic(transactionsTopic); ok { // as after a start: all that is there is durable
		for _, p := range topic.Partitions() {
			if err := p.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	x.offsets = func(_ context.Context, _ int32, m commitlog.Marker) error { return offsets(m) }
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { x.run(ctx) })
	for !x.loaded.Load() {
		time.Sleep(time.Millisecond) // until it is loaded
	}
	return x, func() { cancel(); running.Wait() }
}

// TestMarkersAreOwed: a partition that is out of service holds up neither its
// transaction's other partitions nor the producer, and has its marker before
// anything else after the next start.
func TestMarkersAreOwed(t *testing.T) {
	l := openMem(t, vfs.NewMem(1))
	defer l.Close()
	topic, err := l.CreateTopic(commitlog.TopicSpec{Name: "t", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := topic.Partition(0)
	good, damaged := group.TopicPartition{Topic: "t"}, group.TopicPartition{Topic: offsetsTopic, Partition: 3}

	x, stop := coordinator(t, l, func(commitlog.Marker) error { return commitlog.ErrFailed })
	ctx := t.Context()
	who, err := x.init(ctx, "x", time.Minute, group.NoProducer)
	if err != nil {
		t.Fatal(err)
	}
	for _, commit := range []bool{true, false} { // the producer goes on
		if _, err := x.add(ctx, "x", who, 2, good, damaged, group.TopicPartition{Topic: "deleted"}); err != nil {
			t.Fatal(err)
		}
		finish, err := x.end(ctx, "x", who, commit, true)
		if err != nil {
			t.Fatal(err)
		}
		if who, err = finish(ctx); err != nil {
			t.Fatal(err)
		}
		tr, err := x.find("x")
		if err != nil {
			t.Fatal(err)
		}
		if tr.mu.RLock(); tr.t.State != group.TxnCompleteCommit && commit || tr.t.Preparing() {
			t.Errorf("state %v", tr.t.State)
		}
		tr.mu.RUnlock()
	}
	if p.HighWatermark() != 2 {
		t.Errorf("%d markers in the partition that is well", p.HighWatermark())
	}
	stop()

	var owed []commitlog.Marker
	again, stop := coordinator(t, l, func(m commitlog.Marker) error { owed = append(owed, m); return nil })
	stop()
	// What is open there is of the first transaction: nothing came in after it.
	if len(owed) != 1 || !owed[0].Commit || owed[0].ProducerID != who.ID || owed[0].ProducerEpoch != 1 {
		t.Errorf("markers written after the repair: %+v", owed)
	}
	if len(again.owed) != 0 || len(again.byID) != 1 {
		t.Errorf("%d are still owed, %d ids", len(again.owed), len(again.byID))
	}
	owed = nil
	_, stop = coordinator(t, l, func(m commitlog.Marker) error { owed = append(owed, m); return nil })
	stop()
	if len(owed) != 0 {
		t.Errorf("written again: %+v", owed)
	}
}
