package group

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirstream/weir/test/seeds"
)

// classicSim runs members against a classic group and holds what it answers
// against what must be so.
type classicSim struct {
	*testing.T
	rng     *rand.Rand
	cfg     Config
	now     time.Time
	g       *Classic
	stored  []Record // as the last Store left it
	actors  []*actor
	tickets Ticket
	waiting map[Ticket]*actor
	ids     int
	last    int32                       // the largest generation that was answered
	plans   map[int32]map[string]string // what the leader of a generation assigned, by member id
}

// actor is a client: its own idea of where it stands.
type actor struct {
	name       string
	instance   *string
	id         string
	generation int32 // 0: must join
	synced     bool
	leader     bool
	members    []JoinMember
	wait       Ticket
	down       bool
	slow       bool // takes its time to join again
	beaten     time.Time
}

func (s *classicSim) step() {
	s.now = s.now.Add(time.Duration(s.rng.IntN(400)) * time.Millisecond)
	s.tick()
	if s.rng.IntN(60) == 0 {
		s.restart()
	}
	a := s.actors[s.rng.IntN(len(s.actors))]
	switch {
	case a.down:
		if s.rng.IntN(10) == 0 {
			a.down = false
		}
	case s.rng.IntN(60) == 0: // crash: what it knows is lost
		if a.wait != 0 {
			delete(s.waiting, a.wait)
		}
		*a = actor{name: a.name, instance: a.instance, down: true}
	case s.rng.IntN(80) == 0 && a.wait == 0 && a.id != "":
		_, eff := s.g.Leave(s.now, []Caller{{MemberID: a.id, Instance: a.instance}})
		*a = actor{name: a.name, instance: a.instance, down: true}
		s.deliver(eff)
	case s.rng.IntN(60) == 0:
		a.slow = !a.slow
	default:
		s.act(a)
	}
}

func (s *classicSim) tick() {
	if at, ok := s.g.Deadline(); ok && !s.now.Before(at) {
		s.deliver(s.g.Tick(s.now))
		if at, ok := s.g.Deadline(); ok && !s.now.Before(at) {
			s.Fatalf("deadline %v is not after %v, right after Tick", at, s.now)
		}
	}
}

// act does the next thing that a client does.
func (s *classicSim) act(a *actor) {
	switch {
	case a.wait != 0 || a.slow && s.rng.IntN(20) > 0:
	case a.generation == 0:
		s.ids++
		s.tickets++
		a.wait = s.tickets
		s.waiting[a.wait] = a
		s.deliver(s.g.Join(s.now, JoinRequest{Ticket: a.wait, MemberID: a.id, Instance: a.instance, NewID: fmt.Sprint(a.name, "-", s.ids),
			RequireKnownID: true, CanSkip: true, ProtocolType: ConsumerProtocol, Protocols: []Protocol{{"range", []byte(a.name)}},
			Session: 6 * time.Second, Rebalance: 10 * time.Second}))
	case !a.synced:
		r := SyncRequest{Caller: Caller{a.id, a.instance, a.generation}}
		if a.leader {
			r.Assignments = map[string][]byte{}
			plan := map[string]string{}
			for i, m := range a.members {
				plan[m.ID] = fmt.Sprint("part", i, "of", a.generation)
				r.Assignments[m.ID] = []byte(plan[m.ID])
			}
			s.plans[a.generation] = plan
		}
		s.tickets++
		a.wait, r.Ticket = s.tickets, s.tickets
		s.waiting[a.wait] = a
		s.deliver(s.g.Sync(s.now, r))
	case s.now.Sub(a.beaten) > time.Second:
		a.beaten = s.now
		s.failed(a, s.g.Heartbeat(s.now, Caller{a.id, a.instance, a.generation}))
	}
}

// failed is what a client does about an error.
func (s *classicSim) failed(a *actor, err *kerr.Error) {
	switch err {
	case nil:
	case kerr.UnknownMemberID, kerr.FencedInstanceID:
		a.id, a.generation, a.synced = "", 0, false
	case kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.MemberIDRequired:
		a.generation, a.synced = 0, false
	default:
		s.Fatalf("%s: %v", a.name, err)
	}
}

