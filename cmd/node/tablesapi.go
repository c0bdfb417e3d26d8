package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/protect"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/table"
)

// TableView is a list or dimension table.
type TableView struct {
	Name       string      `json:"name"`
	Kind       string      `json:"kind" enum:"list,table"`
	Key        []string    `json:"key" doc:"The fields that name an entry; of a list, value."`
	Fields     []FieldView `json:"fields" doc:"Those of the key first."`
	Source     string      `json:"source,omitempty" doc:"csv:FILE or topic:NAME where the entries come from there; only the others are changed here."`
	Declared   bool        `json:"declared" doc:"In weir.yaml: rules can refer to it."`
	Entries    int64       `json:"entries" doc:"Expired ones included."`
	Bytes      int64       `json:"bytes"`
	EntriesMax int64       `json:"max_entries"`
	BytesMax   int64       `json:"max_bytes"`
}

// NewTable is a list or table to make.
type NewTable struct {
	Name       string      `json:"name" minLength:"1"`
	Sensitive  string      `json:"sensitive,omitempty" enum:"hmac,none" doc:"Of a list: what happens to its values before they are written. hmac: they are found by the hashes of events' fields with sensitive: hmac."`
	Type       string      `json:"type,omitempty" doc:"Of a list's values: string, int64, decimal(N), timestamp or bytes. string where it is absent."`
	Key        []string    `json:"key,omitempty" doc:"Of a table: the fields that name an entry."`
	Fields     []FieldView `json:"fields,omitempty" doc:"Of a table, those of the key among them."`
	EntriesMax int64       `json:"max_entries,omitempty" minimum:"0" doc:"1,000,000 where it is absent."`
	BytesMax   int64       `json:"max_bytes,omitempty" minimum:"0" doc:"256 MiB where it is absent."`
}

// NewEntries are entries to add or to put in the place of those with their keys.
type NewEntries struct {
	Entries []json.RawMessage `json:"entries" minItems:"1" maxItems:"10000" doc:"Objects of the fields; of a list, {\"value\": ...}. Where wanted with _expires (a time; an event at or after it does not see the entry) and _reason."`
	Author  string            `json:"author,omitempty" maxLength:"256" doc:"Who adds them; api where it is absent."`
	Reason  string            `json:"reason,omitempty" maxLength:"4096" doc:"Why, for those without a _reason."`
	Expires *time.Time        `json:"expires,omitempty" doc:"For those without an _expires."`
}

// OldEntries are entries to remove.
type OldEntries struct {
	Keys   [][]json.RawMessage `json:"keys" minItems:"1" maxItems:"10000" doc:"For each entry the values of its key, in order."`
	Author string              `json:"author,omitempty" maxLength:"256"`
	Reason string              `json:"reason,omitempty" maxLength:"4096"`
}

// EntriesPage is a page of entries, in the order of their keys.
type EntriesPage struct {
	Entries []json.RawMessage `json:"entries" doc:"As they are added, with _since and _author."`
	Next    string            `json:"next,omitempty" doc:"Pass it as after for the page that follows; absent on the last one."`
}

// Changed is what a change of entries did. It is durable, and events written from
// now on are decided with it.
type Changed struct {
	Changed int   `json:"changed" doc:"Entries that are now different."`
	Entries int64 `json:"entries" doc:"In the list or table now."`
}

// TablePath names a list or table.
type TablePath struct {
	Name string `path:"name"`
}

