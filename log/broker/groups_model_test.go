package broker

import (
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// groupModel is the offsets of some groups as plain maps, beside a server that
// crashes and whose state is compacted all the time.
type groupModel struct {
	*testing.T
	rng       *rand.Rand
	fs        *vfs.Mem
	s         *Server
	at        int64 // counts what was committed
	committed map[string]map[group.TopicPartition]modelOffset
	pending   map[int64]map[string]map[group.TopicPartition]modelOffset
	epochs    map[int64]int16
}

type modelOffset struct{ offset, at int64 }

var (
	modelGroups    = []string{"g0", "g1", "g2"}
	modelTopics    = []string{"t0", "t1"}
	modelProducers = []int64{7, 8}
)

func (m *groupModel) open() {
	l, err := commitlog.Open(m.Context(), "data", commitlog.Options{FS: m.fs, Logger: slog.New(slog.DiscardHandler), CompactEvery: 2 * time.Millisecond})
	if err != nil {
		m.Fatal(err)
	}
	if m.s, err = New(l, Options{Logger: slog.New(slog.DiscardHandler)}); err != nil {
		m.Fatal(err)
	}
}

func (m *groupModel) load() { m.s.groups.topic.load(m.Context(), m.s.groups) }

func (m *groupModel) crash() {
	m.fs = m.fs.CrashClone()
	m.s.groups.stop()
	m.s.log.Close()
	m.open()
}

func (m *groupModel) make(name string, partitions int32, configs map[string]string) {
	if _, err := m.s.log.CreateTopic(commitlog.TopicSpec{Name: name, Partitions: partitions, Configs: configs}); err != nil {
		m.Fatal(err)
	}
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

// commit commits for one partition, in a producer's transaction where id is not
// negative.
func (m *groupModel) commit(g string, p group.TopicPartition, id int64) {
	m.at++
	in := commit{group: g, caller: group.Caller{Generation: -1}, version: 9, txn: id >= 0, topics: []commitTopic{{name: p.Topic}}}
	if in.txn {
		in.batch = record.BatchOptions{ProducerID: id, ProducerEpoch: m.epochs[id], BaseSequence: -1, Transactional: true}
	}
	found, _ := m.s.log.Topic(p.Topic)
	in.topics[0].add(found, p.Partition, m.at, -1, nil)
	if m.s.groups.commit(m.Context(), &in); in.topics[0].parts[0].err != nil {
		m.Fatal(in.topics[0].parts[0].err)
	}
	to := m.committed
	if in.txn {
		if to = m.pending[id]; to == nil {
			to = map[string]map[group.TopicPartition]modelOffset{}
			m.pending[id] = to
		}
	}
	if to[g] == nil {
		to[g] = map[group.TopicPartition]modelOffset{}
	}
	to[g][p] = modelOffset{m.at, m.at}
}

// end ends a transaction, in both protocols.
func (m *groupModel) end(id int64) {
	commit := m.rng.IntN(3) > 0
	if m.rng.IntN(2) == 0 { // KIP-890
		m.epochs[id]++
	}
	for i := range int32(2) {
		if err := m.s.groups.completeTxnOffsets(m.Context(), i, commitlog.Marker{ProducerID: id, ProducerEpoch: m.epochs[id], Commit: commit}); err != nil {
			m.Fatal(err)
		}
	}
	for g, offsets := range m.pending[id] {
		for p, o := range offsets {
			if commit && m.committed[g][p].at < o.at {
				if m.committed[g] == nil {
					m.committed[g] = map[group.TopicPartition]modelOffset{}
				}
				m.committed[g][p] = o
			}
		}
	}
	delete(m.pending, id)
}

// forget forgets partitions, of all groups where g is empty.
func (m *groupModel) forget(g string, gone func(group.TopicPartition) bool) {
	drop := func(of map[string]map[group.TopicPartition]modelOffset) {
		for id, offsets := range of {
			for p := range offsets {
				if (g == "" || g == id) && gone(p) {
					delete(offsets, p)
				}
			}
		}
	}
	drop(m.committed)
	for _, of := range m.pending {
		drop(of)
	}
}

func (m *groupModel) unstable(g string, p group.TopicPartition) bool {
	for _, of := range m.pending {
		if _, ok := of[g][p]; ok {
			return true
		}
	}
	return false
}

func (m *groupModel) step() {
	g, p := pick(m.rng, modelGroups), group.TopicPartition{Topic: pick(m.rng, modelTopics), Partition: int32(m.rng.IntN(2))}
	switch n := m.rng.IntN(100); {
	case n < 40:
		m.commit(g, p, -1)
	case n < 65:
		m.commit(g, p, pick(m.rng, modelProducers))
	case n < 80:
		m.end(pick(m.rng, modelProducers))
	case n < 83:
		if err := m.s.groups.remove(m.Context(), g); err != nil && err != error(kerr.GroupIDNotFound) {
			m.Fatal(err)
		}
		m.forget(g, func(group.TopicPartition) bool { return true })
	case n < 88:
		req := kmsg.NewPtrOffsetDeleteRequest()
		req.Group, req.Topics = g, []kmsg.OffsetDeleteRequestTopic{{Topic: p.Topic, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: p.Partition}}}}
		if _, err := m.s.deleteOffsets(m.Context(), req); err != nil && err != error(kerr.GroupIDNotFound) {
			m.Fatal(err)
		}
		m.forget(g, func(q group.TopicPartition) bool { return q == p })
	case n < 92:
		m.deleteTopic(p.Topic)
	case n < 94:
		m.expire()
	default:
		m.crash()
		m.load()
	}
}

