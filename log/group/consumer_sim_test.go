package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirstream/weir/test/seeds"
)

type simTopics map[string]topicInfo

func (s simTopics) Topic(name string) ([16]byte, int32, bool) {
	t, ok := s[name]
	return t.id, t.partitions, ok
}
func (s simTopics) Names() []string { return slices.Sorted(maps.Keys(s)) }

// consumerSim runs members against a group of the consumer protocol.
type consumerSim struct {
	*testing.T
	rng    *rand.Rand
	cfg    Config
	now    time.Time
	g      *Consumer
	topics simTopics
	log    []Record // all that was stored
	actors []*beater
	ids    int
}

// beater is a client of the consumer protocol. It keeps what it has until it was
// told to let go, and what it has after a crash is nobody's.
type beater struct {
	name     string
	instance *string
	id       string
	epoch    int32 // 0: joins
	owned    Slots
	told     Slots // the last assignment
	topics   []string
	regex    string
	down     bool
	slow     bool
	lastBeat time.Time
	revoked  bool // owned is to be told
}

func (s *consumerSim) step() {
	s.pass(time.Duration(s.rng.IntN(600)) * time.Millisecond)
	switch s.rng.IntN(80) {
	case 0:
		name := fmt.Sprint("t", s.rng.IntN(4))
		t := s.topics[name]
		s.topics[name] = topicInfo{[16]byte{name[1]}, t.partitions + 1 + int32(s.rng.IntN(3))}
	case 1:
		s.restart()
	}
	a := s.actors[s.rng.IntN(len(s.actors))]
	switch {
	case a.down:
		a.down = s.rng.IntN(8) > 0
	case s.rng.IntN(60) == 0:
		a.fence()
		a.id, a.down = "", true
	case s.rng.IntN(60) == 0 && a.epoch > 0:
		b := Beat{MemberID: a.id, Instance: a.instance, Epoch: -1, Rebalance: -1}
		if a.instance != nil && s.rng.IntN(2) == 0 {
			b.Epoch = -2
		}
		a.fence()
		_, eff := s.g.Heartbeat(s.now, b, s.topics)
		s.store(eff)
		a.id, a.down = "", true
	case s.rng.IntN(40) == 0:
		a.slow = !a.slow
	case s.rng.IntN(60) == 0:
		a.topics, a.revoked = []string{fmt.Sprint("t", s.rng.IntN(4)), "t0"}, true
	default:
		s.beat(a)
	}
	s.check()
}

// pass lets time go by: a member that the group has not heard of in time is removed,
// and a client that was not answered in time lets go.
func (s *consumerSim) pass(d time.Duration) {
	s.now = s.now.Add(d)
	s.store(s.g.Tick(s.now))
	for _, a := range s.actors {
		if a.epoch != 0 && !s.now.Before(a.lastBeat.Add(s.cfg.Session)) {
			a.fence()
		}
	}
}

func (a *beater) fence() { a.epoch, a.owned, a.told = 0, Slots{}, nil }

func (s *consumerSim) beat(a *beater) {
	if a.slow && s.rng.IntN(10) > 0 {
		return
	}
	b := Beat{MemberID: a.id, Instance: a.instance, Epoch: a.epoch, Rebalance: -1, ClientID: a.name}
	if a.epoch == 0 {
		if s.ids++; a.id == "" {
			a.id = fmt.Sprint(a.name, "-", s.ids)
		}
		b.MemberID, b.Rebalance, b.Topics, b.Owned = a.id, time.Minute, a.topics, Slots{}
		if a.regex != "" {
			b.Regex = &a.regex
		}
	}
	if a.epoch != 0 && a.revoked {
		b.Owned, b.Topics, b.Rebalance, a.revoked = maps.Clone(a.owned), a.topics, time.Minute, false
	}
	r, eff := s.g.Heartbeat(s.now, b, s.topics)
	s.store(eff)
	switch r.Err {
	case nil:
	case kerr.UnknownMemberID, kerr.FencedMemberEpoch, kerr.FencedInstanceID:
		a.fence()
		if r.Err == kerr.FencedInstanceID {
			a.id = ""
		}
		return
	case kerr.UnreleasedInstanceID:
		a.id = ""
		return
	default:
		s.Fatalf("%s: %v: %s", a.name, r.Err, r.Reason)
	}
	if s.rng.IntN(20) == 0 && a.epoch != 0 {
		a.revoked = true // the answer is lost: it tells all again
		return
	}
	if r.Epoch < a.epoch {
		s.Fatalf("%s: epoch %d after %d", a.name, r.Epoch, a.epoch)
	}
	a.epoch, a.lastBeat = r.Epoch, s.now
	if r.Assigned != nil {
		a.told = maps.Clone(r.Assigned)
	}
	if !maps.Equal(a.owned, a.told) && a.told != nil {
		a.owned, a.revoked = maps.Clone(a.told), true
	}
}

