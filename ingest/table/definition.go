package table

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// Bounds of what can be declared.
const (
	NameMax    = 63
	KeysMax    = 8
	ColumnsMax = 256
	EntryMax   = 64 << 10 // bytes of one entry, its reason included

	DefaultEntriesMax = 1_000_000
	DefaultBytesMax   = 256 << 20
)

// ListKey is the name of a list's one field.
const ListKey = "value"

// Definition is what a table or list is.
type Definition struct {
	Name    string
	List    bool
	Key     []event.Field
	Columns []event.Field // beside the key
	// Source is where its entries come from: "" for the API, "csv:FILE" or
	// "topic:NAME". Only an API's entries are changed through the API.
	Source string
	// Sensitive is what happens to the values of string fields before they are
	// written, by the names of the fields: HMAC or NotSensitive, of columns Mask, too.
	// Options.Protect does it.
	Sensitive map[string]schema.Policy
	// EntriesMax and BytesMax bound it; the defaults where 0.
	EntriesMax int64
	BytesMax   int64
}

// NewList is the definition of a list of values of type t.
func NewList(name string, t event.Type) *Definition {
	return &Definition{Name: name, List: true, Key: []event.Field{{Name: ListKey, Type: t}}}
}

// Kind is "list" or "table".
func (d *Definition) Kind() string {
	if d.List {
		return "list"
	}
	return "table"
}

func (d *Definition) entriesMax() int64 {
	if d.EntriesMax > 0 {
		return d.EntriesMax
	}
	return DefaultEntriesMax
}

func (d *Definition) bytesMax() int64 {
	if d.BytesMax > 0 {
		return d.BytesMax
	}
	return DefaultBytesMax
}

// Column is the index of a column, -1 where there is none of that name.
func (d *Definition) Column(name string) int {
	return slices.IndexFunc(d.Columns, func(f event.Field) bool { return f.Name == name })
}

// SetSensitive says what happens to the values of a field; empty: nothing is said.
func (d *Definition) SetSensitive(name string, p schema.Policy) {
	if p == "" {
		return
	}
	if d.Sensitive == nil {
		d.Sensitive = map[string]schema.Policy{}
	}
	d.Sensitive[name] = p
}

// Fields are the key fields and the columns.
func (d *Definition) Fields() []event.Field { return slices.Concat(d.Key, d.Columns) }

// KeyKinds are the kinds that a key field may have.
var KeyKinds = []event.Kind{event.String, event.Int64, event.Decimal, event.Timestamp, event.Bytes}

var (
	listName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,62}$`)
	tableName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,62}$`)
	fieldName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
)

// Validate tells what is wrong with a definition, as Problems whose Field is
// relative to it.
func (d *Definition) Validate() error {
	var ps schema.Problems
	bad := func(field, hint, format string, args ...any) {
		ps = append(ps, &schema.Problem{Field: field, Hint: hint, Message: fmt.Sprintf(format, args...)})
	}
	switch {
	case d.List && !listName.MatchString(d.Name):
		bad("name", "", "found %q as a list's name, expected a letter, then letters, digits, - and _, at most 63", clip(d.Name))
	case !d.List && !tableName.MatchString(d.Name):
		bad("name", "", "found %q as a table's name, expected a letter, then letters, digits and _, at most 63", clip(d.Name))
	}
	if len(d.Key) == 0 || len(d.Key) > KeysMax {
		bad("key", "", "found %d key fields, expected 1 to %d", len(d.Key), KeysMax)
	}
	if len(d.Columns) > ColumnsMax {
		bad("fields", "", "found %d fields, expected at most %d", len(d.Columns), ColumnsMax)
	}
	for _, f := range d.Key {
		if !slices.Contains(KeyKinds, f.Type.Kind) {
			bad("fields."+f.Name, "", "a %s is no key: expected string, int64, decimal(N), timestamp or bytes", f.Type)
		}
		if f.Optional {
			bad("fields."+f.Name, "", "a key field cannot be optional")
		}
	}
	seen := map[string]bool{}
	for _, f := range d.Fields() {
		lower := strings.ToLower(f.Name)
		switch {
		case !fieldName.MatchString(f.Name):
			bad("fields", "", "found %q as a field's name, expected a letter or _, then letters, digits and _, at most 63", clip(f.Name))
		case slices.Contains(metaNames, lower):
			bad("fields."+f.Name, "", "%q is the name of something that every entry has already", f.Name)
		case seen[lower]:
			bad("fields."+f.Name, "", "there is a field of this name; SQL does not tell upper from lower case")
		case !scalar(f.Type.Kind):
			bad("fields."+f.Name, "", "a table has no field of type %s", f.Type)
		}
		seen[lower] = true
	}
	d.checkSensitive(bad)
	return ps.ErrOrNil()
}

