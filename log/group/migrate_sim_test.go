package group

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/test/seeds"
)

// The timeouts of a client of the classic protocol: it has polled again, or let go of
// everything, well before the group's patience with it ends.
const (
	simSession   = 10 * time.Second
	simRebalance = 20 * time.Second
	simMaxPoll   = 15 * time.Second
)

// migrateSim runs clients of both protocols against one group, which is as log/broker
// keeps it: a classic one or one of the consumer protocol.
type migrateSim struct {
	*testing.T
	rng      *rand.Rand
	cfg      Config
	now      time.Time
	classic  *Classic
	consumer *Consumer // instead of classic
	topics   simTopics
	log      []Record // all that was stored
	clients  []*client
	late     []lateCommit
	waiting  map[Ticket]*client
	tickets  Ticket
	ids      int
	protocol string // that of the clients of the classic protocol
	planned  int    // how many partitions there were when one of them assigned last

	committed map[Slot]int64
	turns     map[Slot]int // how often a partition was taken
	told      int32        // the largest epoch or generation that the coordinator gave out

	upgrades, downgrades int
}

// client is one of either protocol. It polls, unless it is slow, and is heard of in
// the background; what it has after a crash is nobody's.
type client struct {
	name     string
	instance *string
	modern   bool // speaks the consumer protocol
	next     bool // what it will be when it starts again

	id      string
	epoch   int32 // of either protocol; 0: joins
	synced  bool
	again   bool // was told to join again
	leader  bool
	watches int // it leads, and assigned so many partitions
	members []JoinMember
	wait    Ticket
	owned   Slots
	tell    bool // modern: owned is to be told
	at      map[Slot]int64
	turn    map[Slot]int

	down, slow     bool
	beaten, polled time.Time
	member         bool // it has been one since it started
	calm           bool // nothing has happened to it for which it could be fenced
}

// lateCommit is a commit of a client that crashed, on its way.
type lateCommit struct {
	by    Caller
	slot  Slot
	at    int64
	turn  int
	until time.Time
}

// letGo makes the client hold nothing, and know no group.
func (a *client) letGo() {
	a.epoch, a.synced, a.again, a.wait, a.tell, a.member = 0, false, false, 0, false, false
	a.owned = Slots{}
}

func (s *migrateSim) stop(a *client) {
	delete(s.waiting, a.wait)
	a.letGo()
	a.id, a.down = "", true
}

func (a *client) caller() Caller { return Caller{a.id, a.instance, a.epoch} }

// pass lets time go by.
func (s *migrateSim) pass(d time.Duration) {
	s.now = s.now.Add(d)
	s.tick()
	for _, a := range s.clients {
		switch {
		case a.down || a.wait != 0:
		case a.modern && a.epoch != 0 && !s.now.Before(a.beaten.Add(s.cfg.Session)):
			a.letGo()
		case !a.modern && a.epoch != 0 && (!s.now.Before(a.beaten.Add(simSession)) || !s.now.Before(a.polled.Add(simMaxPoll))):
			a.letGo()
			a.id = ""
		}
	}
	s.late = slices.DeleteFunc(s.late, func(c lateCommit) bool {
		if s.now.Before(c.until) {
			return false
		}
		s.commit(c.by, c.slot, c.at, c.turn)
		return true
	})
}

func (s *migrateSim) tick() {
	if s.consumer != nil {
		s.storeConsumer(s.consumer.Tick(s.now))
		return
	}
	s.deliver(s.classic.Tick(s.now))
}

func (s *migrateSim) step() {
	s.pass(time.Duration(s.rng.IntN(300)) * time.Millisecond)
	if s.rng.IntN(150) == 0 {
		name := fmt.Sprint("t", s.rng.IntN(2))
		s.topics[name] = topicInfo{[16]byte{name[1]}, s.topics[name].partitions + 1}
	}
	if s.rng.IntN(60) == 0 {
		s.restart()
	}
	a := s.clients[s.rng.IntN(len(s.clients))]
	switch {
	case a.down:
		if s.rng.IntN(8) == 0 {
			s.start(a, a.next)
		}
	case s.rng.IntN(50) == 0:
		s.crash(a)
	case s.rng.IntN(50) == 0:
		s.leave(a)
	case s.rng.IntN(60) == 0:
		a.slow, a.calm = !a.slow, false
	default:
		s.act(a)
	}
	s.check()
}

