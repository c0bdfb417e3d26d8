package group

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Slot is a partition of a topic by the topic's id.
type Slot struct {
	Topic     [16]byte
	Partition int32
}

// Slots are a set of partitions.
type Slots map[Slot]struct{}

func (s Slots) has(x Slot) bool { _, ok := s[x]; return ok }

func (s Slots) overlaps(t Slots) bool {
	for x := range s {
		if t.has(x) {
			return true
		}
	}
	return false
}

func (s Slots) within(t Slots) bool {
	for x := range s {
		if !t.has(x) {
			return false
		}
	}
	return true
}

// Sorted are the partitions in order.
func (s Slots) Sorted() []Slot {
	return slices.SortedFunc(maps.Keys(s), Slot.compare)
}

func (s Slot) compare(t Slot) int {
	return cmp.Or(slices.Compare(s.Topic[:], t.Topic[:]), cmp.Compare(s.Partition, t.Partition))
}

// Topics is what a group knows of the topics there are.
type Topics interface {
	// Topic is a topic's id and number of partitions.
	Topic(name string) (id [16]byte, partitions int32, ok bool)
	// Names are all topics that a pattern may match.
	Names() []string
}

type topicInfo struct {
	id         [16]byte
	partitions int32
}

// The epochs with which a member says that it leaves.
const (
	epochLeave       = -1
	epochLeaveStatic = -2 // it will be back
)

// topicsEvery is how often a group looks whether its topics have changed.
const topicsEvery = time.Second

// Beat is a ConsumerGroupHeartbeat. A nil pointer, slice or set means that nothing
// has changed since the last one.
type Beat struct {
	MemberID             string
	Epoch                int32
	Instance, Rack       *string
	ClientID, ClientHost string
	Rebalance            time.Duration // negative: not told
	Topics               []string
	Regex                *string // empty: none any more
	Assignor             *string
	Owned                Slots
}

// BeatResult is what a ConsumerGroupHeartbeat is answered with.
type BeatResult struct {
	Err      *kerr.Error
	Reason   string
	MemberID string
	Epoch    int32
	Assigned Slots // nil: as before
}

// ConsumerEffects are what a call brought about: what must be stored before it is
// answered.
type ConsumerEffects struct {
	// Store: the group has changed, see Changes.
	Store      bool
	Rebalanced bool
}

// memberState says how far a member has come to its target, with Kafka's numbers.
type memberState int8

const (
	memberStable     memberState = iota
	memberUnrevoked              // it has not yet let go what it must
	memberUnreleased             // it waits for what others have not yet let go
)

// Consumer is a group of the consumer protocol (KIP-848): the broker assigns.
//
// The group's epoch grows with everything that asks for another assignment. The
// target is the assignment for an epoch; each member comes to it by itself, first
// letting go and then getting, and a partition is given to a member only when
// nobody else has it.
type Consumer struct {
	cfg         *Config
	epoch       int32
	targetEpoch int32
	members     map[string]*consumerMember
	static      map[string]string
	owners      map[Slot]string
	topics      map[string]topicInfo // those subscribed to, as of the last look
	looked      time.Time
	joined      uint64
	next        time.Time

	changed       bool     // epoch, not stored
	changedTarget bool     // targetEpoch, not stored
	gone          []string // members that are stored and are not any more
	out           ConsumerEffects
}

type consumerMember struct {
	id                   string
	order                uint64
	instance, rack       *string
	clientID, clientHost string
	rebalance            time.Duration
	topics               []string
	regex                string
	pattern              *regexp.Regexp
	matched              []string // by pattern, as of the last look
	assignor             string
	classic              *classicMember // nil: it speaks the consumer protocol

	epoch, previous int32
	state           memberState
	assigned        Slots
	since           map[Slot]int32 // the epoch from which it has one of assigned; the present one where unknown
	revoking        Slots
	target          Slots
	expires         time.Time
	revokeBy        time.Time // zero: nothing to revoke

	changed, changedTarget, changedCurrent bool // not stored
}

