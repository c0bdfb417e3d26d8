package loader

import (
	"bytes"
	"errors"
	"io"
)

const (
	// MaxRow is the largest row, in bytes.
	MaxRow = 8 << 20
	// MaxRaw is how much of a bad row its dead letter keeps, in bytes.
	MaxRaw = 64 << 10
)

// row is one row of a file. What it points to is valid until the splitter's next
// row.
type row struct {
	raw   []byte // without the end of line
	line  int64  // of its start, from 1
	cells []cell // of CSV
	// bad is why it is no row; raw is then its first line, cut to MaxRaw.
	bad    string
	reason string
	column int // from 1
}

// cell is one cell of CSV, without its quotes, as a place in row.raw.
type cell struct {
	start, end int32
	doubled    bool // has doubled quotes
}

// splitter cuts a file into rows. It keeps a window of the file that holds one row
// at least.
//
// CSV is RFC 4180: cells in quotes may hold delimiters, ends of lines and doubled
// quotes; elsewhere a quote is an error. Empty lines are no rows. After an error
// it goes on with the next line, even where a quote that is never closed would
// make everything up to it one row: the good rows around a bad one survive.
type splitter struct {
	chunk     func() ([]byte, error) // of the file, or io.EOF
	recycle   func([]byte)
	delimiter byte

	buf  []byte // the window: buf[pos:]
	pos  int
	eof  bool
	err  error // at the end of the window, nil at the end of the file
	line int64 // of pos, from 1

	// foreign is what the file is instead of CSV or NDJSON; see first.
	foreign string

	// There is no quote in buf[quietFrom:quietTo]: a quote that is never closed is
	// looked for once, not once a line.
	quietFrom, quietTo int

	row row
}

func newSplitter(chunk func() ([]byte, error), recycle func([]byte), delimiter byte) *splitter {
	return &splitter{chunk: chunk, recycle: recycle, delimiter: delimiter, line: 1}
}

// fill adds a chunk to the window, false at the end.
func (s *splitter) fill() bool {
	if s.eof {
		return false
	}
	chunk, err := s.chunk()
	if err != nil {
		s.eof = true
		if !errors.Is(err, io.EOF) {
			s.err = err
		}
		return false
	}
	if s.pos > 0 && len(s.buf)+len(chunk) > cap(s.buf) {
		s.buf = s.buf[:copy(s.buf, s.buf[s.pos:])]
		s.quietFrom, s.quietTo = max(0, s.quietFrom-s.pos), max(0, s.quietTo-s.pos)
		s.pos = 0
	}
	if s.buf == nil {
		s.buf = make([]byte, 0, 4*cap(chunk))
	}
	s.buf = append(s.buf, chunk...)
	s.recycle(chunk)
	return true
}

// double makes what the window holds twice as much, up to a little over MaxRow, so
// that a long row is looked at a few times and not once a chunk. False where the
// window cannot grow.
func (s *splitter) double() bool {
	had := len(s.buf) - s.pos
	for want := min(2*had, MaxRow+1); len(s.buf)-s.pos < want; {
		if !s.fill() {
			break
		}
	}
	return len(s.buf)-s.pos > had
}

// skipBOM passes over a byte order mark at the start of the file.
func (s *splitter) skipBOM() {
	for len(s.buf)-s.pos < 3 && s.fill() {
	}
	if bytes.HasPrefix(s.buf[s.pos:], []byte("\ufeff")) {
		s.pos += 3
	}
}

// first is the first byte of the file that is not white space, 0 where there is
// none. What is plainly neither CSV nor NDJSON is noted, and refused as a header.
func (s *splitter) first() byte {
	for i := s.pos; i-s.pos < MaxRow; i++ {
		for i == len(s.buf) {
			at := i - s.pos
			if !s.fill() {
				return 0
			}
			i = s.pos + at
		}
		if c := s.buf[i]; c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			s.foreign = foreign(s.buf[i:min(len(s.buf), i+foreignBytes)])
			return c
		}
	}
	return 0
}

// foreignBytes is how much of a file's start is looked at to tell what it is.
const foreignBytes = 512

