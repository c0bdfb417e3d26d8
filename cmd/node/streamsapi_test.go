package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	jsonKind = "application/json"
	yamlKind = "application/yaml"
)

// produceTo writes JSON events to a topic as a Kafka client does.
func produceTo(t *testing.T, n *Node, topic string, values ...string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.KafkaAddr()), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, v := range values {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte("k"), Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// startBase starts a node with one stream in weir.yaml and no rule.
func startBase(t *testing.T, dir string) (*Node, func()) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(dir, "norules"), 0o750); err != nil {
		t.Fatal(err)
	}
	return startConfigured(t, dir, "rules: norules\nstreams:\n  base: {time: ts, fields: {ts: timestamp}}\n")
}

// TestStreamsAPI makes a stream in a running node, feeds it by Kafka and HTTP, gives it
// new versions, restarts, and removes it.
func TestStreamsAPI(t *testing.T) {
	dir := t.TempDir()
	n, stop := startBase(t, dir)
	var v StreamView
	ask(t, n, "POST", "/v1/streams", jsonKind, `{"name":"orders","time":"ts","key":"id","decisions":"all","partitions":2,"fields":{"ts":"timestamp","id":"string","n":"int64"}}`, 201, &v)
	if v.Declared != "api" || v.Version != 1 || v.Partitions != 2 || v.Key != "id" {
		t.Errorf("%+v", v)
	}
	var api struct {
		Paths map[string]map[string]struct {
			RequestBody struct {
				Content map[string]struct {
					Schema struct{ Properties map[string]any }
				}
			}
		}
	}
	get(t, n, "/v1/openapi.json", 200, &api)
	put := api.Paths["/v1/streams/{name}"]["put"].RequestBody.Content["application/yaml"].Schema.Properties
	if len(put) < 15 || put["fields"] == nil || api.Paths["/v1/streams"]["post"].RequestBody.Content["application/json"].Schema.Properties["name"] == nil {
		t.Errorf("OpenAPI describes a declaration by %v", put)
	}
	event := func(i int) string {
		return fmt.Sprintf(`{"ts":"2026-01-01T00:00:%02dZ","id":"o%d","n":%d}`, i, i, i)
	}
	produceTo(t, n, "orders", event(1), event(2), `{"ts":"2026-01-01T00:00:03Z","id":"o3","n":"no"}`)
	ask(t, n, "POST", "/v1/streams/orders/events", jsonKind, event(4), 200, nil)
	rows := func(n *Node, want string) {
		t.Helper()
		got := ""
		eventually(t, "rows, decisions and dead letters "+want, func() bool {
			res, err := n.query(t.Context(), "SELECT concat_ws(' ', (SELECT count(*) FROM orders), (SELECT count(*) FROM decisions WHERE stream = 'orders'), (SELECT count(*) FROM deadletters))")
			if err != nil {
				t.Fatal(err)
			}
			got = asText(res.Rows[0][0])
			return got == want
		})
	}
	rows(n, "3 3 1")

	// A new version, as YAML: the number has decimals, and the topic's rows are read anew.
	ask(t, n, "PUT", "/v1/streams/orders", yamlKind, "time: ts\nkey: id\ndecisions: all\nfields:\n  ts: timestamp\n  id: string\n  n: decimal(2)\n  note: {type: string, optional: true}\n", 200, &v)
	if v.Version != 2 || len(v.Fields) != 4 {
		t.Errorf("%+v", v)
	}
	produceTo(t, n, "orders", `{"ts":"2026-01-01T00:00:05Z","id":"o5","n":1.25,"note":"x"}`)
	rows(n, "4 4 1")
	if got := sqlInt(t, n, "SELECT (sum(n) * 100)::BIGINT FROM orders"); got != 825 {
		t.Errorf("the sum is %d", got)
	}
	stop()
	n, stop = startBase(t, dir)
	produceTo(t, n, "orders", event(6))
	rows(n, "5 5 1")
	ask(t, n, "DELETE", "/v1/streams/orders", "", "", 204, nil)
	ask(t, n, "GET", "/v1/streams/orders", "", "", 404, nil)
	ask(t, n, "POST", "/v1/streams/orders/events", jsonKind, event(7), 404, nil)
	if _, err := n.query(t.Context(), "SELECT * FROM orders"); err == nil {
		t.Error("the table of a removed stream is there")
	}
	produceTo(t, n, "orders", event(8)) // the topic stays
	ask(t, n, "PUT", "/v1/streams/orders", jsonKind, `{"time":"ts","key":"id","decisions":"all","fields":{"ts":"timestamp","id":"string","n":"decimal(2)"}}`, 200, nil)
	rows(n, "6 6 1")
	stop()
}

