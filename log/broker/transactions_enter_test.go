package broker

import (
	"context"
	"testing"

	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/vfs"
)

// TestEnterTogether: batches of one transaction that enter many partitions at the
// same time, each adding its own; none is lost.
func TestEnterTogether(t *testing.T) {
	s := txnServer(t, vfs.NewMem(1))
	s.txns.loaded.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.txns.ctx = ctx
	p, err := s.txns.init(ctx, "tx", 1000, group.NoProducer)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := s.txns.find("tx")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	const parts = 200
	for i := range int32(parts) {
		go func() {
			_, err := tr.enter(ctx, s.txns, p, group.TopicPartition{Topic: "t", Partition: i}, true)
			if err == nil {
				tr.leave()
			}
			done <- err
		}()
	}
	for range parts {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if n := len(tr.t.Partitions); n != parts || tr.t.State != group.TxnOngoing {
		t.Fatalf("%d partitions, %v", n, tr.t.State)
	}
}
