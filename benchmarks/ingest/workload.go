package main

import (
	"bytes"
	"fmt"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
)

// row is what every side makes of an event.
type row struct {
	ts             int64 // ns since the epoch
	card, merchant string
	amount         int64 // in hundredths
}

const amountScale = 2

// workload is records of one form and who decodes them.
type workload struct {
	name   string
	stream *schema.Stream
	recs   []source.Record
	file   []byte // the records as lines, for who reads files
	sides  []side
}

// bytesEach is the mean size of a record.
func (w *workload) bytesEach() int { return (len(w.file) - len(w.recs)) / len(w.recs) }

// tenFields are card payments; ts, card, merchant and amount are needed.
var tenFields = []string{"id:string", "ts:timestamp", "card:string", "customer:string", "terminal:string", "merchant:string", "amount:decimal(2)", "country:string", "fraud:bool", "scenario:int64"}

// fortyFields are the ten with three more after each.
func fortyFields() (fields []string) {
	for i, f := range tenFields {
		fields = append(fields, f, fmt.Sprintf("count_%d:int64", i), fmt.Sprintf("score_%d:double", i), fmt.Sprintf("note_%d:string", i))
	}
	return fields
}

func workloads(events int) ([]*workload, error) {
	var out []*workload
	for _, w := range []struct {
		name   string
		format schema.Format
		fields []string
		sides  []func(*workload) (side, error)
	}{
		{"JSON, 10 fields, 4 needed", schema.JSON, tenFields, []func(*workload) (side, error){weir, weirFour, standardJSON[fourMembers], standardJSON[tenMembers], goccyJSON[fourMembers], goccyJSON[tenMembers], valyala}},
		{"JSON, 40 fields, 4 needed", schema.JSON, fortyFields(), []func(*workload) (side, error){weir, weirFour, standardJSON[fourMembers], goccyJSON[fourMembers], valyala}},
		{"CSV, 10 fields, 4 needed", schema.CSV, tenFields, []func(*workload) (side, error){weir, weirFour, standardCSV, arrowCSV}},
	} {
		one, err := newWorkload(w.name, w.format, w.fields, events)
		if err != nil {
			return nil, err
		}
		for _, make := range w.sides {
			s, err := make(one)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", w.name, err)
			}
			one.sides = append(one.sides, s)
		}
		out = append(out, one)
	}
	return out, nil
}

func newWorkload(name string, format schema.Format, fields []string, events int) (*workload, error) {
	s := &schema.Stream{Schema: &event.Schema{Stream: "payments", Key: -1, ID: -1}, Topic: "payments", Format: format}
	for i, f := range fields {
		name, typ, _ := bytes.Cut([]byte(f), []byte{':'})
		t, err := event.ParseType(string(typ))
		if err != nil {
			return nil, err
		}
		if t.Kind == event.Timestamp {
			s.Schema.Time = i
		}
		s.Schema.Fields = append(s.Schema.Fields, event.Field{Name: string(name), Type: t})
		s.Columns = append(s.Columns, string(name))
	}
	s.Fields = make([]schema.Field, len(s.Columns))
	w := &workload{name: name, stream: s}
	for i := range events {
		value := appendRecord(nil, s, i)
		w.recs = append(w.recs, source.Record{Offset: int64(i), Value: value})
		w.file = append(append(w.file, value...), '\n')
	}
	return w, nil
}

// appendRecord writes event i as a JSON object or a line of CSV.
func appendRecord(b []byte, s *schema.Stream, i int) []byte {
	json := s.Format == schema.JSON
	for k, f := range s.Schema.Fields {
		switch {
		case json && k == 0:
			b = append(b, '{')
		case k > 0:
			b = append(b, ',')
		}
		text, quoted := value(f.Name, i), f.Type.Kind == event.String || f.Type.Kind == event.Timestamp
		switch {
		case json && quoted:
			b = fmt.Appendf(b, "%q:%q", f.Name, text)
		case json:
			b = fmt.Appendf(b, "%q:%s", f.Name, text)
		default:
			b = append(b, text...)
		}
	}
	if json {
		b = append(b, '}')
	}
	return b
}

func value(field string, i int) string {
	switch field {
	case "id":
		return fmt.Sprintf("t%08d", i)
	case "ts":
		return fmt.Sprintf("2018-04-01T%02d:%02d:%02d.%03dZ", i/3600%24, i/60%60, i%60, i%1000)
	case "card", "customer":
		return fmt.Sprint(1000 + i*7%5000)
	case "terminal":
		return fmt.Sprint(i * 13 % 10000)
	case "merchant":
		return fmt.Sprintf("merchant-%d", i%500)
	case "amount":
		return fmt.Sprintf("%d.%02d", i%300, i%100)
	case "country":
		return "FR"
	case "fraud":
		return fmt.Sprint(i%100 == 0)
	case "scenario":
		return fmt.Sprint(i % 4)
	}
	switch field[0] {
	case 'c': // count_
		return fmt.Sprint(i * len(field))
	case 's': // score_
		return fmt.Sprintf("%d.%d", i, i%1000)
	}
	return fmt.Sprintf("some text %d", i)
}
