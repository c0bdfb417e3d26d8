package analytics

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// tokenKind is the kind of a token of SQL text.
type tokenKind uint8

const (
	space   tokenKind = iota // white space and comments
	word                     // an identifier or keyword, unquoted
	quoted                   // a quoted identifier
	literal                  // a string in any of its forms
	number
	param // $1
	operator
	other // one byte of punctuation
)

// token is text[start:end].
type token struct {
	kind       tokenKind
	start, end int
}

// tokenize cuts text into tokens that cover it without a gap. It never fails: what
// is unterminated reaches to the end, and DuckDB will say so.
func tokenize(text string) []token {
	var out []token
	for i := 0; i < len(text); {
		kind, n := next(text[i:])
		out = append(out, token{kind, i, i + n})
		i += n
	}
	return out
}

// next is the kind and length of the token at the start of s, which is not empty.
func next(s string) (tokenKind, int) {
	c := s[0]
	switch {
	case strings.HasPrefix(s, "--"):
		if i := strings.IndexByte(s, '\n'); i >= 0 {
			return space, i + 1
		}
		return space, len(s)
	case strings.HasPrefix(s, "/*"):
		return space, commentLen(s)
	case c == '\'':
		return literal, quotedLen(s, 0, '\'', false)
	case (c == 'e' || c == 'E') && len(s) > 1 && s[1] == '\'':
		return literal, quotedLen(s, 1, '\'', true)
	case strings.IndexByte("xXbBnN", c) >= 0 && len(s) > 1 && s[1] == '\'':
		return literal, quotedLen(s, 1, '\'', false)
	case c == '"':
		return quoted, quotedLen(s, 0, '"', false)
	case c == '$':
		return dollar(s)
	case c >= '0' && c <= '9', c == '.' && len(s) > 1 && s[1] >= '0' && s[1] <= '9':
		return number, numberLen(s)
	}
	if n := spaceLen(s); n > 0 {
		return space, n
	}
	if n := wordLen(s); n > 0 {
		return word, n
	}
	if n := operatorLen(s); n > 0 {
		return operator, n
	}
	return other, 1
}

// commentLen is the length of a block comment, which may nest.
func commentLen(s string) int {
	depth := 0
	for i := 0; i+1 < len(s); {
		switch s[i : i+2] {
		case "/*":
			depth++
			i += 2
		case "*/":
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return len(s)
}

// quotedLen is the length of what is quoted by q from s[at] on; a doubled quote is
// one inside, and a backslash escapes where the form has it.
func quotedLen(s string, at int, q byte, backslash bool) int {
	for i := at + 1; i < len(s); i++ {
		switch {
		case backslash && s[i] == '\\':
			i++
		case s[i] == q:
			if i+1 < len(s) && s[i+1] == q {
				i++
				continue
			}
			return i + 1
		}
	}
	return len(s)
}

// dollar is a parameter, a dollar-quoted string or a lone dollar.
func dollar(s string) (tokenKind, int) {
	i := 1
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	if i > 1 {
		return param, i
	}
	for i < len(s) && (s[i]|0x20 >= 'a' && s[i]|0x20 <= 'z' || s[i] == '_' || s[i] >= utf8.RuneSelf || i > 1 && s[i] >= '0' && s[i] <= '9') {
		i++ // a tag is a word without a dollar
	}
	if i < len(s) && s[i] == '$' {
		tag := s[:i+1]
		if end := strings.Index(s[len(tag):], tag); end >= 0 {
			return literal, 2*len(tag) + end
		}
		return literal, len(s)
	}
	return other, 1
}

func numberLen(s string) int {
	i := 0
	for i < len(s) {
		c := s[i]
		switch {
		case c >= '0' && c <= '9', c == '.', c == '_':
			i++
		case (c == 'e' || c == 'E') && i+1 < len(s) && (s[i+1] >= '0' && s[i+1] <= '9' || (s[i+1] == '-' || s[i+1] == '+') && i+2 < len(s) && s[i+2] >= '0' && s[i+2] <= '9'):
			i += 2
		default:
			return i
		}
	}
	return i
}

// spaceLen counts white space, Unicode's included: DuckDB skips that too.
func spaceLen(s string) int {
	n := 0
	for n < len(s) {
		r, size := utf8.DecodeRuneInString(s[n:])
		if !unicode.IsSpace(r) && r != '\ufeff' && r != '\u200b' {
			break
		}
		n += size
	}
	return n
}

func wordLen(s string) int {
	n := 0
	for n < len(s) {
		c := s[n]
		if c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || n > 0 && (c >= '0' && c <= '9' || c == '$') {
			n++
			continue
		}
		if c < utf8.RuneSelf {
			break
		}
		r, size := utf8.DecodeRuneInString(s[n:])
		if unicode.IsSpace(r) || r == '\ufeff' || r == '\u200b' {
			break
		}
		n += size
	}
	return n
}

func operatorLen(s string) int {
	n := 0
	for n < len(s) && strings.IndexByte("~!@#^&|`?+-*/%<>=:", s[n]) >= 0 {
		// A comment ends an operator.
		if strings.HasPrefix(s[n:], "--") || strings.HasPrefix(s[n:], "/*") {
			break
		}
		n++
	}
	return n
}

// Split cuts a text of several statements at its semicolons, dropping those that
// are empty.
func Split(text string) []string {
	var out []string
	start, filled := 0, false
	for _, t := range tokenize(text) {
		switch {
		case t.kind == other && text[t.start] == ';':
			if filled {
				out = append(out, text[start:t.start])
			}
			start, filled = t.end, false
		case t.kind != space:
			filled = true
		}
	}
	if filled {
		out = append(out, text[start:])
	}
	return out
}

// Words are the first n words of a statement in upper case, its other tokens as
// they are, white space and comments left out; fewer where it has fewer.
func Words(text string, n int) []string {
	var out []string
	for len(text) > 0 && len(out) < n {
		kind, size := next(text)
		switch kind {
		case space:
		case word:
			out = append(out, strings.ToUpper(text[:size]))
		default:
			out = append(out, text[:size])
		}
		text = text[size:]
	}
	return out
}
