package rules

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"cel.dev/cel-go/common/types"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

// grammar makes random expressions of a type, mostly sound ones.
type grammar struct{ r *rand.Rand }

func (g grammar) pick(of ...string) string { return of[g.r.IntN(len(of))] }

func (g grammar) boolean(depth int) string {
	if depth == 0 {
		return g.pick("tx.online", "true", "false", "has(tx.fee)", "has(tx.score)", "has(tx.country)", "tx.?country.hasValue()")
	}
	d := depth - 1
	switch g.r.IntN(13) {
	case 0, 1:
		return fmt.Sprintf("(%s && %s)", g.boolean(d), g.boolean(d))
	case 2, 3:
		return fmt.Sprintf("(%s || %s)", g.boolean(d), g.boolean(d))
	case 4:
		return "!" + g.boolean(d)
	case 5:
		return fmt.Sprintf("(%s ? %s : %s)", g.boolean(d), g.boolean(d), g.boolean(d))
	case 6:
		return fmt.Sprintf("%s %s %s", g.str(d), g.pick("==", "!=", "<", ">="), g.str(d))
	case 7:
		return fmt.Sprintf("(%s in %s)", g.pick("tx.country", "tx.card"), g.pick(`["DE", "x"]`, `[]`, `["c1"]`))
	case 9, 10:
		return g.pick(`(tx.card in list("cards"))`, `(tx.country in list("cards"))`, `(tx.items in list("counts"))`, `(tx.amount in list("amounts"))`, `(tx.fee in list("amounts"))`,
			`(tx.items in list("amounts"))`, `(lookup("countries", tx.country).group in list("cards"))`, `(tx.country in table("countries"))`, `lookup("countries", tx.country).blocked`,
			`has(lookup("countries", tx.country).risk)`, `has(lookup("pairs", tx.country, tx.items).fee)`, `lookup("countries", tx.country).group.hasValue()`,
			fmt.Sprintf(`(%s in list("cards"))`, g.str(d)), fmt.Sprintf(`(%s in list("counts"))`, g.number("int", d)), fmt.Sprintf(`(%s in list("amounts"))`, g.number("decimal", d)))
	case 8:
		return g.pick("(tx.amount in [1, 2.5, 0.001, 77777777777777777])", "(tx.items in [1, 2, 3])", `tx.card.startsWith(tx.country)`, `tx.country.contains("D")`, `tx.card.endsWith("1")`)
	}
	number := g.pick("int", "double", "decimal", "decimal")
	return fmt.Sprintf("%s %s %s", g.number(number, d), g.pick("==", "!=", "<", "<=", ">", ">="), g.number(number, d))
}

func (g grammar) str(depth int) string {
	if depth > 0 && g.r.IntN(4) == 0 {
		return fmt.Sprintf("(%s ? %s : %s)", g.boolean(depth-1), g.str(depth-1), g.str(depth-1))
	}
	return g.pick(`lookup("countries", tx.country).group`, `lookup("countries", tx.card).group.orValue("none")`, "tx.card", "tx.country", `"DE"`, `""`, `tx.country.orValue("XX")`, `"ü"`)
}

func (g grammar) number(of string, depth int) string {
	if depth == 0 {
		switch of {
		case "int":
			return g.pick(`lookup("countries", tx.country).risk`, `lookup("countries", tx.card).?risk.orValue(7)`, "tx.items", "0", "3", "-1", "9223372036854775807", "size(tx.card)", "size(tx.country)", `last("1h").by(tx.card).count()`)
		case "double":
			return g.pick(`lookup("countries", tx.country).rate`, "tx.score", "0.5", "2", "-1e300", "double(tx.amount)", "double(tx.items)", "tx.score.orValue(1.5)", `last("1h").by(tx.card).mean(tx.amount)`, `last("1h").by(tx.card).mean(tx.score)`)
		}
		return g.pick(`lookup("pairs", tx.country, tx.items).fee`, `lookup("pairs", lookup("countries", tx.country).group, tx.items).fee.orValue(0.25)`, "tx.amount", "tx.fee", "tx.amount", "1", "-0.005", "92233720368547758.07", "0.000001", "tx.fee.orValue(0.5)", `last("1h").by(tx.card).sum(tx.amount)`, "decimal(tx.items)")
	}
	d := depth - 1
	switch g.r.IntN(5) {
	case 0:
		return g.number(of, 0)
	case 1:
		return fmt.Sprintf("(%s ? %s : %s)", g.boolean(d), g.number(of, d), g.number(of, d))
	case 2:
		return "-(" + g.number(of, d) + ")"
	}
	ops := map[string][]string{"int": {"+", "-", "*", "/", "%"}, "double": {"+", "-", "*", "/"}, "decimal": {"+", "-", "*"}}[of]
	return fmt.Sprintf("(%s %s %s)", g.number(of, d), g.pick(ops...), g.number(of, d))
}

