package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/weirstream/weir/alerts/webhook"
	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// build checks what spans keys and makes the configuration. It may return nil or
// something incomplete where there are problems.
func (d *draft) build(w *walker) *Config {
	d.finishLog(w)
	c := &Config{File: w.file, DataDir: d.dataDir.s, KafkaAddr: d.kafka.s, HTTPAddr: d.http.s, SQLAddr: d.sql.s,
		RulesDir: d.rulesDir(w), Log: d.log, Kafka: d.broker, Engine: d.engine, SQL: d.limits}
	d.checkAddrs(w)
	taken := newTaken()
	c.Protect.Keys = d.buildKeys(w)
	for _, s := range d.streams {
		taken.check(w, s)
		c.Streams = append(c.Streams, s.build(w))
	}
	d.buildTables(w, c)
	receivers := map[string]text{}
	for _, r := range d.receivers {
		if r.name.set {
			once(w, receivers, r.name.s, r.name, "the name of another receiver")
		}
		c.Receivers = append(c.Receivers, r.build(w, d.streams))
	}
	return c
}

// rulesDir is the directory that was named, else the one beside the file where it
// exists.
func (d *draft) rulesDir(w *walker) string {
	if d.rules.v.node == nil {
		if dir := filepath.Join(w.o.Dir, rulesDefault); w.file != "" && w.o.DirExists(dir) {
			return dir
		}
		return ""
	}
	if d.rules.set && !w.o.DirExists(d.rules.s) {
		w.fail(d.rules.v, "", "there is no directory %s", d.rules.s)
	}
	return d.rules.s
}

// checkAddrs reports two listeners on one address.
func (d *draft) checkAddrs(w *walker) {
	all := []text{d.kafka, d.http, d.sql}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.set && b.set && a.s == b.s && !strings.HasSuffix(a.s, ":0") {
				w.fail(a.v, "", "found %q, which is also %s", a.s, b.v.path)
			}
		}
	}
}

