package clients

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const partitions = 4

// TestClients takes each client through all that it can do.
func TestClients(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	t.Run("each", func(t *testing.T) { // the broker outlives the parallel ones
		for _, c := range clients {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				argv := c.build(t)
				t.Log(c.remarks)
				run := func(scenario string, can bool, f func(*testing.T, *client, []string, *reader)) {
					if can {
						t.Run(scenario, func(t *testing.T) { f(t, c, argv, b.reader(t)) })
					}
				}
				run("produce", true, produces)
				run("consume", true, consumes)
				run("isolate", true, isolates)
				run("group", true, rebalances(""))
				run("group assigned by the broker", c.next, rebalances("consumer"))
				run("group that changes its protocol", c.migrates, migrates)
				run("transact", c.transactions || c.offsets, transacts)
				run("admin", c.admin, administers)
			})
		}
	})
}

// name is a name of a topic or group that no other test, and no earlier run, has.
func name(c *client, of string) string { return fmt.Sprintf("%s-%s-%d", c.name, of, started) }

var started = time.Now().Unix()

// record is record i of a run, as the contract has it.
func record(topic, run string, i int) *kgo.Record {
	r := &kgo.Record{Topic: topic, Partition: int32(i % partitions), Timestamp: time.UnixMilli(1700000000000 + 1000*int64(i)),
		Headers: []kgo.RecordHeader{{Key: "run", Value: []byte(run)}, {Key: "index", Value: []byte(strconv.Itoa(i))}, {Key: "empty", Value: []byte{}}}}
	if i%7 != 3 {
		r.Key = fmt.Appendf(nil, "key-%d", i%13)
	}
	if i%11 != 5 {
		r.Value = fmt.Appendf(nil, "%s %d schöner 🐢 %s", run, i, strings.Repeat("weir ", 20))
	}
	return r
}

func records(topic, run string, from, to int) []*kgo.Record {
	var rs []*kgo.Record
	for i := from; i < to; i++ {
		rs = append(rs, record(topic, run, i))
	}
	return rs
}

// text is all of a record that a client can read; plain leaves out what kcat
// cannot write.
func text(r *kgo.Record, plain bool) string {
	show := func(b []byte) string {
		if b == nil {
			return "null"
		}
		return strconv.Quote(string(b))
	}
	s := fmt.Sprintf("partition %d key %s value %s", r.Partition, show(r.Key), show(r.Value))
	for _, h := range r.Headers {
		if !plain || h.Key != "index" {
			s += fmt.Sprintf(" %s=%s", h.Key, show(h.Value))
		}
	}
	if !plain {
		s += fmt.Sprintf(" at %d", r.Timestamp.UnixMilli())
	}
	return s
}

// text is the same of a record as a client has printed it.
func (e event) text() string {
	r := &kgo.Record{Partition: e.Partition, Timestamp: time.UnixMilli(e.Timestamp)}
	if e.Key != nil {
		r.Key = []byte(*e.Key)
	}
	if e.Value != nil {
		r.Value = []byte(*e.Value)
	}
	for _, h := range e.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h[0], Value: []byte(h[1])})
	}
	return text(r, false)
}

// same compares what is in a partition with what has to be, in order.
func same(t *testing.T, where string, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("%s: record %d is\n%s\nand has to be\n%s", where, i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d records, there have to be %d", where, len(got), len(want))
	}
}

// holds checks that each partition of a topic holds just these records, in order.
func holds(t *testing.T, topic string, got map[int32][]*kgo.Record, want []*kgo.Record, plain bool) {
	t.Helper()
	for p := range int32(partitions) {
		var g, w []string
		for _, r := range got[p] {
			g = append(g, text(r, plain))
		}
		for _, r := range want {
			if r.Partition == p {
				w = append(w, text(r, plain))
			}
		}
		same(t, fmt.Sprintf("%s/%d", topic, p), g, w)
	}
}

