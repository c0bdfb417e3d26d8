package httpin

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

var quiet = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))

const partitions = 3

// payments is a stream of JSON.
func payments(f schema.Format) *schema.Stream {
	return &schema.Stream{Topic: "payments", Format: f, Columns: []string{"id", "ts", "card", "amount", "note"}, MaxAhead: time.Hour,
		Schema: &event.Schema{Stream: "payments", Alias: "p", Time: 1, Key: 2, ID: 0, Fields: []event.Field{
			{Name: "id", Type: event.Type{Kind: event.String}}, {Name: "ts", Type: event.Type{Kind: event.Timestamp}},
			{Name: "card", Type: event.Type{Kind: event.String}}, {Name: "amount", Type: event.Type{Kind: event.Decimal, Scale: 2}},
			{Name: "note", Type: event.Type{Kind: event.String}, Optional: true}}},
		Fields: make([]schema.Field, 5)}
}

// house is a log, a handler over it and a server.
type house struct {
	t      testing.TB
	fs     vfs.FS
	stream *schema.Stream
	o      Options
	log    *commitlog.Log
	h      *Handler
	srv    *httptest.Server
}

func newHouse(t testing.TB, o Options) *house {
	return openHouse(t, vfs.NewMem(1), payments(schema.JSON), o)
}

