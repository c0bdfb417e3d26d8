package httpin

import (
	"bytes"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/loader"
)

// elements cuts a JSON text into its events: the elements of an array, or the one
// value that it is. It knows strings and brackets only; whether an element is JSON
// is for the decoder to say. It goes over the text once, without recursion.
type elements struct {
	text []byte
	cut  bool // the text ends too early: an unfinished element is no element
	pos  int
	line int64
	what where
	raw  loader.Raw
}

type where uint8

const (
	begin  where = iota
	first        // after the opening bracket
	within       // after a comma
	after        // after an element
	done
)

func newElements(text []byte, cut bool) *elements { return &elements{text: text, cut: cut, line: 1} }

// next is the next element, nil at the end; valid until the next call.
func (e *elements) next() *loader.Raw {
	e.skipSpace()
	switch e.what {
	case begin:
		if e.pos < len(e.text) && e.text[e.pos] == '[' {
			e.pos++
			e.what = first
			return e.next()
		}
		e.what = done
		return e.give(e.text[e.pos:], "")
	case done:
		return nil
	}
	if e.pos == len(e.text) {
		e.what = done
		if e.cut {
			return nil
		}
		return e.give(nil, "expected the end of the array, found the end of the body")
	}
	if e.what == first && e.text[e.pos] == ']' {
		return e.closed()
	}
	if e.what == after {
		if e.text[e.pos] == ']' {
			return e.closed()
		}
		e.pos++ // the comma that element stopped at
		e.what = within
		return e.next()
	}
	return e.element()
}

// closed is what comes of the array's closing bracket: nothing, or what follows.
func (e *elements) closed() *loader.Raw {
	e.pos++
	e.what = done
	if e.skipSpace(); e.pos < len(e.text) {
		return e.give(e.text[e.pos:], "expected nothing after the array")
	}
	return nil
}

// element reads up to the comma or bracket that ends an element.
func (e *elements) element() *loader.Raw {
	start, line, depth := e.pos, e.line, 0
	for i := start; i < len(e.text); i++ {
		switch e.text[i] {
		case '"':
			if i = stringEnd(e.text, i+1); i < 0 {
				return e.unfinished(start, line)
			}
		case '\n':
			e.line++
		case '{', '[':
			depth++
		case '}':
			depth--
		case ']', ',':
			if depth > 0 {
				if e.text[i] == ']' {
					depth--
				}
				continue
			}
			e.pos, e.what = i, after
			e.raw = loader.Raw{Text: bytes.TrimRight(e.text[start:i], " \t\r\n"), Line: line}
			return &e.raw
		}
	}
	return e.unfinished(start, line)
}

// unfinished is an element that the text ends in.
func (e *elements) unfinished(start int, line int64) *loader.Raw {
	e.what = done
	if e.cut {
		return nil
	}
	e.pos, e.line = start, line
	return e.give(e.text[start:], "an event that is never closed: from here on the events cannot be told apart")
}

func (e *elements) give(text []byte, bad string) *loader.Raw {
	e.raw = loader.Raw{Text: bytes.TrimRight(text, " \t\r\n"), Line: e.line}
	if bad != "" {
		e.raw.Bad = decode.Failure{Reason: decode.ReasonSyntax, Detail: bad, Column: 1}
	}
	return &e.raw
}

// stringEnd is where the quote is that ends the string whose text begins at i, -1
// where none does.
func stringEnd(b []byte, i int) int {
	for i < len(b) {
		k := bytes.IndexByte(b[i:], '"')
		if k < 0 {
			return -1
		}
		k += i
		slashes := 0
		for k-1-slashes >= i && b[k-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return k
		}
		i = k + 1
	}
	return -1
}

func (e *elements) skipSpace() {
	for ; e.pos < len(e.text); e.pos++ {
		switch e.text[e.pos] {
		case '\n':
			e.line++
		case ' ', '\t', '\r':
		default:
			return
		}
	}
}
