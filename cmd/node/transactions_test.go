package node

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestTransactions: events of an open transaction wait, with those behind them, and
// SRE is told; aborted ones make no decision, alert or row; committed ones are
// decided once, also after a restart.
func TestTransactions(t *testing.T) {
	dir := t.TempDir()
	n, stop := startNode(t, dir, "http://127.0.0.1:9/")
	client := func() *kgo.Client {
		cl, err := kgo.NewClient(kgo.SeedBrokers(n.KafkaAddr()), kgo.DefaultProduceTopic("payments"), kgo.TransactionalID("desk"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	cl := client()
	begin := func(card string) {
		t.Helper()
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for second, amount := range []string{"500", "2", "3"} { // one is large, the third is the third
			_, value, _ := strings.Cut(payment(card, second, amount), " ")
			if err := cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte(card), Value: []byte(value)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	end := func(how kgo.TransactionEndTry) {
		t.Helper()
		if err := cl.EndTransaction(t.Context(), how); err != nil {
			t.Fatal(err)
		}
	}
	begin("aborted")
	end(kgo.TryAbort)
	begin("committed")
	produce(t, n, payment("aborted", 9, "1"), payment("committed", 9, "1")) // behind the open transaction, on both partitions or one
	if lines := n.heldBack(time.Now()); len(lines) != 0 {
		t.Errorf("a young transaction is trouble: %q", lines)
	}
	if lines := n.heldBack(time.Now().Add(time.Minute)); len(lines) != 1 || !strings.Contains(lines[0], `stream payments: transaction "desk"`) || !strings.Contains(lines[0], "has been open for 1m") {
		t.Errorf("trouble: %q", lines)
	}
	if k := sqlInt(t, n, "select count(*) from payments where card = 'committed'"); k != 0 {
		t.Errorf("%d events of an open transaction, and behind it, are in SQL", k)
	}
	end(kgo.TryCommit)
	check := func() {
		t.Helper()
		eventually(t, "the events in SQL", func() bool {
			return sqlInt(t, n, "select count(*) from payments where card = 'committed'") == 4 && sqlInt(t, n, "select count(*) from payments where card = 'aborted'") == 1
		})
		// large, thrice, and thrice again for the fourth.
		eventually(t, "the alerts in SQL", func() bool { return sqlInt(t, n, "select count(*) from alerts") >= 3 })
		var o Overview
		eventually(t, "everything is read to the end", func() bool {
			get(t, n, "/v1/overview", 200, &o)
			return o.Streams[0].Lag == 0 && o.SQL.Lag == 0
		})
		for query, want := range map[string]int64{
			"select count(*) from payments":                        5,
			"select count(*) from alerts":                          3,
			"select count(*) from alerts where key = 'aborted'":    0,
			"select count(*) from decisions where key = 'aborted'": 0,
			"select count(*) from deadletters":                     0,
		} {
			if got := int64(sqlInt(t, n, query)); got != want {
				t.Errorf("%s: %d, want %d", query, got, want)
			}
		}
		if lines := n.heldBack(time.Now().Add(time.Hour)); len(lines) != 0 {
			t.Errorf("trouble: %q", lines)
		}
	}
	check()
	stop()
	n, _ = startNode(t, dir, "http://127.0.0.1:9/")
	check()
	cl = client()
	begin("aborted")
	end(kgo.TryAbort)
	check()
}