// registerTables registers the same requests for lists and for tables.
func (n *Node) registerTables(api huma.API) {
	for _, list := range []bool{true, false} {
		kind := map[bool]string{true: "list", false: "table"}[list]
		base := "/v1/" + kind + "s"
		op := func(id, method, path, summary string) huma.Operation {
			return huma.Operation{OperationID: id + "-" + kind, Method: method, Path: base + path, Summary: summary}
		}
		huma.Register(api, op("all", http.MethodGet, "", "All "+kind+"s"), func(context.Context, *struct{}) (*answer[[]TableView], error) {
			return &answer[[]TableView]{n.tableViews(list)}, nil
		})
		huma.Register(api, op("make", http.MethodPost, "", "Make a "+kind+", or change what it is"), func(ctx context.Context, in *struct{ Body NewTable }) (*answer[TableView], error) {
			return n.makeTable(ctx, &in.Body, list)
		})
		huma.Register(api, op("get", http.MethodGet, "/{name}", "One "+kind), func(_ context.Context, in *TablePath) (*answer[TableView], error) {
			t, err := n.tableNamed(in.Name, list)
			if err != nil {
				return nil, err
			}
			return &answer[TableView]{n.tableView(t)}, nil
		})
		huma.Register(api, op("drop", http.MethodDelete, "/{name}", "Remove a "+kind+" with all its entries"), func(ctx context.Context, in *TablePath) (*struct{}, error) {
			return nil, n.dropTable(ctx, in.Name, list)
		})
		huma.Register(api, op("entries-of", http.MethodGet, "/{name}/entries", "Entries, page by page"), func(_ context.Context, in *entriesQuery) (*answer[EntriesPage], error) {
			return n.listEntries(in, list)
		})
		huma.Register(api, op("add-to", http.MethodPost, "/{name}/entries", "Add entries, all or none"), func(ctx context.Context, in *struct {
			TablePath
			Body NewEntries
		}) (*answer[Changed], error) {
			return n.addEntries(ctx, in.Name, list, &in.Body)
		})
		huma.Register(api, op("remove-from", http.MethodPost, "/{name}/entries/remove", "Remove entries, all or none"), func(ctx context.Context, in *struct {
			TablePath
			Body OldEntries
		}) (*answer[Changed], error) {
			return n.removeEntries(ctx, in.Name, list, &in.Body)
		})
	}
}

func (n *Node) tableViews(list bool) []TableView {
	out := []TableView{}
	for _, t := range n.tables.Head().Tables() {
		if t.Definition().List == list {
			out = append(out, n.tableView(t))
		}
	}
	return out
}

func (n *Node) tableView(t *table.Table) TableView {
	d := t.Definition()
	v := TableView{Name: d.Name, Kind: d.Kind(), Source: d.Source, Declared: n.declaredTable(d.Name), Entries: t.Len(), Bytes: t.Bytes(),
		EntriesMax: cmp.Or(d.EntriesMax, table.DefaultEntriesMax), BytesMax: cmp.Or(d.BytesMax, table.DefaultBytesMax)}
	for _, f := range d.Key {
		v.Key = append(v.Key, f.Name)
	}
	for _, f := range d.Fields() {
		v.Fields = append(v.Fields, FieldView{Name: f.Name, Type: f.Type.String(), Optional: f.Optional, Sensitive: string(d.Sensitive[f.Name])})
	}
	return v
}

func (n *Node) declaredTable(name string) bool {
	return slices.ContainsFunc(n.declared, func(t loaded) bool { return t.Definition.Name == name })
}

// tableNamed is a list or table, or a 404 with what may have been meant.
func (n *Node) tableNamed(name string, list bool) (*table.Table, error) {
	v := n.tables.Head()
	if t := v.Table(name); t != nil && t.Definition().List == list {
		return t, nil
	}
	kind := map[bool]string{true: "list", false: "table"}[list]
	var names []string
	for _, t := range v.Tables() {
		if t.Definition().List == list {
			names = append(names, t.Definition().Name)
		}
	}
	hint := cmp.Or(schema.Suggest(name, names), "there are "+strings.Join(names, ", "))
	if len(names) == 0 {
		hint = "there are none"
	}
	return nil, huma.Error404NotFound(fmt.Sprintf("there is no %s %q: %s", kind, name, hint))
}

// writable is tableNamed for changes through the API.
func (n *Node) writable(name string, list bool) (*table.Table, error) {
	t, err := n.tableNamed(name, list)
	if err != nil {
		return nil, err
	}
	if source := t.Definition().Source; source != "" {
		return nil, huma.Error409Conflict(fmt.Sprintf("the entries of %s %s come from %s: change them there", t.Definition().Kind(), name, source))
	}
	return t, nil
}