// NewConsumer is an empty group.
func NewConsumer(cfg *Config, _ time.Time) *Consumer {
	return &Consumer{cfg: cfg, epoch: -1, targetEpoch: -1, members: map[string]*consumerMember{}, static: map[string]string{}, owners: map[Slot]string{}, topics: map[string]topicInfo{}}
}

// Epoch is the group's; negative where it has none.
func (g *Consumer) Epoch() int32 { return g.epoch }

// TargetEpoch is the epoch of the target assignment.
func (g *Consumer) TargetEpoch() int32 { return max(0, g.targetEpoch) }

// Members is how many there are, static ones that will be back included.
func (g *Consumer) Members() int { return len(g.members) }

// State is the group's state.
func (g *Consumer) State() State {
	switch {
	case len(g.members) == 0:
		return Empty
	case g.epoch > g.targetEpoch:
		return Assigning
	}
	for _, m := range g.members {
		if m.epoch != g.targetEpoch || m.state != memberStable {
			return Reconciling
		}
	}
	return Stable
}

// Subscribed reports whether a member reads the topic.
func (g *Consumer) Subscribed(topic string) bool {
	for _, m := range g.members {
		if m.reads(topic) {
			return true
		}
	}
	return false
}

func (m *consumerMember) reads(topic string) bool {
	return slices.Contains(m.topics, topic) || m.pattern != nil && m.pattern.MatchString(topic)
}

func (g *Consumer) at(t time.Time) time.Time {
	if g.next.IsZero() || t.Before(g.next) {
		g.next = t
	}
	return t
}

// Deadline is when to call Tick, at the latest; ok is false where there is no need.
func (g *Consumer) Deadline() (at time.Time, ok bool) { return g.next, !g.next.IsZero() }

func (g *Consumer) take() ConsumerEffects {
	out := g.out
	g.out = ConsumerEffects{}
	return out
}

func (g *Consumer) inOrder() []*consumerMember {
	return slices.SortedFunc(maps.Values(g.members), func(a, b *consumerMember) int { return cmp.Compare(a.order, b.order) })
}

// refusal is an error with its reason.
func refusal(err *kerr.Error, reason string) BeatResult { return BeatResult{Err: err, Reason: reason} }

// Heartbeat takes a ConsumerGroupHeartbeat whose form was checked.
func (g *Consumer) Heartbeat(now time.Time, b Beat, topics Topics) (BeatResult, ConsumerEffects) {
	if b.Epoch < 0 {
		return g.leave(&b), g.take()
	}
	m, r := g.member(&b)
	if r.Err != nil {
		return r, g.take()
	}
	before := m.assigned
	resubscribed, r := g.subscribe(m, &b)
	if r.Err != nil {
		return r, g.take()
	}
	g.members[m.id] = m
	if m.instance != nil {
		g.static[*m.instance] = m.id
	}
	m.expires = g.at(now.Add(g.session(m)))
	g.advance(now, topics, resubscribed)
	g.reconcile(now, m, b.Owned)
	r = BeatResult{MemberID: m.id, Epoch: m.epoch}
	full := b.Rebalance >= 0 && (b.Topics != nil || b.Regex != nil) && b.Owned != nil
	if b.Epoch == 0 || full || !maps.Equal(before, m.assigned) {
		r.Assigned = m.assigned
	}
	return r, g.take()
}

// advance asks for another assignment where what members read has changed, and
// computes it.
func (g *Consumer) advance(now time.Time, topics Topics, resubscribed bool) {
	if changed := g.look(now, topics, resubscribed); resubscribed || changed || g.epoch < 0 {
		g.bump()
	}
	if g.epoch > g.targetEpoch {
		g.assign()
	}
}

// bump asks for another assignment.
func (g *Consumer) bump() {
	g.epoch = max(g.epoch, 0) + 1
	g.changed, g.out.Store, g.out.Rebalanced = true, true, true
}

