package group

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Config are the rules of all groups; withDefaults gives them Kafka's values,
// where nothing else is said.
type Config struct {
	// MinSession and MaxSession bound the session timeout that a member of a classic
	// group may ask for: 6 s and 30 min.
	MinSession, MaxSession time.Duration
	// InitialDelay is how long an empty group waits for more members before its
	// first generation, again while more come. 100 ms where Kafka has 3 s: consumers
	// that start together are still one rebalance, and one alone does not wait.
	// Negative: not at all.
	InitialDelay time.Duration
	// NewMember is how long a member that has never been in a generation may wait
	// for one: 5 min.
	NewMember time.Duration
	// MaxMembers bounds the members of a group: 10,000. Kafka has no limit.
	MaxMembers int
	// Session and Heartbeat are the session timeout and the heartbeat interval of
	// the consumer protocol: 45 s and 5 s.
	Session, Heartbeat time.Duration
	// Retention is how long offsets of a group without members are kept: 7 days.
	Retention time.Duration
}

// WithDefaults is c with the values that it does not set.
func (c Config) WithDefaults() Config {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&c.MinSession, 6*time.Second)
	set(&c.MaxSession, 30*time.Minute)
	set(&c.InitialDelay, 100*time.Millisecond)
	set(&c.NewMember, 5*time.Minute)
	set(&c.Session, 45*time.Second)
	set(&c.Heartbeat, 5*time.Second)
	set(&c.Retention, 7*24*time.Hour)
	if c.MaxMembers == 0 {
		c.MaxMembers = 10_000
	}
	return c
}

// Ticket is a request that waits for its answer; 0 is none.
type Ticket uint64

// Effects are what a call brought about.
type Effects struct {
	Joined []Joined
	Synced []Synced
	// Store: the group must be stored before the answers leave.
	Store bool
	// Rebalanced: a new rebalance began.
	Rebalanced bool
}

// Joined answers a JoinGroup.
type Joined struct {
	Ticket Ticket
	JoinResult
}

// JoinResult is what JoinGroup is answered with.
type JoinResult struct {
	Err          *kerr.Error
	Generation   int32
	ProtocolType string
	Protocol     string
	Leader       string
	MemberID     string
	// SkipAssignment: the leader must not assign, the generation has its assignment.
	SkipAssignment bool
	Members        []JoinMember // for the leader
}

// JoinMember is a member as the leader sees it.
type JoinMember struct {
	ID       string
	Instance *string
	Metadata []byte
}

// Synced answers a SyncGroup.
type Synced struct {
	Ticket Ticket
	SyncResult
}

// SyncResult is what SyncGroup is answered with.
type SyncResult struct {
	Err          *kerr.Error
	ProtocolType string
	Protocol     string
	Assignment   []byte
}

// Caller is how a request names its member.
type Caller struct {
	MemberID string
	Instance *string // group.instance.id of a static member
	// Generation is the classic protocol's generation or the consumer protocol's
	// member epoch; negative: none.
	Generation int32
}
