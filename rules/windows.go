package rules

import (
	"fmt"
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

// aggregates are those that exist, later ones those that the language has a name
// for already.
var (
	aggregates = map[string]window.Aggregate{"count": window.Count, "sum": window.Sum, "mean": window.Mean}
	later      = []string{"min", "max", "variance", "stddev", "zscore", "distinct", "first", "last", "lag", "rate", "quantile", "topk", "entropy", "speed", "is_new"}
	steps      = []string{"by", "where", "delay", "excluding_current"}
)

func isAggregate(name string) bool { return aggregates[name] != 0 || slices.Contains(later, name) }

// chainOf is the calls of a method chain that begins with last(...), first call
// first, or nil where e is none.
func chainOf(e celast.Expr) []celast.Expr {
	var chain []celast.Expr
	for e.Kind() == celast.CallKind {
		call := e.AsCall()
		chain = append(chain, e)
		root := !call.IsMemberFunction() || call.Target().Kind() == celast.IdentKind
		if call.FunctionName() == "last" && root {
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
	length    time.Duration
	by        bool
	where     *expression
	whereText string
	aggregate window.Aggregate
	value     *expression
	valueText string
	valueType event.Type
}

// window replaces a window chain by a variable.
func (x *rewriter) window(e celast.Expr) typ {
	name := x.unparse(e)
	chain := chainOf(e)
	if x.inWindow {
		x.problem(chain[0], "a window inside a window's where or aggregate", "there the alias is the past event, which has no windows")
		return unknown
	}
	var w windowSpec
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
	return typ{kind: t.Kind, scale: t.Scale}
}

// root reads [STREAM.]last(SPAN).
func (x *rewriter) root(e celast.Expr, w *windowSpec) bool {
	call := e.AsCall()
	if call.IsMemberFunction() {
		name := call.Target().AsIdent()
		if name != x.scope.schema.Alias && name != x.scope.schema.Stream {
			x.problem(call.Target(), fmt.Sprintf("windows over another stream (%s) are not available yet", name), "leave it out for the rule's own stream")
			return false
		}
	}
	if len(call.Args()) != 1 || call.Args()[0].Kind() != celast.LiteralKind {
		x.problem(e, `last takes one length, written out: last("1h")`, "")
		return false
	}
	arg := call.Args()[0]
	switch v := arg.AsLiteral().(type) {
	case types.String:
		d, err := parseSpan(string(v))
		if err != nil {
			x.problem(arg, fmt.Sprintf("length %q: %v", string(v), err), "")
			return false
		}
		w.length = d
		return true
	case types.Int:
		x.problem(arg, "windows of a number of events are not available yet", `give a duration, as last("1h")`)
	default:
		x.problem(arg, `expected a duration, as "1h"`, "")
	}
	return false
}

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
		w.where = x.sub(args[0], cel.BoolType, "a condition (bool)")
		return w.where != nil
	case name == "delay", name == "excluding_current":
		x.problem(e, "."+name+"(...) is not available yet", "")
	case slices.Contains(later, name):
		x.problem(e, fmt.Sprintf("the aggregate %s is not available yet", name), "there are count, sum and mean")
	case aggregates[name] != 0:
		return x.aggregate(e, args, w)
	default:
		known := append(append(slices.Clone(steps), "count", "sum", "mean"), later...)
		x.problem(e, fmt.Sprintf("a window has no %s", name), schema.Suggest(name, known))
	}
	return false
}

// by accepts the stream's key.
func (x *rewriter) by(e celast.Expr, args []celast.Expr, w *windowSpec) bool {
	s := x.scope.schema
	key := "no key; give it one (key: FIELD)"
	if s.Key >= 0 {
		key = fmt.Sprintf("the key %s; write .by(%s)", s.Fields[s.Key].Name, x.fieldName(s.Key))
	}
	if len(args) != 1 || w.by {
		x.problem(e, "windows by several fields are not available yet", fmt.Sprintf("stream %s has %s", s.Stream, key))
		return false
	}
	i, ok := x.field(args[0])
	switch {
	case !ok:
		x.problem(args[0], "expected a field to group by, as "+s.Alias+".NAME", fmt.Sprintf("stream %s has %s", s.Stream, key))
		return false
	case i < 0:
		return false
	case i != s.Key:
		x.problem(args[0], fmt.Sprintf("windows by another field than the stream's key are not available yet: %s is not the key", x.fieldName(i)), fmt.Sprintf("stream %s has %s", s.Stream, key))
		return false
	case s.Fields[i].Type.Kind == event.Double:
		x.problem(args[0], "a double is no key to group by", "")
		return false
	}
	w.by = true
	return true
}

func (x *rewriter) aggregate(e celast.Expr, args []celast.Expr, w *windowSpec) bool {
	name := e.AsCall().FunctionName()
	w.aggregate = aggregates[name]
	if w.aggregate == window.Count {
		if len(args) != 0 {
			x.problem(e, "count takes nothing", "count under a condition is .where(CONDITION).count()")
			return false
		}
		return true
	}
	if len(args) != 1 {
		x.problem(e, fmt.Sprintf("%s takes one expression, as %s(%s.amount)", name, name, x.scope.schema.Alias), "")
		return false
	}
	w.valueText = x.unparse(args[0])
	w.value = x.sub(args[0], nil, "")
	if w.value == nil {
		return false
	}
	var ok bool
	if w.valueType, ok = numberType(w.value); !ok {
		x.problem(args[0], fmt.Sprintf("%s takes a number, found %s", name, typeName(w.value.ast.GetType(w.value.ast.Expr().ID()))), "")
		return false
	}
	return true
}

// complete wants what each window needs.
func (x *rewriter) complete(chain []celast.Expr, w *windowSpec) bool {
	s := x.scope.schema
	switch {
	case w.aggregate == 0:
		x.problem(chain[len(chain)-1], "a window needs an aggregate at its end", "such as .count()")
	case !w.by && s.Key < 0:
		x.problem(chain[0], fmt.Sprintf("stream %s has no key, and windows over all events are not available yet", s.Stream), "give the stream a key (key: FIELD)")
	case !w.by:
		x.problem(chain[0], "a window needs .by(KEY); windows over all events are not available yet", "add .by("+x.fieldName(s.Key)+")")
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
	y := &rewriter{c: x.c, src: x.src, scope: &scope{schema: x.scope.schema, vars: map[string]variable{}, stream: x.scope.stream}, info: x.info,
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
func (w *windowSpec) canonical() string { return strings.TrimSpace(w.whereText) }
