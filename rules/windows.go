package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"github.com/weirstream/weir/cep/window"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// aggregates are those of a window, by their names in rules; steps stand between
// the root and the aggregate.
var (
	aggregates = func() map[string]window.Aggregate {
		all := map[string]window.Aggregate{}
		for a := window.Count; a <= window.IsNew; a++ {
			all[a.String()] = a
		}
		return all
	}()
	steps = []string{"by", "where", "delay", "excluding_current"}
	roots = []string{"last", "session"}
)

func isAggregate(name string) bool { return aggregates[name] != 0 }

// chainOf is the calls of a method chain that begins with last(...) or
// session(...), first call first, or nil where e is none.
func chainOf(e celast.Expr) []celast.Expr {
	var chain []celast.Expr
	for e.Kind() == celast.CallKind {
		call := e.AsCall()
		chain = append(chain, e)
		root := !call.IsMemberFunction() || call.Target().Kind() == celast.IdentKind
		if slices.Contains(roots, call.FunctionName()) && root {
			slices.Reverse(chain)
			return chain
		}
		if !call.IsMemberFunction() {
			return nil
		}
		e = call.Target()
	}
	return nil
}

// isWindowChain reports whether e is a whole window: it ends at its aggregate, or
// has none and needs to be told so.
func isWindowChain(e celast.Expr) bool {
	chain := chainOf(e)
	if chain == nil {
		return false
	}
	for i, step := range chain[1:] {
		if isAggregate(step.AsCall().FunctionName()) {
			return i == len(chain)-2
		}
	}
	return true
}

// windowSpec is a window as its author wrote it.
type windowSpec struct {
	extent    window.Extent
	over      *streamBuilder // whose events it holds
	byGiven   bool
	keys      []int        // of the fields of over
	now       []int        // of the fields of the rule's stream that hold the same
	needs     map[int]bool // fields of over that are read
	where     *expression
	whereText string
	aggregate window.Aggregate
	values    []windowValue // at most two
	n         int
	q         float64
}

// windowValue is an expression over past events that a window aggregates.
type windowValue struct {
	expr *expression
	text string
	typ  event.Type
}

// typ is the type of the first value, of none where there is none.
func (w *windowSpec) typ() event.Type {
	if len(w.values) == 0 {
		return event.Type{}
	}
	return w.values[0].typ
}

// window replaces a window chain by a variable.
func (x *rewriter) window(e celast.Expr) typ {
	name := x.unparse(e)
	chain := chainOf(e)
	if x.inWindow {
		x.problem(chain[0], "a window inside a window's where or aggregate", "there the alias is the past event, which has no windows")
		return unknown
	}
	w := windowSpec{over: x.c.stream, needs: map[int]bool{}}
	if !x.root(chain[0], &w) {
		return unknown
	}
	for _, step := range chain[1:] {
		if !x.step(step, &w) {
			return unknown
		}
	}
	if !x.complete(chain, &w) {
		return unknown
	}
	slot, t := x.c.stream.window(&w)
	v := variable{windowVar, slot}
	x.mention(name, v)
	ident := fmt.Sprintf("@window%d", slot)
	x.scope.declare(ident, v, celType(t))
	e.SetKindCase(x.factory.NewIdent(e.ID(), ident))
	out := typ{kind: t.Kind, scale: t.Scale}
	if t.Kind >= event.List {
		out.nested = &t
	}
	return out
}

// root reads [STREAM.]last(SPAN), last(EVENTS) and session(GAP).
func (x *rewriter) root(e celast.Expr, w *windowSpec) bool {
	call := e.AsCall()
	if call.IsMemberFunction() && !x.over(call.Target(), w) {
		return false
	}
	session := call.FunctionName() == "session"
	if len(call.Args()) != 1 || call.Args()[0].Kind() != celast.LiteralKind {
		x.problem(e, `last takes one length or number of events, session one gap, written out: last("1h"), last(20), session("30m")`, "")
		return false
	}
	arg := call.Args()[0]
	switch v := arg.AsLiteral().(type) {
	case types.String:
		d, ok := x.span(arg, string(v))
		if w.extent.Length = d; session {
			w.extent.Length, w.extent.Gap = 0, d
		}
		return ok
	case types.Int:
		if session {
			break
		}
		if v < 1 || v > maxWindowEvents {
			x.problem(arg, fmt.Sprintf("a window of %d events: expected from 1 to %d", v, maxWindowEvents), "")
			return false
		}
		w.extent.Events = int(v)
		return true
	}
	x.problem(arg, `expected a duration, as "1h"`, "")
	return false
}

