package infer

import (
	"hash/maphash"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
)

// trackedMax is how many different values of a column are told apart.
const trackedMax = 4 << 20

// distinctMax is how many different values of a column are counted, once one of
// them came twice.
const distinctMax = 100_000

// column is what all values of one column have in common.
type column struct {
	from    string // the name in the file
	present int64  // values that are there

	// What every value so far can be read as.
	text    bool // a string: JSON says no other type, and it is UTF-8
	number  bool // in the decoder's grammar of numbers
	int64   bool
	decimal bool // exact, with scale places
	double  bool
	truth   bool // true or false
	oneZero bool // 1 or 0
	scale   int  // the most decimal places
	ints    int  // the most digits before the point
	padded  bool // a leading zero, as in 007
	signed  bool // a leading +
	layouts []*decode.Layout
	nested  bool   // an object or array in some rows
	inside  *shape // of nested ones, what the arrays and objects are
	luhn    bool   // all look like card numbers

	unique  bool // no value came twice
	seen    map[uint64]struct{}
	tooMany bool // more than were counted
}

func newColumn(from string) *column {
	c := &column{from: from, text: true, number: true, int64: true, decimal: true, double: true, truth: true, oneZero: true, luhn: true,
		unique: true, seen: map[uint64]struct{}{}}
	c.layouts = layouts
	return c
}

// layouts are those that are recognised, the likelier first.
var layouts = mustLayouts("%Y-%m-%d %H:%M:%S", "rfc3339", "unix", "unix_ms", "unix_us", "unix_ns",
	"%Y-%m-%d", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d",
	"%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M",
	"%d/%m/%Y", "%m/%d/%Y", "%d/%b/%Y:%H:%M:%S %z", "%a, %d %b %Y %H:%M:%S %Z", "%a %b %d %H:%M:%S %Y", "%d %b %Y %H:%M:%S", "%Y-%m-%dT%H:%M:%S%z")

func mustLayouts(names ...string) []*decode.Layout {
	var out []*decode.Layout
	for _, n := range names {
		l, err := decode.ParseLayout(n)
		if err != nil { // they are part of the program
			panic(err)
		}
		out = append(out, l)
	}
	return out
}

// Times written as numbers are believed between these years only.
var (
	earliest = event.FromTime(time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC))
	latest   = event.FromTime(time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC))
)

var seed = maphash.MakeSeed()

// kind is what JSON says a value is.
type kind uint8

const (
	cellText kind = iota // of CSV
	jsonText
	jsonNumber
	jsonTruth
	jsonNested
)

// add takes a value that is there.
func (c *column) add(t []byte, k kind) {
	c.present++
	c.track(t)
	switch k {
	case jsonNested:
		c.nested = true
		return
	case jsonNumber, jsonTruth:
		c.text = false
	}
	c.text = c.text && utf8.Valid(t)
	if c.truth || c.oneZero {
		c.addTruth(string(t))
	}
	if c.number {
		c.addNumber(t)
	}
	if len(c.layouts) > 0 {
		c.addTime(t)
	}
	c.luhn = c.luhn && luhn(t)
}

func (c *column) track(t []byte) {
	if c.tooMany {
		return
	}
	h := maphash.Bytes(seed, t)
	if _, there := c.seen[h]; there {
		c.unique = false
	} else {
		c.seen[h] = struct{}{}
	}
	if n := len(c.seen); n > trackedMax || !c.unique && n > distinctMax {
		c.tooMany, c.unique, c.seen = true, false, nil
	}
}

func (c *column) addTruth(t string) {
	switch t {
	case "true", "True", "TRUE", "false", "False", "FALSE":
		c.oneZero = false
	case "1", "0":
	default:
		c.truth, c.oneZero = false, false
	}
}

// addNumber narrows down what kind of number all are.
func (c *column) addNumber(t []byte) {
	scale, ints, ok := places(t)
	if !ok {
		c.number, c.int64, c.decimal, c.double = false, false, false, false
		return
	}
	digits := strings.TrimLeft(string(t), "+-")
	c.padded = c.padded || len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9'
	c.signed = c.signed || t[0] == '+'
	c.scale, c.ints = max(c.scale, scale), max(c.ints, ints)
	if c.int64 {
		_, err := event.ParseDecimal(t, 0)
		c.int64 = err == nil && scale == 0
	}
	// At the scale of all, each must fit 64 bits; 18 digits always do.
	c.decimal = c.decimal && c.scale <= maxScale && c.scale+c.ints <= event.MaxScale
	if c.double {
		f, err := strconv.ParseFloat(string(t), 64)
		c.double = err == nil && !math.IsInf(f, 0)
	}
}

// maxScale is the most places of a decimal: more are measurements, not amounts.
const maxScale = 12

// places is how many decimal places a number has (trailing zeros count: 1.50 is
// money) and how many digits before them; ok where it is a number.
func places(t []byte) (scale, ints int, ok bool) {
	i := 0
	if i < len(t) && (t[i] == '+' || t[i] == '-') {
		i++
	}
	start := i
	for i < len(t) && t[i]-'0' <= 9 {
		i++
	}
	ints = i - start
	if i < len(t) && t[i] == '.' {
		i++
		start = i
		for i < len(t) && t[i]-'0' <= 9 {
			i++
		}
		scale = i - start
	}
	if ints+scale == 0 {
		return 0, 0, false
	}
	if i < len(t) && (t[i] == 'e' || t[i] == 'E') {
		exp, err := strconv.Atoi(string(t[i+1:]))
		if err != nil || t[i+1] == '+' && len(t) == i+2 {
			return 0, 0, false
		}
		exp = max(-1000, min(exp, 1000))
		return max(0, scale-exp), max(0, ints+exp), true
	}
	return scale, ints, i == len(t)
}

// addTime keeps the layouts that read t.
func (c *column) addTime(t []byte) {
	keep := c.layouts
	for i, l := range c.layouts {
		if readsAs(l, t) {
			continue
		}
		// The first one that does not: from here on a list of its own.
		keep = append([]*decode.Layout(nil), c.layouts[:i]...)
		for _, l := range c.layouts[i+1:] {
			if readsAs(l, t) {
				keep = append(keep, l)
			}
		}
		break
	}
	c.layouts = keep
}

func readsAs(l *decode.Layout, t []byte) bool {
	at, err := l.Parse(t, time.UTC)
	if err != nil {
		return false
	}
	if strings.HasPrefix(l.String(), "unix") {
		return at >= earliest && at < latest
	}
	return true
}

// luhn reports whether t looks like a card number: 13 to 19 digits of which the
// last checks the others (ISO/IEC 7812-1).
func luhn(t []byte) bool {
	if len(t) < 13 || len(t) > 19 {
		return false
	}
	sum := 0
	for i := range t {
		d := int(t[len(t)-1-i] - '0')
		if d > 9 || d < 0 {
			return false
		}
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}