func (g grammar) row() row {
	r := row{
		"card": g.pick("c1", "c2", "DE", ""), "items": int([]int64{0, 1, 2, 3, -1, math.MaxInt64, math.MinInt64, 7}[g.r.IntN(8)]),
		"amount": g.pick("1", "0", "2.50", "-0.01", "92233720368547758.07", "-92233720368547758.08", "77.77"), "online": g.r.IntN(2) == 0,
	}
	if g.r.IntN(3) > 0 {
		r["fee"] = g.pick("0.5", "0", "0.0001", "922337203685477.5807")
	}
	if g.r.IntN(3) > 0 {
		r["score"] = []float64{0, 0.5, -1, 1e308, 3, math.Copysign(0, -1)}[g.r.IntN(6)]
	}
	if g.r.IntN(3) > 0 {
		r["country"] = g.pick("DE", "FR", "ü", "")
	}
	return r
}

// TestClosuresAgreeWithCEL evaluates random expressions both ways on random rows.
func TestClosuresAgreeWithCEL(t *testing.T) {
	stream := transactions()
	contents := testContents(t)
	env, err := newEnv(stream.Schema)
	if err != nil {
		t.Fatal(err)
	}
	tried, compared, refused := 0, 0, 0
	whole := seeds.Each(t, 1500, func(t *testing.T, seed uint64) {
		tried++
		g := grammar{rand.New(rand.NewPCG(seed, 1))}
		text := g.boolean(1 + g.r.IntN(4))
		b := &streamBuilder{stream: stream, schema: stream.Schema, env: env, needs: map[int]bool{}, slots: map[string]int{}}
		c := &compiler{stream: b, catalog: Catalog{Tables: testTables}}
		r := &Rule{ID: "r", Stream: "transactions", When: text}
		e := c.compile(newSource(r, "when", text), &scope{schema: stream.Schema, vars: map[string]variable{}, stream: b}, nil, "")
		if e == nil {
			refused++
			return
		}
		node := e.node()
		if node == nil {
			return
		}
		plan, err := newCEL(e)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		in, err := newInstance(b.program())
		if err != nil {
			t.Fatal(err)
		}
		if g.r.IntN(8) > 0 { // else no table was ever made
			in.UseTables(contents)
		}
		agree(t, text, g, in, node, plan)
		compared++
	})
	t.Logf("%d expressions compared, %d not sound", compared, refused)
	if whole && compared < tried/2 {
		t.Errorf("only %d of %d expressions compared", compared, tried)
	}
}

// agree compares the two ways on a batch of random rows.
func agree(t *testing.T, text string, g grammar, in *instance, node *node, plan *celProgram) {
	var b event.Batch
	b.Reset(in.p.schema, all(in.p.schema))
	const rows = 8
	for range rows {
		put(&b, g.row())
	}
	var out cep.Outbox
	out.Reset(in.p.features)
	out.Late, out.Watermark = make([]bool, rows), make([]event.Time, rows)
	out.Low = out.Watermark
	for _, op := range in.operators {
		if err := op.Process(&b, &out); err != nil {
			t.Fatal(err)
		}
	}
	for row := range rows {
		f, h := frame{b: &b, out: &out, row: row, tables: in.frame.tables}, frame{b: &b, out: &out, row: row, tables: in.frame.tables}
		v, st := node.boolean(&f)
		w, su := plan.eval(&h)
		switch {
		case st != su:
			t.Errorf("%s: row %d: closures end in %d (%v), cel-go in %d (%v)", text, row, st, f.err, su, h.err)
		case st == good && w != types.Bool(v):
			t.Errorf("%s: row %d: closures give %v, cel-go %v", text, row, v, w)
		case st == failed && !strings.Contains(h.err.Error(), f.err.Error()):
			t.Errorf("%s: row %d: closures say %q, cel-go %q", text, row, f.err, h.err)
		}
	}
}