// maxWindowEvents is the most events that last(EVENTS) takes.
const maxWindowEvents = 1_000_000

// span reads a duration that an author wrote.
func (x *rewriter) span(e celast.Expr, text string) (time.Duration, bool) {
	d, err := parseSpan(text)
	switch {
	case err != nil:
		x.problem(e, fmt.Sprintf("length %q: %v", text, err), "")
	case d > maxSpan:
		x.problem(e, fmt.Sprintf("length %q: longer than 100 years", text), "")
	default:
		return d, true
	}
	return 0, false
}

const maxSpan = 100 * 365 * 24 * time.Hour

// step reads one call behind last(...).
func (x *rewriter) step(e celast.Expr, w *windowSpec) bool {
	call := e.AsCall()
	name, args := call.FunctionName(), call.Args()
	switch {
	case name == "by":
		return x.by(e, args, w)
	case name == "where":
		if len(args) != 1 || w.where != nil {
			x.problem(e, "where takes one condition and stands once", "join conditions with &&")
			return false
		}
		w.whereText = x.unparse(args[0])
		w.where = x.within(w, func() *expression { return x.sub(args[0], cel.BoolType, "a condition (bool)") })
		return w.where != nil
	case name == "delay":
		return x.delay(e, args, w)
	case name == "excluding_current":
		if len(args) != 0 || w.extent.WithoutCurrent {
			x.problem(e, "excluding_current takes nothing and stands once", "")
			return false
		}
		w.extent.WithoutCurrent = true
		return true
	case aggregates[name] != 0:
		return x.aggregate(e, args, w)
	default:
		known := append(slices.Clone(steps), slices.Sorted(maps.Keys(aggregates))...)
		hint := schema.Suggest(name, known)
		if hint == "" {
			hint = "there are " + strings.Join(known, ", ")
		}
		x.problem(e, fmt.Sprintf("a window has no %s", name), hint)
	}
	return false
}

func (x *rewriter) delay(e celast.Expr, args []celast.Expr, w *windowSpec) bool {
	if len(args) == 1 && args[0].Kind() == celast.LiteralKind && w.extent.Delay == 0 {
		if text, ok := args[0].AsLiteral().(types.String); ok {
			w.extent.Delay, ok = x.span(args[0], string(text))
			return ok
		}
	}
	x.problem(e, `delay takes one duration, written out, and stands once: .delay("7d")`, "")
	return false
}

// over finds the stream that a window is over.
func (x *rewriter) over(e celast.Expr, w *windowSpec) bool {
	name := e.AsIdent()
	var names []string
	for _, s := range x.c.catalog.Streams {
		if name != s.Schema.Alias && name != s.Schema.Stream {
			names = append(names, s.Schema.Stream, s.Schema.Alias)
			continue
		}
		if s.Schema.Stream == x.scope.schema.Stream {
			return true
		}
		var err error
		if w.over, err = x.c.builder(s, x.src.rule.Mode != "off"); err != nil {
			x.problem(e, err.Error(), "")
			return false
		}
		return true
	}
	hint := schema.Suggest(name, names)
	if hint == "" {
		hint = "leave it out for the rule's own stream"
	}
	x.problem(e, fmt.Sprintf("there is no stream %q", name), hint)
	return false
}

// within compiles with the names of the stream that a window is over, and notes what
// is read of it.
func (x *rewriter) within(w *windowSpec, do func() *expression) *expression {
	stream, needs := x.c.stream, w.over.needs
	x.c.stream, w.over.needs = w.over, w.needs
	defer func() { w.over.needs = needs; x.c.stream = stream }()
	return do()
}

// by reads the fields of the key: of a window over another stream in pairs, the past
// event's and the current one's.
func (x *rewriter) by(e celast.Expr, args []celast.Expr, w *windowSpec) bool {
	other := w.over != x.c.stream
	if w.byGiven {
		x.problem(e, "by stands once", "")
		return false
	}
	w.byGiven = true
	if past, now := w.over.schema, x.scope.schema; other && len(args)%2 != 0 {
		x.problem(e, fmt.Sprintf("by over another stream takes two fields for each part of the key: the past event's, of %s, and the current one's, of %s", past.Stream, now.Stream),
			fmt.Sprintf(".by(%s.FIELD, %s.FIELD)", past.Alias, now.Alias))
		return false
	}
	for i, arg := range args {
		if other && i%2 == 0 {
			at, ok := x.pastKey(arg, w)
			if !ok {
				return false
			}
			w.keys = append(w.keys, at)
			continue
		}
		at, ok := x.keyField(arg, x.scope.schema)
		if !ok {
			return false
		}
		w.now = append(w.now, at)
	}
	if !other {
		slices.Sort(w.now)
		w.keys = w.now
	}
	for i, k := range w.keys {
		past, now := &w.over.schema.Fields[k], &x.scope.schema.Fields[w.now[i]]
		switch {
		case !past.Type.Equal(now.Type):
			x.problem(args[2*i], fmt.Sprintf("%s is a %s and %s a %s: they are never the same", past.Name, past.Type, now.Name, now.Type), "")
			return false
		case slices.Index(w.keys, k) < i:
			at, s := e, w.over.schema
			if !other {
				at = args[i]
			}
			x.problem(at, s.Alias+"."+past.Name+" stands in by twice", "")
			return false
		}
	}
	return true
}