func (n *Node) makeTable(ctx context.Context, in *NewTable, list bool) (*answer[TableView], error) {
	d := &table.Definition{Name: in.Name, List: list, EntriesMax: in.EntriesMax, BytesMax: in.BytesMax}
	if err := in.fill(d); err != nil {
		return nil, tableError(err)
	}
	if err := d.Validate(); err != nil {
		return nil, tableError(err)
	}
	if reason := config.ReservedTable(in.Name); reason != "" && !list {
		return nil, tableError(&schema.Problem{Field: "name", Message: reason})
	}
	n.changing.Lock() // a stream's table may get the name
	defer n.changing.Unlock()
	if !list && slices.ContainsFunc(n.streams(), func(s *schema.Stream) bool { return strings.EqualFold(s.Schema.Stream, in.Name) }) {
		return nil, huma.Error409Conflict(in.Name + " is the name of a stream; SQL does not tell upper from lower case")
	}
	if n.declaredTable(in.Name) {
		return nil, huma.Error409Conflict(in.Name + " is declared in weir.yaml: change it there")
	}
	if other := n.tables.Head().Table(in.Name); other != nil && other.Definition().List != list {
		return nil, huma.Error409Conflict(fmt.Sprintf("%s is the name of a %s", in.Name, other.Definition().Kind()))
	}
	if len(d.Sensitive) > 0 {
		if err := n.protect(n.guardedStreams(), n.definitionsWith(d)); err != nil {
			return nil, err
		}
	}
	if _, err := n.tables.Change(ctx, []table.Change{{Op: table.OpDeclare, Definition: d}}); err != nil {
		return nil, tableError(err)
	}
	return &answer[TableView]{n.tableView(n.tables.Head().Table(in.Name))}, nil
}

// fill reads the fields of a definition.
func (in *NewTable) fill(d *table.Definition) error {
	if d.List {
		if len(in.Key) > 0 || len(in.Fields) > 0 {
			return &schema.Problem{Field: "fields", Message: "a list has a type and no fields"}
		}
		t, err := event.ParseType(cmp.Or(in.Type, "string"))
		if err != nil {
			return &schema.Problem{Field: "type", Message: err.Error()}
		}
		d.Key = []event.Field{{Name: table.ListKey, Type: t}}
		d.SetSensitive(table.ListKey, schema.Policy(in.Sensitive))
		return nil
	}
	if in.Type != "" {
		return &schema.Problem{Field: "type", Message: "a table has fields and no type"}
	}
	if in.Sensitive != "" {
		return &schema.Problem{Field: "sensitive", Message: "a table has sensitive fields: say it of each"}
	}
	fields := map[string]event.Field{}
	for _, f := range in.Fields {
		t, err := event.ParseType(f.Type)
		if err != nil {
			return &schema.Problem{Field: "fields." + f.Name, Message: err.Error()}
		}
		fields[f.Name] = event.Field{Name: f.Name, Type: t, Optional: f.Optional}
		d.SetSensitive(f.Name, schema.Policy(f.Sensitive))
		if !slices.Contains(in.Key, f.Name) {
			d.Columns = append(d.Columns, fields[f.Name])
		}
	}
	for _, name := range in.Key {
		f, found := fields[name]
		if !found {
			return &schema.Problem{Field: "key", Message: fmt.Sprintf("there is no field %q", name)}
		}
		d.Key = append(d.Key, f)
	}
	return nil
}

func (n *Node) dropTable(ctx context.Context, name string, list bool) error {
	if _, err := n.tableNamed(name, list); err != nil {
		return err
	}
	if n.declaredTable(name) {
		return huma.Error409Conflict(name + " is declared in weir.yaml: remove it there first")
	}
	_, err := n.tables.Change(ctx, []table.Change{{Op: table.OpDrop, Table: name}})
	return tableError(err)
}

type entriesQuery struct {
	TablePath
	Search string `query:"search" doc:"Only entries with this text in a field, the author or the reason."`
	After  string `query:"after" doc:"The previous page's next."`
	Limit  int    `query:"limit" default:"100" minimum:"1" maximum:"10000"`
	At     string `query:"at" doc:"Only entries that an event of this time sees; all where it is absent."`
}