func (s *consumerSim) store(eff ConsumerEffects) {
	if eff.Store {
		s.log = append(s.log, s.g.Changes("g")...)
	}
}

// check: nobody has what another one has.
func (s *consumerSim) check() {
	held := map[Slot]string{}
	for _, a := range s.actors {
		for x := range a.owned {
			if other, ok := held[x]; ok {
				s.Fatalf("%s and %s both have %v", a.name, other, x)
			}
			held[x] = a.name
		}
	}
}

func (s *consumerSim) restart() {
	before := s.g
	s.g = NewConsumer(&s.cfg, s.now)
	for _, r := range s.log {
		l, err := Load(r.Key, r.Value)
		if err != nil {
			s.Fatal(err)
		}
		s.g.Restore(l.Consumer)
	}
	s.g.Restored(s.now)
	if s.g.epoch != before.epoch || s.g.targetEpoch != before.targetEpoch || len(s.g.members) != len(before.members) || !maps.Equal(s.g.owners, before.owners) {
		s.Fatalf("restored epoch %d/%d of %d members, was %d/%d of %d", s.g.epoch, s.g.targetEpoch, len(s.g.members), before.epoch, before.targetEpoch, len(before.members))
	}
	for id, m := range s.g.members {
		was := before.members[id]
		if was == nil || m.epoch != was.epoch || m.previous != was.previous || m.state != was.state || !maps.Equal(m.target, was.target) || !slices.Equal(m.topics, was.topics) || m.regex != was.regex || m.rebalance != was.rebalance {
			s.Fatalf("restored %+v, was %+v", m, was)
		}
	}
}

func (s *consumerSim) settle() {
	for range 400 {
		s.pass(500 * time.Millisecond)
		for _, a := range s.actors {
			if a.slow = false; !a.down {
				s.beat(a)
			}
			s.check()
		}
	}
	up, want, have := 0, map[Slot]bool{}, map[Slot]bool{}
	for _, a := range s.actors {
		if a.down {
			continue
		}
		up++
		for name, t := range s.topics {
			if m := s.g.members[a.id]; m == nil || m.reads(name) {
				for p := range t.partitions {
					want[Slot{t.id, p}] = true
				}
			}
		}
		for x := range a.owned {
			have[x] = true
		}
	}
	if up == 0 {
		return
	}
	if s.g.State() != Stable || len(s.g.members) != up || !maps.Equal(want, have) {
		s.Fatalf("%d are up, the group is %v with %d members; %d partitions are read of %d", up, s.g.State(), len(s.g.members), len(have), len(want))
	}
}

// TestConsumerSimulation: members that join, crash, dawdle, leave, change what they
// read and lose answers, topics that grow, and a coordinator that restarts. No two
// members ever have one partition, and when all behave every partition is read.
func TestConsumerSimulation(t *testing.T) {
	seeds.Each(t, 20, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := &consumerSim{T: t, rng: rng, cfg: Config{}.WithDefaults(), now: time.Unix(1_700_000_000, 0), topics: simTopics{"t0": {[16]byte{'0'}, 5}, "t1": {[16]byte{'1'}, 3}}}
		s.g = NewConsumer(&s.cfg, s.now)
		for i := range 2 + rng.IntN(5) {
			a := &beater{name: fmt.Sprint("m", i), owned: Slots{}, topics: []string{"t0", "t1"}}
			if rng.IntN(3) == 0 {
				a.instance = &a.name
			}
			if rng.IntN(4) == 0 {
				a.regex = "t[0-2]"
			}
			s.actors = append(s.actors, a)
		}
		for range 3 {
			for range 400 {
				s.step()
			}
			s.settle()
		}
	})
}

