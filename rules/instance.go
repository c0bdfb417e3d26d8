package rules

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"cel.dev/cel-go/common/types"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/cep/reservoir"
	"github.com/weirstream/weir/cep/window"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/table"
)

// instance is a program's state in one shard.
type instance struct {
	p         *streamProgram
	operators []engine.Operator
	frame     frame
	windows   []*groupState
	errs      []clauseError // of the evaluation at hand, by clause order

	// Of the batch that Prepare has seen, nil where it was not asked.
	alive  [][]bool // by rule: rows that the clauses without windows let through; nil: all
	wanted [][]bool // by slot: rows whose windows are read; nil: none
	all    []bool   // by slot: every row's
	skip   func(slot, row int) bool
}

type clauseError struct {
	order int
	st    status
	err   error
}

// groupState is what the filter and values of one operator work with.
type groupState struct {
	frame   frame
	readers []*compiledRule // whose windows it keeps
	errors  int64           // since the last Decide
	err     error
	row     int
}

func newInstance(p *streamProgram) (*instance, error) {
	in := &instance{p: p}
	for _, g := range p.groups {
		st := &groupState{readers: g.readersAmong(p.rules)}
		cfg, err := st.config(g)
		if err != nil {
			return nil, err
		}
		op, err := g.operator(cfg)
		if err != nil {
			return nil, err
		}
		in.windows = append(in.windows, st)
		in.operators = append(in.operators, engine.Operator{Identity: g.identity(p.schema), Name: g.name(p.schema), Rules: ids(st.readers), Operator: op})
	}
	return in, nil
}

// operator makes the group's operator.
func (g *group) operator(cfg window.Config) (cep.Operator, error) {
	if g.long {
		return window.NewLong(cfg, reservoir.Options{})
	}
	return window.New(cfg)
}

// config is what the group's operator keeps, with its filter and values as the state
// evaluates them.
func (s *groupState) config(g *group) (cfg window.Config, err error) {
	cfg = window.Config{Keys: g.keys, Outputs: g.outputs}
	if g.filter != nil {
		if cfg.Filter, err = s.filter(g.filter); err != nil {
			return cfg, err
		}
	}
	for _, v := range g.values {
		w, err := s.value(v)
		if err != nil {
			return cfg, err
		}
		cfg.Values = append(cfg.Values, w)
	}
	return cfg, nil
}

func (g *group) readersAmong(rules []*compiledRule) []*compiledRule {
	var out []*compiledRule
	for _, r := range rules {
		if slices.ContainsFunc(g.outputs, func(o window.Output) bool { return slices.Contains(r.windows, o.Slot) }) {
			out = append(out, r)
		}
	}
	return out
}

func ids(rules []*compiledRule) []string {
	out := make([]string, len(rules))
	for i, r := range rules {
		out[i] = r.rule.ID
	}
	return out
}

// at points the frame at a row of a batch.
func (s *groupState) at(b *event.Batch, row int) *frame {
	s.frame.b, s.frame.row = b, row
	return &s.frame
}

// note counts an error in a window's where or aggregate: the event does not
// enter, or not into that sum. No value is no error.
func (s *groupState) note(st status) {
	if st == failed {
		s.errors++
		s.err, s.row = s.frame.err, s.frame.row
	}
}

func (s *groupState) filter(e *expression) (func(*event.Batch, int) bool, error) {
	eval := (func(*frame) (bool, status))(nil)
	if n := e.node(); n != nil {
		eval = n.boolean
	} else {
		p, err := newCEL(e)
		if err != nil {
			return nil, err
		}
		eval = p.evalBool
	}
	return func(b *event.Batch, row int) bool {
		v, st := eval(s.at(b, row))
		s.note(st)
		return v && st == good
	}, nil
}

func (s *groupState) value(v windowValue) (window.Value, error) {
	if v.typ.Kind == event.String || v.typ.Kind == event.Bytes {
		return s.text(v)
	}
	out := window.Value{Type: v.typ, Nullable: true}
	n := v.expr.node()
	switch {
	case n != nil && n.integer != nil && n.field >= 0:
		out.Nullable = !n.sure
		out.Read = func(b *event.Batch, row int) (uint64, bool) {
			c := &b.Cols[n.field]
			return uint64(c.Int64[row]), !c.IsNull(row)
		}
	case n != nil && n.integer != nil:
		out.Nullable = !n.sure
		out.Read = func(b *event.Batch, row int) (uint64, bool) {
			i, st := n.integer(s.at(b, row))
			s.note(st)
			return uint64(i), st == good
		}
	case n != nil && n.double != nil:
		out.Nullable = !n.sure
		out.Read = func(b *event.Batch, row int) (uint64, bool) {
			d, st := n.double(s.at(b, row))
			s.note(st)
			return math.Float64bits(d), st == good
		}
	case n != nil && n.boolean != nil:
		out.Nullable = !n.sure
		out.Read = func(b *event.Batch, row int) (uint64, bool) {
			v, st := n.boolean(s.at(b, row))
			s.note(st)
			if v {
				return 1, st == good
			}
			return 0, st == good
		}
	default:
		p, err := newCEL(v.expr)
		if err != nil {
			return out, err
		}
		out.Read = func(b *event.Batch, row int) (uint64, bool) {
			x, st := p.eval(s.at(b, row))
			s.note(st)
			return valueBits(x), st == good
		}
	}
	return out, nil
}