// TestStreamsAPIRefuses: each mistake names its field, and changes nothing.
func TestStreamsAPIRefuses(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "myrules"), 0o750); err != nil {
		t.Fatal(err)
	}
	config := "rules: myrules\nstreams:\n  base: {as: b, topic: basics, time: ts, fields: {ts: timestamp}}\ntables:\n  sized: {key: a, fields: {a: string}}\n"
	n, stop := startConfigured(t, dir, config)
	const good = `{"time":"ts","key":"id","fields":{"ts":"timestamp","id":"string"}}`
	ask(t, n, "PUT", "/v1/streams/orders", jsonKind, good, 200, nil)
	ask(t, n, "POST", "/v1/tables", jsonKind, `{"name":"made","key":["a"],"fields":[{"name":"a","type":"string","optional":false}]}`, 200, nil)
	for _, c := range []struct {
		method, path, kind, body string
		status                   int
		want                     string
	}{
		{"PUT", "/v1/streams/x", jsonKind, `{"time":"ts","colour":1,"fields":{"ts":"timestmp"}}`, 422, `"location":"body.fields.ts"`},
		{"PUT", "/v1/streams/x", yamlKind, "time: ts\nfields:\n  ts: timestamp\n  a: decimal(99)\n", 422, `line 4`},
		{"PUT", "/v1/streams/x", jsonKind, `[1]`, 422, "mapping"},
		{"PUT", "/v1/streams/x", jsonKind, `{"time":`, 422, "not valid YAML"},
		{"PUT", "/v1/streams/x", jsonKind, ``, 400, "body is required"},
		{"PUT", "/v1/streams/x", jsonKind, `{}`, 422, `"location":"body.fields"`},
		{"PUT", "/v1/streams/x", jsonKind, `{"topic":"${env:HOME}","time":"ts","fields":{"ts":"timestamp"}}`, 422, "HOME"},
		{"PUT", "/v1/streams/x", jsonKind, `{"topic":"basics","time":"ts","fields":{"ts":"timestamp"}}`, 422, "topic of the stream base"},
		{"PUT", "/v1/streams/x", jsonKind, `{"topic":"weir.decisions","time":"ts","fields":{"ts":"timestamp"}}`, 422, "reserved"},
		{"PUT", "/v1/streams/x", jsonKind, `{"as":"b","time":"ts","fields":{"ts":"timestamp"}}`, 422, "name in rules"},
		{"PUT", "/v1/streams/Orders", jsonKind, good, 422, "upper from lower"},
		{"PUT", "/v1/streams/sized", jsonKind, good, 422, "name of a table"},
		{"PUT", "/v1/streams/Made", jsonKind, good, 409, "name of a table"},
		{"POST", "/v1/tables", jsonKind, `{"name":"Orders","key":["a"],"fields":[{"name":"a","type":"string","optional":false}]}`, 409, "name of a stream"},
		{"POST", "/v1/tables", jsonKind, `{"name":"decisions","key":["a"],"fields":[{"name":"a","type":"string","optional":false}]}`, 422, "own tables"},
		{"PUT", "/v1/streams/decisions", jsonKind, good, 422, "own tables"},
		{"PUT", "/v1/streams/base", jsonKind, good, 409, "weir.yaml"},
		{"DELETE", "/v1/streams/base", "", "", 409, "weir.yaml"},
		{"DELETE", "/v1/streams/oders", "", "", 404, "orders"},
		{"POST", "/v1/streams", jsonKind, `{"name":"orders","time":"ts","fields":{"ts":"timestamp"}}`, 409, "PUT"},
		{"POST", "/v1/streams", jsonKind, good, 422, "body.name"},
		{"PUT", "/v1/streams/orders", jsonKind, strings.Replace(good, `"id":"string"`, `"id":"int64"`, 1), 422, `"location":"body.fields.id"`},
	} {
		if got := ask(t, n, c.method, c.path, c.kind, c.body, c.status, nil); !strings.Contains(got, c.want) {
			t.Errorf("%s %s %s: no %q in %s", c.method, c.path, c.body, c.want, got)
		}
	}
	var all []StreamView
	get(t, n, "/v1/streams", 200, &all)
	if len(all) != 2 || all[1].Name != "orders" || all[1].Version != 1 {
		t.Errorf("%+v", all)
	}
	stop()

	// A rule may name it after a restart; then it can be neither removed nor broken.
	rule := "id: r\nstream: orders\nwhen: orders.id == \"o1\"\n"
	if err := os.WriteFile(filepath.Join(dir, "myrules", "r.yaml"), []byte(rule), 0o600); err != nil {
		t.Fatal(err)
	}
	n, stop = startConfigured(t, dir, config)
	if got := ask(t, n, "DELETE", "/v1/streams/orders", "", "", 409, nil); !strings.Contains(got, "rules r ") {
		t.Error(got)
	}
	if got := ask(t, n, "PUT", "/v1/streams/orders", jsonKind, `{"time":"ts","compatibility":"none","fields":{"ts":"timestamp"}}`, 422, nil); !strings.Contains(got, "r.yaml") {
		t.Error(got)
	}
	before := n.program.Load()
	ask(t, n, "PUT", "/v1/streams/orders", jsonKind, `{"time":"ts","key":"id","lateness":"1h","fields":{"ts":"timestamp","id":"string","more":{"type":"string","optional":true}}}`, 200, nil)
	if n.program.Load() == before {
		t.Error("the rules of a changed stream go on with what it was before")
	}
	ask(t, n, "POST", "/v1/streams/orders/events", jsonKind, `{"ts":"2026-01-01T00:00:01Z","id":"o1"}`, 200, nil)
	eventually(t, "an alert", func() bool { return sqlInt(t, n, "SELECT count(*) FROM alerts") == 1 })
	stop()

	// weir.yaml comes first: its stream of that name stands. What it takes away from a
	// made one is told.
	if err := prepare(t, dir, strings.Replace(config, "streams:\n", "streams:\n  orders: {time: ts, key: id, fields: {ts: timestamp, id: string}}\n", 1)); err != nil {
		t.Error(err)
	}
	err := prepare(t, dir, strings.Replace(config, "topic: basics", "topic: orders", 1))
	if err == nil || !strings.Contains(err.Error(), "streams.json: streams.orders: found \"orders\", which is already the topic of the stream base (the stream was made over HTTP: change weir.yaml, or remove it from the file)") {
		t.Error(err)
	}
}

// TestStreamsAPIProtects: a made stream's sensitive fields are protected from its
// first record on, also those that clients write after it was removed.
func TestStreamsAPIProtects(t *testing.T) {
	dir := t.TempDir()
	n, stop := startBase(t, dir)
	ask(t, n, "PUT", "/v1/streams/people", jsonKind, `{"time":"ts","key":"name","fields":{"ts":"timestamp","name":{"type":"string","sensitive":"hmac"},"mail":{"type":"string","sensitive":"encrypt"}}}`, 200, nil)
	const person = `{"ts":"2026-01-01T00:00:01Z","name":"Ada Lovelace","mail":"Ada Lovelace"}`
	produceTo(t, n, "people", person)
	eventually(t, "a row", func() bool {
		return sqlInt(t, n, "SELECT count(*) FROM people WHERE name LIKE 'h1.%' AND mail LIKE 'e1.%'") == 1
	})
	ask(t, n, "DELETE", "/v1/streams/people", "", "", 204, nil)
	produceTo(t, n, "people", person)
	stop()
	n, stop = startBase(t, dir)
	produceTo(t, n, "people", person)
	stop()
	noClearText(t, n.cfg.DataDir)
}
