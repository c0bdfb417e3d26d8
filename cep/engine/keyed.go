package engine

import (
	"slices"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// TopicKeyed is what the names of keyed streams' topics begin with.
const TopicKeyed = "weir.keyed."

// Keyed is a keyed stream that a program reads: the events of some streams in one
// order for each value of a key, wherever they were logged.
type Keyed struct {
	// Name of its topic, behind TopicKeyed. Two keyed streams of one name have the
	// same sources, keys and fields.
	Name    string
	Sources []KeyedSource // at most one of each stream
}

// KeyedSource is a stream whose events a keyed stream takes in.
type KeyedSource struct {
	Stream *schema.Stream
	Key    []int // the fields that hold the key
	Fields []int // the fields that it takes along, ascending, the key's among them
	// Reads are the features of the stream's own program that come from here; none:
	// the stream's events are only read by those of others.
	Reads []int
}

// KeyedProgram is a Program with operators on keyed streams.
type KeyedProgram interface {
	Program
	// Keyed are those that the program reads.
	Keyed() []Keyed
	// KeyedInstance is a fresh state of the operators for a partition of Keyed()[i].
	KeyedInstance(i int) (KeyedInstance, error)
}

// KeyedInstance is a program's state in one partition of a keyed stream. It belongs
// to one goroutine.
type KeyedInstance interface {
	// Operators are run in this order.
	Operators() []KeyedOperator
	// Features are the types of all features of the program of a source's stream, as
	// its Instance tells them.
	Features(source int) []event.Type
}

// KeyedOperator is an operator on a keyed stream. What it finds are features of the
// source Reader. Events of Over go through Process; where Reader is another source,
// its events go through the operator's Ask.
type KeyedOperator struct {
	Operator
	Over, Reader int // sources
}

// Asker is an operator that events of another stream may ask.
type Asker interface {
	// Ask leaves in out what the operator says of the batch's rows, which do not enter.
	Ask(b *event.Batch, out *cep.Outbox) error
}

// topic is the name of the keyed stream's topic.
func (k *Keyed) topic() string { return TopicKeyed + k.Name }

// source is the index of a stream among the sources, -1 where it is none.
func (k *Keyed) source(stream string) int {
	return slices.IndexFunc(k.Sources, func(s KeyedSource) bool { return s.Stream.Schema.Stream == stream })
}

// keyedOf are the keyed streams of a program.
func keyedOf(p Program) []Keyed {
	if k, ok := p.(KeyedProgram); ok {
		return k.Keyed()
	}
	return nil
}
