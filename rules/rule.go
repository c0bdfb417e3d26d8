package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/weirstream/weir/ingest/schema"
)

// Rule is a rule as its author wrote it.
type Rule struct {
	ID          string
	Stream      string
	When        string
	Action      string // allow | alert | review | decline; alert unless set
	Severity    string // low | medium | high | critical; medium unless set
	Mode        string // live | shadow | off; live unless set
	Message     string // a CEL expression that gives a string, or empty
	Description string
	Score       float64
	Tests       []Test
	File        string
	Line        int // of the id

	at map[string]text // where the values of the keys stand
}

// Test is one case under tests: of a rule.
type Test struct {
	Name   string
	File   string   // of events, one a line, relative to the rule's file
	Expect []string // ids of the events on which the rule fires
	Line   int
}

// Set is rules in the order of their files, which is the program's order.
type Set []Rule

// The words that a rule may use.
var (
	Actions    = []string{"allow", "alert", "review", "decline"} // from mild to severe
	Severities = []string{"low", "medium", "high", "critical"}
	Modes      = []string{"live", "shadow", "off"}
)

const (
	fileMax = 4 << 20 // bytes of a rule file
	idMax   = 128
)

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// LoadDir reads the rules of all .yaml and .yml files under dir, in the order of
// their names. Its errors are schema.Problems where a person's mistake is the
// cause.
func LoadDir(dir string) (Set, error) {
	var set Set
	var problems schema.Problems
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if path != dir && strings.HasPrefix(d.Name(), ".") {
				return filepath.SkipDir
			}
			return nil
		case filepath.Ext(path) != ".yaml" && filepath.Ext(path) != ".yml":
			return nil
		}
		rules, err := loadFile(path)
		var ps schema.Problems
		if errors.As(err, &ps) {
			problems = append(problems, ps...)
			err = nil
		}
		set = append(set, rules...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return set, append(problems, duplicates(set)...).ErrOrNil()
}

func loadFile(path string) ([]Rule, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > fileMax {
		return nil, schema.Problems{{File: path, Message: fmt.Sprintf("%d bytes; a rule file has at most %d", info.Size(), fileMax)}}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseFile(path, data)
}

// duplicates finds ids that are used twice.
func duplicates(set Set) schema.Problems {
	var problems schema.Problems
	first := map[string]*Rule{}
	for i := range set {
		r := &set[i]
		if f := first[r.ID]; f != nil {
			p := r.problem("id", 0, fmt.Sprintf("the id %q is taken by the rule at %s:%d", r.ID, f.File, f.Line))
			p.Hint = "each rule needs an id of its own"
			problems = append(problems, p)
			continue
		}
		first[r.ID] = r
	}
	return problems
}

// ParseFile reads the rules of one file, which may hold several YAML documents.
// It returns the good ones beside schema.Problems for the others. data is not
// retained.
func ParseFile(name string, data []byte) ([]Rule, error) {
	f := &file{name: name, lines: strings.Split(string(data), "\n")}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var rules []Rule
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			f.problems = append(f.problems, f.yamlProblem(err))
			break
		}
		if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
			continue // nothing between two --- lines
		}
		before := len(f.problems)
		if r := f.rule(doc.Content[0]); len(f.problems) == before {
			rules = append(rules, r)
		}
	}
	return rules, f.problems.ErrOrNil()
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// quotedStart is a line whose text goes on behind a quoted part, which YAML ends it with.
var quotedStart = regexp.MustCompile(`^(?:when|message|description): *(?:"[^"]*"|'[^']*') *[^ #]`)

// yamlProblem takes the line out of a YAML syntax error.
func (f *file) yamlProblem(err error) *schema.Problem {
	p := &schema.Problem{File: f.name, Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlLine.FindStringSubmatchIndex(p.Message); m != nil {
		p.Line, _ = strconv.Atoi(p.Message[m[2]:m[3]])
		p.Message = p.Message[:m[0]] + p.Message[m[1]:]
	}
	p.Message = "not YAML: " + p.Message
	first := max(p.Line-1, 0) // of the document, or the line before it
	for i := first; i < len(f.lines) && (i == first || !strings.HasPrefix(f.lines[i], "---")); i++ {
		if quotedStart.MatchString(f.lines[i]) {
			p.Line, p.Hint = i+1, "an expression that begins with a quote goes into single quotes as a whole, or below `>`"
			break
		}
	}
	return p
}

// file is a rule file while it is read.
type file struct {
	name     string
	lines    []string
	problems schema.Problems
}

func (f *file) problem(n *yaml.Node, field, message, hint string) {
	f.problems = append(f.problems, &schema.Problem{File: f.name, Line: n.Line, Column: n.Column, Field: field, Message: message, Hint: hint})
}

var ruleKeys = []string{"id", "stream", "when", "action", "severity", "mode", "score", "message", "description", "tests"}

func (f *file) rule(n *yaml.Node) Rule {
	r := Rule{File: f.name, Line: n.Line, Action: "alert", Severity: "medium", Mode: "live", at: map[string]text{}}
	if n.Kind != yaml.MappingNode {
		f.problem(n, "", "found "+kindOf(n)+", expected a rule: a mapping with id, stream, when, action", "")
		return r
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], resolve(n.Content[i+1])
		if seen[k.Value] {
			f.problem(k, k.Value, "the key stands here a second time", "")
			continue
		}
		seen[k.Value] = true
		f.key(&r, k, v)
	}
	for _, k := range []string{"id", "stream", "when"} {
		if !seen[k] {
			f.problem(n, k, "a rule needs the key "+k, "")
		}
	}
	return r
}

