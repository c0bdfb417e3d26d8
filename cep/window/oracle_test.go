package window

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// oracle answers by recomputing from scratch over everything that ever entered:
// the meaning of doc.go written down once more, as plainly as possible.
type oracle struct {
	cfg      Config
	lateness time.Duration
	idle     time.Duration // above 0: groups have watermarks of their own
	greatest event.Time
	groups   map[int64]event.Time
	held     map[string][]entered // in the order of time, then of the log
	lost     map[string]event.Time
	seq      int
}

type entered struct {
	seq    int
	t      event.Time
	values []any // int64, float64, bool, string, or nil where absent
}

// answer is what the oracle says of one output: value nil is no value. near allows
// a relative error of that much.
type answer struct {
	value    any
	near     float64
	overflow bool
	capped   bool
}

func newOracle(cfg Config, lateness time.Duration) *oracle {
	return &oracle{cfg: cfg, lateness: lateness, greatest: event.MinTime, groups: map[int64]event.Time{}, held: map[string][]entered{}, lost: map[string]event.Time{}}
}

// row takes in one event, with its key (nil: none) and whether it passes the
// filter, and answers for each output. group is that of its watermark.
func (o *oracle) row(key *string, group int64, t event.Time, passes bool, values []any) []answer {
	wm := o.watermark(group)
	late := t < wm
	if last, ok := o.groups[group]; !ok || t > last {
		o.groups[group] = t
	}
	o.greatest = max(o.greatest, t)
	out := make([]answer, len(o.cfg.Outputs))
	if key == nil {
		return out
	}
	o.seq++
	current := -1
	if passes && !late {
		o.enter(*key, entered{o.seq, t, values})
		if slices.ContainsFunc(o.held[*key], func(e entered) bool { return e.seq == o.seq }) {
			current = o.seq
		}
	}
	for i := range o.cfg.Outputs {
		c := &o.cfg.Outputs[i]
		in := o.window(c.Extent, o.held[*key], t, wm, late, current)
		out[i] = o.aggregate(c, in, t, current, values)
		if lost, ok := o.lost[*key]; ok && c.Extent.Length > 0 && !late {
			out[i].capped = lost > t.Sub(c.Extent.Delay).Sub(c.Extent.Length)
		}
	}
	return out
}

func (o *oracle) watermark(group int64) event.Time {
	if o.greatest == event.MinTime {
		return event.MinTime
	}
	if o.idle == 0 {
		return o.greatest.Sub(o.lateness)
	}
	wm := o.greatest.Sub(o.idle)
	if last, ok := o.groups[group]; ok {
		wm = max(wm, last.Sub(o.lateness))
	}
	return wm
}

func (o *oracle) enter(key string, e entered) {
	all := append(o.held[key], e)
	slices.SortStableFunc(all, func(a, b entered) int { return cmp.Compare(a.t, b.t) })
	if limit := o.cfg.MaxEvents; limit > 0 && len(all) > limit {
		if last, ok := o.lost[key]; !ok || all[0].t > last {
			o.lost[key] = all[0].t
		}
		all = slices.Delete(all, 0, 1)
	}
	o.held[key] = all
}

// window is the events that an extent holds, in order.
func (o *oracle) window(x Extent, all []entered, t, wm event.Time, late bool, current int) (in []entered) {
	end := t.Sub(x.Delay)
	if late {
		all = stillHeld(x, all, wm.Sub(x.Delay))
	}
	for _, e := range all {
		if e.t <= end && !(x.WithoutCurrent && e.seq == current) {
			in = append(in, e)
		}
	}
	switch {
	case x.Length > 0:
		in = slices.DeleteFunc(in, func(e entered) bool { return e.t <= end.Sub(x.Length) })
	case x.Events > 0:
		in = in[max(0, len(in)-x.Events):]
	default:
		from := len(in)
		next := end
		if x.WithoutCurrent && current >= 0 && x.Delay == 0 {
			next = t // the current event continues the session
		}
		for from > 0 && next-in[from-1].t <= event.Time(x.Gap) {
			from--
			next = in[from].t
		}
		in = in[from:]
	}
	return in
}