// TestAssignors: every partition goes to one who reads it; uniform is as even as
// can be where all read the same, and moves no more than it must.
func TestAssignors(t *testing.T) {
	seeds.Each(t, 20, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		topics := make([]topicInfo, 1+rng.IntN(5))
		for i := range topics {
			topics[i] = topicInfo{[16]byte{byte(i + 1)}, 1 + int32(rng.IntN(20))}
		}
		alike := rng.IntN(2) == 0
		in := make([]assignee, 1+rng.IntN(8))
		for i := range in {
			in[i].id = fmt.Sprint("m", i)
			for _, topic := range topics {
				if alike || rng.IntN(2) == 0 {
					in[i].topics = append(in[i].topics, topic)
				}
			}
		}
		for name, assign := range assignors {
			out := assign(in)
			total := int32(0)
			for _, topic := range topics {
				if slices.ContainsFunc(in, func(a assignee) bool { return slices.Contains(a.topics, topic) }) {
					total += topic.partitions
				}
			}
			all := Slots{}
			least, most := int(total), 0
			for i, slots := range out {
				least, most = min(least, len(slots)), max(most, len(slots))
				for x := range slots {
					if all.has(x) || !slices.ContainsFunc(in[i].topics, func(topic topicInfo) bool { return topic.id == x.Topic && x.Partition < topic.partitions }) {
						t.Fatalf("%s: %v to %s", name, x, in[i].id)
					}
					all[x] = struct{}{}
				}
			}
			if len(all) != int(total) {
				t.Fatalf("%s: %d of %d assigned", name, len(all), total)
			}
			if name != "uniform" {
				continue
			}
			if alike && most-least > 1 {
				t.Fatalf("from %d to %d partitions", least, most)
			}
			for i := range in {
				in[i].had = out[i]
			}
			for i, slots := range assign(in) {
				if !maps.Equal(slots, out[i]) {
					t.Fatalf("%s: %v became %v though nothing had changed", in[i].id, out[i], slots)
				}
			}
		}
	})
}

// TestConsumerForeignMemberID: a static member that joins under the id of another
// member does not take its place, whose partitions nobody would ever get.
func TestConsumerForeignMemberID(t *testing.T) {
	cfg := Config{}.WithDefaults()
	now := time.Unix(1_700_000_000, 0)
	topics := simTopics{"t": {[16]byte{1}, 4}}
	instance, back := "i", "back"
	g := NewConsumer(&cfg, now)
	join := func(id string, instance *string) BeatResult {
		r, _ := g.Heartbeat(now, Beat{MemberID: id, Instance: instance, Rebalance: time.Minute, Topics: []string{"t"}, Owned: Slots{}}, topics)
		return r
	}
	if r := join("a", nil); len(r.Assigned) != 4 {
		t.Fatalf("%+v", r)
	}
	if r := join("a", &instance); r.Err != kerr.InvalidRequest {
		t.Fatalf("a new instance under another's id: %+v", r)
	}
	join("b", &back)
	if r, _ := g.Heartbeat(now, Beat{MemberID: "b", Instance: &back, Epoch: epochLeaveStatic}, topics); r.Err != nil {
		t.Fatalf("%+v", r)
	}
	if r := join("a", &back); r.Err != kerr.InvalidRequest {
		t.Fatalf("an instance that is back under another's id: %+v", r)
	}
	for _, id := range []string{"a", "b"} {
		g.Heartbeat(now, Beat{MemberID: id, Epoch: epochLeave}, topics)
	}
	if r := join("c", nil); len(r.Assigned) != 4 {
		t.Fatalf("who is left alone gets %d of 4 partitions", len(r.Assigned))
	}
}

// calmGroup is a group of the topic t, in which all goes well.
type calmGroup struct {
	*Consumer
	t      *testing.T
	now    time.Time
	topics simTopics
}

func newCalmGroup(t *testing.T, partitions int32) *calmGroup {
	cfg := Config{}.WithDefaults()
	now := time.Unix(1_700_000_000, 0)
	return &calmGroup{NewConsumer(&cfg, now), t, now, simTopics{"t": {[16]byte{1}, partitions}}}
}

func (g *calmGroup) beat(b Beat) BeatResult {
	g.t.Helper()
	r, _ := g.Heartbeat(g.now, b, g.topics)
	if r.Err != nil {
		g.t.Fatal(r.Err)
	}
	return r
}

func (g *calmGroup) join(id string) BeatResult {
	g.t.Helper()
	return g.beat(Beat{MemberID: id, Rebalance: time.Minute, Topics: []string{"t"}, Owned: Slots{}})
}