// member is the member that a heartbeat is of, a new one where it joins.
func (g *Consumer) member(b *Beat) (*consumerMember, BeatResult) {
	if b.Instance != nil {
		return g.staticMember(b)
	}
	m := g.members[b.MemberID]
	switch {
	case m == nil && b.Epoch > 0:
		return nil, refusal(kerr.UnknownMemberID, "the member is not in the group")
	case m == nil && len(g.members) >= g.cfg.MaxMembers:
		return nil, refusal(kerr.GroupMaxSizeReached, "the group is full")
	case m == nil:
		return g.newMember(b), BeatResult{}
	case m.usesClassic() && b.Epoch > 0:
		return nil, refusal(kerr.UnknownMemberID, "the member speaks the classic protocol")
	}
	return m, g.checkEpoch(m, b)
}

func (g *Consumer) newMember(b *Beat) *consumerMember {
	g.joined++
	return &consumerMember{id: b.MemberID, order: g.joined, instance: b.Instance, assigned: Slots{}, revoking: Slots{}, target: Slots{}, changedCurrent: true}
}

// staticMember is member for one with an instance id.
func (g *Consumer) staticMember(b *Beat) (*consumerMember, BeatResult) {
	old := g.members[g.static[*b.Instance]]
	if other := g.members[b.MemberID]; other != nil && other != old && b.Epoch == 0 {
		return nil, refusal(kerr.InvalidRequest, "the member id is another member's")
	}
	switch {
	case old == nil && b.Epoch > 0:
		return nil, refusal(kerr.UnknownMemberID, "the instance is not in the group")
	case old == nil && len(g.members) >= g.cfg.MaxMembers:
		return nil, refusal(kerr.GroupMaxSizeReached, "the group is full")
	case old == nil:
		return g.newMember(b), BeatResult{}
	case old.usesClassic() && b.Epoch == 0:
		return g.succeed(old, b.MemberID), BeatResult{} // it comes back with the other protocol
	case old.usesClassic() && old.id == b.MemberID:
		return nil, refusal(kerr.UnknownMemberID, "the member speaks the classic protocol")
	case old.id == b.MemberID && old.epoch != epochLeaveStatic:
		return old, g.checkEpoch(old, b)
	case b.Epoch > 0 && old.id != b.MemberID:
		return nil, refusal(kerr.FencedInstanceID, "another member has the instance id")
	case b.Epoch > 0:
		return nil, refusal(kerr.FencedMemberEpoch, "the member left and must join again")
	case old.epoch != epochLeaveStatic:
		return nil, refusal(kerr.UnreleasedInstanceID, "another member has the instance id")
	}
	return g.succeed(old, b.MemberID), BeatResult{}
}

// succeed is a static member that is back, with what it had.
func (g *Consumer) succeed(old *consumerMember, id string) *consumerMember {
	m := *old
	g.drop(old)
	m.id, m.epoch, m.previous, m.state, m.since, m.revokeBy = id, 0, 0, memberStable, nil, time.Time{}
	m.changed, m.changedTarget, m.changedCurrent = true, true, true
	g.own(&m, m.assigned, Slots{})
	g.members[m.id], g.static[*m.instance] = &m, m.id
	return &m
}

// checkEpoch fences a member whose epoch is not the one it was given last. The one
// before is right as well, where the answer may have been lost.
func (g *Consumer) checkEpoch(m *consumerMember, b *Beat) BeatResult {
	switch {
	case b.Epoch == 0 && m.epoch != 0:
		// It starts over: what it had is free.
		m.epoch, m.previous, m.state, m.since = 0, 0, memberStable, nil
		g.own(m, Slots{}, Slots{})
		m.revokeBy = time.Time{}
		m.changedCurrent, g.out.Store = true, true
	case b.Epoch > m.epoch:
		return refusal(kerr.FencedMemberEpoch, "the member's epoch is larger than the coordinator's")
	case b.Epoch < m.epoch && (b.Epoch != m.previous || b.Owned == nil || !b.Owned.within(m.assigned)):
		return refusal(kerr.FencedMemberEpoch, "the member's epoch is old")
	}
	return BeatResult{}
}

