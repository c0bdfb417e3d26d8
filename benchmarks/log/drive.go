package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// cell is one shape of the work.
type cell struct {
	size       int // bytes of a value
	partitions int32
	rate       int // records per second of the open loop
}

func (c cell) String() string { return fmt.Sprintf("%d B, %d partitions", c.size, c.partitions) }

// figures are what one cell gives on one side, once.
type figures struct {
	produce, consume       float64 // records per second
	cpuProduce, cpuConsume float64 // seconds of the server per GB
	// Seconds of the driver per GB: it shares the machine with the server.
	driverProduce, driverConsume float64
	p50, p99, p999, slowest      time.Duration
	records, bytes               int64
	cpuLatency                   float64 // share of one core at the fixed rate
}

const (
	batchBytes = 1 << 20
	linger     = 5 * time.Millisecond
	buffered   = 100_000
	inFlight   = 64 << 20 // bytes buffered in the client
	touched    = 3 << 30  // bytes of memory that the kernel has at hand before a cell
)

// topicConfigs are those of all sides.
var topicConfigs = map[string]string{"segment.bytes": "134217728", "max.message.bytes": "1048588", "retention.ms": "-1", "cleanup.policy": "delete"}

// warm runs a server in: a JVM compiles what it runs often.
func warm(ctx context.Context, s side, srv *server, o options) error {
	c := cell{size: 500, partitions: 2}
	if err := c.create(ctx, s, srv, "warm"); err != nil {
		return err
	}
	o.produce /= 2
	sent, err := c.produce(ctx, srv, "warm", o, &figures{})
	if err != nil {
		return err
	}
	_, err = c.consume(ctx, srv, "warm", sent.count, &figures{})
	return err
}

// run measures one cell on a running server.
func (c cell) run(ctx context.Context, s side, srv *server, o options) (f figures, err error) {
	topic := fmt.Sprintf("bench-%d-%d", c.size, c.partitions)
	if err := c.create(ctx, s, srv, topic); err != nil {
		return f, err
	}
	if !o.short {
		if err := o.touch(touched); err != nil {
			return f, fmt.Errorf("get memory: %w", err)
		}
	}
	sent, err := c.produce(ctx, srv, topic, o, &f)
	if err != nil {
		return f, fmt.Errorf("produce: %w", err)
	}
	got, err := c.consume(ctx, srv, topic, sent.count, &f)
	if err != nil {
		return f, fmt.Errorf("consume: %w", err)
	}
	if got != sent {
		return f, fmt.Errorf("%d records with checksum %x were acknowledged, %d with %x consumed", sent.count, sent.checksum, got.count, got.checksum)
	}
	if err := c.latency(ctx, srv, topic, o, &f); err != nil {
		return f, fmt.Errorf("latency: %w", err)
	}
	return f, nil
}

