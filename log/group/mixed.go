package group

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Members of a Consumer that speak the classic protocol. To them the member epoch is
// the generation, and nobody leads: the broker assigns. A JoinGroup is a heartbeat
// that tells everything; what it was given the member gets by SyncGroup, and a
// Heartbeat tells it to join again where there is something for it to do. It has the
// rebalance timeout for each of these steps.

// classicMember is what a group knows of such a member in addition.
type classicMember struct {
	session   time.Duration
	protocols []Protocol // as it joined
	due       time.Time  // when it must have joined again or synced; zero: need not
}

func (m *consumerMember) usesClassic() bool { return m.classic != nil }

// offers is the protocol by which a member is answered: the first of its own that
// all members of the classic protocol support.
func (g *Consumer) offers(m *consumerMember) string {
	common := g.commonProtocols(m.id)
	for _, p := range m.classic.protocols {
		if common == nil || common[p.Name] {
			return p.Name
		}
	}
	return m.classic.protocols[0].Name
}

// commonProtocols are those that all members of the classic protocol support, one of
// them left out; nil where there is no other.
func (g *Consumer) commonProtocols(but string) (common map[string]bool) {
	for id, m := range g.members {
		if id == but || !m.usesClassic() {
			continue
		}
		mine := map[string]bool{}
		for _, p := range m.classic.protocols {
			if common == nil || common[p.Name] {
				mine[p.Name] = true
			}
		}
		common = mine
	}
	return common
}

// Join takes a JoinGroup, which is answered at once.
func (g *Consumer) Join(now time.Time, r JoinRequest, topics Topics) (JoinResult, ConsumerEffects) {
	refuse := func(err *kerr.Error, id string) (JoinResult, ConsumerEffects) {
		return JoinResult{Err: err, Generation: -1, MemberID: id}, g.take()
	}
	claim, err := g.acceptable(&r, topics)
	if err != nil {
		return refuse(err, r.MemberID)
	}
	if r.MemberID == "" && r.Instance == nil && r.RequireKnownID {
		return refuse(kerr.MemberIDRequired, r.NewID)
	}
	m, err := g.joining(&r)
	if err != nil {
		return refuse(err, r.MemberID)
	}
	resubscribed := g.subscribeClassic(m, &r, &claim)
	g.members[m.id] = m
	if m.instance != nil {
		g.static[*m.instance] = m.id
	}
	m.expires, m.classic.due = g.at(now.Add(g.session(m))), g.at(now.Add(m.rebalance))
	g.advance(now, topics, resubscribed)
	g.reconcile(now, m, claim.owned)
	return JoinResult{Generation: m.epoch, ProtocolType: ConsumerProtocol, Protocol: g.offers(m), MemberID: m.id}, g.take()
}

// acceptable is what can be said of a JoinGroup before its member is looked at.
func (g *Consumer) acceptable(r *JoinRequest, topics Topics) (claim consumerClaim, err *kerr.Error) {
	common := g.commonProtocols(r.MemberID)
	switch {
	case r.Session < g.cfg.MinSession || r.Session > g.cfg.MaxSession:
		return claim, kerr.InvalidSessionTimeout
	case g.members[r.MemberID] == nil && len(g.members) >= g.cfg.MaxMembers && (r.Instance == nil || g.members[g.static[*r.Instance]] == nil):
		return claim, kerr.GroupMaxSizeReached
	case r.ProtocolType != ConsumerProtocol || len(r.Protocols) == 0 || len(r.Protocols) > maxProtocols,
		common != nil && !slices.ContainsFunc(r.Protocols, func(p Protocol) bool { return common[p.Name] }):
		return claim, kerr.InconsistentGroupProtocol
	}
	claim, ok := readClaim(r.Protocols, topics)
	if !ok {
		return claim, kerr.InconsistentGroupProtocol
	}
	return claim, nil
}

// joining is the member that a JoinGroup is of: one that is there, a new one, or one
// that takes the place of its static predecessor, of whichever protocol that was.
func (g *Consumer) joining(r *JoinRequest) (*consumerMember, *kerr.Error) {
	if r.Instance != nil && r.MemberID == "" {
		if old := g.members[g.static[*r.Instance]]; old != nil {
			return g.succeed(old, r.NewID), nil
		}
		return g.newMember(&Beat{MemberID: r.NewID, Instance: r.Instance}), nil
	}
	if r.Instance != nil {
		return g.classicCaller(Caller{MemberID: r.MemberID, Instance: r.Instance})
	}
	id := r.MemberID
	if id == "" {
		id = r.NewID
	}
	m := g.members[id]
	switch {
	case m == nil:
		return g.newMember(&Beat{MemberID: id}), nil
	case !m.usesClassic():
		return nil, kerr.UnknownMemberID
	}
	return m, nil
}

