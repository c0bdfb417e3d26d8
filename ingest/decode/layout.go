package decode

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// LayoutNames are the layouts that have a name; all others are strptime layouts.
var LayoutNames = []string{"rfc3339", "unix", "unix_ms", "unix_us", "unix_ns"}

// ErrLayout is returned where a text is not written as its layout says.
var ErrLayout = errors.New("does not match the layout")

// ErrTimeRange is returned where a time is outside the years 1678 to 2261.
var ErrTimeRange = errors.New("outside the years 1678 to 2261")

type layoutKind uint8

const (
	layoutRFC3339 layoutKind = iota
	layoutUnix
	layoutDashed // %Y-%m-%d %H:%M:%S
	layoutSteps  // any other strptime layout
)

// Layout is a compiled timestamp layout. It is immutable.
type Layout struct {
	text  string
	kind  layoutKind
	scale int    // of layoutUnix: decimal places from its unit to nanoseconds
	steps []step // of layoutDashed and layoutSteps
}

const dashedLayout = "%Y-%m-%d %H:%M:%S"

// ParseLayout compiles a layout: one of LayoutNames (the empty one is rfc3339), or
// a strptime layout of the directives in Directives. The error names what is
// wrong in it.
func ParseLayout(layout string) (*Layout, error) {
	l := &Layout{text: layout}
	switch layout {
	case "", "rfc3339":
		l.text = "rfc3339"
	case "unix":
		l.kind, l.scale = layoutUnix, 9
	case "unix_ms":
		l.kind, l.scale = layoutUnix, 6
	case "unix_us":
		l.kind, l.scale = layoutUnix, 3
	case "unix_ns":
		l.kind = layoutUnix
	default:
		if !strings.Contains(layout, "%") {
			hint := schema.Suggest(layout, LayoutNames)
			if hint != "" {
				hint = "; " + hint
			}
			return nil, fmt.Errorf("layout %q: expected one of %s, or a strptime layout such as %q%s",
				layout, strings.Join(LayoutNames, ", "), dashedLayout, hint)
		}
		steps, err := compileSteps(layout)
		if err != nil {
			return nil, err
		}
		l.kind, l.steps = layoutSteps, steps
		if layout == dashedLayout {
			l.kind = layoutDashed
		}
	}
	return l, nil
}

// String is the layout as it was written.
func (l *Layout) String() string { return l.text }

// Parse reads text, which is not retained. A time without an offset is in zone
// (nil: UTC); where the clocks of zone skip or repeat a time, time.Date decides.
// Errors: ErrLayout, ErrTimeRange. It does not allocate.
func (l *Layout) Parse(text []byte, zone *time.Location) (event.Time, error) {
	switch l.kind {
	case layoutRFC3339:
		return parseRFC3339(text, zone)
	case layoutUnix:
		return parseUnix(text, l.scale)
	case layoutDashed:
		if len(text) == 19 {
			if c, ok := parseDateTime(text); ok && text[10] == ' ' {
				return c.time(zone)
			}
		}
	}
	return parseSteps(text, l.steps, zone)
}

// example is a text in the layout, for messages.
func (l *Layout) example() string {
	switch l.kind {
	case layoutRFC3339:
		return "2018-04-01T00:00:31Z"
	case layoutUnix:
		return "1522540831000000000"[:19-l.scale]
	}
	return ""
}

// civil is a date and a time of day as written.
type civil struct {
	year, month, day     int
	hour, minute, second int
	nanos                int
	offset               int // seconds east of UTC, where hasOffset
	hasOffset            bool
}

// The range of event times, in nanoseconds since the epoch: 1678 to 2261.
const (
	minNanos int64 = -106_650 * 86_400 * 1e9
	maxNanos int64 = 106_651*86_400*1e9 - 1
)

// time is the instant of c. Its parts are in range, but for day, which may be
// past the end of its month.
func (c *civil) time(zone *time.Location) (event.Time, error) {
	if c.day > daysIn(c.year, c.month) {
		return 0, ErrLayout
	}
	if c.year < 1677 || c.year > 2262 {
		return 0, ErrTimeRange
	}
	if !c.hasOffset && zone != nil && zone != time.UTC {
		t := time.Date(c.year, time.Month(c.month), c.day, c.hour, c.minute, c.second, c.nanos, zone)
		if !event.InRange(t.UTC()) {
			return 0, ErrTimeRange
		}
		return event.FromTime(t), nil
	}
	seconds := daysFromCivil(c.year, c.month, c.day)*86_400 + int64(c.hour*3600+c.minute*60+c.second-c.offset)
	if seconds < minNanos/1e9 || seconds > maxNanos/1e9 {
		return 0, ErrTimeRange
	}
	return event.Time(seconds*1e9 + int64(c.nanos)), nil
}

var monthDays = [13]uint8{0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31}

func leap(year int) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

func daysIn(year, month int) int {
	if month == 2 && leap(year) {
		return 29
	}
	return int(monthDays[month])
}