var streamName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,62}$`)
var fieldName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)
var receiverName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

// ownTables are the SQL tables beside the streams'.
var ownTables = []string{"decisions", "alerts", "deliveries", "deadletters", "lists", "list_entries", "table_changes", "table_changes_whole", "table_entries", "weir_freshness"}

// sqlReserved are DuckDB's reserved words: a table of such a name could only be
// queried in quotes.
var sqlReserved = strings.Fields(`all analyse analyze and any array as asc asymmetric both case cast check collate column
	constraint create default deferrable desc describe distinct do else end except false fetch for foreign from group
	having in initially intersect into lambda lateral leading limit not null offset on only or order pivot pivot_longer
	pivot_wider placing primary qualify references returning select show some summarize symmetric table then to trailing
	true union unique unpivot using variadic when where window with`)

// celReserved are CEL's reserved words and the names of its types, from the
// language definition, and the functions that take a window or a list apart.
var celReserved = strings.Fields(`false in null true as break const continue else for function if import let loop package
	namespace return var void while bool bytes double duration dyn int list map null_type optional_type string
	timestamp type uint last has`)

// taken is what must differ between streams.
type taken struct{ name, alias, topic map[string]text }

func newTaken() *taken {
	return &taken{name: map[string]text{}, alias: map[string]text{}, topic: map[string]text{}}
}

func (n *taken) check(w *walker, s *streamDraft) {
	lower := strings.ToLower(s.name)
	switch {
	case !streamName.MatchString(s.name):
		w.fail(s.v.named(), "", "found %q as a stream's name, expected a letter, then letters, digits and _, at most 63", clip(s.name))
	case ReservedTable(s.name) != "":
		w.fail(s.v, "", "%s", ReservedTable(s.name))
	}
	once(w, n.name, lower, text{s: s.name, v: s.v, set: true}, "a stream of this name; SQL does not tell upper from lower case")

	if s.as.v.node == nil {
		s.as = text{s: s.name, v: s.v, set: streamName.MatchString(s.name)}
	}
	if s.as.set {
		if slices.Contains(celReserved, s.as.s) {
			w.fail(s.as.v, "give the stream another name in rules with `as`", "%q is a reserved word in rules", s.as.s)
		} else if !fieldName.MatchString(s.as.s) {
			w.fail(s.as.v, "", "found %q, expected a letter or _, then letters, digits and _", clip(s.as.s))
		}
		once(w, n.alias, s.as.s, s.as, "the name in rules of another stream")
	}

	if s.topic.v.node == nil {
		s.topic = text{s: s.name, v: s.v, set: streamName.MatchString(s.name)}
	}
	if s.topic.set {
		checkTopic(w, s.topic)
		once(w, n.topic, s.topic.s, s.topic, "the topic of another stream")
	}
}

func checkTopic(w *walker, t text) {
	switch {
	case !topicName.MatchString(t.s) || t.s == "." || t.s == "..":
		w.fail(t.v, "", "found %q, expected a topic name: 1 to 249 letters, digits, '.', '_' and '-'", clip(t.s))
	case t.s == "weir" || strings.HasPrefix(t.s, "weir."):
		w.fail(t.v, "", "%q is reserved: topics whose name begins with weir. are Weir's own", clip(t.s))
	case strings.HasPrefix(t.s, "__"):
		w.fail(t.v, "", "%q is reserved: topics whose name begins with __ are internal to Kafka", clip(t.s))
	}
}

// once reports a second t under k.
func once(w *walker, seen map[string]text, k string, t text, what string) {
	if first, ok := seen[k]; ok {
		w.fail(t.v, "", "found %q, which is already %s (line %d)", clip(t.s), what, first.v.at.Line)
		return
	}
	seen[k] = t
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

func (s *streamDraft) build(w *walker) *schema.Stream {
	out := &schema.Stream{Topic: s.topic.s, Partitions: int32(s.partitions), Format: schema.Format(s.format), Delimiter: s.csv.delimiter,
		Zone: s.zone, Lateness: s.lateness, MaxAhead: s.maxAhead, AllDecisions: s.decisions == "all", Compatibility: schema.Compatibility(s.compat),
		Place: schema.Problem{File: w.file, Line: s.v.at.Line, Column: s.v.at.Column, Field: s.v.path}}
	if out.Delimiter == 0 {
		out.Delimiter = ','
	}
	out.Schema = &event.Schema{Stream: s.name, Alias: s.as.s, Time: -1, Key: -1, ID: -1}
	s.buildFields(w, out)
	idKinds := []event.Kind{event.String, event.Int64, event.Bytes}
	out.Schema.Time = s.refer(w, out.Schema, s.time, event.Timestamp)
	out.Schema.Key = s.refer(w, out.Schema, s.key, idKinds...)
	out.Schema.ID = s.refer(w, out.Schema, s.id, idKinds...)
	s.buildWatermark(w, out)
	if out.Idle = s.idle.d; out.Idle > 0 && out.Idle < idleMin {
		w.fail(s.idle.v, "`0s` switches it off", "found %s, expected at least %s", formatDuration(out.Idle), formatDuration(idleMin))
	}
	if out.DiskFrom = s.diskFrom; out.DiskFrom == 0 {
		out.DiskFrom = -1
	}
	if out.Dedupe = s.dedupe.d; s.dedupe.v.node != nil {
		s.checkDedupe(w, out)
	}
	s.buildColumns(w, out)
	s.checkSensitive(w, out)
	return out
}

// idleMin bounds how often an idle partition writes to the journal.
const idleMin = time.Second

// buildWatermark sets WatermarkBy and WatermarkIdle.
func (s *streamDraft) buildWatermark(w *walker, out *schema.Stream) {
	for _, t := range s.markBy {
		i := s.refer(w, out.Schema, t, event.String, event.Int64, event.Bytes, event.Bool)
		if i >= 0 && slices.Contains(out.WatermarkBy, i) {
			w.fail(t.v, "", "found %q twice", clip(t.s))
		} else if i >= 0 {
			out.WatermarkBy = append(out.WatermarkBy, i)
		}
	}
	switch {
	case len(s.markBy) > 0:
		out.WatermarkIdle = s.markIdle.d
		if s.markIdle.v.node == nil {
			out.WatermarkIdle = max(time.Hour, s.lateness)
		} else if s.markIdle.d < s.lateness {
			w.fail(s.markIdle.v, "set it to at least the lateness", "found %s, which is below the lateness of %s", formatDuration(s.markIdle.d), formatDuration(s.lateness))
		}
	case s.markIdle.v.node != nil:
		w.fail(s.markIdle.v, "name the fields: `watermark_by: [FIELD]`", "needs `watermark_by`")
	}
}

func (s *streamDraft) checkDedupe(w *walker, out *schema.Stream) {
	switch id := out.Schema.ID; {
	case s.id.v.node == nil:
		w.fail(s.dedupe.v, "name the field that identifies an event: `id: FIELD`", "needs `id`")
	case id >= 0 && out.Schema.Fields[id].Type.Kind == event.Bytes:
		w.fail(s.dedupe.v, "", "needs an id that is a string or an int64, found bytes")
	}
}

func (s *streamDraft) buildFields(w *walker, out *schema.Stream) {
	if s.fieldsAt.node != nil && len(s.fields) == 0 && (isScalar(s.fieldsAt) || len(resolve(s.fieldsAt.node).Content) == 0) {
		w.fail(s.fieldsAt, "", "is empty: expected at least the timestamp that `time` names")
	}
	seen := map[string]text{}
	for _, f := range s.fields {
		switch lower := strings.ToLower(f.name); {
		case !fieldName.MatchString(f.name):
			w.fail(f.v.named(), "name the field otherwise and give its name in the record with `from`", "found %q as a field's name, expected a letter or _, then letters, digits and _, at most 63", clip(f.name))
		case slices.Contains([]string{"_topic", "_partition", "_offset"}, lower):
			w.fail(f.v.named(), "", "%q is a column that every stream's table has already", f.name)
		case slices.Contains(celWords, f.name):
			w.fail(f.v.named(), "name the field otherwise and give its name in the record with `from`", "%q is a reserved word in rules", f.name)
		}
		once(w, seen, strings.ToLower(f.name), text{s: f.name, v: f.v.named()}, "a field of this name; SQL does not tell upper from lower case")
		typ, declared := f.build(w)
		if f.from.set && slices.Contains(strings.Split(f.from.s, "."), "") {
			w.fail(f.from.v, "", "found %q, expected names apart by single dots", clip(f.from.s))
		}
		if typ.IsNested() {
			f.checkNested(w, typ, out.Format)
		}
		out.Schema.Fields = append(out.Schema.Fields, event.Field{Name: f.name, Type: typ, Optional: f.optional})
		out.Fields = append(out.Fields, declared)
	}
}

// otherTypes are names of types elsewhere, with the one to use here.
var otherTypes = map[string]string{"int": "int64", "integer": "int64", "long": "int64", "bigint": "int64", "int32": "int64", "uint64": "int64",
	"float": "double", "float64": "double", "real": "double", "number": "double", "text": "string", "varchar": "string", "str": "string",
	"boolean": "bool", "datetime": "timestamp", "date": "timestamp", "time": "timestamp", "decimal": "decimal(2)", "money": "decimal(2)",
	"numeric": "decimal(2)", "binary": "bytes", "blob": "bytes"}

// build is the field's type and how it is written.
func (f *fieldDraft) build(w *walker) (event.Type, schema.Field) {
	out := schema.Field{From: f.from.s, Sensitive: schema.Policy(f.sensitive.s), FreeText: f.freeText, Subject: f.subject.node != nil}
	if f.v.at != nil { // a list's of entries has no place of its own
		out.Line, out.Column = f.v.at.Line, f.v.at.Column
	}
	var typ event.Type
	if f.typ.set {
		typ, out.Members = f.buildType(w)
	}
	if f.layout.v.node == nil {
		if typ.Kind == event.Timestamp {
			out.Layout = "rfc3339"
		}
		return typ, out
	}
	if typ.Kind != event.Timestamp && typ.Kind != 0 {
		w.fail(f.layout.v, "", "only a timestamp has a layout; this field is a %s", typ.Kind)
	}
	if f.layout.set {
		if _, err := decode.ParseLayout(f.layout.s); err != nil {
			w.fail(f.layout.v, "", "%v", err)
		}
	}
	out.Layout = f.layout.s
	return typ, out
}

// buildType is the type of a field whose `type` is set.
func (f *fieldDraft) buildType(w *walker) (typ event.Type, members []schema.Field) {
	if f.typ.s == "list" || f.typ.s == "map" || f.typ.s == "struct" {
		return f.buildNested(w)
	}
	for key, at := range map[string]value{"of": f.ofAt(), "fields": f.membersAt} {
		if at.node != nil {
			w.fail(at, "", "only type: list and type: map have `of`, and type: struct has `fields`; this one is %s with %s", clip(f.typ.s), key)
		}
	}
	typ, err := event.ParseType(f.typ.s)
	if err == nil {
		return typ, nil
	}
	hint := schema.Suggest(f.typ.s, event.TypeNames)
	if other, ok := otherTypes[strings.ToLower(f.typ.s)]; ok {
		hint = fmt.Sprintf("did you mean %q?", other)
	}
	switch {
	case hasAnyPrefix(f.typ.s, "list(", "struct(", "map("):
		w.fail(f.typ.v, "in a mapping in braces, quote a type that has commas", "%v", err)
	case strings.HasPrefix(f.typ.s, "decimal("):
		w.fail(f.typ.v, "", "found %q, expected decimal(N) with N from 0 to %d decimal places", clip(f.typ.s), event.MaxScale)
	default:
		w.fail(f.typ.v, hint, "found the type %q, expected one of %s", clip(f.typ.s), strings.Join(event.TypeNames, ", "))
	}
	return event.Type{}, nil
}

func (f *fieldDraft) ofAt() value {
	if f.of == nil {
		return value{}
	}
	return f.of.v
}

// buildNested is buildType of `type: list`, `map` and `struct`.
func (f *fieldDraft) buildNested(w *walker) (typ event.Type, members []schema.Field) {
	within := f.members
	switch kind := f.typ.s; {
	case kind == "struct":
		typ.Kind = event.Struct
		if f.of != nil {
			w.fail(f.of.v, "", "a struct has `fields`, not `of`")
		}
		if len(f.members) == 0 {
			w.fail(f.typ.v, "for instance {type: struct, fields: {lat: double, lon: double}}", "a struct needs `fields`: a mapping of names to types")
			return event.Type{}, nil
		}
	default:
		typ.Kind = event.List
		if kind == "map" {
			typ.Kind = event.Map
		}
		if f.membersAt.node != nil {
			w.fail(f.membersAt, "", "a %s has `of`, not `fields`", kind)
		}
		if f.of == nil {
			w.fail(f.typ.v, fmt.Sprintf("for instance %s(string)", kind), "a %s needs `of`: the type of what it holds", kind)
			return event.Type{}, nil
		}
		within = []*fieldDraft{f.of}
	}
	for _, m := range within {
		t, declared := m.build(w)
		if t.Kind == 0 {
			typ.Kind = 0 // it is reported
		}
		m.checkMember(w, typ.Kind)
		typ.Fields = append(typ.Fields, event.Field{Name: m.name, Type: t, Optional: m.optional})
		members = append(members, declared)
	}
	if typ.Kind == 0 {
		return event.Type{}, nil
	}
	return typ, members
}

// checkMember reports what a part of a nested field cannot have.
func (f *fieldDraft) checkMember(w *walker, kind event.Kind) {
	if f.subject.node != nil {
		w.fail(f.subject, "", "the subject must be a field of its own, which no list, map or struct holds")
	}
	switch {
	case f.from.set && kind != event.Struct && kind != 0:
		w.fail(f.from.v, "", "what a list or map holds has no name in the record")
	case f.from.set && strings.Contains(f.from.s, "."):
		w.fail(f.from.v, "declare a struct for each object on the way", "found %q, expected the one name of the member in its object", clip(f.from.s))
	}
}

// checkNested reports what is wrong with a nested type as a whole.
func (f *fieldDraft) checkNested(w *walker, typ event.Type, format schema.Format) {
	if typ.Nesting() > event.MaxNesting {
		w.fail(f.v.named(), "", "nested deeper than %d lists, maps and structs", event.MaxNesting)
	}
	if format == schema.CSV {
		w.fail(f.typ.v, "expected format: json", "a %s cannot be in a CSV record", typ.Kind)
	}
	f.checkMembers(w, typ, "")
}

func (f *fieldDraft) checkMembers(w *walker, typ event.Type, path string) {
	seen := map[string]bool{}
	for _, m := range typ.Fields {
		if typ.Kind == event.Struct {
			lower := strings.ToLower(m.Name)
			switch {
			case !fieldName.MatchString(m.Name):
				w.fail(f.v.named(), "name the member otherwise and give its name in the record with `from`", "found %q as the name of a struct's member, expected a letter or _, then letters, digits and _, at most 63", clip(path+m.Name))
			case slices.Contains(celWords, m.Name):
				w.fail(f.v.named(), "name the member otherwise and give its name in the record with `from`", "%q is a reserved word in rules", path+m.Name)
			case seen[lower]:
				w.fail(f.v.named(), "", "two members of the struct are called %q; SQL does not tell upper from lower case", path+m.Name)
			}
			seen[lower] = true
		}
		f.checkMembers(w, m.Type, path+m.Name+".")
	}
}

// celWords cannot be selected in CEL, as in tx.geo.in.
var celWords = []string{"true", "false", "null", "in"}

// refer looks a field up that `time`, `key` or `id` names.
func (s *streamDraft) refer(w *walker, sch *event.Schema, t text, kinds ...event.Kind) int {
	if !t.set || len(s.fields) == 0 {
		return -1
	}
	i := sch.Index(t.s)
	if i < 0 {
		all := make([]string, len(sch.Fields))
		for i := range sch.Fields {
			all[i] = sch.Fields[i].Name
		}
		w.fail(t.v, schema.Suggest(t.s, all), "there is no field %q: expected one of %s", clip(t.s), clipList(all))
		return -1
	}
	f := &sch.Fields[i]
	expected := make([]string, len(kinds))
	for i, k := range kinds {
		expected[i] = k.String()
	}
	switch {
	case f.Type.Kind != 0 && !slices.Contains(kinds, f.Type.Kind):
		w.fail(t.v, "", "the field %q is a %s, expected %s", t.s, f.Type, strings.Join(expected, " or "))
	case f.Optional:
		w.fail(t.v, "", "the field %q is optional, expected one that every event has", t.s)
	}
	return i
}

func clipList(all []string) string {
	const most = 12
	if len(all) > most {
		return strings.Join(all[:most], ", ") + fmt.Sprintf(" and %d more", len(all)-most)
	}
	return strings.Join(all, ", ")
}

// buildColumns checks the columns of CSV records against the fields.
func (s *streamDraft) buildColumns(w *walker, out *schema.Stream) {
	if out.Format != schema.CSV {
		if s.csv.set && out.Format == schema.JSON {
			w.fail(s.csv.v, "", "only a stream with format: csv has this key")
		}
		return
	}
	if s.csv.columns == nil {
		for i := range out.Fields {
			if c := columnOf(out, i); !slices.Contains(out.Columns, c) {
				out.Columns = append(out.Columns, c)
			}
		}
		return
	}
	for _, c := range s.csv.columns {
		if slices.Contains(out.Columns, c.s) {
			w.fail(c.v, "", "the column %q stands in the list twice", clip(c.s))
		}
		out.Columns = append(out.Columns, c.s)
	}
	for i, f := range s.fields {
		c := columnOf(out, i)
		if slices.Contains(out.Columns, c) {
			continue
		}
		at := f.from.v
		if !f.from.set {
			at = f.v.named()
		}
		w.fail(at, schema.Suggest(c, out.Columns), "there is no column %q in csv.columns: expected one of %s", clip(c), clipList(out.Columns))
	}
}

func columnOf(s *schema.Stream, i int) string {
	if s.Fields[i].From != "" {
		return s.Fields[i].From
	}
	return s.Schema.Fields[i].Name
}

func (r *receiverDraft) build(w *walker, streams []*streamDraft) Receiver {
	out := Receiver{Name: r.name.s, Match: r.match, RetryFor: r.retryFor, MaxInFlight: int(r.inFlight)}
	if r.name.set && !receiverName.MatchString(r.name.s) {
		w.fail(r.name.v, "", "found %q, expected letters, digits, '_', '.' and '-', at most 63", clip(r.name.s))
	}
	all := make([]string, len(streams))
	for i, s := range streams {
		all[i] = s.name
	}
	for _, t := range r.streams {
		if !slices.Contains(all, t.s) {
			w.fail(t.v, schema.Suggest(t.s, all), "there is no stream %q", clip(t.s))
		}
		out.Match.Streams = append(out.Match.Streams, t.s)
	}
	if r.webhook == nil {
		if n := resolve(r.v.node); !slices.ContainsFunc(laterKinds, func(k string) bool { return hasKey(n, k) }) {
			w.fail(r.v, "", "has no kind: expected the key webhook")
		}
		return out
	}
	out.Webhook = r.webhook.build(w)
	return out
}

func (h *webhookDraft) build(w *walker) *Webhook {
	out := &Webhook{URL: h.url.s, Timeout: h.timeout, AllowCIDRs: h.cidrs}
	if h.url.set {
		h.checkURL(w)
	}
	switch {
	case h.secret.v.node != nil && h.secretFile.v.node != nil:
		w.fail(h.secretFile.v, "", "found both secret and secret_file, expected one of them")
	case h.secret.set:
		out.Secrets = h.secrets(w, h.secret, h.secret.s)
	case h.secretFile.set:
		data, err := w.o.ReadFile(h.secretFile.s)
		if err != nil {
			w.fail(h.secretFile.v, "", "cannot be read: %v", err)
			break
		}
		out.Secrets = h.secrets(w, h.secretFile, string(data))
	}
	return out
}

func (h *webhookDraft) secrets(w *walker, t text, s string) []Secret {
	secrets, reason := parseSecrets(s)
	if reason != "" {
		w.fail(t.v, secretHint, "%s, expected %s", reason, secretExpected)
	}
	return secrets
}

// checkURL never shows the URL: its path may be a token.
func (h *webhookDraft) checkURL(w *walker) {
	const expected = "an http or https URL such as https://example.com/hook"
	u, err := url.Parse(h.url.s)
	switch {
	case err != nil:
		w.fail(h.url.v, "", "found something that is not a URL, expected %s", expected)
		return
	case u.Scheme != "http" && u.Scheme != "https":
		w.fail(h.url.v, schema.Suggest(u.Scheme, []string{"http", "https"}), "found a URL with the scheme %q, expected %s", clip(u.Scheme), expected)
		return
	case u.Hostname() == "":
		w.fail(h.url.v, "", "found a URL without a host, expected %s", expected)
		return
	case u.User != nil:
		w.fail(h.url.v, "receivers know the sender by its signature: see secret_file", "found a URL with a user name in it, which is not supported")
	case u.Fragment != "":
		w.fail(h.url.v, "", "found a URL with a fragment (#...), which is never sent")
	}
	// An address that can be seen here to be refused need not wait for an alert.
	var addr netip.Addr
	if addr, err = netip.ParseAddr(u.Hostname()); err != nil {
		if u.Hostname() != "localhost" {
			return
		}
		addr = netip.MustParseAddr("127.0.0.1")
	}
	if webhook.NewGuard(h.cidrs).Check(addr) != nil {
		w.fail(h.url.v, fmt.Sprintf("add allow_cidrs: [%s] to the webhook if that is meant", netip.PrefixFrom(addr, addr.BitLen())),
			"the address %s is not public and not in allow_cidrs", net.JoinHostPort(addr.String(), port(u)))
	}
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

func hasKey(n *yaml.Node, name string) bool {
	if n.Kind != yaml.MappingNode {
		return n.Kind == yaml.SequenceNode || n.ShortTag() != "!!null" // already reported
	}
	for i := 0; i < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return true
		}
	}
	return false
}