func openHouse(t testing.TB, fs vfs.FS, s *schema.Stream, o Options) *house {
	t.Helper()
	l, err := commitlog.Open(context.Background(), "data", commitlog.Options{FS: fs, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for name, n := range map[string]int32{"payments": partitions, event.TopicDeadLetters: 1, TopicRequests: 1} {
		if _, ok := l.Topic(name); ok {
			continue
		}
		if _, err := l.CreateTopic(commitlog.TopicSpec{Name: name, Partitions: n}); err != nil {
			t.Fatal(err)
		}
	}
	o.Logger = quiet
	o.Open = func(_ context.Context, topic string, partition int32, from, to int64) (source.Source, error) {
		p, err := l.Partition(topic, partition)
		if err != nil {
			return nil, err
		}
		return source.NewPartition(p, source.Options{From: max(from, p.Start()), To: to}), nil
	}
	h, err := New(context.Background(), []*schema.Stream{s}, sink.NewLocal(l), o)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(Pattern, h)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return &house{t: t, fs: fs, stream: s, o: o, log: l, h: h, srv: srv}
}

func (h *house) post(body string, headers ...string) (int, *Answer, string) {
	h.t.Helper()
	return h.postTo("payments", strings.NewReader(body), headers...)
}

// postTo sends a body; headers are "Name: value", content type JSON unless said.
func (h *house) postTo(name string, body io.Reader, headers ...string) (int, *Answer, string) {
	h.t.Helper()
	req, err := http.NewRequest(http.MethodPost, h.srv.URL+"/v1/streams/"+name+"/events", body)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for _, s := range headers {
		name, value, _ := strings.Cut(s, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	var a Answer
	if resp.Header.Get("Content-Type") == "application/json" {
		if err := json.Unmarshal(text, &a); err != nil {
			h.t.Fatalf("%v: %s", err, text)
		}
	}
	return resp.StatusCode, &a, string(text) + fmt.Sprint(resp.Header)
}

// stored is every durable record of a topic, by partition.
func (h *house) stored(topic string) (out []record.Record) {
	h.t.Helper()
	t, ok := h.log.Topic(topic)
	if !ok {
		h.t.Fatalf("no topic %s", topic)
	}
	for _, p := range t.Partitions() {
		c := p.NewCursor(p.Start())
		for {
			b, err := p.Read(c, 1<<20)
			if err != nil {
				h.t.Fatal(err)
			}
			if len(b) == 0 {
				break
			}
			var r record.Reader
			r.Reset(bytes.Clone(b))
			for rec, err := r.Next(); err == nil; rec, err = r.Next() {
				one := *rec
				one.Key, one.Value = bytes.Clone(one.Key), bytes.Clone(one.Value)
				one.Headers = slices.Clone(one.Headers)
				out = append(out, one)
			}
		}
	}
	return out
}

// values is the values of a topic's records, sorted.
func (h *house) values(topic string) []string {
	var out []string
	for _, r := range h.stored(topic) {
		out = append(out, string(r.Value))
	}
	slices.Sort(out)
	return out
}

func (h *house) deadLetters() (out []event.DeadLetter) {
	h.t.Helper()
	for _, r := range h.stored(event.TopicDeadLetters) {
		var d event.DeadLetter
		if err := d.UnmarshalJSON(r.Value); err != nil {
			h.t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

func pay(id int, amount string) string {
	return fmt.Sprintf(`{"id":"%d","ts":"2026-01-01T00:00:%02dZ","card":"c%d","amount":%s}`, id, id%60, id%7, amount)
}

func gzipped(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFormats sends the same events in every format.
func TestFormats(t *testing.T) {
	var objects []string
	csv := "card,ts,id,amount\r\n"
	for i := range 20 {
		objects = append(objects, pay(i, fmt.Sprintf("%d.50", i)))
		csv += fmt.Sprintf("c%d,2026-01-01T00:00:%02dZ,%d,%d.50\r\n", i%7, i, i, i)
	}
	want := slices.Clone(objects)
	slices.Sort(want)
	lines := strings.Join(objects, "\n")
	for _, c := range []struct {
		name, body string
		headers    []string
	}{
		{"array", "[" + strings.Join(objects, ",") + "]", nil},
		{"spacious array", " [\n" + strings.Join(objects, "\n ,\r\n ") + "\n]\n", []string{"Content-Type: application/json; charset=UTF-8"}},
		{"ndjson", lines, []string{"Content-Type: application/x-ndjson"}},
		{"ndjson gzip", string(gzipped(t, lines)), []string{"Content-Type: application/x-ndjson", "Content-Encoding: gzip"}},
		{"csv", csv, []string{"Content-Type: text/csv"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, Options{})
			status, a, text := h.post(c.body, c.headers...)
			if status != 200 || a.Accepted != 20 || a.Refused != 0 {
				t.Fatal(status, text)
			}
			got := h.values("payments")
			if c.name == "csv" { // in the order of the declaration's columns
				for i := range got {
					if !json.Valid([]byte(got[i])) {
						t.Errorf("stored %s", got[i])
					}
				}
			} else if !reflect.DeepEqual(got, want) {
				t.Errorf("stored %v", got)
			}
			total := int64(0)
			for _, r := range a.Offsets {
				total += r.Last - r.First + 1
			}
			if total != 20 || len(got) != 20 {
				t.Errorf("%d offsets, %d records: %v", total, len(got), a.Offsets)
			}
			for _, r := range h.stored("payments") {
				if !bytes.Contains(r.Value, append([]byte(`"card":"`), r.Key...)) {
					t.Errorf("key %s of %s", r.Key, r.Value)
				}
			}
		})
	}
	t.Run("single", func(t *testing.T) {
		h := newHouse(t, Options{})
		status, a, text := h.post("  " + pay(3, "1") + "\n")
		if status != 200 || a.Accepted != 1 || len(a.Offsets) != 1 || a.Offsets[0].Partition != sink.Partition([]byte("c3"), partitions) {
			t.Fatal(status, text)
		}
		if got := h.values("payments"); len(got) != 1 || got[0] != pay(3, "1") {
			t.Errorf("stored %v", got)
		}
	})
	t.Run("csv stream", func(t *testing.T) {
		h := openHouse(t, vfs.NewMem(1), payments(schema.CSV), Options{})
		if status, a, text := h.post(csv, "Content-Type: text/csv"); status != 200 || a.Accepted != 20 {
			t.Fatal(status, text)
		}
		if status, a, text := h.post("["+strings.Join(objects, ",")+"]", "Content-Type: application/json"); status != 200 || a.Accepted != 20 {
			t.Fatal(status, text)
		}
		if got := h.values("payments"); !slices.Contains(got, `3,2026-01-01T00:00:03Z,c3,3.50,`) {
			t.Errorf("stored %v", got)
		}
	})
}

// TestHostile has what each bad input gets.
func TestHostile(t *testing.T) {
	good := pay(1, "1.50")
	for _, c := range []struct {
		name, body string
		headers    []string
		status     int
		accepted   int64
		refused    int64
		text       string // in the answer
	}{
		{name: "empty", body: "", status: 400, text: "the body is empty"},
		{name: "empty array", body: " [ ] ", status: 200},
		{name: "wrong type", body: pay(1, `"x"`), status: 422, refused: 1, text: `"field":"amount","reason":"type"`},
		{name: "too many places", body: pay(1, `1.005`), status: 422, refused: 1, text: "more decimal places"},
		{name: "10^400", body: pay(1, `1e400`), status: 422, refused: 1, text: "out of range"},
		{name: "NaN", body: pay(1, `NaN`), status: 422, refused: 1, text: `"reason":"syntax"`},
		{name: "missing time", body: `{"id":"1","card":"c","amount":1}`, status: 422, refused: 1, text: `"field":"ts","reason":"missing"`},
		{name: "far future", body: `{"id":"1","ts":"2200-01-01T00:00:00Z","card":"c","amount":1}`, status: 422, refused: 1, text: `"field":"ts","reason":"time"`},
		{name: "ancient", body: `{"id":"1","ts":"0900-01-01T00:00:00Z","card":"c","amount":1}`, status: 422, refused: 1, text: `"reason":"time"`},
		{name: "duplicate keys", body: `{"id":"1","ts":"2026-01-01T00:00:00Z","card":"a","card":"b","amount":1}`, status: 200, accepted: 1},
		{name: "invalid UTF-8", body: "{\"id\":\"1\",\"ts\":\"2026-01-01T00:00:00Z\",\"card\":\"\xff\",\"amount\":1}", status: 422, refused: 1, text: `"reason":"encoding"`},
		{name: "half a character at the end", body: good + "\n{\"id\":\"2\",\"ts\":\"2026-01-01T00:00:00Z\",\"card\":\"caf\xc3", headers: []string{"Content-Type: application/x-ndjson"}, status: 200, accepted: 1, refused: 1, text: `"line":2`},
		{name: "10,000 levels", body: "[" + good + "," + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + "]", status: 200, accepted: 1, refused: 1, text: `"reason":"size"`},
		{name: "10,000 levels within", body: `{"x":` + strings.Repeat(`{"x":`, 10_000) + "1" + strings.Repeat("}", 10_001), status: 422, refused: 1, text: `"reason":"size"`},
		{name: "100,000 open brackets", body: strings.Repeat("[", 100_000), status: 422, refused: 1, text: `never closed`},
		{name: "not an object", body: `[1,"a",null,` + good + `]`, status: 200, accepted: 1, refused: 3, text: `found a number`},
		{name: "array that is cut", body: "[" + good + "," + good, status: 422, refused: 0, accepted: 0},
		{name: "comma at the end", body: "[" + good + ",]", status: 200, accepted: 1, refused: 1},
		{name: "after the array", body: "[" + good + "] x", status: 200, accepted: 1, refused: 1, text: "nothing after the array"},
		{name: "bracket that does not match", body: "[" + good + `,{"a":[},` + good + "]", status: 200, accepted: 1, refused: 1, text: "cannot be told apart"},
		{name: "objects as JSON", body: good + good, status: 422, refused: 1, text: "expected the end of the record"},
		{name: "lines as one type", body: good, headers: []string{"Content-Type: text/plain"}, status: 415, text: Accepted},
		{name: "no type", body: good, headers: []string{"Content-Type: "}, status: 415, text: "none was given"},
		{name: "charset", body: good, headers: []string{"Content-Type: application/json; charset=latin1"}, status: 415, text: "UTF-8"},
		{name: "brotli", body: good, headers: []string{"Content-Encoding: br"}, status: 415, text: "must be gzip"},
		{name: "not gzip", body: good, headers: []string{"Content-Encoding: gzip"}, status: 400, text: "not the gzip"},
		{name: "long key", body: good, headers: []string{"Idempotency-Key: " + strings.Repeat("k", 256)}, status: 400, text: "Idempotency-Key"},
		{name: "csv without a column", body: "id,ts,card\n1,2026-01-01T00:00:00Z,a\n", headers: []string{"Content-Type: text/csv"}, status: 422, text: `no column \"amount\"`},
		{name: "csv column twice", body: "id,ts,card,amount,card\n", headers: []string{"Content-Type: text/csv"}, status: 422, text: "twice"},
		{name: "csv header only", body: "id,ts,card,amount\n", headers: []string{"Content-Type: text/csv"}, status: 200},
		{name: "csv cells", body: "id,ts,card,amount\n1,2026-01-01T00:00:00Z,a,1\n2,b\n3,2026-01-01T00:00:00Z,\"a,1\n", headers: []string{"Content-Type: text/csv"}, status: 200, accepted: 1, refused: 2, text: "expected 4 cells"},
		{name: "long", body: `["` + strings.Repeat("x", 1<<20) + `"]`, status: 413, text: "more than 1048576 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHouse(t, Options{BodyMax: 1 << 20})
			if c.name == "array that is cut" {
				c.status, c.accepted, c.refused, c.text = 200, 1, 1, "never closed"
			}
			status, a, text := h.post(c.body, c.headers...)
			if status != c.status || a.Accepted != c.accepted || a.Refused != c.refused || !strings.Contains(text, c.text) {
				t.Errorf("%d, %d accepted, %d refused, want %d, %d, %d and %s: %s", status, a.Accepted, a.Refused, c.status, c.accepted, c.refused, c.text, text[:min(len(text), 2000)])
			}
			if n := len(h.stored("payments")); n != int(c.accepted) {
				t.Errorf("%d records", n)
			}
			dead := h.deadLetters()
			if len(dead) != int(c.refused) {
				t.Errorf("%d dead letters", len(dead))
			}
			for i, d := range dead {
				if d.File != "http" || d.Line != a.Errors[i].Line || d.Reason != a.Errors[i].Reason || d.Stream != "payments" {
					t.Errorf("dead letter %+v for %+v", d, a.Errors[i])
				}
			}
			if n := h.h.budget.used.Load(); n != 0 {
				t.Errorf("%d bytes are still held", n)
			}
		})
	}
	t.Run("unknown stream", func(t *testing.T) {
		h := newHouse(t, Options{})
		if status, _, text := h.postTo("paymets", strings.NewReader(good)); status != 404 || !strings.Contains(text, `did you mean \"payments\"?`) {
			t.Error(status, text)
		}
	})
}

// TestErrorsAreBounded refuses more than an answer describes.
func TestErrorsAreBounded(t *testing.T) {
	h := newHouse(t, Options{})
	status, a, text := h.post(strings.Repeat("nonsense\n", 3000)+pay(1, "1"), "Content-Type: application/x-ndjson")
	if status != 200 || a.Refused != 3000 || a.Accepted != 1 || len(a.Errors) != 100 || len(h.deadLetters()) != 3000 {
		t.Error(status, text[:500])
	}
	for i, e := range a.Errors {
		if e.Line != int64(i+1) || e.Event != int64(i+1) {
			t.Fatalf("error %d: %+v", i, e)
		}
	}
}

func TestGzip(t *testing.T) {
	var text strings.Builder
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 3000 {
		fmt.Fprintln(&text, pay(i, fmt.Sprintf("%d.%02d", r.IntN(100000), r.IntN(100))))
	}
	whole := gzipped(t, text.String())
	t.Run("truncated", func(t *testing.T) {
		h := newHouse(t, Options{})
		status, a, answer := h.postTo("payments", bytes.NewReader(whole[:len(whole)/2]), "Content-Type: application/x-ndjson", "Content-Encoding: gzip")
		if status != 200 || a.Accepted < 1000 || a.Accepted >= 2500 || a.Refused != 0 || !strings.Contains(a.Incomplete, "the gzip ends in the middle") {
			t.Fatal(status, answer)
		}
		if n := len(h.stored("payments")); n != int(a.Accepted) {
			t.Errorf("%d records for %d accepted", n, a.Accepted)
		}
	})
	t.Run("truncated array", func(t *testing.T) {
		h := newHouse(t, Options{})
		z := gzipped(t, "["+strings.ReplaceAll(strings.TrimSpace(text.String()), "\n", ",")+"]")
		status, a, answer := h.postTo("payments", bytes.NewReader(z[:len(z)/2]), "Content-Encoding: gzip")
		if status != 200 || a.Accepted < 1000 || a.Refused != 0 || a.Incomplete == "" {
			t.Fatal(status, answer)
		}
	})
	t.Run("bit flip", func(t *testing.T) {
		h := newHouse(t, Options{})
		z := bytes.Clone(whole)
		z[len(z)-6] ^= 1 // of the CRC
		if status, _, answer := h.postTo("payments", bytes.NewReader(z), "Content-Type: application/x-ndjson", "Content-Encoding: gzip"); status != 400 || len(h.stored("payments")) != 0 {
			t.Fatal(status, answer)
		}
	})
	t.Run("bomb", func(t *testing.T) {
		h := newHouse(t, Options{BodyMax: 1 << 20, InFlight: 4 << 20})
		var b bytes.Buffer
		z, zeros := gzip.NewWriter(&b), make([]byte, 1<<20)
		for range 20 {
			if _, err := z.Write(zeros); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		if status, _, answer := h.postTo("payments", &b, "Content-Encoding: gzip"); status != 413 || !strings.Contains(answer, "unpacks to more than 1048576") || h.h.budget.used.Load() != 0 {
			t.Fatal(status, answer)
		}
	})
}

// TestSlowClient sends half of a body and then nothing, or goes away, or sends one byte by
// byte: that is fine as long as something comes.
func TestSlowClient(t *testing.T) {
	const timeout = 2 * time.Second // of who is not to run into it, whatever the load
	hasty, patient := newHouse(t, Options{ReadTimeout: 50 * time.Millisecond}), newHouse(t, Options{ReadTimeout: timeout})
	for _, leave := range []bool{false, true} {
		h := map[bool]*house{false: hasty, true: patient}[leave]
		c, err := net.Dial("tcp", h.srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST /v1/streams/payments/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n%s\n", pay(1, "1"))
		if leave {
			_ = c.(*net.TCPConn).CloseWrite()
		}
		answer, _ := io.ReadAll(c)
		_ = c.Close()
		if want := map[bool]string{false: "408", true: "400"}[leave]; !strings.Contains(string(answer), want) {
			t.Errorf("leave %t: %s", leave, answer)
		}
		if n := len(h.stored("payments")); n != 0 {
			t.Errorf("leave %t: %d records of a body that did not arrive", leave, n)
		}
	}
	pr, pw := io.Pipe()
	go func() {
		body := []byte(pay(1, "1"))
		for _, b := range body {
			time.Sleep(timeout / time.Duration(len(body)-1)) // longer in all
			_, _ = pw.Write([]byte{b})
		}
		_ = pw.Close()
	}()
	if status, a, text := patient.postTo("payments", pr); status != 200 || a.Accepted != 1 {
		t.Error(status, text)
	}
}

// TestBackPressure holds most of the budget with a body that does not end.
func TestBackPressure(t *testing.T) {
	h := newHouse(t, Options{InFlight: 64 << 10})
	pr, pw := io.Pipe()
	done := make(chan int)
	go func() {
		status, _, _ := h.postTo("payments", pr, "Content-Type: application/x-ndjson")
		done <- status
	}()
	half := strings.Repeat(" ", 20<<10)
	if _, err := io.WriteString(pw, half); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return h.h.budget.used.Load() >= 32<<10 })
	status, _, text := h.post("[" + strings.Repeat(" ", 40<<10) + "]")
	if status != 429 || !strings.Contains(text, "Retry-After:[1]") {
		t.Fatal(status, text)
	}
	if _, err := io.WriteString(pw, "\n"+pay(1, "1")); err != nil {
		t.Fatal(err)
	}
	_ = pw.Close()
	if status := <-done; status != 200 {
		t.Errorf("the first request got %d", status)
	}
	if status, _, text := h.post("[" + strings.Repeat(" ", 20<<10) + "]"); status != 200 {
		t.Error(status, text)
	}
	if n := h.h.budget.used.Load(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within a minute")
		}
	}
}

func TestIdempotency(t *testing.T) {
	h := newHouse(t, Options{})
	body := "[" + pay(1, "1") + `,{"id":3},` + pay(2, "2") + "]"
	status, first, text := h.post(body, "Idempotency-Key: k1")
	if status != 200 || first.Accepted != 2 || first.Refused != 1 || strings.Contains(text, "Replayed") {
		t.Fatal(status, text)
	}
	again := func(h *house, name string) {
		t.Helper()
		status, a, text := h.post(body, "Idempotency-Key: k1")
		if status != 200 || !reflect.DeepEqual(a, first) || !strings.Contains(text, "Idempotency-Replayed:[true]") {
			t.Errorf("%s: %d %s, want %+v", name, status, text, first)
		}
		if n, d := len(h.stored("payments")), len(h.deadLetters()); n != 2 || d != 1 {
			t.Errorf("%s: %d records, %d dead letters", name, n, d)
		}
	}
	again(h, "again")
	for _, other := range []string{pay(1, "1"), body + " "} {
		if status, _, text := h.post(other, "Idempotency-Key: k1"); status != 422 || !strings.Contains(text, "another body") {
			t.Error(status, text)
		}
	}
	again(h, "after another body")
	again(openHouse(t, h.fs.(*vfs.Mem).CrashClone(), h.stream, Options{}), "after a crash")

	if status, _, _ := h.post(body, "Idempotency-Key: k2"); status != 200 || len(h.stored("payments")) != 4 {
		t.Error("another key does not write")
	}
	if status, _, _ := h.post(body); status != 200 || len(h.stored("payments")) != 6 {
		t.Error("no key does not write")
	}
	// A body of which nothing can be taken.
	for range 2 {
		if status, _, text := h.post("a,b\n1,2\n", "Content-Type: text/csv", "Idempotency-Key: k3"); status != 422 || !strings.Contains(text, "no column") {
			t.Error(status, text)
		}
	}
}

// TestSameKeyAtOnce sends one request many times at once.
func TestSameKeyAtOnce(t *testing.T) {
	h := newHouse(t, Options{})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			for {
				status, a, text := h.post(pay(1, "1"), "Idempotency-Key: k")
				if status == 200 && a.Accepted == 1 {
					return
				}
				if status != 409 {
					t.Error(status, text)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := len(h.stored("payments")); n != 1 {
		t.Errorf("%d records", n)
	}
}

func TestKeysAreForgotten(t *testing.T) {
	now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	h := newHouse(t, Options{KeysMax: 3, Now: func() time.Time { return now }})
	for i := range 5 {
		if status, _, text := h.post(pay(i, "1"), fmt.Sprint("Idempotency-Key: k", i)); status != 200 {
			t.Fatal(status, text)
		}
	}
	if n := h.h.ledger.size(); n > 4 {
		t.Errorf("%d keys are known", n)
	}
	if _, _, text := h.post(pay(4, "1"), "Idempotency-Key: k4"); !strings.Contains(text, "Replayed") {
		t.Error(text)
	}
	now = now.Add(25 * time.Hour)
	if _, _, text := h.post(pay(4, "1"), "Idempotency-Key: k4"); strings.Contains(text, "Replayed") {
		t.Error("a key is known after a day", text)
	}
	if n := h.h.ledger.size(); n != 1 {
		t.Errorf("%d keys are known", n)
	}
}

// TestCrashes crashes while requests with keys are written, some of them after
// their events and before the note of it, and sends all of them again: every event
// is there once.
func TestCrashes(t *testing.T) {
	seeds.Each(t, 8, func(t *testing.T, seed uint64) {
		fs := vfs.NewMem(seed)
		h := openHouse(t, fs, payments(schema.JSON), Options{})
		bodies := make([]string, 30)
		n := 0
		r := rand.New(rand.NewPCG(seed, 1))
		for i := range bodies {
			var events []string
			for range 1 + r.IntN(40) {
				amount := "1"
				if r.IntN(5) == 0 {
					amount = `"x"`
				}
				events = append(events, pay(n, amount))
				n++
			}
			bodies[i] = strings.Join(events, "\n")
		}
		send := func(h *house, i int) (int, *Answer) {
			status, a, _ := h.post(bodies[i], "Content-Type: application/x-ndjson", fmt.Sprint("Idempotency-Key: ", i))
			return status, a
		}
		answers := make([]*Answer, len(bodies))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for w := range 3 {
			wg.Go(func() {
				for i := w; i < len(bodies); i += 3 {
					select {
					case <-stop:
						return
					default:
						_, answers[i] = send(h, i)
					}
				}
			})
		}
		waitFor(t, func() bool { return h.h.ledger.size() > 3+r.IntN(20) })
		crashed := fs.CrashClone()
		close(stop)
		wg.Wait()
		after := openHouse(t, crashed, h.stream, Options{})
		for i := range bodies {
			status, a := send(after, i)
			if status != 200 && status != 422 {
				t.Fatalf("request %d got %d", i, status)
			}
			if again := answers[i]; again != nil && (again.Accepted != a.Accepted || again.Refused != a.Refused) {
				t.Errorf("request %d: %+v, then %+v", i, again, a)
			}
		}
		seen := map[string]int{}
		for _, v := range after.values("payments") {
			seen[v]++
		}
		for _, d := range after.deadLetters() {
			seen[string(d.Raw)]++
		}
		for v, k := range seen {
			if k != 1 {
				t.Errorf("%d times %s", k, v)
			}
		}
		if len(seen) != n {
			t.Errorf("%d of %d events", len(seen), n)
		}
	})
}

// TestUnsettled restores from a log whose last note of a request is missing.
func TestUnsettled(t *testing.T) {
	h := newHouse(t, Options{})
	_, first, _ := h.post("["+pay(1, "1")+","+pay(2, "x")+","+pay(3, "1")+"]", "Idempotency-Key: k")
	l := newLedger(h.h)
	if err := l.scan(t.Context(), TopicRequests, 0, 0, 1, l.recall); err != nil { // the first note only
		t.Fatal(err)
	}
	if err := l.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	e := l.order[0]
	var runs []Run
	for _, w := range e.written {
		if w.Partition != deadPartition {
			runs = append(runs, w.Run)
		}
	}
	slices.SortFunc(runs, func(a, b Run) int { return int(a.Partition - b.Partition) })
	if !reflect.DeepEqual(runs, first.Offsets) || e.last(deadPartition) != 2 {
		t.Errorf("found %+v, want %+v", e.written, first.Offsets)
	}
}

func TestDiskFull(t *testing.T) {
	fs := vfs.NewFaulty(vfs.NewMem(1))
	h := openHouse(t, fs, payments(schema.JSON), Options{})
	fs.SetSpace(0)
	status, _, text := h.post(pay(1, "1"), "Idempotency-Key: k")
	if status != 507 || !strings.Contains(text, "the disk is full") || !strings.Contains(text, "Retry-After") {
		t.Fatal(status, text)
	}
	if status, _, text := h.post(pay(1, "1")); status != 507 {
		t.Fatal(status, text)
	}
	fs.SetSpace(1 << 40)
	if status, a, text := h.post(pay(1, "1"), "Idempotency-Key: k"); status != 200 || a.Accepted != 1 {
		t.Fatal(status, text)
	}
	if n := len(h.stored("payments")); n != 1 {
		t.Errorf("%d records", n)
	}
}

func TestTransform(t *testing.T) {
	var topics []string
	h := newHouse(t, Options{Transform: func(topic string, batch []byte) ([]byte, error) {
		topics = append(topics, topic)
		var r record.Reader
		r.Reset(batch)
		var b record.Builder
		b.Reset(record.BatchOptions{})
		for rec, err := r.Next(); err == nil; rec, err = r.Next() {
			b.Append(rec.Timestamp, []byte("hidden"), rec.Value, rec.Headers)
		}
		return b.Build()
	}})
	if status, _, text := h.post("[" + pay(1, "1") + ",7]"); status != 200 {
		t.Fatal(text)
	}
	if recs := h.stored("payments"); len(recs) != 1 || string(recs[0].Key) != "hidden" || len(topics) != 2 {
		t.Errorf("%v, %v", recs, topics)
	}
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	h := newHouse(t, Options{Registerer: reg})
	h.post("[" + pay(1, "1") + ",7]")
	problems, err := testutil.GatherAndLint(reg)
	if err != nil || len(problems) > 0 {
		t.Error(err, problems)
	}
	if n := testutil.ToFloat64(h.h.metrics.refused.WithLabelValues("payments", decode.ReasonType)); n != 1 {
		t.Errorf("%v refused", n)
	}
}

// TestElements compares the cutter with encoding/json.
func TestElements(t *testing.T) {
	r := seeds.Rand(t)
	for range 2000 {
		var want []json.RawMessage
		for range r.IntN(5) {
			want = append(want, randomJSON(r, 3))
		}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			text = []byte("[]")
		}
		if r.IntN(2) == 0 {
			var b bytes.Buffer
			if err := json.Indent(&b, text, "", " "); err != nil {
				t.Fatal(err)
			}
			text = b.Bytes()
		}
		e := newElements(text, false)
		for i := 0; ; i++ {
			raw := e.next()
			if raw == nil {
				if i != len(want) {
					t.Fatalf("%d elements of %s", i, text)
				}
				break
			}
			var got bytes.Buffer
			if err := json.Compact(&got, raw.Text); err != nil || got.String() != string(want[i]) {
				t.Fatalf("element %d of %s: %s", i, text, raw.Text)
			}
			at := bytes.Index(text, raw.Text)
			if i == 0 && raw.Line != int64(1+bytes.Count(text[:at], []byte("\n"))) {
				t.Fatalf("line %d of %s", raw.Line, text)
			}
		}
	}
}

func randomJSON(r *rand.Rand, depth int) json.RawMessage {
	switch k := r.IntN(6); {
	case k == 0 && depth > 0:
		return json.RawMessage("[" + string(randomJSON(r, depth-1)) + "," + string(randomJSON(r, depth-1)) + "]")
	case k <= 2 && depth > 0:
		return json.RawMessage(`{"a]\\":` + string(randomJSON(r, depth-1)) + `,"b":` + string(randomJSON(r, depth-1)) + "}")
	case k == 3:
		return json.RawMessage(`"\"],[{\\"`)
	case k == 4:
		return json.RawMessage("-1.5e3")
	}
	return json.RawMessage("null")
}

// FuzzBody sends any bytes in any format: every event is taken or refused, none
// twice, and nothing is held afterwards.
func FuzzBody(f *testing.F) {
	for _, s := range []string{"", "[]", "[" + pay(1, "1") + "]", pay(1, "1") + "\n" + pay(2, "x"), "id,ts,card,amount\n1,2026-01-01T00:00:00Z,c,1\n", `[[[`, `[{"a":"]`, "[1,,2]", "\xef\xbb\xbf[]"} {
		for format := range uint8(3) {
			f.Add([]byte(s), format, false)
		}
		f.Add(gzipped(f, s), uint8(1), true)
	}
	h := newHouse(f, Options{BodyMax: 1 << 20})
	types := []string{"application/json", "application/x-ndjson", "text/csv"}
	f.Fuzz(func(t *testing.T, body []byte, format uint8, zipped bool) {
		before, dead := end(t, h.log, "payments"), end(t, h.log, event.TopicDeadLetters)
		req := httptest.NewRequest(http.MethodPost, "/v1/streams/payments/events", bytes.NewReader(body))
		req.SetPathValue("name", "payments")
		req.Header.Set("Content-Type", types[int(format)%3])
		if zipped {
			req.Header.Set("Content-Encoding", "gzip")
		}
		w := httptest.NewRecorder()
		h.h.ServeHTTP(w, req)
		var a Answer
		switch w.Code {
		case 200, 422:
			if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
				t.Fatal(err)
			}
		case 400, 413:
		default:
			t.Fatalf("%d: %s", w.Code, w.Body)
		}
		if n := end(t, h.log, "payments") - before; n != a.Accepted {
			t.Fatalf("%d records for %d accepted: %s", n, a.Accepted, w.Body)
		}
		if n := end(t, h.log, event.TopicDeadLetters) - dead; n != a.Refused {
			t.Fatalf("%d dead letters for %d refused: %s", n, a.Refused, w.Body)
		}
		if n := h.h.budget.used.Load(); n != 0 {
			t.Fatalf("%d bytes are still held", n)
		}
	})
}

func end(t testing.TB, l *commitlog.Log, topic string) (n int64) {
	one, ok := l.Topic(topic)
	if !ok {
		t.Fatal(topic)
	}
	for _, p := range one.Partitions() {
		n += p.HighWatermark()
	}
	return n
}

// BenchmarkHandler is the way from a body to its answer, over an in-memory file
// system: one event, and 10,000 lines.
func BenchmarkHandler(b *testing.B) {
	h := newHouse(b, Options{})
	for _, n := range []int{1, 10_000} {
		var lines []string
		for i := range n {
			lines = append(lines, pay(i, "12.50"))
		}
		body := strings.Join(lines, "\n")
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				req := httptest.NewRequest(http.MethodPost, "/v1/streams/payments/events", strings.NewReader(body))
				req.SetPathValue("name", "payments")
				req.Header.Set("Content-Type", "application/x-ndjson")
				w := httptest.NewRecorder()
				if h.h.ServeHTTP(w, req); w.Code != 200 {
					b.Fatal(w.Body)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
