package rules

import (
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// text knows where each character of a YAML scalar stands in its file, so that
// a mistake inside an expression has its own line and column, also in folded and
// literal blocks.
type text struct {
	line, column int      // of the scalar; from 1
	places       []uint64 // for each character: line<<32 | column; nil where unknown
}

// place is the line and column of a character, or of the end.
func (t text) place(offset int) (line, column int) {
	if len(t.places) == 0 {
		return t.line, t.column
	}
	p := t.places[min(max(offset, 0), len(t.places)-1)]
	return int(p >> 32), int(uint32(p))
}

// locate follows a scalar's value through the lines it was written in. Where it
// loses the track, the places are left out: the scalar's own remains.
func locate(lines []string, n *yaml.Node) text {
	t := text{line: n.Line, column: n.Column}
	w := &walker{lines: lines, line: n.Line - 1, style: n.Style, indent: -1}
	if w.line < 0 || w.line >= len(lines) {
		return t
	}
	w.byte = byteAt(lines[w.line], n.Column-1)
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		w.startBlock()
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		w.byte++
	}
	places := make([]uint64, 0, len(n.Value)+1)
	for i, c := range n.Value {
		at, ok := w.take(c)
		if !ok && strings.TrimSpace(n.Value[i:]) == "" {
			break // the last line break of a block at the end of the file
		}
		if !ok {
			return t
		}
		places = append(places, at)
	}
	if len(places) > 0 {
		t.places = append(places, places[len(places)-1]+1) // the end
	}
	return t
}

// byteAt is where character column (from 0) begins in a line.
func byteAt(line string, column int) int {
	for i := range line {
		if column == 0 {
			return i
		}
		column--
	}
	return len(line)
}

// walker reads a scalar's text as it stands in the file.
type walker struct {
	lines      []string
	line, byte int
	style      yaml.Style
	indent     int // of a block, -1 in other scalars
}

// startBlock goes to the first line of a block and learns its indentation. Where
// that is written out, as in ">2", and spaces begin the text, the walk loses the
// track on the first character: rare, and no harm is done.
func (w *walker) startBlock() {
	w.line, w.byte = w.line+1, 0
	w.indent = 0
	for i := w.line; i < len(w.lines); i++ {
		if l := w.lines[i]; strings.TrimSpace(l) != "" {
			w.indent = len(l) - len(strings.TrimLeft(l, " "))
			break
		}
	}
	w.skipIndent()
}

func (w *walker) skipIndent() {
	if w.line >= len(w.lines) {
		return
	}
	l := w.lines[w.line]
	if w.indent < 0 {
		w.byte = len(l) - len(strings.TrimLeft(l, " \t"))
		return
	}
	for w.byte < w.indent && w.byte < len(l) && l[w.byte] == ' ' {
		w.byte++
	}
}

func (w *walker) here() uint64 {
	column := 1 + utf8.RuneCountInString(w.lines[w.line][:w.byte])
	return uint64(w.line+1)<<32 | uint64(column)
}

// take finds the next character of the value and returns its place.
func (w *walker) take(c rune) (uint64, bool) {
	if w.line >= len(w.lines) {
		return 0, false
	}
	rest := strings.TrimSuffix(w.lines[w.line][w.byte:], "\r")
	if c == ' ' || c == '\n' {
		if rest == "" || w.indent < 0 && strings.TrimLeft(rest, " \t") == "" {
			return w.fold(), true
		}
		if c == '\n' && w.style&yaml.DoubleQuotedStyle == 0 {
			return 0, false
		}
	}
	// A folded line break that left no character behind.
	for rest == "" && w.line+1 < len(w.lines) {
		w.line, w.byte = w.line+1, 0
		w.skipIndent()
		rest = strings.TrimSuffix(w.lines[w.line][w.byte:], "\r")
	}
	at := w.here()
	if w.style&yaml.SingleQuotedStyle != 0 && strings.HasPrefix(rest, "''") {
		w.byte += 2
		return at, c == '\''
	}
	if w.style&yaml.DoubleQuotedStyle != 0 && strings.HasPrefix(rest, `\`) {
		return at, w.escape(rest)
	}
	r, size := utf8.DecodeRuneInString(rest)
	w.byte += size
	return at, r == c
}

// fold takes a line break. Several in a row give one character less than there
// are; the walk catches up on the next character that is not one.
func (w *walker) fold() uint64 {
	at := w.here()
	w.line, w.byte = w.line+1, 0
	w.skipIndent()
	return at
}

// escape skips an escape sequence of a double-quoted scalar.
func (w *walker) escape(rest string) bool {
	if len(rest) < 2 {
		return false
	}
	w.byte += 2 + map[byte]int{'x': 2, 'u': 4, 'U': 8}[rest[1]]
	return w.byte <= len(w.lines[w.line])
}
