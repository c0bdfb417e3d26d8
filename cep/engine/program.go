package engine

import (
	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// Program is what shards run. It is shared by all of them and safe for use by
// several goroutines.
type Program interface {
	// ID is a hash of everything that decides: it is part of each decision.
	ID() string
	// Instance is a fresh, empty state of the program for one shard of a stream.
	Instance(s *schema.Stream) (Instance, error)
}

// Instance is a program's state in one shard. It belongs to the shard's goroutine.
type Instance interface {
	// Needs are the indexes of the fields to decode.
	Needs() []int
	// Features are the types of the columns that the operators fill.
	Features() []event.Type
	// Operators are run in this order on each batch, before Decide.
	Operators() []Operator
	// Decide appends what the program finds in a batch to dst, by row and within
	// a row in program order. An error stops the shard: a rule that fails on an
	// event is no such error but the program's to count.
	Decide(b *event.Batch, out *cep.Outbox, dst []Finding) ([]Finding, error)
}

// Preparer is an Instance that looks at a batch before the operators run on it, to
// tell in out.Skip which of their values nobody will read.
type Preparer interface {
	Prepare(b *event.Batch, out *cep.Outbox)
}

// Operator is an operator with its canonical identity: two operators with equal
// identities have the same state after the same events.
type Operator struct {
	Identity string
	Name     string   // for people: no other operator of the instance has it
	Rules    []string // that read it
	cep.Operator
}

// Finding is one rule that fired on one row.
type Finding struct {
	Row      int
	Rule     string
	Shadow   bool   // decided and recorded apart, without effect
	Action   string // allow | alert | review | decline
	Severity string
	Score    float64
	Message  string
	Values   event.Values // what the rule rests on, by name as written
}
