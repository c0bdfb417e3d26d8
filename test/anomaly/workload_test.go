package anomaly

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/log/commitlog"
)

const (
	inputs     = "inputs"  // what producers and transactions write to
	outputs    = "outputs" // what is made of it
	partitions = 2
	maxBatch   = 8 << 10
)

// patience is how long a run waits while nothing gets on. It is for a broker that
// hangs, not for a slow machine.
const patience = time.Minute

// plantedPatience is that with a bug planted: a marker that was acknowledged and
// lost leaves a transaction open for ever.
const plantedPatience = 2 * time.Second

// run is one seed: processes against a cluster that keeps crashing, until each
// has done its operations; then all is read once more.
type run struct {
	*cluster
	seed         uint64
	patience     time.Duration
	rec          Recorder
	values       atomic.Int64
	count        atomic.Int64 // of processes
	group        sync.WaitGroup
	ctx          context.Context
	transactions []string // ids, guarded by mu
}

// newRun starts a cluster with its topics.
func newRun(t testing.TB, seed uint64, b bug) *run {
	r := &run{cluster: newCluster(t, seed, b), seed: seed, patience: patience}
	r.trace, r.slow = &trace{rec: &r.rec, began: time.Now()}, newSlowness(seed)
	if b.planted() {
		r.patience = plantedPatience
	}
	r.start()
	for _, topic := range []string{inputs, outputs} {
		_, err := r.life.log.CreateTopic(commitlog.TopicSpec{Name: topic, Partitions: partitions, Configs: map[string]string{"max.message.bytes": strconv.Itoa(maxBatch)}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *run) newProcess() *process {
	n := r.count.Add(1)
	return &process{run: r, id: int(n), rng: rand.New(rand.NewPCG(r.seed, 100+uint64(n)))}
}

// process is one client, or one client after another, that does operations.
type process struct {
	*run
	id  int
	rng *rand.Rand
}

// client makes a client of the process.
func (p *process) client(opts ...kgo.Opt) *kgo.Client { return p.cluster.client(p.named(opts)...) }

// options are those of a client of the process.
func (p *process) options(opts ...kgo.Opt) []kgo.Opt { return p.cluster.options(p.named(opts)...) }

func (p *process) named(opts []kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{kgo.ClientID(who(p.id))}, opts...)
}

// history runs everything and returns the history. It is whole where everything
// was read at last; a run without a planted bug fails where it was not.
func (r *run) history(operations int) (h History, whole bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r.ctx = ctx
	for _, opts := range [][]kgo.Opt{
		nil,
		{kgo.ProducerLinger(2 * time.Millisecond)},
		{kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1), kgo.RecordRetries(0)},
	} {
		p := r.newProcess()
		r.group.Go(func() { p.produce(operations, true, opts) })
	}
	unacked := r.newProcess()
	r.group.Go(func() {
		unacked.produce(operations, false, []kgo.Opt{kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.NoAck()), kgo.RecordRetries(0)})
	})
	var readers sync.WaitGroup
	readCtx, stopReaders := context.WithCancel(ctx)
	for i := range 3 {
		p := r.newProcess()
		readers.Go(func() { p.consume(readCtx, i == 0) })
	}
	for range 2 {
		p := r.newProcess()
		r.group.Go(func() { p.transact(operations) })
		for _, do := range []func(context.Context){r.newProcess().join, r.newProcess().transform} {
			readers.Go(func() { do(readCtx) })
		}
	}
	worked := make(chan struct{})
	go func() {
		r.group.Wait()
		close(worked)
	}()
	r.trouble(worked)
	stopReaders()
	readers.Wait()
	settled := r.settle()
	read := r.readAll()
	r.stop()
	return r.rec.History(), settled && read
}

// trouble crashes, stops and disconnects until the work is done, or it was enough.
// It waits for work, not for time: on a slow machine as much happens between two
// crashes as on a fast one.
func (r *run) trouble(worked <-chan struct{}) {
	rng := rand.New(rand.NewPCG(r.seed, 3))
	calm := []int{20, 100, 300}[rng.IntN(3)]
	for range 3 + rng.IntN(10) {
		if r.progress(worked, int64(rng.IntN(calm))) {
			return
		}
		switch rng.IntN(6) {
		case 0:
			r.cutConnections()
			continue
		case 1:
			r.stop()
		default:
			r.crash(1 + rng.Int64N(100))
		}
		r.rec.Complete(Op{Invoked: r.rec.Invoke(), Outcome: OK, Down: true})
		time.Sleep(time.Duration(rng.IntN(10)) * time.Millisecond)
		r.start()
	}
	<-worked
}

// progress waits for n more moments in the history, but not for ever: perhaps
// nobody gets on. It is true where the work is done.
func (r *run) progress(worked <-chan struct{}, n int64) bool {
	until := r.rec.now() + n
	for range 500 {
		select {
		case <-worked:
			return true
		case <-time.After(time.Millisecond):
		}
		if r.rec.now() >= until {
			return false
		}
	}
	return false
}