func (s *migrateSim) start(a *client, modern bool) {
	a.down, a.slow, a.modern, a.calm, a.polled = false, false, modern, true, s.now
}

// crash ends a client; a commit of it may still be on its way.
func (s *migrateSim) crash(a *client) {
	for _, x := range a.owned.Sorted() {
		if s.rng.IntN(3) == 0 {
			s.late = append(s.late, lateCommit{a.caller(), x, a.at[x], a.turn[x], s.now.Add(time.Duration(s.rng.IntN(30_000)) * time.Millisecond)})
		}
	}
	s.stop(a)
}

// leave ends a client in order. A static one of the classic protocol does not say so.
func (s *migrateSim) leave(a *client) {
	by := a.caller()
	modern := a.modern
	s.stop(a)
	switch {
	case by.MemberID == "" || by.Generation == 0:
	case modern:
		b := Beat{MemberID: by.MemberID, Instance: by.Instance, Epoch: epochLeave, Rebalance: -1}
		if by.Instance != nil && s.rng.IntN(2) == 0 {
			b.Epoch = epochLeaveStatic
		}
		s.heartbeat(b)
	case by.Instance != nil:
	case s.consumer != nil:
		_, eff := s.consumer.Leave([]Caller{by})
		s.storeConsumer(eff)
	default:
		_, eff := s.classic.Leave(s.now, []Caller{by})
		s.deliver(eff)
	}
}

// act is what a client does next.
func (s *migrateSim) act(a *client) {
	polls := !a.slow || s.rng.IntN(20) == 0
	if polls {
		a.polled = s.now
	}
	switch {
	case a.modern:
		if polls {
			s.beat(a)
		}
	case a.wait != 0:
	case a.epoch == 0 || a.again:
		if polls {
			s.join(a)
		}
	case !a.synced:
		if polls {
			s.sync(a)
		}
	case s.consumer == nil && a.watches >= 0 && a.watches < len(s.partitions()):
		a.again = true // a leader sees to new partitions
	case s.now.Sub(a.beaten) > time.Second:
		s.alive(a)
	}
	if polls && a.epoch != 0 && (a.modern || a.synced) {
		s.process(a)
	}
}

// process reads on in what the client has, and commits some of it.
func (s *migrateSim) process(a *client) {
	for _, x := range a.owned.Sorted() {
		if a.at[x]++; s.rng.IntN(4) > 0 {
			continue
		}
		err := s.commit(a.caller(), x, a.at[x], a.turn[x])
		if err != nil && err != kerr.RebalanceInProgress {
			s.fenced(a, "a commit", err)
			return
		}
	}
}

// commit is OffsetCommit, as log/broker serves it.
func (s *migrateSim) commit(by Caller, x Slot, at int64, turn int) (err *kerr.Error) {
	if s.consumer != nil {
		err = s.consumer.MayCommit(s.now, by, false, 9)
		if (err == kerr.StaleMemberEpoch || err == kerr.IllegalGeneration) && s.consumer.HeldSince(by.MemberID, by.Generation, x) {
			err = nil
		}
	} else {
		err = s.classic.MayCommit(s.now, by, false)
	}
	if err != nil {
		return err
	}
	if turn != s.turns[x] || at < s.committed[x] {
		s.Fatalf("%s commits %d of %v, which others have had since; %d is committed", by.MemberID, at, x, s.committed[x])
	}
	s.committed[x] = at
	return nil
}

// take makes a client have just these partitions.
func (s *migrateSim) take(a *client, has Slots) {
	for x := range has {
		if !a.owned.has(x) {
			s.turns[x]++
			a.at[x], a.turn[x] = s.committed[x], s.turns[x]
		}
	}
	a.owned, a.member = maps.Clone(has), true
}

// lost says whether an answer does not arrive.
func (s *migrateSim) lost(a *client) bool {
	if s.rng.IntN(30) > 0 {
		return false
	}
	a.calm = false
	return true
}

// fenced is an error that tells a client that it is not what it thinks.
func (s *migrateSim) fenced(a *client, what string, err *kerr.Error) {
	if a.calm && a.member { // an id that was only given out may be forgotten
		s.Fatalf("%s: %s: %v, though nothing has happened to it: %+v", a.name, what, err, a)
	}
	switch err {
	case kerr.UnknownMemberID, kerr.FencedInstanceID, kerr.FencedMemberEpoch, kerr.IllegalGeneration, kerr.StaleMemberEpoch:
		if a.letGo(); err == kerr.UnknownMemberID && !a.modern || err == kerr.FencedInstanceID {
			a.id = ""
		}
	default:
		s.Fatalf("%s: %s: %v", a.name, what, err)
	}
}

