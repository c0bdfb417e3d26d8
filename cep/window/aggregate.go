package window

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// ErrOverflow is the fault of a sum that does not fit 64 bits.
var ErrOverflow = errors.New("overflow: the window's sum does not fit 64 bits")

// ErrCapped is the mark of a value that leaves out events, because the key has
// more than Config.MaxEvents.
var ErrCapped = errors.New("capped: the key has more events than are kept, the oldest are left out")

// Aggregate is what a window says of its events. n is the number of its events, or
// of those that have the value where there is one.
type Aggregate uint8

// The aggregates. Where a window has no event with the value, Count, Sum, Distinct
// and Entropy are 0, TopK is an empty list, and the others have no value.
const (
	Count    Aggregate = iota + 1 // n, an int64; a Value is optional
	Sum                           // of a number, in its type
	Mean                          // of a number, a double
	Min                           // of a number, a timestamp or a bool, in its type
	Max                           // likewise
	Variance                      // of a number, a double: the sample's (n-1), from n = 2 on
	Stddev                        // the square root of Variance
	ZScore                        // (the current event's value - Mean) / Stddev, where Stddev is above 0
	Distinct                      // the number of different values, an int64
	First                         // the value of the earliest event that has one
	Last                          // the value of the latest event that has one
	Lag                           // the value Output.N events before the current one
	Rate                          // n, or the Sum where there is a Value, per second of the window
	Quantile                      // Output.Q of a number, a double within 0.8 % of the value at that rank
	TopK                          // the Output.N most frequent values, a list, most frequent first
	Entropy                       // of the values' frequencies, in bits, a double
	Speed                         // km/h between the two latest places (Value and Value2: degrees)
	IsNew                         // a bool: no other event of the window has the current event's value
)

var aggregateNames = [...]string{Count: "count", Sum: "sum", Mean: "mean", Min: "min", Max: "max", Variance: "variance", Stddev: "stddev",
	ZScore: "zscore", Distinct: "distinct", First: "first", Last: "last", Lag: "lag", Rate: "rate", Quantile: "quantile", TopK: "topk",
	Entropy: "entropy", Speed: "speed", IsNew: "is_new"}

// String is the aggregate's name in rules.
func (a Aggregate) String() string {
	if int(a) < len(aggregateNames) && aggregateNames[a] != "" {
		return aggregateNames[a]
	}
	return fmt.Sprintf("aggregate %d", uint8(a))
}

// readsCurrent reports whether an aggregate is of the current event's values, too.
func (a Aggregate) readsCurrent() bool { return a == ZScore || a == IsNew }

// Value is an expression over an event that is aggregated. Read returns the bits
// of an int64 (an unscaled decimal, nanoseconds), of a float64, or 0 and 1 for a
// bool; ReadBytes, of a string or bytes, what is valid until the next call. Both
// return false where the event has no such value: it then counts for nothing.
type Value struct {
	Type      event.Type
	Nullable  bool // Read may return false
	Read      func(b *event.Batch, row int) (uint64, bool)
	ReadBytes func(b *event.Batch, row int) ([]byte, bool)
}

func (v *Value) isText() bool { return v.Type.Kind == event.String || v.Type.Kind == event.Bytes }

func (v *Value) isNumber() bool {
	return v.Type.Kind == event.Int64 || v.Type.Kind == event.Decimal || v.Type.Kind == event.Double
}

// Extent is which events of a key a window holds for an event at time t. Exactly
// one of Length, Events and Gap is above 0. Events of equal time are ordered as
// they are logged.
type Extent struct {
	// Length: those with a time in (t-Delay-Length, t-Delay].
	Length time.Duration
	// Events: so many of the latest with a time of at most t-Delay.
	Events int
	// Gap: from the latest with a time of at most t-Delay, which is no more than
	// Gap before that, back to the first that no more than Gap lie between any two.
	Gap   time.Duration
	Delay time.Duration // 0 or more
	// WithoutCurrent leaves the current event out.
	WithoutCurrent bool
}

