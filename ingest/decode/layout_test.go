package decode

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

func TestLayouts(t *testing.T) {
	const wrong, tooFar = "wrong", "range"
	for _, c := range []struct{ layout, text, want string }{
		{"", "2018-04-01T00:00:31Z", "2018-04-01T00:00:31Z"},
		{"rfc3339", "2018-04-01 00:00:31", "2018-04-01T00:00:31Z"},
		{"rfc3339", "2018-04-01t00:00:31.123456789z", "2018-04-01T00:00:31.123456789Z"},
		{"rfc3339", "2018-04-01T00:00:31.5+05:30", "2018-03-31T18:30:31.5Z"},
		{"rfc3339", "2018-04-01T00:00:31-00:00", "2018-04-01T00:00:31Z"},
		{"rfc3339", "2016-02-29T23:59:59Z", "2016-02-29T23:59:59Z"},
		{"rfc3339", "2018-02-29T23:59:59Z", wrong},
		{"rfc3339", "2018-04-01T00:00:60Z", wrong},
		{"rfc3339", "2018-04-01T24:00:00Z", wrong},
		{"rfc3339", "2018-13-01T00:00:00Z", wrong},
		{"rfc3339", "2018-00-01T00:00:00Z", wrong},
		{"rfc3339", "2018-04-00T00:00:00Z", wrong},
		{"rfc3339", "2018-04-01T00:00:00.Z", wrong},
		{"rfc3339", "2018-04-01T00:00:00.1234567890Z", wrong},
		{"rfc3339", "2018-04-01T00:00:00+0530", wrong},
		{"rfc3339", "2018-04-01T00:00:00+24:00", wrong},
		{"rfc3339", "2018-04-01T00:00:00+05:60", wrong},
		{"rfc3339", "2018-04-01T00:00:00Zx", wrong},
		{"rfc3339", "2018-04-01", wrong},
		{"rfc3339", "", wrong},
		{"rfc3339", "1677-12-31T23:59:59Z", tooFar},
		{"rfc3339", "1678-01-01T00:00:00Z", "1678-01-01T00:00:00Z"},
		{"rfc3339", "2261-12-31T23:59:59.999999999Z", "2261-12-31T23:59:59.999999999Z"},
		{"rfc3339", "2262-01-01T00:00:00Z", tooFar},
		{"rfc3339", "9999-01-01T00:00:00Z", tooFar},
		{"rfc3339", "0000-01-01T00:00:00Z", tooFar},
		{"unix", "1522540831", "2018-04-01T00:00:31Z"},
		{"unix", "1522540831.25", "2018-04-01T00:00:31.25Z"},
		{"unix", "1.522540831e9", "2018-04-01T00:00:31Z"},
		{"unix", "1522540831.0000000001", wrong},
		{"unix", "99999999999", tooFar},
		{"unix_ms", "1522540831001", "2018-04-01T00:00:31.001Z"},
		{"unix_us", "1522540831000001", "2018-04-01T00:00:31.000001Z"},
		{"unix_ns", "1522540831000000001", "2018-04-01T00:00:31.000000001Z"},
		{"unix_ns", "x", wrong},
		{"%Y-%m-%d %H:%M:%S", "2018-04-01 00:00:31", "2018-04-01T00:00:31Z"},
		{"%Y-%m-%d %H:%M:%S", "2018-4-1 0:0:31", "2018-04-01T00:00:31Z"},
		{"%Y-%m-%d %H:%M:%S", "2018-04-01T00:00:31", wrong},
		{"%Y-%m-%d %H:%M:%S", "2018-04-31 00:00:31", wrong},
		{"%Y-%m-%d %H:%M:%S", "2018-04-01 00:00:31Z", wrong},
		{"%F %T.%f", "2018-04-01 00:00:31.1", "2018-04-01T00:00:31.1Z"},
		{"%Y%m%d%H%M%S%f", "20180401000031123456", "2018-04-01T00:00:31.123456Z"},
		{"%d/%b/%Y:%H:%M:%S %z", "17/May/2015:10:05:03 +0000", "2015-05-17T10:05:03Z"},
		{"%d/%b/%Y:%H:%M:%S %z", "17/may/2015:10:05:03 -01:30", "2015-05-17T11:35:03Z"},
		{"%d/%b/%Y:%H:%M:%S %z", "17/Mai/2015:10:05:03 -01:30", wrong},
		{"%a, %d %B %Y %I:%M %p", "Sun, 17 May 2015 12:05 AM", "2015-05-17T00:05:00Z"},
		{"%m/%d/%y %I:%M %p", "05/17/15 12:05 pm", "2015-05-17T12:05:00Z"},
		{"%d.%m.%y", "17.05.70", "1970-05-17T00:00:00Z"},
		{"%d.%m.%y", "17.05.68", "2068-05-17T00:00:00Z"},
		{"%Y/%j", "2016/366", "2016-12-31T00:00:00Z"},
		{"%Y/%j", "2015/366", wrong},
		{"%Y/%j", "2016/060", "2016-02-29T00:00:00Z"},
		{"%s", "1522540831", "2018-04-01T00:00:31Z"},
		{"%s.%f", "-1.5", "1969-12-31T23:59:58.5Z"},
		{"%s", "99999999999", tooFar},
		{"%s", "999999999999", wrong},
		{"%Y-%m-%d %Z", "2018-04-01 UTC", "2018-04-01T00:00:00Z"},
		{"%Y-%m-%d %Z", "2018-04-01 CET", wrong},
		{"%Y-%m-%dT%H:%M%z", "2018-04-01T00:00+02", "2018-03-31T22:00:00Z"},
		{"100%% %Y-%m-%d", "100% 2018-04-01", "2018-04-01T00:00:00Z"},
	} {
		l, err := ParseLayout(c.layout)
		if err != nil {
			t.Errorf("%q: %v", c.layout, err)
			continue
		}
		got, err := l.Parse([]byte(c.text), time.UTC)
		text := got.String()
		switch {
		case errors.Is(err, ErrLayout):
			text = wrong
		case errors.Is(err, ErrTimeRange):
			text = tooFar
		case err != nil:
			t.Errorf("%q of %q: %v", c.layout, c.text, err)
		}
		if text != c.want {
			t.Errorf("%q of %q: got %s, want %s", c.layout, c.text, text, c.want)
		}
	}
}