func (c cell) create(ctx context.Context, s side, srv *server, topic string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(srv.addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	configs := map[string]*string{}
	for _, some := range []map[string]string{topicConfigs, s.topic} {
		for k, v := range some {
			configs[k] = kadm.StringPtr(v)
		}
	}
	_, err = kadm.NewClient(cl).CreateTopic(ctx, c.partitions, 1, configs, topic)
	return err
}

// tally is a set of records: how many, and the sum of their checksums.
type tally struct {
	count    int64
	checksum uint64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// values makes records that differ from each other and do not compress well.
type values struct {
	pool []byte
	next uint64
}

func newValues() *values {
	v := &values{pool: make([]byte, 1<<20)}
	rng := rand.NewChaCha8([32]byte{1})
	rng.Read(v.pool) //nolint:errcheck // it never fails
	return v
}

func (v *values) fill(value []byte) {
	copy(value, v.pool[int(v.next*61)%(len(v.pool)-len(value)):])
	binary.BigEndian.PutUint64(value, v.next)
	v.next++
}

// produce sends as fast as the server takes it for o.produce, and until all of it
// is acknowledged.
func (c cell) produce(ctx context.Context, srv *server, topic string, o options, f *figures) (tally, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(srv.addr), kgo.DefaultProduceTopic(topic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchMaxBytes(batchBytes), kgo.ProducerLinger(linger), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(buffered), kgo.MaxBufferedBytes(inFlight), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return tally{}, err
	}
	defer cl.Close()
	if err := cl.Ping(ctx); err != nil {
		return tally{}, err
	}
	var t tally
	var acked atomic.Int64
	var failed atomic.Pointer[error]
	pool := sync.Pool{New: func() any { return &kgo.Record{Value: make([]byte, c.size)} }}
	v := newValues()
	cpu, err := cpuTime(srv.pid)
	if err != nil {
		return t, err
	}
	own, began := ownCPU(), time.Now()
	for n := 0; ; n++ {
		if n%256 == 0 && time.Since(began) >= o.produce {
			break
		}
		rec := pool.Get().(*kgo.Record)
		value := rec.Value
		*rec = kgo.Record{Value: value}
		v.fill(value)
		t.count++
		t.checksum += uint64(crc32.Checksum(value, castagnoli))
		cl.Produce(ctx, rec, func(rec *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
				return
			}
			acked.Add(1)
			pool.Put(rec)
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return t, err
	}
	wall := time.Since(began)
	if err := failed.Load(); err != nil {
		return t, *err
	}
	if acked.Load() != t.count {
		return t, fmt.Errorf("%d of %d records acknowledged", acked.Load(), t.count)
	}
	after, err := cpuTime(srv.pid)
	f.records, f.bytes = t.count, t.count*int64(c.size)
	f.produce = float64(t.count) / wall.Seconds()
	f.cpuProduce = (after - cpu).Seconds() / (float64(f.bytes) / 1e9)
	f.driverProduce = (ownCPU() - own).Seconds() / (float64(f.bytes) / 1e9)
	return t, err
}

// consume reads n records.
func (c cell) consume(ctx context.Context, srv *server, topic string, n int64, f *figures) (tally, error) {
	from := map[int32]kgo.Offset{}
	for p := range c.partitions {
		from[p] = kgo.NewOffset().At(0)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(srv.addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}))
	if err != nil {
		return tally{}, err
	}
	defer cl.Close()
	cpu, err := cpuTime(srv.pid)
	if err != nil {
		return tally{}, err
	}
	var t tally
	own, began := ownCPU(), time.Now()
	for t.count < n {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return t, err
		}
		for it := fetches.RecordIter(); !it.Done(); {
			t.count++
			t.checksum += uint64(crc32.Checksum(it.Next().Value, castagnoli))
		}
	}
	wall := time.Since(began)
	after, err := cpuTime(srv.pid)
	f.consume = float64(t.count) / wall.Seconds()
	f.cpuConsume = (after - cpu).Seconds() / (float64(t.count*int64(c.size)) / 1e9)
	f.driverConsume = (ownCPU() - own).Seconds() / (float64(t.count*int64(c.size)) / 1e9)
	return t, err
}

// latency sends at a fixed rate whatever the server does, and takes the time from
// when each record was due until its ack.
func (c cell) latency(ctx context.Context, srv *server, topic string, o options, f *figures) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(srv.addr), kgo.DefaultProduceTopic(topic), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchMaxBytes(batchBytes), kgo.ProducerLinger(0), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(1<<20), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	v := newValues()
	warm := c.rate / 5 // not counted: connections, producer id
	n := warm + int(o.latency.Seconds()*float64(c.rate))
	took := make([]time.Duration, n)
	failures := make([]error, n)
	cpu, err := cpuTime(srv.pid)
	if err != nil {
		return err
	}
	began := time.Now()
	for i := range n {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(c.rate))
		if wait := time.Until(due); wait > 0 {
			time.Sleep(wait)
		}
		value := make([]byte, c.size)
		v.fill(value)
		cl.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			took[i], failures[i] = time.Since(due), err
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	wall := time.Since(began)
	if err := errors.Join(failures...); err != nil {
		return err
	}
	after, err := cpuTime(srv.pid)
	f.cpuLatency = (after - cpu).Seconds() / wall.Seconds()
	took = took[warm:]
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[min(len(took)-1, int(q*float64(len(took))))] }
	f.p50, f.p99, f.p999, f.slowest = at(0.5), at(0.99), at(0.999), took[len(took)-1]
	return err
}