// foreign names what begins with b where it is plainly neither CSV nor NDJSON.
func foreign(b []byte) string {
	line, _, _ := bytes.Cut(b, []byte{'\n'})
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}), bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		return "this is UTF-16: expected CSV or NDJSON in UTF-8"
	case bytes.HasPrefix(b, []byte("PK\x03\x04")):
		return "this is a zip archive: expected CSV or NDJSON, plain or gzip"
	case bytes.HasPrefix(b, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "this is compressed with zstd: expected CSV or NDJSON, plain or gzip"
	case bytes.HasPrefix(b, []byte("[")) && bytes.HasPrefix(bytes.TrimSpace(b[1:]), []byte("{")):
		return "this is a JSON array: expected CSV, or NDJSON with one object a line"
	case bytes.IndexByte(line, 0) >= 0:
		return "this is not text, it has NUL bytes: expected CSV or NDJSON, plain or gzip"
	}
	return ""
}

// nextLine is the next line that is not blank, nil at the end.
func (s *splitter) nextLine() *row {
	for {
		end, skip := s.lineEnd()
		if end < 0 {
			if skip == 0 {
				return nil
			}
			return s.tooLong()
		}
		if end-s.pos > MaxRow {
			return s.tooLong()
		}
		raw := bytes.TrimSpace(s.buf[s.pos:end])
		s.row = row{raw: raw, line: s.line, cells: s.row.cells[:0]}
		s.pos = end + skip
		s.line++
		if len(raw) > 0 {
			return &s.row
		}
	}
}

// lineEnd is where the line at pos ends in the window and how long its end is. End
// -1: with skip 0 at the end of the file, else the line is longer than MaxRow. At
// the end of a file that could not be read to its end, the unfinished line is left
// out.
func (s *splitter) lineEnd() (end, skip int) {
	from := 0
	for {
		if i := bytes.IndexByte(s.buf[s.pos+from:], '\n'); i >= 0 {
			return s.pos + from + i, 1
		}
		from = len(s.buf) - s.pos
		if from > MaxRow {
			return -1, 1
		}
		if !s.fill() {
			if from == 0 || s.err != nil {
				return -1, 0
			}
			return len(s.buf), 0
		}
	}
}

// tooLong is the row for a line longer than MaxRow; the rest of it is passed over
// without being kept.
func (s *splitter) tooLong() *row {
	raw := bytes.Clone(s.buf[s.pos : s.pos+MaxRaw])
	s.row = row{raw: raw, line: s.line, cells: s.row.cells[:0], reason: "size", bad: "the line is longer than 8 MiB"}
	s.line++
	for {
		if i := bytes.IndexByte(s.buf[s.pos:], '\n'); i >= 0 {
			s.pos += i + 1
			return &s.row
		}
		s.pos = len(s.buf)
		if !s.fill() {
			return &s.row
		}
	}
}

// What scan found.
type outcome uint8

const (
	found  outcome = iota
	blank          // an empty line
	broken         // row.bad and row.column say why
	more           // the window ends first
)

// nextCSV is the next row of CSV, nil at the end.
func (s *splitter) nextCSV() *row {
	if s.foreign != "" {
		s.row = row{line: s.line, reason: "syntax", bad: s.foreign, column: 1}
		return &s.row
	}
	for {
		if s.pos == len(s.buf) && !s.fill() {
			return nil
		}
		size, newlines, what := s.scan(s.buf[s.pos:], s.eof && s.err == nil)
		switch what {
		case more:
			if s.double() {
				continue
			}
			if s.eof && s.err == nil {
				continue // fill has just met the end: what is there is all
			}
			return s.firstLine(s.row.bad, s.row.column)
		case broken:
			return s.firstLine(s.row.bad, s.row.column)
		}
		if size > MaxRow {
			return s.firstLine("the row is longer than 8 MiB", 1)
		}
		s.row.line = s.line
		s.row.bad, s.row.reason, s.row.column = "", "", 0
		s.pos += size
		s.line += int64(newlines)
		if what == found {
			return &s.row
		}
	}
}

// firstLine is the line at pos as a bad row, nil where it is the unfinished end of
// a file that could not be read to its end.
func (s *splitter) firstLine(bad string, column int) *row {
	end, skip := s.lineEnd()
	if end < 0 && skip == 0 {
		return nil
	}
	if end < 0 || end-s.pos > MaxRow {
		return s.tooLong()
	}
	raw := bytes.TrimSuffix(s.buf[s.pos:end], []byte("\r"))
	s.row = row{raw: raw[:min(len(raw), MaxRaw)], line: s.line, cells: s.row.cells[:0], reason: "syntax", bad: bad, column: min(column, len(raw)+1)}
	s.pos = end + skip
	s.line++
	return &s.row
}