var codecBits = map[string]uint8{"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}

// produces: for each codec, and idempotently, each record is there once, in
// order, compressed as the client was told.
func produces(t *testing.T, c *client, argv []string, r *reader) {
	const count = 400
	try := func(topic, codec string, idempotent bool) {
		r.topic(topic, partitions)
		before := time.Now().Add(-time.Second)
		c.call(t, argv, r.addr, "produce", "topic="+topic, "run="+codec, "partitions=4", "codec="+codec,
			"idempotent="+strconv.FormatBool(idempotent), "count="+strconv.Itoa(count)).finish()
		r.end(topic, partitions)
		got := r.read(topic, partitions, kgo.ReadUncommitted())
		holds(t, topic, got, records(topic, codec, 0, count), c.plain)
		compressed := 0
		for _, rec := range slices.Concat(got[0], got[1], got[2], got[3]) {
			switch rec.Attrs.CompressionType() {
			case codecBits[codec]:
				compressed++
			case 0: // librdkafka does not compress what becomes no smaller by it
			default:
				t.Fatalf("%s: a batch has codec %d, not %s", topic, rec.Attrs.CompressionType(), codec)
			}
			if (rec.ProducerID >= 0) != idempotent {
				t.Fatalf("%s: a batch has producer id %d", topic, rec.ProducerID)
			}
			if c.plain && (rec.Timestamp.Before(before) || rec.Timestamp.After(time.Now().Add(time.Second))) {
				t.Fatalf("%s: a record is from %v", topic, rec.Timestamp)
			}
		}
		if compressed < count/2 {
			t.Fatalf("%s: %d of %d records are in batches with %s", topic, compressed, count, codec)
		}
	}
	for _, codec := range c.codecs {
		try(name(c, "produce-"+codec), codec, false)
	}
	if c.idempotent {
		try(name(c, "produce-idempotent"), "none", true)
	}
}

var codecs = map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}

