package decode

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	goccy "github.com/goccy/go-json"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
)

// tenFields are transactions as the demo writes them, of which rules need four.
var tenFields = []string{"id:string", "ts:timestamp", "card:string", "customer:string", "terminal:string", "merchant:string", "amount:decimal(2)", "country:string", "fraud:bool", "scenario:int64"}

var neededOfTen = []int{1, 2, 5, 6} // ts, card, merchant, amount

func tenFieldRecords(n int) []source.Record {
	recs := make([]source.Record, n)
	for i := range recs {
		recs[i].Offset = int64(i)
		recs[i].Value = fmt.Appendf(nil, `{"id":"t%08d","ts":"2018-04-01T%02d:%02d:%02d.%03dZ","card":"%d","customer":"%d","terminal":"%d","merchant":"merchant-%d","amount":%d.%02d,"country":"FR","fraud":%v,"scenario":%d}`,
			i, i/3600%24, i/60%60, i%60, i%1000, 1000+i*7%5000, 1000+i*7%5000, i*13%10000, i%500, i%300, i%100, i%100 == 0, i%4)
	}
	return recs
}

func report(b *testing.B, recs []source.Record) {
	bytes := 0
	for i := range recs {
		bytes += len(recs[i].Value)
	}
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	events := float64(len(recs)) * float64(b.N)
	b.ReportMetric(events/b.Elapsed().Seconds()/1e6, "Mevents/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/events, "ns/event")
}

func benchmarkDecode(b *testing.B, s *schema.Stream, project []int, recs []source.Record) {
	d := decoder(b, s, project)
	dst := batch(s, project)
	fail := func(r *source.Record, f Failure) { b.Fatalf("%s: %v", r.Value, f) }
	b.ReportAllocs()
	for b.Loop() {
		dst.Reset(s.Schema, project)
		d.Decode(dst, event.Origin{Topic: "t"}, recs, fail)
	}
	report(b, recs)
}

func BenchmarkJSON10Fields4Needed(b *testing.B) {
	s := stream(b, schema.JSON, "", tenFields...)
	benchmarkDecode(b, s, neededOfTen, tenFieldRecords(1000))
}

func BenchmarkJSON10FieldsAllNeeded(b *testing.B) {
	s := stream(b, schema.JSON, "", tenFields...)
	benchmarkDecode(b, s, all(s), tenFieldRecords(1000))
}

// Only four fields are declared; the others are unknown members.
func BenchmarkJSON10Members4Declared(b *testing.B) {
	s := stream(b, schema.JSON, "", tenFields[1], tenFields[2], tenFields[5], tenFields[6])
	benchmarkDecode(b, s, all(s), tenFieldRecords(1000))
}

func BenchmarkJSON40Fields4Needed(b *testing.B) {
	var fields []string
	for i := range 40 {
		fields = append(fields, fmt.Sprintf("field_%d:%s", i, []string{"int64", "string", "double", "decimal(2)"}[i%4]))
	}
	fields[0] = "field_0:timestamp#unix"
	recs := make([]source.Record, 1000)
	for i := range recs {
		var v []byte
		for k := range fields {
			sep := byte(',')
			if k == 0 {
				sep = '{'
			}
			v = append(v, sep)
			switch k % 4 {
			case 0:
				v = fmt.Appendf(v, `"field_%d":%d`, k, i*k)
			case 1:
				v = fmt.Appendf(v, `"field_%d":"some text %d"`, k, i)
			case 2:
				v = fmt.Appendf(v, `"field_%d":%d.%d`, k, i, k)
			case 3:
				v = fmt.Appendf(v, `"field_%d":"%d.%02d"`, k, i, k)
			}
		}
		recs[i].Value = append(v, '}')
	}
	s := stream(b, schema.JSON, "", fields...)
	benchmarkDecode(b, s, []int{0, 1, 2, 3}, recs)
}

func csvRecords(recs []source.Record) []source.Record {
	out := make([]source.Record, len(recs))
	for i := range recs {
		var m map[string]any
		dec := json.NewDecoder(bytes.NewReader(recs[i].Value))
		dec.UseNumber()
		if err := dec.Decode(&m); err != nil {
			panic(err)
		}
		var cells []string
		for _, f := range tenFields {
			name, _, _ := strings.Cut(f, ":")
			cells = append(cells, fmt.Sprint(m[name]))
		}
		out[i].Value = []byte(strings.Join(cells, ","))
	}
	return out
}

const csvColumns = "id,ts,card,customer,terminal,merchant,amount,country,fraud,scenario"

func BenchmarkCSV10Fields4Needed(b *testing.B) {
	s := stream(b, schema.CSV, csvColumns, tenFields...)
	benchmarkDecode(b, s, neededOfTen, csvRecords(tenFieldRecords(1000)))
}

// The peers do less: they check the same fields' types, but build rows of Go
// values, not columns, and leave times and decimals as text.

type tenStruct struct {
	ID, TS, Card, Customer, Terminal, Merchant, Country string
	Amount                                              json.Number
	Fraud                                               bool
	Scenario                                            int64
}

func BenchmarkPeerEncodingJSON(b *testing.B) {
	recs := tenFieldRecords(1000)
	b.ReportAllocs()
	for b.Loop() {
		for i := range recs {
			var v tenStruct
			if err := json.Unmarshal(recs[i].Value, &v); err != nil {
				b.Fatal(err)
			}
		}
	}
	report(b, recs)
}

func BenchmarkPeerGoccyJSON(b *testing.B) {
	recs := tenFieldRecords(1000)
	b.ReportAllocs()
	for b.Loop() {
		for i := range recs {
			var v tenStruct
			if err := goccy.Unmarshal(recs[i].Value, &v); err != nil {
				b.Fatal(err)
			}
		}
	}
	report(b, recs)
}

func BenchmarkPeerEncodingCSV(b *testing.B) {
	recs := csvRecords(tenFieldRecords(1000))
	var file []byte
	for i := range recs {
		file = append(append(file, recs[i].Value...), '\n')
	}
	b.ReportAllocs()
	for b.Loop() {
		r := csv.NewReader(bytes.NewReader(file))
		r.ReuseRecord = true
		for {
			cells, err := r.Read()
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			if _, err := strconv.ParseFloat(cells[6], 64); err != nil {
				b.Fatal(err)
			}
		}
	}
	report(b, recs)
}
