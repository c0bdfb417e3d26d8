package loader_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
)

// marked are the batches of partition 0 of the topic, and how many of them begin
// with the mark of a load.
func (n *node) marked(p *commitlog.Partition) (batches [][]byte, marks int) {
	n.t.Helper()
	c := p.NewCursor(p.Start())
	for {
		run, err := p.Read(c, 1)
		if err != nil {
			n.t.Fatal(err)
		}
		if len(run) == 0 {
			return batches, marks
		}
		batches = append(batches, append([]byte(nil), run...))
		var r record.Reader
		r.Reset(run)
		if rec, err := r.Next(); err == nil && len(rec.Headers) > 0 {
			marks++
		}
	}
}

// TestResumeCompacted resumes a load into a compacted topic, where the marks of all
// its batches but the first have gone since.
func TestResumeCompacted(t *testing.T) {
	n := startNode(t)
	const rows = 120_000
	var file bytes.Buffer // each row has a key of its own
	file.WriteString("TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD\n")
	for i := range rows {
		fmt.Fprintf(&file, "%d,2018-04-01 00:00:00,c%d,%d,1.00,0\n", i, i, i%10)
	}
	path := write(t, "rows.csv", file.Bytes())
	topic, err := n.log.CreateTopic(commitlog.TopicSpec{Name: "transactions", Partitions: 1, Configs: map[string]string{
		"cleanup.policy": "compact", "segment.bytes": "4000000", "min.cleanable.dirty.ratio": "0.01"}})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := topic.Partition(0)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		if p.Wait(ctx, 90_000) == nil {
			cancel()
		}
	}()
	if _, err := loader.Load(ctx, path, loader.Options{Addr: n.addr, Stream: transactions(schema.JSON), Logger: discard}); !errors.Is(err, loader.ErrInterrupted) {
		t.Fatal(err)
	}
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	batches, marks := n.marked(p)
	if marks < 8 { // more than the log knows duplicates of
		t.Fatalf("%d batches", marks)
	}
	// Others write the keys of the marked records, and then enough for a new segment.
	var b record.Builder
	b.Reset(record.BatchOptions{})
	for _, batch := range batches[1:] {
		var r record.Reader
		r.Reset(batch)
		rec, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		b.Append(rec.Timestamp, append([]byte(nil), rec.Key...), []byte(`{}`), nil)
	}
	batch, err := b.Build()
	if err == nil {
		_, err = p.Append(t.Context(), batch, -1)
	}
	for range 5 {
		if err == nil {
			b.Reset(record.BatchOptions{})
			b.Append(1_522_540_800_000, []byte("filler"), make([]byte, 900_000), nil)
			if batch, err = b.Build(); err == nil {
				_, err = p.Append(t.Context(), batch, -1)
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	n.stop()
	l, err := commitlog.Open(t.Context(), n.dir, commitlog.Options{Logger: quiet, CompactEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if p, err = l.Partition("transactions", 0); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); marks != 1; _, marks = n.marked(p) {
		if marks == 0 || time.Now().After(end) {
			t.Fatalf("%d marks are left", marks)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	n.start()
	if _, err := load(n, path, transactions(schema.JSON)); err != nil {
		t.Fatal(err)
	}
	// Of each key the last row of the file is the last record.
	want, got := map[string]string{}, map[string]string{}
	for _, row := range readCSV(t, path) {
		want[row[2]] = row[0]
	}
	for _, r := range n.records("transactions")[0] {
		var v struct{ TRANSACTION_ID json.Number }
		if err := json.Unmarshal(r.Value, &v); err == nil { // not a filler
			got[string(r.Key)] = v.TRANSACTION_ID.String()
		}
	}
	if !maps.Equal(got, want) {
		t.Fatalf("%d keys, want %d, or another value", len(got), len(want))
	}
	if p, err := load(n, path, transactions(schema.JSON)); err != nil || !p.Already {
		t.Fatalf("a second load: %+v, %v", p, err)
	}
}

// readCSV is the rows of a file without its head.
func readCSV(t *testing.T, path string) [][]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return rows[1:]
}