const (
	bareQuote   = "a quote stands in a cell that does not begin with one"
	afterQuote  = "expected a delimiter after a cell in quotes"
	neverClosed = "the quote that opens the cell is never closed"
)

// scan reads one row at the start of b into s.row and gives its size and how many
// lines it has. final: nothing comes after b.
func (s *splitter) scan(b []byte, final bool) (size, newlines int, what outcome) {
	s.row.cells = s.row.cells[:0]
	s.row.bad, s.row.column = neverClosed, 1 // for a row that the window cuts off
	i, lines := 0, 1
	for {
		c := cell{start: int32(i)}
		if i < len(b) && b[i] == '"' {
			var n int
			if i, n, c, what = s.scanQuoted(b, i, final); what != found {
				return 0, 0, what
			}
			lines += n
		} else {
			for i < len(b) && b[i] != s.delimiter && b[i] != '\n' {
				if b[i] == '"' {
					return s.fault(bareQuote, i)
				}
				i++
			}
			c.end = int32(i)
		}
		if i == len(b) {
			if !final {
				return 0, 0, more
			}
			return s.ended(b, i, i, c, lines)
		}
		if b[i] == '\n' {
			return s.ended(b, i, i+1, c, lines)
		}
		if b[i] != s.delimiter { // only after quotes: \r, whose \n follows or which ends the file
			return s.ended(b, i, min(i+2, len(b)), c, lines)
		}
		s.row.cells = append(s.row.cells, c)
		i++
	}
}

// ended completes a row whose last cell is c, whose text ends before end and which
// takes size bytes of b.
func (s *splitter) ended(b []byte, end, size int, c cell, lines int) (int, int, outcome) {
	if end > 0 && b[end-1] == '\r' && int(c.end) == end && c.end > c.start {
		end--
		c.end--
	}
	s.row.raw = b[:end]
	if end == 0 {
		return size, lines, blank
	}
	s.row.cells = append(s.row.cells, c)
	return size, lines, found
}

// scanQuoted reads the cell whose first quote is at i. It gives what follows it, a
// delimiter or an end of line, and how many ends of lines are in it.
func (s *splitter) scanQuoted(b []byte, i int, final bool) (next, newlines int, c cell, what outcome) {
	c.start = int32(i + 1)
	j := i + 1
	for {
		k := s.quoteAfter(b, j)
		if k < 0 {
			s.fault(neverClosed, i)
			if final {
				return 0, 0, c, broken
			}
			return 0, 0, c, more
		}
		j = k + 1
		if j < len(b) && b[j] == '"' {
			c.doubled = true
			j++
			continue
		}
		c.end = int32(k)
		break
	}
	rest := b[j:]
	switch {
	case len(rest) == 0 && !final, len(rest) == 1 && rest[0] == '\r' && !final:
		s.fault(neverClosed, i)
		return 0, 0, c, more
	case len(rest) == 0, rest[0] == s.delimiter, rest[0] == '\n', rest[0] == '\r' && (len(rest) == 1 || rest[1] == '\n'):
		return j, bytes.Count(b[i:j], []byte{'\n'}), c, found
	}
	if bytes.IndexByte(b[i:j], '\n') >= 0 {
		// More likely that this quote opens a cell of a later line.
		s.fault(neverClosed, i)
		return 0, 0, c, broken
	}
	s.fault(afterQuote, j)
	return 0, 0, c, broken
}

// quoteAfter is where the first quote of b at or after j is, -1 where none is. b
// is the window.
func (s *splitter) quoteAfter(b []byte, j int) int {
	from := s.pos + j
	if from >= s.quietFrom && from < s.quietTo {
		from = s.quietTo
	}
	if k := bytes.IndexByte(s.buf[from:], '"'); k >= 0 {
		return from + k - s.pos
	}
	if from != s.quietTo {
		s.quietFrom = s.pos + j
	}
	s.quietTo = len(s.buf)
	return -1
}

func (s *splitter) fault(why string, at int) (int, int, outcome) {
	s.row.bad, s.row.column = why, at+1
	return 0, 0, broken
}
