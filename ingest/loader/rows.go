package loader

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// HeaderColumns stands on the first dead letter of each batch of rows that were
// not records yet, such as a file's: the columns of the CSV that they are lines of
// as a JSON array, or null where they are JSON.
const HeaderColumns = "weir-columns"

// What follows lets other ways in make records of text exactly as a load of a
// file does.

// Raw is one row as it was written.
type Raw struct {
	Text []byte
	Line int64 // of its start, from 1
	// Bad is why it is no row at all; the zero Failure where it is one.
	Bad decode.Failure
}

// Text is what NewRows reads. Exactly one of Next and Values is set.
type Text struct {
	// Name is the file that dead letters name.
	Name string
	// Next is the next piece of CSV or NDJSON; io.EOF at the end. A piece is not
	// written to and not retained past the next call.
	Next func() ([]byte, error)
	CSV  bool // Next gives CSV with a header line, else one JSON object a line
	// Values is the next row where somebody else does the cutting, nil at the
	// end; it is valid until the next call.
	Values func() *Raw
	// Columns are those of Values that are lines of CSV; nil: they are JSON.
	Columns []string
	// Arrived is the time, in ms since the epoch, that max_ahead is measured
	// from; 0: max_ahead does not apply.
	Arrived int64
}

// Row is a good row as a record of its stream. Key and Value are valid until the
// callback returns.
type Row struct {
	Event int64 // its number in the text, from 1
	Line  int64 // of its start, from 1
	Time  int64 // of the event, ms since the epoch
	Key   []byte
	Value []byte
}

// Rows reads the rows of a text. It belongs to one goroutine.
type Rows struct {
	e       *encoder
	split   *splitter // nil: Values
	next    func() *row
	columns []string

	events int64   // before the chunk at hand
	lines  []int64 // of the chunk's rows
}

// NewRows begins to read a text for a stream. An error that is a mistake in the
// text's header or between it and the stream is a *schema.Problem or
// schema.Problems.
func NewRows(s *schema.Stream, t Text) (*Rows, error) {
	r := &Rows{columns: t.Columns}
	switch {
	case t.Values != nil:
		r.next = cutElsewhere(t.Values, s.Delimiter, t.Columns != nil)
	default:
		r.split = newSplitter(t.Next, func([]byte) {}, cmp.Or(s.Delimiter, ','))
		r.split.skipBOM()
		r.next = r.split.nextLine
	}
	if r.split != nil && t.CSV {
		r.split.first()
		header := r.split.nextCSV()
		switch {
		case header == nil && r.split.err != nil:
			return nil, &EndError{Line: r.split.line, Err: r.split.err}
		case header == nil:
			return nil, &schema.Problem{File: t.Name, Line: 1, Message: "there is no header line"}
		case header.bad != "":
			return nil, &schema.Problem{File: t.Name, Line: int(header.line), Column: header.column, Message: "the header: " + header.bad}
		}
		r.columns = columnNames(header)
		r.next = r.split.nextCSV
	}
	var err error
	if r.e, err = newEncoder(s, t.Name, r.columns); err != nil {
		return nil, err
	}
	if t.Arrived != 0 {
		r.e.arrived = t.Arrived
	}
	return r, nil
}

// OpenRows opens a file as Load does and reads it for a stream, without a broker.
// The file is closed by end.
func OpenRows(ctx context.Context, path string, s *schema.Stream) (rows *Rows, end func() error, err error) {
	lines, err := OpenLines(ctx, path, s.Delimiter)
	if err != nil {
		return nil, nil, err
	}
	rows = &Rows{split: lines.split, columns: lines.header, next: lines.split.nextLine}
	if lines.header != nil {
		rows.next = lines.split.nextCSV
	}
	if rows.e, err = newEncoder(s, path, lines.header); err != nil {
		return nil, nil, errors.Join(err, lines.Close())
	}
	return rows, lines.Close, nil
}

// cutElsewhere makes rows of what values gives.
func cutElsewhere(values func() *Raw, delimiter byte, csv bool) func() *row {
	var one row
	return func() *row {
		v := values()
		switch {
		case v == nil:
			return nil
		case v.Bad.Reason != "":
			one = row{raw: v.Text[:min(len(v.Text), MaxRaw)], line: v.Line, bad: v.Bad.Detail, reason: v.Bad.Reason, column: v.Bad.Column}
		case !csv:
			one = row{raw: v.Text, line: v.Line}
		default:
			s := splitter{delimiter: cmp.Or(delimiter, ','), buf: v.Text}
			_, _, what := s.scan(v.Text, true)
			one = s.row
			one.line, one.reason = v.Line, decode.ReasonSyntax
			switch what {
			case found:
				one.bad, one.reason, one.column = "", "", 0
			case blank:
				one.bad = "an empty line"
			}
			if one.bad != "" {
				one.raw = v.Text[:min(len(v.Text), MaxRaw)]
			}
		}
		return &one
	}
}

