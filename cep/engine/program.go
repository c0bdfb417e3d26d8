package engine

import (
	"fmt"
	"strings"

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

// Stepping is a Program that can be in force in part while its windows are made.
type Stepping interface {
	Program
	// Over is the program that decides until then, in the place of one before: it has the
	// operators of that one, and nothing else that has state. Its ID is this one's, Over,
	// and that of the one before, and it follows from these two. It is nil where this one
	// lacks nothing, or nothing is won.
	Over(before Program) (Program, error)
}

// Over stands between the IDs of two programs in that of the one that decides until the
// first takes over from the second.
const Over = "+"

// over is the program that decides while what p lacks is made, in the place of one before;
// nil where that one does.
func (e *Engine) over(p, before Program) Program {
	step, ok := p.(Stepping)
	if !ok {
		return nil
	}
	out, err := step.Over(before)
	if err != nil {
		e.logger.Warn("the rules that need no new windows wait for those that do", "program", p.ID(), "err", err)
		return nil
	}
	return out
}

// programOf is the program of an ID that decided, from the catalogue.
func (e *Engine) programOf(id string) (Program, error) {
	first, rest, over := strings.Cut(id, Over)
	p, err := e.opts.Programs(first)
	if err != nil || !over {
		return p, err
	}
	before, err := e.programOf(rest)
	if err != nil {
		return nil, err
	}
	if step, ok := p.(Stepping); ok {
		if p, err = step.Over(before); err != nil {
			return nil, err
		}
		if p != nil && p.ID() == id {
			return p, nil
		}
	}
	return nil, fmt.Errorf("the program %s does not follow from those that it is made of", id)
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
