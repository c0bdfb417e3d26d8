package decode

import (
	"fmt"
	"strings"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// Directives are the strptime directives that a layout may have, with what they
// read. Numbers may leave out leading zeros, as in strptime(3).
var Directives = []struct{ Directive, Reads string }{
	{"%Y", "the year, four digits"},
	{"%y", "the year, two digits: 69 to 99 are 1969 to 1999, 00 to 68 are 2000 to 2068"},
	{"%m", "the month, 01 to 12"},
	{"%b", "the month, three English letters (also %h)"},
	{"%B", "the month's English name"},
	{"%d", "the day of the month, 01 to 31 (also %e)"},
	{"%j", "the day of the year, 001 to 366"},
	{"%a", "the weekday, three English letters; not checked against the date"},
	{"%A", "the weekday's English name; not checked against the date"},
	{"%H", "the hour, 00 to 23"},
	{"%I", "the hour, 01 to 12, with %p"},
	{"%p", "AM or PM"},
	{"%M", "the minute"},
	{"%S", "the second, 00 to 59"},
	{"%f", "a fraction of a second, one to nine digits"},
	{"%z", "the offset: +hh:mm, +hhmm, +hh or Z"},
	{"%Z", "UTC, GMT or Z"},
	{"%s", "seconds since the epoch"},
	{"%F", "%Y-%m-%d"},
	{"%T", "%H:%M:%S"},
	{"%%", "a percent sign"},
}

// step is one part of a strptime layout: a directive's letter, or a literal byte.
type step struct {
	directive byte // 0: a literal
	literal   byte
}

// compileSteps compiles a strptime layout and checks that it says exactly one
// instant, given a zone.
func compileSteps(layout string) ([]step, error) {
	var steps []step
	expanded := strings.NewReplacer("%%", "%%", "%F", "%Y-%m-%d", "%T", "%H:%M:%S", "%h", "%b", "%e", "%d").Replace(layout)
	var seen [256]bool
	for i := 0; i < len(expanded); i++ {
		if expanded[i] != '%' {
			steps = append(steps, step{literal: expanded[i]})
			continue
		}
		i++
		if i == len(expanded) {
			return nil, fmt.Errorf("layout %q: a single %% at the end (write %%%% for a percent sign)", layout)
		}
		c := expanded[i]
		if c == '%' {
			steps = append(steps, step{literal: '%'})
			continue
		}
		if strings.IndexByte("YymbBdjaAHIpMSfzZs", c) < 0 {
			return nil, fmt.Errorf("layout %q: unknown directive %q: expected one of %s", layout, expanded[i-1:i+1], directiveList())
		}
		if seen[c] {
			return nil, fmt.Errorf("layout %q: the directive %q stands there twice", layout, expanded[i-1:i+1])
		}
		seen[c] = true
		steps = append(steps, step{directive: c})
	}
	if wrong := incomplete(&seen); wrong != "" {
		return nil, fmt.Errorf("layout %q: %s", layout, wrong)
	}
	return steps, nil
}

func directiveList() string {
	var names []string
	for _, d := range Directives {
		names = append(names, d.Directive)
	}
	return strings.Join(names, " ")
}

// incomplete says why the directives seen do not make one instant, or nothing.
func incomplete(seen *[256]bool) string {
	n := func(letters string) (n int) {
		for _, c := range letters {
			if seen[c] {
				n++
			}
		}
		return n
	}
	switch {
	case seen['s']:
		if n("YymbBdjHIpMSzZ") > 0 {
			return "%s is already a whole time: only %f may stand beside it"
		}
	case n("Yy") != 1:
		return "expected the year, as either %Y or %y"
	case seen['j'] && n("mbBd") > 0:
		return "%j is already the day: no month or day may stand beside it"
	case !seen['j'] && (n("mbB") != 1 || !seen['d']):
		return "expected the month, as one of %m, %b and %B, and the day, as %d (or both as %j)"
	case seen['I'] != seen['p']:
		return "%I and %p must stand together"
	case seen['I'] && seen['H']:
		return "%H and %I are both the hour"
	case n("MSf") > 0 && n("HI") == 0, n("Sf") > 0 && !seen['M'], seen['f'] && !seen['S']:
		return "a smaller part of the time stands there without the larger one"
	}
	return ""
}

var monthNames = [...]string{"january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"}
var weekdayNames = [...]string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}

// moment is what the directives of a layout have read.
type moment struct {
	civil
	yearDay int
	pm, am  bool
	epoch   int64 // whole seconds, without their sign
	isEpoch bool
	neg     bool // the epoch has a minus sign
}

