package protect

import (
	"bytes"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/weirstream/weir/ingest/event"
)

// depthMax is how deep nested values are followed; the decoder refuses deeper
// ones long before.
const depthMax = 128

// json walks the JSON object in src and writes it to w.out with its sensitive
// values replaced, or, where w.finding, only notes where the subject stands. It
// returns false where src is not one JSON object. It takes all that the decoder
// takes and more.
//
// It is no use of the decoder's scanner: that one checks all of the syntax, stops at
// the first fault and notes where declared values are; this one has to say something
// of what lies before a fault, looks at what is not declared, and writes.
func (w *worker) json() bool {
	i := skipSpace(w.src, 0)
	if i == len(w.src) || w.src[i] != '{' {
		return false
	}
	i = w.object(i+1, w.plan.root, 1)
	return i >= 0 && skipSpace(w.src, i) == len(w.src)
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// object goes over an object from after its brace to after its other brace; -1
// where it is broken. n is nil where nothing of it is declared.
func (w *worker) object(i int, n *node, depth int) int {
	b := w.src
	i = skipSpace(b, i)
	if i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return -1
		}
		start := i + 1
		end, escaped := stringEnd(b, start)
		if end < 0 {
			return -1
		}
		name := b[start:end]
		if escaped {
			w.name = unescape(w.name[:0], name)
			name = w.name
		}
		var child *node
		if n != nil {
			child = n.children[string(name)]
		}
		declared := child != nil
		if n != nil && n.elem != nil {
			child = n.elem // of a map
		}
		remove := !declared && isForbidden(name)
		if !declared && len(name) >= panMin {
			w.undeclaredText(start, end, escaped)
		}
		i = skipSpace(b, end+1)
		if i >= len(b) || b[i] != ':' {
			return -1
		}
		i = skipSpace(b, i+1)
		if remove {
			i = w.remove(i)
		} else {
			i = w.member(i, child, depth+1)
		}
		if i < 0 {
			return -1
		}
		switch i = skipSpace(b, i); {
		case i < len(b) && b[i] == ',':
			i = skipSpace(b, i+1)
		case i < len(b) && b[i] == '}':
			return i + 1
		default:
			return -1
		}
	}
}

// member goes over the value of a member n, nil where it is not declared.
func (w *worker) member(i int, n *node, depth int) int {
	b := w.src
	if i >= len(b) || depth > depthMax {
		return -1
	}
	if n != nil && n.field >= 0 {
		return w.declared(i, n.field, depth)
	}
	if n != nil && n.secret && b[i] != n.shape {
		return w.misshapen(i)
	}
	switch b[i] {
	case '{':
		return w.object(i+1, n, depth)
	case '[':
		if n == nil || n.shape != '[' {
			return w.array(i+1, nil, depth)
		}
		return w.array(i+1, n.elem, depth)
	case '"':
		end, escaped := stringEnd(b, i+1)
		if end < 0 {
			return -1
		}
		w.undeclaredText(i+1, end, escaped)
		return end + 1
	}
	end := bareEnd(b, i)
	if end == i || !isBare(b[i:end]) {
		return -1
	}
	if end-i >= panMin && !w.finding && w.cardNumber(b[i:end]) {
		// A number cannot be masked and stay one.
		w.tally.cards++
		w.put(i, end)
		w.out = event.AppendJSONString(w.out, string(w.masked))
	}
	return end
}

// misshapen takes out the value of a list, map or struct with sensitive values in
// it that is none.
func (w *worker) misshapen(i int) int {
	end, _, _ := skipValue(w.src, i)
	if w.finding || end >= 0 && string(w.src[i:end]) == "null" {
		return end
	}
	w.tally.misfit++
	w.put(i, max(end, 0))
	if end < 0 { // where it ends cannot be said: what follows is left out
		w.copied = len(w.src)
	}
	w.out = append(w.out, "null"...)
	return end
}

func (w *worker) array(i int, elem *node, depth int) int {
	b := w.src
	i = skipSpace(b, i)
	if i < len(b) && b[i] == ']' {
		return i + 1
	}
	for {
		if i = w.member(i, elem, depth+1); i < 0 {
			return -1
		}
		switch i = skipSpace(b, i); {
		case i < len(b) && b[i] == ',':
			i = skipSpace(b, i+1)
		case i < len(b) && b[i] == ']':
			return i + 1
		default:
			return -1
		}
	}
}

