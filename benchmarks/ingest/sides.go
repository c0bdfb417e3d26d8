package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
	"unsafe"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	arrowcsv "github.com/apache/arrow-go/v18/arrow/csv"
	goccy "github.com/goccy/go-json"
	"github.com/valyala/fastjson"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
)

// side is one decoder on one workload.
type side struct {
	name string
	less string // what it does less than Weir, or otherwise
	// run decodes all records once and keeps the result until the next time.
	run func() error
	// rows is the last result.
	rows func() []row
}

// weir decodes as the engine does: columns out of a chunk of records, every
// declared field checked.
func weir(w *workload) (side, error) {
	return columns(w, w.stream, "weir ingest/decode", "typed columns; the types of all declared fields checked")
}

// weirFour declares the four needed fields only, which is what most peers do.
func weirFour(w *workload) (side, error) {
	declared, whole := *w.stream, w.stream.Schema
	declared.Schema = &event.Schema{Stream: whole.Stream, Key: -1, ID: -1}
	for _, f := range whole.Fields {
		if slices.Contains(needed, f.Name) {
			declared.Schema.Fields = append(declared.Schema.Fields, f)
		}
	}
	declared.Schema.Time = declared.Schema.Index("ts")
	declared.Fields = make([]schema.Field, len(declared.Schema.Fields))
	return columns(w, &declared, "weir ingest/decode, 4 declared", "typed columns; the other fields are not checked for type")
}

var needed = []string{"ts", "card", "merchant", "amount"}

func columns(w *workload, s *schema.Stream, name, less string) (side, error) {
	var project []int
	for _, f := range needed {
		project = append(project, s.Schema.Index(f))
	}
	d, err := decode.New(s, project, decode.Options{})
	if err != nil {
		return side{}, err
	}
	var dst event.Batch
	var failed error
	bad := func(r *source.Record, f decode.Failure) { failed = fmt.Errorf("offset %d: %w", r.Offset, f) }
	run := func() error {
		dst.Reset(s.Schema, project)
		d.Decode(&dst, event.Origin{Topic: s.Topic}, w.recs, bad)
		return failed
	}
	rows := func() (out []row) {
		for i := range dst.Len() {
			out = append(out, row{dst.Cols[project[0]].Int64[i], string(dst.Cols[project[1]].Bytes(i)), string(dst.Cols[project[2]].Bytes(i)), dst.Cols[project[3]].Int64[i]})
		}
		return out
	}
	return side{name, less, run, rows}, nil
}

// The rows that structs are decoded into.
type (
	fourMembers struct {
		TS       string      `json:"ts"`
		Card     string      `json:"card"`
		Merchant string      `json:"merchant"`
		Amount   json.Number `json:"amount"`
	}
	tenMembers struct {
		fourMembers
		ID       string `json:"id"`
		Customer string `json:"customer"`
		Terminal string `json:"terminal"`
		Country  string `json:"country"`
		Fraud    bool   `json:"fraud"`
		Scenario int64  `json:"scenario"`
	}
)

func (m fourMembers) four() fourMembers { return m }

type members interface{ four() fourMembers }

func says[T members]() (fields, less string) {
	if _, all := any(*new(T)).(tenMembers); all {
		return "10-field struct", "rows of structs"
	}
	return "4-field struct", "rows of structs; the other fields are not checked for type"
}

func standardJSON[T members](w *workload) (side, error) {
	fields, less := says[T]()
	return structs[T](w, "encoding/json, "+fields, less, json.Unmarshal), nil
}

func goccyJSON[T members](w *workload) (side, error) {
	fields, less := says[T]()
	return structs[T](w, "goccy/go-json, "+fields, less, func(b []byte, v any) error { return goccy.Unmarshal(b, v) }), nil
}