// newRecord is a record with a value that nobody sent before.
func (p *process) newRecord(size int) *kgo.Record {
	v := p.values.Add(1)
	return &kgo.Record{Topic: inputs, Partition: int32(p.rng.IntN(partitions)),
		Value: fmt.Appendf(nil, "%d %s", v, strings.Repeat("x", size))}
}

func parse(rec *kgo.Record) (value int64) {
	first, _, _ := strings.Cut(string(rec.Value), " ")
	value, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return -1
	}
	return value
}

func keyOf(rec *kgo.Record) Key { return Key{rec.Topic, rec.Partition} }

// produce sends small batches, each after the other, with one client after
// another. Without acks an error is an error, and no error is nothing.
func (p *process) produce(operations int, acks bool, opts []kgo.Opt) {
	opts = append([]kgo.Opt{kgo.RecordDeliveryTimeout(2 * time.Second), kgo.ProduceRequestTimeout(500 * time.Millisecond)}, opts...)
	cl := p.client(opts...)
	defer func() { cl.Close() }()
	for range operations {
		if p.rng.IntN(30) == 0 {
			cl.Close()
			cl = p.client(opts...)
		}
		var sent sync.WaitGroup
		for range 1 + p.rng.IntN(8) {
			size := p.rng.IntN(500)
			if p.rng.IntN(50) == 0 {
				size = maxBatch
			}
			rec := p.newRecord(size)
			op := Op{Process: p.id, Invoked: p.rec.Invoke()}
			sent.Add(1)
			cl.Produce(p.ctx, rec, func(rec *kgo.Record, err error) {
				defer sent.Done()
				one := Record{Offset: NoOffset, Value: parse(rec)}
				if acks {
					op.Outcome = sendOutcome(err)
				}
				if op.Outcome == OK {
					one.Offset = rec.Offset
				}
				op.Steps = []Step{{Send: true, Key: keyOf(rec), Records: []Record{one}}}
				p.rec.Complete(op)
			})
		}
		sent.Wait()
		time.Sleep(time.Duration(p.rng.IntN(20)) * time.Millisecond)
	}
}

// sendOutcome: what the broker refused for what it is was not written. Everything
// else may have been.
func sendOutcome(err error) Outcome {
	switch {
	case err == nil:
		return OK
	case errors.Is(err, kerr.MessageTooLarge):
		return Fail
	}
	return Info
}

// consume polls partitions from the start, and with a new client from where the
// last one was.
func (p *process) consume(ctx context.Context, uncommitted bool) {
	level := kgo.ReadCommitted()
	if uncommitted {
		level = kgo.ReadUncommitted()
	}
	next := map[Key]int64{}
	for ctx.Err() == nil {
		assign := map[Key]int64{}
		offsets := map[string]map[int32]kgo.Offset{inputs: {}}
		for i := range int32(partitions) {
			if k := (Key{inputs, i}); p.rng.IntN(4) > 0 {
				assign[k] = next[k]
				offsets[inputs][i] = kgo.NewOffset().At(next[k])
			}
		}
		if len(assign) == 0 {
			continue
		}
		p.rec.Complete(Op{Process: p.id, Invoked: p.rec.Invoke(), Outcome: OK, Assign: assign})
		cl := p.client(kgo.ConsumePartitions(offsets), kgo.FetchIsolationLevel(level), kgo.FetchMaxBytes(int32(1<<(9+p.rng.IntN(8)))))
		for range 1 + p.rng.IntN(60) {
			if ctx.Err() != nil {
				break
			}
			p.poll(ctx, cl, uncommitted, next)
		}
		cl.Close()
	}
}

// poll records one poll and moves next.
func (p *process) poll(ctx context.Context, cl *kgo.Client, uncommitted bool, next map[Key]int64) {
	ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	op := Op{Process: p.id, Invoked: p.rec.Invoke(), Outcome: OK, Uncommitted: uncommitted}
	fetches := cl.PollRecords(ctx, 1+p.rng.IntN(200))
	op.Steps = p.steps(fetches)
	for _, s := range op.Steps {
		next[s.Key] = s.Records[len(s.Records)-1].Offset + 1
	}
	if len(op.Steps) > 0 {
		p.rec.Complete(op)
	}
}

// steps are what was polled; errors go to the trace.
func (p *process) steps(fetches kgo.Fetches) []Step {
	fetches.EachError(func(topic string, partition int32, err error) {
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
			p.trace.add(who(p.id), "poll of %s/%d: %v", topic, partition, err)
		}
	})
	var all []Step
	fetches.EachPartition(func(ftp kgo.FetchTopicPartition) {
		s := Step{Key: Key{ftp.Topic, ftp.Partition}}
		for _, rec := range ftp.Records {
			s.Records = append(s.Records, Record{Offset: rec.Offset, Value: parse(rec), Source: source(rec)})
		}
		if len(s.Records) > 0 {
			all = append(all, s)
		}
	})
	return all
}

