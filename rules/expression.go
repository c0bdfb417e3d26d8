package rules

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/parser"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// Limits of an expression. A rule within them compiles in milliseconds.
const (
	expressionMax = 16 << 10 // characters
	nodesMax      = 4000
	depthMax      = 100
	costMax       = 1_000_000 // of one evaluation, only counted where there are comprehensions
)

// variable is what a name in an expression stands for.
type variable struct {
	kind  varKind
	index int // of the field, the feature slot, or the constant
}

type varKind uint8

const (
	fieldVar varKind = iota + 1
	windowVar
	constVar
	hasFieldVar
	hasWindowVar
	tablesVar // the tables, for lookups
	pathVar   // index of the member of a struct in streamBuilder.paths
	hasPathVar
)

// scope is the names of one rule's expressions over one stream.
type scope struct {
	schema *event.Schema
	vars   map[string]variable
	consts []decimal
	decls  []cel.EnvOption // beyond the stream's own
	stream *streamBuilder  // whose windows the rule reads
	// lookups are by the number in their functions' names; texts are how a person
	// wrote them, by the call's id.
	lookups []*lookup
	texts   map[int64]string
}

func (s *scope) declare(name string, v variable, t *cel.Type) {
	if _, ok := s.vars[name]; !ok {
		s.vars[name] = v
		s.decls = append(s.decls, cel.Variable(name, t))
	}
}

// expression is a checked expression.
type expression struct {
	env   *cel.Env
	ast   *celast.AST
	scope *scope
	text  *sourceText
}

// celType is a field type in CEL.
func celType(t event.Type) *cel.Type {
	switch t.Kind {
	case event.Bool:
		return cel.BoolType
	case event.Int64:
		return cel.IntType
	case event.Double:
		return cel.DoubleType
	case event.Decimal:
		return decimalType
	case event.String:
		return cel.StringType
	case event.Timestamp:
		return cel.TimestampType
	case event.List:
		return cel.ListType(celType(t.Elem().Type))
	case event.Map:
		return cel.MapType(cel.StringType, celType(t.Elem().Type))
	case event.Struct:
		return cel.ObjectType(structName(t))
	}
	return cel.BytesType
}

// newEnv is the CEL environment of a stream's rules: the fields as variables.
func newEnv(s *event.Schema) (*cel.Env, error) {
	opts := []cel.EnvOption{
		cel.CrossTypeNumericComparisons(true),
		cel.EnableMacroCallTracking(),
		cel.OptionalTypes(),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(expressionMax),
		cel.ParserRecursionLimit(depthMax),
		cel.ExpressionNodeLimit(nodesMax),
		ext.Strings(), ext.Math(), ext.Lists(), ext.Sets(), ext.Bindings(),
	}
	for _, f := range s.Fields {
		opts = append(opts, cel.Variable(s.Alias+"."+f.Name, celType(f.Type)))
	}
	opts = append(append(opts, decimalOptions()...), containsOption())
	return cel.NewEnv(append(opts, structTypes(s))...)
}

// sourceText is the text of one expression and where it stands.
type sourceText struct {
	rule  *Rule
	key   string
	text  string
	runes []rune
}

func newSource(r *Rule, key, text string) *sourceText {
	return &sourceText{rule: r, key: key, text: text, runes: []rune(text)}
}

// offset is where line (from 1) and column (from 0) are.
func (s *sourceText) offset(line, column int) int {
	i := 0
	for ; line > 1 && i < len(s.runes); i++ {
		if s.runes[i] == '\n' {
			line--
		}
	}
	return min(max(i+column, 0), len(s.runes)) // the end has column -1
}

// afterDot is where the name of a selection begins, whose place is its dot.
func (s *sourceText) afterDot(at int) int {
	if at < len(s.runes) && s.runes[at] == '.' {
		return at + 1
	}
	return at
}

// number is the text of the number that is written at an offset.
func (s *sourceText) number(at int) string {
	i, digits := at, 0
	var b strings.Builder
	if i < len(s.runes) && s.runes[i] == '-' {
		b.WriteByte('-')
		for i++; i < len(s.runes) && (s.runes[i] == ' ' || s.runes[i] == '\n'); i++ {
		}
	}
	for ; i < len(s.runes); i++ {
		c := s.runes[i]
		sign := (c == '-' || c == '+') && digits > 0 && (s.runes[i-1] == 'e' || s.runes[i-1] == 'E')
		if !sign && !(c >= '0' && c <= '9') && c != '.' && !(digits > 0 && (c == 'e' || c == 'E')) {
			break
		}
		digits++
		b.WriteRune(c)
	}
	if digits == 0 {
		return ""
	}
	return b.String()
}

