package protect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// plan is what is done to the records of one stream.
type plan struct {
	declared *schema.Stream
	stream   string
	fields   []field // as in the schema, then what nested ones hold
	key      int     // the field that record keys repeat, -1: none
	subject  int     // the field that names the subject of encryption, -1: none
	encrypt  bool    // some field is
	root     *node   // of JSON; nil for CSV
	// secrets are the names of JSON members that are sensitive, and of lists and maps
	// that hold what is.
	secrets map[string]bool
	columns []column
	comma   byte
	counts  *counts // nil: not counted
}

// field is what is done to one declared field.
type field struct {
	name   string
	policy schema.Policy // empty: none
	free   bool
	bound  []byte // what a ciphertext is bound to
}

// node is a member of the declared JSON objects, or an element of a declared list or
// map.
type node struct {
	children map[string]*node
	field    int   // in plan.fields, -1: none
	elem     *node // of a list its elements, of a map its values; nil for others
	// shape is how the value of a declared list ('['), map or struct ('{') begins; 0:
	// any. Where secret, one of another shape is not kept: a sensitive value may be
	// in it.
	shape  byte
	secret bool
}

// column is a column of CSV.
type column struct {
	field     int // -1: none declared
	forbidden bool
}

// Fault is what is wrong with the declaration of a field. It is for a person.
type Fault struct {
	Field   int   // in the schema
	Path    []int // from it to the member that is meant, by index; the element of a list and the value of a map are 0
	Message string
	Hint    string
}

// Sensitive reports whether the stream declares anything that Transform acts on.
func Sensitive(s *schema.Stream) bool {
	return slices.ContainsFunc(s.Fields, isSensitive)
}

// isSensitive reports whether a field or anything within it is acted on.
func isSensitive(f schema.Field) bool {
	return f.Any(func(f *schema.Field) bool { return f.Sensitive != "" || f.FreeText })
}

// Uses reports whether any field of the streams has that policy.
func Uses(streams []*schema.Stream, p schema.Policy) bool {
	return slices.ContainsFunc(streams, func(s *schema.Stream) bool {
		return slices.ContainsFunc(s.Fields, func(f schema.Field) bool {
			return f.Any(func(f *schema.Field) bool { return f.Sensitive == p })
		})
	})
}

// subject is the field that names the subject of encryption: the one that is
// declared so, else the key; -1 where there is neither.
func subject(s *schema.Stream) int {
	if i := slices.IndexFunc(s.Fields, func(f schema.Field) bool { return f.Subject }); i >= 0 {
		return i
	}
	return s.Schema.Key
}

// Check is everything that is wrong with what a stream's fields declare to be
// sensitive, whether or not any does.
func Check(s *schema.Stream) (faults []Fault) {
	for i, f := range s.Fields {
		fault := func(hint, format string, args ...any) {
			faults = append(faults, Fault{Field: i, Message: fmt.Sprintf(format, args...), Hint: hint})
		}
		d := &s.Schema.Fields[i]
		checkName(append(strings.Split(f.From, "."), d.Name), fault)
		reads := fieldPath(s, i)
		for j := range i {
			if fieldPath(s, j) == reads && (s.Fields[j].Sensitive != f.Sensitive || s.Fields[j].FreeText != f.FreeText || !sameMembers(s.Fields[j].Members, f.Members)) {
				fault("", "reads %q, as the field %q does, and is not as sensitive", reads, s.Schema.Fields[j].Name)
			}
		}
		checkSubject(s, i, fault)
		if f.Sensitive != "" || f.FreeText {
			checkPolicy(s, i, fault)
		}
		faults = checkMembers(s, &f, d.Type, i, nil, faults)
	}
	return faults
}

// checkMembers is Check of what a nested field holds.
func checkMembers(s *schema.Stream, f *schema.Field, t event.Type, top int, path []int, faults []Fault) []Fault {
	for i := range t.Fields {
		m, d, at := f.Member(i), &t.Fields[i], append(slices.Clone(path), i)
		fault := func(hint, format string, args ...any) {
			faults = append(faults, Fault{Field: top, Path: at, Message: fmt.Sprintf(format, args...), Hint: hint})
		}
		if t.Kind == event.Struct {
			checkName([]string{m.From, d.Name}, fault)
		}
		if m.Sensitive != "" || m.FreeText {
			checkValue(s, &m, d, -1, fault)
		}
		faults = checkMembers(s, &m, d.Type, top, at, faults)
	}
	return faults
}

// checkName refuses the names of what may never be stored.
func checkName(names []string, fault func(hint, format string, args ...any)) {
	for _, name := range names {
		if Forbidden(name) {
			fault("leave the field out: its value is removed from the stream's records where any field is sensitive",
				"%q is the name of card verification, track or PIN data, which may not be stored", name)
			return
		}
	}
}

func checkPolicy(s *schema.Stream, i int, fault func(hint, format string, args ...any)) {
	checkValue(s, &s.Fields[i], &s.Schema.Fields[i], i, fault)
}