// pastKey reads a field of the stream that a window is over.
func (x *rewriter) pastKey(e celast.Expr, w *windowSpec) (at int, ok bool) {
	x.within(w, func() *expression {
		y := *x
		y.scope = &scope{schema: w.over.schema, vars: map[string]variable{}, stream: w.over}
		at, ok = y.keyField(e, w.over.schema)
		x.failed = x.failed || y.failed
		return nil
	})
	return at, ok
}

// keyField reads a field to group by.
func (x *rewriter) keyField(e celast.Expr, s *event.Schema) (int, bool) {
	i, ok := x.field(e)
	switch {
	case !ok:
		x.problem(e, "expected a field to group by, as "+s.Alias+".NAME", "")
		return 0, false
	case i < 0:
		return 0, false
	case s.Fields[i].Type.Kind == event.Double || s.Fields[i].Type.Kind >= event.List:
		x.problem(e, fmt.Sprintf("a %s is no key to group by", s.Fields[i].Type), "")
		return 0, false
	}
	return i, true
}

// takes says what an aggregate takes, for messages and to check it.
var takes = map[window.Aggregate]struct {
	least, most int
	form        string
}{
	window.Count: {0, 0, ""}, window.Rate: {0, 1, ""}, window.Lag: {1, 2, ", 1"}, window.Quantile: {2, 2, ", 0.95"},
	window.TopK: {2, 2, ", 3"}, window.Speed: {2, 2, ""},
}

func (x *rewriter) aggregate(e celast.Expr, args []celast.Expr, w *windowSpec) bool {
	name := e.AsCall().FunctionName()
	w.aggregate = aggregates[name]
	want, special := takes[w.aggregate]
	if !special {
		want.least, want.most = 1, 1
	}
	if len(args) < want.least || len(args) > want.most {
		alias := x.scope.schema.Alias
		switch {
		case w.aggregate == window.Count:
			x.problem(e, "count takes nothing", "count under a condition is .where(CONDITION).count()")
		case w.aggregate == window.Speed:
			x.problem(e, fmt.Sprintf("speed takes two expressions, the latitude and the longitude in degrees, as speed(%s.lat, %s.lon)", alias, alias), "")
		case want.most == 2:
			x.problem(e, fmt.Sprintf("%s takes an expression and a number, as %s(%s.amount%s)", name, name, alias, want.form), "")
		default:
			x.problem(e, fmt.Sprintf("%s takes one expression, as %s(%s.amount)", name, name, alias), "")
		}
		return false
	}
	w.n = 1
	switch {
	case len(args) == 0:
		return true
	case w.aggregate == window.Speed:
		return x.value(args[0], w) && x.value(args[1], w)
	case len(args) == 2 && w.aggregate == window.Quantile:
		return x.value(args[0], w) && x.share(args[1], w)
	case len(args) == 2:
		return x.value(args[0], w) && x.number(args[1], w)
	}
	return x.value(args[0], w)
}

// value reads an expression that is aggregated.
func (x *rewriter) value(e celast.Expr, w *windowSpec) bool {
	v := windowValue{text: x.unparse(e), expr: x.within(w, func() *expression { return x.sub(e, nil, "") })}
	if v.expr == nil {
		return false
	}
	t := v.expr.ast.GetType(v.expr.ast.Expr().ID())
	var ok bool
	v.typ, ok = valueType(v.expr)
	number := v.typ.Kind == event.Int64 || v.typ.Kind == event.Double || v.typ.Kind == event.Decimal
	text := v.typ.Kind == event.String || v.typ.Kind == event.Bytes
	found := typeName(t)
	switch w.aggregate {
	case window.Sum, window.Mean, window.Variance, window.Stddev, window.ZScore, window.Rate, window.Quantile:
		if !ok || !number {
			x.problem(e, fmt.Sprintf("%s takes a number, found %s", w.aggregate, found), "")
			return false
		}
	case window.Min, window.Max:
		if !ok || text {
			x.problem(e, fmt.Sprintf("%s takes a number, a timestamp or a bool, found %s", w.aggregate, found), "")
			return false
		}
	case window.Speed:
		if !ok || v.typ.Kind != event.Double {
			x.problem(e, "speed takes degrees as doubles, found "+found, "double(...) converts")
			return false
		}
	default:
		if !ok {
			x.problem(e, fmt.Sprintf("%s takes a number, a text, a timestamp or a bool, found %s", w.aggregate, found), "")
			return false
		}
	}
	w.values = append(w.values, v)
	return true
}

