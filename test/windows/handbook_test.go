package windows

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/test/published"
)

// transactions is transactions.csv.gz, its lines as they are, by card or terminal.
func transactions(key int) *schema.Stream {
	fields := []event.Field{
		{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
		{Name: "card", Type: event.Type{Kind: event.String}},
		{Name: "terminal", Type: event.Type{Kind: event.String}},
		{Name: "amount", Type: event.Type{Kind: event.Decimal, Scale: 2}},
		{Name: "fraud", Type: event.Type{Kind: event.Int64}},
	}
	return &schema.Stream{Topic: "transactions", Partitions: 1, Format: schema.CSV, Delimiter: ',',
		Columns: []string{"TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_TIME_SECONDS", "TX_TIME_DAYS", "TX_FRAUD", "TX_FRAUD_SCENARIO"},
		Fields: []schema.Field{{From: "TX_DATETIME", Layout: "%Y-%m-%d %H:%M:%S"}, {From: "CUSTOMER_ID"}, {From: "TERMINAL_ID"},
			{From: "TX_AMOUNT"}, {From: "TX_FRAUD"}},
		Schema: &event.Schema{Stream: "transactions", Alias: "tx", Fields: fields, Time: 0, Key: key, ID: -1}}
}

// The file's rows, and, as days since its first, the first of the handbook's training
// week and its test week, 2018-08-08 to 14.
const (
	handbookRows        = 1_754_155
	trainFirst          = 115
	testFirst, testLast = 129, 135
	testRows            = 58_264
)

// tested are the ids of the rows that the handbook tests on, in order: those of the
// test week but for customers of whom a fraud is known by then, which takes eight
// days. Frauds before the training week are not counted.
func tested(t *testing.T) []int {
	known := map[string]int{} // customers' first day with a fraud
	var ids []int
	lines(t, "transactions.csv.gz", func(line []byte) bool {
		f := bytes.Split(line, []byte(","))
		d, err := strconv.Atoi(string(f[6]))
		if err != nil {
			t.Fatal(err)
		}
		customer := string(f[2])
		first, fraud := known[customer]
		if !fraud && d >= trainFirst && string(f[7]) == "1" {
			known[customer] = d
		}
		if testFirst <= d && d <= testLast && !(fraud && first <= d-8) {
			id, err := strconv.Atoi(string(f[0]))
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		return d <= testLast
	})
	slices.Sort(ids)
	return ids
}

// past is one row of the file, read by hand: seconds since the file's first day, and
// cents, or 1 for a fraud.
type past struct {
	at, value int64
	truth     []float64 // the authors' features of the row, nil outside the test week
}

const day = 24 * 3600

// spans are the lengths of the handbook's windows.
var spans = []int64{1 * day, 7 * day, 30 * day}

// scratch is the number and the sum of the rows up to now with a time in
// (end-span, end] for each span, from the newest row back.
func scratch(rows []past, end int64) (n, sum [3]int64) {
	for i := len(rows) - 1; i >= 0 && rows[i].at > end-spans[2]; i-- {
		if rows[i].at > end {
			continue
		}
		for w, span := range spans {
			if rows[i].at > end-span {
				n[w]++
				sum[w] += rows[i].value
			}
		}
	}
	return n, sum
}

// side is the windows by one key, beside their recomputation.
type side struct {
	name    string
	column  int // of the file: the key
	value   func(f [][]byte) []byte
	scale   float64 // of the value: 100 for cents
	delay   int64
	inputs  int // the first of the six features among the authors'
	pass    *pass
	keys    []string // of the batch at hand
	rows    []past   // likewise
	held    map[string][]past
	checked int
	known   int           // rows compared with the authors' features, too
	counted int64         // events in all windows
	wrong   int           // values
	took    time.Duration // by the recomputation
}

func (s *side) line(t *testing.T, f [][]byte, line []byte, truth []float64) {
	key := f[s.column]
	if tenth && key[len(key)-1] != '0' {
		return
	}
	at, err := strconv.ParseInt(string(f[5]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	value, err := strconv.ParseInt(string(s.value(f)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	s.keys = append(s.keys, string(key))
	s.rows = append(s.rows, past{at, value, truth})
	s.pass.line(line)
}

func (s *side) differs(t *testing.T, format string, args ...any) {
	if s.wrong++; s.wrong < 10 {
		t.Errorf(s.name+": "+format, args...)
	}
}

func (s *side) check(t *testing.T, out *cep.Outbox) {
	start := time.Now()
	for i, r := range s.rows {
		rows := append(s.held[s.keys[i]], r)
		s.held[s.keys[i]] = rows
		n, sum := scratch(rows, r.at-s.delay)
		for w := range spans {
			want := 0.0
			if n[w] > 0 {
				want = float64(sum[w]) / (s.scale * float64(n[w])) // both exact: the nearest double
			}
			count, mean := &out.Features[2*w], &out.Features[2*w+1]
			got := 0.0 // the handbook's risk of no transactions
			if !mean.IsNull(i) {
				got = mean.Double[i]
			}
			if count.Int64[i] != n[w] || got != want || mean.IsNull(i) != (n[w] == 0) {
				s.differs(t, "row %d, key %s, %d days: count %d, mean %v (absent: %v); expected %d, %v",
					s.checked+i, s.keys[i], spans[w]/day, count.Int64[i], got, mean.IsNull(i), n[w], want)
			}
			if r.truth != nil && !(near(float64(n[w]), r.truth[s.inputs+2*w]) && near(got, r.truth[s.inputs+2*w+1])) {
				s.differs(t, "row %d, key %s, %d days: %v and %v; the authors have %v", s.checked+i, s.keys[i], spans[w]/day, n[w], got, r.truth[s.inputs+2*w:][:2])
			}
			s.counted += n[w]
		}
		if r.truth != nil {
			s.known++
		}
	}
	s.checked += len(s.rows)
	s.rows, s.keys = s.rows[:0], s.keys[:0]
	s.took += time.Since(start)
}

// near allows for what the authors' file lost: its features are scaled, in single
// precision with nine digits.
func near(got, truth float64) bool { return math.Abs(got-truth) <= 2e-5+2e-7*math.Abs(truth) }

// authors are the features that the handbook's authors give for each row that it
// tests on, by id: the inputs of their model without their scaling.
func authors(t *testing.T) map[string][]float64 {
	text, err := os.ReadFile(published.File(t, "models/handbook_lr_baseline.json"))
	if err != nil {
		t.Fatal(err)
	}
	var scaler struct{ Mean, Scale []float64 }
	if err := json.Unmarshal(text, &scaler); err != nil {
		t.Fatal(err)
	}
	ids := tested(t)
	if len(ids) != testRows {
		t.Fatalf("%d rows to test on, expected %d", len(ids), testRows)
	}
	out := map[string][]float64{}
	allLines(t, "models/reference_predictions.csv.gz", func(line []byte) bool {
		f := bytes.Split(line, []byte(","))
		row := make([]float64, len(scaler.Mean))
		for i := range row {
			v, err := strconv.ParseFloat(string(f[i]), 64)
			if err != nil {
				t.Fatal(err)
			}
			row[i] = v*scaler.Scale[i] + scaler.Mean[i]
		}
		out[strconv.Itoa(ids[len(out)])] = row
		return len(out) < len(ids)
	})
	if len(out) != testRows {
		t.Fatalf("%d rows of the authors' features, expected %d", len(out), testRows)
	}
	return out
}

// sides are the handbook's six features of customers and its six of terminals.
func sides(t *testing.T) []*side {
	both := []*side{
		{name: "customers", column: 2, value: func(f [][]byte) []byte { return cents(f[4]) }, scale: 100, inputs: 3},
		{name: "terminals", column: 3, value: func(f [][]byte) []byte { return f[7] }, scale: 1, delay: 7 * day, inputs: 9},
	}
	for i, s := range both {
		var windows []string
		for _, span := range spans {
			days := span / day
			if i == 0 {
				windows = append(windows, fmt.Sprintf(`last("%dd").by(tx.card).count()`, days),
					fmt.Sprintf(`last("%dd").by(tx.card).mean(tx.amount)`, days))
			} else {
				windows = append(windows, fmt.Sprintf(`last("%dd").by(tx.terminal).delay("7d").count()`, days),
					fmt.Sprintf(`last("%dd").by(tx.terminal).delay("7d").mean(tx.fraud)`, days))
			}
		}
		s.held = map[string][]past{}
		s.pass = newPass(t, transactions(1+i), windows...)
		s.pass.each = func(out *cep.Outbox) { s.check(t, out) }
	}
	return both
}

// TestHandbookFeatures: the handbook's six features of customers and six of
// terminals are those that a plain recomputation gives, for each of its
// transactions, and in the test week those that its authors computed.
func TestHandbookFeatures(t *testing.T) {
	truth := authors(t)
	both := sides(t)
	rows, known := 0, 0
	began := time.Now()
	lines(t, "transactions.csv.gz", func(line []byte) bool {
		f := bytes.Split(line, []byte(","))
		row := truth[string(f[0])]
		if row != nil {
			known++
			if amount, _ := strconv.ParseFloat(string(f[4]), 64); !near(amount, row[0]) {
				t.Fatalf("row %d has the amount %v, and %v with the authors", rows, amount, row[0])
			}
		}
		for _, s := range both {
			s.line(t, f, line, row)
		}
		rows++
		return true
	})
	for _, s := range both {
		s.pass.flush()
	}
	took := time.Since(began)
	if rows != handbookRows || known != testRows {
		t.Errorf("%d rows, %d of them in the test week; expected %d, %d", rows, known, handbookRows, testRows)
	}
	for _, s := range both {
		if !tenth && (s.checked != handbookRows || s.known != testRows) || s.known == 0 {
			t.Errorf("%s: %d rows compared, %d with the authors' features", s.name, s.checked, s.known)
		}
		if s.wrong > 0 || s.counted == 0 {
			t.Errorf("%s: %d values of %d rows differ, windows of %d events in all", s.name, s.wrong, s.checked, s.counted)
		}
		took -= s.took
		t.Logf("%s: %d rows (%d with the authors' features), 6 windows; the operator took %v and holds %s; the recomputation took %v",
			s.name, s.checked, s.known, s.pass.operators.Round(time.Millisecond), s.pass.held(), s.took.Round(time.Millisecond))
	}
	t.Logf("one pass for both, reading and decoding included: %v; %s", took.Round(time.Millisecond), memory())
}

// cents is an amount of the file, which has at most two decimals, in cents.
func cents(amount []byte) []byte {
	whole, frac, _ := bytes.Cut(amount, []byte("."))
	return append(append(make([]byte, 0, 16), whole...), append(frac, "00"...)[:2]...)
}