// leave takes a member out, or notes that a static one will be back.
func (g *Consumer) leave(b *Beat) BeatResult {
	m := g.members[b.MemberID]
	if b.Instance != nil {
		id, ok := g.static[*b.Instance]
		if ok && id != b.MemberID {
			return refusal(kerr.FencedInstanceID, "another member has the instance id")
		}
	}
	if m == nil || m.usesClassic() {
		return refusal(kerr.UnknownMemberID, "the member is not in the group")
	}
	if b.Epoch == epochLeaveStatic && m.instance != nil {
		// It keeps its partitions till it is back; those it was letting go are free.
		m.epoch, m.state, m.changedCurrent, g.out.Store = epochLeaveStatic, memberStable, true, true
		g.own(m, m.assigned, Slots{})
		m.revokeBy = time.Time{}
		return BeatResult{MemberID: m.id, Epoch: epochLeaveStatic}
	}
	g.drop(m)
	g.bump()
	return BeatResult{MemberID: m.id, Epoch: epochLeave}
}

// drop takes a member out.
func (g *Consumer) drop(m *consumerMember) {
	g.own(m, Slots{}, Slots{})
	delete(g.members, m.id)
	if m.instance != nil && g.static[*m.instance] == m.id {
		delete(g.static, *m.instance)
	}
	g.gone = append(g.gone, m.id)
	g.out.Store = true
}

// own sets what a member has.
func (g *Consumer) own(m *consumerMember, assigned, revoking Slots) {
	for _, s := range []Slots{m.assigned, m.revoking} {
		for x := range s {
			if g.owners[x] == m.id {
				delete(g.owners, x)
			}
		}
	}
	m.assigned, m.revoking = assigned, revoking
	for _, s := range []Slots{assigned, revoking} {
		for x := range s {
			g.owners[x] = m.id
		}
	}
}

// subscribe takes over what a heartbeat says of its member, and reports whether
// that asks for another assignment.
func (g *Consumer) subscribe(m *consumerMember, b *Beat) (changed bool, r BeatResult) {
	pattern := m.pattern
	if b.Regex != nil && *b.Regex != m.regex {
		pattern = nil
		if *b.Regex != "" {
			var err error
			if pattern, err = compileTopics(*b.Regex); err != nil {
				return false, refusal(kerr.InvalidRegularExpression, err.Error())
			}
		}
	}
	before := *m
	if b.Regex != nil {
		m.regex, m.pattern = *b.Regex, pattern
	}
	if b.Topics != nil {
		m.topics = slices.Compact(slices.Sorted(slices.Values(b.Topics)))
	}
	if b.Assignor != nil {
		m.assignor = *b.Assignor
	}
	if b.Rebalance >= 0 {
		m.rebalance = b.Rebalance
	}
	if b.Rack != nil {
		m.rack = b.Rack
	}
	m.clientID, m.clientHost = b.ClientID, b.ClientHost
	m.classic = nil
	changed = g.members[m.id] == nil || before.classic != nil || m.regex != before.regex || m.assignor != before.assignor || !slices.Equal(m.topics, before.topics)
	if changed || m.rebalance != before.rebalance || m.clientID != before.clientID || m.clientHost != before.clientHost {
		m.changed, g.out.Store = true, true
	}
	return changed, BeatResult{}
}

