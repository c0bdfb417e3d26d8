package main

import (
	"context"
	"math"
	"runtime"
	"time"

	"github.com/weirstream/weir/benchmarks/machine"
	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/window"
	"github.com/weirstream/weir/ingest/event"
)

const batchRows = 1024

// The columns of the events.
const (
	colTime = iota
	colKey
	colAmount // decimal(2), below 1,000.00
	colScore  // double
	colShop   // int64, 1,000 of them
	colLat
	colLon
)

var money = event.Type{Kind: event.Decimal, Scale: 2}

var schema = &event.Schema{Stream: "events", Fields: []event.Field{
	{Name: "time", Type: event.Type{Kind: event.Timestamp}}, {Name: "key", Type: event.Type{Kind: event.Int64}},
	{Name: "amount", Type: money}, {Name: "score", Type: event.Type{Kind: event.Double}}, {Name: "shop", Type: event.Type{Kind: event.Int64}},
	{Name: "lat", Type: event.Type{Kind: event.Double}}, {Name: "lon", Type: event.Type{Kind: event.Double}},
}}

// output is one aggregate of a column; 0: of none.
type output struct {
	aggregate      window.Aggregate
	column, second int
	n              int
	q              float64
}

var sumAndCount = []output{{aggregate: window.Sum, column: colAmount}, {aggregate: window.Count}}

// aggregates are all there are.
var aggregates = []struct {
	name string
	of   output
}{
	{"count", output{aggregate: window.Count}},
	{"sum decimal", output{aggregate: window.Sum, column: colAmount}},
	{"sum double", output{aggregate: window.Sum, column: colScore}},
	{"mean", output{aggregate: window.Mean, column: colAmount}},
	{"rate", output{aggregate: window.Rate}},
	{"variance", output{aggregate: window.Variance, column: colAmount}},
	{"stddev double", output{aggregate: window.Stddev, column: colScore}},
	{"zscore", output{aggregate: window.ZScore, column: colAmount}},
	{"first", output{aggregate: window.First, column: colAmount}},
	{"last", output{aggregate: window.Last, column: colAmount}},
	{"lag", output{aggregate: window.Lag, column: colAmount, n: 1}},
	{"min", output{aggregate: window.Min, column: colAmount}},
	{"max", output{aggregate: window.Max, column: colAmount}},
	{"distinct", output{aggregate: window.Distinct, column: colShop}},
	{"is_new", output{aggregate: window.IsNew, column: colShop}},
	{"quantile", output{aggregate: window.Quantile, column: colAmount, q: 0.99}},
	{"speed", output{aggregate: window.Speed, column: colLat, second: colLon}},
	{"topk", output{aggregate: window.TopK, column: colShop, n: 3}},
	{"entropy", output{aggregate: window.Entropy, column: colShop}},
}

// workload is one operator and its events: one event each nanosecond, of keys at
// random.
type workload struct {
	outputs []output // of each length
	lengths []time.Duration
	keys    int
	full    int // events until all windows are full
	behind  int // every second event is up to so many behind
}

// driver makes events and has an operator process them.
type driver struct {
	w       workload
	op      *window.Sliding
	types   []event.Type
	columns []int
	b       event.Batch
	out     cep.Outbox
	n       uint64 // events made
	clock   *cep.Clock
}

func newDriver(w workload) (*driver, error) {
	d := &driver{w: w, clock: cep.NewClock(time.Duration(w.behind), nil, 0), columns: []int{colKey}}
	cfg := window.Config{Keys: []int{colKey}}
	values := map[int]int{} // by column
	valueOf := func(column int) int {
		if column == 0 {
			return -1
		}
		v, ok := values[column]
		if !ok {
			v = len(cfg.Values)
			values[column] = v
			cfg.Values = append(cfg.Values, window.Value{Type: schema.Fields[column].Type, Read: reader(column)})
			d.columns = append(d.columns, column)
		}
		return v
	}
	for _, length := range w.lengths {
		for _, o := range w.outputs {
			v := valueOf(o.column)
			cfg.Outputs = append(cfg.Outputs, window.Output{Slot: len(d.types), Extent: window.Extent{Length: length}, Aggregate: o.aggregate,
				Value: v, Value2: max(0, valueOf(o.second)), N: o.n, Q: o.q})
			d.types = append(d.types, window.ResultType(o.aggregate, schema.Fields[o.column].Type))
		}
	}
	op, err := window.New(cfg)
	d.op = op
	return d, err
}

func reader(column int) func(*event.Batch, int) (uint64, bool) {
	if schema.Fields[column].Type.Kind == event.Double {
		return func(b *event.Batch, row int) (uint64, bool) {
			return math.Float64bits(b.Cols[column].Double[row]), true
		}
	}
	return func(b *event.Batch, row int) (uint64, bool) { return uint64(b.Cols[column].Int64[row]), true }
}

// mix is the finaliser of SplitMix64: what is random about event n follows from n.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// make makes the next batch.
func (d *driver) make() {
	b := &d.b
	b.Reset(schema, d.columns)
	d.out.Reset(d.types)
	for i := range batchRows {
		h := mix(d.n)
		d.n++
		t := event.Time(d.n)
		if d.w.behind > 0 && i%2 == 0 {
			t -= event.Time(mix(h+1) % uint64(d.w.behind))
		}
		b.Offset = append(b.Offset, int64(d.n))
		b.Time = append(b.Time, t)
		for _, column := range d.columns {
			c := &b.Cols[column]
			switch column {
			case colKey:
				c.AppendInt64(int64(h % uint64(d.w.keys)))
			case colAmount:
				c.AppendInt64(int64(mix(h) % 100_000))
			case colShop:
				c.AppendInt64(int64(mix(h) % 1000))
			case colScore:
				c.AppendDouble(float64(mix(h)%100_000) / 1024)
			default:
				c.AppendDouble(float64(mix(h^uint64(column))%180_000)/1000 - 90)
			}
		}
	}
	d.clock.Arrive(b, &d.out)
}

// batch makes a batch and gives the CPU time of its processing.
func (d *driver) batch() (time.Duration, error) {
	d.make()
	before, err := machine.CPUTime()
	if err != nil {
		return 0, err
	}
	if err := d.op.Process(&d.b, &d.out); err != nil {
		return 0, err
	}
	after, err := machine.CPUTime()
	return after - before, err
}

// round processes batches for about so much CPU time.
func (d *driver) round(ctx context.Context, long time.Duration) (figures, error) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var spent time.Duration
	events := 0
	for spent < long {
		if ctx.Err() != nil {
			return figures{}, ctx.Err()
		}
		took, err := d.batch()
		if err != nil {
			return figures{}, err
		}
		spent, events = spent+took, events+batchRows
	}
	runtime.ReadMemStats(&after)
	s := d.op.Stats()
	return figures{cpu: float64(spent) / float64(events), allocs: float64(after.Mallocs-before.Mallocs) / float64(events),
		bytesPerKey: float64(s.Bytes) / float64(max(1, s.Keys))}, nil
}