// TestConsumerStaticLeavesUnrevoked: a static member that leaves for a while before
// it has let go of a partition does not keep it from the one who waits for it.
func TestConsumerStaticLeavesUnrevoked(t *testing.T) {
	instance := "i"
	g := newCalmGroup(t, 2)
	first := g.beat(Beat{MemberID: "a", Instance: &instance, Rebalance: time.Minute, Topics: []string{"t"}, Owned: Slots{}})
	second := g.beat(Beat{MemberID: "b", Rebalance: time.Minute, Topics: []string{"t"}, Owned: Slots{}})
	if r := g.beat(Beat{MemberID: "a", Instance: &instance, Epoch: first.Epoch, Rebalance: -1}); len(first.Assigned) != 2 || len(second.Assigned) != 0 || len(r.Assigned) != 1 {
		t.Fatalf("%+v, %+v, %+v", first, second, r)
	}
	g.beat(Beat{MemberID: "a", Instance: &instance, Epoch: epochLeaveStatic, Rebalance: -1})
	if r := g.beat(Beat{MemberID: "b", Epoch: second.Epoch, Rebalance: -1}); len(r.Assigned) != 1 {
		t.Fatalf("the one who waits has %d partitions", len(r.Assigned))
	}
}

// TestConsumerRevokesTwice: a member that has let go in time, and is to let go of more,
// has its rebalance timeout again.
func TestConsumerRevokesTwice(t *testing.T) {
	g := newCalmGroup(t, 3)
	had := g.join("a")
	for _, id := range []string{"b", "c"} {
		g.join(id)
		r := g.beat(Beat{MemberID: "a", Epoch: had.Epoch, Rebalance: -1, Owned: had.Assigned})
		if len(r.Assigned) != len(had.Assigned)-1 {
			t.Fatalf("%v after %v", r.Assigned, had.Assigned)
		}
		had = r
		g.now = g.now.Add(40 * time.Second)
		g.Tick(g.now)
		if g.members["a"] == nil {
			t.Fatalf("dropped 40 s after it was told to let go for %s", id)
		}
	}
}

// TestConsumerHeldSince: of the partitions of a member those that it has had since an
// epoch, and no other, may be committed for with that epoch.
func TestConsumerHeldSince(t *testing.T) {
	g := newCalmGroup(t, 2)
	held := func(id string, epoch int32) (n int) {
		for p := range int32(2) {
			if g.HeldSince(id, epoch, Slot{[16]byte{1}, p}) {
				n++
			}
		}
		return n
	}
	first := g.join("a").Epoch
	if held("a", first) != 2 || held("a", first-1) != 0 || held("b", first) != 0 {
		t.Fatal("of the first member")
	}
	g.join("b")
	kept := g.beat(Beat{MemberID: "a", Epoch: first, Rebalance: -1}).Assigned
	r := g.beat(Beat{MemberID: "a", Epoch: first, Rebalance: -1, Owned: kept})
	if r.Epoch <= first || held("a", first) != 1 || held("a", r.Epoch) != 1 || held("a", r.Epoch+1) != 0 {
		t.Fatalf("%d of %v since epoch %d, now it is %d", held("a", first), kept, first, r.Epoch)
	}
	second := g.beat(Beat{MemberID: "b", Epoch: r.Epoch, Rebalance: -1})
	if len(second.Assigned) != 1 || held("b", second.Epoch) != 1 || held("b", second.Epoch-1) != 0 {
		t.Fatalf("of the second member: %+v", second)
	}
	// b goes, and what it had is a's, since now.
	g.beat(Beat{MemberID: "b", Epoch: epochLeave, Rebalance: -1})
	if now := g.beat(Beat{MemberID: "a", Epoch: r.Epoch, Rebalance: -1}).Epoch; held("a", first) != 1 || held("a", now) != 2 {
		t.Fatalf("%d since %d, %d since %d", held("a", first), first, held("a", now), now)
	}
	g.join("a") // starts over
	if held("a", first) != 0 {
		t.Fatal("of a process before")
	}
}

// BenchmarkAssignJoin is one member that joins a balanced group of the largest
// size, which happens once for each that comes.
func BenchmarkAssignJoin(b *testing.B) {
	const members, topics = 10_000, 20
	in := make([]assignee, members+1)
	for i := range in {
		in[i].id = fmt.Sprint("m", i)
		for n := range topics {
			in[i].topics = append(in[i].topics, topicInfo{[16]byte{byte(n)}, 1000})
		}
	}
	for i, had := range assignUniform(in[:members]) {
		in[i].had = had
	}
	for b.Loop() {
		if out := assignUniform(in); len(out[members]) != 1 {
			b.Fatalf("%d partitions", len(out[members]))
		}
	}
}