// stillHeld is what an event at the watermark could ask for.
func stillHeld(x Extent, all []entered, wm event.Time) []entered {
	switch {
	case x.Length > 0:
		return slices.DeleteFunc(slices.Clone(all), func(e entered) bool { return e.t <= wm.Sub(x.Length) })
	case x.Events > 0:
		before := 0
		for _, e := range all {
			if e.t <= wm {
				before++
			}
		}
		return all[max(0, before-x.Events):]
	}
	for from := 0; ; {
		to := from + 1
		for to < len(all) && all[to].t-all[to-1].t <= event.Time(x.Gap) {
			to++
		}
		if to > len(all) || all[to-1].t.Add(x.Gap) >= wm {
			return all[from:]
		}
		from = to
	}
}

func (o *oracle) aggregate(c *Output, in []entered, t event.Time, current int, now []any) answer {
	var has []entered // with the value
	for _, e := range in {
		if c.Value < 0 || e.values[c.Value] != nil {
			has = append(has, e)
		}
	}
	n := int64(len(has))
	switch c.Aggregate {
	case Count:
		return answer{value: n}
	case Rate:
		return o.rate(c, in, has, t)
	case Speed:
		return speedOf(c, in)
	case Lag:
		before := slices.DeleteFunc(slices.Clone(in), func(e entered) bool { return e.seq == current })
		if len(before) < c.N {
			return answer{}
		}
		return answer{value: before[len(before)-c.N].values[c.Value]}
	case IsNew:
		if now[c.Value] == nil {
			return answer{}
		}
		return answer{value: !slices.ContainsFunc(has, func(e entered) bool { return e.seq != current && same(e.values[c.Value], now[c.Value]) })}
	}
	if n == 0 && c.Aggregate != Sum && c.Aggregate != Distinct && c.Aggregate != Entropy && c.Aggregate != TopK {
		return answer{}
	}
	v := &o.cfg.Values[c.Value]
	switch c.Aggregate {
	case First:
		return answer{value: has[0].values[c.Value]}
	case Last:
		return answer{value: has[n-1].values[c.Value]}
	case Min, Max:
		best := has[0].values[c.Value]
		for _, e := range has {
			if less := compareAny(e.values[c.Value], best); less < 0 == (c.Aggregate == Min) && less != 0 {
				best = e.values[c.Value]
			}
		}
		return answer{value: best}
	case Distinct, Entropy, TopK:
		counts := map[any]float64{}
		for _, e := range has {
			counts[plain(e.values[c.Value])]++
		}
		switch c.Aggregate {
		case Distinct:
			return answer{value: int64(len(counts))}
		case TopK:
			values := slices.SortedFunc(maps.Keys(counts), func(a, b any) int {
				return cmp.Or(cmp.Compare(counts[b], counts[a]), compareAny(a, b))
			})
			return answer{value: fmt.Sprint(values[:min(c.N, len(values))])}
		}
		h := 0.0
		for _, k := range counts {
			h -= k / float64(n) * math.Log2(k/float64(n))
		}
		return answer{value: math.Abs(h), near: 1e-9}
	}
	return o.numeric(c, v, has, now)
}

// plain gives both zeros one form, for maps.
func plain(v any) any {
	if f, ok := v.(float64); ok && f == 0 {
		return 0.0
	}
	return v
}

func same(a, b any) bool { return plain(a) == plain(b) }

func compareAny(a, b any) int {
	switch a := a.(type) {
	case int64:
		return cmp.Compare(a, b.(int64))
	case float64:
		return cmp.Compare(a, b.(float64))
	case bool:
		switch {
		case a == b.(bool):
			return 0
		case a:
			return 1
		}
		return -1
	}
	return cmp.Compare(a.(string), b.(string))
}

