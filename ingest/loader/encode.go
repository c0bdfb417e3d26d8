package loader

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/protect"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
)

const (
	chunkRows  = 512
	chunkBytes = 256 << 10
)

// encoder turns rows of a file into values of a stream's records, some at a time,
// and checks them by decoding. It belongs to one goroutine.
type encoder struct {
	stream  *schema.Stream
	file    string
	columns []string // of a CSV file; nil: the file is NDJSON
	value   func(e *encoder, dst []byte, r *row) ([]byte, *failure)
	members []member // of the JSON object to write
	cells   []int    // for each column of the CSV line to write, that of the file, -1: none

	dec     *decode.Decoder
	batch   event.Batch
	project []int
	recs    []source.Record
	arrived int64 // of records, in ms since the epoch: what max_ahead is measured from
	shift   *shifter

	// The chunk at hand. Spans are places in buf.
	buf      []byte
	rows     []encoded
	failures []failure

	scratch []byte
	key     []byte
	bad     func(*source.Record, decode.Failure)
}

type span struct{ from, to int }

// encoded is one row of a chunk.
type encoded struct {
	line  int64
	raw   span
	value span
}

// failure is a row that is not good.
type failure struct {
	row int // of the chunk
	decode.Failure
}

// accepted is a good row, valid until the next one.
type accepted struct {
	line  int64
	time  event.Time
	key   []byte // nil: none
	value []byte
}

// newEncoder makes an encoder for a file with these columns, or for NDJSON where
// columns is nil. The errors are schema.Problems.
func newEncoder(s *schema.Stream, file string, columns []string) (*encoder, error) {
	e := &encoder{stream: s, file: file, columns: columns, arrived: unbounded}
	for i := range s.Schema.Fields {
		e.project = append(e.project, i)
	}
	var err error
	if e.dec, err = decode.New(s, e.project, decode.Options{}); err != nil {
		return nil, err
	}
	e.bad = func(r *source.Record, f decode.Failure) {
		e.failures = append(e.failures, failure{int(r.Offset), f})
	}
	switch {
	case columns == nil && s.Format == schema.CSV:
		e.value = (*encoder).csvOfJSON
	case columns == nil:
		e.value = (*encoder).same
	case s.Format == schema.CSV:
		err = e.planCSV()
	default:
		err = e.planJSON()
	}
	return e, err
}

// from is the name by which field i is found in files and records.
func from(s *schema.Stream, i int) string {
	if len(s.Fields) > i && s.Fields[i].From != "" {
		return s.Fields[i].From
	}
	return s.Schema.Fields[i].Name
}

// column finds the file's column of that name, -1 where there is none.
func (e *encoder) column(name string) int { return slices.Index(e.columns, name) }

// headerShown is how many bytes of a header a message quotes.
const headerShown = 300

// missingColumns is a Problem for each required field that the file has no column
// for, and for columns that stand in the header twice.
func (e *encoder) missingColumns() error {
	var problems schema.Problems
	var twice []string
	header := strings.Join(e.columns, ", ")
	if len(header) > headerShown {
		header = strings.ToValidUTF8(header[:headerShown], "") + " ..."
	}
	for i, name := range e.columns {
		if strings.Contains(name, "\r") {
			return &schema.Problem{File: e.file, Line: 1, Message: "the header has a CR that no LF follows: expected lines that end in LF or CRLF"}
		}
		// Nameless columns, as spreadsheets write them, are of no field.
		if name != "" && slices.Index(e.columns, name) < i && !slices.Contains(twice, name) {
			twice = append(twice, name)
			problems = append(problems, &schema.Problem{File: e.file, Line: 1, Message: fmt.Sprintf("column %q stands in the header twice", name)})
		}
	}
	for i, f := range e.stream.Schema.Fields {
		if name := from(e.stream, i); !f.Optional && e.column(name) < 0 {
			problems = append(problems, &schema.Problem{File: e.file, Line: 1, Field: "streams." + e.stream.Schema.Stream + ".fields." + f.Name,
				Message: fmt.Sprintf("the file has no column %q; its header has %s", name, header),
				Hint:    cmp.Or(schema.Suggest(name, e.columns), "declare the field `from` another column, or optional")})
		}
	}
	return problems.ErrOrNil()
}