func (n *Node) listEntries(in *entriesQuery, list bool) (*answer[EntriesPage], error) {
	t, err := n.tableNamed(in.Name, list)
	if err != nil {
		return nil, err
	}
	after, err := base64.RawURLEncoding.DecodeString(in.After)
	if err != nil {
		return nil, huma.Error422UnprocessableEntity("after: expected the next of an earlier page")
	}
	if in.After == "" {
		after = nil
	}
	at := event.MinTime
	if in.At != "" {
		v, err := table.ParseText(event.Type{Kind: event.Timestamp}, in.At)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity("at: " + err.Error())
		}
		at = event.Time(v.Bits)
	}
	wanted := n.searchedFor(t.Definition(), in.Search)
	var text []byte
	rows := t.Page(after, in.Limit+1, func(r table.Row) bool {
		if at != event.MinTime && !r.SeenAt(at) {
			return false
		}
		if in.Search == "" {
			return true
		}
		text = bytes.ToLower(r.AppendSearch(text[:0]))
		return slices.ContainsFunc(wanted, func(one []byte) bool { return bytes.Contains(text, one) })
	})
	page := EntriesPage{Entries: []json.RawMessage{}}
	if len(rows) > in.Limit {
		rows = rows[:in.Limit]
		page.Next = base64.RawURLEncoding.EncodeToString(rows[len(rows)-1].KeyBytes())
	}
	for _, r := range rows {
		page.Entries = append(page.Entries, r.AppendJSON(nil))
	}
	return &answer[EntriesPage]{page}, nil
}

// searchedFor is a text that is searched for, and the hashes that stand for it.
func (n *Node) searchedFor(d *table.Definition, text string) [][]byte {
	wanted := []string{text}
	if protect.UsesTables([]*table.Definition{d}, schema.HMAC) {
		wanted = append(wanted, n.protector.Load().Tokens(text)...)
	}
	out := make([][]byte, len(wanted))
	for i, one := range wanted {
		out[i] = bytes.ToLower([]byte(one))
	}
	return out
}

func (n *Node) addEntries(ctx context.Context, name string, list bool, in *NewEntries) (*answer[Changed], error) {
	t, err := n.writable(name, list)
	if err != nil {
		return nil, err
	}
	changes := make([]table.Change, len(in.Entries))
	for i, raw := range in.Entries {
		e, err := table.ParseEntry(t.Definition(), raw)
		if err != nil {
			return nil, entryError(err, fmt.Sprintf("entries[%d]", i))
		}
		if e.Expires == event.MaxTime && in.Expires != nil {
			if !event.InRange(*in.Expires) {
				return nil, huma.Error422UnprocessableEntity("expires: out of the range 1678 to 2261")
			}
			e.Expires = event.FromTime(*in.Expires)
		}
		e.Author, e.Reason = cmp.Or(in.Author, "api"), cmp.Or(e.Reason, in.Reason)
		changes[i] = table.Change{Op: table.OpPut, Table: name, Entry: e}
	}
	return n.changeEntries(ctx, name, t.Definition(), changes)
}

func (n *Node) removeEntries(ctx context.Context, name string, list bool, in *OldEntries) (*answer[Changed], error) {
	t, err := n.writable(name, list)
	if err != nil {
		return nil, err
	}
	d := t.Definition()
	changes := make([]table.Change, len(in.Keys))
	for i, raw := range in.Keys {
		key, err := table.ParseKey(d, raw)
		if err != nil {
			return nil, huma.Error422UnprocessableEntity(fmt.Sprintf("keys[%d]: %v", i, err))
		}
		changes[i] = table.Change{Op: table.OpRemove, Table: name, Entry: table.Entry{Key: key, Author: cmp.Or(in.Author, "api"), Reason: in.Reason}}
	}
	return n.changeEntries(ctx, name, d, changes)
}

// changeEntries makes changes that were read for a definition, which must still be
// the table's.
func (n *Node) changeEntries(ctx context.Context, name string, d *table.Definition, changes []table.Change) (*answer[Changed], error) {
	res, err := n.tables.Update(ctx, func(v *table.View) ([]table.Change, error) {
		if t := v.Table(name); t == nil || !t.Definition().SameShape(d) || t.Definition().Source != "" {
			return nil, huma.Error409Conflict(name + " was changed or removed meanwhile: try again")
		}
		return changes, nil
	})
	if err != nil {
		return nil, tableError(err)
	}
	return &answer[Changed]{Changed{Changed: res.Changed, Entries: n.tables.Head().Table(name).Len()}}, nil
}

