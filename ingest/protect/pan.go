package protect

import (
	"bytes"
	"slices"
)

// The lengths of card numbers (ISO/IEC 7812).
const (
	panMin = 13
	panMax = 19
)

// searcher finds card numbers and track data in text and masks them in place.
type searcher struct {
	// Of the run of digits at hand:
	pos    []int32 // where each stands
	digit  []byte
	starts []bool // a group begins here
	hide   []bool
	// even and odd are running Luhn sums modulo 10, in which the digits at odd,
	// respectively even, places of the run are doubled: a stretch passes the check
	// where the sums before and after it are equal.
	even, odd []byte
}

// cards masks each card number in b and returns how many places it changed. What
// counts: a whole number of groups of digits, together 13 to 19 that pass the Luhn
// check; and, within one longer group, such a stretch that begins like a card. All
// that qualify are masked, so that one found by chance does not shadow a real one.
func (s *searcher) cards(b []byte) (found int) {
	for range passesMax {
		n := s.pass(b)
		if found += n; n == 0 {
			break
		}
	}
	return found
}

// passesMax bounds how often text is gone over: what stays of one number may make
// another with the digits beside it, and masked text is not to change again.
const passesMax = 8

func (s *searcher) pass(b []byte) (found int) {
	for i := 0; i < len(b); {
		if !isDigit(b[i]) {
			i++
			continue
		}
		if i = s.run(b, i); len(s.pos) >= panMin && s.mark() {
			found++
			for k, hide := range s.hide {
				if hide {
					b[s.pos[k]] = '*'
				}
			}
		}
	}
	return found
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// separatorsMax is how many separators may stand between two groups, the zeros of
// UTF-16 not counted.
const separatorsMax = 2

// separator is the length of a separator at the start of b, 0 where there is none.
func separator(b []byte) int {
	switch c := b[0]; {
	case c == ' ', c == '-', c == '.', c == '\t', c == 0: // 0: text in UTF-16
		return 1
	case c == 0xc2 && len(b) > 1 && b[1] == 0xa0: // no-break space
		return 2
	case c == 0xe2 && len(b) > 2 && b[1] == 0x80 && (b[2] >= 0x90 && b[2] <= 0x95 || b[2] == 0xaf): // dashes, narrow no-break space
		return 3
	}
	return 0
}

// run collects the digits from i on, over separators, and returns where they end.
func (s *searcher) run(b []byte, i int) int {
	s.pos, s.digit, s.starts = s.pos[:0], s.digit[:0], s.starts[:0]
	group := true
	for {
		for ; i < len(b) && isDigit(b[i]); i++ {
			s.pos, s.digit, s.starts = append(s.pos, int32(i)), append(s.digit, b[i]-'0'), append(s.starts, group)
			group = false
		}
		j := i
		for n := 0; j < len(b) && separator(b[j:]) > 0 && (n < separatorsMax || b[j] == 0); j += separator(b[j:]) {
			if b[j] != 0 {
				n++
			}
		}
		if j == i || j == len(b) || !isDigit(b[j]) {
			return i
		}
		i, group = j, true
	}
}

var doubled = [10]byte{0, 2, 4, 6, 8, 1, 3, 5, 7, 9}

// mark notes in hide what of the run is to be hidden, and whether anything is.
func (s *searcher) mark() (any bool) {
	n := len(s.digit)
	s.even, s.odd = append(s.even[:0], 0), append(s.odd[:0], 0)
	for k, d := range s.digit {
		e, o := d, doubled[d]
		if k%2 == 1 {
			e, o = o, e
		}
		s.even = append(s.even, (s.even[k]+e)%10)
		s.odd = append(s.odd, (s.odd[k]+o)%10)
	}
	s.hide = slices.Grow(s.hide[:0], n)[:n]
	clear(s.hide)
	for from := 0; from+panMin <= n; from++ {
		for to := from + panMin; to <= min(n, from+panMax); to++ {
			if !s.luhn(from, to) || !s.plausible(from, to) {
				continue
			}
			any = true
			for k := from + 6; k < to-4; k++ {
				s.hide[k] = true
			}
		}
	}
	return any
}

// luhn reports whether the digits of [from, to) pass the Luhn check
// (ISO/IEC 7812-1, annex B).
func (s *searcher) luhn(from, to int) bool {
	if (to-1)%2 == 0 {
		return s.even[from] == s.even[to]
	}
	return s.odd[from] == s.odd[to]
}

// plausible reports whether the digits of [from, to) may be a number of their own:
// whole groups, or within one group the beginning of a card.
func (s *searcher) plausible(from, to int) bool {
	if s.starts[from] && (to == len(s.starts) || s.starts[to]) {
		return true
	}
	return s.pos[to-1]-s.pos[from] == int32(to-1-from) && issued(s.digit[from:to])
}

// issued reports whether d begins and is as long as the cards of the large
// networks are.
func issued(d []byte) bool {
	prefix := int(d[0])*1000 + int(d[1])*100 + int(d[2])*10 + int(d[3])
	in := func(from, to int) bool { return prefix >= from && prefix <= to }
	switch n := len(d); {
	case d[0] == 4: // Visa
		return n == 13 || n == 16 || n == 19
	case in(5100, 5599), in(2221, 2720): // Mastercard
		return n == 16
	case in(3400, 3499), in(3700, 3799): // American Express
		return n == 15
	case in(3000, 3059), in(3600, 3699), in(3800, 3999): // Diners Club
		return n == 14 || n >= 16
	case in(3528, 3589): // JCB
		return n >= 16
	case in(6011, 6011), in(6440, 6599), in(6200, 6299), in(8100, 8199): // Discover, UnionPay
		return n >= 16
	case in(5000, 5099), in(5600, 6999), in(9792, 9792): // Maestro, RuPay, Troy
		return n >= 15
	}
	return false
}

// isCard reports whether t is 13 to 19 digits, spaces and dashes apart.
func isCard(t []byte) bool {
	digits := 0
	for _, c := range t {
		switch {
		case isDigit(c):
			digits++
		case c != ' ' && c != '-':
			return false
		}
	}
	return digits >= panMin && digits <= panMax
}

// The greatest lengths of track data (ISO/IEC 7813), in characters.
const (
	track1Max = 79
	track2Max = 40
)

// tracks masks track data in b: of the card number BIN and last four stay, of what
// follows it nothing. It returns how many it found.
func tracks(b []byte) (found int) {
	for i := 0; ; i++ {
		n := bytes.IndexByte(b[i:], '^')
		if n < 0 {
			break
		}
		i += n
		found += track1(b, i)
	}
	for i := 0; ; i++ {
		n := bytes.IndexByte(b[i:], '=')
		if n < 0 {
			return found
		}
		i += n
		found += track2(b, i)
	}
}

// track1 masks track 1, whose first separator stands at i: %B PAN ^ NAME ^ ... ?
func track1(b []byte, i int) int {
	from, digits := i, 0
	for from > 0 && i-from < track2Max && (isDigit(b[from-1]) || b[from-1] == ' ') && digits <= panMax {
		if from--; b[from] != ' ' {
			digits++
		}
	}
	if digits < panMin-1 || digits > panMax {
		return 0
	}
	to := i + 1
	for to < len(b) && to < i+track1Max && b[to] != '?' && b[to] != '"' && b[to] != '\\' && b[to] >= ' ' {
		to++
	}
	formatCode := from > 0 && b[from-1]|0x20 == 'b'
	if !formatCode && bytes.IndexByte(b[i+1:to], '^') < 0 {
		return 0
	}
	hideMiddle(b[from:i])
	for k := i + 1; k < to; k++ {
		if b[k] != '^' {
			b[k] = '*'
		}
	}
	return 1
}

// track2 masks track 2, whose separator stands at i: ; PAN = YYMM... ?
func track2(b []byte, i int) int {
	from := i
	for from > 0 && isDigit(b[from-1]) && i-from <= panMax {
		from--
	}
	to := i + 1
	for to < len(b) && isDigit(b[to]) && to < i+track2Max {
		to++
	}
	if n := i - from; n < panMin-1 || n > panMax || to == i+1 {
		return 0
	}
	sentinel := from > 0 && b[from-1] == ';'
	if !sentinel && to-i-1 < 7 { // YYMM and the service code
		return 0
	}
	hideMiddle(b[from:i])
	for k := i + 1; k < to; k++ {
		b[k] = '*'
	}
	return 1
}

// hideMiddle masks the digits of a card number but the first six and last four.
func hideMiddle(b []byte) {
	digits := 0
	for _, c := range b {
		if isDigit(c) {
			digits++
		}
	}
	k := 0
	for i, c := range b {
		if isDigit(c) {
			if k >= 6 && k < digits-4 {
				b[i] = '*'
			}
			k++
		}
	}
}

// text masks what b holds of card numbers and track data, and returns how much of
// each it found.
func (s *searcher) text(b []byte) (cards, track int) {
	track = tracks(b)
	return s.cards(b), track
}

// broken is text for bytes that no parser took: a card number may stand in JSON's
// escapes, and, where cut, one at the end may be cut short. It returns b, masked in place, or, where the escapes had to go for it,
// another slice.
func (s *searcher) broken(b []byte, cut bool) (out []byte, cards, track int) {
	if bytes.Contains(b, []byte(`\u00`)) {
		plain := unescapeASCII(b)
		if cards, track = s.text(plain); cards+track > 0 {
			b = plain
		}
	}
	if cards+track == 0 {
		cards, track = s.text(b)
	}
	if cut {
		cards += cutShort(b)
	}
	return b, cards, track
}

// cutMin is how many digits of a card number are too many to keep where the others
// were cut off: the Luhn check gives the last one, and a list the next.
const cutMin = 11

// cutShort masks the digits at the end of b but the first six, where it may be a
// card number that was cut short, and returns how many it found.
func cutShort(b []byte) int {
	from, digits := len(b), 0
	for from > 0 && digits <= panMax {
		if c := b[from-1]; isDigit(c) {
			digits++
		} else if c != ' ' && c != '-' {
			break
		}
		from--
	}
	if digits < cutMin || digits > panMax {
		return 0
	}
	for k, i := 0, from; i < len(b); i++ {
		if isDigit(b[i]) {
			if k++; k > 6 {
				b[i] = '*'
			}
		}
	}
	return 1
}

// unescapeASCII is b with the \u00XX of printable ASCII characters other than the
// quote and the backslash replaced by them.
func unescapeASCII(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+5 < len(b) && string(b[i:i+4]) == `\u00` {
			if c := unhex(b[i+4])<<4 | unhex(b[i+5]); c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
				out = append(out, byte(c))
				i += 5
				continue
			}
		}
		out = append(out, b[i])
	}
	return out
}

// unhex is the value of a hexadecimal digit, beyond 0xffff where it is none.
func unhex(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return 1 << 20
}
