package loader_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/test/published"
	"github.com/weirstream/weir/test/seeds"
)

// clicks is the stream of clicks.csv.gz.
func clicks() *schema.Stream {
	str := event.Type{Kind: event.String}
	return &schema.Stream{
		Schema: &event.Schema{Stream: "clicks", Alias: "click", Fields: []event.Field{
			{Name: "ts", Type: event.Type{Kind: event.Timestamp}}, {Name: "visitor", Type: str}, {Name: "method", Type: str},
			{Name: "path", Type: str}, {Name: "status", Type: event.Type{Kind: event.Int64}},
			{Name: "bytes", Type: event.Type{Kind: event.Int64}, Optional: true},
			{Name: "referrer", Type: str, Optional: true}, {Name: "agent", Type: str, Optional: true},
		}, Time: 0, Key: 1, ID: -1},
		Topic: "clicks", Partitions: 4, Format: schema.JSON,
		Fields: []schema.Field{{}, {}, {}, {}, {}, {}, {}, {From: "user_agent"}},
	}
}

// TestClicks loads a real file with quoted cells, interrupted and resumed, and
// compares with encoding/csv.
func TestClicks(t *testing.T) {
	path := published.File(t, "clicks.csv.gz")
	n := startNode(t)
	rnd := seeds.Rand(t)
	for range 5 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rnd.IntN(40))*time.Millisecond)
		_, err := loader.Load(ctx, path, loader.Options{Addr: n.addr, Stream: clicks(), Logger: quiet})
		cancel()
		if err == nil {
			break
		}
	}
	if _, err := load(n, path, clicks()); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	r := csv.NewReader(z)
	for i := 0; ; i++ {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			want[strings.Join(row, "\x00")]++
		}
	}
	total := 0
	for _, recs := range n.records("clicks") {
		for _, rec := range recs {
			total++
			var v struct {
				Ts, Visitor, Method, Path, Referrer string
				Status, Bytes                       json.Number
				UserAgent                           string `json:"user_agent"`
			}
			if err := json.Unmarshal(rec.Value, &v); err != nil {
				t.Fatal(err)
			}
			if string(rec.Key) != v.Visitor {
				t.Fatalf("key %s of %s", rec.Key, rec.Value)
			}
			want[strings.Join([]string{v.Ts, v.Visitor, v.Method, v.Path, v.Status.String(), v.Bytes.String(), v.Referrer, v.UserAgent}, "\x00")]--
		}
	}
	for row, k := range want {
		if k != 0 {
			t.Fatalf("%q: %d too few", row, k)
		}
	}
	if total != 9999 || n.count(event.TopicDeadLetters) != 0 {
		t.Fatalf("%d rows, %d dead letters", total, n.count(event.TopicDeadLetters))
	}
}

// part writes the first rows of a gzipped CSV file to a file of its own.
func part(t testing.TB, path string, rows int) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(t.TempDir(), "transactions.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	w := bufio.NewWriter(out)
	s := bufio.NewScanner(z)
	for range rows + 1 {
		if !s.Scan() {
			t.Fatal("the file is too short")
		}
		fmt.Fprintln(w, s.Text())
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.Name()
}

// TestTransactions loads a part of the real file (all of it with WEIR_LONG),
// interrupted at random.
func TestTransactions(t *testing.T) {
	path, rows := published.File(t, "transactions.csv.gz"), 1_754_155
	if !seeds.Long(t) {
		rows = 50_000
		path = part(t, path, rows)
	}
	n := startNode(t)
	rnd := seeds.Rand(t)
	for round := range 8 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rnd.IntN(100*(round+1)))*time.Millisecond)
		_, err := loader.Load(ctx, path, loader.Options{Addr: n.addr, Stream: transactions(schema.JSON), Logger: quiet})
		cancel()
		if err == nil {
			break
		}
	}
	if _, err := load(n, path, transactions(schema.JSON)); err != nil {
		t.Fatal(err)
	}
	checkRows(t, n, rows, 0, false)
}

// BenchmarkLoad loads the whole file over loopback.
func BenchmarkLoad(b *testing.B) {
	path := published.File(b, "transactions.csv.gz")
	for _, codec := range []record.Codec{record.None, record.LZ4, record.Zstd} {
		b.Run(codec.String(), func(b *testing.B) {
			n := startNode(b)
			var rows int64
			for b.Loop() {
				p, err := loader.Load(context.Background(), path, loader.Options{Addr: n.addr, Stream: transactions(schema.JSON), Codec: codec, Again: true, Logger: quiet})
				if err != nil {
					b.Fatal(err)
				}
				rows += p.Accepted
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