// entryError names the place of a mistake in the body.
func entryError(err error, place string) error {
	var p *schema.Problem
	if !errors.As(err, &p) {
		return err
	}
	if p.Field != "" {
		place += "." + p.Field
	}
	text := place + ": " + p.Message
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	return huma.Error422UnprocessableEntity(text, &huma.ErrorDetail{Location: "body." + place, Message: p.Message})
}

// tableError is a person's mistake with the status that says so.
func tableError(err error) error {
	var p *schema.Problem
	switch {
	case err == nil:
		return nil
	case errors.As(err, &p), errors.Is(err, table.ErrFull), errors.Is(err, table.ErrTooLarge):
		return huma.Error422UnprocessableEntity(err.Error())
	case errors.Is(err, table.ErrShape):
		return huma.Error409Conflict(err.Error())
	case errors.Is(err, table.ErrUnknown):
		return huma.Error404NotFound(err.Error())
	}
	return err
}

// importMax bounds a CSV body.
const importMax = 256 << 20

// serveEntries takes and gives all entries as CSV: PUT makes a list or table what the body
// says, in one step.
func (n *Node) serveEntries(mux *http.ServeMux) {
	mux.HandleFunc("PUT /v1/lists/{name}/entries", func(w http.ResponseWriter, r *http.Request) { n.replaceEntries(w, r, true) })
	mux.HandleFunc("PUT /v1/tables/{name}/entries", func(w http.ResponseWriter, r *http.Request) { n.replaceEntries(w, r, false) })
	mux.HandleFunc("GET /v1/lists/{name}/entries.csv", func(w http.ResponseWriter, r *http.Request) { n.exportEntries(w, r, true) })
	mux.HandleFunc("GET /v1/tables/{name}/entries.csv", func(w http.ResponseWriter, r *http.Request) { n.exportEntries(w, r, false) })
}

func (n *Node) replaceEntries(w http.ResponseWriter, r *http.Request, list bool) {
	t, err := n.writable(r.PathValue("name"), list)
	if err != nil {
		answerError(w, err)
		return
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "text/csv" {
		answerError(w, huma.Error415UnsupportedMediaType("expected a body of the type text/csv, whose first line names the columns"))
		return
	}
	d := t.Definition()
	entries, err := table.ReadCSV(http.MaxBytesReader(w, r.Body, importMax), cmp.Or(r.URL.Query().Get("file"), "body"), d, ',')
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		answerError(w, huma.NewError(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes; name the file in weir.yaml (csv:) instead", importMax)))
		return
	case err != nil:
		answerError(w, tableError(err))
		return
	}
	for i := range entries {
		entries[i].Author = cmp.Or(r.URL.Query().Get("author"), "api")
		entries[i].Reason = cmp.Or(entries[i].Reason, r.URL.Query().Get("reason"))
	}
	res, err := n.tables.Sync(r.Context(), d, entries)
	if err != nil {
		answerError(w, tableError(err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(Changed{Changed: res.Changed, Entries: int64(len(entries))})
}

// exportEntries writes all entries as of one moment as CSV.
func (n *Node) exportEntries(w http.ResponseWriter, r *http.Request, list bool) {
	t, err := n.tableNamed(r.PathValue("name"), list)
	if err != nil {
		answerError(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	rows := t.Page(nil, int(t.Len()), nil)
	if err := table.WriteCSV(w, t.Definition(), rows, true); err != nil && !errors.Is(err, io.ErrClosedPipe) {
		n.logger.Warn("an export of a table was cut off", "table", t.Definition().Name, "err", err)
	}
}

// answerError is an error in the form of the REST API.
func answerError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var s huma.StatusError
	if errors.As(err, &s) {
		status = s.GetStatus()
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"title": http.StatusText(status), "status": status, "detail": err.Error()})
}