// add takes a row into the chunk and reports whether the chunk is full. Nothing of
// the row is kept.
func (e *encoder) add(r *row) (full bool) {
	i := len(e.rows)
	one := encoded{line: r.line}
	one.raw.from = len(e.buf)
	e.buf = append(e.buf, r.raw...)
	one.raw.to = len(e.buf)
	one.value = span{len(e.buf), len(e.buf)}
	switch {
	case r.bad != "":
		e.failures = append(e.failures, failure{i, decode.Failure{Reason: r.reason, Detail: r.bad, Column: r.column}})
	case e.columns != nil && len(r.cells) != len(e.columns):
		e.failures = append(e.failures, failure{i, decode.Failure{Reason: decode.ReasonSyntax, Column: len(r.raw) + 1,
			Detail: fmt.Sprintf("expected %d cells, found %d", len(e.columns), len(r.cells))}})
	default:
		var bad *failure
		if e.buf, bad = e.value(e, e.buf, r); bad != nil {
			bad.row = i
			e.failures = append(e.failures, *bad)
			e.buf = e.buf[:one.value.from]
			break
		}
		one.value.to = len(e.buf)
		e.recs = append(e.recs, source.Record{Offset: int64(i), Timestamp: e.arrived})
	}
	e.rows = append(e.rows, one)
	return len(e.rows) >= chunkRows || len(e.buf) >= chunkBytes
}

// decode sorts the chunk's rows into good ones, which are in batch, and failures,
// both in the order of the lines.
func (e *encoder) decode() {
	for i := range e.recs {
		v := e.rows[e.recs[i].Offset].value
		e.recs[i].Value = e.buf[v.from:v.to]
	}
	e.batch.Reset(e.stream.Schema, e.project)
	e.dec.Decode(&e.batch, event.Origin{}, e.recs, e.bad)
	slices.SortStableFunc(e.failures, func(a, b failure) int { return a.row - b.row })
}

// good is the ith good row of the chunk, valid until the next call.
func (e *encoder) good(i int) accepted {
	r := &e.rows[e.batch.Offset[i]]
	return accepted{line: r.line, time: e.batch.Time[i], key: e.keyOf(i), value: e.buf[r.value.from:r.value.to]}
}

// flush decodes the chunk and gives each row to good or to bad, each in the order
// of the lines, and empties it. It stops at the first error of theirs.
func (e *encoder) flush(good func(*accepted) error, bad func(*event.DeadLetter) error) error {
	defer e.reset()
	e.decode()
	for i := range e.batch.Offset {
		a := e.good(i)
		if err := good(&a); err != nil {
			return err
		}
	}
	for i := range e.failures {
		d := e.deadLetter(&e.failures[i])
		if err := bad(&d); err != nil {
			return err
		}
	}
	return nil
}

func (e *encoder) reset() {
	e.buf, e.rows, e.recs, e.failures = e.buf[:0], e.rows[:0], e.recs[:0], e.failures[:0]
	if cap(e.buf) > 4*chunkBytes {
		e.buf = nil // a huge row has been here
	}
}

// keyOf is the key of row i of the batch.
func (e *encoder) keyOf(i int) []byte {
	k := e.stream.Schema.Key
	if k < 0 || e.batch.Cols[k].IsNull(i) {
		return nil
	}
	if kind := e.batch.Cols[k].Type.Kind; kind == event.String || kind == event.Bytes {
		return e.batch.Cols[k].Bytes(i)
	}
	e.key = e.batch.Cols[k].AppendText(e.key[:0], i)
	return e.key
}