func (s *migrateSim) newID(a *client) string {
	s.ids++
	return fmt.Sprint(a.name, "-", s.ids)
}

// metadata is what a client of the classic protocol joins with.
func (s *migrateSim) metadata(a *client) []byte {
	m := kmsg.NewConsumerMemberMetadata()
	m.Version, m.Topics, m.Generation = 3, s.topics.Names(), a.epoch
	for _, name := range s.topics.Names() {
		o := kmsg.ConsumerMemberMetadataOwnedPartition{Topic: name}
		for _, x := range a.owned.Sorted() {
			if x.Topic == s.topics[name].id {
				o.Partitions = append(o.Partitions, x.Partition)
			}
		}
		if len(o.Partitions) > 0 {
			m.OwnedPartitions = append(m.OwnedPartitions, o)
		}
	}
	return m.AppendTo(nil)
}

func (s *migrateSim) join(a *client) {
	if s.protocol == "range" {
		a.owned = Slots{} // eager: it lets go of everything first
	}
	s.tickets++
	a.wait, a.again = s.tickets, false
	s.waiting[a.wait] = a
	r := JoinRequest{Ticket: a.wait, MemberID: a.id, Instance: a.instance, NewID: s.newID(a), RequireKnownID: true, CanSkip: true, ProtocolType: ConsumerProtocol,
		Protocols: []Protocol{{s.protocol, s.metadata(a)}}, Session: simSession, Rebalance: simRebalance}
	if s.consumer == nil || s.consumer.Members() == 0 {
		s.becomeClassic()
		s.deliver(s.classic.Join(s.now, r))
		return
	}
	result, eff := s.consumer.Join(s.now, r, s.topics)
	s.storeConsumer(eff)
	s.deliver(Effects{Joined: []Joined{{r.Ticket, result}}})
}

func (s *migrateSim) joined(a *client, r JoinResult) {
	a.beaten = s.now
	switch r.Err {
	case nil:
		a.id, a.epoch, a.synced, a.leader, a.members = r.MemberID, r.Generation, false, r.Leader == r.MemberID && !r.SkipAssignment, r.Members
		if a.watches = -1; r.Leader == r.MemberID {
			a.watches = s.planned
		}
		if s.consumer == nil && r.Generation < s.told {
			s.Fatalf("%s joins generation %d after %d", a.name, r.Generation, s.told)
		}
		s.told = max(s.told, r.Generation)
		if r.Protocol != s.protocol || r.ProtocolType != ConsumerProtocol {
			s.Fatalf("%s joined with %q", a.name, r.Protocol)
		}
	case kerr.MemberIDRequired:
		a.id = r.MemberID
	case kerr.RebalanceInProgress:
		a.again = true
	default:
		s.fenced(a, "join", r.Err)
	}
}

func (s *migrateSim) sync(a *client) {
	s.tickets++
	a.wait = s.tickets
	s.waiting[a.wait] = a
	r := SyncRequest{Ticket: a.wait, Caller: a.caller(), Protocol: &s.protocol}
	if a.leader {
		r.Assignments = s.plan(a.members)
		s.planned = len(s.partitions())
		a.watches = s.planned
	}
	if s.consumer == nil {
		s.deliver(s.classic.Sync(s.now, r))
		return
	}
	result, eff := s.consumer.Sync(s.now, r, s.topics)
	s.storeConsumer(eff)
	s.deliver(Effects{Synced: []Synced{{r.Ticket, result}}})
}

// plan is what a leader assigns: as little as possible moves, and nothing to one
// while another says that it has it.
func (s *migrateSim) plan(members []JoinMember) map[string][]byte {
	in, claimed := make([]assignee, len(members)), map[Slot]int{}
	for i, m := range members {
		claim, ok := readClaim([]Protocol{{s.protocol, m.Metadata}}, s.topics)
		if !ok {
			s.Fatalf("metadata %x", m.Metadata)
		}
		in[i] = assignee{id: m.ID, had: claim.owned}
		for _, name := range claim.topics {
			in[i].topics = append(in[i].topics, s.topics[name])
		}
		for x := range claim.owned {
			claimed[x] = i
		}
	}
	names, out := map[[16]byte]string{}, map[string][]byte{}
	for name, t := range s.topics {
		names[t.id] = name
	}
	for i, slots := range assignUniform(in) {
		maps.DeleteFunc(slots, func(x Slot, _ struct{}) bool {
			owner, ok := claimed[x]
			return ok && owner != i
		})
		out[members[i].ID] = assignmentOf(slots, names, members[i].Metadata)
	}
	return out
}