func (d *Definition) checkSensitive(bad func(field, hint, format string, args ...any)) {
	fields := d.Fields()
	for _, name := range slices.Sorted(maps.Keys(d.Sensitive)) {
		i := slices.IndexFunc(fields, func(f event.Field) bool { return f.Name == name })
		at := "fields." + name
		if d.List {
			at = "sensitive"
		}
		policy := d.Sensitive[name]
		switch {
		case i < 0:
			bad(at, "", "there is no field %q", clip(name))
		case fields[i].Type.Kind != event.String:
			bad(at, "declare it as a string", "only a string can be sensitive; this field is a %s", fields[i].Type)
		case policy == schema.Mask && i < len(d.Key):
			bad(at, "use hmac: equal values stay equal", "a key cannot be masked, which does not keep different values apart")
		case policy != schema.HMAC && policy != schema.Mask && policy != schema.NotSensitive:
			bad(at, "", "found sensitive: %s, expected hmac, mask or none", clip(string(policy)))
		case policy == schema.HMAC && i < len(d.Key) && len(d.Key) > 1 && strings.HasPrefix(d.Source, "topic:"):
			bad(at, "", "a key of several fields cannot be sensitive where the entries come from a topic: the record's key has them all in one")
		}
	}
}

// metaNames are what a CSV file, a JSON row and a SQL table call the parts that
// every entry has.
var metaNames = []string{"_expires", "_reason", "_author", "_since"}

func scalar(k event.Kind) bool {
	switch k {
	case event.Bool, event.Int64, event.Double, event.Decimal, event.String, event.Timestamp, event.Bytes:
		return true
	}
	return false
}

// SameShape tells that entries of one are entries of the other.
func (d *Definition) SameShape(o *Definition) bool {
	return d.sameKey(o) && slices.EqualFunc(d.Columns, o.Columns, event.Field.Equal)
}

// sameKey tells that keys of one are keys of the other: also as sensitive, because
// the key of an entry may be a hash.
func (d *Definition) sameKey(o *Definition) bool {
	return o != nil && d.List == o.List && slices.EqualFunc(d.Key, o.Key, func(a, b event.Field) bool {
		return a.Equal(b) && (d.Sensitive[a.Name] == schema.HMAC) == (o.Sensitive[b.Name] == schema.HMAC)
	})
}

func (d *Definition) equal(o *Definition) bool {
	return d.SameShape(o) && d.Source == o.Source && d.EntriesMax == o.EntriesMax && d.BytesMax == o.BytesMax && maps.Equal(d.Sensitive, o.Sensitive)
}

// declared is a definition in a record of TopicTables.
type declared struct {
	Kind       string          `json:"kind"`
	Key        []declaredField `json:"key"`
	Columns    []declaredField `json:"columns,omitempty"`
	Source     string          `json:"source,omitempty"`
	EntriesMax int64           `json:"max_entries,omitempty"`
	BytesMax   int64           `json:"max_bytes,omitempty"`
}

type declaredField struct {
	Name      string        `json:"name"`
	Type      string        `json:"type"`
	Optional  bool          `json:"optional,omitempty"`
	Sensitive schema.Policy `json:"sensitive,omitempty"`
}

func (d *Definition) declareFields(fields []event.Field) []declaredField {
	out := make([]declaredField, len(fields))
	for i, f := range fields {
		out[i] = declaredField{f.Name, f.Type.String(), f.Optional, d.Sensitive[f.Name]}
	}
	return out
}

func (d *Definition) marshal() (json.RawMessage, error) {
	return json.Marshal(declared{Kind: d.Kind(), Key: d.declareFields(d.Key), Columns: d.declareFields(d.Columns),
		Source: d.Source, EntriesMax: d.EntriesMax, BytesMax: d.BytesMax})
}

func unmarshalDefinition(name string, text []byte) (*Definition, error) {
	var in declared
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, err
	}
	d := &Definition{Name: name, List: in.Kind == "list", Source: in.Source, EntriesMax: in.EntriesMax, BytesMax: in.BytesMax}
	for _, part := range []struct {
		from []declaredField
		to   *[]event.Field
	}{{in.Key, &d.Key}, {in.Columns, &d.Columns}} {
		for _, f := range part.from {
			t, err := event.ParseType(f.Type)
			if err != nil {
				return nil, err
			}
			*part.to = append(*part.to, event.Field{Name: f.Name, Type: t, Optional: f.Optional})
			d.SetSensitive(f.Name, f.Sensitive)
		}
	}
	return d, d.Validate()
}

func clip(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
