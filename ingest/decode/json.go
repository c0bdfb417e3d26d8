package decode

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// scanJSON checks one JSON object and fills the slots.
func (d *Decoder) scanJSON(b []byte) bool {
	i := skipSpace(b, 0)
	if i < len(b) && b[i] != '{' {
		// Something else: well-formed or not is the difference between a wrong
		// type and a wrong syntax.
		start := i
		s := slot{}
		if i = d.value(b, i, 1, &s); i < 0 || !d.ended(b, i) {
			return false
		}
		d.fault = fault{start, ReasonType, "expected a JSON object, found " + kindNames[s.kind]}
		return false
	}
	if i == len(b) {
		return d.stop(i, ReasonSyntax, "expected a JSON object") >= 0
	}
	i = d.object(b, i+1, d.json, 1)
	return i >= 0 && d.ended(b, i)
}

func (d *Decoder) ended(b []byte, i int) bool {
	if i = skipSpace(b, i); i < len(b) {
		return d.stop(i, ReasonSyntax, "expected the end of the record") >= 0
	}
	return true
}

// stop notes the fault at i and returns -1, which every scanning function passes
// on.
func (d *Decoder) stop(i int, reason, detail string) int {
	d.fault = fault{i, reason, detail}
	return -1
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// object reads the members of an object from i, after its brace, to after its
// other brace. depth is its own, from 1.
func (d *Decoder) object(b []byte, i int, o *object, depth int) int {
	i = skipSpace(b, i)
	if i < len(b) && b[i] == '}' {
		return i + 1
	}
	previous := int32(0)
	for {
		// Most objects have the members of the one before in the same order.
		at := o.members[previous].next
		m := &o.members[at]
		if n := len(m.raw); n > 0 && len(b)-i >= n && string(b[i:i+n]) == m.raw {
			i += n
		} else {
			if at, i = d.member(b, i, o); i < 0 {
				return -1
			}
			o.members[previous].next = at
			m = &o.members[at]
		}
		previous = at
		i = skipSpace(b, i)
		switch {
		case m.object != nil:
			i = d.nested(b, i, m.object, depth+1)
		case m.slot >= 0:
			i = d.value(b, i, depth+1, &d.slots[m.slot])
		default:
			i = d.skip(b, i, depth+1)
		}
		if i < 0 {
			return -1
		}
		i = skipSpace(b, i)
		switch {
		case i < len(b) && b[i] == ',':
			i = skipSpace(b, i+1)
		case i < len(b) && b[i] == '}':
			return i + 1
		default:
			return d.stop(i, ReasonSyntax, "expected a comma or the end of the object")
		}
	}
}

// nested reads the value of a member through which declared paths lead. An
// earlier member of the same name is forgotten: the last one wins.
func (d *Decoder) nested(b []byte, i int, o *object, depth int) int {
	below := d.slots[o.lo:o.hi]
	clear(below)
	if i < len(b) && b[i] == '{' {
		if depth > MaxDepth {
			return d.stop(i, ReasonSize, "nested deeper than 64")
		}
		return d.object(b, i+1, o, depth)
	}
	var s slot
	i = d.value(b, i, depth, &s)
	if s.kind != null {
		s.kind = notObject
	}
	for k := range below {
		below[k] = s
	}
	return i
}

// value reads any value and notes it in s.
func (d *Decoder) value(b []byte, i, depth int, s *slot) int {
	if i == len(b) {
		return d.stop(i, ReasonSyntax, "expected a value")
	}
	start := i
	switch c := b[i]; {
	case c == '"':
		var flags slotFlags
		if i, flags = d.str(b, i+1); i < 0 {
			return -1
		}
		*s = slot{int32(start + 1), int32(i - 1), text, flags}
	case c-'0' <= 9 || c == '-':
		if i = d.number(b, i); i < 0 {
			return -1
		}
		*s = slot{int32(start), int32(i), number, 0}
	default:
		kind := null
		switch c {
		case 't':
			kind = yes
		case 'f':
			kind = no
		case '{':
			kind = anObject
		case '[':
			kind = anArray
		}
		if i = d.skip(b, i, depth); i < 0 {
			return -1
		}
		*s = slot{int32(start), int32(i), kind, 0}
	}
	return i
}

// skip reads any value.
func (d *Decoder) skip(b []byte, i, depth int) int {
	if i == len(b) {
		return d.stop(i, ReasonSyntax, "expected a value")
	}
	switch c := b[i]; c {
	case '"':
		i, _ = d.str(b, i+1)
		return i
	case '{':
		if depth > MaxDepth {
			return d.stop(i, ReasonSize, "nested deeper than 64")
		}
		return d.skipObject(b, i+1, depth)
	case '[':
		if depth > MaxDepth {
			return d.stop(i, ReasonSize, "nested deeper than 64")
		}
		return d.skipArray(b, i+1, depth)
	case 't':
		return d.word(b, i, "true")
	case 'f':
		return d.word(b, i, "false")
	case 'n':
		return d.word(b, i, "null")
	default:
		if c-'0' <= 9 || c == '-' {
			return d.number(b, i)
		}
	}
	return d.stop(i, ReasonSyntax, "expected a value")
}

func (d *Decoder) word(b []byte, i int, w string) int {
	if len(b)-i >= len(w) && string(b[i:i+len(w)]) == w {
		return i + len(w)
	}
	return d.stop(i, ReasonSyntax, "expected a value")
}

func (d *Decoder) skipObject(b []byte, i, depth int) int {
	i = skipSpace(b, i)
	if i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		if i == len(b) || b[i] != '"' {
			return d.stop(i, ReasonSyntax, "expected the name of a member")
		}
		if i, _ = d.str(b, i+1); i < 0 {
			return -1
		}
		if i = d.colon(b, i); i < 0 {
			return -1
		}
		if i = d.skip(b, i, depth+1); i < 0 {
			return -1
		}
		i = skipSpace(b, i)
		switch {
		case i < len(b) && b[i] == ',':
			i = skipSpace(b, i+1)
		case i < len(b) && b[i] == '}':
			return i + 1
		default:
			return d.stop(i, ReasonSyntax, "expected a comma or the end of the object")
		}
	}
}