func TestLayoutErrors(t *testing.T) {
	for layout, want := range map[string]string{
		"rfc3338":           `did you mean "rfc3339"?`,
		"yyyy-mm-dd":        "expected one of rfc3339, unix",
		"%Y-%m-%d %Q":       `unknown directive "%Q": expected one of %Y`,
		"%Y-%m-%d %":        "a single % at the end",
		"%Y-%m-%d %Y":       `"%Y" stands there twice`,
		"%m-%d":             "expected the year",
		"%Y %y %m %d":       "expected the year",
		"%Y-%m":             "expected the month",
		"%Y-%m-%d %j":       "%j is already the day",
		"%Y-%m-%d %I":       "%I and %p must stand together",
		"%Y-%m-%d %I %p %H": "both the hour",
		"%Y-%m-%d %S":       "without the larger one",
		"%s %Y":             "already a whole time",
	} {
		_, err := ParseLayout(layout)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", layout, err, want)
		}
	}
}

// TestLayoutsAgreeWithTime compares random instants with what package time
// formats and parses, in a zone with summer time too.
func TestLayoutsAgreeWithTime(t *testing.T) {
	r := seeds.Rand(t)
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skipf("no time zone data: %v", err)
	}
	east := time.FixedZone("east", 5*3600+1800)
	pairs := []struct{ layout, goLayout string }{
		{"rfc3339", time.RFC3339Nano},
		{"%Y-%m-%d %H:%M:%S.%f %z", "2006-01-02 15:04:05.000000000 -0700"},
		{"%y/%m/%d %I:%M:%S %p", "06/01/02 03:04:05 PM"},
		{"%Y-%j", "2006-002"},
		{"%d %B %Y %H:%M", "2 January 2006 15:04"},
		{"%Y-%m-%d %H:%M:%S", "2006-01-02 15:04:05"},
	}
	for range 20_000 {
		at := time.Unix(0, minNanos).Add(time.Duration(r.Int64N(maxNanos))).Add(time.Duration(r.Int64N(-minNanos)))
		for _, p := range pairs {
			for _, in := range []*time.Location{time.UTC, zone, east} {
				text := at.In(in).Format(p.goLayout)
				want, err := time.ParseInLocation(p.goLayout, text, in)
				if err != nil {
					t.Fatal(err)
				}
				if !event.InRange(want.UTC()) {
					continue
				}
				l, err := ParseLayout(p.layout)
				if err != nil {
					t.Fatal(err)
				}
				got, err := l.Parse([]byte(text), in)
				if err != nil || got != event.FromTime(want) {
					t.Fatalf("%s of %q in %v: got %v, %v, want %v", p.layout, text, in, got, err, want)
				}
			}
		}
	}
}

func TestTimeRange(t *testing.T) {
	if got := time.Date(1678, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano(); got != minNanos {
		t.Errorf("minNanos is %d, want %d", minNanos, got)
	}
	if got := time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano() - 1; got != maxNanos {
		t.Errorf("maxNanos is %d, want %d", maxNanos, got)
	}
}

// FuzzLayout looks for panics, and for times out of range.
func FuzzLayout(f *testing.F) {
	f.Add("rfc3339", "2018-04-01T00:00:31.5+05:30")
	f.Add("unix", "1522540831.25")
	f.Add("%a, %d %B %Y %I:%M:%S.%f %p %z", "Sun, 17 May 2015 12:05:01.5 AM +0200")
	f.Add("%s.%f", "-1.5")
	f.Add("%Y/%j %Z%%", "2016/366 UTC%")
	f.Fuzz(func(t *testing.T, layout, text string) {
		l, err := ParseLayout(layout)
		if err != nil {
			return
		}
		at, err := l.Parse([]byte(text), time.UTC)
		if err == nil && (int64(at) < minNanos || int64(at) > maxNanos) {
			t.Errorf("%q of %q: %v is out of range", layout, text, at)
		}
	})
}
