package rules

import (
	"fmt"
	"sync/atomic"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/table"
)

// Program is compiled rules. It implements engine.Program and is immutable but
// for its counters.
type Program struct {
	id      string
	rules   []*compiledRule // all, those that are off included
	streams map[string]*streamProgram
	keyed   []*keyedProgram

	set, silent Set // what it was compiled of; the silent ones are there for their windows
	catalog     Catalog
}

// streamProgram is what runs in the shards of one stream.
type streamProgram struct {
	schema   *event.Schema
	needs    []int
	features []event.Type
	groups   []*group
	rules    []*compiledRule
	tables   []*table.Definition // by slot
}

// compiledRule is one rule, shared by all shards.
type compiledRule struct {
	rule     Rule
	clauses  []clause // of the top-level &&, cheapest first
	message  *celProgram
	mentions []mention
	windows  []int // slots it reads
	counters *counters
}

type counters struct {
	evaluated, fired, noData, errors atomic.Int64
	lastFired                        atomic.Int64 // event time, valid where fired > 0
	lastError                        atomic.Pointer[string]
}

// clause is one part of a rule's top-level &&.
type clause struct {
	order  int // in the source
	cost   int
	reads  bool                        // a window
	native func(*frame) (bool, status) // nil: evaluated by cel
	cel    *celProgram
}

// celCost puts what runs in cel-go behind what does not.
const celCost = 1000

func newClause(e *expression, order int) (clause, error) {
	reads := e.readsWindow()
	if n := e.node(); n != nil && n.boolean != nil {
		return clause{order: order, cost: n.cost, reads: reads, native: n.boolean}, nil
	}
	p, err := newCEL(e)
	return clause{order: order, cost: celCost, reads: reads, cel: p}, err
}

func (c *clause) eval(f *frame) (bool, status) {
	if c.native != nil {
		return c.native(f)
	}
	return c.cel.evalBool(f)
}

// readsWindow reports whether an expression reads a window or asks whether it has a
// value.
func (e *expression) readsWindow() bool {
	found := false
	celast.PostOrderVisit(e.ast.Expr(), celast.NewExprVisitor(func(part celast.Expr) {
		if part.Kind() == celast.IdentKind {
			v, ok := e.scope.vars[part.AsIdent()]
			found = found || ok && (v.kind == windowVar || v.kind == hasWindowVar)
		}
	}))
	return found
}

// celProgram is an expression planned by cel-go. It is safe for use by several
// goroutines; each brings its activation.
type celProgram struct {
	program cel.Program
	scope   *scope
}

func newCEL(e *expression) (*celProgram, error) {
	opts := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if hasComprehension(e.ast.Expr()) {
		opts = append(opts, cel.CostLimit(costMax))
	}
	p, err := e.env.PlanProgram(e.ast, opts...)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	return &celProgram{program: p, scope: e.scope}, nil
}

func hasComprehension(e celast.Expr) bool {
	found := false
	celast.PostOrderVisit(e, celast.NewExprVisitor(func(e celast.Expr) {
		found = found || e.Kind() == celast.ComprehensionKind
	}))
	return found
}

// eval evaluates to a value of the type that the expression was checked for.
func (p *celProgram) eval(f *frame) (any, status) {
	v, _, err := p.program.Eval(newActivation(f, p.scope))
	if err != nil {
		if isNoData(err) {
			return nil, noData
		}
		return nil, f.fail(err)
	}
	return v, good
}

func (p *celProgram) evalBool(f *frame) (bool, status) {
	v, st := p.eval(f)
	if st != good {
		return false, st
	}
	b, isBool := v.(types.Bool)
	if !isBool {
		return false, f.fail(fmt.Errorf("the condition gave %v", v))
	}
	return bool(b), good
}

// ID implements engine.Program.
func (p *Program) ID() string { return p.id }

// Instance implements engine.Program.
func (p *Program) Instance(s *schema.Stream) (engine.Instance, error) {
	sp := p.streams[s.Schema.Stream]
	if sp == nil {
		sp = &streamProgram{schema: s.Schema}
	}
	return newInstance(sp)
}

// RuleStatus is a rule and what came of it since the process began, over all
// shards.
type RuleStatus struct {
	Rule
	Evaluated, Fired int64
	NoData           int64 // a value it needed was absent: it did not fire
	Errors           int64 // real errors: it did not fire
	LastError        string
	LastFired        event.Time // event time; MinTime where it never fired
}

// Rules is the state of all rules, in program order. It may be called at any
// time from any goroutine.
func (p *Program) Rules() []RuleStatus {
	out := make([]RuleStatus, len(p.rules))
	for i, r := range p.rules {
		c := r.counters
		s := RuleStatus{Rule: r.rule, Evaluated: c.evaluated.Load(), Fired: c.fired.Load(), NoData: c.noData.Load(), Errors: c.errors.Load(), LastFired: event.MinTime}
		if text := c.lastError.Load(); text != nil {
			s.LastError = *text
		}
		if s.Fired > 0 {
			s.LastFired = event.Time(c.lastFired.Load())
		}
		out[i] = s
	}
	return out
}
