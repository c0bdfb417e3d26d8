package windows

import (
	"bytes"
	"cmp"
	"database/sql"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/rules"
	"github.com/weirstream/weir/test/published"
)

// The file's rows.
const tickRows = 414_569

// ticks is ticks.csv.gz by symbol, its lines as they are but for the first column.
func ticks() *schema.Stream {
	fields := []event.Field{
		{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
		{Name: "venue", Type: event.Type{Kind: event.String}},
		{Name: "symbol", Type: event.Type{Kind: event.String}},
		{Name: "type", Type: event.Type{Kind: event.String}},
		{Name: "price", Type: event.Type{Kind: event.Decimal, Scale: 2}, Optional: true},
		{Name: "qty", Type: event.Type{Kind: event.Decimal, Scale: 5}, Optional: true},
	}
	return &schema.Stream{Topic: "ticks", Partitions: 1, Format: schema.CSV, Delimiter: ',',
		Columns: []string{"recv_ns", "event_ms", "trade_ms", "venue", "symbol", "type", "trade_id", "price", "qty", "buyer_is_maker", "bid", "bid_qty", "ask", "ask_qty"},
		Fields:  []schema.Field{{From: "recv_ns", Layout: "unix_ns"}, {From: "venue"}, {From: "symbol"}, {From: "type"}, {From: "price"}, {From: "qty"}},
		Schema:  &event.Schema{Stream: "ticks", Alias: "tick", Fields: fields, Time: 0, Key: 2, ID: -1}}
}

// tickSpans are the lengths of the windows, as fromScratch has them.
var tickSpans = []string{"1s", "1m"}

// fromScratch answers for each tick, and for each length, from the trades of its
// market with a time in (t - length, t], those at t up to the tick itself: how many
// they are, and exactly, in cents and units of 10^-5, the sums of price, price^2,
// price * quantity and quantity; by the file's clock also the mean, the standard
// deviation and the VWAP as one would write them, in doubles.
//
// Time and row are one integer, t*2^19 + row, so that a frame over it ends at the
// row itself among equal times; $base keeps it within 64 bits.
const fromScratch = `
WITH lines AS (
  SELECT row_number() OVER () AS line, * FROM read_csv($file, header = true, all_varchar = true)
), ticks AS (
  SELECT row_number() OVER (ORDER BY recv_ns::BIGINT, line) - 1 AS row, venue, symbol,
    recv_ns::BIGINT // $clock::BIGINT * $clock::BIGINT - $base::BIGINT AS t,
    (price::DECIMAL(18, 2) * 100)::BIGINT AS cents, (qty::DECIMAL(18, 5) * 100000)::BIGINT AS units,
    price::DOUBLE AS price, qty::DOUBLE AS qty
  FROM lines WHERE $every OR venue = 'cm' AND symbol = 'ETHUSD_PERP'
)
SELECT
  COLUMNS
FROM ticks
WINDOW
  w0 AS (PARTITION BY venue, symbol ORDER BY t * 524288 + row RANGE BETWEEN (1000000000::BIGINT - 1) * 524288 + row PRECEDING AND CURRENT ROW),
  w1 AS (PARTITION BY venue, symbol ORDER BY t * 524288 + row RANGE BETWEEN (60000000000::BIGINT - 1) * 524288 + row PRECEDING AND CURRENT ROW)
ORDER BY row`

const (
	exactColumns = `count(cents) OVER WIN, sum(cents) OVER WIN, sum(cents * cents) OVER WIN, sum(cents * units) OVER WIN, sum(units) OVER WIN`
	plainColumns = `avg(price) OVER WIN, stddev_samp(price) OVER WIN, sum(price * qty) OVER WIN / sum(qty) OVER WIN`
	noColumns    = `NULL::DOUBLE, NULL::DOUBLE, NULL::DOUBLE`
)

// tickBase is before the first tick.
const tickBase = 1_723_161_254_000_000_000

// moving is what a window of trades comes to; NaN where there is no value.
type moving struct {
	n              int64
	mean, sd, vwap float64    // the doubles nearest to the true values
	plain          [3]float64 // as plain SQL has them, where it was asked
}

// sums are exact, in cents and units.
type sums struct{ cents, squares, products, units *big.Int }

// rounded is x/y, or its square root, rounded once.
func rounded(x, y *big.Int, root bool) float64 {
	const bits = 256 // nothing here needs as many
	q := new(big.Float).SetPrec(bits).SetInt(x)
	q.Quo(q, new(big.Float).SetPrec(bits).SetInt(y))
	if root {
		q.Sqrt(q)
	}
	v, _ := q.Float64()
	return v
}

func (m *moving) settle(s *sums) {
	m.mean, m.sd, m.vwap = math.NaN(), math.NaN(), math.NaN()
	if m.n == 0 {
		return
	}
	n := big.NewInt(m.n)
	m.mean = rounded(s.cents, new(big.Int).Mul(n, big.NewInt(100)), false)
	m.vwap = rounded(s.products, new(big.Int).Mul(s.units, big.NewInt(100)), false)
	if m.n > 1 {
		d := new(big.Int).Mul(n, s.squares)
		d.Sub(d, new(big.Int).Mul(s.cents, s.cents))
		m.sd = rounded(d, big.NewInt(10_000*m.n*(m.n-1)), true)
	}
}

// compute runs fromScratch for a clock that ticks every so many nanoseconds.
func compute(t *testing.T, file string, clock int64) [][2]moving {
	t.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	plain := noColumns
	if clock == 1 {
		plain = plainColumns
	}
	var columns []string
	for i := range tickSpans {
		columns = append(columns, strings.ReplaceAll(exactColumns+", "+plain, "WIN", "w"+strconv.Itoa(i)))
	}
	text := strings.Replace(fromScratch, "COLUMNS", strings.Join(columns, ",\n  "), 1)
	rows, err := db.QueryContext(t.Context(), text, sql.Named("file", file), sql.Named("clock", clock), sql.Named("base", int64(tickBase)), sql.Named("every", !tenth))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out [][2]moving
	for rows.Next() {
		var row [2]moving
		var exact [2]sums
		var plain [2][3]sql.NullFloat64
		var into []any
		for i := range row {
			s, p := &exact[i], &plain[i]
			into = append(into, &row[i].n, &s.cents, &s.squares, &s.products, &s.units, &p[0], &p[1], &p[2])
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		for i := range row {
			row[i].settle(&exact[i])
			for j, p := range plain[i] {
				row[i].plain[j] = math.NaN()
				if p.Valid {
					row[i].plain[j] = p.Float64
				}
			}
		}
		out = append(out, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// feed is the file's ticks as they came in: the markets, which stand one after the
// other in the file, merged by time.
func feed(t *testing.T) [][]byte {
	t.Helper()
	type tick struct {
		at   int64
		line []byte
	}
	var all []tick
	lines(t, "ticks.csv.gz", func(line []byte) bool {
		if tenth && !bytes.Contains(line, []byte("cm,ETHUSD_PERP,")) {
			return true
		}
		digits, _, _ := bytes.Cut(line, []byte(","))
		at, err := strconv.ParseInt(string(digits), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, tick{at, bytes.Clone(line)})
		return true
	})
	slices.SortStableFunc(all, func(a, b tick) int { return cmp.Compare(a.at, b.at) })
	out := make([][]byte, len(all))
	for i, one := range all {
		out[i] = one.line
	}
	return out
}

// tickRules name the windows, which are features in this order, and tell the VWAP of
// windows with a trade in their messages.
func tickRules() rules.Set {
	var set rules.Set
	for i, span := range tickSpans {
		last := fmt.Sprintf(`last("%s").by(tick.venue, tick.symbol).where(tick.type == "trade")`, span)
		set = append(set,
			rules.Rule{ID: fmt.Sprint("mean-", i), When: last + ".mean(tick.price).hasValue()"},
			rules.Rule{ID: fmt.Sprint("stddev-", i), When: last + ".stddev(tick.price).hasValue()"},
			rules.Rule{ID: vwapRule + strconv.Itoa(i), When: last + ".count() > 0",
				Message: fmt.Sprintf("string(%s.sum(tick.price * tick.qty) / %[1]s.sum(tick.qty))", last)})
	}
	for i := range set {
		set[i].Stream, set[i].Action, set[i].Mode = "ticks", "alert", "live"
	}
	return set
}

const vwapRule = "vwap-"

// ulps is how many doubles lie between two of equal sign.
func ulps(a, b float64) int64 {
	d := int64(math.Float64bits(a)) - int64(math.Float64bits(b))
	return max(d, -d)
}

// tickCheck compares a pass with what was computed.
type tickCheck struct {
	t      *testing.T
	want   [][2]moving
	row    int
	first  int // of the batch that found sees
	vwaps  int // VWAPs that rules told
	due    int // and that there are
	wrong  int
	far    [3]int64   // the most ulps from the true mean, standard deviation, VWAP
	plains int        // values that plain SQL has, too
	plain  [3]float64 // the greatest relative distance from plain SQL
}

func (c *tickCheck) differs(format string, args ...any) {
	if c.wrong++; c.wrong < 10 {
		c.t.Errorf(format, args...)
	}
}

// The mean is the double nearest to the true one, as its sum and divisor are below
// 2^53. The standard deviation is rounded after the exact difference of squares,
// after its division and after the root; the VWAP after each sum and the division.
var mostUlps = [3]int64{0, 1, 2}

// same compares a value with the true one, NaN where there is none.
func (c *tickCheck) same(what, i, row int, got float64, want *moving) {
	names := [3]string{"mean", "stddev", "VWAP"}
	exact := [3]float64{want.mean, want.sd, want.vwap}[what]
	sql := want.plain[what]
	if math.IsNaN(got) || math.IsNaN(exact) {
		if math.IsNaN(got) != math.IsNaN(exact) || !math.IsNaN(sql) {
			c.differs("row %d, %s: %s %v, expected %v (plain SQL %v)", row, tickSpans[i], names[what], got, exact, sql)
		}
		return
	}
	d := ulps(got, exact)
	c.far[what] = max(c.far[what], d)
	var plain float64
	if !math.IsNaN(sql) {
		plain = math.Abs(got-sql) / max(1, math.Abs(got))
		c.plains++
	}
	c.plain[what] = max(c.plain[what], plain)
	if d > mostUlps[what] || plain > 1e-7 {
		c.differs("row %d, %s: %s %v, expected %v (%d ulps away; plain SQL %v)", row, tickSpans[i], names[what], got, exact, d, sql)
	}
}

// slots of the features of a length: those of tickRules.
const (
	meanSlot, sdSlot, countSlot = 0, 1, 2
	tickSlots                   = 5
)

func (c *tickCheck) features(out *cep.Outbox) {
	c.first = c.row
	value := func(slot, i int) float64 {
		if f := &out.Features[slot]; !f.IsNull(i) {
			return f.Double[i]
		}
		return math.NaN()
	}
	for i := range out.Late {
		if c.row >= len(c.want) {
			c.t.Fatalf("more than the %d rows that SQL has", len(c.want))
		}
		for w := range tickSpans {
			want := &c.want[c.row][w]
			if got := out.Features[w*tickSlots+countSlot].Int64[i]; got != want.n {
				c.differs("row %d, %s: %d trades, expected %d", c.row, tickSpans[w], got, want.n)
			}
			c.same(0, w, c.row, value(w*tickSlots+meanSlot, i), want)
			c.same(1, w, c.row, value(w*tickSlots+sdSlot, i), want)
			if want.n > 0 {
				c.due++
			}
		}
		c.row++
	}
}

func (c *tickCheck) found(found []engine.Finding) {
	for _, f := range found {
		for i := range tickSpans {
			if f.Rule != vwapRule+strconv.Itoa(i) {
				continue
			}
			got, err := strconv.ParseFloat(f.Message, 64)
			if err != nil {
				c.t.Fatalf("row %d: %v", c.first+f.Row, err)
			}
			c.vwaps++
			c.same(2, i, c.first+f.Row, got, &c.want[c.first+f.Row][i])
		}
	}
}

// TestTicks: the moving mean, standard deviation and VWAP of a second and of a minute
// of each market, at each of the published ticks, trades and quotes, are those that
// SQL computes from scratch; by the file's clock, and by one of a millisecond, by
// which many ticks have one time and the order of the log decides.
func TestTicks(t *testing.T) {
	file := published.File(t, "ticks.csv.gz")
	ticked := feed(t)
	for _, clock := range []int64{1, 1_000_000} {
		t.Run(time.Duration(clock).String(), func(t *testing.T) {
			start := time.Now()
			c := &tickCheck{t: t, want: compute(t, file, clock)}
			computed := time.Since(start)
			p := newPassOf(t, ticks(), tickRules())
			p.each, p.found = c.features, c.found
			var line []byte
			for _, tick := range ticked {
				digits, rest, _ := bytes.Cut(tick, []byte(","))
				at, _ := strconv.ParseInt(string(digits), 10, 64)
				line = append(strconv.AppendInt(line[:0], at/clock*clock, 10), ',')
				p.line(append(line, rest...))
			}
			p.flush()
			if want := len(ticked); c.row != want || len(c.want) != want || !tenth && want != tickRows {
				t.Errorf("%d ticks of %d, %d with SQL", c.row, want, len(c.want))
			}
			if c.vwaps != c.due || c.due == 0 || clock == 1 && c.plains < 2*c.due {
				t.Errorf("%d VWAPs, expected %d; %d values by plain SQL", c.vwaps, c.due, c.plains)
			}
			if c.wrong > 0 {
				t.Errorf("%d values differ", c.wrong)
			}
			t.Logf("%d ticks, %d VWAPs; at most %v ulps from the true mean, stddev, VWAP, and %.1g from plain SQL; SQL took %v, the operators %v and hold %s",
				c.row, c.vwaps, c.far, c.plain, computed.Round(time.Millisecond), p.operators.Round(time.Millisecond), p.held())
		})
	}
}