// Columns is the header of CSV, nil for JSON.
func (r *Rows) Columns() []string { return r.columns }

// Each gives every row to good or to bad, each in the order of the text, rows of
// one chunk first to good; event is the row's number in the text. It stops at the
// first error of theirs. An error of the text itself, which could not be read to
// its end, is an *EndError; the rows before were given.
func (r *Rows) Each(ctx context.Context, good func(*Row) error, bad func(event int64, d *event.DeadLetter) error) error {
	for one := r.next(); one != nil; one = r.next() {
		r.lines = append(r.lines, one.line)
		one.line = r.events + int64(len(r.lines)) // the encoder carries it through
		if !r.e.add(one) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.flush(good, bad); err != nil {
			return err
		}
	}
	if err := r.flush(good, bad); err != nil {
		return err
	}
	if r.split != nil && r.split.err != nil {
		return &EndError{Line: r.split.line, Err: r.split.err}
	}
	return nil
}

func (r *Rows) flush(good func(*Row) error, bad func(int64, *event.DeadLetter) error) error {
	line := func(n int64) int64 { return r.lines[n-r.events-1] }
	err := r.e.flush(func(a *accepted) error {
		return good(&Row{Event: a.line, Line: line(a.line), Time: a.time.Millis(), Key: a.key, Value: a.value})
	}, func(d *event.DeadLetter) error {
		n := d.Line
		d.Line = line(n)
		return bad(n, d)
	})
	r.events += int64(len(r.lines))
	r.lines = r.lines[:0]
	return err
}

// EndError is why a text could not be read to its end.
type EndError struct {
	Line int64 // that could not be read whole
	Err  error
}

func (e *EndError) Error() string { return fmt.Sprintf("line %d: %v", e.Line, e.Err) }

// Unwrap is the cause.
func (e *EndError) Unwrap() error { return e.Err }

// Lines cuts a file's text into its lines or cells without a stream, for who
// wants to know what is in it. It belongs to one goroutine.
type Lines struct {
	in     *input
	split  *splitter
	stop   context.CancelFunc
	header []string
	cells  [][]byte
	texts  encoder // unquotes
	plain  []byte
}

// OpenLines opens a CSV or NDJSON file, plain or gzip, told by its content.
func OpenLines(ctx context.Context, path string, delimiter byte) (*Lines, error) {
	in, err := openInput(path)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	l := &Lines{in: in, stop: stop, split: newSplitter(in.next, in.recycle, cmp.Or(delimiter, ','))}
	in.start(ctx)
	l.split.skipBOM()
	if c := l.split.first(); c != '{' && c != 0 {
		header := l.split.nextCSV()
		if header == nil {
			return nil, errors.Join(l.split.broken(), l.Close())
		}
		if header.bad != "" {
			p := &schema.Problem{File: path, Line: int(header.line), Column: header.column, Message: "the header: " + header.bad}
			return nil, errors.Join(p, l.Close())
		}
		l.header = columnNames(header)
	}
	return l, nil
}

// Header is the names of the columns, nil where the file is NDJSON.
func (l *Lines) Header() []string { return l.header }

// Next is the next row: its raw text, and its cells where the file is CSV, both
// valid until the next call. bad is why it is no row. It is nil, nil, "" at the
// end; see Err.
func (l *Lines) Next() (raw []byte, cells [][]byte, bad string) {
	var r *row
	if l.header == nil {
		r = l.split.nextLine()
	} else {
		r = l.split.nextCSV()
	}
	switch {
	case r == nil:
		return nil, nil, ""
	case r.bad != "":
		return r.raw, nil, r.bad
	case l.header != nil && len(r.cells) != len(l.header):
		return r.raw, nil, fmt.Sprintf("expected %d cells, found %d", len(l.header), len(r.cells))
	}
	l.cells, l.plain = l.cells[:0], l.plain[:0]
	for i := range r.cells {
		text := l.texts.text(r, i)
		if r.cells[i].doubled { // text is overwritten by the next one
			at := len(l.plain)
			l.plain = append(l.plain, text...)
			text = l.plain[at:]
		}
		l.cells = append(l.cells, text)
	}
	return r.raw, l.cells, ""
}

// Err is why the file could not be read to its end, nil where it was.
func (l *Lines) Err() error { return l.split.broken() }

// Read is how many bytes of the file were read, and how many there are.
func (l *Lines) Read() (read, total int64) { return l.in.read.Load(), l.in.size }

// Close ends the reading.
func (l *Lines) Close() error {
	l.stop()
	for range l.in.chunks { // the reader ahead has ended when this has
	}
	return l.in.file.Close()
}

// unbounded is the arrival of rows whose event times nothing bounds.
const unbounded = math.MaxInt64