func (e *encoder) deadLetter(f *failure) event.DeadLetter {
	r := &e.rows[f.row]
	raw := e.buf[r.raw.from:r.raw.to]
	d := event.DeadLetter{Stream: e.stream.Schema.Stream, Reason: f.Reason, Field: f.Field, Detail: f.Detail,
		File: e.file, Line: r.line, Column: f.Column, Raw: raw[:min(len(raw), MaxRaw)]}
	if f.Field != "" && e.columns != nil {
		d.Column = e.placeOf(f.Field, raw)
	}
	// What protects sensitive fields on their way into the log knows the stream's
	// columns and not the file's: it is given the record that the row would have been.
	if r.value.to > r.value.from && protect.Sensitive(e.stream) {
		value := e.buf[r.value.from:r.value.to]
		d.Raw = value[:min(len(value), MaxRaw)]
	}
	return d
}

// placeOf is where the cell of a field begins in a row of CSV, from 1.
func (e *encoder) placeOf(field string, raw []byte) int {
	i := e.stream.Schema.Index(field)
	if i < 0 {
		return 0
	}
	c := e.column(from(e.stream, i))
	if c < 0 {
		return 0
	}
	s := splitter{delimiter: e.delimiter(), buf: raw}
	if _, _, what := s.scan(raw, true); what != found || c >= len(s.row.cells) {
		return 0
	}
	return int(s.row.cells[c].start) + 1
}

func (e *encoder) delimiter() byte { return cmp.Or(e.stream.Delimiter, ',') }

// same is a row that is a record's value as it is.
func (e *encoder) same(dst []byte, r *row) ([]byte, *failure) { return append(dst, r.raw...), nil }

// planCSV is for CSV to CSV: the stream's columns out of the file's.
func (e *encoder) planCSV() error {
	if err := e.missingColumns(); err != nil {
		return err
	}
	if slices.Equal(e.columns, e.stream.Columns) {
		e.value = (*encoder).same
		return nil
	}
	for _, name := range e.stream.Columns {
		e.cells = append(e.cells, e.column(name))
	}
	e.value = (*encoder).csvLine
	return nil
}

// csvLine writes cells as they are in the file, quotes included.
func (e *encoder) csvLine(dst []byte, r *row) ([]byte, *failure) {
	for i, at := range e.cells {
		if i > 0 {
			dst = append(dst, e.delimiter())
		}
		if at < 0 {
			continue
		}
		c := r.cells[at]
		if c.start > 0 && r.raw[c.start-1] == '"' {
			c.start, c.end = c.start-1, c.end+1
		}
		dst = append(dst, r.raw[c.start:c.end]...)
	}
	return dst, nil
}

// member is one member of the JSON object to write: a leaf with a column of the
// file, or an object.
type member struct {
	name    string
	prefix  []byte // "name":
	column  int
	kind    event.Kind
	members []member
}

// planJSON is for CSV to JSON: an object of the fields' From names, dotted ones
// nested.
func (e *encoder) planJSON() error {
	if err := e.missingColumns(); err != nil {
		return err
	}
	for i, f := range e.stream.Schema.Fields {
		name := from(e.stream, i)
		if c := e.column(name); c >= 0 {
			e.members = insert(e.members, strings.Split(name, "."), c, f.Type.Kind)
		}
	}
	e.value = func(e *encoder, dst []byte, r *row) ([]byte, *failure) {
		return e.appendObject(dst, e.members, r), nil
	}
	return nil
}

// insert puts a leaf into a tree of members; one that is there stays.
func insert(ms []member, path []string, column int, kind event.Kind) []member {
	i := slices.IndexFunc(ms, func(m member) bool { return m.name == path[0] })
	if i < 0 {
		i = len(ms)
		ms = append(ms, member{name: path[0], prefix: append(event.AppendJSONString(nil, path[0]), ':'), column: -1})
		if len(path) == 1 {
			ms[i].column, ms[i].kind = column, kind
		}
	}
	if len(path) > 1 {
		ms[i].members = insert(ms[i].members, path[1:], column, kind)
	}
	return ms
}

