package loader

import (
	"context"
	"testing"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/test/published"
)

func handbook(format schema.Format) *schema.Stream {
	return &schema.Stream{
		Schema: &event.Schema{Stream: "transactions", Alias: "tx", Fields: []event.Field{
			{Name: "id", Type: event.Type{Kind: event.Int64}},
			{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
			{Name: "card", Type: event.Type{Kind: event.String}},
			{Name: "merchant", Type: event.Type{Kind: event.String}},
			{Name: "amount", Type: event.Type{Kind: event.Decimal, Scale: 2}},
			{Name: "fraud", Type: event.Type{Kind: event.Bool}, Optional: true},
		}, Time: 1, Key: 2, ID: 0},
		Topic: "transactions", Partitions: 3, Format: format,
		Columns: []string{"TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"},
		Fields: []schema.Field{{From: "TRANSACTION_ID"}, {From: "TX_DATETIME", Layout: "%Y-%m-%d %H:%M:%S"}, {From: "CUSTOMER_ID"},
			{From: "TERMINAL_ID"}, {From: "TX_AMOUNT"}, {From: "TX_FRAUD"}},
	}
}

// BenchmarkRows is what a row costs before it is sent: unpacking, cutting,
// encoding, checking, choosing the partition and building the batch.
func BenchmarkRows(b *testing.B) {
	for _, format := range []schema.Format{schema.JSON, schema.CSV} {
		b.Run(string(format), func(b *testing.B) {
			path := published.File(b, "transactions.csv.gz")
			stream := handbook(format)
			batches := make([]staged, 3)
			senders := make([]*sender, 3)
			for i := range senders {
				senders[i] = &sender{load: &load{o: &Options{}, id: "x"}, topic: &topic{}, marks: &marks{partitions: 3}, producer: 1}
			}
			rows, bytes := 0, 0
			good := func(a *accepted) error {
				p := sink.Partition(a.key, 3)
				s := &batches[p]
				s.add(a.time.Millis(), a.key, a.value, a.line)
				rows++
				if s.size() < BatchBytes {
					return nil
				}
				batch, err := senders[p].build(s)
				bytes += len(batch)
				s.reset()
				return err
			}
			bad := func(d *event.DeadLetter) error { b.Fatalf("%+v", d); return nil }
			b.ReportAllocs()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			open := func() (*splitter, *encoder) {
				in, err := openInput(path)
				if err != nil {
					b.Fatal(err)
				}
				in.start(ctx)
				s := newSplitter(in.next, in.recycle, ',')
				header := s.nextCSV()
				e, err := newEncoder(stream, path, columnNames(header))
				if err != nil {
					b.Fatal(err)
				}
				return s, e
			}
			s, e := open()
			for b.Loop() {
				r := s.nextCSV()
				if r == nil {
					s, e = open()
					continue
				}
				if e.add(r) {
					if err := e.flush(good, bad); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(bytes)/float64(max(1, rows)), "B/row")
		})
	}
}
