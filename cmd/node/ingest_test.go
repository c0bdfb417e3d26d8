package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/httpin"
)

// postEvents sends a body of events; headers are "Name: value".
func postEvents(t *testing.T, n *Node, body string, headers ...string) (status int, a httpin.Answer, text string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, "http://"+n.HTTPAddr()+"/v1/streams/payments/events", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.HasPrefix(raw, []byte("{")) {
		if err := json.Unmarshal(raw, &a); err != nil {
			t.Fatal(err)
		}
	}
	return resp.StatusCode, a, string(raw)
}

// TestHTTPIngest sends events over HTTP to a node: they are decided, in SQL, and
// once there under one key, also after a restart.
func TestHTTPIngest(t *testing.T) {
	dir := t.TempDir()
	n, stop := startNode(t, dir, "http://127.0.0.1:9/")
	var body strings.Builder
	for i := range 40_000 { // more than other requests may have
		_, event, _ := strings.Cut(payment(fmt.Sprint("c", i), i%60, "1.25"), " ")
		fmt.Fprintln(&body, event)
	}
	fmt.Fprintln(&body, `{"ts":"2026-01-01T00:00:00Z","card":"x","amount":"much"}`)
	check := func() {
		t.Helper()
		status, a, text := postEvents(t, n, body.String(), "Idempotency-Key: once")
		if status != 200 || a.Accepted != 40_000 || a.Refused != 1 || a.Errors[0].Line != 40_001 || a.Errors[0].Field != "amount" {
			t.Fatal(status, text[:min(len(text), 500)])
		}
		eventually(t, "the events in SQL", func() bool { return sqlInt(t, n, "select count(*) from payments") >= 40_000 })
		if k := sqlInt(t, n, "select count(*) from payments"); k != 40_000 {
			t.Errorf("%d events", k)
		}
		eventually(t, "the dead letter in SQL", func() bool {
			return sqlInt(t, n, "select count(*) from deadletters where file = 'http' and line = 40001") == 1
		})
	}
	check()
	check()
	stop()
	n, _ = startNode(t, dir, "http://127.0.0.1:9/")
	check()
	if status, _, text := postEvents(t, n, "{}", "Content-Type: application/json", "Origin: http://elsewhere.example", "Sec-Fetch-Site: cross-site"); status != http.StatusForbidden {
		t.Error("a page of another site may send events", status, text)
	}
	resp, err := http.Post("http://"+n.HTTPAddr()+"/v1/sql", "application/json", strings.NewReader(strings.Repeat(" ", bodyMax+1)))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a long query: %s", resp.Status)
	}
}

// TestReplay mends a declaration after events did not fit it, and replays them:
// each is decided and in SQL once.
func TestReplay(t *testing.T) {
	dir := t.TempDir()
	config := fmt.Sprintf(testConfig, "http://127.0.0.1:9/")
	n, stop := startConfigured(t, dir, config)
	produce(t, n, payment("a", 1, "150.00"), payment("a", 2, "200.005"), payment("b", 3, `"much"`)) // the second has too many places
	_, event, _ := strings.Cut(payment("c", 4, "300.005"), " ")
	if status, a, text := postEvents(t, n, event); status != 422 || a.Refused != 1 {
		t.Fatal(status, text)
	}
	eventually(t, "three dead letters", func() bool { return sqlInt(t, n, "select count(*) from deadletters") == 3 })
	stop()
	n, _ = startConfigured(t, dir, strings.Replace(config, "decimal(2)", "decimal(3)", 1))
	for i, want := range []string{`{"read":3,"replayed":2,"already":0,"bad":{"type":1}`, `{"read":3,"replayed":0,"already":2,"bad":{"type":1}`} {
		resp, err := http.Post("http://"+n.HTTPAddr()+"/v1/deadletters/replay", "application/json", strings.NewReader(`{"stream":"payments"}`))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != 200 || !strings.HasPrefix(string(text), want) {
			t.Fatalf("replay %d: %s %s %v", i, resp.Status, text, err)
		}
	}
	eventually(t, "all in SQL", func() bool { return sqlInt(t, n, "select count(*) from payments where amount > 100") == 3 })
	eventually(t, "all decided", func() bool { return sqlInt(t, n, "select count(*) from alerts where rule = 'large'") == 3 })
	eventually(t, "all that is written read", func() bool {
		var o Overview
		get(t, n, "/v1/overview", 200, &o)
		return o.SQL.Lag == 0 && o.Streams[0].Lag == 0
	})
	if k := sqlInt(t, n, "select count(*) from payments"); k != 3 {
		t.Errorf("%d events in SQL", k)
	}
	if k := sqlInt(t, n, "select count(*) from alerts where rule = 'large'"); k != 3 {
		t.Errorf("%d alerts", k)
	}
}

// sqlInt is the one number that a query answers.
func sqlInt(t *testing.T, n *Node, query string) int64 {
	t.Helper()
	body, err := json.Marshal(SQLQuery{Query: query})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+n.HTTPAddr()+"/v1/sql", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out struct{ Rows [][]json.Number }
	decodeAnswer(t, query, resp, 200, &out)
	v, err := out.Rows[0][0].Int64()
	if err != nil {
		t.Fatal(err)
	}
	return v
}