// look finds out which topics members read now, and reports whether that is
// another answer than before.
func (g *Consumer) look(now time.Time, topics Topics, must bool) bool {
	if !must && now.Sub(g.looked) < topicsEvery && !now.Before(g.looked) {
		return false
	}
	g.looked = now
	seen := map[string]topicInfo{}
	note := func(name string) {
		if _, ok := seen[name]; ok {
			return
		}
		if id, n, ok := topics.Topic(name); ok {
			seen[name] = topicInfo{id, n}
		}
	}
	var names []string
	changed := false
	for _, m := range g.members {
		for _, name := range m.topics {
			note(name)
		}
		var matched []string
		if m.pattern != nil {
			if names == nil {
				names = topics.Names()
			}
			for _, name := range names {
				if m.pattern.MatchString(name) {
					matched = append(matched, name)
					note(name)
				}
			}
		}
		changed = changed || !slices.Equal(matched, m.matched)
		m.matched = matched
	}
	changed = changed || !maps.Equal(seen, g.topics)
	g.topics = seen
	return changed
}

// assign computes the target assignment of the group's epoch.
func (g *Consumer) assign() {
	members := g.inOrder()
	in := make([]assignee, len(members))
	for i, m := range members {
		in[i] = assignee{id: m.id, had: m.target}
		if m.instance != nil {
			in[i].id = *m.instance
		}
		for _, name := range slices.Compact(slices.Sorted(slices.Values(slices.Concat(m.topics, m.matched)))) {
			if t, ok := g.topics[name]; ok {
				in[i].topics = append(in[i].topics, t)
			}
		}
	}
	targets := assignors[g.assignor()](in)
	for i, m := range members {
		if !maps.Equal(m.target, targets[i]) {
			m.target, m.changedTarget = targets[i], true
		}
	}
	g.targetEpoch, g.changedTarget, g.out.Store = g.epoch, true, true
}

// assignor is the one that most members want, the default where none says.
func (g *Consumer) assignor() string {
	votes := map[string]int{}
	best := ""
	for _, m := range g.inOrder() {
		if m.assignor == "" {
			continue
		}
		if votes[m.assignor]++; best == "" || votes[m.assignor] > votes[best] {
			best = m.assignor
		}
	}
	return cmp.Or(best, DefaultAssignor)
}

// reconcile brings a member a step closer to its target. owned is what it says
// that it has, nil where it does not say.
func (g *Consumer) reconcile(now time.Time, m *consumerMember, owned Slots) {
	if m.state == memberStable && m.epoch == g.targetEpoch {
		return
	}
	if m.state == memberUnrevoked {
		if owned == nil || owned.overlaps(m.revoking) {
			return // it is still letting go
		}
		g.own(m, m.assigned, Slots{})
		m.revokeBy = time.Time{} // what it must let go next has its own time
	}
	keep, revoke, missing, held := Slots{}, Slots{}, Slots{}, false
	for x := range m.assigned {
		if m.target.has(x) {
			keep[x] = struct{}{}
		} else {
			revoke[x] = struct{}{}
		}
	}
	for x := range m.target {
		if m.assigned.has(x) {
			continue
		}
		if _, taken := g.owners[x]; taken {
			held = true
		} else {
			missing[x] = struct{}{}
		}
	}
	epoch, state := g.targetEpoch, memberStable
	switch {
	case len(revoke) > 0 && (owned == nil || owned.overlaps(revoke)):
		epoch, state = m.epoch, memberUnrevoked
		if m.revokeBy.IsZero() {
			m.revokeBy = g.at(now.Add(m.rebalance))
		}
	default:
		revoke = Slots{}
		maps.Copy(keep, missing)
		if held {
			state = memberUnreleased
		}
	}
	if state != memberUnrevoked {
		m.revokeBy = time.Time{}
	}
	if epoch == m.epoch && state == m.state && maps.Equal(keep, m.assigned) && maps.Equal(revoke, m.revoking) {
		return
	}
	since := make(map[Slot]int32, len(keep))
	for x := range keep {
		if since[x] = epoch; m.assigned.has(x) {
			since[x] = m.hasSince(x)
		}
	}
	if epoch != m.epoch {
		m.previous = m.epoch
	}
	m.epoch, m.state, m.since = epoch, state, since
	g.own(m, keep, revoke)
	m.changedCurrent, g.out.Store = true, true
}

