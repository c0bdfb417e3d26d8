package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/weirstream/weir/alerts"
	"github.com/weirstream/weir/ingest/event"
)

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

const (
	oldSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	newSecret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

func notification() *alerts.Notification {
	a := event.Alert{ID: event.AlertID("tx", 1, 42, "card-testing"), Rule: "card-testing", Stream: "transactions", Severity: "high", Action: "review",
		Message: "card \"4\" tested\n", Values: event.Values{{Name: "tx.amount", JSON: `"220.10"`}}, Topic: "tx", Partition: 1, Offset: 42}
	return &alerts.Notification{ID: a.ID, Receiver: "desk", Attempt: 1, Alert: a, Data: a.AppendJSON(nil)}
}

// endpoint is a server that answers by a script and a receiver that posts to it.
func endpoint(t testing.TB, o Options, answer http.HandlerFunc) *Receiver {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	if o.Allow == nil {
		o.Allow = loopback
	}
	r, err := New(s.URL+"/hook/token-in-path?key=hidden", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func TestRequest(t *testing.T) {
	var got http.Header
	var body []byte
	r := endpoint(t, Options{Secrets: []string{newSecret, oldSecret}}, func(w http.ResponseWriter, req *http.Request) {
		got = req.Header
		body, _ = io.ReadAll(req.Body)
		if req.Method != http.MethodPost || req.URL.String() != "/hook/token-in-path?key=hidden" {
			t.Errorf("%s %s", req.Method, req.URL)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	n := notification()
	if retry, err := r.Notify(t.Context(), n); retry || err != nil || n.Status != 204 {
		t.Fatalf("retry %v, error %v, status %d", retry, err, n.Status)
	}
	if id := got.Get(standardwebhooks.HeaderWebhookID); id != "tx/1/42/card-testing" {
		t.Errorf("id %q", id)
	}
	if got.Get("Content-Type") != "application/json" {
		t.Errorf("content type %q", got.Get("Content-Type"))
	}
	for _, secret := range []string{newSecret, oldSecret} { // while they are rotated, either verifies
		v, err := standardwebhooks.NewWebhook(secret)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Verify(body, got); err != nil {
			t.Errorf("signature: %v", err)
		}
		if err := v.Verify(append(body, ' '), got); err == nil {
			t.Error("a changed body verifies")
		}
	}
	var decoded struct {
		Type string
		Data event.Alert
	}
	if err := json.Unmarshal(body, &decoded); err != nil || decoded.Type != "alert" || decoded.Data.Message != n.Alert.Message {
		t.Errorf("body %s: %v", body, err)
	}
	if want := `{"type":"alert","data":` + string(n.Data) + `}`; string(body) != want {
		t.Errorf("body %s, want %s", body, want)
	}
}

func TestUnsignedWithoutSecret(t *testing.T) {
	r := endpoint(t, Options{}, func(_ http.ResponseWriter, req *http.Request) {
		if _, ok := req.Header["Webhook-Signature"]; ok {
			t.Error("a signature without a secret")
		}
	})
	if _, err := r.Notify(t.Context(), notification()); err != nil {
		t.Fatal(err)
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		retry  bool
		status int
		after  time.Duration
		err    string // part of it
	}{
		{"400", status(400, "no such field"), false, 400, 0, "400 Bad Request: no such field"},
		{"401", status(401, ""), false, 401, 0, "401 Unauthorized"},
		{"404", status(404, ""), false, 404, 0, "404"},
		{"408", status(408, ""), true, 408, 0, "408"},
		{"410", status(410, ""), false, 410, 0, "the endpoint is gone"},
		{"425", status(425, ""), true, 425, 0, "425"},
		{"429 with seconds", header("Retry-After", "120", 429), true, 429, 2 * time.Minute, "429"},
		{"429 with nonsense", header("Retry-After", "soon", 429), true, 429, 0, "429"},
		{"503 with a past date", header("Retry-After", "Mon, 02 Jan 2006 15:04:05 GMT", 503), true, 503, 0, "503"},
		{"500", status(500, "<h1>oops</h1>"), true, 500, 0, "500 Internal Server Error: <h1>oops</h1>"},
		{"redirect", header("Location", "/elsewhere", 307), false, 307, 0, "redirects are not followed"},
		{"giant answer", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			for range 1 << 10 {
				if _, err := w.Write(bytes.Repeat([]byte("x "), 8<<10)); err != nil {
					return // as it should be: nobody reads 16 MiB
				}
			}
			t.Error("16 MiB of an answer were read")
		}, true, 500, 0, "500"},
		{"giant header", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, true, 0, 0, "header"},
		{"cut off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, true, 0, 0, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := endpoint(t, Options{}, func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/elsewhere" {
					t.Error("the redirect was followed")
				}
				c.answer(w, req)
			})
			n := notification()
			retry, err := r.Notify(t.Context(), n)
			if retry != c.retry || n.Status != c.status || err == nil || !strings.Contains(err.Error(), c.err) {
				t.Fatalf("retry %v, status %d, error %v", retry, n.Status, err)
			}
			if strings.Contains(err.Error(), "token-in-path") || strings.Contains(err.Error(), "hidden") {
				t.Errorf("the error shows the URL: %v", err)
			}
			var refusal *alerts.Refusal
			if errors.As(err, &refusal) && refusal.RetryAfter != c.after || c.after > 0 && refusal == nil {
				t.Errorf("refusal %+v, want Retry-After %s", refusal, c.after)
			}
		})
	}
}

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func header(name, value string, code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(name, value)
		w.WriteHeader(code)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "5": 5 * time.Second, " 5 ": 5 * time.Second, "-5": 0, "1e9": 0, "99999999999999": 0,
		"Wed, 01 May 2024 12:01:30 GMT": 90 * time.Second, "Wed, 01 May 2024 11:00:00 GMT": 0, "Wednesday, 01-May-24 12:00:10 GMT": 10 * time.Second,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("Retry-After %q is %s, want %s", text, got, want)
		}
	}
}

