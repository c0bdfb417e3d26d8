package cli

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/log/commitlog"
)

func TestTransactionCommands(t *testing.T) {
	l, addr := startBroker(t)
	w := &weir{t, addr}
	topic, err := l.CreateTopic(commitlog.TopicSpec{Name: "t", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := topic.Partition(0)
	w.want(exitDone, []string{"no open transactions"}, "transaction", "list")
	w.want(exitMistake, []string{`there is no transactional id "x"`}, "transaction", "abort", "x")
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.TransactionalID("x"), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	begin := func() {
		t.Helper()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(t.Context(), kgo.StringRecord("v")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	w.want(exitDone, []string{"ID  STATE", "x   Ongoing", "t[0]"}, "transaction", "list")
	if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	w.want(exitDone, []string{"no open transactions"}, "transaction", "list")
	w.want(exitDone, []string{`"state":"CompleteCommit"`}, "transaction", "list", "--all", "--json")
	w.want(exitDone, []string{"x has no ongoing transaction"}, "transaction", "abort", "x", "--yes")
	begin()
	w.want(exitDone, []string{"would abort the transaction of x", "nothing was changed"}, "transaction", "abort", "x")
	if p.LastStableOffset() == p.HighWatermark() {
		t.Error("it was aborted without --yes")
	}
	w.want(exitDone, []string{"aborted the transaction of x"}, "transaction", "abort", "x", "--yes")
	if p.LastStableOffset() != p.HighWatermark() {
		t.Error("readers still wait")
	}
	if err := cl.EndTransaction(t.Context(), kgo.TryCommit); !errors.Is(err, kerr.ProducerFenced) && !errors.Is(err, kerr.InvalidProducerEpoch) && !errors.Is(err, kerr.InvalidTxnState) {
		t.Errorf("its producer commits: %v", err)
	}
}
