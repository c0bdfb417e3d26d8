package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"

	"github.com/weirstream/weir/ingest/schema"
)

// problemsMax bounds what one reading reports.
const problemsMax = 100

// walker goes over the nodes of one file and collects what is wrong.
type walker struct {
	file     string
	o        ParseOptions
	problems schema.Problems
	depth    int // of the field at hand within others
	fields   int // read so far
}

func newWalker(file string, o ParseOptions) *walker {
	if o.Env == nil {
		o.Env = func(string) (string, bool) { return "", false }
	}
	if o.ReadFile == nil {
		o.ReadFile = func(path string) ([]byte, error) { return nil, fmt.Errorf("no file %s", path) }
	}
	if o.DirExists == nil {
		o.DirExists = func(string) bool { return false }
	}
	return &walker{file: file, o: o}
}

// value is a node at the place where the configuration expects something.
type value struct {
	node *yaml.Node
	key  *yaml.Node // the key of node, nil in a list
	at   *yaml.Node // what a problem points at: the value, or the key of a block
	path string     // dotted
}

// named is v for a problem with its name: it points at the key.
func (v value) named() value {
	if v.key != nil {
		v.at = v.key
	}
	return v
}

// key is one key of a mapping that is read into a T.
type key[T any] struct {
	name     string
	expects  string // for people: "duration", "HOST:PORT"
	def      string // read as if it had been written, where the key is absent
	defDoc   string // says the default where it is not a fixed text
	required bool
	doc      string
	read     func(w *walker, v value, to *T)
}

// later names keys that are known to be coming. Saying so is kinder than
// "unknown key".
var later = map[string]string{
	"views":                        "views",
	"streams.*.watermark_by":       "watermarks by field",
	"streams.*.partitioned_by_key": "declared partitioning",
	"receivers.*.slack":            "Slack receivers",
}

func (w *walker) problem(line, column int, field, hint, format string, args ...any) {
	if len(w.problems) < problemsMax {
		w.problems = append(w.problems, &schema.Problem{File: w.file, Line: line, Column: column, Field: field, Hint: hint, Message: fmt.Sprintf(format, args...)})
	}
}

// fail reports a problem at v.
func (w *walker) fail(v value, hint, format string, args ...any) {
	w.problem(max(v.at.Line, 1), v.at.Column, v.path, hint, format, args...)
}

// sorted is what was found, in the order of the file.
func (w *walker) sorted() schema.Problems {
	slices.SortStableFunc(w.problems, func(a, b *schema.Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return w.problems
}

// walk reads a mapping by its table of keys: unknown, doubled and missing ones
// are problems, absent ones with a default are read from it.
func walk[T any](w *walker, v value, keys []key[T], to *T) {
	seen := map[string]bool{}
	w.each(v, func() string { return "a mapping with the keys " + names(keys) }, func(name string, child value) {
		seen[name] = true
		for i := range keys {
			if keys[i].name == name {
				keys[i].read(w, child, to)
				return
			}
		}
		w.unknown(name, child, names(keys))
	})
	if n := resolve(v.node); n.Kind != yaml.MappingNode && n.ShortTag() != "!!null" {
		return // that is what is wrong with it
	}
	for i := range keys {
		k := &keys[i]
		switch child := (value{at: v.at, path: join(v.path, k.name)}); {
		case seen[k.name]:
		case k.required:
			w.fail(child, "", "is missing: expected %s", k.expects)
		case k.def != "":
			child.node = &yaml.Node{Kind: yaml.ScalarNode, Value: k.def}
			if k.def == "{}" {
				child.node = &yaml.Node{Kind: yaml.MappingNode}
			}
			k.read(w, child, to)
		}
	}
}

func (w *walker) unknown(name string, child value, known string) {
	if what, ok := later[pattern(child.path)]; ok {
		w.fail(child.named(), "", "not available in this version: %s", what)
		return
	}
	hint := schema.Suggest(name, strings.Split(known, ", "))
	w.fail(child.named(), hint, "unknown key: expected one of %s", known)
}

var listIndex = regexp.MustCompile(`\[\d+\]`)

// pattern replaces the names that people chose in a dotted path by stars.
func pattern(path string) string {
	parts := strings.Split(listIndex.ReplaceAllString(path, ".*"), ".")
	for i := range parts {
		if i > 0 && (parts[i-1] == "streams" || parts[i-1] == "fields") {
			parts[i] = "*"
		}
	}
	return strings.Join(parts, ".")
}

func names[T any](keys []key[T]) string {
	out := make([]string, len(keys))
	for i := range keys {
		out[i] = keys[i].name
	}
	return strings.Join(out, ", ")
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// each calls f for every entry of a mapping, in order. A block whose entries are
// all commented out (null) is empty.
func (w *walker) each(v value, expected func() string, f func(name string, child value)) {
	n := resolve(v.node)
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" && n.Value == "" {
		return
	}
	if n.Kind != yaml.MappingNode {
		w.fail(v, "", "found %s, expected %s", found(n), expected())
		return
	}
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, node := n.Content[i], n.Content[i+1]
		at := value{node: node, key: k, at: k, path: join(v.path, shownName(k.Value))}
		switch line, twice := first[k.Value]; {
		case k.Kind != yaml.ScalarNode:
			at.path = v.path
			w.fail(at, "", "found %s as a key, expected a name", found(k))
			continue
		case k.Value == "<<" && k.ShortTag() == "!!merge":
			w.fail(at, "write the keys out, or use an alias for a whole block", "merge keys are not supported")
			continue
		case twice:
			w.fail(at, "", "appears twice: the first is on line %d", line)
			continue
		}
		first[k.Value] = k.Line
		if resolve(node).Kind == yaml.ScalarNode {
			at.at = node
			if node.Value == "" { // an empty value has no place of its own
				at.at = k
			}
		}
		f(k.Value, at)
	}
}

// items calls f for each item of a list; a scalar is a list of one.
func (w *walker) items(v value, most int, f func(item value)) {
	n := resolve(v.node)
	switch {
	case n.Kind == yaml.ScalarNode:
		f(v)
	case n.Kind != yaml.SequenceNode:
		w.fail(v, "", "found %s, expected a list", found(n))
	case len(n.Content) > most:
		w.fail(v, "", "found a list of %d, expected at most %d", len(n.Content), most)
	default:
		for i, item := range n.Content {
			f(value{node: item, at: item, path: fmt.Sprintf("%s[%d]", v.path, i)})
		}
	}
}

// shownName is a key in a dotted path: short and on one line.
func shownName(name string) string {
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		name = strconv.Quote(name)
	}
	return clip(name)
}

