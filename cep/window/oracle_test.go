package window

import (
	"math/big"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// oracle answers by recomputing from scratch over everything that ever entered:
// the meaning of doc.go written down once more, as plainly as possible.
type oracle struct {
	cfg      Config
	lateness time.Duration
	greatest event.Time
	held     map[string][]entered
}

type entered struct {
	t      event.Time
	values []any // int64, float64, or nil where absent
}

// answer is what the oracle says of one output: nil is no value.
type answer struct {
	i        *big.Int
	f        *float64
	overflow bool
}

func newOracle(cfg Config, lateness time.Duration) *oracle {
	return &oracle{cfg: cfg, lateness: lateness, greatest: event.MinTime, held: map[string][]entered{}}
}

// row takes in one event, with its key (nil: none) and whether it passes the
// filter, and answers for each output.
func (o *oracle) row(key *string, t event.Time, passes bool, values []any) []answer {
	wm := event.MinTime
	if o.greatest != event.MinTime {
		wm = o.greatest.Sub(o.lateness)
	}
	late := t < wm
	o.greatest = max(o.greatest, t)
	out := make([]answer, len(o.cfg.Outputs))
	if key == nil {
		return out
	}
	if passes && !late {
		o.held[*key] = append(o.held[*key], entered{t, values})
	}
	for i, c := range o.cfg.Outputs {
		lo := max(t, wm).Sub(c.Length)
		var in []entered
		for _, e := range o.held[*key] {
			if e.t > lo && e.t <= t {
				in = append(in, e)
			}
		}
		out[i] = o.aggregate(c, in)
	}
	return out
}

func (o *oracle) aggregate(c Output, in []entered) answer {
	if c.Aggregate == Count {
		return answer{i: big.NewInt(int64(len(in)))}
	}
	v := o.cfg.Values[c.Value]
	n := int64(0)
	ints := new(big.Int)
	exact := new(big.Float).SetPrec(4000)
	for _, e := range in {
		switch x := e.values[c.Value].(type) {
		case int64:
			ints.Add(ints, big.NewInt(x))
			n++
		case float64:
			exact.Add(exact, new(big.Float).SetPrec(4000).SetFloat64(x))
			n++
		}
	}
	if c.Aggregate == Mean && n == 0 {
		return answer{}
	}
	if v.Type.Kind == event.Double {
		f, _ := exact.Float64()
		if c.Aggregate == Mean {
			f /= float64(n)
		}
		return answer{f: &f}
	}
	if c.Aggregate == Mean {
		// float64 of a sum beyond 2^53 rounds first, as documented.
		f, _ := new(big.Float).SetInt(ints).Float64()
		f /= float64(event.Pow10(int(v.Type.Scale))) * float64(n)
		return answer{f: &f}
	}
	return answer{i: ints, overflow: !ints.IsInt64()}
}

// watermarks fills Late and Watermark as the engine does.
func watermarks(out *cep.Outbox, greatest event.Time, lateness time.Duration, times []event.Time) event.Time {
	for _, t := range times {
		greatest = out.Arrive(t, greatest, lateness)
	}
	return greatest
}
