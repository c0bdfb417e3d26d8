package group

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/weirstream/weir/test/seeds"
)

// The simulation runs producers that share transactional ids against the state
// machine, with logs that lose what was not synced, in the way the broker uses it:
//
//   - a state is appended before it is acted on, data may follow at once;
//   - markers are written when the prepared state is durable, the completed state
//     when they are, and data of the next transaction when that one is;
//   - at start prepared transactions are completed; what is open in a partition goes
//     back to its transaction where Adopt finds one, else it is aborted.
//
// Requests of producers that speak KIP-890 may arrive twice and at any later time;
// answers get lost; transactions time out; the broker crashes. The model is what
// producers were told: a transaction that was told to be committed is, everywhere
// and whole, and no transaction ends in two ways.

const simPartitions = 3

type simRecord struct {
	p      Producer
	tag    int // of the producer's transaction
	marker bool
	commit bool
}

// simLog is a partition with what it refuses.
type simLog struct {
	records []simRecord
	durable int
	epoch   map[int64]int16
	open    map[int64]bool
}

func (l *simLog) append(r simRecord) bool {
	if e, ok := l.epoch[r.p.ID]; ok && r.p.Epoch < e {
		return false
	}
	l.records = append(l.records, r)
	l.apply(r)
	return true
}

func (l *simLog) apply(r simRecord) {
	l.epoch[r.p.ID] = r.p.Epoch
	l.open[r.p.ID] = !r.marker
}

func (l *simLog) crash() {
	l.records = l.records[:l.durable]
	l.epoch, l.open = map[int64]int16{}, map[int64]bool{}
	for _, r := range l.records {
		l.apply(r)
	}
}

// simTxn is one transaction as its producer saw it.
type simTxn struct {
	acked     int // records told to be durable
	committed bool
	aborted   bool
}

type simProducer struct {
	p       Producer
	version int16
	id      int // of its transactional id
	tag     int // of its transaction; 0: none is begun
	ending  bool
	commit  bool
}

// simCompletion is a prepared transaction on its way.
type simCompletion struct {
	prepared int // the state that must be durable
	left     []TopicPartition
	waits    map[int]int // by partition: what must be durable
}

type simulation struct {
	t         *testing.T
	r         *rand.Rand
	now       time.Time
	nextID    int64
	states    []Txn // the state log; the last one of an id counts
	durable   int
	txns      map[string]Txn
	barrier   map[string]int
	completes map[string]*simCompletion
	parts     [simPartitions]*simLog
	producers []*simProducer
	holders   map[Producer]*simProducer // who was told to be it
	told      []simTxn
	pending   []simAck
	late      []func()
	steps     map[string]int
}

// simAck tells a producer something once logs are durable so far.
type simAck struct {
	state, part, at int
	tell            func()
}

func (s *simulation) fresh() (int64, error) { s.nextID++; return s.nextID, nil }

func simID(i int) string { return fmt.Sprint("tx", i) }

func (s *simulation) txn(i int) Txn {
	if t, ok := s.txns[simID(i)]; ok {
		return t
	}
	return NewTxn(simID(i))
}

// store makes t the state of its id.
func (s *simulation) store(t Txn) {
	back, err := ReadTxn(t.ID, t.Value())
	if err != nil {
		s.t.Fatal(err)
	}
	s.states = append(s.states, back)
	s.txns[t.ID] = t
	if t.Preparing() {
		s.completes[t.ID] = &simCompletion{prepared: len(s.states), left: t.Partitions, waits: map[int]int{}}
	}
}

func (s *simulation) count(what string) { s.steps[what]++ }

func (s *simulation) init(c *simProducer) {
	t := s.txn(c.id)
	expected := NoProducer
	if c.p.Epoch >= 0 && s.r.IntN(2) == 0 {
		expected = c.p
	}
	next, err := t.Init(s.now, time.Minute, expected, s.fresh)
	if err != nil {
		s.count("init " + err.Error())
		if errors.Is(err, ErrProducerFenced) {
			c.p = NoProducer // its next Init fences others
		}
		return
	}
	s.store(next)
	if next.Preparing() {
		s.count("init aborts")
		return
	}
	s.count("init")
	if s.r.IntN(4) > 0 {
		at := len(s.states)
		s.pending = append(s.pending, simAck{state: at, tell: func() { s.become(c, next.Producer) }})
	}
}

// become tells a producer who it is, which no other one was told.
func (s *simulation) become(c *simProducer, p Producer) {
	if held := s.holders[p]; held != nil && held != c {
		s.t.Fatalf("%+v is two producers", p)
	}
	s.holders[p] = c
	c.p, c.tag, c.ending = p, 0, false
}