func (s *classicSim) deliver(eff Effects) {
	if eff.Store {
		s.stored = s.g.Stored("g")
	}
	for _, j := range eff.Joined {
		if a := s.waiting[j.Ticket]; a != nil {
			delete(s.waiting, j.Ticket)
			a.wait = 0
			s.joined(a, j.JoinResult)
		}
	}
	for _, y := range eff.Synced {
		a := s.waiting[y.Ticket]
		if a == nil {
			continue
		}
		delete(s.waiting, y.Ticket)
		a.wait = 0
		if y.Err != nil {
			s.failed(a, y.Err)
			continue
		}
		a.synced = true
		if want := s.plans[a.generation][a.id]; string(y.Assignment) != want && a.instance == nil {
			s.Fatalf("%s got %q in generation %d, the leader assigned %q", a.id, y.Assignment, a.generation, want)
		}
	}
}

func (s *classicSim) joined(a *actor, r JoinResult) {
	if r.Err != nil {
		if a.id = r.MemberID; r.Err != kerr.MemberIDRequired {
			s.failed(a, r.Err)
		}
		return
	}
	if r.Generation < s.last {
		s.Fatalf("%s joined generation %d after %d", a.name, r.Generation, s.last)
	}
	s.last = r.Generation
	a.id, a.generation, a.synced, a.leader, a.members, a.beaten = r.MemberID, r.Generation, false, r.Leader == r.MemberID && !r.SkipAssignment, r.Members, s.now
	if a.leader && !slices.ContainsFunc(r.Members, func(m JoinMember) bool { return m.ID == a.id }) {
		s.Fatalf("leader %s of generation %d is not among %v", a.id, r.Generation, r.Members)
	}
	for _, b := range s.actors {
		if b != a && b.generation == a.generation && b.leader && a.leader && b.generation != 0 && a.instance == nil && b.instance == nil {
			s.Fatalf("%s and %s lead generation %d", a.id, b.id, a.generation)
		}
	}
}

// restart is a coordinator that has only what was stored.
func (s *classicSim) restart() {
	for _, a := range s.waiting {
		a.wait, a.generation, a.synced = 0, 0, false
	}
	clear(s.waiting)
	for _, a := range s.actors {
		if !a.synced { // its connection is gone, too
			a.generation = 0
		}
	}
	s.last = 0
	s.g = NewClassic(&s.cfg, s.now)
	for _, r := range s.stored {
		l, err := Load(r.Key, r.Value)
		if err != nil {
			s.Fatal(err)
		}
		s.g = RestoreClassic(&s.cfg, s.now, l.Classic.Value)
		s.last = s.g.Generation()
		if again := s.g.Stored("g"); string(again[0].Value) != string(r.Value) {
			s.Fatalf("stored %x, restored and stored %x", r.Value, again[0].Value)
		}
	}
}

// settle lets everybody behave, until the group must be stable and have just those
// who are there.
func (s *classicSim) settle() {
	for _, a := range s.actors {
		a.slow = false
	}
	for range 4000 {
		s.now = s.now.Add(20 * time.Millisecond)
		s.tick()
		for _, a := range s.actors {
			if !a.down {
				s.act(a)
			}
		}
	}
	up, held := 0, map[string]string{}
	for _, a := range s.actors {
		if a.down {
			continue
		}
		up++
		if !a.synced || a.generation != s.g.Generation() {
			s.Fatalf("%s is up and not in generation %d: %+v", a.name, s.g.Generation(), a)
		}
		m := s.g.members[a.id]
		if m == nil {
			s.Fatalf("%s is not a member", a.id)
		}
		if other, ok := held[string(m.assignment)]; ok || len(m.assignment) == 0 {
			s.Fatalf("%s has %q, as has %q", a.id, m.assignment, other)
		}
		held[string(m.assignment)] = a.id
	}
	if want := map[bool]State{true: Stable, false: Empty}[up > 0]; s.g.State() != want || len(s.g.members) != up {
		s.Fatalf("%d are up, the group is %v with %v", up, s.g.State(), slices.Collect(maps.Keys(s.g.members)))
	}
}

