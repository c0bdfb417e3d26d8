package rules

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/weirstream/weir/cep/window"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/table"
)

// Catalog is what rules may refer to.
type Catalog struct {
	Streams []*schema.Stream
	Tables  []*table.Definition // and lists
	// Contents are what the cases of RunTests look up; nil: nothing.
	Contents *table.View
}

// Compile makes a program of rules. Its error is schema.Problems, all of them,
// each with the place inside the expression.
func Compile(set Set, catalog Catalog) (*Program, error) {
	return compile(set, nil, catalog)
}

// compile is Compile with the windows of other rules, which do not decide.
func compile(set, silent Set, catalog Catalog) (*Program, error) {
	c := &compiler{catalog: catalog, active: map[string]*streamBuilder{}}
	c.problems = duplicates(set)
	p := &Program{streams: map[string]*streamProgram{}, set: set, silent: silent, catalog: catalog}
	for i := range len(set) + len(silent) {
		var r *Rule
		if i < len(set) {
			r = &set[i]
		} else {
			r = &silent[i-len(set)]
		}
		s := c.builderOf(r)
		if s == nil {
			continue
		}
		c.stream = s
		compiled := c.rule(r)
		if i >= len(set) {
			continue
		}
		p.rules = append(p.rules, compiled)
		if compiled != nil && r.Mode != "off" {
			s.rules = append(s.rules, compiled)
		}
	}
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	for _, s := range c.active {
		s.groups, s.keyed = splitLong(s.groups), splitLong(s.keyed)
	}
	p.keyed = c.keyedStreams()
	for _, k := range p.keyed {
		for _, src := range k.Sources {
			for _, f := range src.Fields {
				c.active[src.Stream.Schema.Stream].need(f)
			}
		}
	}
	used := map[string]*table.Definition{}
	for name, s := range c.active {
		p.streams[name] = s.program()
		for _, d := range s.tables {
			used[d.Name] = d
		}
	}
	p.id = programID(set, c.streams(), used)
	return p, nil
}

// compiler holds what the rules of one Compile share.
type compiler struct {
	catalog  Catalog
	active   map[string]*streamBuilder
	stream   *streamBuilder // of the rule at hand
	mentions *[]mention     // of the rule at hand
	problems schema.Problems
}

// streamBuilder gathers the windows of the rules of one stream.
type streamBuilder struct {
	stream   *schema.Stream
	schema   *event.Schema
	env      *cel.Env
	needs    map[int]bool
	features []event.Type
	slots    map[string]int // by canonical window
	paths    []*fieldPath   // members of structs that are read
	groups   []*group       // in the stream's own shards
	keyed    []*group       // on keyed streams
	rules    []*compiledRule
	tables   []*table.Definition
}

// group is the windows with one key and one filter: one operator.
type group struct {
	canonical string
	long      bool // events on disk
	over      *streamBuilder
	now       []int        // the key's fields of the stream whose rules read it
	needs     map[int]bool // fields of over
	keys      []int
	where     string
	filter    *expression
	values    []windowValue
	outputs   []window.Output
}

func (c *compiler) builderOf(r *Rule) *streamBuilder {
	var names []string
	for _, s := range c.catalog.Streams {
		if s.Schema.Stream != r.Stream {
			names = append(names, s.Schema.Stream)
			continue
		}
		b, err := c.builder(s, r.Mode != "off")
		if err != nil {
			c.problems = append(c.problems, r.problem("stream", 0, err.Error()))
			return nil
		}
		return b
	}
	p := r.problem("stream", 0, fmt.Sprintf("there is no stream %q", r.Stream))
	if p.Hint = schema.Suggest(r.Stream, names); p.Hint == "" && len(names) > 0 {
		p.Hint = "there are " + strings.Join(names, ", ")
	}
	c.problems = append(c.problems, p)
	return nil
}