func (s *simulation) produce(c *simProducer) {
	if c.ending || c.p.Epoch < 0 {
		return
	}
	if c.tag == 0 {
		s.told = append(s.told, simTxn{})
		c.tag = len(s.told) - 1
	}
	p, tag, part, version, id := c.p, c.tag, s.r.IntN(simPartitions), c.version, c.id
	send := func() { s.produced(p, tag, part, version, id) }
	send()
	if version == 2 && s.r.IntN(10) == 0 {
		s.late = append(s.late, send)
	}
}

func (s *simulation) produced(p Producer, tag, part int, version int16, id int) {
	t := s.txn(id)
	place := TopicPartition{"t", int32(part)}
	if err := t.Verify(p, place); err != nil {
		next, changed, err := t.Add(s.now, p, version, place)
		if err != nil {
			s.count("add " + err.Error())
			return
		}
		if changed {
			s.store(next)
		}
	}
	state := len(s.states)
	if s.barrier[t.ID] > s.durable {
		s.count("barrier")
		return
	}
	if !s.parts[part].append(simRecord{p: p, tag: tag}) {
		s.count("produce fenced")
		return
	}
	s.count("produce")
	s.pending = append(s.pending, simAck{state: state, part: part, at: len(s.parts[part].records), tell: func() { s.told[tag].acked++ }})
}

func (s *simulation) end(c *simProducer) {
	if c.p.Epoch < 0 || c.tag == 0 {
		return
	}
	if !c.ending {
		c.ending, c.commit = true, s.r.IntN(2) == 0
	}
	p, tag, commit := c.p, c.tag, c.commit
	lost := s.r.IntN(4) == 0
	send := func() {
		s.ended(c, p, tag, commit, lost)
	}
	send()
	if c.version == 2 && s.r.IntN(4) == 0 {
		s.late = append(s.late, send)
	}
}

func (s *simulation) ended(c *simProducer, p Producer, tag int, commit, lost bool) {
	bump := c.version == 2
	t := s.txn(c.id)
	next, changed, err := t.End(s.now, p, commit, bump, s.fresh)
	if err != nil {
		s.count("end " + err.Error())
		if c.p == p && !errors.Is(err, ErrConcurrentTransactions) {
			c.p, c.tag, c.ending = NoProducer, 0, false
		}
		return
	}
	if changed {
		s.store(next)
	}
	s.count(fmt.Sprintf("end commit=%v changed=%v", commit, changed))
	if lost {
		return
	}
	s.pending = append(s.pending, simAck{state: len(s.states), tell: func() {
		if commit {
			s.told[tag].committed = true
		} else {
			s.told[tag].aborted = true
		}
		if c.p == p && c.tag == tag {
			s.become(c, next.Successor())
		}
	}})
}

// complete takes one step of completing a transaction.
func (s *simulation) complete(i int) {
	id := simID(i)
	k := s.completes[id]
	if k == nil || k.prepared > s.durable {
		return
	}
	t := s.txns[id]
	if len(k.left) > 0 {
		n := s.r.IntN(len(k.left))
		part := int(k.left[n].Partition)
		k.left = slices.Delete(slices.Clone(k.left), n, n+1)
		s.parts[part].append(simRecord{p: t.Producer, marker: true, commit: t.Commits()})
		k.waits[part] = len(s.parts[part].records)
		return
	}
	for part, at := range k.waits {
		if s.parts[part].durable < at {
			return
		}
	}
	delete(s.completes, id)
	s.store(t.Complete(s.now))
	s.barrier[id] = len(s.states)
	s.count("complete")
}

func (s *simulation) sync() {
	if s.r.IntN(2) == 0 {
		s.durable = min(len(s.states), s.durable+1+s.r.IntN(3))
	}
	for _, l := range s.parts {
		if s.r.IntN(2) == 0 {
			l.durable = min(len(l.records), l.durable+1+s.r.IntN(3))
		}
	}
	s.pending = slices.DeleteFunc(s.pending, func(a simAck) bool {
		if a.state > s.durable || a.at > s.parts[a.part].durable {
			return false
		}
		a.tell()
		return true
	})
}

func (s *simulation) crash() {
	s.count("crash")
	s.states = s.states[:s.durable]
	s.txns, s.barrier, s.completes, s.pending = map[string]Txn{}, map[string]int{}, map[string]*simCompletion{}, nil
	for i, t := range s.states {
		s.txns[t.ID] = t
		delete(s.completes, t.ID)
		if t.Preparing() {
			s.completes[t.ID] = &simCompletion{prepared: i + 1, left: t.Partitions, waits: map[int]int{}}
		}
	}
	for i, l := range s.parts {
		l.crash()
		for id, open := range l.open {
			if open {
				s.adopt(Producer{id, l.epoch[id]}, i)
			}
		}
		l.durable = len(l.records)
	}
}

func (s *simulation) adopt(p Producer, part int) {
	place := TopicPartition{"t", int32(part)}
	for _, t := range s.txns {
		if t.Producer.ID != p.ID {
			continue
		}
		next, changed, ok := t.Adopt(s.now, p, place)
		if changed {
			s.count("adopted")
			s.store(next)
		}
		if ok {
			return
		}
		p.Epoch = max(p.Epoch, t.Epoch)
	}
	s.count("hanging")
	s.parts[part].append(simRecord{p: p, marker: true})
}