func TestHangEndsWithTheTimeout(t *testing.T) {
	r := endpoint(t, Options{Timeout: 50 * time.Millisecond}, func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		<-req.Context().Done()
	})
	retry, err := r.Notify(t.Context(), notification())
	if !retry || err == nil || err.Error() != "no answer within 50ms" {
		t.Errorf("retry %v, error %v", retry, err)
	}
}

func TestSlowBodyAfterAYes(t *testing.T) {
	r := endpoint(t, Options{Timeout: time.Minute}, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-req.Context().Done() // never ends by itself
	})
	began := time.Now()
	if retry, err := r.Notify(t.Context(), notification()); retry || err != nil {
		t.Errorf("retry %v, error %v", retry, err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestStop(t *testing.T) {
	r := endpoint(t, Options{}, func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body) // only then does the server see that the client left
		<-req.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if retry, err := r.Notify(ctx, notification()); !retry || err == nil {
		t.Errorf("cut off by a stop: retry %v, error %v", retry, err)
	}
}

// TestGuard has addresses by which requests have been forged.
func TestGuard(t *testing.T) {
	g := NewGuard([]netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/8")})
	for _, a := range []string{"127.0.0.1", "127.255.0.9", "0.0.0.0", "10.2.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
		"192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1",
		"::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "::7f00:1"} {
		if g.Check(netip.MustParseAddr(a)) == nil {
			t.Errorf("%s is allowed", a)
		}
	}
	for _, a := range []string{"1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "10.1.2.3", "::ffff:10.1.2.3", "fd12::1"} {
		if err := g.Check(netip.MustParseAddr(a)); err != nil {
			t.Errorf("%s: %v", a, err)
		}
	}
}

func TestLoopbackMustBeNamed(t *testing.T) {
	r := endpoint(t, Options{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, func(http.ResponseWriter, *http.Request) { t.Error("reached") })
	retry, err := r.Notify(t.Context(), notification())
	if !retry || err == nil || !strings.Contains(err.Error(), "not in allow_cidrs") {
		t.Errorf("retry %v, error %v", retry, err)
	}
}

func TestNoProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	r := endpoint(t, Options{}, func(http.ResponseWriter, *http.Request) {})
	if r.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("the transport has a proxy")
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var mu sync.Mutex
	conns := 0
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "thanks") }))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			mu.Lock()
			conns++
			mu.Unlock()
		}
	}
	s.Start()
	defer s.Close()
	r, err := New(s.URL, Options{Allow: loopback, MaxInFlight: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				if _, err := r.Notify(t.Context(), notification()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if conns > 4 {
		t.Errorf("%d connections for 400 notifications, 4 at once", conns)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, url := range []string{"", "example.com", "ftp://example.com", "http://", "http://user:secret@example.com/", "http://[::1"} {
		if _, err := New(url, Options{}); err == nil || url != "" && strings.Contains(err.Error(), url) {
			t.Errorf("New(%q): %v", url, err)
		}
	}
	if _, err := New("https://example.com", Options{Secrets: []string{"whsec_!!!secret"}}); err == nil || strings.Contains(err.Error(), "!!!") {
		t.Errorf("bad secret: %v", err)
	}
}

func TestEscapeID(t *testing.T) {
	for id, want := range map[string]string{"tx/0/5/big-amount": "tx/0/5/big-amount", "card.tx/0/5/r": "card%2Etx/0/5/r", "a%2Eb": "a%252Eb", "a\r\nX: y": "a%0D%0AX:%20y", "é": "%C3%A9"} {
		if got := escapeID(id); got != want {
			t.Errorf("escapeID(%q) = %q, want %q", id, got, want)
		}
	}
}

func FuzzEscapeID(f *testing.F) {
	for _, id := range []string{"tx/0/5/r", "a.b", "%", "\x00\n", "é"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		got := escapeID(id)
		if strings.ContainsAny(got, ".\r\n \x00") || len(got) < len(id) {
			t.Errorf("escapeID(%q) = %q", id, got)
		}
		if back, err := unescape(got); err != nil || back != id {
			t.Errorf("%q comes back as %q, %v", id, back, err)
		}
	})
}

// unescape is the slow inverse: different ids stay different.
func unescape(s string) (string, error) {
	var out []byte
	for len(s) > 0 {
		if s[0] != '%' {
			out, s = append(out, s[0]), s[1:]
			continue
		}
		var c byte
		if _, err := fmt.Sscanf(s[:min(3, len(s))], "%%%02X", &c); err != nil {
			return "", err
		}
		out, s = append(out, c), s[3:]
	}
	return string(out), nil
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "5", "Wed, 01 May 2024 12:01:30 GMT", "-1", "9999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := retryAfter(s, time.Unix(1714564800, 0)); d < 0 {
			t.Errorf("Retry-After %q is %s", s, d)
		}
	})
}

func BenchmarkNotify(b *testing.B) {
	r := endpoint(b, Options{Secrets: []string{newSecret}}, func(w http.ResponseWriter, req *http.Request) { _, _ = io.Copy(io.Discard, req.Body) })
	n := notification()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Notify(context.Background(), n); err != nil {
			b.Fatal(err)
		}
	}
}