func (f *file) key(r *Rule, k, v *yaml.Node) {
	switch k.Value {
	case "id":
		r.ID, r.Line = f.text(r, k, v), k.Line
		if v.Kind == yaml.ScalarNode && (!idPattern.MatchString(r.ID) || len(r.ID) > idMax) {
			f.problem(v, "id", fmt.Sprintf("%q is no id: expected letters, digits, '.', '_' and '-', at most %d", r.ID, idMax), "")
		}
	case "stream":
		r.Stream = f.text(r, k, v)
	case "when":
		r.When = f.text(r, k, v)
	case "message":
		r.Message = f.text(r, k, v)
	case "description":
		r.Description = f.text(r, k, v)
	case "action":
		r.Action = f.word(r, k, v, Actions)
	case "severity":
		r.Severity = f.word(r, k, v, Severities)
	case "mode":
		r.Mode = f.word(r, k, v, Modes)
	case "score":
		if v.Kind != yaml.ScalarNode || v.Tag != "!!int" && v.Tag != "!!float" || v.Decode(&r.Score) != nil || r.Score != r.Score || r.Score-r.Score != 0 {
			f.problem(v, "score", "found "+kindOf(v)+", expected a number", "")
		}
	case "tests":
		r.Tests = f.tests(v)
	default:
		f.problem(k, k.Value, "a rule has no such key; it has "+strings.Join(ruleKeys, ", "), schema.Suggest(k.Value, ruleKeys))
	}
}

// text is a string value, whose place is kept.
func (f *file) text(r *Rule, k, v *yaml.Node) string {
	if v.Kind != yaml.ScalarNode || v.Tag == "!!null" || strings.TrimSpace(v.Value) == "" {
		f.problem(v, k.Value, "found "+kindOf(v)+", expected text", "")
		return ""
	}
	r.at[k.Value] = locate(f.lines, v)
	return v.Value
}

func (f *file) word(r *Rule, k, v *yaml.Node, words []string) string {
	// YAML reads off as false; a person means the word.
	s := v.Value
	if v.Kind != yaml.ScalarNode || !slices.Contains(words, s) {
		f.problem(v, k.Value, fmt.Sprintf("found %s, expected one of %s", kindOf(v), strings.Join(words, ", ")), schema.Suggest(s, words))
		return words[0]
	}
	return s
}

var testKeys = []string{"name", "file", "expect"}

func (f *file) tests(n *yaml.Node) []Test {
	if n.Kind != yaml.SequenceNode {
		f.problem(n, "tests", "found "+kindOf(n)+", expected a list of {name, file, expect}", "")
		return nil
	}
	var out []Test
	for i, c := range n.Content {
		c = resolve(c)
		field := fmt.Sprintf("tests[%d]", i)
		if c.Kind != yaml.MappingNode {
			f.problem(c, field, "found "+kindOf(c)+", expected {name, file, expect}", "")
			continue
		}
		t := Test{Line: c.Line}
		for j := 0; j+1 < len(c.Content); j += 2 {
			k, v := c.Content[j], resolve(c.Content[j+1])
			var into any
			switch k.Value {
			case "name":
				into = &t.Name
			case "file":
				into = &t.File
			case "expect":
				into = &t.Expect
			default:
				f.problem(k, field+"."+k.Value, "a test has no such key; it has "+strings.Join(testKeys, ", "), schema.Suggest(k.Value, testKeys))
				continue
			}
			if v.Decode(into) != nil || v.Tag == "!!null" {
				f.problem(v, field+"."+k.Value, "found "+kindOf(v)+", expected "+map[bool]string{true: "a list of event ids", false: "text"}[k.Value == "expect"], "")
			}
		}
		if t.Name == "" || t.File == "" {
			f.problem(c, field, "a test needs name, file and expect", "")
		}
		out = append(out, t)
	}
	return out
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// kindOf says what a node is, for messages.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch {
	case n.Tag == "!!null":
		return "nothing"
	case n.Tag == "!!str" && strings.TrimSpace(n.Value) == "":
		return "an empty text"
	case len(n.Value) > 40:
		return strconv.Quote(n.Value[:40] + "...")
	}
	return strconv.Quote(n.Value)
}

// problem is a mistake at an offset (in characters) of one of the rule's values.
func (r *Rule) problem(key string, offset int, message string) *schema.Problem {
	p := &schema.Problem{File: r.File, Line: r.Line, Field: r.ID + "." + key, Message: message}
	if at, ok := r.at[key]; ok {
		p.Line, p.Column = at.place(offset)
	}
	return p
}