// parse parses an expression; mistakes are added to the compiler's problems.
func (c *compiler) parse(src *sourceText) *cel.Ast {
	parsed, iss := c.stream.env.Parse(src.text)
	if iss.Err() != nil {
		c.celProblems(src, &scope{}, iss)
		return nil
	}
	return parsed
}

// compile parses, rewrites and checks an expression that must have type want.
func (c *compiler) compile(src *sourceText, sc *scope, want *cel.Type, wanted string) *expression {
	parsed := c.parse(src)
	if parsed == nil {
		return nil
	}
	x := &rewriter{c: c, src: src, scope: sc, info: parsed.NativeRep().SourceInfo(), nextID: celast.MaxID(parsed.NativeRep()) + 1, factory: celast.NewExprFactory()}
	x.walk(parsed.NativeRep().Expr())
	if x.failed {
		return nil
	}
	return c.check(x, parsed, want, wanted)
}

func (c *compiler) check(x *rewriter, parsed *cel.Ast, want *cel.Type, wanted string) *expression {
	env := c.stream.env
	if len(x.scope.decls) > 0 {
		var err error
		if env, err = env.Extend(x.scope.decls...); err != nil {
			x.problem(parsed.NativeRep().Expr(), err.Error(), "")
			return nil
		}
	}
	checked, iss := env.Check(parsed)
	if iss.Err() != nil {
		c.celProblems(x.src, x.scope, iss)
		return nil
	}
	if want != nil && !checked.OutputType().IsExactType(want) {
		x.problem(parsed.NativeRep().Expr(), fmt.Sprintf("expected %s, found %s", wanted, typeName(checked.OutputType())), "")
		return nil
	}
	return &expression{env: env, ast: checked.NativeRep(), scope: x.scope, text: x.src}
}

func typeName(t *cel.Type) string {
	if t.IsExactType(cel.BoolType) {
		return "a condition (bool)"
	}
	return t.String()
}

var (
	noOverload = regexp.MustCompile(`^found no matching overload for '(.+)' applied to '(.*)'$`)
	undeclared = regexp.MustCompile(`^undeclared reference to '([^']+)'(?: \((?:in container ''|did you mean '([^']+)'\?)\))?$`)
	syntaxAt   = regexp.MustCompile(`^Syntax error: .*(?:input|at:) '([^' ]+) ?'`)

	// otherLanguages are operators of SQL and others, with CEL's.
	otherLanguages = map[string]string{"=": "==", "and": "&&", "&": "&&", "or": "||", "|": "||"}
)

// celProblems turns what cel-go says into problems with a place in the file.
func (c *compiler) celProblems(src *sourceText, sc *scope, iss *cel.Issues) {
	for _, e := range iss.Errors() {
		at := 0
		if e.Location.Line() > 0 {
			at = src.afterDot(src.offset(e.Location.Line(), e.Location.Column()))
		}
		p := src.rule.problem(src.key, at, e.Message)
		if m := noOverload.FindStringSubmatch(e.Message); m != nil {
			name, isOp := operators.FindReverse(m[1])
			if !isOp {
				name = m[1]
			}
			p.Message = fmt.Sprintf("%q is not defined for %s", name, m[2])
			if l := sc.lookupOf(name); l != nil {
				p.Message = fmt.Sprintf("%s %s has the key (%s), found (%s", l.def.Kind(), l.def.Name, keyTypes(l.def), strings.TrimPrefix(m[2], "("+tablesType.String()+", "))
			}
		}
		if m := syntaxAt.FindStringSubmatch(e.Message); m != nil && otherLanguages[strings.ToLower(m[1])] != "" {
			p.Hint = fmt.Sprintf("did you mean %q?", otherLanguages[strings.ToLower(m[1])])
		}
		if m := undeclared.FindStringSubmatch(e.Message); m != nil {
			p.Message = fmt.Sprintf("unknown name %q; expected a field as %s.NAME, or a function", m[1], c.stream.schema.Alias)
			if p.Hint = schema.Suggest(m[1], append(c.functionNames(), c.stream.schema.Alias)); m[2] != "" {
				p.Hint = fmt.Sprintf("did you mean %q?", m[2])
			}
		}
		c.problems = append(c.problems, p)
	}
}