func (s *simulation) timeOut() {
	s.now = s.now.Add(time.Duration(s.r.IntN(20)) * time.Second)
	for id, t := range s.txns {
		if t.Overdue(s.now) {
			next, err := t.TimeOut(s.now, s.fresh)
			if err != nil {
				s.t.Fatal(err)
			}
			s.count("timeout " + t.State.String())
			_ = id
			s.store(next)
		}
	}
}

func (s *simulation) step() {
	c := s.producers[s.r.IntN(len(s.producers))]
	switch n := s.r.IntN(100); {
	case n < 2 || c.p.Epoch < 0 && n < 12:
		s.init(c)
	case n < 40:
		s.produce(c)
	case n < 55:
		s.end(c)
	case n < 75:
		s.complete(c.id)
	case n < 94:
		s.sync()
	case n < 96:
		s.timeOut()
	case n < 97 && s.r.IntN(3) == 0:
		s.crash()
	case len(s.late) > 0:
		i := s.r.IntN(len(s.late))
		send := s.late[i]
		s.late = slices.Delete(s.late, i, i+1)
		send()
	}
}

// settle lets everything come to its end.
func (s *simulation) settle() {
	s.now = s.now.Add(time.Hour)
	s.timeOut()
	for range 200 {
		for i := range 2 {
			s.complete(i)
		}
		s.sync()
	}
}

// check compares what stands in the logs with what producers were told.
func (s *simulation) check() error {
	type outcome struct{ committed, aborted int }
	got := make([]outcome, len(s.told))
	for i, l := range s.parts {
		for n, r := range l.records {
			if r.marker {
				continue
			}
			end := slices.IndexFunc(l.records[n:], func(m simRecord) bool { return m.marker && m.p.ID == r.p.ID })
			switch {
			case end < 0:
				return fmt.Errorf("partition %d record %d of transaction %d, %+v: open for ever", i, n, r.tag, r.p)
			case l.records[n+end].commit:
				got[r.tag].committed++
			default:
				got[r.tag].aborted++
			}
		}
	}
	for tag, g := range got {
		told := s.told[tag]
		switch {
		case g.committed > 0 && g.aborted > 0:
			return fmt.Errorf("transaction %d: %d records committed and %d aborted; told %+v", tag, g.committed, g.aborted, told)
		case told.committed && told.aborted:
			return fmt.Errorf("transaction %d: told committed and aborted", tag)
		case told.committed && (g.aborted > 0 || g.committed < told.acked):
			return fmt.Errorf("transaction %d: told committed with %d records; %d are, %d aborted", tag, told.acked, g.committed, g.aborted)
		case told.aborted && g.committed > 0:
			return fmt.Errorf("transaction %d: told aborted; %d records are committed", tag, g.committed)
		}
	}
	return nil
}

func simulate(t *testing.T, seed uint64, steps int, counts map[string]int) {
	s := &simulation{t: t, r: rand.New(rand.NewPCG(seed, 0)), now: time.UnixMilli(1_700_000_000_000), steps: counts,
		txns: map[string]Txn{}, barrier: map[string]int{}, completes: map[string]*simCompletion{}, holders: map[Producer]*simProducer{}, told: make([]simTxn, 1)}
	for i := range s.parts {
		s.parts[i] = &simLog{epoch: map[int64]int16{}, open: map[int64]bool{}}
	}
	for i := range 4 {
		s.producers = append(s.producers, &simProducer{p: NoProducer, version: int16(2 * s.r.IntN(2)), id: i % 2})
	}
	if s.r.IntN(4) == 0 { // close to where epochs are used up
		for i := range 2 {
			tx := NewTxn(simID(i))
			tx.Producer = Producer{int64(1000 + i), maxEpoch - int16(s.r.IntN(6))}
			tx.Updated = s.now
			s.store(tx)
		}
		s.nextID = 2000
		s.count("near exhaustion")
	}
	for range steps {
		s.step()
	}
	s.settle()
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
}

func TestTransactionsAreWhole(t *testing.T) {
	counts := map[string]int{}
	if !seeds.Each(t, 1000, func(t *testing.T, seed uint64) { simulate(t, seed, 600, counts) }) {
		return
	}
	t.Logf("%v", counts)
	for _, must := range []string{"init", "init aborts", "produce", "barrier", "crash", "adopted", "complete", "timeout Ongoing",
		"end commit=true changed=true", "end commit=true changed=false", "end commit=false changed=false", "end " + ErrProducerFenced.Error(), "end " + ErrInvalidTxnState.Error()} {
		if counts[must] == 0 {
			t.Errorf("the simulation never met %q", must)
		}
	}
}