// consumes: the client reads everything of a topic that holds all codecs it knows.
func consumes(t *testing.T, c *client, argv []string, r *reader) {
	topic := r.topic(name(c, "consume"), partitions)
	const each = 100
	for i, codec := range c.codecs {
		cl, err := kgo.NewClient(kgo.SeedBrokers(r.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codecs[codec]))
		if err != nil {
			t.Fatal(err)
		}
		if err := cl.ProduceSync(within(t), records(topic, "mixed", i*each, (i+1)*each)...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		cl.Close()
	}
	r.end(topic, partitions)
	events := of(c.call(t, argv, r.addr, "consume", "topic="+topic, "partitions=4", "isolation=uncommitted").finish(), "record")
	consumed(t, topic, events, records(topic, "mixed", 0, each*len(c.codecs)))
	next := map[int32]int64{}
	for _, e := range events {
		if e.Offset != next[e.Partition] {
			t.Fatalf("%s/%d: record %d came with offset %d", topic, e.Partition, next[e.Partition], e.Offset)
		}
		next[e.Partition]++
	}
}

// consumed checks that a client printed just these records, in order.
func consumed(t *testing.T, topic string, events []event, want []*kgo.Record) {
	t.Helper()
	for p := range int32(partitions) {
		var g, w []string
		for _, e := range of(events, "record") {
			if e.Partition == p {
				g = append(g, e.text())
			}
		}
		for _, r := range want {
			if r.Partition == p {
				w = append(w, text(r, false))
			}
		}
		same(t, fmt.Sprintf("%s/%d", topic, p), g, w)
	}
}

// place is where a record is.
type place struct {
	partition int32
	offset    int64
}

// seen is how often a member printed each record.
func seen(events []event) map[place]int {
	n := map[place]int{}
	for _, e := range of(events, "record") {
		n[place{e.Partition, e.Offset}]++
	}
	return n
}

// rebalances: two members share the partitions when the second joins, the first
// has them all when the second leaves, each record is consumed, and a third
// member sees nothing that was committed. protocol "consumer" is KIP-848.
func rebalances(protocol string) func(*testing.T, *client, []string, *reader) {
	return func(t *testing.T, c *client, argv []string, r *reader) { rebalance(t, c, argv, r, protocol) }
}

func rebalance(t *testing.T, c *client, argv []string, r *reader, protocol string) {
	topic, group := r.topic(name(c, "group"+protocol), partitions), name(c, "group"+protocol)
	made := 0
	more := func(n int) {
		r.produce(records(topic, "group", made, made+n)...)
		made += n
	}
	member := func() *program {
		return c.call(t, argv, r.addr, "group", "topic="+topic, "group="+group, "protocol="+protocol)
	}

	more(200)
	first := member()
	r.stable(group, topic, protocol, 1)
	first.expect("all records", func(es []event) bool { return len(seen(es)) == made })

	second := member()
	r.stable(group, topic, protocol, 2)
	more(200)
	until(t, "both members have consumed all", func() (bool, string) {
		all := seen(first.wait("", always))
		maps.Copy(all, seen(second.wait("", always)))
		return len(all) == made, fmt.Sprintf("%d of %d", len(all), made)
	})
	held := map[int32]bool{}
	for at := range seen(second.leave()) {
		held[at.partition] = true
	}
	if len(held) == 0 || len(held) == partitions {
		t.Errorf("the second member consumed from %d of %d partitions", len(held), partitions)
	}

	r.stable(group, topic, protocol, 1)
	more(200)
	last := func(es []event) bool { // the new records of every partition
		n := 0
		for at := range seen(es) {
			if at.offset >= 100 {
				n++
			}
		}
		return n == 200
	}
	first.expect("the records after the second left", last)
	events := first.leave()
	if c.assigned && len(of(events, "assigned")) < 3 {
		t.Errorf("the first member was assigned partitions %d times: at its start, at the other's coming and going it makes 3", len(of(events, "assigned")))
	}

	r.committed(group, topic, map[int32]int64{0: 150, 1: 150, 2: 150, 3: 150})
	more(40)
	third := member()
	fresh := seen(third.expect("the records after the first left", func(es []event) bool { return len(seen(es)) >= 40 }))
	for at, n := range seen(third.leave()) {
		if at.offset < 150 || n != 1 {
			t.Errorf("the third member consumed offset %d of partition %d %d times: committed was 150", at.offset, at.partition, n)
		}
	}
	if len(fresh) != 40 {
		t.Errorf("the third member consumed %d records, there were 40", len(fresh))
	}
}

func always([]event) bool { return true }

// stable waits until a group has so many members that share all partitions, none
// without.
func (r *reader) stable(group, topic, protocol string, members int) {
	r.t.Helper()
	until(r.t, fmt.Sprintf("group %s with %d members", group, members), func() (bool, string) {
		assigned := r.assigned
		if protocol == "consumer" {
			assigned = r.assignedByBroker
		}
		shares, state, err := assigned(group, topic)
		if err != nil || state != "Stable" || len(shares) != members {
			return false, fmt.Sprintf("%s with %d members, %v", state, len(shares), err)
		}
		held := map[int32]bool{}
		for _, share := range shares {
			for _, p := range share {
				held[p] = true
			}
			if len(share) != partitions/members {
				return false, fmt.Sprintf("shares %v", shares)
			}
		}
		return len(held) == partitions, fmt.Sprintf("shares %v", shares)
	})
}

// assigned is what each member of a group holds of a topic.
func (r *reader) assigned(group, topic string) (shares [][]int32, state string, err error) {
	described, err := r.adm.DescribeGroups(within(r.t), group)
	if err != nil {
		return nil, "", err
	}
	g := described[group]
	for _, m := range g.Members {
		a, ok := m.Assigned.AsConsumer()
		if !ok {
			return nil, g.State, errors.New("an assignment that is not a consumer's")
		}
		var share []int32
		for _, at := range a.Topics {
			if at.Topic == topic {
				share = append(share, at.Partitions...)
			}
		}
		shares = append(shares, share)
	}
	return shares, g.State, g.Err
}

// assignedByBroker is assigned for a group of KIP-848.
func (r *reader) assignedByBroker(group, topic string) (shares [][]int32, state string, err error) {
	described, err := r.adm.DescribeConsumerGroups(within(r.t), group)
	if err != nil {
		return nil, "", err
	}
	g := described[group]
	for _, m := range g.Members {
		shares = append(shares, slices.Collect(maps.Keys(m.Assignment[topic])))
	}
	return shares, g.State, g.Err
}

// committed waits for the offsets that a group has committed.
func (r *reader) committed(group, topic string, want map[int32]int64) {
	r.t.Helper()
	until(r.t, fmt.Sprintf("offsets of %s", group), func() (bool, string) {
		got := r.offsets(group, topic)
		return maps.Equal(got, want), fmt.Sprintf("%v, not %v", got, want)
	})
}

func (r *reader) offsets(group, topic string) map[int32]int64 {
	r.t.Helper()
	fetched, err := r.adm.FetchOffsets(within(r.t), group)
	if err != nil {
		r.t.Fatal(err)
	}
	got := map[int32]int64{}
	fetched.Each(func(o kadm.OffsetResponse) {
		if o.Err != nil {
			r.t.Fatal(o.Err)
		}
		if o.Topic == topic {
			got[o.Partition] = o.At
		}
	})
	return got
}

// isolates: of what another producer committed, aborted and leaves open the client
// reads what its isolation level shows, and nothing that is open.
func isolates(t *testing.T, c *client, argv []string, r *reader) {
	topic := r.topic(name(c, "isolate"), partitions)
	const each = 40
	tx, err := kgo.NewClient(kgo.SeedBrokers(r.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Close()
	writes := func(n int) {
		if err := tx.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := tx.ProduceSync(within(t), records(topic, "isolate", n*each, (n+1)*each)...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	ends := func(commit kgo.TransactionEndTry) {
		if err := tx.EndTransaction(within(t), commit); err != nil {
			t.Fatal(err)
		}
	}
	writes(0)
	ends(kgo.TryAbort)
	writes(1)
	ends(kgo.TryCommit)
	writes(2)
	r.end(topic, partitions)

	consume := func(isolation string) *program {
		return c.call(t, argv, r.addr, "consume", "topic="+topic, "partitions=4", "isolation="+isolation)
	}
	everything := records(topic, "isolate", 0, 3*each)
	stable, final := everything[:2*each], everything // of a client that shows aborted records
	if c.leavesOut {
		stable, final = everything[each:2*each], everything[each:2*each]
	}
	consumed(t, topic, c.withoutMarkers(consume("uncommitted").finish()), everything)
	p := consume("committed")
	events := p.expect("what is committed", func(es []event) bool { return len(of(c.withoutMarkers(es), "record")) >= len(stable) })
	consumed(t, topic, c.withoutMarkers(events), stable)
	ends(kgo.TryAbort)
	consumed(t, topic, c.withoutMarkers(p.finish()), final)
}

// withoutMarkers leaves out the ends of transactions that a client prints as
// records, which one that knows transactions does not.
func (c *client) withoutMarkers(events []event) []event {
	if c.leavesOut {
		return events
	}
	return slices.DeleteFunc(slices.Clone(events), func(e event) bool { return e.Key != nil && strings.HasPrefix(*e.Key, "\x00\x00\x00") })
}

// transaction is a client's program that takes one transaction after the other.
type transaction struct {
	*program
	c             *client
	r             *reader
	topic, source string
	group         string
	committed     []*kgo.Record
}

const perTransaction = 40

// write begins transaction n and leaves it open. Its offset is that of source.
func (x *transaction) write(n int, offset int64) {
	x.t.Helper()
	x.must("begin")
	if x.c.transactions {
		x.must("produce %d %d", n*perTransaction, perTransaction)
		x.r.hides(x.topic, perTransaction)
	}
	if x.c.offsets {
		x.must("offset %d", offset)
	}
}

// end ends transaction n, after which the group's offset is stands.
func (x *transaction) end(n int, how string, stands int64) {
	x.t.Helper()
	x.must("%s", how)
	x.r.hides(x.topic, 0) // also without the next one, which would end it
	if how == "commit" && x.c.transactions {
		x.committed = append(x.committed, records(x.topic, "tx", n*perTransaction, (n+1)*perTransaction)...)
	}
	if !x.c.offsets {
		return
	}
	want := map[int32]int64{}
	if stands > 0 {
		want[0] = stands
	}
	x.r.committed(x.group, x.source, want)
}

// transacts: what is committed is seen, what is aborted is not, and offsets hold
// only with their transaction. At last a second producer of the same id fences
// the first.
func transacts(t *testing.T, c *client, argv []string, r *reader) {
	topic, source := r.topic(name(c, "transact"), partitions), r.topic(name(c, "source"), 1)
	for i := range 30 {
		r.produce(&kgo.Record{Topic: source, Value: fmt.Appendf(nil, "%d", i)})
	}
	call := func(group string) *transaction {
		p := c.call(t, argv, r.addr, "transact", "topic="+topic, "run=tx", "partitions=4", "id="+name(c, "id"), "group="+group, "source="+source)
		return &transaction{program: p, c: c, r: r, topic: topic, source: source, group: group}
	}
	x := call(name(c, "transact"))
	x.write(0, 5)
	x.end(0, "abort", 0)
	x.write(1, 10)
	x.end(1, "commit", 10)
	x.write(2, 20)
	x.end(2, "abort", 10)
	x.write(3, 30)
	x.end(3, "commit", 30)

	x.write(4, 30)
	other := call(name(c, "other"))
	other.must("begin")
	r.hides(topic, 0)
	if e := x.step("commit"); e.Event == "ok" || !e.Fenced {
		t.Errorf("a producer that was fenced committed: %+v", e)
	}
	x.kill()
	if c.transactions {
		other.must("produce %d %d", 5*perTransaction, perTransaction)
		other.end(5, "commit", 0)
	} else {
		other.must("offset 7")
		other.end(5, "commit", 7)
	}
	other.leave()

	r.end(topic, partitions)
	visible(t, c, topic, r.read(topic, partitions, kgo.ReadCommitted()), slices.Concat(x.committed, other.committed))
	if c.transactions {
		visible(t, c, topic, r.read(topic, partitions, kgo.ReadUncommitted()), records(topic, "tx", 0, 6*perTransaction))
	}
}

// hides waits until so many records are written and not to be seen by readers of
// committed records.
func (r *reader) hides(topic string, want int64) {
	r.t.Helper()
	until(r.t, fmt.Sprintf("%d hidden records in %s", want, topic), func() (bool, string) {
		n, err := r.hidden(topic)
		return n == want && err == nil, fmt.Sprintf("%d records are hidden, %v", n, err)
	})
}

// hidden is the number of records behind the last stable offsets.
func (r *reader) hidden(topic string) (n int64, err error) {
	r.t.Helper()
	ends, err := r.adm.ListEndOffsets(within(r.t), topic)
	if err != nil {
		return 0, err
	}
	stable, err := r.adm.ListCommittedOffsets(within(r.t), topic)
	if err != nil {
		return 0, err
	}
	ends.Each(func(o kadm.ListedOffset) {
		s, _ := stable.Lookup(topic, o.Partition)
		n += o.Offset - s.Offset
	})
	return n, nil
}

// visible compares a topic with what has to be in it. kcat chooses partitions, so
// that for it only the records as a whole are compared.
func visible(t *testing.T, c *client, topic string, got map[int32][]*kgo.Record, want []*kgo.Record) {
	t.Helper()
	if !c.plain {
		holds(t, topic, got, want, false)
		return
	}
	values := func(rs []*kgo.Record) []string {
		var vs []string
		for _, r := range rs {
			vs = append(vs, fmt.Sprintf("%s %s", r.Key, r.Value))
		}
		slices.Sort(vs)
		return vs
	}
	same(t, topic, values(slices.Concat(got[0], got[1], got[2], got[3])), values(want))
}

// administers: the topic was made as asked, its configuration described, records
// deleted.
func administers(t *testing.T, c *client, argv []string, r *reader) {
	topic := name(c, "admin")
	events := c.call(t, argv, r.addr, "admin", "topic="+topic, "run=admin").finish()
	const retention = "315360000000"
	if said := of(events, "config"); len(said) != 1 || said[0].Retention != retention {
		t.Errorf("the client was told %+v", said)
	}
	configs, err := r.adm.DescribeTopicConfigs(within(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(configs[0].Configs, func(c kadm.Config) bool { return c.Key == "retention.ms" && c.MaybeValue() == retention }) {
		t.Errorf("retention.ms is not %s: %+v", retention, configs[0].Configs)
	}
	starts, err := r.adm.ListStartOffsets(within(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	ends, err := r.adm.ListEndOffsets(within(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	for p := range int32(3) {
		start, _ := starts.Lookup(topic, p)
		end, _ := ends.Lookup(topic, p)
		want := int64(0)
		if p == 0 && c.deletes {
			want = 5
		}
		if start.Offset != want || end.Offset != 10 {
			t.Errorf("partition %d has offsets %d to %d; they have to be %d to 10", p, start.Offset, end.Offset, want)
		}
	}
}