// mostBack is how far lag may reach, and how many values topk may tell.
const mostBack = 1000

// number reads the N of lag and topk.
func (x *rewriter) number(e celast.Expr, w *windowSpec) bool {
	if e.Kind() == celast.LiteralKind {
		if v, ok := e.AsLiteral().(types.Int); ok && v >= 1 && v <= mostBack {
			w.n = int(v)
			return true
		}
	}
	x.problem(e, fmt.Sprintf("expected a number from 1 to %d, written out", mostBack), "")
	return false
}

// share reads the q of quantile.
func (x *rewriter) share(e celast.Expr, w *windowSpec) bool {
	if e.Kind() == celast.LiteralKind {
		switch v := e.AsLiteral().(type) {
		case types.Double:
			w.q = float64(v)
			if w.q >= 0 && w.q <= 1 {
				return true
			}
		case types.Int:
			w.q = float64(v)
			if v == 0 || v == 1 {
				return true
			}
		}
	}
	x.problem(e, "expected a number from 0 to 1, written out, as 0.95", "")
	return false
}

// complete wants what each window needs.
func (x *rewriter) complete(chain []celast.Expr, w *windowSpec) bool {
	last := chain[len(chain)-1]
	reads := w.aggregate == window.ZScore || w.aggregate == window.IsNew
	switch {
	case w.aggregate == 0:
		x.problem(last, "a window needs an aggregate at its end", "such as .count()")
	case w.over != x.c.stream && reads:
		x.problem(last, fmt.Sprintf("%s compares the current event with those before it, and the current event is none of %s", w.aggregate, w.over.schema.Stream), "")
	case w.over != x.c.stream && w.extent.WithoutCurrent:
		x.problem(last, "the current event is none of "+w.over.schema.Stream, "leave out excluding_current")
	default:
		return true
	}
	return false
}

// sub compiles a part of the expression, in which the alias is the past event,
// as an expression of its own.
func (x *rewriter) sub(e celast.Expr, want *cel.Type, wanted string) *expression {
	again := x.c.parse(x.src)
	if again == nil {
		return nil
	}
	y := &rewriter{c: x.c, src: x.src, scope: &scope{schema: x.c.stream.schema, vars: map[string]variable{}, stream: x.c.stream}, info: x.info,
		factory: x.factory, nextID: x.nextID, bound: x.bound, types: x.types, inWindow: true}
	y.walk(e)
	x.nextID = y.nextID
	if y.failed {
		x.failed = true
		return nil
	}
	// The fresh parse lends its node numbers' places; its root takes the part in.
	info, root := again.NativeRep().SourceInfo(), again.NativeRep().Expr()
	for id, r := range x.info.OffsetRanges() {
		info.SetOffsetRange(id, r)
	}
	if r, ok := x.info.GetOffsetRange(e.ID()); ok {
		info.SetOffsetRange(root.ID(), r)
	}
	root.SetKindCase(e)
	y.info = info
	out := x.c.check(y, again, want, wanted)
	x.failed = x.failed || out == nil
	return out
}

// canonical is the identity of a window's events: windows of equal canonical
// text share an operator.
func (w *windowSpec) canonical() string {
	return fmt.Sprintf("%s %v %v %s", w.over.schema.Stream, w.keys, w.now, strings.TrimSpace(w.whereText))
}

// local reports whether all events of a key are in one partition of the rule's stream.
func (w *windowSpec) local(s *streamBuilder) bool {
	return w.over == s && s.schema.Key >= 0 && slices.Contains(w.keys, s.schema.Key)
}

// name tells windows apart.
func (w *windowSpec) name() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s|%+v|%s|%d|%v", w.canonical(), w.extent, w.aggregate, w.n, w.q)
	for _, v := range w.values {
		fmt.Fprintf(&b, "|%s", v.text)
	}
	return b.String()
}