// builder gathers what rules read of a stream. What a rule that is off reads is
// checked and not kept.
func (c *compiler) builder(s *schema.Stream, keep bool) (*streamBuilder, error) {
	if b := c.active[s.Schema.Stream]; b != nil && keep {
		return b, nil
	}
	env, err := newEnv(s.Schema)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", s.Schema.Stream, err)
	}
	b := &streamBuilder{stream: s, schema: s.Schema, env: env, needs: map[int]bool{}, slots: map[string]int{}}
	if keep {
		c.active[s.Schema.Stream] = b
	}
	return b, nil
}

func (s *streamBuilder) need(field int) { s.needs[field] = true }

// rule compiles one rule, nil where it has a problem.
func (c *compiler) rule(r *Rule) *compiledRule {
	out := &compiledRule{rule: *r, counters: &counters{}}
	c.mentions = &out.mentions
	sc := &scope{schema: c.stream.schema, vars: map[string]variable{}, stream: c.stream}
	when := c.compile(newSource(r, "when", r.When), sc, cel.BoolType, "a condition (bool)")
	var message *expression
	if r.Message != "" {
		sc := &scope{schema: c.stream.schema, vars: map[string]variable{}, stream: c.stream}
		message = c.compile(newSource(r, "message", r.Message), sc, cel.StringType, "a text (string)")
	}
	if when != nil {
		if err := c.lookupMentions(when); err != nil {
			c.problems = append(c.problems, r.problem("when", 0, err.Error()))
			when = nil
		}
	}
	if message != nil {
		if err := c.lookupMentions(message); err != nil {
			c.problems = append(c.problems, r.problem("message", 0, err.Error()))
			message = nil
		}
	}
	c.mentions = nil
	if when == nil || r.Message != "" && message == nil {
		return nil
	}
	for i, e := range conjuncts(when.ast.Expr(), nil) {
		cl, err := newClause(when.part(e), i)
		if err != nil {
			c.problems = append(c.problems, r.problem("when", 0, err.Error()))
			return nil
		}
		out.clauses = append(out.clauses, cl)
	}
	slices.SortStableFunc(out.clauses, func(a, b clause) int { return cmp.Compare(a.cost, b.cost) })
	if message != nil {
		var err error
		if out.message, err = newCEL(message); err != nil {
			c.problems = append(c.problems, r.problem("message", 0, err.Error()))
			return nil
		}
	}
	for i, m := range out.mentions {
		if m.v.kind == pathVar {
			out.mentions[i].path = c.stream.paths[m.v.index]
		}
		if m.v.kind == windowVar {
			out.windows = append(out.windows, m.v.index)
		}
	}
	return out
}

// conjuncts is the parts of a top-level &&, from left to right.
func conjuncts(e celast.Expr, dst []celast.Expr) []celast.Expr {
	if e.Kind() == celast.CallKind && e.AsCall().FunctionName() == operators.LogicalAnd {
		for _, a := range e.AsCall().Args() {
			dst = conjuncts(a, dst)
		}
		return dst
	}
	return append(dst, e)
}

// window is the slot and type of a window's column; equal windows share it.
func (s *streamBuilder) window(w *windowSpec) (int, event.Type) {
	t := window.ResultType(w.aggregate, w.typ())
	name := w.name()
	if slot, found := s.slots[name]; found {
		return slot, t
	}
	g, slot := s.group(w), len(s.features)
	s.slots[name] = slot
	s.features = append(s.features, t)
	o := window.Output{Slot: slot, Extent: w.extent, Aggregate: w.aggregate, Value: -1, N: w.n, Q: w.q}
	if len(w.values) > 0 {
		o.Value, o.Value2 = 0, len(w.values)-1
	}
	g.add(o, w.values)
	return slot, t
}

// group is the operator that a window belongs to.
func (s *streamBuilder) group(w *windowSpec) *group {
	list := &s.keyed
	if w.local(s) {
		list = &s.groups
	}
	i := slices.IndexFunc(*list, func(g *group) bool { return g.canonical == w.canonical() })
	if i < 0 {
		i = len(*list)
		*list = append(*list, &group{canonical: w.canonical(), over: w.over, keys: w.keys, now: w.now, needs: map[int]bool{},
			where: strings.TrimSpace(w.whereText), filter: w.where})
	}
	g := (*list)[i]
	for _, k := range w.keys {
		w.needs[k] = true
	}
	maps.Copy(g.needs, w.needs)
	if w.local(s) {
		maps.Copy(s.needs, w.needs)
	}
	return g
}