// daysFromCivil is the number of days from 1970-01-01 to a date of the Gregorian
// calendar, year at least 1. (Howard Hinnant, "chrono-Compatible Low-Level Date
// Algorithms".)
func daysFromCivil(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era, yearOfEra := year/400, year%400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	return int64(era)*146_097 + int64(yearOfEra*365+yearOfEra/4-yearOfEra/100+dayOfYear) - 719_468
}

// parseDateTime reads the 19 bytes "YYYY-MM-DD?hh:mm:ss", whatever stands at the
// question mark. The day is not checked against its month.
func parseDateTime(b []byte) (c civil, ok bool) {
	_ = b[18]
	d := func(i int) int { return int(b[i]-'0')*10 + int(b[i+1]-'0') }
	// Any byte that is no digit makes one of these exceed 9.
	wrong := max(b[0]-'0', b[1]-'0', b[2]-'0', b[3]-'0', b[5]-'0', b[6]-'0', b[8]-'0', b[9]-'0',
		b[11]-'0', b[12]-'0', b[14]-'0', b[15]-'0', b[17]-'0', b[18]-'0') > 9
	if wrong || b[4] != '-' || b[7] != '-' || b[13] != ':' || b[16] != ':' {
		return c, false
	}
	c.year, c.month, c.day = d(0)*100+d(2), d(5), d(8)
	c.hour, c.minute, c.second = d(11), d(14), d(17)
	ok = c.month-1 < 12 && c.month > 0 && c.day > 0 && c.day <= 31 && c.hour < 24 && c.minute < 60 && c.second < 60
	return c, ok
}

// parseRFC3339 reads RFC 3339, in which a space may stand for the T, letters may
// be lower-case, and the offset may be left out. Leap seconds are refused.
func parseRFC3339(b []byte, zone *time.Location) (event.Time, error) {
	if len(b) < 19 || (b[10] != 'T' && b[10] != ' ' && b[10] != 't') {
		return 0, ErrLayout
	}
	c, ok := parseDateTime(b)
	if !ok {
		return 0, ErrLayout
	}
	rest := b[19:]
	if len(rest) > 0 && rest[0] == '.' {
		var n int
		if c.nanos, n = fraction(rest[1:]); n == 0 {
			return 0, ErrLayout
		}
		rest = rest[1+n:]
	}
	switch {
	case len(rest) == 0:
	case len(rest) == 1 && (rest[0] == 'Z' || rest[0] == 'z'):
		c.hasOffset = true
	case len(rest) == 6 && rest[3] == ':':
		n := 0
		if c.offset, n = offset(rest); n != 6 {
			return 0, ErrLayout
		}
		c.hasOffset = true
	default:
		return 0, ErrLayout
	}
	return c.time(zone)
}

// fraction reads 1 to 9 digits of a fraction of a second as nanoseconds, and how
// many there were; 0 where there are none or more than nine.
func fraction(b []byte) (nanos, n int) {
	for n < len(b) && b[n]-'0' <= 9 {
		if n == 9 {
			return 0, 0
		}
		nanos = nanos*10 + int(b[n]-'0')
		n++
	}
	for i := n; i < 9; i++ {
		nanos *= 10
	}
	return nanos, n
}

// offset reads an offset from UTC, "Z", "+hh", "+hhmm" or "+hh:mm", as seconds
// east, and its length; 0 where there is none.
func offset(b []byte) (seconds, n int) {
	if len(b) > 0 && (b[0] == 'Z' || b[0] == 'z') {
		return 0, 1
	}
	if len(b) < 3 || (b[0] != '+' && b[0] != '-') {
		return 0, 0
	}
	hours, ok := twoDigits(b[1:])
	if !ok || hours > 23 {
		return 0, 0
	}
	minutes, n := 0, 3
	at := 3
	if len(b) > at && b[at] == ':' {
		at++
	}
	if m, ok := twoDigits(b[at:]); ok && m < 60 {
		minutes, n = m, at+2
	} else if at == 4 || ok {
		return 0, 0
	}
	seconds = hours*3600 + minutes*60
	if b[0] == '-' {
		seconds = -seconds
	}
	return seconds, n
}

func twoDigits(b []byte) (v int, ok bool) {
	if len(b) < 2 || b[0]-'0' > 9 || b[1]-'0' > 9 {
		return 0, false
	}
	return int(b[0]-'0')*10 + int(b[1]-'0'), true
}

// parseUnix reads a number of units since the epoch, scale decimal places above
// the nanosecond, with or without a fraction.
func parseUnix(b []byte, scale int) (event.Time, error) {
	v, err := parseDecimal(b, scale)
	if errors.Is(err, event.ErrDecimalRange) {
		return 0, ErrTimeRange
	}
	if err != nil {
		return 0, ErrLayout
	}
	if v < minNanos || v > maxNanos {
		return 0, ErrTimeRange
	}
	return event.Time(v), nil
}
