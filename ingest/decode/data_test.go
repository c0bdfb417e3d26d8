package decode

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/test/published"
)

// openData opens a published file, decompressed.
func openData(t *testing.T, name string) io.Reader {
	t.Helper()
	f, err := os.Open(published.File(t, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

// comparedRows is how many rows of a file are read with encoding/csv too.
const comparedRows = 100_000

// TestFiles decodes real files whole, and compares a sum over a column of the
// first rows with what encoding/csv reads.
func TestFiles(t *testing.T) {
	for _, c := range []struct {
		file, sum string
		rows      int
		fields    []string
	}{
		{"transactions.csv.gz", "amount@TX_AMOUNT", 1_754_155, []string{"ts:timestamp@TX_DATETIME#%Y-%m-%d %H:%M:%S", "id:int64@TRANSACTION_ID", "card:string@CUSTOMER_ID",
			"terminal:string@TERMINAL_ID", "amount:decimal(2)@TX_AMOUNT", "fraud:bool@TX_FRAUD", "scenario:int64@TX_FRAUD_SCENARIO"}},
		{"ticks.csv.gz", "bid", 414_569, []string{"recv:timestamp@recv_ns#unix_ns", "event:timestamp?@event_ms#unix_ms", "trade:timestamp?@trade_ms#unix_ms", "venue:string", "symbol:string", "type:string",
			"trade_id:int64?", "price:double?", "qty:double?", "buyer_is_maker:bool?", "bid:double?", "bid_qty:double?", "ask:double?", "ask_qty:double?"}},
		{"clicks.csv.gz", "bytes", 9_999, []string{"ts:timestamp", "visitor:string", "method:string", "path:string", "status:int64", "bytes:int64?", "referrer:string?", "user_agent:string?"}},
	} {
		t.Run(c.file, func(t *testing.T) {
			rows, sum := decodeFile(t, c.file, c.sum, c.fields)
			if want := readFile(t, c.file, c.sum); rows != c.rows || sum != want {
				t.Errorf("%d rows with a sum of %v; encoding/csv has %v, the file has %d rows", rows, sum, want, c.rows)
			}
		})
	}
}

func decodeFile(t *testing.T, file, summed string, fields []string) (rows int, sum float64) {
	lines := bufio.NewScanner(openData(t, file))
	lines.Scan()
	s := stream(t, schema.CSV, lines.Text(), fields...)
	name, _, _ := strings.Cut(summed, "@")
	d, b := decoder(t, s, all(s)), batch(s, all(s))
	fail := func(r *source.Record, f Failure) { t.Fatalf("%s: %v", r.Value, f) }
	col := &b.Cols[s.Schema.Index(name)]
	var recs []source.Record
	var data []byte
	for more := true; more; {
		recs, data = recs[:0], data[:0]
		for len(recs) < 1000 && more {
			if more = lines.Scan(); more {
				at := len(data)
				data = append(data, lines.Bytes()...)
				recs = append(recs, source.Record{Value: data[at:]})
			}
		}
		b.Reset(s.Schema, all(s))
		d.Decode(b, event.Origin{}, recs, fail)
		for i := range b.Len() {
			if rows++; rows <= comparedRows && !col.IsNull(i) {
				v, err := strconv.ParseFloat(string(col.AppendText(nil, i)), 64)
				if err != nil {
					t.Fatal(err)
				}
				sum += v
			}
		}
	}
	return rows, sum
}

func readFile(t *testing.T, file, summed string) (sum float64) {
	r := csv.NewReader(bufio.NewReader(openData(t, file)))
	r.ReuseRecord = true
	header, err := r.Read()
	if err != nil {
		t.Fatal(err)
	}
	_, from, ok := strings.Cut(summed, "@")
	if !ok {
		from = summed
	}
	column := -1
	for i, name := range header {
		if name == from {
			column = i
		}
	}
	for range comparedRows {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if cells[column] != "" {
			v, err := strconv.ParseFloat(cells[column], 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += v
		}
	}
	return sum
}