// splitLong brings the windows of groups in which one reaches far back onto disk, but for
// those that need their events in memory: these are an operator of their own.
func splitLong(groups []*group) (out []*group) {
	for _, g := range groups {
		if !slices.ContainsFunc(g.outputs, g.reachesFar) {
			out = append(out, g)
			continue
		}
		long, rest := *g, *g
		long.long, long.outputs, long.values = true, nil, nil
		rest.outputs, rest.values = nil, nil
		for _, o := range g.outputs {
			if window.CanBeLong(&o) {
				long.add(o, g.values)
			} else {
				rest.add(o, g.values)
			}
		}
		if out = append(out, &long); len(rest.outputs) > 0 {
			out = append(out, &rest)
		}
	}
	return out
}

// reachesFar reports whether the events of an output are better kept on disk.
func (g *group) reachesFar(o window.Output) bool {
	from := g.over.stream.DiskFrom
	if from == 0 {
		from = schema.DefaultDiskFrom
	}
	return from > 0 && o.Extent.Delay+o.Extent.Length >= from && window.CanBeLong(&o)
}

// add takes an output in whose values are among others.
func (g *group) add(o window.Output, values []windowValue) {
	at := func(v windowValue) int {
		i := slices.IndexFunc(g.values, func(have windowValue) bool { return have.text == v.text })
		if i < 0 {
			i = len(g.values)
			g.values = append(g.values, v)
		}
		return i
	}
	if o.Value >= 0 {
		o.Value = at(values[o.Value])
	}
	if o.Aggregate == window.Speed {
		o.Value2 = at(values[o.Value2])
	}
	g.outputs = append(g.outputs, o)
}

// program freezes what was gathered.
func (s *streamBuilder) program() *streamProgram {
	p := &streamProgram{schema: s.schema, features: s.features, groups: s.groups, rules: s.rules, tables: s.tables}
	for i := range s.needs {
		p.needs = append(p.needs, i)
	}
	slices.Sort(p.needs)
	for _, g := range slices.Concat(s.groups, s.keyed) {
		sortValues(g)
	}
	return p
}

// sortValues orders the aggregated expressions by their text, so that the events of
// a group have the same form whatever the order of the rules.
func sortValues(g *group) {
	old := slices.Clone(g.values)
	slices.SortFunc(g.values, func(a, b windowValue) int { return cmp.Compare(a.text, b.text) })
	now := func(at int) int {
		return slices.IndexFunc(g.values, func(v windowValue) bool { return v.text == old[at].text })
	}
	for i := range g.outputs {
		o := &g.outputs[i]
		if o.Value < 0 {
			continue
		}
		o.Value = now(o.Value)
		if o.Aggregate == window.Speed {
			o.Value2 = now(o.Value2)
		}
	}
}

// identity is the canonical identity of a group's operator: what its state holds.
// Windows may come and go under it as long as the values and what is kept of them
// stay; those of events on disk may not, as others are made from all of these.
func (g *group) identity(s *event.Schema) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s stream=%s key=", g.kind(), s.Stream)
	for i, k := range g.keys {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(fieldText(s, k))
	}
	if g.where != "" {
		fmt.Fprintf(&b, " where=%s", g.where)
	}
	for _, v := range g.values {
		fmt.Fprintf(&b, " value=%s:%s", v.text, v.typ)
	}
	fmt.Fprintf(&b, " keeps=%s fields=%s", strings.Join(g.keeps(), ","), fieldsText(s))
	if g.long {
		fmt.Fprintf(&b, " windows=%s", strings.Join(g.windows(), ","))
	}
	return b.String()
}