func (s *migrateSim) wasSynced(a *client, r SyncResult) {
	a.beaten = s.now
	switch r.Err {
	case nil:
	case kerr.RebalanceInProgress:
		a.again = true
		return
	default:
		s.fenced(a, "sync", r.Err)
		return
	}
	got, ok := readAssignment(r.Assignment)
	if !ok {
		s.Fatalf("%s got %x", a.name, r.Assignment)
	}
	has := Slots{}
	for _, t := range got.Topics {
		has.add(s.topics, t.Topic, t.Partitions)
	}
	a.synced, a.again = true, !a.owned.within(has) // who let go joins again
	s.take(a, has)
}

func (s *migrateSim) alive(a *client) {
	var err *kerr.Error
	if s.consumer != nil {
		var eff ConsumerEffects
		err, eff = s.consumer.Alive(s.now, a.caller(), s.topics)
		s.storeConsumer(eff)
	} else {
		err = s.classic.Heartbeat(s.now, a.caller())
	}
	if s.lost(a) {
		return
	}
	switch a.beaten = s.now; err {
	case nil:
	case kerr.RebalanceInProgress:
		a.again = true
	default:
		s.fenced(a, "heartbeat", err)
	}
}

// beat is what a client of the consumer protocol does.
func (s *migrateSim) beat(a *client) {
	b := Beat{MemberID: a.id, Instance: a.instance, Epoch: a.epoch, Rebalance: -1}
	if a.epoch == 0 {
		if a.id == "" {
			a.id = s.newID(a)
		}
		b.MemberID, b.Rebalance, b.Topics, b.Owned = a.id, time.Minute, s.topics.Names(), Slots{}
	} else if a.tell {
		b.Owned, b.Topics, b.Rebalance, a.tell = maps.Clone(a.owned), s.topics.Names(), time.Minute, false
	}
	r := s.heartbeat(b)
	switch r.Err {
	case nil:
	case kerr.UnreleasedInstanceID:
		a.id = ""
		return
	default:
		s.fenced(a, "heartbeat", r.Err)
		return
	}
	if s.lost(a) && a.epoch != 0 {
		a.tell = true // it tells all again
		return
	}
	if r.Epoch < a.epoch {
		s.Fatalf("%s: epoch %d after %d", a.name, r.Epoch, a.epoch)
	}
	a.epoch, a.beaten, s.told = r.Epoch, s.now, max(s.told, r.Epoch)
	if r.Assigned != nil && !maps.Equal(a.owned, r.Assigned) {
		s.take(a, r.Assigned)
		a.tell = true
	}
}

// heartbeat is a ConsumerGroupHeartbeat, as log/broker serves it.
func (s *migrateSim) heartbeat(b Beat) BeatResult {
	if s.consumer == nil && s.classic.Members() > 0 {
		return s.upgrade(b)
	}
	if s.consumer == nil {
		if b.Epoch != 0 {
			return refusal(kerr.UnknownMemberID, "")
		}
		s.log = append(s.log, s.classic.Forgotten("g")...)
		s.classic, s.consumer, s.told = nil, NewConsumer(&s.cfg, s.now), 0
	}
	r, eff := s.consumer.Heartbeat(s.now, b, s.topics)
	s.storeConsumer(eff)
	return r
}

func (s *migrateSim) upgrade(b Beat) BeatResult {
	if b.Epoch != 0 {
		return refusal(kerr.UnknownMemberID, "")
	}
	up, err, why := s.classic.Upgrade(s.now, s.topics)
	if err != nil {
		s.Fatalf("%v: %s", err, why)
	}
	r, _ := up.Heartbeat(s.now, b, s.topics)
	if r.Err != nil {
		s.Fatalf("a member that joins: %+v", r)
	}
	s.log = append(append(s.log, s.classic.Forgotten("g")...), up.Changes("g")...)
	old := s.classic
	s.classic, s.consumer = nil, up
	s.upgrades++
	if s.deliver(old.Upgraded(s.now)); len(s.waiting) > 0 {
		s.Fatalf("%d wait for an answer of a group that is no more", len(s.waiting))
	}
	return r
}