func (d *Decoder) skipArray(b []byte, i, depth int) int {
	i = skipSpace(b, i)
	if i < len(b) && b[i] == ']' {
		return i + 1
	}
	for {
		if i = d.skip(b, i, depth+1); i < 0 {
			return -1
		}
		i = skipSpace(b, i)
		switch {
		case i < len(b) && b[i] == ',':
			i = skipSpace(b, i+1)
		case i < len(b) && b[i] == ']':
			return i + 1
		default:
			return d.stop(i, ReasonSyntax, "expected a comma or the end of the array")
		}
	}
}

// colon skips a colon and the space around it.
func (d *Decoder) colon(b []byte, i int) int {
	i = skipSpace(b, i)
	if i == len(b) || b[i] != ':' {
		return d.stop(i, ReasonSyntax, "expected a colon")
	}
	return skipSpace(b, i+1)
}

// number reads a number: -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
func (d *Decoder) number(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	start := i
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	if i == start || b[start] == '0' && i > start+1 {
		return d.stop(min(i, start+1), ReasonSyntax, "expected a number")
	}
	if i < len(b) && b[i] == '.' {
		i++
		start = i
		for i < len(b) && b[i]-'0' <= 9 {
			i++
		}
		if i == start {
			return d.stop(i, ReasonSyntax, "expected a digit after the point")
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		start = i
		for i < len(b) && b[i]-'0' <= 9 {
			i++
		}
		if i == start {
			return d.stop(i, ReasonSyntax, "expected a digit in the exponent")
		}
	}
	return i
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// zeros has the high bit of each byte of w that is zero. Only the lowest one is
// certain: a borrow spoils those above it.
func zeros(w uint64) uint64 { return (w - ones) &^ w & highs }

// str reads a string from after its quote to after its other quote. Eight bytes
// are looked at at once; the lowest byte that one of the tests finds is right.
func (d *Decoder) str(b []byte, i int) (end int, flags slotFlags) {
	for {
		for len(b)-i >= 8 {
			w := binary.LittleEndian.Uint64(b[i:])
			stops := zeros(w^'"'*ones) | zeros(w^'\\'*ones) | (w-0x20*ones)&^w&highs
			if stops != 0 {
				first := bits.TrailingZeros64(stops)
				if w&highs&(1<<first-1) != 0 {
					flags |= high
				}
				i += first >> 3
				break
			}
			if w&highs != 0 {
				flags |= high
			}
			i += 8
		}
		for i < len(b) && b[i] != '"' && b[i] != '\\' && b[i] >= 0x20 {
			if b[i] >= 0x80 {
				flags |= high
			}
			i++
		}
		switch {
		case i == len(b):
			return d.stop(i, ReasonSyntax, "expected the end of the string"), 0
		case b[i] == '"':
			return i + 1, flags
		case b[i] != '\\':
			return d.stop(i, ReasonSyntax, "expected control characters to be escaped"), 0
		}
		flags |= escaped
		n := escapeLen(b[i:])
		if n == 0 {
			return d.stop(i, ReasonSyntax, "expected a valid escape"), 0
		}
		i += n
	}
}

// escapeLen is the length of the escape at the start of b, 0 where it is wrong.
func escapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if len(b) >= 6 {
			if _, ok := hex4(b[2:6]); ok {
				return 6
			}
		}
	}
	return 0
}

func hex4(b []byte) (r rune, ok bool) {
	for _, c := range b[:4] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// unescape appends a string, whose escapes are valid, without them. A lone
// surrogate becomes U+FFFD and is not ok.
func unescape(dst, t []byte) (out []byte, ok bool) {
	ok = true
	for i := 0; i < len(t); {
		if t[i] != '\\' {
			dst = append(dst, t[i])
			i++
			continue
		}
		switch c := t[i+1]; c {
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, _ := hex4(t[i+2 : i+6])
			i += 6
			if utf16.IsSurrogate(r) {
				r, i = pair(r, t, i)
				ok = ok && r != utf8.RuneError
			}
			dst = utf8.AppendRune(dst, r)
			continue
		default:
			dst = append(dst, c)
		}
		i += 2
	}
	return dst, ok
}

// pair joins a surrogate with the one that follows at i, and returns where what
// follows begins; without its other half it is U+FFFD.
func pair(r rune, t []byte, i int) (rune, int) {
	if len(t)-i >= 6 && t[i] == '\\' && t[i+1] == 'u' {
		second, _ := hex4(t[i+2 : i+6])
		if joined := utf16.DecodeRune(r, second); joined != utf8.RuneError {
			return joined, i + 6
		}
	}
	return utf8.RuneError, i
}
