package cep

import (
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// Operator adds what it knows to each batch of a shard: the values of windows,
// later matches of patterns and scores of models. It owns its state.
type Operator interface {
	// Process takes in a batch and leaves its findings in out, whose Late and
	// Watermark describe the batch's rows. It retains neither.
	Process(b *event.Batch, out *Outbox) error
	// Advance tells that the stream's watermark has reached t: what only events
	// before t could still ask for may go.
	Advance(t event.Time, out *Outbox) error
	// Snapshot writes the state.
	Snapshot(w *SnapshotWriter) error
	// Restore replaces the state by what Snapshot wrote.
	Restore(r *SnapshotReader) error
}

// Outbox is what is known about the rows of one batch beside their columns.
type Outbox struct {
	// Late tells for each row that its time is before Watermark of that row.
	Late []bool
	// Watermark is for each row the stream's watermark before that row's event:
	// the greatest event time before it less the stream's lateness.
	Watermark []event.Time
	// Features are the columns that operators fill, by slot. An absent value is
	// "no value", as the mean of an empty window.
	Features []event.Column
	// Faults are the values that could not be computed, in no order. The
	// feature is absent there.
	Faults []Fault
}

// Fault is a feature that could not be computed for a row.
type Fault struct {
	Slot, Row int
	Err       error
}

// Reset empties the outbox for a batch and gives its features their types. It
// keeps the buffers it can reuse.
func (o *Outbox) Reset(features []event.Type) {
	o.Late, o.Watermark, o.Faults = o.Late[:0], o.Watermark[:0], o.Faults[:0]
	if len(o.Features) != len(features) {
		o.Features = make([]event.Column, len(features))
	}
	for i, t := range features {
		o.Features[i].Reset(t)
	}
}

// Arrive describes the next row, whose event has time t, where greatest is the
// greatest event time before it (MinTime: none), and returns the new greatest.
func (o *Outbox) Arrive(t, greatest event.Time, lateness time.Duration) event.Time {
	wm := Watermark(greatest, lateness)
	o.Watermark = append(o.Watermark, wm)
	o.Late = append(o.Late, t < wm)
	return max(greatest, t)
}

// Watermark is the watermark of a stream whose greatest event time is given.
func Watermark(greatest event.Time, lateness time.Duration) event.Time {
	if greatest == event.MinTime {
		return event.MinTime
	}
	return greatest.Sub(lateness)
}

// Fault records that a feature could not be computed. The caller appends the
// absent value itself.
func (o *Outbox) Fault(slot, row int, err error) {
	o.Faults = append(o.Faults, Fault{Slot: slot, Row: row, Err: err})
}

// FaultAt is the fault of a feature at a row, nil where there is none.
func (o *Outbox) FaultAt(slot, row int) error {
	for i := range o.Faults {
		if o.Faults[i].Slot == slot && o.Faults[i].Row == row {
			return o.Faults[i].Err
		}
	}
	return nil
}
