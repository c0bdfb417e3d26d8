package decode

import (
	"strconv"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// Unit is the smallest step of time that every text of the layout can say: its
// fractions of a second aside, since times that differ by whole seconds have the
// same.
func (l *Layout) Unit() time.Duration {
	if l.kind == layoutRFC3339 || l.kind == layoutUnix {
		return time.Second
	}
	unit := 24 * time.Hour
	for _, s := range l.steps {
		switch s.directive {
		case 'S', 's':
			return time.Second
		case 'M':
			unit = min(unit, time.Minute)
		case 'H', 'I':
			unit = min(unit, time.Hour)
		}
	}
	return unit
}

// Append appends t as the layout writes it, in zone (nil: UTC) where it has no
// offset of its own; Parse reads it back but for what the layout leaves out, and
// but for an hour that the clocks of zone repeat. Layouts with an offset are
// written in UTC. It does not allocate but in dst.
func (l *Layout) Append(dst []byte, t event.Time, zone *time.Location) []byte {
	switch l.kind {
	case layoutRFC3339:
		return time.Unix(0, int64(t)).UTC().AppendFormat(dst, time.RFC3339Nano)
	case layoutUnix:
		return appendUnits(dst, int64(t), l.scale)
	}
	at := time.Unix(0, int64(t)).UTC()
	if zone != nil && !l.hasOffset() {
		at = at.In(zone)
	}
	for _, s := range l.steps {
		if s.directive == 0 {
			dst = append(dst, s.literal)
			continue
		}
		dst = appendDirective(dst, s.directive, at)
	}
	return dst
}

func (l *Layout) hasOffset() bool {
	for _, s := range l.steps {
		if s.directive == 'z' || s.directive == 'Z' {
			return true
		}
	}
	return false
}

// appendUnits appends nanoseconds as a number of units of 10^scale nanoseconds.
func appendUnits(dst []byte, nanos int64, scale int) []byte {
	if nanos < 0 {
		dst, nanos = append(dst, '-'), -nanos
	}
	unit := event.Pow10(scale)
	dst = strconv.AppendInt(dst, nanos/unit, 10)
	return appendFraction(dst, nanos%unit, scale, true)
}

// appendFraction appends a fraction without the zeros at its end, with its point
// or without; without one it has at least one digit.
func appendFraction(dst []byte, v int64, places int, point bool) []byte {
	if v == 0 {
		if point {
			return dst
		}
		return append(dst, '0')
	}
	if point {
		dst = append(dst, '.')
	}
	for p := event.Pow10(places - 1); v > 0; p /= 10 {
		dst = append(dst, byte('0'+v/p))
		v %= p
	}
	return dst
}

func appendDirective(dst []byte, directive byte, t time.Time) []byte {
	switch directive {
	case 'Y':
		return t.AppendFormat(dst, "2006")
	case 'y':
		return t.AppendFormat(dst, "06")
	case 'm':
		return t.AppendFormat(dst, "01")
	case 'b':
		return t.AppendFormat(dst, "Jan")
	case 'B':
		return t.AppendFormat(dst, "January")
	case 'd':
		return t.AppendFormat(dst, "02")
	case 'j':
		return t.AppendFormat(dst, "002")
	case 'a':
		return t.AppendFormat(dst, "Mon")
	case 'A':
		return t.AppendFormat(dst, "Monday")
	case 'H':
		return t.AppendFormat(dst, "15")
	case 'I':
		return t.AppendFormat(dst, "03")
	case 'p':
		return t.AppendFormat(dst, "PM")
	case 'M':
		return t.AppendFormat(dst, "04")
	case 'S':
		return t.AppendFormat(dst, "05")
	case 'f':
		return appendFraction(dst, int64(t.Nanosecond()), 9, false)
	case 'z':
		return append(dst, "+00:00"...)
	case 'Z':
		return append(dst, "UTC"...)
	default: // s
		if t.Nanosecond() != 0 && t.Unix() < 0 {
			// The fraction is read away from zero, as the sign says.
			return strconv.AppendInt(dst, t.Unix()+1, 10)
		}
		return strconv.AppendInt(dst, t.Unix(), 10)
	}
}