// text is a value that is a string or bytes.
func (s *groupState) text(v windowValue) (window.Value, error) {
	out := window.Value{Type: v.typ, Nullable: true}
	if n := v.expr.node(); n != nil && n.str != nil {
		out.Nullable = !n.sure
		out.ReadBytes = func(b *event.Batch, row int) ([]byte, bool) {
			t, st := n.str(s.at(b, row))
			s.note(st)
			return t, st == good
		}
		return out, nil
	}
	p, err := newCEL(v.expr)
	if err != nil {
		return out, err
	}
	out.ReadBytes = func(b *event.Batch, row int) ([]byte, bool) {
		x, st := p.eval(s.at(b, row))
		s.note(st)
		switch t := x.(type) {
		case types.String:
			return []byte(t), st == good
		case types.Bytes:
			return t, st == good
		}
		return nil, false
	}
	return out, nil
}

// UseTables implements engine.TableUser.
func (in *instance) UseTables(v *table.View) {
	refs := in.p.useTables(v)
	in.frame.tables = refs
	for _, g := range in.windows {
		g.frame.tables = refs
	}
}

// Needs implements engine.Instance.
func (in *instance) Needs() []int { return in.p.needs }

// Features implements engine.Instance.
func (in *instance) Features() []event.Type { return in.p.features }

// Operators implements engine.Instance.
func (in *instance) Operators() []engine.Operator { return in.operators }

// Prepare implements engine.Preparer: a row's windows are read where a rule that
// reads them has no other clause that is false.
func (in *instance) Prepare(b *event.Batch, out *cep.Outbox) {
	if in.skip == nil {
		in.alive = make([][]bool, len(in.p.rules))
		in.wanted = make([][]bool, len(in.p.features))
		in.all = make([]bool, len(in.p.features))
		in.skip = func(slot, row int) bool { return !in.all[slot] && !in.wanted[slot][row] }
	}
	in.frame.b, in.frame.out = b, out
	rows := b.Len()
	clear(in.all)
	for slot := range in.wanted {
		in.wanted[slot] = slices.Grow(in.wanted[slot][:0], rows)[:rows]
		clear(in.wanted[slot])
	}
	for i, r := range in.p.rules {
		in.alive[i] = in.alive[i][:0]
		if len(r.windows) == 0 || !slices.ContainsFunc(r.clauses, func(c clause) bool { return !c.reads }) {
			for _, slot := range r.windows {
				in.all[slot] = true
			}
			continue
		}
		in.alive[i] = slices.Grow(in.alive[i], rows)[:rows]
		for row := range rows {
			in.frame.row = row
			alive := in.mayFire(r)
			in.alive[i][row] = alive
			if alive {
				for _, slot := range r.windows {
					in.wanted[slot][row] = true
				}
			}
		}
	}
	out.Skip = in.skip
}

// mayFire reports whether no clause without windows is false at the frame's row.
func (in *instance) mayFire(r *compiledRule) bool {
	for i := range r.clauses {
		if c := &r.clauses[i]; !c.reads {
			if v, st := c.eval(&in.frame); st == good && !v {
				return false
			}
		}
	}
	return true
}

// Decide implements engine.Instance.
func (in *instance) Decide(b *event.Batch, out *cep.Outbox, dst []engine.Finding) ([]engine.Finding, error) {
	in.frame.b, in.frame.out = b, out
	for _, s := range in.windows {
		s.count(b)
	}
	first := len(dst)
	for i, r := range in.p.rules {
		var alive []bool
		if out.Skip != nil && len(in.alive[i]) == b.Len() {
			alive = in.alive[i]
		}
		dst = in.rule(r, alive, dst)
	}
	// Rule by rule is how they were evaluated, row by row is how they are told.
	slices.SortStableFunc(dst[first:], func(a, b engine.Finding) int { return a.Row - b.Row })
	return dst, nil
}

// count counts what went wrong while events of a batch entered windows, with every
// rule that reads these.
func (s *groupState) count(b *event.Batch) {
	if s.errors == 0 {
		return
	}
	for _, r := range s.readers {
		r.counters.errors.Add(s.errors)
		r.counters.noteError(b, s.row, fmt.Errorf("in a window: %w", s.err))
	}
	s.errors = 0
}