func (e Extent) check() error {
	set := 0
	for _, is := range []bool{e.Length != 0, e.Events != 0, e.Gap != 0} {
		if is {
			set++
		}
	}
	switch {
	case set != 1:
		return errors.New("window: expected one of a length, a number of events and a gap")
	case e.Length < 0 || e.Events < 0 || e.Gap < 0:
		return errors.New("window: a length, number of events or gap that is not above 0")
	case e.Delay < 0:
		return fmt.Errorf("window: delay %v is below 0", e.Delay)
	case e.Length > maxSpan || e.Delay > maxSpan || e.Gap > maxSpan:
		return fmt.Errorf("window: a span above %v", maxSpan)
	case e.Events > maxEvents:
		return fmt.Errorf("window: %d events where %d are the most", e.Events, maxEvents)
	}
	return nil
}

const (
	maxSpan   = 100 * 366 * 24 * time.Hour
	maxEvents = 1 << 24
	// DefaultMaxEvents is Config.MaxEvents where it is 0.
	DefaultMaxEvents = 1 << 22
)

// Output is one window that somebody reads.
type Output struct {
	Slot      int // of cep.Outbox.Features; its type is ResultType
	Extent    Extent
	Aggregate Aggregate
	Value     int     // index of Config.Values; -1: none, for Count and Rate
	Value2    int     // of Speed: the longitude
	N         int     // of Lag and TopK, above 0
	Q         float64 // of Quantile, in [0, 1]
}

// Config is all windows over one stream by one key with one filter.
type Config struct {
	Keys    []int                              // indexes of the key fields; none: all events have one key
	AskKeys []int                              // of the events that Ask takes; of the same types
	Filter  func(b *event.Batch, row int) bool // nil: every event
	Values  []Value                            // what is aggregated
	Outputs []Output                           // at least one
	// MaxEvents bounds the events held of a key: beyond it the oldest are left out
	// of all windows, and what is read of such windows is marked ErrCapped. It is
	// part of what a window means. 0: DefaultMaxEvents.
	MaxEvents int
}

// reads tells whether an output is an aggregate of an extent and a value.
func (c *Config) reads(a Aggregate, x Extent, value int) bool {
	return slices.ContainsFunc(c.Outputs, func(o Output) bool { return o.Aggregate == a && o.Extent == x && o.Value == value })
}

// readsAlike is reads whatever the outputs say of the current event.
func (c *Config) readsAlike(a Aggregate, x Extent, value int) bool {
	x.WithoutCurrent = false
	if c.reads(a, x, value) {
		return true
	}
	x.WithoutCurrent = true
	return c.reads(a, x, value)
}

// ResultType is the type of an aggregate's feature column.
func ResultType(a Aggregate, value event.Type) event.Type {
	switch a {
	case Count, Distinct:
		return event.Type{Kind: event.Int64}
	case Mean, Variance, Stddev, ZScore, Rate, Quantile, Entropy, Speed:
		return event.Type{Kind: event.Double}
	case IsNew:
		return event.Type{Kind: event.Bool}
	case TopK:
		return event.ListOf(value)
	}
	return value
}

// checkOutput refuses what the aggregate cannot be of.
func (c *Config) checkOutput(o *Output) error {
	if err := o.Extent.check(); err != nil {
		return err
	}
	if o.Aggregate < Count || o.Aggregate > IsNew {
		return fmt.Errorf("window: no such aggregate: %d", o.Aggregate)
	}
	if o.Value == -1 && (o.Aggregate == Count || o.Aggregate == Rate) {
		return nil
	}
	if o.Value < 0 || o.Value >= len(c.Values) {
		return fmt.Errorf("window: %s reads value %d of %d", o.Aggregate, o.Value, len(c.Values))
	}
	v := &c.Values[o.Value]
	wrong := false
	switch o.Aggregate {
	case Sum, Mean, Variance, Stddev, ZScore, Rate, Quantile:
		wrong = !v.isNumber()
	case Min, Max:
		wrong = v.isText()
	case Speed:
		wrong = v.Type.Kind != event.Double || o.Value2 < 0 || o.Value2 >= len(c.Values) || c.Values[o.Value2].Type.Kind != event.Double
	}
	switch {
	case wrong:
		return fmt.Errorf("window: no %s of a value of type %v", o.Aggregate, v.Type)
	case (o.Aggregate == Lag || o.Aggregate == TopK) && o.N <= 0:
		return fmt.Errorf("window: %s of %d", o.Aggregate, o.N)
	case o.Aggregate == Quantile && !(o.Q >= 0 && o.Q <= 1):
		return fmt.Errorf("window: quantile %v is not in [0, 1]", o.Q)
	}
	return nil
}
