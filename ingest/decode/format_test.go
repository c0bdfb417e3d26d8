package decode

import (
	"errors"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/test/seeds"
)

// TestLayoutAppend writes times and reads them back, in every kind of layout.
func TestLayoutAppend(t *testing.T) {
	r := seeds.Rand(t)
	kolkata, err := time.LoadLocation("Asia/Kolkata") // no daylight saving
	if err != nil {
		t.Fatal(err)
	}
	layouts := []struct {
		layout string
		unit   time.Duration
		finest time.Duration // what its texts can say
	}{
		{"rfc3339", time.Second, 1},
		{"unix", time.Second, 1}, {"unix_ms", time.Second, 1}, {"unix_us", time.Second, 1}, {"unix_ns", time.Second, 1},
		{"%Y-%m-%d %H:%M:%S", time.Second, time.Second},
		{"%Y-%m-%dT%H:%M:%S.%f%z", time.Second, 1},
		{"%d/%b/%Y:%I:%M:%S %p %Z", time.Second, time.Second},
		{"%A, %B %d %Y, %H:%M", time.Minute, time.Minute},
		{"%a %j %Y at %H h", time.Hour, time.Hour},
		{"%F", 24 * time.Hour, 24 * time.Hour},
		{"%s", time.Second, time.Second}, {"%s.%f", time.Second, 1},
	}
	lowest := int64(minNanos) // not a constant: their difference overflows
	for _, c := range layouts {
		l, err := ParseLayout(c.layout)
		if err != nil {
			t.Fatal(err)
		}
		if l.Unit() != c.unit {
			t.Errorf("%s: unit %s, want %s", c.layout, l.Unit(), c.unit)
		}
		for range 2000 {
			ns := int64(uint64(lowest) + r.Uint64N(uint64(maxNanos)+uint64(-lowest)))
			if r.IntN(2) == 0 {
				ns -= ns % 1e9
			}
			zone := time.UTC
			if c.finest < time.Hour && r.IntN(2) == 0 {
				zone = kolkata
			}
			ns -= ns % int64(c.finest)
			if c.layout == "%s.%f" && ns < 0 {
				ns = -ns // a sign before a fraction is the whole's
			}
			// Zones had odd offsets before they were agreed upon.
			if zone != time.UTC && ns < 0 {
				zone = time.UTC
			}
			text := l.Append(nil, event.Time(ns), zone)
			back, err := l.Parse(text, zone)
			if errors.Is(err, ErrTimeRange) {
				continue // in the zone's day before the first
			}
			if err != nil || back != event.Time(ns) {
				t.Fatalf("%s: %d is written %q and read as %d: %v", c.layout, ns, text, back, err)
			}
		}
	}
}

func TestPlace(t *testing.T) {
	s := stream(t, schema.JSON, "", "ts:timestamp@a.b#unix", "n:int64?")
	d := decoder(t, s, all(s))
	for _, c := range []struct {
		value, text string
		quoted      bool
	}{
		{`{"a":{"b":12.5}}`, `12.5`, false},
		{`{"a":{"b":"12"},"n":1}`, `"12"`, true},
		{`{"a":{"b":"12","b": 13 }}`, `13`, false},
	} {
		start, end, quoted, ok := d.Place([]byte(c.value), 0)
		if !ok || quoted != c.quoted || c.value[start:end] != c.text {
			t.Errorf("%s: %d to %d, %v, %v", c.value, start, end, quoted, ok)
		}
	}
	if _, _, _, ok := d.Place([]byte(`{"a":{"b":12}}`), 1); ok {
		t.Error("an absent field has a place")
	}
	lines := stream(t, schema.CSV, "x,ts", "ts:timestamp#unix")
	d = decoder(t, lines, all(lines))
	for value, text := range map[string]string{`1,2`: `2`, `1,"2"`: `"2"`, "\"a,\"\"\",7\r\n": `7`} {
		if start, end, _, ok := d.Place([]byte(value), 0); !ok || value[start:end] != text {
			t.Errorf("%q: %d to %d, %v", value, start, end, ok)
		}
	}
}