// windows are those of a group, as its operator keeps them.
func (g *group) windows() []string {
	var all []string
	for i := range g.outputs {
		o := &g.outputs[i]
		text := fmt.Sprintf("%s-%v-%v-%t-%d-%v", o.Aggregate, o.Extent.Length, o.Extent.Delay, o.Extent.WithoutCurrent, o.N, o.Q)
		if o.Value >= 0 {
			text += "-" + g.values[o.Value].text
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// kind is the kind of the group's operator, with the version of what it holds.
func (g *group) kind() string {
	if g.long {
		return "long/1"
	}
	return "window/2"
}

// name is what people call a group's operator: its part of the windows' text, with a
// hash for the rest where that is long.
func (g *group) name(s *event.Schema) string {
	var b strings.Builder
	b.WriteString("by(")
	for i, k := range g.keys {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(s.Alias + "." + s.Fields[k].Name)
	}
	b.WriteByte(')')
	if g.where != "" {
		fmt.Fprintf(&b, ".where(%s)", g.where)
	}
	if g.long {
		b.WriteString(" on disk")
	}
	name := b.String()
	if len(name) <= nameMax {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return strings.ToValidUTF8(name[:nameMax-10], "") + "... " + hex.EncodeToString(sum[:4])
}

// nameMax bounds an operator's name, which is a label of metrics.
const nameMax = 120

// keeps is what the windows of a group keep between them: how far back; how many
// events, and sessions of which gap, each behind which delay.
func (g *group) keeps() []string {
	var all []string
	back := time.Duration(0)
	for i := range g.outputs {
		switch x := g.outputs[i].Extent; {
		case x.Events > 0:
			all = append(all, fmt.Sprintf("%d-events-%v", x.Events, x.Delay))
		case x.Gap > 0:
			all = append(all, fmt.Sprintf("session-%v-%v", x.Gap, x.Delay))
		default:
			back = max(back, x.Delay+x.Length)
		}
	}
	if back > 0 {
		all = append(all, back.String())
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func fieldText(s *event.Schema, i int) string {
	f := s.Fields[i]
	if f.Optional {
		return f.Name + ":" + f.Type.String() + "?"
	}
	return f.Name + ":" + f.Type.String()
}

func fieldsText(s *event.Schema) string {
	names := make([]string, len(s.Fields))
	for i := range s.Fields {
		names[i] = fieldText(s, i)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// streams are those that the rules read, by name.
func (c *compiler) streams() (out []*schema.Stream) {
	for _, name := range slices.Sorted(maps.Keys(c.active)) {
		out = append(out, c.active[name].stream)
	}
	return out
}

// programID is a hash over the rules that run, and what the streams and tables they
// read are.
func programID(set Set, streams []*schema.Stream, used map[string]*table.Definition) string {
	h := sha256.New()
	for _, r := range set {
		if r.Mode == "off" {
			continue
		}
		fmt.Fprintf(h, "rule %q %q %q %q %q %q %q %v\n", r.ID, r.Stream, r.When, r.Action, r.Severity, r.Mode, r.Message, r.Score)
	}
	for _, s := range streams {
		streamID(h, s)
	}
	for _, name := range slices.Sorted(maps.Keys(used)) {
		d := used[name]
		fmt.Fprintf(h, "table %q %s %v %v\n", name, d.Kind(), d.Key, d.Columns)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// streamID writes what of a stream's declaration its events hang on.
func streamID(h io.Writer, s *schema.Stream) {
	fmt.Fprintf(h, "stream %q %q %q %v %q %d %d %d %v %v\n", s.Schema.Stream, s.Schema.Alias, s.Topic, s.Format, s.Columns, s.Schema.Time, s.Schema.Key, s.Lateness, s.Zone, s.MaxAhead)
	if len(s.WatermarkBy) > 0 {
		fmt.Fprintf(h, "watermark by %v %v\n", s.WatermarkBy, s.WatermarkIdle)
	}
	if s.Dedupe > 0 {
		fmt.Fprintf(h, "dedupe %v %d\n", s.Dedupe, s.Schema.ID)
	}
	for i, f := range s.Schema.Fields {
		fmt.Fprintf(h, "field %s", fieldText(s.Schema, i))
		if i < len(s.Fields) {
			fmt.Fprintf(h, " %q %q", s.Fields[i].From, s.Fields[i].Layout)
		}
		fmt.Fprintf(h, " %s\n", f.Name)
	}
}
