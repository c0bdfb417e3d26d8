package anomaly

import (
	"fmt"
	"sync"
)

// Key is a partition of a topic.
type Key struct {
	Topic     string
	Partition int32
}

func (k Key) String() string { return fmt.Sprintf("%s/%d", k.Topic, k.Partition) }

// Outcome is how an operation ended.
type Outcome uint8

// The outcomes of an operation. The zero one is the careful one.
const (
	Info Outcome = iota // nobody knows
	OK
	Fail // it certainly did not happen
)

func (o Outcome) String() string { return [...]string{"info", "ok", "fail"}[o] }

// NoOffset is an offset that is not known.
const NoOffset = int64(-1)

// Record is a value and where it lies.
type Record struct {
	Offset int64
	Value  int64
	// Source is the value that this one was made of by a consume-transform-produce
	// transaction; 0: none.
	Source int64
}

// Step is one send or the part of one poll that concerns one partition.
type Step struct {
	Send    bool
	Key     Key
	Records []Record
}

// Op is one operation of a process. A process does one at a time, but for sends
// outside transactions, which are one Op for each record and may overlap.
type Op struct {
	Process            int
	Outcome            Outcome
	Invoked, Completed int64 // distinct, growing with time
	Steps              []Step
	// Uncommitted says that the polls may see what is not committed.
	Uncommitted bool
	// Assign, where it is not nil, makes this the change of what the process
	// polls: the offset at which polling a partition begins, NoOffset where that is
	// not known. Partitions that are not in it are not polled any more.
	Assign map[Key]int64
	// Group is the consumer group as whose member the process polls and commits.
	Group string
	// Committed are the positions that the operation committed: those of a
	// transaction in its inputs, or of a group.
	Committed map[Key]int64
	// Polled is when the polls ended of an operation that went on after them; 0: at
	// its end.
	Polled int64
	// Down says that the broker was down: of what was asked of it before, nothing
	// happens later.
	Down bool
}

func (op *Op) sends() []Step { return op.steps(true) }
func (op *Op) polls() []Step { return op.steps(false) }

func (op *Op) steps(send bool) []Step {
	var some []Step
	for _, s := range op.Steps {
		if s.Send == send {
			some = append(some, s)
		}
	}
	return some
}

// History is operations in the order of their completion.
type History []Op

// Recorder collects a history from many goroutines.
type Recorder struct {
	mu      sync.Mutex
	time    int64
	history History
}

// Invoke is the time at which an operation begins.
func (r *Recorder) Invoke() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.time++
	return r.time
}

// now is the time of the last moment that was recorded.
func (r *Recorder) now() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.time
}

// Complete records an operation that began at op.Invoked and ends now.
func (r *Recorder) Complete(op Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.time++
	op.Completed = r.time
	r.history = append(r.history, op)
}

// History is what was recorded so far.
func (r *Recorder) History() History {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.history[:len(r.history):len(r.history)]
}
