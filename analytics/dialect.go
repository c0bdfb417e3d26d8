package analytics

import (
	"strconv"
	"strings"
)

// translation is a statement in DuckDB's dialect and the way back.
type translation struct {
	text  string
	edits []edit
}

// edit says that text[to:to+len] of the translation stands for original[from:end].
type edit struct{ from, end, to, toEnd int }

// origin is the byte of the original that byte i of the translation stands for.
func (t *translation) origin(i int) int {
	shift := 0
	for _, e := range t.edits {
		if i < e.to {
			break
		}
		if i < e.toEnd {
			return e.from
		}
		shift = e.end - e.toEnd
	}
	return i + shift
}

// translate turns PostgreSQL's spellings that DuckDB does not know into its own:
//
//	pg_catalog.x, public.x         x, which the search path finds
//	information_schema.x           weir_info.x
//	OPERATOR(pg_catalog.~)         ~
//	COLLATE pg_catalog.default     nothing
//	current_timestamp              now(), a timestamp in UTC as every column is
//	'x'::regclass                  the table's oid
//	a ~ 'x', a ~* 'x', !~, !~*     a match anywhere, as in PostgreSQL
//	"char"                         VARCHAR
func translate(original string) *translation {
	w := &rewriter{in: original, tokens: tokenize(original)}
	for w.i < len(w.tokens) {
		if !w.rule() {
			w.i++
		}
	}
	return w.finish()
}

// rewriter walks the tokens; rules look ahead over white space and comments.
type rewriter struct {
	in     string
	tokens []token
	i      int
	done   int // what is copied so far
	out    strings.Builder
	edits  []edit
}

func (w *rewriter) text(i int) string { return w.in[w.tokens[i].start:w.tokens[i].end] }

// ahead is the index of the nth token from i on that is not white space, counting
// i itself as 0; -1 where there is none.
func (w *rewriter) ahead(i, n int) int {
	for ; i < len(w.tokens); i++ {
		if w.tokens[i].kind == space {
			continue
		}
		if n == 0 {
			return i
		}
		n--
	}
	return -1
}

// before is the token before i that is not white space, -1 where there is none.
func (w *rewriter) before(i int) int {
	for i--; i >= 0; i-- {
		if w.tokens[i].kind != space {
			return i
		}
	}
	return -1
}

// name is token i as a folded identifier, or empty.
func (w *rewriter) name(i int) string {
	if i < 0 || i >= len(w.tokens) {
		return ""
	}
	switch w.tokens[i].kind {
	case word:
		return strings.ToLower(w.text(i))
	case quoted:
		return strings.ReplaceAll(strings.Trim(w.text(i), `"`), `""`, `"`)
	}
	return ""
}

// is reports whether token i has exactly this text.
func (w *rewriter) is(i int, text string) bool {
	return i >= 0 && i < len(w.tokens) && w.text(i) == text
}

// replace puts text in the place of tokens from to last and goes on behind them.
func (w *rewriter) replace(from, last int, text string) bool {
	start, end := w.tokens[from].start, w.tokens[last].end
	w.out.WriteString(w.in[w.done:start])
	e := edit{from: start, end: end, to: w.out.Len()}
	w.out.WriteString(text)
	e.toEnd = w.out.Len()
	w.edits = append(w.edits, e)
	w.done, w.i = end, last+1
	return true
}

func (w *rewriter) finish() *translation {
	w.out.WriteString(w.in[w.done:])
	return &translation{text: w.out.String(), edits: w.edits}
}

// rule applies the first rule that fits the tokens at i and moves behind what it
// replaced.
func (w *rewriter) rule() bool {
	switch w.tokens[w.i].kind {
	case word, quoted:
		return w.nameRule()
	case literal:
		return w.literalRule()
	case operator:
		return w.matchRule()
	}
	return false
}

