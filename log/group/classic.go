package group

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// State is a group's state.
type State int8

// The states of groups, with Kafka's names. A classic group rebalances in two
// steps: its members join, then they sync.
const (
	Empty State = iota
	PreparingRebalance
	CompletingRebalance
	Stable
	Dead
	Assigning   // consumer protocol
	Reconciling // consumer protocol
)

var stateNames = [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Assigning", "Reconciling"}

func (s State) String() string { return stateNames[s] }

// Protocol is one that a member supports, with what it tells the leader.
type Protocol struct {
	Name     string
	Metadata []byte
}

// JoinRequest is a JoinGroup.
type JoinRequest struct {
	Ticket   Ticket
	MemberID string
	Instance *string
	// NewID is the id that the member gets where it has none.
	NewID string
	// RequireKnownID: a dynamic member without an id gets one and must join with it
	// (KIP-394).
	RequireKnownID bool
	// CanSkip: a leader understands SkipAssignment.
	CanSkip              bool
	ClientID, ClientHost string
	ProtocolType         string
	Protocols            []Protocol
	Session, Rebalance   time.Duration
}

// SyncRequest is a SyncGroup.
type SyncRequest struct {
	Ticket Ticket
	Caller
	ProtocolType, Protocol *string // nil: not told
	Assignments            map[string][]byte
}

// Classic is a group whose members rebalance themselves: they join, the leader
// among them assigns, they sync.
type Classic struct {
	cfg   *Config
	state State
	since time.Time // of the state

	generation             int32
	protocolType, protocol string
	leader                 string
	members                map[string]*member
	static                 map[string]string    // member ids by instance id
	pending                map[string]time.Time // ids given out and not joined yet, until when
	joined                 uint64               // members so far: their order

	// While it prepares a rebalance.
	initial   bool          // from empty: wait for more members
	more      bool          // with initial: members came since the last wait began
	remaining time.Duration // with initial: how much longer it may wait
	joinBy    time.Time

	syncBy time.Time // while members have not synced: when they are removed
	next   time.Time // no deadline lies before; zero: there is none
	out    Effects
}

// member is a member of a classic group.
type member struct {
	id                   string
	order                uint64
	instance             *string
	clientID, clientHost string
	session, rebalance   time.Duration
	protocols            []Protocol
	assignment           []byte
	join, sync           Ticket // awaiting
	isNew                bool   // never in a generation
	unsynced             bool
	expires              time.Time
	// epoch is, where the group was of the consumer protocol, the one that the member
	// had in it, till the next generation.
	epoch int32
}

// NewClassic is an empty group.
func NewClassic(cfg *Config, now time.Time) *Classic {
	return &Classic{cfg: cfg, since: now, members: map[string]*member{}, static: map[string]string{}, pending: map[string]time.Time{}}
}

// State is the group's state.
func (g *Classic) State() State { return g.state }

// Since is when the state began.
func (g *Classic) Since() time.Time { return g.since }

// Generation is the current one.
func (g *Classic) Generation() int32 { return g.generation }

// ProtocolType is what its members agree to be; empty where nobody ever joined.
func (g *Classic) ProtocolType() string { return g.protocolType }

// Members is how many there are, those that only have an id not counted.
func (g *Classic) Members() int { return len(g.members) }

// Idle reports whether there is nobody, not even on the way.
func (g *Classic) Idle() bool { return len(g.members) == 0 && len(g.pending) == 0 }

func (g *Classic) take() Effects {
	out := g.out
	g.out = Effects{}
	return out
}

func (g *Classic) become(s State, now time.Time) { g.state, g.since = s, now }

// at makes sure that Deadline is not after t.
func (g *Classic) at(t time.Time) time.Time {
	if g.next.IsZero() || t.Before(g.next) {
		g.next = t
	}
	return t
}

// Deadline is when to call Tick, at the latest; ok is false where there is no need.
func (g *Classic) Deadline() (at time.Time, ok bool) { return g.next, !g.next.IsZero() }

// Join takes a JoinGroup. Its answer is in the effects of this or of a later call.
func (g *Classic) Join(now time.Time, r JoinRequest) Effects {
	if err := g.acceptable(&r); err != nil {
		g.refuseJoin(r.Ticket, r.MemberID, err)
		return g.take()
	}
	if r.MemberID == "" {
		g.joinNew(now, &r)
	} else {
		g.joinKnown(now, &r)
	}
	return g.take()
}

func (g *Classic) refuseJoin(t Ticket, id string, err *kerr.Error) {
	if t != 0 {
		g.out.Joined = append(g.out.Joined, Joined{t, JoinResult{Err: err, Generation: -1, MemberID: id}})
	}
}

// maxProtocols bounds the protocols of a member: the group compares those of all,
// and clients have three at most.
const maxProtocols = 100

// acceptable is what can be said before the member is looked at.
func (g *Classic) acceptable(r *JoinRequest) *kerr.Error {
	switch {
	case g.state == Dead:
		return kerr.CoordinatorNotAvailable
	case r.Session < g.cfg.MinSession || r.Session > g.cfg.MaxSession:
		return kerr.InvalidSessionTimeout
	case !g.hasRoom(r):
		return kerr.GroupMaxSizeReached
	case len(r.Protocols) > maxProtocols || !g.supports(r):
		return kerr.InconsistentGroupProtocol
	}
	return nil
}

func (g *Classic) hasRoom(r *JoinRequest) bool {
	if _, ok := g.members[r.MemberID]; ok {
		return true
	}
	if r.Instance != nil {
		if _, ok := g.static[*r.Instance]; ok {
			return true
		}
	}
	if _, ok := g.pending[r.MemberID]; ok {
		return len(g.members) < g.cfg.MaxMembers
	}
	return len(g.members)+len(g.pending) < g.cfg.MaxMembers
}

// supports reports whether the group and the member have a protocol in common.
func (g *Classic) supports(r *JoinRequest) bool {
	if len(g.members) == 0 {
		return r.ProtocolType != "" && len(r.Protocols) > 0
	}
	if r.ProtocolType != g.protocolType {
		return false
	}
	common := g.common("")
	return slices.ContainsFunc(r.Protocols, func(p Protocol) bool { return common[p.Name] })
}

// common are the protocols that all members support, one of them left out.
func (g *Classic) common(but string) map[string]bool {
	count := map[string]int{}
	n := 0
	for id, m := range g.members {
		if id == but {
			continue
		}
		n++
		for i, p := range m.protocols {
			if !slices.ContainsFunc(m.protocols[:i], func(q Protocol) bool { return q.Name == p.Name }) {
				count[p.Name]++
			}
		}
	}
	common := map[string]bool{}
	for name, c := range count {
		if c == n {
			common[name] = true
		}
	}
	return common
}

func (g *Classic) joinNew(now time.Time, r *JoinRequest) {
	switch {
	case r.Instance != nil:
		if old, ok := g.static[*r.Instance]; ok {
			g.rejoinStatic(now, old, r)
			return
		}
		g.add(now, r.NewID, r)
	case r.RequireKnownID:
		g.pending[r.NewID] = g.at(now.Add(r.Session))
		g.refuseJoin(r.Ticket, r.NewID, kerr.MemberIDRequired)
	default:
		g.add(now, r.NewID, r)
	}
}

func (g *Classic) joinKnown(now time.Time, r *JoinRequest) {
	if _, ok := g.pending[r.MemberID]; ok && r.Instance == nil {
		delete(g.pending, r.MemberID)
		g.add(now, r.MemberID, r)
		return
	}
	m, err := g.caller(Caller{MemberID: r.MemberID, Instance: r.Instance})
	if err != nil {
		g.refuseJoin(r.Ticket, r.MemberID, err)
		return
	}
	switch same := m.offers(r.Protocols); {
	case g.state == PreparingRebalance:
		g.update(m, r)
		g.maybeCompleteJoin(now)
	case g.state == CompletingRebalance && same, g.state == Stable && same && m.id != g.leader:
		// It did not get the answer, or is no reason for another rebalance.
		m.clientID, m.clientHost = r.ClientID, r.ClientHost
		m.expires = g.at(now.Add(m.session))
		g.out.Joined = append(g.out.Joined, Joined{r.Ticket, g.result(m)})
	default:
		g.update(m, r)
		g.prepare(now)
	}
}

// offers reports whether the member supports just these protocols.
func (m *member) offers(ps []Protocol) bool {
	return slices.EqualFunc(m.protocols, ps, func(a, b Protocol) bool { return a.Name == b.Name && string(a.Metadata) == string(b.Metadata) })
}

// result is what m joins with in the current generation.
func (g *Classic) result(m *member) JoinResult {
	r := JoinResult{Generation: g.generation, ProtocolType: g.protocolType, Protocol: g.protocol, Leader: g.leader, MemberID: m.id}
	if m.id == g.leader {
		r.Members = g.forLeader()
	}
	return r
}

func (g *Classic) forLeader() []JoinMember {
	list := make([]JoinMember, 0, len(g.members))
	for _, m := range g.inOrder() {
		list = append(list, JoinMember{m.id, m.instance, m.metadata(g.protocol)})
	}
	return list
}

func (m *member) metadata(protocol string) []byte {
	for _, p := range m.protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	return nil
}

func (g *Classic) inOrder() []*member {
	return slices.SortedFunc(maps.Values(g.members), func(a, b *member) int { return cmp.Compare(a.order, b.order) })
}

// add makes a member, for whom the group rebalances.
func (g *Classic) add(now time.Time, id string, r *JoinRequest) {
	if len(g.members) == 0 {
		g.protocolType = r.ProtocolType
	}
	g.joined++
	m := &member{id: id, order: g.joined, instance: r.Instance, isNew: true, expires: g.at(now.Add(g.cfg.NewMember))}
	g.update(m, r)
	g.members[id] = m
	if m.instance != nil {
		g.static[*m.instance] = id
	}
	if g.leader == "" {
		g.leader = id
	}
	if g.state == PreparingRebalance {
		g.more = g.more || g.initial
		g.maybeCompleteJoin(now)
		return
	}
	g.prepare(now)
}

// update takes over what a join says.
func (g *Classic) update(m *member, r *JoinRequest) {
	g.refuseJoin(m.join, m.id, kerr.RebalanceInProgress) // its connection is most likely gone
	m.join = r.Ticket
	m.protocols, m.session, m.rebalance = r.Protocols, r.Session, r.Rebalance
	m.clientID, m.clientHost = r.ClientID, r.ClientHost
}

// rejoinStatic gives a static member that was restarted a new id.
func (g *Classic) rejoinStatic(now time.Time, oldID string, r *JoinRequest) {
	m := g.members[oldID]
	g.refuseJoin(m.join, oldID, kerr.FencedInstanceID)
	g.refuseSync(m.sync, kerr.FencedInstanceID)
	before := *m
	m.join, m.sync = 0, 0
	wasLeader := g.leader == oldID
	delete(g.members, oldID)
	m.id = r.NewID
	g.members[m.id], g.static[*m.instance] = m, m.id
	if wasLeader {
		g.leader = m.id
	}
	m.protocols, m.session, m.rebalance = r.Protocols, r.Session, r.Rebalance
	m.clientID, m.clientHost = r.ClientID, r.ClientHost
	m.expires = g.at(now.Add(m.session))
	switch {
	case g.state == Stable && g.choose() == g.protocol:
		g.out.Store = true // its id
		result := g.result(m)
		if wasLeader && r.CanSkip {
			result.SkipAssignment = true
		} else if wasLeader {
			// An older client would assign if it thought that it led.
			result.Leader, result.Members = before.id, nil
		}
		g.out.Joined = append(g.out.Joined, Joined{r.Ticket, result})
	case g.state == PreparingRebalance:
		m.join = r.Ticket
		g.maybeCompleteJoin(now)
	default:
		m.join = r.Ticket
		g.prepare(now)
	}
}

// prepare begins a rebalance.
func (g *Classic) prepare(now time.Time) {
	if g.state == CompletingRebalance {
		for _, m := range g.inOrder() {
			if m.assignment = nil; m.sync != 0 {
				g.refuseSync(m.sync, kerr.RebalanceInProgress)
				m.sync, m.expires = 0, g.at(now.Add(m.session)) // it was alive while it waited
			}
		}
	}
	g.out.Rebalanced = true
	g.syncBy = time.Time{}
	g.initial, g.more = g.state == Empty && g.cfg.InitialDelay > 0, false
	g.become(PreparingRebalance, now)
	if g.initial {
		wait := min(g.cfg.InitialDelay, g.rebalanceTimeout())
		g.remaining = max(0, g.rebalanceTimeout()-wait)
		g.joinBy = g.at(now.Add(wait))
		return
	}
	g.joinBy = g.at(now.Add(g.rebalanceTimeout()))
	g.maybeCompleteJoin(now)
}

// rebalanceTimeout is that of the slowest member.
func (g *Classic) rebalanceTimeout() time.Duration {
	var d time.Duration
	for _, m := range g.members {
		d = max(d, m.rebalance)
	}
	return d
}

// maybeCompleteJoin ends the joining where everybody is there.
func (g *Classic) maybeCompleteJoin(now time.Time) {
	if g.state != PreparingRebalance || g.initial || len(g.pending) > 0 {
		return
	}
	for _, m := range g.members {
		if m.join == 0 {
			return
		}
	}
	g.completeJoin(now)
}

// completeJoin makes the next generation of those who joined.
func (g *Classic) completeJoin(now time.Time) {
	for _, m := range g.inOrder() {
		if m.join == 0 && m.instance == nil {
			g.remove(m)
		}
	}
	g.elect()
	if len(g.members) > 0 && !g.electJoined() {
		// Only static members, none of whom came: they keep their partitions. A
		// rebalance timeout of 0 shall not have it look again at once.
		g.joinBy = g.at(now.Add(max(g.rebalanceTimeout(), minRejoinWait)))
		return
	}
	g.generation++
	g.initial = false
	if len(g.members) == 0 {
		g.protocol, g.leader = "", ""
		g.become(Empty, now)
		g.out.Store = true
		return
	}
	g.protocol = g.choose()
	g.become(CompletingRebalance, now)
	g.syncBy = g.at(now.Add(g.rebalanceTimeout()))
	for _, m := range g.inOrder() {
		if m.join != 0 {
			g.out.Joined = append(g.out.Joined, Joined{m.join, g.result(m)})
			m.expires = g.at(now.Add(m.session))
		}
		m.join, m.isNew, m.unsynced, m.assignment, m.epoch = 0, false, true, nil, 0
	}
}

// minRejoinWait is the least time between two looks for a member to lead.
const minRejoinWait = time.Second

// electJoined makes sure that the leader is one who joined.
func (g *Classic) electJoined() bool {
	if m := g.members[g.leader]; m != nil && m.join != 0 {
		return true
	}
	for _, m := range g.inOrder() {
		if m.join != 0 {
			g.leader = m.id
			return true
		}
	}
	return false
}

// choose is the protocol with the most votes: each member votes for the first of
// its own that all support. Among equals the one that the oldest member prefers.
func (g *Classic) choose() string {
	common := g.common("")
	votes := map[string]int{}
	best := ""
	for _, m := range g.inOrder() {
		for _, p := range m.protocols {
			if common[p.Name] {
				if votes[p.Name]++; best == "" {
					best = p.Name
				}
				break
			}
		}
	}
	for _, m := range g.inOrder() {
		for _, p := range m.protocols {
			if votes[p.Name] > votes[best] {
				best = p.Name
			}
		}
	}
	return best
}

// remove takes a member out, and answers what it waits for.
func (g *Classic) remove(m *member) {
	g.refuseJoin(m.join, m.id, kerr.UnknownMemberID)
	g.refuseSync(m.sync, kerr.UnknownMemberID)
	delete(g.members, m.id)
	if m.instance != nil && g.static[*m.instance] == m.id {
		delete(g.static, *m.instance)
	}
	if g.leader == m.id {
		g.leader = "" // removed elects another, once for all who go
	}
}

// removed goes on after members were removed.
func (g *Classic) removed(now time.Time) {
	g.elect()
	switch g.state {
	case Stable, CompletingRebalance:
		g.prepare(now)
	case PreparingRebalance:
		g.maybeCompleteJoin(now)
	}
}

// elect makes the oldest member the leader where there is none.
func (g *Classic) elect() {
	if g.leader != "" {
		return
	}
	var oldest *member
	for _, m := range g.members {
		if oldest == nil || m.order < oldest.order {
			oldest = m
		}
	}
	if oldest != nil {
		g.leader = oldest.id
	}
}

// unlike is why a static member is not the one that the group knows by its instance; nil
// where it is, and of others.
func (c Caller) unlike(static map[string]string) *kerr.Error {
	if c.Instance == nil {
		return nil
	}
	switch id, ok := static[*c.Instance]; {
	case !ok:
		return kerr.UnknownMemberID
	case id != c.MemberID:
		return kerr.FencedInstanceID
	}
	return nil
}

// caller is the member that a request names.
func (g *Classic) caller(c Caller) (*member, *kerr.Error) {
	if g.state == Dead {
		return nil, kerr.CoordinatorNotAvailable
	}
	if err := c.unlike(g.static); err != nil {
		return nil, err
	}
	m := g.members[c.MemberID]
	if m == nil {
		return nil, kerr.UnknownMemberID
	}
	return m, nil
}

// current is caller, of the current generation.
func (g *Classic) current(c Caller) (*member, *kerr.Error) {
	m, err := g.caller(c)
	if err == nil && c.Generation != g.generation && (m.epoch == 0 || c.Generation != m.epoch) {
		err = kerr.IllegalGeneration
	}
	return m, err
}

// Sync takes a SyncGroup. Its answer is in the effects of this or of a later call.
func (g *Classic) Sync(now time.Time, r SyncRequest) Effects {
	m, err := g.current(r.Caller)
	if err == nil && (r.ProtocolType != nil && *r.ProtocolType != g.protocolType || r.Protocol != nil && *r.Protocol != g.protocol) {
		err = kerr.InconsistentGroupProtocol
	}
	if err == nil && g.state == PreparingRebalance {
		err = kerr.RebalanceInProgress
		m.expires = g.at(now.Add(m.session)) // as a heartbeat, which is told the same
	}
	if err != nil {
		g.refuseSync(r.Ticket, err)
		return g.take()
	}
	m.unsynced = false
	if g.state == Stable {
		g.answerSync(r.Ticket, m)
		m.expires = g.at(now.Add(m.session))
		return g.take()
	}
	g.refuseSync(m.sync, kerr.RebalanceInProgress) // its connection is most likely gone
	m.sync = r.Ticket
	if m.id == g.leader {
		g.assign(now, r.Assignments)
	}
	return g.take()
}

// assign takes over what the leader decided.
func (g *Classic) assign(now time.Time, to map[string][]byte) {
	g.become(Stable, now)
	g.out.Store = true
	for _, m := range g.inOrder() {
		m.assignment = to[m.id]
		if m.sync != 0 {
			g.answerSync(m.sync, m)
			m.sync = 0
			m.expires = g.at(now.Add(m.session))
		}
	}
}

func (g *Classic) answerSync(t Ticket, m *member) {
	g.out.Synced = append(g.out.Synced, Synced{t, SyncResult{ProtocolType: g.protocolType, Protocol: g.protocol, Assignment: m.assignment}})
}

func (g *Classic) refuseSync(t Ticket, err *kerr.Error) {
	if t != 0 {
		g.out.Synced = append(g.out.Synced, Synced{t, SyncResult{Err: err}})
	}
}

// Unstored says that the state, which Effects.Store asked for, could not be
// stored: the assignment does not count, and the group tries again.
func (g *Classic) Unstored(now time.Time) Effects {
	for _, m := range g.members {
		m.assignment = nil
	}
	if g.state == Stable {
		g.prepare(now)
	}
	return g.take()
}

// Heartbeat keeps a member alive.
func (g *Classic) Heartbeat(now time.Time, c Caller) *kerr.Error {
	m, err := g.current(c)
	if err != nil {
		return err
	}
	m.expires = g.at(now.Add(m.session))
	if g.state == PreparingRebalance {
		return kerr.RebalanceInProgress
	}
	return nil
}

// Leave removes members, each by its id or its instance id, and returns the error
// of each.
func (g *Classic) Leave(now time.Time, leavers []Caller) ([]*kerr.Error, Effects) {
	errs := make([]*kerr.Error, len(leavers))
	gone := false
	for i, c := range leavers {
		if _, ok := g.pending[c.MemberID]; ok && c.Instance == nil {
			delete(g.pending, c.MemberID)
			gone = true
			continue
		}
		if c.MemberID == "" && c.Instance != nil {
			c.MemberID = g.static[*c.Instance]
		}
		m, err := g.caller(c)
		if errs[i] = err; err == nil {
			g.remove(m)
			gone = true
		}
	}
	if gone {
		g.removed(now)
	}
	return errs, g.take()
}

// MayCommit says whether a request may commit offsets. transactional is
// TxnOffsetCommit, which may leave its member unnamed.
func (g *Classic) MayCommit(now time.Time, c Caller, transactional bool) *kerr.Error {
	switch {
	case g.state == Dead:
		return kerr.CoordinatorNotAvailable
	case c.Generation < 0 && g.state == Empty && (c.MemberID == "" || !transactional):
		return nil
	case c.Generation >= 0 || c.MemberID != "" || c.Instance != nil:
		m, err := g.current(c)
		if err != nil {
			return err
		}
		if transactional {
			return nil
		}
		if g.state == CompletingRebalance {
			return kerr.RebalanceInProgress
		}
		m.expires = g.at(now.Add(m.session))
		return nil
	case !transactional && g.state != Empty:
		return kerr.UnknownMemberID
	}
	return nil
}

// Tick does what is due.
func (g *Classic) Tick(now time.Time) Effects {
	if g.next.IsZero() || now.Before(g.next) {
		return Effects{}
	}
	gone := false
	for id, until := range g.pending {
		if !now.Before(until) {
			delete(g.pending, id)
			gone = true
		}
	}
	for _, m := range g.inOrder() {
		if now.Before(m.expires) {
			continue
		}
		if !m.isNew && (m.join != 0 || m.sync != 0) {
			m.expires = now.Add(m.session) // who waits is alive
			continue
		}
		g.remove(m)
		gone = true
	}
	if !g.syncBy.IsZero() && !now.Before(g.syncBy) {
		g.syncBy = time.Time{}
		for _, m := range g.inOrder() {
			if m.unsynced {
				g.remove(m)
				gone = true
			}
		}
	}
	if gone {
		g.removed(now)
	}
	if g.state == PreparingRebalance && !now.Before(g.joinBy) {
		g.joinsOver(now)
	}
	g.reckon()
	return g.take()
}

// joinsOver ends the wait for members, or goes on with it where an empty group
// still fills up.
func (g *Classic) joinsOver(now time.Time) {
	if g.initial && g.more && g.remaining > 0 {
		wait := min(g.cfg.InitialDelay, g.remaining)
		g.more, g.remaining = false, g.remaining-wait
		g.joinBy = now.Add(wait)
		return
	}
	g.completeJoin(now)
}

// reckon finds the next deadline.
func (g *Classic) reckon() {
	g.next = time.Time{}
	for _, until := range g.pending {
		g.at(until)
	}
	for _, m := range g.members {
		g.at(m.expires)
	}
	if g.state == PreparingRebalance {
		g.at(g.joinBy)
	}
	if !g.syncBy.IsZero() {
		g.at(g.syncBy)
	}
}

// Kill ends a group that is deleted.
func (g *Classic) Kill(now time.Time) { g.become(Dead, now) }

// MemberView is a member as DescribeGroups shows it.
type MemberView struct {
	ID                   string
	Instance             *string
	ClientID, ClientHost string
	Metadata, Assignment []byte
}

// View are the members and the protocol, which are shown only while the group is
// stable.
func (g *Classic) View() (protocol string, members []MemberView) {
	for _, m := range g.inOrder() {
		v := MemberView{ID: m.id, Instance: m.instance, ClientID: m.clientID, ClientHost: m.clientHost}
		if g.state == Stable {
			v.Metadata, v.Assignment = m.metadata(g.protocol), m.assignment
		}
		members = append(members, v)
	}
	if g.state == Stable {
		protocol = g.protocol
	}
	return protocol, members
}

// Subscribed reports whether a member reads the topic. Where that cannot be told
// (another protocol type, metadata that does not parse) the answer is that it
// does.
func (g *Classic) Subscribed(topic string) bool {
	if g.protocolType != ConsumerProtocol {
		return len(g.members) > 0
	}
	for _, m := range g.members {
		for _, p := range m.protocols {
			s, ok := readSubscription(p.Metadata)
			if !ok || slices.Contains(s.Topics, topic) {
				return true
			}
		}
	}
	return false
}