// functionNames are what a person may have meant by an unknown name.
func (c *compiler) functionNames() []string {
	names := []string{"last", "has", "list", "table", lookupName}
	for name := range c.stream.env.Functions() {
		if !strings.ContainsAny(name, "@_[]!") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// rewriter makes a parsed expression ready for the type checker: windows become
// variables, numbers beside decimals become decimals, ints beside doubles doubles.
type rewriter struct {
	c        *compiler
	src      *sourceText
	scope    *scope
	info     *celast.SourceInfo
	factory  celast.ExprFactory
	nextID   int64
	bound    []string // names of comprehension variables
	types    []typ    // of them
	inWindow bool     // inside where or an aggregate
	failed   bool
}

// mention is a field or window that an expression reads.
type mention struct {
	name string
	v    variable
	// Of a lookup: its type, and how it is evaluated again.
	typ  event.Type
	node *node
	cel  *celProgram
	path *fieldPath // of a struct's member
}

func (x *rewriter) mention(name string, v variable) {
	if x.inWindow || x.c.mentions == nil {
		return
	}
	if !slices.ContainsFunc(*x.c.mentions, func(m mention) bool { return m.v == v }) {
		*x.c.mentions = append(*x.c.mentions, mention{name: name, v: v})
	}
}

func (x *rewriter) problem(e celast.Expr, message, hint string) {
	x.failed = true
	p := x.src.rule.problem(x.src.key, x.place(e), message)
	p.Hint = hint
	x.c.problems = append(x.c.problems, p)
}

// place is the offset that a mistake in e is reported at: for a method its name
// and not the bracket behind it.
func (x *rewriter) place(e celast.Expr) int {
	r, ok := x.info.GetOffsetRange(e.ID())
	if !ok {
		return 0
	}
	at := int(r.Start)
	if at < len(x.src.runes) && x.src.runes[at] == '(' && e.Kind() == celast.CallKind {
		for at > 0 && strings.ContainsRune(" \n\t", x.src.runes[at-1]) {
			at--
		}
		for at > 0 && isWord(x.src.runes[at-1]) {
			at--
		}
	}
	return x.src.afterDot(at)
}

func isWord(c rune) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// typ is what the rewriter knows of a type: of fields, windows, numbers, and
// what arithmetic makes of them. A zero kind is anything else.
type typ struct {
	kind    event.Kind
	literal bool
	scale   uint8       // of decimals, where known
	nested  *event.Type // of lists, maps and structs, where known
}

var unknown typ

func (x *rewriter) walk(e celast.Expr) typ {
	switch e.Kind() {
	case celast.LiteralKind:
		return literalType(e.AsLiteral())
	case celast.IdentKind:
		return x.ident(e)
	case celast.SelectKind:
		return x.selection(e)
	case celast.CallKind:
		return x.call(e)
	case celast.ListKind:
		for _, el := range e.AsList().Elements() {
			x.walk(el)
		}
	case celast.MapKind:
		for _, en := range e.AsMap().Entries() {
			x.walk(en.AsMapEntry().Key())
			x.walk(en.AsMapEntry().Value())
		}
	case celast.StructKind:
		for _, f := range e.AsStruct().Fields() {
			x.walk(f.AsStructField().Value())
		}
	case celast.ComprehensionKind:
		x.comprehension(e.AsComprehension())
	}
	return unknown
}

func literalType(v ref.Val) typ {
	switch v.(type) {
	case types.Int:
		return typ{kind: event.Int64, literal: true}
	case types.Double:
		return typ{kind: event.Double, literal: true}
	case types.String:
		return typ{kind: event.String, literal: true}
	case types.Bool:
		return typ{kind: event.Bool, literal: true}
	}
	return unknown
}

func (x *rewriter) comprehension(e celast.ComprehensionExpr) {
	over := x.walk(e.IterRange())
	x.walk(e.AccuInit())
	depth := len(x.bound)
	first, second := over.elem(), unknown // of a list its elements, of a map its keys
	switch isMap := over.nested != nil && over.nested.Kind == event.Map; {
	case isMap:
		first, second = typ{kind: event.String}, over.elem()
	case e.HasIterVar2():
		first, second = typ{kind: event.Int64}, over.elem()
	}
	x.bound, x.types = append(x.bound, e.IterVar(), e.AccuVar()), append(x.types, first, unknown)
	if e.HasIterVar2() {
		x.bound, x.types = append(x.bound, e.IterVar2()), append(x.types, second)
	}
	if slices.Contains(x.bound, x.scope.schema.Alias) {
		x.problem(e.IterRange(), fmt.Sprintf("%s is the name of the event and cannot name an element", x.scope.schema.Alias), "choose another name")
	}
	x.walk(e.LoopCondition())
	x.walk(e.LoopStep())
	x.walk(e.Result())
	x.bound, x.types = x.bound[:depth], x.types[:depth]
}

func (x *rewriter) ident(e celast.Expr) typ {
	for i, name := range slices.Backward(x.bound) {
		if name == e.AsIdent() {
			return x.types[i]
		}
	}
	if e.AsIdent() == x.scope.schema.Alias {
		x.problem(e, fmt.Sprintf("%s is the whole event; expected one of its fields, as %[1]s.%s", e.AsIdent(), x.scope.schema.Fields[0].Name), "")
	}
	return unknown
}

// field resolves alias.NAME, where NAME may hold dots. ok tells that e begins
// with the alias; index is -1 where there is no such field, which is reported.
func (x *rewriter) field(e celast.Expr) (index int, ok bool) {
	var parts []string
	at := e
	for at.Kind() == celast.SelectKind {
		parts = append(parts, at.AsSelect().FieldName())
		at = at.AsSelect().Operand()
	}
	alias := x.scope.schema.Alias
	if at.Kind() != celast.IdentKind || at.AsIdent() != alias || len(parts) == 0 {
		return -1, false
	}
	slices.Reverse(parts)
	name := strings.Join(parts, ".")
	if i := x.scope.schema.Index(name); i >= 0 {
		x.c.stream.need(i)
		return i, true
	}
	if i := x.scope.schema.Index(parts[0]); i >= 0 && x.scope.schema.Fields[i].Type.IsNested() {
		return -1, false // something within a field
	}
	names := make([]string, len(x.scope.schema.Fields))
	for i, f := range x.scope.schema.Fields {
		names[i] = f.Name
	}
	hint := schema.Suggest(name, names)
	if hint == "" {
		hint = "it has " + strings.Join(names, ", ")
	}
	x.problem(e, fmt.Sprintf("stream %s has no field %q", x.scope.schema.Stream, name), hint)
	return -1, true
}

func (x *rewriter) fieldName(i int) string {
	return x.scope.schema.Alias + "." + x.scope.schema.Fields[i].Name
}

func (x *rewriter) selection(e celast.Expr) typ {
	if isLookup(e.AsSelect().Operand()) {
		return x.lookupColumn(e)
	}
	if v, t, ok := x.path(e); ok {
		return x.selected(e, x.c.stream.paths[v.index].name, v, t)
	}
	i, ok := x.field(e)
	switch {
	case !ok:
		return x.member(e, x.walk(e.AsSelect().Operand()))
	case i < 0:
		return unknown
	}
	return x.selected(e, x.fieldName(i), variable{fieldVar, i}, x.scope.schema.Fields[i].Type)
}

// selected is a field or a struct's member of that name, or the question whether it
// is there.
func (x *rewriter) selected(e celast.Expr, name string, v variable, t event.Type) typ {
	x.mention(name, v)
	if e.AsSelect().IsTestOnly() {
		x.replaceByHas(e, v)
		return typ{kind: event.Bool}
	}
	if v.kind == pathVar {
		x.scope.declare(name, v, celType(t))
	} else {
		x.scope.vars[name] = v
	}
	return typeOf(t)
}

// hasVar is the variable that tells whether another has a value.
func (x *rewriter) hasVar(v variable) string {
	name, kind := "@has.field"+strconv.Itoa(v.index), hasFieldVar
	switch v.kind {
	case windowVar:
		name, kind = "@has.window"+strconv.Itoa(v.index), hasWindowVar
	case pathVar:
		name, kind = "@has.path"+strconv.Itoa(v.index), hasPathVar
	}
	x.scope.declare(name, variable{kind, v.index}, cel.BoolType)
	return name
}

func (x *rewriter) replaceByHas(e celast.Expr, v variable) {
	e.SetKindCase(x.factory.NewIdent(e.ID(), x.hasVar(v)))
	x.info.ClearMacroCall(e.ID())
}

// inner moves an expression's content into a new node, so that the old node can
// become something around it.
func (x *rewriter) inner(e celast.Expr) celast.Expr {
	n := x.factory.NewUnspecifiedExpr(x.nextID)
	n.SetKindCase(e)
	if r, ok := x.info.GetOffsetRange(e.ID()); ok {
		x.info.SetOffsetRange(x.nextID, r)
	}
	x.nextID++
	return n
}

// wrap makes e the argument of a conversion.
func (x *rewriter) wrap(e celast.Expr, function string) {
	e.SetKindCase(x.factory.NewCall(e.ID(), function, x.inner(e)))
}

func (x *rewriter) call(e celast.Expr) typ {
	call := e.AsCall()
	if isWindowChain(e) {
		return x.window(e)
	}
	switch call.FunctionName() {
	case "list", "table":
		if !call.IsMemberFunction() {
			x.problem(e, fmt.Sprintf(`%s("...") stands behind in: x in %[1]s("...")`, call.FunctionName()), "")
			return unknown
		}
	case lookupName:
		if !call.IsMemberFunction() {
			x.problem(e, "lookup needs a column", `as lookup("merchants", tx.merchant).category`)
			return unknown
		}
	case operators.In:
		if isTable(call.Args()[1]) {
			return x.membership(e)
		}
	case operators.OptSelect:
		return x.optional(e)
	case "orValue", "hasValue", "optMap", "optFlatMap", "value":
		if t, ok := x.orValue(e); ok {
			return t
		}
	}
	var target typ
	if call.IsMemberFunction() {
		target = x.walk(call.Target())
	}
	args := make([]typ, len(call.Args()))
	for i, a := range call.Args() {
		args[i] = x.walk(a)
	}
	if el := target.elem(); call.FunctionName() == "contains" && len(args) == 1 && el.kind != 0 {
		x.unify(x.factory.NewUnspecifiedExpr(0), call.Args()[0], el, args[0])
		return typ{kind: event.Bool}
	}
	return x.coerce(e, call, args)
}

// optional is alias.?field outside of orValue and hasValue.
func (x *rewriter) optional(e celast.Expr) typ {
	x.problem(e, "an optional value is only understood before .orValue(...) and .hasValue()", "for instance tx.?country.orValue(\"XX\")")
	return unknown
}

// orValue rewrites V.orValue(D) to has(V) ? V : D and V.hasValue() to has(V) for
// a field or window V, written V or alias.?field.
func (x *rewriter) orValue(e celast.Expr) (typ, bool) {
	call := e.AsCall()
	if !call.IsMemberFunction() {
		return unknown, false
	}
	target := call.Target()
	if target.Kind() == celast.CallKind && target.AsCall().FunctionName() == operators.OptSelect {
		args := target.AsCall().Args()
		name, ok := args[1].AsLiteral().(types.String)
		if !ok {
			return unknown, false
		}
		target.SetKindCase(x.factory.NewSelect(target.ID(), args[0], string(name)))
	}
	if name := call.FunctionName(); target.Kind() == celast.SelectKind && isLookup(target.AsSelect().Operand()) &&
		(name == "orValue" && len(call.Args()) == 1 || name == "hasValue" && len(call.Args()) == 0) {
		return x.lookupOr(e, target), true
	}
	t := x.walk(target)
	v, ok := x.variableOf(target)
	if !ok {
		if isOptIndex(target) && call.FunctionName() == "orValue" && len(call.Args()) == 1 {
			// An element that may be missing: cel-go's optional, with a fitting other.
			other := call.Args()[0]
			if to := x.walk(other); t.kind == event.Decimal && to.literal && numeric(to) {
				x.toDecimal(other, t.scale)
			} else if t.kind == event.Double {
				x.toDouble(other, to)
			}
			return t, true
		}
		return unknown, x.failed
	}
	switch name := call.FunctionName(); {
	case name == "hasValue" && len(call.Args()) == 0:
		x.replaceByHas(e, v)
		return typ{kind: event.Bool}, true
	case name == "orValue" && len(call.Args()) == 1:
		other := call.Args()[0]
		has := x.factory.NewIdent(x.newID(e), x.hasVar(v))
		e.SetKindCase(x.factory.NewCall(e.ID(), operators.Conditional, has, target, other))
		return x.branches(target, other, t, x.walk(other)), true
	}
	return unknown, false
}

func (x *rewriter) newID(like celast.Expr) int64 {
	id := x.nextID
	x.nextID++
	if r, ok := x.info.GetOffsetRange(like.ID()); ok {
		x.info.SetOffsetRange(id, r)
	}
	return id
}

func isOptIndex(e celast.Expr) bool {
	return e.Kind() == celast.CallKind && e.AsCall().FunctionName() == operators.OptIndex
}

// variableOf is the field or window that an expression is.
func (x *rewriter) variableOf(e celast.Expr) (variable, bool) {
	switch e.Kind() {
	case celast.IdentKind:
		v, ok := x.scope.vars[e.AsIdent()]
		return v, ok && v.kind == windowVar
	case celast.SelectKind:
		if v, _, ok := x.path(e); ok {
			return v, true
		}
		if i, ok := x.field(e); ok && i >= 0 {
			return variable{fieldVar, i}, true
		}
	}
	return variable{}, false
}

// coerce makes the operands of a call fit each other.
func (x *rewriter) coerce(e celast.Expr, call celast.CallExpr, t []typ) typ {
	args := call.Args()
	switch call.FunctionName() {
	case operators.Add, operators.Subtract, operators.Multiply:
		return x.unify(args[0], args[1], t[0], t[1])
	case operators.Divide:
		for i := range args {
			if t[0].kind == event.Decimal || t[1].kind == event.Decimal {
				t[i] = x.toDouble(args[i], t[i])
			}
		}
		return x.unify(args[0], args[1], t[0], t[1])
	case operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		if t[0].literal || t[1].literal || t[0].kind == event.Decimal || t[1].kind == event.Decimal {
			x.unify(args[0], args[1], t[0], t[1])
		}
		return typ{kind: event.Bool}
	case operators.Equals, operators.NotEquals:
		x.unify(args[0], args[1], t[0], t[1])
		return typ{kind: event.Bool}
	case operators.In:
		if args[1].Kind() == celast.ListKind {
			for _, el := range args[1].AsList().Elements() {
				x.unify(args[0], el, t[0], literalOf(el))
			}
		} else if el := t[1].elem(); t[1].kind == event.List && el.kind == event.Decimal && t[0].literal && numeric(t[0]) {
			x.toDecimal(args[0], 0)
		} else if t[1].kind == event.List && el.kind == event.Double {
			x.toDouble(args[0], t[0])
		}
		return typ{kind: event.Bool}
	case operators.Index, operators.OptIndex:
		return t[0].elem()
	case operators.Negate:
		return typ{kind: t[0].kind}
	case operators.Conditional:
		return x.branches(args[1], args[2], t[1], t[2])
	case operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot:
		return typ{kind: event.Bool}
	case operators.Modulo, "int", "size":
		return typ{kind: event.Int64}
	case "double":
		return typ{kind: event.Double}
	case "decimal":
		return typ{kind: event.Decimal}
	case "string":
		return typ{kind: event.String}
	}
	return unknown
}

func literalOf(e celast.Expr) typ {
	if e.Kind() == celast.LiteralKind {
		return literalType(e.AsLiteral())
	}
	return unknown
}

func numeric(t typ) bool { return t.kind == event.Int64 || t.kind == event.Double }

// branches is unify for the two results of a condition: a number written there
// gets at least the places of the other, so that the result has one scale.
func (x *rewriter) branches(a, b celast.Expr, ta, tb typ) typ {
	if tb.kind == event.Decimal && ta.literal {
		a, b, ta, tb = b, a, tb, ta
	}
	if ta.kind == event.Decimal && tb.literal && numeric(tb) {
		x.toDecimal(b, ta.scale)
		return ta
	}
	return x.unify(a, b, ta, tb)
}

// unify gives two operands one numeric type and returns it.
func (x *rewriter) unify(a, b celast.Expr, ta, tb typ) typ {
	if tb.kind == event.Decimal && ta.kind != event.Decimal || tb.kind == event.Double && ta.kind == event.Int64 {
		return x.unify(b, a, tb, ta)
	}
	switch {
	case ta.kind == event.Decimal && tb.literal && numeric(tb):
		x.toDecimal(b, 0)
		return typ{kind: event.Decimal}
	case ta.kind == event.Decimal && tb.kind == event.Int64:
		x.wrap(b, "decimal")
		return typ{kind: event.Decimal}
	case ta.kind == event.Decimal && tb.kind == event.Double:
		x.wrap(a, "double")
		return typ{kind: event.Double}
	case ta.kind == event.Double && tb.kind == event.Int64:
		return x.toDouble(b, tb)
	case ta.kind == tb.kind:
		return typ{kind: ta.kind}
	}
	return unknown
}

// toDouble makes a double of an int or decimal.
func (x *rewriter) toDouble(e celast.Expr, t typ) typ {
	switch {
	case t.kind == event.Int64 && t.literal:
		e.SetKindCase(x.factory.NewLiteral(e.ID(), types.Double(e.AsLiteral().(types.Int))))
	case t.kind == event.Int64 || t.kind == event.Decimal:
		x.wrap(e, "double")
	default:
		return t
	}
	return typ{kind: event.Double}
}

// toDecimal makes a decimal of a number as it is written, with at least so many
// places where they fit.
func (x *rewriter) toDecimal(e celast.Expr, places uint8) {
	s := ""
	if r, ok := x.info.GetOffsetRange(e.ID()); ok {
		s = x.src.number(int(r.Start))
	}
	d, err := parseDecimal(s)
	if s == "" || err != nil || !sameNumber(d, e.AsLiteral()) {
		if err == nil {
			err = errors.New("not understood as a decimal")
		}
		x.problem(e, fmt.Sprintf("the number %s beside a decimal: %v", s, err), fmt.Sprintf("a decimal has at most %d digits behind the point", event.MaxScale))
		return
	}
	if d.scale < places {
		if v, fits := scaleUp(d.v, places-d.scale); fits {
			d = decimal{v, places}
		}
	}
	i := slices.Index(x.scope.consts, d)
	if i < 0 {
		i = len(x.scope.consts)
		x.scope.consts = append(x.scope.consts, d)
	}
	name := "@decimal" + strconv.Itoa(i)
	x.scope.declare(name, variable{constVar, i}, decimalType)
	e.SetKindCase(x.factory.NewIdent(e.ID(), name))
}

// sameNumber guards against having read another text than the literal's own.
func sameNumber(d decimal, v ref.Val) bool {
	switch v := v.(type) {
	case types.Int:
		return d.compare(decimal{v: int64(v)}) == 0
	case types.Double:
		f, err := strconv.ParseFloat(d.String(), 64)
		return err == nil && f == float64(v)
	}
	return false
}

// unparse is an expression as text in one line.
func (x *rewriter) unparse(e celast.Expr) string {
	s, err := parser.Unparse(e, x.info, parser.WrapOnColumn(1<<30))
	if err != nil {
		return fmt.Sprintf("expression %d", e.ID())
	}
	return s
}

// features is the type of a window's column.
func (s *scope) features(slot int) event.Type { return s.stream.features[slot] }

// valueType is the type of values that a window aggregates, false where they are of
// none that it can.
func valueType(e *expression) (event.Type, bool) {
	t := e.ast.GetType(e.ast.Expr().ID())
	switch {
	case t.IsExactType(cel.BoolType):
		return event.Type{Kind: event.Bool}, true
	case t.IsExactType(cel.IntType):
		return event.Type{Kind: event.Int64}, true
	case t.IsExactType(cel.DoubleType):
		return event.Type{Kind: event.Double}, true
	case t.IsExactType(cel.StringType):
		return event.Type{Kind: event.String}, true
	case t.IsExactType(cel.BytesType):
		return event.Type{Kind: event.Bytes}, true
	case t.IsExactType(cel.TimestampType):
		return event.Type{Kind: event.Timestamp}, true
	case t.IsExactType(decimalType):
		// The number of places is only known of what closure.go covers.
		if n := e.node(); n != nil {
			return event.Type{Kind: event.Decimal, Scale: n.scale}, true
		}
	}
	return event.Type{}, false
}