// deleteTopic deletes a topic and makes it again, sometimes with a crash before its
// offsets are deleted.
func (m *groupModel) deleteTopic(name string) {
	crash := m.rng.IntN(2) == 0
	if crash {
		if err := m.s.log.DeleteTopic(name); err != nil {
			m.Fatal(err)
		}
		m.crash()
	} else if err := m.s.deleteTopic(m.Context(), &kmsg.DeleteTopicsResponseTopic{Topic: &name}); err != nil {
		m.Fatal(err)
	}
	m.make(name, 2, nil)
	if crash {
		m.load()
	}
	m.forget("", func(p group.TopicPartition) bool { return p.Topic == name })
}

// expire is a sweep long after the last commit, which a crash may not undo here.
func (m *groupModel) expire() {
	m.s.groups.sweep(m.Context(), time.Now().Add(m.s.groups.cfg.Retention+time.Hour))
	topic, _ := m.s.log.Topic(offsetsTopic)
	for _, p := range topic.Partitions() {
		if err := p.Flush(m.Context()); err != nil {
			m.Fatal(err)
		}
	}
	for g, offsets := range m.committed {
		for p := range offsets {
			if !m.unstable(g, p) {
				delete(offsets, p)
			}
		}
	}
}

func (m *groupModel) verify() {
	m.Helper()
	for _, g := range modelGroups {
		err := m.s.groups.readOffsets(m.Context(), g, false, nil, -1, func(r reading) {
			for _, topic := range modelTopics {
				for i := range int32(2) {
					p := group.TopicPartition{Topic: topic, Partition: i}
					want := int64(-1)
					if o, ok := m.committed[g][p]; ok {
						want = o.offset
					}
					unstable := r.c != nil && r.c.offsets.Unstable(p)
					if got := r.of(p); got.err != nil || got.Offset.Offset != want || unstable != m.unstable(g, p) {
						m.Fatalf("%s of %v: %d, expected %d; an open transaction has it: %v", g, p, got.Offset.Offset, want, unstable)
					}
				}
			}
		})
		if err != nil {
			m.Fatal(err)
		}
	}
}

// TestOffsetsModel compares what groups have committed, over a life with
// transactions, removals, deleted topics, compaction and crashes, with plain maps.
func TestOffsetsModel(t *testing.T) {
	seeds.Each(t, 6, func(t *testing.T, seed uint64) {
		m := &groupModel{T: t, rng: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewMem(seed), committed: map[string]map[group.TopicPartition]modelOffset{},
			pending: map[int64]map[string]map[group.TopicPartition]modelOffset{}, epochs: map[int64]int16{}}
		m.open()
		m.make(offsetsTopic, 2, map[string]string{"cleanup.policy": "compact", "segment.bytes": "1024", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "0"})
		for _, name := range modelTopics {
			m.make(name, 2, nil)
		}
		m.crash()
		m.load()
		for range 300 {
			m.step()
			m.verify()
		}
		size := int64(0)
		topic, _ := m.s.log.Topic(offsetsTopic)
		for _, p := range topic.Partitions() {
			size += p.Size()
		}
		t.Logf("%d commits, %d bytes of state", m.at, size)
		m.s.groups.stop()
		m.s.log.Close()
	})
}
