package node

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/ingest/schema"
)

const testConfig = `
rules: rules
streams:
  payments:
    as: tx
    time: ts
    key: card
    partitions: 2
    fields: {ts: timestamp, card: string, amount: decimal(2)}
receivers:
  - name: desk
    webhook: {url: "%s", allow_cidrs: [127.0.0.0/8]}
`

const testRules = `
id: large
stream: payments
when: tx.amount > 100
message: '"card " + tx.card'
---
id: thrice
stream: payments
when: last("1h").by(tx.card).count() >= 3
action: review
severity: high
`

// startNode runs a node in dir until the test ends or stop is called.
func startNode(t *testing.T, dir, receiver string) (n *Node, stop func()) {
	t.Helper()
	return startConfigured(t, dir, fmt.Sprintf(testConfig, receiver))
}

// startConfigured is startNode with any weir.yaml.
func startConfigured(t *testing.T, dir, weirYAML string) (n *Node, stop func()) {
	t.Helper()
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("weir.yaml", weirYAML)
	write("rules/rules.yaml", testRules)
	return startIn(t, dir)
}

// startIn starts a node in a directory as it is.
func startIn(t *testing.T, dir string) (n *Node, stop func()) {
	t.Helper()
	cfg, err := config.Load(filepath.Join(dir, "weir.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.DataDir = filepath.Join(dir, "data")
	cfg.KafkaAddr, cfg.HTTPAddr, cfg.SQLAddr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	prepared, err := Prepare(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n = New(prepared, Options{Version: "test", Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the node did not end in order: %v", err)
		}
	}
	t.Cleanup(stop)
	select {
	case <-n.Ready():
	case err := <-ended:
		stopped = true
		cancel()
		t.Fatalf("the node did not start: %v", err)
	}
	return n, stop
}

func get(t *testing.T, n *Node, path string, status int, into any) {
	t.Helper()
	resp, err := http.Get("http://" + n.HTTPAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	decodeAnswer(t, path, resp, status, into)
}

func decodeAnswer(t *testing.T, path string, resp *http.Response, status int, into any) {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("%s: %s, want %d: %s", path, resp.Status, status, body)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("%s: %v: %s", path, err, body)
	}
}

func produce(t *testing.T, n *Node, events ...string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.KafkaAddr()), kgo.DefaultProduceTopic("payments"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, e := range events {
		card, value, _ := strings.Cut(e, " ")
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte(card), Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func payment(card string, second int, amount string) string {
	return fmt.Sprintf(`%s {"ts":"2026-01-01T00:00:%02dZ","card":"%s","amount":%s}`, card, second, card, amount)
}

// eventually waits for a condition of another goroutine's making.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

// TestNode is the whole path in one process: events in, alerts out, everything
// visible over REST, and a second life that knows it all.
func TestNode(t *testing.T) {
	posts := make(chan string, 100)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		posts <- r.Header.Get("webhook-id")
	}))
	defer receiver.Close()
	dir := t.TempDir()
	n, stop := startNode(t, dir, receiver.URL)

	live, err := http.Get("http://" + n.HTTPAddr() + "/v1/live")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Body.Close()

	produce(t, n, payment("a", 1, "50"), payment("a", 2, "150.01"), payment("a", 3, "1"), payment("b", 4, `"nonsense"`), payment("b", 5, "100.00"))
	for range 2 { // a's 150.01 is large, a's third is the third
		<-posts
	}
	var page AlertsPage
	eventually(t, "two delivered alerts in SQL", func() bool {
		get(t, n, "/v1/alerts", 200, &page)
		return len(page.Alerts) == 2 && len(page.Alerts[0].Deliveries) == 1 && len(page.Alerts[1].Deliveries) == 1
	})
	if a := page.Alerts[0]; a.Rule != "thrice" || a.Key != "a" || a.Severity != "high" || !strings.Contains(string(a.Values), `"last(\"1h\").by(tx.card).count()":3`) {
		t.Errorf("newest alert: %+v", a)
	}
	if a := page.Alerts[1]; a.Message != "card a" || !strings.Contains(string(a.Values), `"tx.amount":"150.01"`) || a.Deliveries[0].Outcome != "delivered" {
		t.Errorf("older alert: %+v", a)
	}

	t.Run("paging", func(t *testing.T) {
		var first, second AlertsPage
		get(t, n, "/v1/alerts?limit=1", 200, &first)
		get(t, n, "/v1/alerts?limit=1&before="+first.Next, 200, &second)
		if len(first.Alerts) != 1 || len(second.Alerts) != 1 || second.Next != "" || second.Alerts[0].ID != page.Alerts[1].ID {
			t.Errorf("pages: %+v, %+v", first, second)
		}
		get(t, n, "/v1/alerts?rule=large&key=a&stream=payments&severity=medium", 200, &first)
		if len(first.Alerts) != 1 || first.Alerts[0].Rule != "large" {
			t.Errorf("filtered: %+v", first)
		}
		get(t, n, "/v1/alerts?before=x", 422, nil)
		get(t, n, "/v1/alerts?limit=0", 422, nil)
	})
	t.Run("overview", func(t *testing.T) {
		var o Overview
		eventually(t, "SQL has read all", func() bool {
			get(t, n, "/v1/overview", 200, &o)
			return o.SQL.Lag == 0
		})
		s := o.Streams[0]
		if s.Events != 5 || s.DeadLetters != 1 || s.Alerts != 2 || s.Lag != 0 || s.Watermark == nil || o.Alerts.Total != 2 || o.Deliveries.Delivered != 2 {
			t.Errorf("overview: %+v", o)
		}
		if len(o.Rules) != 2 || o.Rules[0].ID != "large" || o.Rules[0].Fired != 1 || o.Rules[0].Evaluated != 4 {
			t.Errorf("rules: %+v", o.Rules)
		}
	})
	t.Run("sql", func(t *testing.T) {
		query := func(text string, status int) (out struct {
			SQLAnswer
			Detail string
			Errors []struct{ Message, Location string }
		}) {
			body, err := json.Marshal(SQLQuery{Query: text})
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.Post("http://"+n.HTTPAddr()+"/v1/sql", "application/json", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			decodeAnswer(t, text, resp, status, &out)
			return out
		}
		if got := query("SELECT sum(amount) FROM payments", 200); len(got.Rows) != 1 || got.Rows[0][0] != "301.01" || len(got.Freshness) != 2 {
			t.Errorf("%+v", got)
		}
		if got := query("SELECT amout FROM payments", 400); !strings.Contains(got.Detail, "amout") || got.Errors[0].Location != "body.query character 8" {
			t.Errorf("%+v", got)
		}
		query("DROP TABLE payments", 400)
		if got := query("SELECT reason, field FROM deadletters", 200); len(got.Rows) != 1 || got.Rows[0][0] != "type" || got.Rows[0][1] != "amount" {
			t.Errorf("dead letters: %+v", got.Rows)
		}
	})
	t.Run("live", func(t *testing.T) {
		lines := bufio.NewScanner(live.Body)
		lines.Buffer(nil, 1<<20)
		seen := map[string]int{}
		for (seen["event: overview"] < 2 || seen["event: alert"] < 2) && lines.Scan() {
			seen[lines.Text()]++
		}
		if lines.Err() != nil || seen["event: alert"] != 2 {
			t.Errorf("%v, %v", seen, lines.Err())
		}
	})
	t.Run("streams", func(t *testing.T) {
		var v StreamView
		get(t, n, "/v1/streams/payments", 200, &v)
		s, err := v.Stream()
		if err != nil || s.Schema.Fields[s.Schema.Key].Name != "card" || s.Schema.Fields[s.Schema.Time].Name != "ts" {
			t.Errorf("%+v, %v", s, err)
		}
		var problem struct{ Detail string }
		get(t, n, "/v1/streams/payment", 404, &problem)
		if !strings.Contains(problem.Detail, `did you mean "payments"?`) {
			t.Error(problem.Detail)
		}
	})
	t.Run("operators", func(t *testing.T) {
		var all []OperatorView
		eventually(t, "a checkpoint of both keys", func() bool {
			get(t, n, "/v1/operators?rule=thrice", 200, &all)
			return len(all) == 1 && len(all[0].Top) == 2
		})
		v := all[0]
		if v.Stream != "payments" || v.Name != "by(tx.card)" || !slices.Equal(v.Rules, []string{"thrice"}) || v.Keys != 2 || v.Events != 4 || v.Bytes == 0 || v.Processed < 4 || v.NanosEach <= 0 {
			t.Errorf("%+v", v)
		}
		if k := v.Top[0]; k.Key != "a" || k.Events != 3 || k.Bytes == 0 {
			t.Errorf("%+v", v.Top)
		}
		get(t, n, "/v1/operators?rule=large", 200, &all)
		if len(all) != 0 {
			t.Errorf("a rule without windows has %+v", all)
		}
		var problem struct{ Detail string }
		get(t, n, "/v1/operators?rule=thrise", 404, &problem)
		if !strings.Contains(problem.Detail, `did you mean "thrice"?`) {
			t.Error(problem.Detail)
		}
	})
	t.Run("metrics", func(t *testing.T) {
		resp, err := http.Get("http://" + n.HTTPAddr() + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		problems, err := promlint.New(resp.Body).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("%v %v", problems, err)
		}
	})
	t.Run("openapi", func(t *testing.T) {
		var spec struct{ Paths map[string]any }
		get(t, n, "/v1/openapi.json", 200, &spec)
		for _, path := range []string{"/v1/overview", "/v1/alerts", "/v1/sql", "/v1/streams/{name}", "/v1/rules", "/v1/operators"} {
			if spec.Paths[path] == nil {
				t.Errorf("OpenAPI does not have %s", path)
			}
		}
	})
	t.Run("another site's page", func(t *testing.T) {
		req, err := http.NewRequest(http.MethodPost, "http://"+n.HTTPAddr()+"/v1/sql", strings.NewReader(`{"query":"SELECT 1"}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Origin", "https://elsewhere.example")
		req.Header.Set("Sec-Fetch-Site", "cross-site")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		decodeAnswer(t, "cross-site post", resp, http.StatusForbidden, nil)
	})

	t.Run("a declared topic is not a client's to delete", func(t *testing.T) {
		cl, err := kgo.NewClient(kgo.SeedBrokers(n.KafkaAddr()))
		if err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
		for _, topic := range []string{"payments", "weir.alerts"} {
			req := kmsg.NewPtrDeleteTopicsRequest()
			req.TopicNames = []string{topic}
			rt := kmsg.NewDeleteTopicsRequestTopic()
			rt.Topic = &topic
			req.Topics = append(req.Topics, rt)
			resp, err := req.RequestWith(t.Context(), cl)
			if err != nil {
				t.Fatal(err)
			}
			if code := resp.Topics[0].ErrorCode; code != kerr.TopicAuthorizationFailed.Code {
				t.Errorf("deleting %s: error code %d, want %d", topic, code, kerr.TopicAuthorizationFailed.Code)
			}
		}
	})
	get(t, n, "/-/ready", 200, nil)
	get(t, n, "/-/healthy", 200, nil)
	live.Body.Close()
	stop()

	n, _ = startNode(t, dir, receiver.URL)
	produce(t, n, payment("a", 6, "2"))
	if id := <-posts; !strings.HasSuffix(id, "/thrice") {
		t.Errorf("after the restart the first call is for %s: the window or the position was lost", id)
	}
	var o Overview
	get(t, n, "/v1/overview", 200, &o)
	if o.Alerts.Total != 3 {
		t.Errorf("after the restart there are %d alerts, want 3", o.Alerts.Total)
	}
}

// TestPrepare wants mistakes that only the parts together show, before anything
// starts.
func TestPrepare(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"receiver of an unknown rule", strings.Replace(fmt.Sprintf(testConfig, "http://127.0.0.1:1/"), "webhook:", "match: {rule: thricce}\n    webhook:", 1),
			`receivers.desk.match.rule: there is no rule "thricce" (did you mean "thrice"?)`},
		{"paths through each other", strings.Replace(fmt.Sprintf(testConfig, "http://127.0.0.1:1/"), "card: string", "card: string, x: {type: string, from: a.b}, y: {type: string, from: a}", 1),
			`streams.payments: `},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"weir.yaml": c.text, "rules/r.yaml": testRules} {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cfg, err := config.Load(filepath.Join(dir, "weir.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			var problem *schema.Problem
			if _, err = Prepare(cfg); !errors.As(err, &problem) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestHTTPMistakes: what is wrong with a request stands in the detail of the answer.
func TestHTTPMistakes(t *testing.T) {
	n, _ := startBase(t, t.TempDir())
	for _, c := range []struct {
		method, path, kind, body string
		status                   int
		want                     string
	}{
		{"GET", "/v1/sql", "", "", 405, `"detail":"/v1/sql takes POST, not GET"`},
		{"GET", "/v1/streams/base/events", "", "", 405, `"detail":"/v1/streams/base/events takes POST, not GET"`},
		{"DELETE", "/v1/streams", "", "", 405, `"detail":"/v1/streams takes GET and POST, not DELETE"`},
		{"PUT", "/metrics", "", "", 405, "takes GET"},
		{"PATCH", "/v1/lists/x/entries.csv", "", "", 405, "takes GET"},
		{"POST", "/", "", "", 405, "only GET"},
		{"POST", "/v1/nothing", "", "", 404, "there is nothing at"},
		{"GET", "/v1/nothing", "", "", 404, "there is nothing at"},
		{"POST", "/v1/sql", "application/x-www-form-urlencoded", "select 1", 415, `"detail":"the content type must be application/json: unknown content type: application/x-www-form-urlencoded"`},
		{"POST", "/v1/sql", "application/json", "{}", 422, `"detail":"body: expected required property query to be present"`},
		{"GET", "/v1/alerts?limit=x", "", "", 422, `"detail":"query.limit: invalid integer"`},
	} {
		if text := ask(t, n, c.method, c.path, c.kind, c.body, c.status, nil); !strings.Contains(text, c.want) {
			t.Errorf("%s %s: want %s in %s", c.method, c.path, c.want, text)
		}
	}
}