// TestClassicSimulation: members that join, crash, dawdle, leave and come back as
// static members, and a coordinator that restarts. Generations only grow, members
// get what their leader assigned, and when all behave the group is stable and
// divided among those who are there.
func TestClassicSimulation(t *testing.T) {
	seeds.Each(t, 20, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := &classicSim{T: t, rng: rng, cfg: Config{}.WithDefaults(), now: time.Unix(1_700_000_000, 0), waiting: map[Ticket]*actor{}, plans: map[int32]map[string]string{}}
		s.g = NewClassic(&s.cfg, s.now)
		for i := range 2 + rng.IntN(6) {
			a := &actor{name: fmt.Sprint("m", i)}
			if rng.IntN(3) == 0 {
				a.instance = &a.name
			}
			s.actors = append(s.actors, a)
		}
		for range 3 {
			for range 300 {
				s.step()
			}
			s.settle()
		}
	})
}

// TestClassicUnstored: where the assignment cannot be stored the group tries again
// and nobody has it.
func TestClassicUnstored(t *testing.T) {
	cfg := Config{InitialDelay: -1}.WithDefaults()
	now := time.Unix(1_700_000_000, 0)
	g := NewClassic(&cfg, now)
	eff := g.Join(now, JoinRequest{Ticket: 1, NewID: "a", ProtocolType: "x", Protocols: []Protocol{{Name: "p"}}, Session: 10 * time.Second, Rebalance: 10 * time.Second})
	if len(eff.Joined) != 1 || eff.Joined[0].Generation != 1 || eff.Joined[0].Leader != "a" {
		t.Fatalf("%+v", eff)
	}
	if eff = g.Sync(now, SyncRequest{Ticket: 2, Caller: Caller{"a", nil, 1}, Assignments: map[string][]byte{"a": {1}}}); !eff.Store || g.State() != Stable {
		t.Fatalf("%+v, %v", eff, g.State())
	}
	if g.Unstored(now); g.State() != PreparingRebalance || g.Heartbeat(now, Caller{"a", nil, 1}) != kerr.RebalanceInProgress {
		t.Fatal(g.State())
	}
}

// joining is a JoinGroup of a member without an id.
func joining(t Ticket, id string, instance *string, rebalance time.Duration, protocols ...Protocol) JoinRequest {
	return JoinRequest{Ticket: t, NewID: id, Instance: instance, ProtocolType: "x", Protocols: protocols, Session: 10 * time.Second, Rebalance: rebalance}
}

// TestClassicManyProtocols: a request as large as one may be with nothing but
// protocols does not keep the coordinator busy.
func TestClassicManyProtocols(t *testing.T) {
	cfg := Config{InitialDelay: -1}.WithDefaults()
	now := time.Unix(1_700_000_000, 0)
	g := NewClassic(&cfg, now)
	many := make([]Protocol, maxProtocols+1)
	for i := range many {
		many[i].Name = fmt.Sprint(i)
	}
	if eff := g.Join(now, joining(1, "a", nil, time.Second, many...)); len(eff.Joined) != 1 || eff.Joined[0].Err != kerr.InconsistentGroupProtocol || g.Members() != 0 {
		t.Fatalf("%+v", eff)
	}
	if eff := g.Join(now, joining(1, "a", nil, time.Second, many[1:]...)); len(eff.Joined) != 1 || eff.Joined[0].Err != nil {
		t.Fatalf("%+v", eff)
	}
}