// declared goes over the value of a declared field.
func (w *worker) declared(i, at, depth int) int {
	b := w.src
	f := &w.plan.fields[at]
	if f.policy == "" && (b[i] == '{' || b[i] == '[') {
		return w.member(i, nil, depth) // nothing in it is declared
	}
	end, escaped, isText := skipValue(b, i)
	if end < 0 {
		if f.policy != "" && !w.finding {
			// Where the value ends cannot be said: what follows is left out.
			w.put(i, len(b))
			w.out = append(w.out, "null"...)
		}
		return -1
	}
	text := b[i:end]
	if isText {
		text = b[i+1 : end-1]
	}
	scalar := isText || text[0] == '-' || isDigit(text[0])
	if scalar && !escaped && at == w.plan.key {
		w.keyText = text
	}
	if f.policy == "" && !f.free && scalar && !escaped && !w.finding {
		w.suspect(text)
	}
	switch {
	case w.finding:
		if at == w.plan.subject {
			w.subject = w.subject[:0]
			if scalar {
				w.subject = w.unescaped(w.subject, text, escaped)
			}
		}
	case f.free && isText:
		w.freeText(i+1, end-1, escaped)
	case f.policy == "" && isText:
		w.tracks(i+1, end-1, escaped)
	case f.policy == "" && !f.free, string(text) == "true", string(text) == "false", string(text) == "null", isText && len(text) == 0:
	case !scalar || f.free: // not what was declared: nothing of it is kept
		w.tally.misfit++
		w.put(i, end)
		w.out = append(w.out, "null"...)
	default:
		w.clear = w.unescaped(w.clear[:0], text, escaped)
		w.fresh = w.fresh[:0]
		var err error
		if w.fresh, err = w.replace(w.fresh, f, w.clear); err != nil {
			w.err = err
			return -1
		}
		w.put(i, end)
		if len(w.fresh) == 0 {
			w.out = append(w.out, "null"...)
		} else {
			w.out = event.AppendJSONString(w.out, string(w.fresh))
		}
	}
	return end
}

// unescaped appends the text of a string or a number.
func (w *worker) unescaped(dst, text []byte, escaped bool) []byte {
	if escaped {
		return unescape(dst, text)
	}
	return append(dst, text...)
}

// remove takes the value out of a member that may not be stored.
func (w *worker) remove(i int) int {
	end, _, _ := skipValue(w.src, i)
	if w.finding {
		return end
	}
	if end < 0 {
		w.put(i, len(w.src))
		w.out = append(w.out, "null"...)
		w.tally.refused++
		return -1
	}
	if string(w.src[i:end]) != "null" {
		w.put(i, end)
		w.out = append(w.out, "null"...)
		w.tally.refused++
	}
	return end
}

// undeclaredText searches a string that no field declares.
func (w *worker) undeclaredText(start, end int, escaped bool) {
	if w.finding || !escaped && end-start < panMin {
		return
	}
	before := w.tally.free
	w.freeText(start, end, escaped)
	w.tally.cards += w.tally.free - before
	w.tally.free = before
}

// freeText searches the text of a string, without its quotes, for card numbers
// and track data.
func (w *worker) freeText(start, end int, escaped bool) {
	text := w.src[start:end]
	if escaped {
		w.clear = unescape(w.clear[:0], text)
	} else {
		w.clear = append(w.clear[:0], text...)
	}
	cards, track := w.search.text(w.clear)
	w.tally.free += int64(cards)
	w.tally.track += int64(track)
	if cards+track > 0 {
		w.putText(start, end, escaped)
	}
}

// tracks searches the text of a string for track data only.
func (w *worker) tracks(start, end int, escaped bool) {
	if !w.mayTrack && !escaped {
		return
	}
	w.clear = w.unescaped(w.clear[:0], w.src[start:end], escaped)
	if n := tracks(w.clear); n > 0 {
		w.tally.track += int64(n)
		w.putText(start, end, escaped)
	}
}

