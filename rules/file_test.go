package rules

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/schema"
)

const cardTesting = `# A card that is tried out.
id: card-testing
stream: transactions
when: >
  tx.amount >= 200 &&
  last("1h").by(tx.card).where(tx.amount < 5).count() >= 3
action: review
score: 60
severity: high
mode: live
message: '"card " + tx.card + " tested, then " + string(tx.amount)'
tests:
  - {name: three small then one large, file: events.ndjson, expect: [t4]}
  - name: nothing
    file: events.ndjson
    expect: []
---
id: second
stream: transactions
when: tx.items > 3
mode: off
`

func TestParseFile(t *testing.T) {
	set, err := ParseFile("r.yaml", []byte(cardTesting))
	if err != nil {
		t.Fatal(err)
	}
	if len(set) != 2 {
		t.Fatalf("%d rules, want 2", len(set))
	}
	r := set[0]
	if r.ID != "card-testing" || r.Action != "review" || r.Score != 60 || r.Severity != "high" || r.Mode != "live" || r.Line != 2 || len(r.Tests) != 2 {
		t.Errorf("rule %+v", r)
	}
	if c := r.Tests[0]; c.Name != "three small then one large" || !slices.Equal(c.Expect, []string{"t4"}) || c.Line != 13 {
		t.Errorf("case %+v", c)
	}
	if r := set[1]; r.Mode != "off" || r.Action != "alert" || r.Severity != "medium" || r.Line != 18 {
		t.Errorf("rule %+v", r)
	}
}