// checkValue checks the policy of one value; i is its field's index, -1 of what is
// within a field.
func checkValue(s *schema.Stream, f *schema.Field, d *event.Field, i int, fault func(hint, format string, args ...any)) {
	isText := d.Type.Kind == event.String || d.Type.Kind == 0 // 0: its type is a problem already
	repeated := i >= 0 && (i == s.Schema.Key || i == s.Schema.ID)
	switch {
	case f.Sensitive != "" && f.FreeText:
		fault("", "is both sensitive and free_text, expected one of them: a sensitive value is replaced as a whole")
	case f.FreeText && !isText:
		fault("", "only a string can be free_text; this field is a %s", d.Type)
	case f.Sensitive == schema.Drop && !d.Optional:
		fault("add optional: true", "a field whose value is dropped must be optional")
	case f.Sensitive == schema.Drop, f.Sensitive == "":
	case !isText:
		fault("declare it as a string", "what %s leaves of a value is a text; this field is a %s", f.Sensitive, d.Type)
	case repeated && f.Sensitive != schema.HMAC:
		fault("use hmac: equal values stay equal", "a key or id cannot be sensitive: %s, which does not keep different values apart and equal ones together", f.Sensitive)
	case f.Sensitive == schema.Encrypt && subject(s) < 0:
		fault("name the stream's key, or mark a field subject: true", "encrypt needs a subject")
	case f.Sensitive == schema.Encrypt && i >= 0 && subject(s) == i:
		fault("", "a value cannot be encrypted under the key of the subject that it names itself")
	}
}

func checkSubject(s *schema.Stream, i int, fault func(hint, format string, args ...any)) {
	f, d := &s.Fields[i], &s.Schema.Fields[i]
	if !f.Subject {
		return
	}
	switch {
	case subject(s) != i:
		fault("", "the field %q is the subject already", s.Schema.Fields[subject(s)].Name)
	case d.Optional:
		fault("", "the subject is optional, expected a field that every event has")
	case f.Sensitive != "" && f.Sensitive != schema.HMAC:
		fault("", "the subject cannot be sensitive: %s; expected hmac or not sensitive", f.Sensitive)
	case f.FreeText:
		fault("", "the subject cannot be free_text")
	case d.Type.Kind != 0 && d.Type.Kind != event.String && d.Type.Kind != event.Int64:
		fault("", "the subject is a %s, expected string or int64", d.Type)
	}
}

// sameMembers reports whether two nested fields say the same of what they hold,
// wherever they were declared.
func sameMembers(a, b []schema.Field) bool {
	return slices.EqualFunc(a, b, func(x, y schema.Field) bool {
		return x.Sensitive == y.Sensitive && x.FreeText == y.FreeText && x.From == y.From && sameMembers(x.Members, y.Members)
	})
}

// fieldPath is where field i is found in a record.
func fieldPath(s *schema.Stream, i int) string {
	if s.Fields[i].From != "" {
		return s.Fields[i].From
	}
	return s.Schema.Fields[i].Name
}

// newPlan makes the plan of a stream that Check finds nothing wrong with.
func newPlan(s *schema.Stream) (*plan, error) {
	name := s.Schema.Stream
	for _, f := range Check(s) {
		return nil, fmt.Errorf("stream %s, field %s: %s", name, s.Schema.Fields[f.Field].Name, f.Message)
	}
	p := &plan{declared: s, stream: name, key: s.Schema.Key, subject: subject(s), comma: s.Delimiter}
	for i := range s.Fields {
		f := field{name: s.Schema.Fields[i].Name, policy: s.Fields[i].Sensitive, free: s.Fields[i].FreeText}
		f.bound = []byte(name + "\x00" + f.name)
		p.encrypt = p.encrypt || f.policy == schema.Encrypt
		p.fields = append(p.fields, f)
	}
	switch s.Format {
	case schema.JSON, "":
		p.root = &node{children: map[string]*node{}, field: -1}
		for i := range s.Fields {
			n := p.root.at(strings.Split(fieldPath(s, i), "."))
			n.field = i
			p.nest(n, &s.Fields[i], s.Schema.Fields[i].Type, p.fields[i].name)
		}
		p.secrets = map[string]bool{}
		p.root.noteSecrets(p)
	case schema.CSV:
		if p.comma == 0 {
			p.comma = ','
		}
		for _, c := range s.Columns {
			one := column{field: -1, forbidden: Forbidden(c)}
			for i := range s.Fields {
				if fieldPath(s, i) == c {
					one.field = i
					if i == p.key || i == p.subject {
						break // of several equal ones, the one that is looked for
					}
				}
			}
			p.columns = append(p.columns, one)
		}
	default:
		return nil, fmt.Errorf("stream %s: format %q: expected json or csv", name, s.Format)
	}
	return p, nil
}

// nest declares what is in a nested field's value, unless the value is replaced as
// a whole.
func (p *plan) nest(n *node, f *schema.Field, t event.Type, path string) {
	if !t.IsNested() || f.Sensitive != "" {
		return
	}
	n.field, n.shape, n.secret = -1, '{', n.secret || isSensitive(*f)
	for i := range t.Fields {
		m, name := f.Member(i), t.Fields[i].Name
		var to *node
		if t.Kind == event.Struct {
			if m.From != "" {
				name = m.From
			}
			to, name = n.at([]string{name}), path+"."+t.Fields[i].Name
		} else {
			if n.elem == nil {
				n.elem = &node{field: -1}
			}
			to, name = n.elem, path+"[]"
		}
		to.field = len(p.fields)
		p.encrypt = p.encrypt || m.Sensitive == schema.Encrypt
		p.fields = append(p.fields, field{name: name, policy: m.Sensitive, free: m.FreeText, bound: []byte(p.stream + "\x00" + name)})
		p.nest(to, &m, t.Fields[i].Type, name)
	}
	if t.Kind == event.List {
		n.shape = '['
	}
}

// at is the node of a path, which is made where it is not there.
func (n *node) at(path []string) *node {
	for _, part := range path {
		next := n.children[part]
		if next == nil {
			next = &node{field: -1}
			if n.children == nil {
				n.children = map[string]*node{}
			}
			n.children[part] = next
		}
		n = next
	}
	return n
}