// TestClassicZeroRebalanceTimeout: static members that do not come to a rebalance
// without a timeout are waited for without a timer that never rests.
func TestClassicZeroRebalanceTimeout(t *testing.T) {
	cfg := Config{InitialDelay: -1}.WithDefaults()
	now := time.Unix(1_700_000_000, 0)
	g := NewClassic(&cfg, now)
	a, b := "ia", "ib"
	g.Join(now, joining(1, "a", &a, 0, Protocol{Name: "p"}))
	g.Sync(now, SyncRequest{Ticket: 2, Caller: Caller{"a", &a, 1}})
	g.Join(now, joining(3, "b", &b, 0, Protocol{Name: "p"}))
	g.Leave(now, []Caller{{MemberID: "b", Instance: &b}})
	ticks, end := 0, now.Add(9*time.Second) // then a's session is over
	for {
		at, ok := g.Deadline()
		if !ok || at.After(end) {
			break
		}
		if now = at; ticks > 1000 {
			t.Fatalf("%d ticks, now at %v, in state %v", ticks, now, g.State())
		}
		g.Tick(now)
		ticks++
	}
	if g.Members() != 1 || g.State() != PreparingRebalance {
		t.Fatalf("%d members, %v", g.Members(), g.State())
	}
}

// TestClassicAllGone: a full group whose members all expire, each of them the
// oldest in its turn.
func TestClassicAllGone(t *testing.T) {
	cfg := Config{InitialDelay: -1}.WithDefaults()
	now := time.Unix(1_700_000_000, 0)
	g := NewClassic(&cfg, now)
	for i := range cfg.MaxMembers {
		g.restore(now, &kmsg.GroupMetadataValueMember{MemberID: fmt.Sprint(i), SessionTimeoutMillis: 10_000})
	}
	g.state, g.leader = Stable, "0"
	began := time.Now()
	if eff := g.Tick(now.Add(time.Minute)); !eff.Store || g.State() != Empty || g.leader != "" {
		t.Fatalf("%v, leader %q", g.State(), g.leader)
	}
	if took := time.Since(began); took > 30*time.Second { // milliseconds; it was minutes
		t.Fatalf("took %v", took)
	}
}

// TestLoadKafka reads what Kafka writes that this package does not.
func TestLoadKafka(t *testing.T) {
	k := kmsg.OffsetCommitKey{Version: 0, Group: "g", Topic: "t", Partition: 3}
	v := kmsg.OffsetCommitValue{Version: 4, Offset: 7, LeaderEpoch: 2, Metadata: "m", CommitTimestamp: 9, TopicID: [16]byte{1}}
	l, err := Load(k.AppendTo(nil), v.AppendTo(nil))
	if err != nil || l.Group != "g" || l.Offset.Partition != (TopicPartition{"t", 3}) || l.Offset.Offset != (Offset{Offset: 7, LeaderEpoch: 2, Metadata: "m", Time: 9}) {
		t.Fatalf("%+v: %v", l, err)
	}
	if l, err = Load([]byte{0, 4, 0, 1, 'g'}, []byte{0, 0, 0}); err != nil || l.Group != "" {
		t.Fatalf("a record that is not needed: %+v, %v", l, err)
	}
}

// TestTagCounts: a stored value that claims 2^32-1 tagged fields is refused, and
// not counted.
func TestTagCounts(t *testing.T) {
	claim := func(value []byte) []byte {
		return append(value[:len(value)-1:len(value)-1], 0xff, 0xff, 0xff, 0xff, 0x0f) // in place of none
	}
	soon := func(do func()) {
		t.Helper()
		took := time.Hour
		for range 3 { // under load, once is enough
			since := time.Now()
			do()
			if took = min(took, time.Since(since)); took <= time.Second {
				return
			}
		}
		t.Errorf("it took %v", took)
	}
	offset, value := kmsg.OffsetCommitKey{Version: 1, Group: "g", Topic: "t"}, kmsg.OffsetCommitValue{Version: 4}
	meta, target := kmsg.GroupMetadataValue{Version: 4}, append([]byte{0, 0, 2}, make([]byte, 18)...)
	for _, r := range []Record{
		{offset.AppendTo(nil), claim(value.AppendTo(nil))},
		{(&kmsg.GroupMetadataKey{Version: 2, Group: "g"}).AppendTo(nil), claim(meta.AppendTo(nil))},
		{consumerKey(keyTargetMember, "g", "m"), claim(target)},
	} {
		soon(func() {
			if l, err := Load(r.Key, r.Value); !errors.Is(err, ErrStored) {
				t.Errorf("%x: %+v, %v", r.Value, l, err)
			}
		})
	}
	soon(func() {
		if _, err := ReadTxn("x", claim(NewTxn("x").Value())); !errors.Is(err, ErrTxnRecord) {
			t.Errorf("a transaction: %v", err)
		}
	})
}