func parseSteps(b []byte, steps []step, zone *time.Location) (event.Time, error) {
	m := moment{civil: civil{month: 1, day: 1}}
	for _, s := range steps {
		if s.directive == 0 {
			if len(b) == 0 || b[0] != s.literal {
				return 0, ErrLayout
			}
			b = b[1:]
			continue
		}
		n := m.read(s.directive, b)
		if n == 0 {
			return 0, ErrLayout
		}
		b = b[n:]
	}
	if len(b) > 0 {
		return 0, ErrLayout
	}
	return m.time(zone)
}

func (m *moment) time(zone *time.Location) (event.Time, error) {
	if m.isEpoch {
		if m.epoch > maxNanos/1e9 {
			return 0, ErrTimeRange
		}
		t := m.epoch*1e9 + int64(m.nanos)
		if m.neg {
			t = -t
		}
		if t < minNanos {
			return 0, ErrTimeRange
		}
		return event.Time(t), nil
	}
	if m.am || m.pm {
		m.hour %= 12
		if m.pm {
			m.hour += 12
		}
	}
	if m.yearDay > 0 {
		m.month, m.day = 1, m.yearDay
		for m.day > daysIn(m.year, m.month) {
			m.day -= daysIn(m.year, m.month)
			if m.month++; m.month > 12 {
				return 0, ErrLayout
			}
		}
	}
	return m.civil.time(zone)
}

// read reads one directive from the start of b and returns its length, 0 where it
// is not there.
func (m *moment) read(directive byte, b []byte) (n int) {
	switch directive {
	case 'Y':
		m.year, n = digits(b, 4, 0, 9999)
		if n != 4 {
			return 0
		}
	case 'y':
		if m.year, n = digits(b, 2, 0, 99); m.year < 69 {
			m.year += 100
		}
		m.year += 1900
		if n != 2 {
			return 0
		}
	case 'm':
		m.month, n = digits(b, 2, 1, 12)
	case 'b':
		m.month, n = name(b, monthNames[:], 3)
	case 'B':
		m.month, n = name(b, monthNames[:], 0)
	case 'd':
		m.day, n = digits(b, 2, 1, 31)
	case 'j':
		m.yearDay, n = digits(b, 3, 1, 366)
	case 'a':
		_, n = name(b, weekdayNames[:], 3)
	case 'A':
		_, n = name(b, weekdayNames[:], 0)
	case 'H':
		m.hour, n = digits(b, 2, 0, 23)
	case 'I':
		m.hour, n = digits(b, 2, 1, 12)
	case 'p':
		if len(b) < 2 || b[1]|0x20 != 'm' {
			return 0
		}
		m.am, m.pm = b[0]|0x20 == 'a', b[0]|0x20 == 'p'
		if m.am || m.pm {
			n = 2
		}
	case 'M':
		m.minute, n = digits(b, 2, 0, 59)
	case 'S':
		m.second, n = digits(b, 2, 0, 59)
	case 'f':
		m.nanos, n = fraction(b)
	case 'z':
		m.offset, n = offset(b)
		m.hasOffset = true
	case 'Z':
		n = universal(b)
		m.hasOffset = true
	case 's':
		m.isEpoch = true
		m.epoch, m.neg, n = seconds(b)
	}
	return n
}

// digits reads a number of at most width digits from lowest to highest, and its
// length, 0 where there is none.
func digits(b []byte, width, lowest, highest int) (v, n int) {
	for n < width && n < len(b) && b[n]-'0' <= 9 {
		v = v*10 + int(b[n]-'0')
		n++
	}
	if n == 0 || v < lowest || v > highest {
		return 0, 0
	}
	return v, n
}

// name reads one of names, in any case, cut to its first letters unless 0; it
// returns its place from 1, and its length.
func name(b []byte, names []string, letters int) (v, n int) {
next:
	for i, full := range names {
		if letters > 0 {
			full = full[:letters]
		}
		if len(b) < len(full) {
			continue
		}
		for j := range len(full) {
			if b[j]|0x20 != full[j] {
				continue next
			}
		}
		return i + 1, len(full)
	}
	return 0, 0
}

func universal(b []byte) int {
	if len(b) >= 3 && (string(b[:3]) == "UTC" || string(b[:3]) == "GMT") {
		return 3
	}
	if len(b) >= 1 && b[0] == 'Z' {
		return 1
	}
	return 0
}

// seconds reads a signed number of at most 11 digits, which reach past the range
// of times, and its length.
func seconds(b []byte) (v int64, neg bool, n int) {
	neg = len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	for n < 12 && n < len(b) && b[n]-'0' <= 9 {
		v = v*10 + int64(b[n]-'0')
		n++
	}
	switch {
	case n == 0 || n == 12:
		return 0, false, 0
	case neg:
		return v, true, n + 1
	}
	return v, false, n
}