// readersGroup is the consumer group of the processes that join.
const readersGroup = "readers"

// member is what a process has of its group at present.
type member struct {
	*process
	group string
	mu    sync.Mutex
	next  map[Key]int64
	is    membership // as which it was given what it has
}

// membership is how a request names a member of a group.
type membership struct {
	id         string
	generation int32
}

// join polls as a member of the group and commits what it polled, with one client
// after another.
func (p *process) join(ctx context.Context) {
	m := &member{process: p, group: readersGroup}
	for ctx.Err() == nil {
		m.reset()
		cl := p.client(append(m.options(), kgo.ConsumerGroup(m.group), kgo.ConsumeTopics(inputs),
			kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
		for n := 1 + p.rng.IntN(100); n > 0 && ctx.Err() == nil; n-- {
			m.pollAndCommit(ctx, cl)
		}
		cl.AllowRebalance()
		cl.Close()
	}
}

func (m *member) pollAndCommit(ctx context.Context, cl *kgo.Client) {
	pollCtx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	defer cl.AllowRebalance()
	op := Op{Process: m.id, Group: m.group, Invoked: m.rec.Invoke(), Outcome: OK}
	fetches := cl.PollRecords(pollCtx, 1+m.rng.IntN(100))
	if op.Steps = m.steps(fetches); len(op.Steps) == 0 {
		return
	}
	m.rec.Complete(op)
	m.mu.Lock()
	committed := map[Key]int64{}
	for _, s := range op.Steps {
		m.next[s.Key] = s.Records[len(s.Records)-1].Offset + 1
		committed[s.Key] = m.next[s.Key]
	}
	m.mu.Unlock()
	if m.rng.IntN(3) == 0 {
		return // the next one covers it
	}
	m.dawdle()
	op = Op{Process: m.id, Group: m.group, Invoked: m.rec.Invoke(), Committed: committed}
	commitCtx, cancelCommit := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancelCommit()
	if err := cl.CommitRecords(commitCtx, fetches.Records()...); err == nil {
		op.Outcome = OK
	}
	m.rec.Complete(op)
}

// dawdle is, now and then, work that takes longer than the group waits.
func (m *member) dawdle() {
	if m.rng.IntN(20) == 0 {
		time.Sleep(time.Duration(m.rng.IntN(300)) * time.Millisecond)
	}
}

// readAll reads every partition from its start to its end, as one more process.
func (r *run) readAll() (whole bool) {
	p := r.newProcess()
	ends, assign, offsets := map[Key]int64{}, map[Key]int64{}, map[string]map[int32]kgo.Offset{}
	for _, t := range r.life.log.Topics() {
		if strings.HasPrefix(t.Name(), "__") {
			continue
		}
		offsets[t.Name()] = map[int32]kgo.Offset{}
		for i, part := range t.Partitions() {
			k := Key{t.Name(), int32(i)}
			assign[k] = 0
			if end := part.HighWatermark(); end > 0 {
				ends[k] = end
			}
			offsets[t.Name()][int32(i)] = kgo.NewOffset().At(0)
		}
	}
	p.rec.Complete(Op{Process: p.id, Invoked: p.rec.Invoke(), Outcome: OK, Assign: assign})
	cl := p.client(kgo.ConsumePartitions(offsets), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	defer cl.Close()
	for since := time.Now(); len(ends) > 0 && time.Since(since) < r.patience; {
		op := Op{Process: p.id, Invoked: p.rec.Invoke(), Outcome: OK}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		fetches := cl.PollFetches(ctx)
		cancel()
		if fetches.NumRecords() > 0 {
			since = time.Now()
		}
		fetches.EachPartition(func(ftp kgo.FetchTopicPartition) {
			k := Key{ftp.Topic, ftp.Partition}
			if n := len(ftp.Records); n > 0 && ftp.Records[n-1].Offset+1 >= ends[k] {
				delete(ends, k)
			}
		})
		op.Steps = p.steps(withoutControl(fetches))
		p.rec.Complete(op)
	}
	if len(ends) > 0 {
		r.complain("seed %d: not read to the ends %v, and nothing more in %v", r.seed, ends, r.patience)
	}
	return len(ends) == 0
}

// withoutControl drops transaction markers.
func withoutControl(fetches kgo.Fetches) kgo.Fetches {
	for i := range fetches {
		for j := range fetches[i].Topics {
			for k := range fetches[i].Topics[j].Partitions {
				part := &fetches[i].Topics[j].Partitions[k]
				kept := part.Records[:0]
				for _, rec := range part.Records {
					if !rec.Attrs.IsControl() {
						kept = append(kept, rec)
					}
				}
				part.Records = kept
			}
		}
	}
	return fetches
}