// resolve follows an alias. The parser lets no alias point to another alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// scalar is a scalar value after the expansion of ${env:NAME}.
type scalar struct {
	text     string
	written  string // before the expansion: what may be shown
	tag      string
	expanded bool
}

var envReference = regexp.MustCompile(`\$\{env:([^}]*)\}?`)
var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// scalar reads v; false after a problem was reported.
func (w *walker) scalar(v value, expected string) (scalar, bool) {
	n := resolve(v.node)
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		w.fail(v, "", "found %s, expected %s", found(n), expected)
		return scalar{}, false
	}
	s := scalar{text: n.Value, written: n.Value, tag: n.ShortTag()}
	ok := true
	s.text = envReference.ReplaceAllStringFunc(n.Value, func(ref string) string {
		s.expanded = true
		name := envReference.FindStringSubmatch(ref)[1]
		if !strings.HasSuffix(ref, "}") || !envName.MatchString(name) {
			w.fail(v, "", "found %q, expected ${env:NAME}", clip(ref))
			ok = false
			return ""
		}
		text, set := w.o.Env(name)
		if !set {
			w.fail(v, "", "the environment variable %s is not set", name)
			ok = false
		}
		return text
	})
	return s, ok
}

// word reads text; an unquoted number or truth value is not text.
func (w *walker) word(v value, expected string) (string, bool) {
	s, ok := w.scalar(v, expected)
	if !ok {
		return "", false
	}
	switch {
	case s.expanded || s.tag == "!!str" || s.tag == "!!timestamp":
	default:
		w.fail(v, fmt.Sprintf("to mean the text, quote it: %q", clip(s.written)), "found %s, expected %s", found(resolve(v.node)), expected)
		return "", false
	}
	if s.text == "" {
		w.fail(v, "", "is empty: expected %s", expected)
		return "", false
	}
	return s.text, true
}

// truth reads true or false.
func (w *walker) truth(v value) (bool, bool) {
	s, ok := w.scalar(v, "true or false")
	if !ok {
		return false, false
	}
	switch {
	case s.tag == "!!bool", s.expanded:
		switch strings.ToLower(s.text) {
		case "true":
			return true, true
		case "false":
			return false, true
		}
	}
	w.fail(v, "", "found %s, expected true or false", found(resolve(v.node)))
	return false, false
}

// oneOf reads one of a few words.
func (w *walker) oneOf(v value, words ...string) (string, bool) {
	expected := "one of " + strings.Join(words, ", ")
	s, ok := w.scalar(v, expected)
	if ok && slices.Contains(words, s.text) {
		return s.text, true
	}
	if ok {
		w.fail(v, schema.Suggest(s.written, words), "found %s, expected %s", found(resolve(v.node)), expected)
	}
	return "", false
}

// path reads a path and resolves it against the directory of the file.
func (w *walker) pathAt(v value, expected string) (string, bool) {
	text, ok := w.word(v, expected)
	if !ok || filepath.IsAbs(text) {
		return text, ok
	}
	return filepath.Join(w.o.Dir, text), true
}

// found says what a node is, for "found ..., expected ...".
func found(n *yaml.Node) string {
	switch n = resolve(n); n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!int", "!!float":
		return "the number " + clip(n.Value)
	case "!!bool":
		return clip(n.Value)
	}
	return fmt.Sprintf("%q", clip(n.Value))
}

// clip keeps a message to one line of reasonable length.
func clip(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