// FuzzLoad: any record of the state topic is read, or named as malformed.
func FuzzLoad(f *testing.F) {
	f.Add([]byte{}, []byte{})
	o := StoredOffset("g", TopicPartition{"t", 1}, Offset{Offset: 3, Metadata: "m"})
	f.Add(o.Key, o.Value)
	cfg := Config{}.WithDefaults()
	c := NewConsumer(&cfg, time.Time{})
	c.Heartbeat(time.Unix(1, 0), Beat{MemberID: "m", Topics: []string{"t"}, Owned: Slots{}}, simTopics{"t": {[16]byte{1}, 3}})
	c.Join(time.Unix(1, 0), JoinRequest{MemberID: "n", ProtocolType: ConsumerProtocol, Protocols: []Protocol{{"range", []byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0}}}, Session: time.Minute}, simTopics{})
	for _, r := range c.Changes("g") {
		f.Add(r.Key, r.Value)
	}
	g := NewClassic(&cfg, time.Time{})
	for _, r := range g.Stored("g") {
		f.Add(r.Key, r.Value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		l, err := Load(key, value)
		if err != nil {
			return
		}
		if l.Classic != nil && l.Classic.Value != nil {
			RestoreClassic(&cfg, time.Unix(1, 0), l.Classic.Value).Stored(l.Group)
		}
		if l.Consumer != nil {
			c := NewConsumer(&cfg, time.Time{})
			c.Restore(l.Consumer)
			c.Restored(time.Unix(1, 0))
			c.Changes(l.Group)
		}
	})
}

// TestClassicWaitsAlive: a member whose SyncGroup was answered with a rebalance, at
// once or after it had waited for most of its session timeout, has that timeout again.
func TestClassicWaitsAlive(t *testing.T) {
	for name, waits := range map[string]bool{"it waited": true, "at once": false} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{InitialDelay: -1}.WithDefaults()
			now := time.Unix(1_700_000_000, 0)
			g := NewClassic(&cfg, now)
			g.pending["a"], g.pending["b"] = now.Add(time.Hour), now.Add(time.Hour)
			for i, id := range []string{"b", "a"} { // b leads
				r := joining(Ticket(i+1), "", nil, time.Minute, Protocol{Name: "p"})
				r.MemberID = id
				g.Join(now, r)
			}
			sync := SyncRequest{Ticket: 3, Caller: Caller{"a", nil, g.Generation()}}
			if waits {
				g.Sync(now, sync)
			}
			g.Heartbeat(now.Add(9*time.Second), Caller{"b", nil, g.Generation()})
			now = now.Add(9 * time.Second)
			var told Effects
			if told = g.Join(now, joining(4, "c", nil, time.Minute, Protocol{Name: "p"})); !waits {
				told = g.Sync(now, sync)
			}
			if len(told.Synced) != 1 || told.Synced[0].Err != kerr.RebalanceInProgress {
				t.Fatalf("%+v", told)
			}
			if g.Tick(now.Add(5 * time.Second)); g.members["a"] == nil {
				t.Fatal("removed 5 s after it was told to join again")
			}
			if g.Tick(now.Add(11 * time.Second)); g.members["a"] != nil {
				t.Fatal("still there 11 s after it was heard of")
			}
		})
	}
}
