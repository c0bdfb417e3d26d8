package cep

import (
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/log/vfs"
)

// Operator adds what it knows to each batch of a shard: the values of windows,
// later matches of patterns and scores of models. It owns its state.
type Operator interface {
	// Process takes in a batch and leaves its findings in out, whose Late, Watermark
	// and Low describe the batch's rows. It retains neither.
	Process(b *event.Batch, out *Outbox) error
	// Advance tells that the stream's lowest watermark has reached t, behind the batch of
	// the last Process and what was there before: what only events before t could still
	// ask for may go, and what waits for t happens.
	Advance(t event.Time, out *Outbox) error
	// Snapshot writes the state.
	Snapshot(w *SnapshotWriter) error
	// Restore replaces the state by what Snapshot wrote.
	Restore(r *SnapshotReader) error
}

// Incremental is an Operator whose state can be written piece by piece while it goes
// on, and of which a part that did not change need not be written again.
//
// What is written is a sequence of generations, each of the state of one moment. One
// holds all that has changed since the one before and, whether it has changed or
// not, the next share of everything, round and round. So a generation is needed
// until every part of the state has been written by later ones, and those that are
// needed take about twice the room of the state where each share is as large as
// what has changed.
type Incremental interface {
	Operator
	// Size estimates, in bytes, what has changed since the newest Freeze and all.
	Size() (changed, all int64)
	// Freeze begins a generation: of the state of this moment, with a share of so many
	// parts in FullTurn; a state that has no generation yet writes everything. It
	// returns how far the shares have come in all: a generation is needed as long as
	// the newest one's turn is less than FullTurn ahead of its own. The generation
	// before has been written to its end.
	Freeze(share uint64) (turn uint64)
	// Write appends a piece of the generation to dst, of about so many bytes, and
	// reports whether that was the last one. Other methods may be called in between.
	Write(dst []byte, about int) (_ []byte, done bool)
	// Apply takes a piece in. A new operator that took in the pieces of all generations
	// that are needed, in their order, has the state of the newest one's moment: its
	// Snapshot is that of the operator at Freeze, byte for byte, once Advance told it
	// what that one knew.
	Apply(piece []byte) error
}

// Completer is an Incremental that has something to do once all pieces were applied.
type Completer interface {
	Incremental
	// Complete comes behind the last Apply. After its error the operator is empty.
	Complete() error
}

// Heir is an Operator that can take over what another one of its identity holds, without a
// copy of it.
type Heir interface {
	Operator
	// Adopt takes over the state of another one, its generations and files, and leaves
	// that one of no use. Where it cannot, it changes nothing and returns false.
	Adopt(from Operator) bool
}

// Keeper is an Operator that keeps events in files.
type Keeper interface {
	Operator
	// Keep names a directory of its own, before the first event and before Restore. What
	// is there without a Restore is removed.
	Keep(fsys vfs.FS, dir string)
}

// FullTurn is the share of a state that is all of it.
const FullTurn = 1 << 32

// Outbox is what is known about the rows of one batch beside their columns.
type Outbox struct {
	// Late tells for each row that its time is before Watermark of that row.
	Late []bool
	// Watermark is for each row the watermark before that row's event, of its group
	// where the stream has groups; see Clock.
	Watermark []event.Time
	// Low is for each row the lowest watermark before it: what only events before it
	// could ask for may go.
	Low []event.Time
	// Features are the columns that operators fill, by slot. An absent value is
	// "no value", as the mean of an empty window.
	Features []event.Column
	// Results are what operators found between the rows, by slot; see Result.
	Results []Rows
	// Faults are the values that could not be computed, in no order. The
	// feature is absent there.
	Faults []Fault
	// Marks are the values that are not what they would be without a limit, with
	// the limit as their error, in no order.
	Marks []Fault
	// Skip, if not nil, tells that nobody reads a feature of a row. An operator may
	// then leave the value absent; what it keeps is the same.
	Skip func(slot, row int) bool
}

// Rows is what an operator found between the rows of a batch, in the order of the log.
type Rows struct {
	// After is for each result the row of the batch that it is right behind; -1: it is
	// before the first, as what an idle mark brings about.
	After []int
	Cols  []event.Column
	// Faults are the values that could not be computed: Slot is the column.
	Faults []Fault
}

// Stats is what an operator holds.
type Stats struct {
	Keys, Events int64
	Capped       int64 // keys of which events are left out for a limit
	Bytes        int64 // of memory, reserved blocks included
	Disk         int64 // bytes of events that are kept on disk
}

// KeyStats is what an operator holds of one key.
type KeyStats struct {
	Key    string // for people
	Events int64
	Bytes  int64 // its share of the memory in use
}

// Fault is a feature that could not be computed for a row.
type Fault struct {
	Slot, Row int
	Err       error
}

// Reset empties the outbox for a batch and gives its features their types. It
// keeps the buffers it can reuse.
func (o *Outbox) Reset(features []event.Type) {
	o.Late, o.Watermark, o.Low, o.Faults, o.Marks = o.Late[:0], o.Watermark[:0], o.Low[:0], o.Faults[:0], o.Marks[:0]
	o.Skip = nil
	for i := range o.Results {
		o.Results[i].reset()
	}
	if len(o.Features) != len(features) {
		o.Features = make([]event.Column, len(features))
	}
	for i, t := range features {
		o.Features[i].Reset(t)
	}
}

// Result is the place for an operator's results in a slot, with columns of these types.
func (o *Outbox) Result(slot int, types []event.Type) *Rows {
	for len(o.Results) <= slot {
		o.Results = append(o.Results, Rows{})
	}
	r := &o.Results[slot]
	if len(r.Cols) != len(types) {
		r.Cols = make([]event.Column, len(types))
		for i, t := range types {
			r.Cols[i].Reset(t)
		}
	}
	return r
}

func (r *Rows) reset() {
	r.After, r.Faults = r.After[:0], r.Faults[:0]
	for i := range r.Cols {
		r.Cols[i].Reset(r.Cols[i].Type)
	}
}

// Last is the last row of the batch, -1 where it has none: what Advance brings about is
// behind it.
func (o *Outbox) Last() int { return len(o.Low) - 1 }

// Fault records that a feature could not be computed. The caller appends the
// absent value itself.
func (o *Outbox) Fault(slot, row int, err error) {
	o.Faults = append(o.Faults, Fault{Slot: slot, Row: row, Err: err})
}

// Mark records that a limit shows in a feature of a row.
func (o *Outbox) Mark(slot, row int, limit error) {
	o.Marks = append(o.Marks, Fault{Slot: slot, Row: row, Err: limit})
}

// Skips reports whether nobody reads a feature of a row.
func (o *Outbox) Skips(slot, row int) bool { return o.Skip != nil && o.Skip(slot, row) }

// FaultAt is the fault of a feature at a row, nil where there is none.
func (o *Outbox) FaultAt(slot, row int) error { return find(o.Faults, slot, row) }

// MarkAt is the limit that shows in a feature at a row, nil where none does.
func (o *Outbox) MarkAt(slot, row int) error { return find(o.Marks, slot, row) }

func find(in []Fault, slot, row int) error {
	for i := range in {
		if in[i].Slot == slot && in[i].Row == row {
			return in[i].Err
		}
	}
	return nil
}
