package node

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/ingest/schema"
)

const nestedConfig = `
rules: rules
streams:
  payments:
    as: tx
    time: ts
    key: card
    id: id
    dedupe: 1h
    partitions: 2
    fields:
      ts: timestamp
      id: string
      card: string
      amount: decimal(2)
      items: list(struct(sku string, price decimal(2)))
      attrs: {type: map, of: string, optional: true}
      geo:
        type: struct
        fields: {lat: double, holder: {type: string, sensitive: hmac}}
`

const nestedEvent = `{"ts":"2026-01-01T00:00:01Z","id":"e1","card":"c1","amount":500,"items":[{"sku":"a","price":1.5},{"sku":"b","price":120}],"attrs":{"k":"v"},"geo":{"lat":48.4,"holder":"Ada Lovelace"}}`

// TestNestedStream sends lists, maps and structs through the whole node, with a retry
// of an event, and then changes the declaration.
func TestNestedStream(t *testing.T) {
	dir := t.TempDir()
	n, stop := startConfigured(t, dir, nestedConfig)
	for _, key := range []string{"a", "b"} { // the client tries again without its key
		if status, _, text := postEvents(t, n, nestedEvent+"\n"+strings.ReplaceAll(nestedEvent, "e1", "e2"), "Idempotency-Key: "+key); status != 200 {
			t.Fatalf("%d %s", status, text)
		}
	}
	bad := strings.Replace(nestedEvent, `"price":120`, `"price":"dear"`, 1)
	postEvents(t, n, bad)
	eventually(t, "two rows, and two duplicates", func() bool {
		return sqlInt(t, n, "SELECT count(*) FROM payments") == 2 && sqlInt(t, n, "SELECT count(*) FROM deadletters WHERE reason = 'duplicate' AND field = 'id'") == 2
	})
	if got := sqlInt(t, n, "SELECT count(*) FROM alerts"); got != 2 {
		t.Errorf("%d alerts, want one for each event", got)
	}
	var out SQLAnswer
	ask(t, n, "POST", "/v1/sql", "application/json", `{"query":"SELECT items, attrs, geo.lat, list_sum(list_transform(items, lambda i: i.price)) FROM payments LIMIT 1"}`, 200, &out)
	if len(out.Rows) != 1 {
		t.Fatalf("%+v", out)
	}
	if got := string(mustJSON(t, out.Rows[0])); got != `[[{"price":"1.50","sku":"a"},{"price":"120.00","sku":"b"}],{"k":"v"},48.4,"121.50"]` {
		t.Errorf("a row is %s", got)
	}
	var view StreamView
	get(t, n, "/v1/streams/payments", 200, &view)
	s, err := view.Stream()
	if err != nil || s.Fields[6].Members[1].Sensitive != schema.HMAC || view.Dedupe != "1h0m0s" || view.ID != "id" {
		t.Errorf("%+v, %v", view, err)
	}
	var all []schema.Version
	get(t, n, "/v1/streams/payments/versions", 200, &all)
	if len(all) != 1 || all[0].Version != 1 {
		t.Errorf("versions %+v", all)
	}
	stop()
	noClearText(t, dir)

	incompatible := strings.Replace(nestedConfig, "amount: decimal(2)", "amount: int64\n      country: string", 1)
	err = prepare(t, dir, incompatible)
	var ps schema.Problems
	if !errors.As(err, &ps) || len(ps) != 2 || !strings.Contains(ps[0].Error(), "weir.yaml:15:15: streams.payments.fields.amount: was a decimal(2) and is a int64 now") ||
		!strings.Contains(ps[1].Error(), `weir.yaml:16:16: streams.payments.fields.country: records of before have no "country"`) {
		t.Fatalf("an incompatible declaration: %v", err)
	}
	n, _ = startConfigured(t, dir, strings.Replace(nestedConfig, "amount: decimal(2)", "amount: decimal(4)\n      country: {type: string, optional: true}", 1))
	get(t, n, "/v1/streams/payments/versions", 200, &all)
	if len(all) != 2 || all[1].Version != 2 || all[1].Fields[4].Name != "country" {
		t.Errorf("versions %+v", all)
	}
	eventually(t, "the rows of before, in the new columns", func() bool {
		return sqlInt(t, n, "SELECT count(*) FROM payments WHERE country IS NULL AND amount = 500.0000") == 2
	})
	if got := sqlInt(t, n, "SELECT count(*) FROM deadletters"); got != 3 {
		t.Errorf("%d dead letters, want those of before", got)
	}
}

// prepare loads and checks a weir.yaml without starting anything.
func prepare(t *testing.T, dir, weirYAML string) error {
	t.Helper()
	path := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(path, []byte(weirYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DataDir = filepath.Join(dir, "data")
	_, err = Prepare(cfg)
	return err
}

// noClearText looks through every file for the sensitive name.
func noClearText(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), "Lovelace") {
			t.Errorf("%s has the name in the clear", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestForgedHeaders: a client says that its record is a copy of another, of a request
// that was made, and of a replayed dead letter. It is a record as any other.
func TestForgedHeaders(t *testing.T) {
	n, _ := startConfigured(t, t.TempDir(), strings.Replace(nestedConfig, "fields:\n", "compatibility: none\n    fields:\n", 1))
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.KafkaAddr()), kgo.DefaultProduceTopic("payments"), kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for i := range 3 { // the second is a duplicate, whatever it says
		value := nestedEvent
		if i == 2 {
			value = strings.ReplaceAll(nestedEvent, "e1", "e2")
		}
		r := &kgo.Record{Key: []byte("c1"), Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "weir-original", Value: []byte("payments/0/0")}, {Key: "weir-replayed", Value: []byte("0/0")}, {Key: "trace", Value: []byte("t")}}}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "two rows and a duplicate", func() bool {
		return sqlInt(t, n, "SELECT count(*) FROM payments") == 2 && sqlInt(t, n, "SELECT count(*) FROM deadletters WHERE reason = 'duplicate'") == 1
	})
	for part := range int32(2) {
		src, err := n.openRange(t.Context(), "payments", part, 0, 3)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		if hw, err := n.highWatermark("payments", part); err != nil || hw == 0 {
			continue
		}
		c, err := src.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range c.Records {
			if len(r.Headers) != 1 || r.Headers[0].Key != "trace" {
				t.Errorf("a record has the headers %v", r.Headers)
			}
		}
	}
}
