package broker_test

import (
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/record"
)

// txnClient sends the requests of a transactional producer one by one, in one of
// the two protocols.
type txnClient struct {
	t     *testing.T
	n     *node
	v2    bool
	id    int64
	epoch int16
	seq   int32
}

func (c *txnClient) init() {
	c.t.Helper()
	loaded(c.t, c.n)
	req := kmsg.NewPtrInitProducerIDRequest()
	id := "x"
	req.TransactionalID, req.TransactionTimeoutMillis = &id, 60_000
	resp := ask[*kmsg.InitProducerIDResponse](c.t, c.n, req, 4)
	if resp.ErrorCode != 0 {
		c.t.Fatal(kerr.ErrorForCode(resp.ErrorCode))
	}
	c.id, c.epoch, c.seq = resp.ProducerID, resp.ProducerEpoch, 0
}

func (c *txnClient) add() error {
	req := kmsg.NewPtrAddPartitionsToTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = "x", c.id, c.epoch
	req.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "t", Partitions: []int32{0}}}
	return kerr.ErrorForCode(ask[*kmsg.AddPartitionsToTxnResponse](c.t, c.n, req, 3).Topics[0].Partitions[0].ErrorCode)
}

// batch is the producer's next.
func (c *txnClient) batch(value string) []byte {
	b := batchOf(c.t, record.BatchOptions{ProducerID: c.id, ProducerEpoch: c.epoch, BaseSequence: c.seq, Transactional: true}, value)
	c.seq++
	return b
}

func (c *txnClient) send(batch []byte) error {
	c.t.Helper()
	version := int16(11)
	if c.v2 {
		version = 12
	}
	req := produceRequest("t", version, -1, slices.Clone(batch))
	id := "x"
	req.TransactionID = &id
	return kerr.ErrorForCode(ask[*kmsg.ProduceResponse](c.t, c.n, req, version).Topics[0].Partitions[0].ErrorCode)
}

// end ends the transaction of a producer as it was at an epoch.
func (c *txnClient) end(epoch int16, commit bool) (next int16, err error) {
	c.t.Helper()
	version := int16(4)
	if c.v2 {
		version = 5
	}
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = "x", c.id, epoch, commit
	resp := ask[*kmsg.EndTxnResponse](c.t, c.n, req, version)
	next = epoch
	if c.v2 {
		next = resp.ProducerEpoch
	}
	return next, kerr.ErrorForCode(resp.ErrorCode)
}

// stable wants nothing to be open in the partition.
func (c *txnClient) stable(what string) {
	c.t.Helper()
	p, err := c.n.log.Partition("t", 0)
	if err != nil {
		c.t.Fatal(err)
	}
	if p.LastStableOffset() != p.HighWatermark() {
		c.t.Fatalf("%s: a transaction hangs, stable to %d of %d", what, p.LastStableOffset(), p.HighWatermark())
	}
}

// TestLateBatch: what a producer sent and what comes after the end of its transaction,
// or after it was fenced, is refused and opens nothing, in both protocols; a batch
// that is sent again is not there twice.
func TestLateBatch(t *testing.T) {
	for _, v2 := range []bool{false, true} {
		for _, commit := range []bool{false, true} {
			n := startNode(t, broker.Options{})
			n.topic("t", 1)
			c := &txnClient{t: t, n: n, v2: v2}
			c.init()
			if !v2 {
				if err := c.send(c.batch("early")); err == nil {
					t.Fatal("a batch before its partition was added")
				}
				c.seq = 0
				if err := c.add(); err != nil {
					t.Fatal(err)
				}
			}
			first := c.batch("first")
			for range 2 {
				if err := c.send(first); err != nil {
					t.Fatal(err)
				}
			}
			late := c.batch("late")
			next, err := c.end(c.epoch, commit)
			if err != nil || v2 && next != c.epoch+1 {
				t.Fatalf("%v, epoch %d after %d", err, next, c.epoch)
			}
			for what, batch := range map[string][]byte{"late": late, "sent again": first} {
				if err := c.send(batch); err == nil {
					t.Errorf("v2=%v: a batch that was %s was taken after the end", v2, what)
				}
				c.stable(what)
			}
			// A retry of the end has the answer of the first; the other outcome has none.
			if again, err := c.end(c.epoch, commit); err != nil || again != next {
				t.Errorf("v2=%v: ended again: %v, epoch %d, was %d", v2, err, again, next)
			}
			if _, err := c.end(c.epoch, !commit); err == nil {
				t.Errorf("v2=%v: the other outcome was accepted", v2)
			}
			// The next transaction is not ended by a late end of the one before.
			old := c.epoch
			if c.epoch = next; v2 {
				c.seq = 0
			} else if c.seq = 1; c.add() != nil {
				t.Fatal("add")
			}
			if err := c.send(c.batch("second")); err != nil {
				t.Fatal(err)
			}
			if v2 {
				if _, err := c.end(old, commit); err == nil {
					t.Error("a late end was taken for one of the next transaction")
				}
			}
			// Who takes the id over aborts it, and what is late of it is refused.
			late = c.batch("late too")
			fresh := &txnClient{t: t, n: n, v2: v2}
			fresh.init()
			c.stable("after another took over")
			if err := c.send(late); err != error(kerr.InvalidProducerEpoch) {
				t.Errorf("v2=%v: a batch of one who was fenced: %v", v2, err)
			}
			c.stable("of one who was fenced")
			n.restart()
			loaded(t, n)
			if err := c.send(late); err == nil {
				t.Errorf("v2=%v: after a restart", v2)
			}
			c.stable("after a restart")
		}
	}
}

// TestTopicDeletedInTransaction: a transaction whose topic is deleted, and made
// again, ends all the same, and leaves nothing open in either.
func TestTopicDeletedInTransaction(t *testing.T) {
	for _, v2 := range []bool{false, true} {
		for _, again := range []string{"never", "empty", "written"} {
			n := startNode(t, broker.Options{})
			n.topic("t", 1)
			c := &txnClient{t: t, n: n, v2: v2}
			c.init()
			if !v2 && c.add() != nil {
				t.Fatal("add")
			}
			if err := c.send(c.batch("a")); err != nil {
				t.Fatal(err)
			}
			if err := n.log.DeleteTopic("t"); err != nil {
				t.Fatal(err)
			}
			if again != "never" {
				n.topic("t", 1)
			}
			if again == "written" {
				if err := c.send(c.batch("b")); err != nil {
					t.Fatal(err)
				}
			}
			next, err := c.end(c.epoch, true)
			if err != nil {
				t.Fatalf("v2=%v, %s again: %v", v2, again, err)
			}
			n.topic("t", 1)
			c.stable("made again: " + again)
			c.epoch = next
			switch {
			case v2:
				c.seq = 0
			case again == "empty":
				// The marker is all that the new topic knows of the producer, whose next
				// sequence is out of order then, as with Kafka: it takes a new epoch.
				c.init()
			}
			if !v2 && c.add() != nil {
				t.Fatal("add")
			}
			if err := c.send(c.batch("c")); err != nil {
				t.Fatalf("v2=%v, made again: %s: the next transaction: %v", v2, again, err)
			}
			if _, err := c.end(c.epoch, true); err != nil {
				t.Fatal(err)
			}
			c.stable("the next")
		}
	}
}