func (c *counters) noteError(b *event.Batch, row int, err error) {
	o := b.OriginOf(row)
	text := o.Topic + "[" + strconv.Itoa(int(o.Partition)) + "]@" + strconv.FormatInt(b.Offset[row], 10) + ": " + err.Error()
	c.lastError.Store(&text)
}

// rule evaluates one rule on all rows, or on those that are alive.
func (in *instance) rule(r *compiledRule, alive []bool, dst []engine.Finding) []engine.Finding {
	var fired, absent, errs int64
	f := &in.frame
	rows := f.b.Len()
	for f.row = 0; f.row < rows; f.row++ {
		if alive != nil && !alive[f.row] {
			continue
		}
		v, st := in.evaluate(r)
		switch {
		case st == failed:
			errs++
			r.counters.noteError(f.b, f.row, f.err)
		case st == noData:
			absent++
		case v:
			fired++
			r.counters.lastFired.Store(int64(f.b.Time[f.row]))
			dst = append(dst, in.finding(r))
		}
	}
	c := r.counters
	c.evaluated.Add(int64(rows))
	if fired > 0 {
		c.fired.Add(fired)
	}
	if absent > 0 {
		c.noData.Add(absent)
	}
	if errs > 0 {
		c.errors.Add(errs)
	}
	return dst
}

// evaluate is the rule's condition at the frame's row: false where a clause is
// false, else the leftmost error, else true.
func (in *instance) evaluate(r *compiledRule) (bool, status) {
	in.errs = in.errs[:0]
	f := &in.frame
	for i := range r.clauses {
		c := &r.clauses[i]
		v, st := c.eval(f)
		if st != good {
			in.errs = append(in.errs, clauseError{c.order, st, f.err})
		} else if !v {
			return false, good
		}
	}
	if len(in.errs) == 0 {
		return true, good
	}
	first := slices.MinFunc(in.errs, func(a, b clauseError) int { return a.order - b.order })
	f.err = first.err
	return false, first.st
}

// finding is what is told of a rule that fired at the frame's row.
func (in *instance) finding(r *compiledRule) engine.Finding {
	f := &in.frame
	out := engine.Finding{Row: f.row, Rule: r.rule.ID, Shadow: r.rule.Mode == "shadow", Action: r.rule.Action,
		Severity: r.rule.Severity, Score: r.rule.Score, Values: make(event.Values, 0, len(r.mentions))}
	for i := range r.mentions {
		m := &r.mentions[i]
		var c *event.Column
		switch m.v.kind {
		case tablesVar:
			out.Values = append(out.Values, event.Value{Name: m.name, JSON: m.value(f)})
			continue
		case windowVar:
			c = &f.out.Features[m.v.index]
			if f.out.MarkAt(m.v.index, f.row) != nil {
				// Before its value, so that nobody takes it for the whole.
				out.Values = append(out.Values, event.Value{Name: m.name + " is capped", JSON: "true"})
			}
		case pathVar:
			c = m.path.column(f.b)
		default:
			c = &f.b.Cols[m.v.index]
		}
		out.Values = append(out.Values, event.Value{Name: m.name, JSON: jsonOf(c, f.row)})
	}
	if r.message == nil {
		return out
	}
	v, st := r.message.eval(f)
	switch st {
	case good:
		out.Message = fmt.Sprint(v)
	case noData:
		out.Message = "(no message: a value in it is absent)"
	default:
		r.counters.errors.Add(1)
		r.counters.noteError(f.b, f.row, fmt.Errorf("message: %w", f.err))
		out.Message = "(no message: " + f.err.Error() + ")"
	}
	return out
}

// nestedMax bounds what a decision shows of a list, map or struct, in bytes.
const nestedMax = 2048

// jsonOf is a value as JSON text: decimals, strings and times are quoted. Of a long
// list, map or struct it is how many elements there are.
func jsonOf(c *event.Column, row int) string {
	if c.IsNull(row) {
		return "null"
	}
	switch c.Type.Kind {
	case event.Bool, event.Int64:
		return string(c.AppendText(nil, row))
	case event.Double:
		return string(event.AppendJSONDouble(nil, c.Double[row]))
	case event.List, event.Map, event.Struct:
		if text := c.AppendJSON(nil, row); len(text) <= nestedMax {
			return string(text)
		}
		n := len(c.Children)
		if c.Type.Kind != event.Struct {
			from, to := c.Span(row)
			n = to - from
		}
		return fmt.Sprintf("\"%d elements, too long to be kept here\"", n)
	}
	return string(event.AppendJSONString(nil, string(c.AppendText(nil, row))))
}