func structs[T members](w *workload, name, less string, unmarshal func([]byte, any) error) side {
	var out []row
	run := func() error {
		out = out[:0]
		for i := range w.recs {
			var v T
			if err := unmarshal(w.recs[i].Value, &v); err != nil {
				return err
			}
			m := v.four()
			r, err := convert(m.TS, m.Card, m.Merchant, string(m.Amount))
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return nil
	}
	return side{name, less, run, func() []row { return out }}
}

// convert makes the typed values of texts, as a user of a library would; exact
// decimals are Weir's own, since the standard library has none.
func convert(ts, card, merchant, amount string) (row, error) {
	at, err := time.Parse(time.RFC3339Nano, ts)
	if err != nil {
		return row{}, err
	}
	hundredths, err := event.ParseDecimal(view(amount), amountScale)
	return row{at.UnixNano(), card, merchant, hundredths}, err
}

func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// valyala uses one parser again and again and keeps texts in one buffer, as
// columns do: no allocation per event.
func valyala(w *workload) (side, error) {
	type place struct {
		ts, amount    int64
		card, endCard int
		endMerchant   int
	}
	var p fastjson.Parser
	var places []place
	var texts, number []byte
	run := func() error {
		places, texts = places[:0], texts[:0]
		for i := range w.recs {
			v, err := p.ParseBytes(w.recs[i].Value)
			if err != nil {
				return err
			}
			amount := v.Get("amount")
			if amount == nil || amount.Type() != fastjson.TypeNumber {
				return errors.New("amount is no number")
			}
			number = amount.MarshalTo(number[:0])
			r, err := convert(textOf(v.GetStringBytes("ts")), "", "", textOf(number))
			if err != nil {
				return err
			}
			one := place{ts: r.ts, amount: r.amount, card: len(texts)}
			texts = append(texts, v.GetStringBytes("card")...)
			one.endCard = len(texts)
			texts = append(texts, v.GetStringBytes("merchant")...)
			one.endMerchant = len(texts)
			places = append(places, one)
		}
		return nil
	}
	rows := func() (out []row) {
		for _, q := range places {
			out = append(out, row{q.ts, string(texts[q.card:q.endCard]), string(texts[q.endCard:q.endMerchant]), q.amount})
		}
		return out
	}
	return side{"valyala/fastjson, parser reused", "the other fields are not checked for type; UTF-8 not checked", run, rows}, nil
}

func standardCSV(w *workload) (side, error) {
	var out []row
	columns := w.stream.Schema
	ts, card, merchant, amount := columns.Index("ts"), columns.Index("card"), columns.Index("merchant"), columns.Index("amount")
	run := func() error {
		out = out[:0]
		r := csv.NewReader(bytes.NewReader(w.file))
		r.ReuseRecord = true
		for {
			cells, err := r.Read()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			one, err := convert(cells[ts], cells[card], cells[merchant], cells[amount])
			if err != nil {
				return err
			}
			out = append(out, one)
		}
	}
	return side{"encoding/csv", "rows of structs, the file read at once; the other fields are not checked for type", run, func() []row { return out }}, nil
}

func arrowCSV(w *workload) (side, error) {
	var fields []arrow.Field
	for _, f := range w.stream.Schema.Fields {
		var t arrow.DataType = arrow.BinaryTypes.String
		switch f.Type.Kind {
		case event.Timestamp:
			t = arrow.FixedWidthTypes.Timestamp_ms
		case event.Decimal:
			t = &arrow.Decimal128Type{Precision: 18, Scale: int32(f.Type.Scale)}
		case event.Bool:
			t = arrow.FixedWidthTypes.Boolean
		case event.Int64:
			t = arrow.PrimitiveTypes.Int64
		}
		fields = append(fields, arrow.Field{Name: f.Name, Type: t})
	}
	var last arrow.RecordBatch
	run := func() error {
		if last != nil {
			last.Release()
		}
		r := arrowcsv.NewReader(bytes.NewReader(w.file), arrow.NewSchema(fields, nil), arrowcsv.WithChunk(-1))
		defer r.Release()
		if !r.Next() {
			return fmt.Errorf("no records: %w", r.Err())
		}
		last = r.RecordBatch()
		last.Retain()
		return r.Err()
	}
	rows := func() (out []row) {
		s := w.stream.Schema
		ts := last.Column(s.Index("ts")).(*array.Timestamp)
		card, merchant := last.Column(s.Index("card")).(*array.String), last.Column(s.Index("merchant")).(*array.String)
		amount := last.Column(s.Index("amount")).(*array.Decimal128)
		for i := range ts.Len() {
			out = append(out, row{int64(ts.Value(i)) * 1e6, card.Value(i), merchant.Value(i), int64(amount.Value(i).LowBits())})
		}
		return out
	}
	return side{"apache/arrow-go csv", "typed columns, all ten made; the file read at once; times in ms", run, rows}, nil
}