// subscribeClassic takes over what a JoinGroup says of its member, and reports whether
// that asks for another assignment.
func (g *Consumer) subscribeClassic(m *consumerMember, r *JoinRequest, claim *consumerClaim) (changed bool) {
	was := m.classic
	changed = g.members[m.id] == nil || m.regex != "" || m.assignor != "" || !slices.Equal(m.topics, claim.topics)
	same := was != nil && was.session == r.Session && slices.EqualFunc(was.protocols, r.Protocols, func(a, b Protocol) bool {
		return a.Name == b.Name && bytes.Equal(a.Metadata, b.Metadata)
	})
	if changed || !same || m.rebalance != r.Rebalance || m.clientID != r.ClientID || m.clientHost != r.ClientHost {
		m.changed, g.out.Store = true, true
	}
	m.classic = &classicMember{session: r.Session, protocols: r.Protocols}
	m.topics, m.rack, m.rebalance = claim.topics, claim.rack, r.Rebalance
	m.regex, m.pattern, m.matched, m.assignor = "", nil, nil, ""
	m.clientID, m.clientHost = r.ClientID, r.ClientHost
	return changed
}

// classicCaller is the member of the classic protocol that a request names.
func (g *Consumer) classicCaller(c Caller) (*consumerMember, *kerr.Error) {
	if err := c.unlike(g.static); err != nil {
		return nil, err
	}
	m := g.members[c.MemberID]
	if m == nil || !m.usesClassic() {
		return nil, kerr.UnknownMemberID
	}
	return m, nil
}

// Sync takes a SyncGroup: what its member was given when it joined.
func (g *Consumer) Sync(now time.Time, r SyncRequest, topics Topics) (SyncResult, ConsumerEffects) {
	m, err := g.current(r.Caller)
	if err == nil && (r.ProtocolType != nil && *r.ProtocolType != ConsumerProtocol ||
		r.Protocol != nil && !slices.ContainsFunc(m.classic.protocols, func(p Protocol) bool { return p.Name == *r.Protocol })) {
		err = kerr.InconsistentGroupProtocol
	}
	if err != nil {
		return SyncResult{Err: err}, g.take()
	}
	m.expires = g.at(now.Add(g.session(m)))
	g.advance(now, topics, false)
	if m.epoch < g.epoch && m.state != memberUnrevoked {
		m.classic.due = g.at(now.Add(m.rebalance))
		return SyncResult{Err: kerr.RebalanceInProgress}, g.take()
	}
	m.classic.due = time.Time{}
	protocol := r.Protocol
	if protocol == nil {
		offered := g.offers(m)
		protocol = &offered
	}
	return SyncResult{ProtocolType: ConsumerProtocol, Protocol: *protocol, Assignment: assignmentOf(m.assigned, g.names(), m.classic.metadata())}, g.take()
}

func (m *classicMember) metadata() []byte { return m.protocols[0].Metadata }

// current is classicCaller, of the member's epoch.
func (g *Consumer) current(c Caller) (*consumerMember, *kerr.Error) {
	m, err := g.classicCaller(c)
	if err == nil && c.Generation != m.epoch {
		err = kerr.IllegalGeneration
	}
	return m, err
}

// Alive takes a Heartbeat.
func (g *Consumer) Alive(now time.Time, c Caller, topics Topics) (*kerr.Error, ConsumerEffects) {
	m, err := g.current(c)
	if err != nil {
		return err, g.take()
	}
	m.expires = g.at(now.Add(g.session(m)))
	g.advance(now, topics, false)
	if m.epoch == g.epoch && m.state != memberUnrevoked && (m.state != memberUnreleased || g.waits(m)) {
		return nil, g.take()
	}
	if m.classic.due.IsZero() {
		m.classic.due = g.at(now.Add(m.rebalance))
	}
	return kerr.RebalanceInProgress, g.take()
}

// waits reports whether another member has something of what m shall have.
func (g *Consumer) waits(m *consumerMember) bool {
	for x := range m.target {
		if owner, taken := g.owners[x]; taken && owner != m.id {
			return true
		}
	}
	return false
}

// Leave takes a LeaveGroup: members of the classic protocol by their id, static ones
// of either by their instance id alone.
func (g *Consumer) Leave(leavers []Caller) ([]*kerr.Error, ConsumerEffects) {
	errs := make([]*kerr.Error, len(leavers))
	gone := false
	for i, c := range leavers {
		var m *consumerMember
		if c.MemberID == "" && c.Instance != nil {
			if m = g.members[g.static[*c.Instance]]; m == nil {
				errs[i] = kerr.UnknownMemberID
			}
		} else {
			m, errs[i] = g.classicCaller(c)
		}
		if errs[i] == nil {
			g.drop(m)
			gone = true
		}
	}
	if gone {
		g.bump()
	}
	return errs, g.take()
}

// OnlyClassic reports whether there are members and all of them speak the classic
// protocol: then the group is to become a classic one.
func (g *Consumer) OnlyClassic() bool {
	for m := range maps.Values(g.members) {
		if !m.usesClassic() {
			return false
		}
	}
	return len(g.members) > 0
}