// hasSince is the epoch from which m has a partition of those assigned to it.
func (m *consumerMember) hasSince(x Slot) int32 {
	if epoch, ok := m.since[x]; ok {
		return epoch
	}
	return m.epoch
}

// HeldSince reports whether a member has had a partition without a break since an
// epoch: then a commit from that epoch, on its way while the epoch grew, is as good
// as one of now (KIP-1251). What is not known, after a restart, is not so.
func (g *Consumer) HeldSince(member string, epoch int32, x Slot) bool {
	m := g.members[member]
	return m != nil && epoch > 0 && epoch <= m.epoch && m.assigned.has(x) && m.hasSince(x) <= epoch
}

// Tick removes members that are overdue.
func (g *Consumer) Tick(now time.Time) ConsumerEffects {
	if g.next.IsZero() || now.Before(g.next) {
		return ConsumerEffects{}
	}
	gone := false
	g.next = time.Time{}
	for _, m := range g.inOrder() {
		at := m.deadline()
		if !now.Before(at) {
			g.drop(m)
			gone = true
			continue
		}
		g.at(at)
	}
	if gone {
		g.bump()
	}
	return g.take()
}

// session is the member's session timeout.
func (g *Consumer) session(m *consumerMember) time.Duration {
	if m.usesClassic() {
		return m.classic.session
	}
	return g.cfg.Session
}

// deadline is when the member is overdue.
func (m *consumerMember) deadline() time.Time {
	at := m.expires
	if !m.revokeBy.IsZero() && m.revokeBy.Before(at) {
		at = m.revokeBy
	}
	if m.usesClassic() && !m.classic.due.IsZero() && m.classic.due.Before(at) {
		at = m.classic.due
	}
	return at
}

// MayCommit says whether a request may commit offsets; version is OffsetCommit's.
func (g *Consumer) MayCommit(now time.Time, c Caller, transactional bool, version int16) *kerr.Error {
	if c.Generation < 0 && c.MemberID == "" && (len(g.members) == 0 || transactional) {
		return nil
	}
	m := g.members[c.MemberID]
	switch {
	case m == nil:
		return kerr.UnknownMemberID
	case version < 9 && !transactional && !m.usesClassic():
		return kerr.UnsupportedVersion
	case c.Generation != m.epoch && (transactional || m.usesClassic()):
		return kerr.IllegalGeneration
	case c.Generation != m.epoch:
		return kerr.StaleMemberEpoch
	case m.usesClassic() && !transactional:
		m.expires = g.at(now.Add(g.session(m)))
	}
	return nil
}

// MayFetch says whether a request that may name its member may read offsets.
func (g *Consumer) MayFetch(member *string, epoch int32) *kerr.Error {
	if member == nil && epoch < 0 {
		return nil
	}
	var m *consumerMember
	if member != nil {
		m = g.members[*member]
	}
	switch {
	case m == nil:
		return kerr.UnknownMemberID
	case m.epoch != epoch && m.usesClassic():
		return kerr.IllegalGeneration
	case m.epoch != epoch:
		return kerr.StaleMemberEpoch
	}
	return nil
}

// ConsumerView is a member as ConsumerGroupDescribe shows it.
type ConsumerView struct {
	ID                   string
	Instance, Rack       *string
	Epoch                int32
	ClientID, ClientHost string
	Topics               []string
	Regex                string
	Assigned, Target     Slots
	Classic              bool // it speaks the classic protocol
}

// View are the members and the assignor.
func (g *Consumer) View() (assignor string, members []ConsumerView) {
	for _, m := range g.inOrder() {
		members = append(members, ConsumerView{m.id, m.instance, m.rack, m.epoch, m.clientID, m.clientHost, m.topics, m.regex, m.assigned, m.target, m.usesClassic()})
	}
	return g.assignor(), members
}