func TestFileProblems(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"id: a\nstream: s\nwhen: true\nacton: review\n", `f.yaml:4:1: acton: a rule has no such key; it has id, stream, when, action, severity, mode, score, message, description, tests (did you mean "action"?)`},
		{"id: a\nstream: s\nwhen: 'true'\naction: revue\n", `f.yaml:4:9: action: found "revue", expected one of allow, alert, review, decline (did you mean "review"?)`},
		{"id: a\nstream: s\n", "f.yaml:1:1: when: a rule needs the key when"},
		{"id: a b\nstream: s\nwhen: 'true'\n", `f.yaml:1:5: id: "a b" is no id`},
		{"id: a\nstream: s\nwhen: 'true'\nscore: high\n", `f.yaml:4:8: score: found "high", expected a number`},
		{"id: a\nstream: s\nwhen: 'true'\nscore: .inf\n", "expected a number"},
		{"id: a\nid: b\nstream: s\nwhen: 'true'\n", "f.yaml:2:1: id: the key stands here a second time"},
		{"id: a\nstream: [s]\nwhen: 'true'\n", "f.yaml:2:9: stream: found a list, expected text"},
		{"- id: a\n", "f.yaml:1:1: found a list, expected a rule"},
		{"id: a\nstream: s\nwhen: 'true'\nmessage: \"a \" + b\n", "f.yaml:4: not YAML: did not find expected key (an expression that begins with a quote goes into single quotes"},
		{"id: a\n---\nid: b\nstream: s\nwhen: \"a\" in s.tags\n", "f.yaml:5: not YAML: did not find expected key (an expression"},
		{"id: a\n  stream: s\n", "f.yaml:2: not YAML: mapping values are not allowed"},
		{"id: a\nstream: s\nwhen: ''\n", "f.yaml:3:7: when: found an empty text, expected text"},
		{"id: a\nstream: s\nwhen: 'true'\ntests:\n  - {name: x, fil: y}\n", `f.yaml:5:15: tests[0].fil: a test has no such key; it has name, file, expect (did you mean "file"?)`},
		{"id: a\nstream: s\nwhen: 'true'\ntests:\n  - {name: x, file: y, expect: z}\n", `tests[0].expect: found "z", expected a list of event ids`},
	} {
		_, err := ParseFile("f.yaml", []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

// TestPlaces points at the same mistake in every way YAML has to write a text.
func TestPlaces(t *testing.T) {
	for _, c := range []struct{ when, want string }{
		{"tx.items > 1 && tx.bad > 1", "r.yaml:3:26"},
		{"'tx.items > 1 && tx.bad > 1'", "r.yaml:3:27"},
		{`"tx.card == \"é\" && tx.bad > 1"`, "r.yaml:3:31"},
		{"'tx.card == ''é'' && tx.bad > 1'", "r.yaml:3:31"},
		{"tx.items > 1\n    && tx.bad > 1", "r.yaml:4:11"},
		{">\n  tx.items > 1 &&\n  tx.bad > 1", "r.yaml:5:6"},
		{">-\n    tx.items > 1 &&\n\n\n    tx.bad > 1", "r.yaml:7:8"},
		{">\n  tx.items > 1 &&\n    tx.bad > 1\n", "r.yaml:5:8"},
		{"|\n  tx.items > 1 &&\n    tx.bad > 1\n\n", "r.yaml:5:8"},
		{"|+\n  // a comment\n  tx.items > 1 &&\n  tx.bad > 1", "r.yaml:6:6"},
		{"\"tx.items > 1 &&\n  tx.bad > 1\"", "r.yaml:4:6"},
	} {
		set, err := ParseFile("r.yaml", []byte("id: r\nstream: transactions\nwhen: "+c.when))
		if err != nil {
			t.Errorf("%s: %v", c.when, err)
			continue
		}
		_, err = Compile(set, Catalog{Streams: []*schema.Stream{transactions()}})
		if err == nil || !strings.HasPrefix(err.Error(), c.want+":") {
			t.Errorf("%s:\n got %v\nwant %s", c.when, err, c.want)
		}
	}
}

func TestLoadDir(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("b.yaml", "id: b\nstream: s\nwhen: 'true'\n")
	write("a/a.yml", "id: a\nstream: s\nwhen: 'true'\n")
	write(".git/x.yaml", "nonsense")
	write("notes.txt", "nonsense")
	set, err := LoadDir(dir)
	if err != nil || len(set) != 2 || set[0].ID != "a" || set[1].ID != "b" {
		t.Fatalf("%v %v", set, err)
	}
	write("c.yaml", "id: a\nstream: s\nwhen: 'true'\n")
	_, err = LoadDir(dir)
	var ps schema.Problems
	if !errors.As(err, &ps) || len(ps) != 1 || !strings.Contains(err.Error(), `c.yaml:1:5: a.id: the id "a" is taken by the rule at `) {
		t.Errorf("the same id twice: %v", err)
	}
	if _, err := LoadDir(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

func TestRunTests(t *testing.T) {
	dir := t.TempDir()
	events := `{"id":"t1","ts":"2024-01-01T00:00:00Z","card":"c","amount":1,"items":1,"online":true}
{"id":"t2","ts":"2024-01-01T00:00:01Z","card":"c","amount":2,"items":1,"online":true}
{"id":"t3","ts":"2024-01-01T00:00:02Z","card":"c","amount":3,"items":1,"online":true}

{"id":"t4","ts":"2024-01-01T00:00:03Z","card":"c","amount":200,"items":1,"online":true}
{"id":"t5","ts":"2024-01-01T02:00:00Z","card":"c","amount":200,"items":1,"online":true}
`
	if err := os.WriteFile(filepath.Join(dir, "events.ndjson"), []byte(events), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := ParseFile(filepath.Join(dir, "r.yaml"), []byte(cardTesting))
	if err != nil {
		t.Fatal(err)
	}
	res := RunTests(set, Catalog{Streams: []*schema.Stream{transactions()}})
	if len(res) != 2 {
		t.Fatalf("%d results, want 2", len(res))
	}
	if r := res[0]; !r.Passed() || r.Events != 5 || !slices.Equal(r.Fired, []string{"t4"}) {
		t.Errorf("result %+v", r)
	}
	if r := res[1]; r.Passed() || !slices.Equal(r.Unexpected, []string{"t4"}) || r.Line != 14 {
		t.Errorf("result %+v", r)
	}
	set[0].Tests[0].File = "none.ndjson"
	if r := RunTests(set, Catalog{Streams: []*schema.Stream{transactions()}})[0]; !errors.Is(r.Err, os.ErrNotExist) {
		t.Errorf("no file: %+v", r)
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add([]byte(cardTesting))
	f.Add([]byte("id: a\nstream: transactions\nwhen: >2\n    tx.items > 1\n"))
	f.Add([]byte("id: &x a\nstream: *x\nwhen: |\n\n  true"))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := ParseFile("r.yaml", data)
		for _, r := range set {
			for key, at := range r.at {
				for i := -1; i < 3; i++ {
					if line, _ := at.place(i); line < 1 {
						t.Errorf("%s: line %d", key, line)
					}
				}
			}
		}
		var ps schema.Problems
		if err != nil && !errors.As(err, &ps) {
			t.Errorf("%v: no problems", err)
		}
	})
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{`tx.amount > 1.5`, `last("1h").by(tx.card).where(tx.amount < 5).count() >= 3`, `tx.?country.orValue("x") == "x"`,
		`last("1h").by(tx.card).mean(tx.score).orValue(1) * 2 > -tx.amount`, `[1, 2].exists(n, n == tx.items)`, `last(`, ``, `tx.amount in [1, -2.50]`} {
		f.Add(s)
	}
	stream := transactions()
	env, err := newEnv(stream.Schema)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, when string) {
		b := &streamBuilder{stream: stream, schema: stream.Schema, env: env, needs: map[int]bool{}, slots: map[string]int{}}
		c := &compiler{stream: b}
		e := c.compile(newSource(&Rule{ID: "r", When: when}, "when", when), &scope{schema: stream.Schema, vars: map[string]variable{}, stream: b}, nil, "")
		if e == nil {
			if len(c.problems) == 0 {
				t.Errorf("%q: refused without a problem", when)
			}
			return
		}
		e.node()
		if _, err := newCEL(e); err != nil {
			t.Errorf("%q: checked, not planned: %v", when, err)
		}
	})
}