// putText puts w.clear in the place of a string's text.
func (w *worker) putText(start, end int, escaped bool) {
	w.put(start, end)
	if !escaped {
		w.out = append(w.out, w.clear...)
		return
	}
	quoted := event.AppendJSONString(nil, string(w.clear))
	w.out = append(w.out, quoted[1:len(quoted)-1]...)
}

// cardNumber reports whether a JSON number is a card number, whichever way it is
// written, and puts its masked digits into w.masked.
func (w *worker) cardNumber(t []byte) bool {
	w.masked = append(w.masked[:0], t...)
	if t[0] == '-' {
		w.masked = append(w.masked[:0], t[1:]...)
	}
	if bytes.ContainsAny(t, ".eE") {
		v, err := strconv.ParseFloat(string(t), 64)
		if v = math.Abs(v); err != nil || v < 1e12 || v >= 1e19 || v != math.Trunc(v) {
			return false
		}
		w.masked = strconv.AppendFloat(w.masked[:0], v, 'f', 0, 64)
	}
	return w.search.cards(w.masked) > 0
}

// stringEnd is the place of the quote that ends the string from i; -1 where there
// is none.
func stringEnd(b []byte, i int) (end int, escaped bool) {
	n := bytes.IndexByte(b[i:], '"')
	if n < 0 {
		return -1, false
	}
	k := bytes.IndexByte(b[i:i+n], '\\')
	if k < 0 {
		return i + n, false
	}
	for i += k; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i, true
		case '\\':
			i++ // what is escaped, a quote too
		}
	}
	return -1, true
}

// bareEnd is where a value without quotes and brackets ends.
func bareEnd(b []byte, i int) int {
	for i < len(b) {
		switch b[i] {
		case ',', '}', ']', ' ', '\n', '\t', '\r', '"', '{', '[', ':':
			return i
		}
		i++
	}
	return i
}

// isBare reports whether t can be a number or one of JSON's three words.
func isBare(t []byte) bool {
	switch string(t) {
	case "true", "false", "null":
		return true
	}
	for _, c := range t {
		if !isDigit(c) && c != '-' && c != '+' && c != '.' && c != 'e' && c != 'E' {
			return false
		}
	}
	return isDigit(t[0]) || t[0] == '-'
}

// skipValue is the end of any value, -1 where it is broken; brackets need not
// match.
func skipValue(b []byte, i int) (end int, escaped, isText bool) {
	if i >= len(b) {
		return -1, false, false
	}
	switch b[i] {
	case '"':
		end, escaped = stringEnd(b, i+1)
		if end < 0 {
			return -1, false, false
		}
		return end + 1, escaped, true
	case '{', '[':
		return skipNested(b, i), false, false
	}
	if end = bareEnd(b, i); end == i || !isBare(b[i:end]) {
		return -1, false, false
	}
	return end, false, false
}

func skipNested(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			end, _ := stringEnd(b, i+1)
			if end < 0 {
				return -1
			}
			i = end
		}
		i++
	}
	return -1
}

// unescape appends the text of a JSON string. A lone surrogate and an escape that
// does not exist become U+FFFD.
func unescape(dst, t []byte) []byte {
	for i := 0; i < len(t); {
		if t[i] != '\\' {
			dst = append(dst, t[i])
			i++
			continue
		}
		if i+1 == len(t) {
			return utf8.AppendRune(dst, utf8.RuneError)
		}
		c := t[i+1]
		i += 2
		switch c {
		case '"', '\\', '/':
			dst = append(dst, c)
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
			r := hex4(t[i:])
			if r < 0 {
				dst = utf8.AppendRune(dst, utf8.RuneError)
				continue
			}
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+1 < len(t) && t[i] == '\\' && t[i+1] == 'u' {
					low = hex4(t[i+2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = utf8.AppendRune(dst, utf8.RuneError)
		}
	}
	return dst
}

// hex4 is the value of four hexadecimal digits, -1 where there are none.
func hex4(t []byte) rune {
	if len(t) < 4 {
		return -1
	}
	v := 0
	for _, c := range t[:4] {
		v = v<<4 | unhex(c)
	}
	if v > math.MaxUint16 {
		return -1
	}
	return rune(v)
}