func (s *migrateSim) storeConsumer(eff ConsumerEffects) {
	switch {
	case !eff.Store:
	case s.consumer.OnlyClassic():
		down, next := s.consumer.Downgrade(s.now, s.topics)
		s.log = append(append(s.log, s.consumer.Forgotten("g")...), down.Stored("g")...)
		s.classic, s.consumer = down, nil
		s.downgrades++
		s.deliver(next)
	default:
		s.log = append(s.log, s.consumer.Changes("g")...)
	}
}

// becomeClassic makes a group of the consumer protocol without members a classic one.
func (s *migrateSim) becomeClassic() {
	if s.consumer == nil {
		return
	}
	s.log = append(s.log, s.consumer.Forgotten("g")...)
	s.classic, s.consumer, s.told = NewClassic(&s.cfg, s.now), nil, 0
}

// reached is the client that waits for an answer, nil where it is gone or the answer is
// lost: it asks again.
func (s *migrateSim) reached(ticket Ticket) *client {
	a := s.waiting[ticket]
	if delete(s.waiting, ticket); a == nil {
		return nil
	}
	if a.wait = 0; s.lost(a) {
		a.again, a.beaten = true, s.now
		return nil
	}
	return a
}

// deliver gives what a classic group answers to those who wait.
func (s *migrateSim) deliver(eff Effects) {
	if eff.Store {
		s.log = append(s.log, s.classic.Stored("g")...)
	}
	for _, j := range eff.Joined {
		if a := s.reached(j.Ticket); a != nil {
			s.joined(a, j.JoinResult)
		}
	}
	for _, y := range eff.Synced {
		if a := s.reached(y.Ticket); a != nil {
			s.wasSynced(a, y.SyncResult)
		}
	}
}

// restart is a coordinator that has only what was stored, read as log/broker does.
func (s *migrateSim) restart() {
	for _, a := range s.waiting {
		a.wait, a.again, a.beaten = 0, true, s.now
	}
	clear(s.waiting)
	before := s.consumer
	s.classic, s.consumer, s.told, s.planned = nil, nil, 0, 0
	for _, a := range s.clients {
		a.watches = min(a.watches, 0)
	}
	for _, r := range s.log {
		l, err := Load(r.Key, r.Value)
		switch {
		case err != nil:
			s.Fatal(err)
		case l.Classic != nil && l.Removed:
			s.classic = nil
		case l.Classic != nil:
			s.classic = RestoreClassic(&s.cfg, s.now, l.Classic.Value)
		default:
			if s.consumer == nil {
				s.consumer = NewConsumer(&s.cfg, s.now)
			}
			s.consumer.Restore(l.Consumer)
		}
	}
	if s.consumer != nil && s.consumer.Epoch() < 0 {
		s.consumer = nil
	}
	if (s.consumer != nil) != (before != nil && before.Epoch() >= 0) {
		s.Fatalf("restored as %v, was %v", s.consumer, before)
	}
	for _, a := range s.clients {
		a.calm = a.calm && a.modern
	}
	if s.consumer == nil {
		if s.classic == nil {
			s.classic = NewClassic(&s.cfg, s.now)
		}
		for _, a := range s.clients {
			a.calm = false
		}
		return
	}
	s.classic = nil
	s.consumer.Restored(s.now)
	for id, was := range before.members {
		m := s.consumer.members[id]
		if m == nil || m.epoch != was.epoch || m.state != was.state || !maps.Equal(m.target, was.target) || m.usesClassic() != was.usesClassic() || !slices.Equal(m.topics, was.topics) ||
			m.usesClassic() && (m.classic.session != was.classic.session || len(m.classic.protocols) != 1 || string(m.classic.metadata()) != string(was.classic.metadata())) {
			s.Fatalf("restored %+v, was %+v", m, was)
		}
	}
	if len(s.consumer.members) != len(before.members) || !maps.Equal(s.consumer.owners, before.owners) {
		s.Fatalf("restored %v, was %v", s.consumer.owners, before.owners)
	}
}

// check: nobody has what another one has.
func (s *migrateSim) check() {
	held := map[Slot]*client{}
	for _, a := range s.clients {
		for x := range a.owned {
			if b := held[x]; b != nil {
				s.Fatalf("%s and %s both have %v: %+v, %+v", a.name, b.name, x, a, b)
			}
			held[x] = a
		}
	}
}