func (w *rewriter) nameRule() bool {
	name, n1 := w.name(w.i), w.ahead(w.i, 1)
	if b := w.before(w.i); w.is(b, ".") {
		return false // a column or a member
	}
	isWord := w.tokens[w.i].kind == word
	switch {
	case (name == "pg_catalog" || name == "public") && w.is(n1, "."):
		if n2 := w.ahead(w.i, 2); n2 < 0 || w.name(n2) == "" {
			return false
		}
		return w.replace(w.i, n1, "")
	case name == "information_schema" && w.is(n1, "."):
		return w.replace(w.i, w.i, "weir_info")
	case isWord && name == "current_timestamp" && !w.is(n1, "("):
		return w.replace(w.i, w.i, "now()")
	case isWord && name == "operator" && w.is(n1, "("):
		return w.operatorRule(n1)
	case isWord && name == "collate":
		return w.collateRule(n1)
	case !isWord && name == "char" && w.is(w.before(w.i), "::"):
		return w.replace(w.i, w.i, "VARCHAR")
	}
	return false
}

// operatorRule: OPERATOR(schema.op), op being one operator token.
func (w *rewriter) operatorRule(open int) bool {
	op := w.ahead(open, 1)
	if op >= 0 && w.name(op) == "pg_catalog" && w.is(w.ahead(op, 1), ".") {
		op = w.ahead(op, 2)
	}
	if op < 0 || w.tokens[op].kind != operator || !w.is(w.ahead(op, 1), ")") {
		return false
	}
	from, last := w.i, w.ahead(op, 1)
	w.i = op
	if w.matchOperand(from, op, w.ahead(last, 1)) {
		return true
	}
	return w.replace(from, last, " "+w.text(op)+" ")
}

// collateRule drops collations that only say "the database's own".
func (w *rewriter) collateRule(next int) bool {
	last := next
	if w.name(next) == "pg_catalog" && w.is(w.ahead(next, 1), ".") {
		last = w.ahead(next, 2)
	}
	switch w.name(last) {
	case "default", "C", "c", "ucs_basic", "POSIX", "posix":
		return w.replace(w.i, last, "")
	}
	return false
}

// literalRule: 'x'::regclass is the oid of table x.
func (w *rewriter) literalRule() bool {
	if w.in[w.tokens[w.i].start] != '\'' || !w.is(w.ahead(w.i, 1), "::") {
		return false
	}
	typ := w.ahead(w.i, 2)
	if w.name(typ) == "pg_catalog" && w.is(w.ahead(typ, 1), ".") {
		typ = w.ahead(typ, 2)
	}
	if w.name(typ) != "regclass" {
		return false
	}
	return w.replace(w.i, typ, "regclass_oid("+w.text(w.i)+")")
}

// matchRule: DuckDB's ~ matches a whole string.
func (w *rewriter) matchRule() bool {
	return w.matchOperand(w.i, w.i, w.ahead(w.i, 1))
}

// matchOperand replaces the operator op, which reaches from token from to the
// operand, where that is a string or a parameter.
func (w *rewriter) matchOperand(from, op, operand int) bool {
	var not, fold bool
	switch w.text(op) {
	case "~":
	case "~*":
		fold = true
	case "!~":
		not = true
	case "!~*":
		not, fold = true, true
	default:
		return false
	}
	if operand < 0 || w.tokens[operand].kind != literal && w.tokens[operand].kind != param {
		return false
	}
	flags := "(?s)"
	if fold {
		flags = "(?si)"
	}
	to := "~"
	if not {
		to = "!~"
	}
	return w.replace(from, operand, " "+to+" ('"+flags+".*(?:' || "+w.text(operand)+" || ').*')")
}

// numberOf is the n of $n.
func numberOf(param string) int {
	n, err := strconv.Atoi(param[1:])
	if err != nil {
		return 0
	}
	return n
}

// CastParams gives the parameters of a statement the types at their index (from
// 0; empty: none): $1 becomes CAST($1 AS type). So a value that a client sent as
// text is converted as a literal in its place would be.
func CastParams(text string, types []string) string {
	var b strings.Builder
	for _, t := range tokenize(text) {
		if t.kind == param {
			if n := numberOf(text[t.start:t.end]); n >= 1 && n <= len(types) && types[n-1] != "" {
				b.WriteString("CAST(" + text[t.start:t.end] + " AS " + types[n-1] + ")")
				continue
			}
		}
		b.WriteString(text[t.start:t.end])
	}
	return b.String()
}