// appendObject writes the members that the row has; empty cells are absent.
func (e *encoder) appendObject(dst []byte, ms []member, r *row) []byte {
	dst = append(dst, '{')
	begin := len(dst)
	for i := range ms {
		m := &ms[i]
		mark := len(dst)
		if mark > begin {
			dst = append(dst, ',')
		}
		dst = append(dst, m.prefix...)
		if m.column < 0 {
			at := len(dst)
			if dst = e.appendObject(dst, m.members, r); len(dst) == at+2 {
				dst = dst[:mark] // nothing in it
			}
			continue
		}
		text := e.text(r, m.column)
		if len(text) == 0 {
			dst = dst[:mark]
			continue
		}
		dst = appendValue(dst, text, m.kind)
	}
	return append(dst, '}')
}

// text is a cell's text; valid until the next.
func (e *encoder) text(r *row, column int) []byte {
	c := r.cells[column]
	t := r.raw[c.start:c.end]
	if !c.doubled {
		return t
	}
	e.scratch = e.scratch[:0]
	for i := 0; i < len(t); i++ {
		e.scratch = append(e.scratch, t[i])
		if t[i] == '"' {
			i++
		}
	}
	return e.scratch
}

// appendValue writes text as a JSON value of a field of that kind. What is not a
// number or boolean goes as a string, for the decoder to judge.
func appendValue(dst, text []byte, kind event.Kind) []byte {
	switch kind {
	case event.Int64, event.Double, event.Decimal, event.Timestamp:
		if isNumber(text) {
			return append(dst, text...)
		}
	case event.Bool:
		if string(text) == "true" || string(text) == "false" {
			return append(dst, text...)
		}
	}
	return appendString(dst, text)
}

// appendString quotes and escapes. Bytes that are not UTF-8 stay, for the decoder
// to refuse.
func appendString(dst, text []byte) []byte {
	dst = append(dst, '"')
	from := 0
	for i, c := range text {
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', "0123456789abcdef"[c>>4], "0123456789abcdef"[c&15])
		}
	}
	return append(append(dst, text[from:]...), '"')
}

// isNumber reports whether text is a JSON number (RFC 8259).
func isNumber(t []byte) bool {
	i := 0
	if i < len(t) && t[i] == '-' {
		i++
	}
	n := digits(t[i:])
	if n == 0 || n > 1 && t[i] == '0' {
		return false
	}
	i += n
	if i < len(t) && t[i] == '.' {
		n := digits(t[i+1:])
		if n == 0 {
			return false
		}
		i += 1 + n
	}
	if i < len(t) && (t[i] == 'e' || t[i] == 'E') {
		i++
		if i < len(t) && (t[i] == '+' || t[i] == '-') {
			i++
		}
		n := digits(t[i:])
		if n == 0 {
			return false
		}
		i += n
	}
	return i == len(t)
}

func digits(t []byte) int {
	n := 0
	for n < len(t) && t[n] >= '0' && t[n] <= '9' {
		n++
	}
	return n
}

// csvOfJSON writes a line of the stream's columns out of a JSON object. It is not
// made for speed: few load NDJSON into a stream of CSV.
func (e *encoder) csvOfJSON(dst []byte, r *row) ([]byte, *failure) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(r.raw, &object); err != nil {
		return dst, &failure{Failure: decode.Failure{Reason: decode.ReasonSyntax, Detail: err.Error()}}
	}
	for i, name := range e.stream.Columns {
		if i > 0 {
			dst = append(dst, e.delimiter())
		}
		text := memberText(object, name)
		if len(text) == 0 {
			continue
		}
		dst = append(dst, '"')
		dst = append(dst, strings.ReplaceAll(text, `"`, `""`)...)
		dst = append(dst, '"')
	}
	return dst, nil
}

// memberText is the text of a member: a string's own, else its JSON.
func memberText(object map[string]json.RawMessage, name string) string {
	v, ok := object[name]
	for !ok {
		first, rest, dotted := strings.Cut(name, ".")
		var inner map[string]json.RawMessage
		if !dotted || json.Unmarshal(object[first], &inner) != nil {
			return ""
		}
		object, name = inner, rest
		v, ok = object[name]
	}
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	if v = bytes.TrimSpace(v); string(v) == "null" {
		return ""
	}
	return string(v)
}