// numeric is Sum, Mean, Variance, Stddev, ZScore and Quantile.
func (o *oracle) numeric(c *Output, v *Value, has []entered, now []any) answer {
	n := int64(len(has))
	scale := float64(event.Pow10(int(v.Type.Scale)))
	ints := new(big.Int)
	exact := new(big.Float).SetPrec(4400)
	squares := new(big.Float).SetPrec(4400)
	narrow := true
	var floats []float64
	for _, e := range has {
		switch x := e.values[c.Value].(type) {
		case int64:
			ints.Add(ints, big.NewInt(x))
			f := new(big.Float).SetPrec(4400).SetInt64(x)
			squares.Add(squares, f.Mul(f, f))
			floats = append(floats, float64(x)/scale)
		case float64:
			f := new(big.Float).SetPrec(4400).SetFloat64(x)
			exact.Add(exact, f)
			squares.Add(squares, new(big.Float).SetPrec(4400).Mul(f, f))
			narrow = narrow && isNarrow(x)
			floats = append(floats, x)
		}
	}
	double := v.Type.Kind == event.Double
	var sum float64
	if double {
		sum, _ = exact.Float64()
	} else {
		exact.SetInt(ints)
		sum, _ = exact.Float64()
	}
	mean := sum / (scale * float64(n))
	switch c.Aggregate {
	case Sum:
		if double {
			return answer{value: sum}
		}
		if !ints.IsInt64() {
			return answer{overflow: true}
		}
		return answer{value: ints.Int64()}
	case Mean:
		return answer{value: mean}
	case Quantile:
		slices.Sort(floats)
		return answer{value: floats[max(1, int(math.Ceil(c.Q*float64(n))))-1], near: 1.0/128 + 1e-12}
	}
	if n < 2 {
		return answer{}
	}
	variance := 0.0
	if narrow {
		s1 := new(big.Float).SetPrec(4400).Mul(exact, exact)
		d := new(big.Float).SetPrec(4400).Mul(squares, new(big.Float).SetInt64(n))
		variance, _ = d.Sub(d, s1).Float64()
		variance = variance / scale / scale / (float64(n) * float64(n-1))
	} else {
		s1 := new(big.Float).SetPrec(4400).Mul(exact, exact)
		d := new(big.Float).SetPrec(4400).Mul(squares, new(big.Float).SetInt64(n))
		d.Sub(d, s1).Quo(d, new(big.Float).SetInt64(n))
		variance, _ = d.Quo(d, new(big.Float).SetInt64(n-1)).Float64()
	}
	switch c.Aggregate {
	case Variance:
		return answer{value: variance}
	case Stddev:
		return answer{value: math.Sqrt(variance)}
	}
	if now[c.Value] == nil || !(variance > 0) {
		return answer{}
	}
	x, ok := now[c.Value].(float64)
	if !ok {
		x = event.DecimalDouble(now[c.Value].(int64), int(v.Type.Scale))
	}
	return answer{value: (x - mean) / math.Sqrt(variance)}
}

func (o *oracle) rate(c *Output, in, has []entered, t event.Time) answer {
	seconds := c.Extent.Length.Seconds()
	if c.Extent.Length == 0 {
		if len(in) == 0 {
			return answer{}
		}
		if seconds = float64(t.Sub(c.Extent.Delay)-in[0].t) / 1e9; seconds <= 0 {
			return answer{}
		}
	}
	if c.Value < 0 {
		return answer{value: float64(len(in)) / seconds}
	}
	sum := new(big.Float).SetPrec(4400)
	for _, e := range has {
		switch x := e.values[c.Value].(type) {
		case int64:
			sum.Add(sum, new(big.Float).SetInt64(x))
		case float64:
			sum.Add(sum, new(big.Float).SetFloat64(x))
		}
	}
	f, _ := sum.Float64()
	return answer{value: f / float64(event.Pow10(int(o.cfg.Values[c.Value].Type.Scale))) / seconds}
}

// speedOf measures the way through the earth and takes the arc from that.
func speedOf(c *Output, in []entered) answer {
	in = slices.DeleteFunc(slices.Clone(in), func(e entered) bool { return e.values[c.Value] == nil || e.values[c.Value2] == nil })
	if len(in) < 2 {
		return answer{}
	}
	a, b := in[len(in)-2], in[len(in)-1]
	place := func(e entered) (x, y, z float64) {
		lat, lon := e.values[c.Value].(float64)*math.Pi/180, e.values[c.Value2].(float64)*math.Pi/180
		return math.Cos(lat) * math.Cos(lon), math.Cos(lat) * math.Sin(lon), math.Sin(lat)
	}
	ax, ay, az := place(a)
	bx, by, bz := place(b)
	chord := math.Sqrt((ax-bx)*(ax-bx) + (ay-by)*(ay-by) + (az-bz)*(az-bz))
	km := 2 * 6371.0088 * math.Asin(chord/2)
	if chord == 0 {
		return answer{value: 0.0}
	}
	return answer{value: km / (float64(b.t-a.t) / 3.6e12), near: 1e-6}
}