// settle lets everybody behave, until all partitions are read and the group is of the
// protocol that those who are there ask for.
func (s *migrateSim) settle() {
	for _, a := range s.clients {
		a.slow = false
	}
	for range 2000 {
		s.pass(50 * time.Millisecond)
		for _, a := range s.clients {
			if !a.down {
				s.act(a)
			}
		}
		s.check()
	}
	up, modern, have := 0, 0, Slots{}
	for _, a := range s.clients {
		if a.down {
			continue
		}
		if up++; a.modern {
			modern++
		}
		maps.Copy(have, a.owned)
	}
	want := s.partitions()
	switch {
	case up == 0:
	case !maps.Equal(want, have):
		s.Fatalf("%d of %d partitions are read by %d clients, %d of them modern; %+v", len(have), len(want), up, modern, s.describe())
	case modern > 0 && (s.consumer == nil || s.consumer.State() != Stable || s.consumer.Members() != up):
		s.Fatalf("%d modern clients of %d: %s", modern, up, s.describe())
	case modern == 0 && (s.classic == nil || s.classic.State() != Stable || s.classic.Members() != up):
		s.Fatalf("%d classic clients: %s", up, s.describe())
	}
}

func (s *migrateSim) partitions() Slots {
	all := Slots{}
	for _, t := range s.topics {
		for p := range t.partitions {
			all[Slot{t.id, p}] = struct{}{}
		}
	}
	return all
}

func (s *migrateSim) describe() string {
	if s.consumer != nil {
		return fmt.Sprintf("consumer group, %v, %d members", s.consumer.State(), s.consumer.Members())
	}
	return fmt.Sprintf("classic group, %v, %d members", s.classic.State(), s.classic.Members())
}

// roll restarts the clients one after the other, to speak the one or the other
// protocol.
func (s *migrateSim) roll(modern bool) {
	for _, i := range s.rng.Perm(len(s.clients)) {
		a := s.clients[i]
		if a.next = modern; !a.down {
			if s.rng.IntN(4) == 0 {
				s.crash(a)
			} else {
				s.leave(a)
			}
		}
		for range s.rng.IntN(40) {
			s.step()
		}
		if a.down {
			s.start(a, modern)
		}
		for range s.rng.IntN(150) {
			s.step()
		}
	}
}

// TestMigrateSimulation: clients of both protocols in one group, which join, crash,
// leave, dawdle, lose answers and are replaced by ones of the other protocol, one by
// one, while the coordinator restarts. No two ever have one partition, no commit of
// a former owner counts and none goes back, nobody is fenced to whom nothing happened,
// and when all behave every partition is read in a group of the right kind.
func TestMigrateSimulation(t *testing.T) {
	worlds, upgrades, downgrades := 0, 0, 0
	seeds.Each(t, 20, func(t *testing.T, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := &migrateSim{T: t, rng: rng, cfg: Config{}.WithDefaults(), now: time.Unix(1_700_000_000, 0), waiting: map[Ticket]*client{},
			topics:   simTopics{"t0": {[16]byte{'0'}, 4}, "t1": {[16]byte{'1'}, 3}},
			protocol: []string{"range", "cooperative-sticky"}[rng.IntN(2)], committed: map[Slot]int64{}, turns: map[Slot]int{}}
		s.classic = NewClassic(&s.cfg, s.now)
		for i := range 2 + rng.IntN(4) {
			a := &client{name: fmt.Sprint("m", i), owned: Slots{}, at: map[Slot]int64{}, turn: map[Slot]int{}}
			if rng.IntN(4) == 0 {
				a.instance = &a.name
			}
			s.start(a, false)
			s.clients = append(s.clients, a)
		}
		for _, modern := range []bool{true, false, true, false} {
			s.settle()
			s.roll(modern)
			for range 200 {
				s.step()
			}
			for _, a := range s.clients {
				a.next = rng.IntN(2) == 0
			}
			for range 400 {
				s.step()
			}
		}
		s.settle()
		worlds++
		upgrades += s.upgrades
		downgrades += s.downgrades
	})
	if !t.Failed() {
		t.Logf("%d worlds: %d groups changed to the consumer protocol with members, %d back", worlds, upgrades, downgrades)
	}
	if worlds > 5 && (upgrades < worlds || downgrades < worlds) {
		t.Errorf("in %d worlds only %d groups changed to the consumer protocol, %d back", worlds, upgrades, downgrades)
	}
}
