package event

import (
	"math"
	"time"
)

// Time is an instant: nanoseconds since the Unix epoch, UTC.
type Time int64

const (
	// MinTime precedes every event; as a watermark it means "none yet".
	MinTime Time = math.MinInt64
	// MaxTime follows every event.
	MaxTime Time = math.MaxInt64
)

const nanosPerMilli = int64(time.Millisecond)

// FromTime converts t. Instants outside the years 1678 to 2262 do not fit; the
// caller has checked with InRange.
func FromTime(t time.Time) Time { return Time(t.UnixNano()) }

// InRange reports whether t fits in a Time.
func InRange(t time.Time) bool {
	return t.Year() >= 1678 && t.Year() <= 2261
}

// FromMillis converts Kafka's record timestamp (milliseconds since the epoch),
// saturating at the ends of the range.
func FromMillis(ms int64) Time {
	switch {
	case ms > math.MaxInt64/nanosPerMilli:
		return MaxTime
	case ms < math.MinInt64/nanosPerMilli:
		return MinTime
	}
	return Time(ms * nanosPerMilli)
}

// Millis is the Kafka record timestamp of t, rounded down.
func (t Time) Millis() int64 {
	ms := int64(t) / nanosPerMilli
	if int64(t)%nanosPerMilli < 0 {
		ms--
	}
	return ms
}

// Time is t as a time.Time in UTC.
func (t Time) Time() time.Time { return time.Unix(0, int64(t)).UTC() }

// Sub is t-d, saturating at MinTime and MaxTime.
func (t Time) Sub(d time.Duration) Time {
	r := t - Time(d)
	if d > 0 && r > t {
		return MinTime
	}
	if d < 0 && r < t {
		return MaxTime
	}
	return r
}

// Add is t+d, saturating at MinTime and MaxTime.
func (t Time) Add(d time.Duration) Time {
	r := t + Time(d)
	if d > 0 && r < t {
		return MaxTime
	}
	if d < 0 && r > t {
		return MinTime
	}
	return r
}

// AppendText appends t in RFC 3339 with as many fractional digits as it needs.
func (t Time) AppendText(dst []byte) []byte {
	return t.Time().AppendFormat(dst, time.RFC3339Nano)
}

// String is t in RFC 3339, or "none" for MinTime.
func (t Time) String() string {
	if t == MinTime {
		return "none"
	}
	return string(t.AppendText(nil))
}
