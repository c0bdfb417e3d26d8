// Package endtoend runs the built binary as its users do: a process, a
// configuration, real clients, real input, kill -9.
package endtoend

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirstream/weir/test/loopback"
	"github.com/weirstream/weir/test/published"
)

// binary is the weir under test: WEIR_BINARY, or one built for this run.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		path, remove, err := published.Weir()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer remove()
		binary = path
		return m.Run()
	}())
}

// appliance is one weir process.
type appliance struct {
	t                testing.TB
	cmd              *exec.Cmd
	kafka, http, sql string
	out              *tailBuffer
	exited           chan error
}

var readyLine = regexp.MustCompile(`msg=ready .*kafka=(\S+) http=(\S+) sql=(\S+)`)

// startTimeout bounds the wait for the ready line; recovery of a killed data
// directory is part of it.
const startTimeout = 60 * time.Second

// start runs `weir run` on free ports, or on those of an earlier life.
func start(t testing.TB, configFile, dataDir string, before *appliance, env ...string) *appliance {
	t.Helper()
	kafka, web, sql := loopback.Any(), loopback.Any(), loopback.Any()
	if before != nil {
		kafka, web, sql = before.kafka, before.http, before.sql
	}
	a := &appliance{t: t, out: &tailBuffer{}, exited: make(chan error, 1)}
	a.cmd = exec.Command(binary, "run", "--config", configFile, "--data-dir", dataDir, "--kafka-addr", kafka, "--http-addr", web, "--sql-addr", sql)
	a.cmd.Env = append(os.Environ(), env...)
	stderr, err := a.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan []string, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			a.out.add(lines.Text())
			if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
				ready <- m
			}
		}
		a.exited <- a.cmd.Wait()
	}()
	t.Cleanup(a.kill)
	select {
	case m := <-ready:
		a.kafka, a.http, a.sql = m[1], m[2], m[3]
	case err := <-a.exited:
		a.exited <- err
		t.Fatalf("weir ended before it was ready: %v\n%s", err, a.out)
	case <-time.After(startTimeout):
		t.Fatalf("weir was not ready within %v\n%s", startTimeout, a.out)
	}
	return a
}

// kill is kill -9; it may be called twice.
func (a *appliance) kill() {
	if a.cmd.ProcessState == nil {
		a.cmd.Process.Signal(syscall.SIGKILL) //nolint:errcheck // it may have ended by itself
	}
	err := <-a.exited
	a.exited <- err
}

// stop is SIGTERM and the wait for an orderly end.
func (a *appliance) stop() {
	a.t.Helper()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		a.t.Fatal(err)
	}
	select {
	case err := <-a.exited:
		a.exited <- err
		if err != nil {
			a.t.Fatalf("weir did not end in order: %v\n%s", err, a.out)
		}
	case <-time.After(startTimeout):
		a.t.Fatalf("weir did not end within %v of SIGTERM\n%s", startTimeout, a.out)
	}
}

// run runs a command and returns its standard output.
func run(t testing.TB, ctx context.Context, name string, args ...string) string {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out.Bytes(), errOut.Bytes())
	}
	return out.String()
}

// load is `weir load`.
func (a *appliance) load(file, stream string, args ...string) string {
	a.t.Helper()
	return run(a.t, a.t.Context(), binary, append([]string{"load", file, "--stream", stream, "--kafka-addr", a.kafka, "--http-addr", a.http, "--quiet"}, args...)...)
}

// psql runs a query as psql does and returns the one value of its answer.
func (a *appliance) psql(query string) string {
	a.t.Helper()
	host, port, err := net.SplitHostPort(a.sql)
	if err != nil {
		a.t.Fatal(err)
	}
	return strings.TrimSpace(run(a.t, a.t.Context(), published.Program(a.t, "psql"), "-X", "-A", "-t", "-h", host, "-p", port, "-c", query))
}

// psqlInt is psql for a count.
func (a *appliance) psqlInt(query string) int64 {
	a.t.Helper()
	text := a.psql(query)
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		a.t.Fatalf("%s: %q is not a count", query, text)
	}
	return n
}

// kcatCount is the number of records that kcat counts in a topic.
func (a *appliance) kcatCount(topic string) int64 {
	a.t.Helper()
	out := run(a.t, a.t.Context(), published.Program(a.t, "kcat"), "-b", a.kafka, "-C", "-t", topic, "-e", "-q", "-f", "%p %o\n")
	seen := map[string]bool{}
	for line := range strings.Lines(out) {
		if seen[line] {
			a.t.Errorf("kcat saw %s of %s twice", strings.TrimSpace(line), topic)
		}
		seen[line] = true
	}
	return int64(len(seen))
}

// get decodes a JSON answer.
func (a *appliance) get(path string, into any) {
	a.t.Helper()
	resp, err := http.Get("http://" + a.http + path)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		a.t.Fatalf("GET %s: %s: %s", path, resp.Status, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		a.t.Fatalf("GET %s: %v: %s", path, err, body)
	}
}

// overview is the part of /v1/overview that the tests read.
type overview struct {
	Streams []struct {
		Name                                 string
		Events, Lag, Late, Decisions, Alerts int64
		DeadLetters                          int64 `json:"dead_letters"`
	}
	Rules []struct {
		ID                    string
		Fired, Errors, NoData int64
	}
	Alerts     struct{ Total int64 }
	Decisions  struct{ Total int64 }
	Deliveries struct{ Delivered, Retrying, Failed int64 }
	SQL        struct{ Lag int64 }
}

// settled waits until the engine has decided, SQL has read and the receivers
// have got all that is in the log.
func (a *appliance) settled(within time.Duration) overview {
	a.t.Helper()
	deadline := time.Now().Add(within)
	for {
		var o overview
		a.get("/v1/overview", &o)
		lag := o.SQL.Lag + o.Deliveries.Retrying + (o.Alerts.Total - a.deliveredEver())
		for _, s := range o.Streams {
			lag += s.Lag
		}
		if lag == 0 {
			return o
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("not settled within %v: %+v\n%s", within, o, a.out)
		}
		time.Sleep(50 * time.Millisecond) // between two looks at a condition
	}
}

// deliveredEver is the number of alerts delivered, earlier lives included.
func (a *appliance) deliveredEver() int64 {
	a.t.Helper()
	var page struct{ Rows [][]any }
	body, err := json.Marshal(map[string]string{"query": "SELECT count(DISTINCT alert) FROM deliveries WHERE outcome = 'delivered'"})
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := http.Post("http://"+a.http+"/v1/sql", "application/json", bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&page); err != nil || len(page.Rows) != 1 {
		a.t.Fatalf("counting deliveries: %v, %v (%s)", page.Rows, err, resp.Status)
	}
	n, ok := page.Rows[0][0].(float64)
	if !ok {
		a.t.Fatalf("counting deliveries: %v", page.Rows)
	}
	return int64(n)
}

// tailBuffer keeps the last lines that a process wrote.
type tailBuffer struct {
	mu    sync.Mutex
	lines []string
}

func (b *tailBuffer) add(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lines = append(b.lines, line); len(b.lines) > 200 {
		b.lines = b.lines[100:]
	}
}

func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.lines, "\n")
}

// hook is a webhook receiver that remembers what it got.
type hook struct {
	*httptest.Server
	mu       sync.Mutex
	bodies   map[string]string // by idempotency key
	posts    int
	conflict []string // keys that came twice with different content
}

func newHook(t testing.TB) *hook {
	h := &hook{bodies: map[string]string{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		key := r.Header.Get("webhook-id")
		if had, again := h.bodies[key]; again && had != string(body) {
			h.conflict = append(h.conflict, key)
		}
		h.bodies[key] = string(body)
		h.posts++
	}))
	t.Cleanup(h.Close)
	return h
}

// check wants exactly this many alerts, each under a key of its own, and no key
// with two contents.
func (h *hook) check(t testing.TB, alerts int64) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.conflict) > 0 {
		t.Errorf("%d idempotency keys came twice with different content, such as %s", len(h.conflict), h.conflict[0])
	}
	if int64(len(h.bodies)) != alerts {
		t.Errorf("the webhook got %d different alerts in %d calls, want %d", len(h.bodies), h.posts, alerts)
	}
	ids := map[string]bool{}
	for key, body := range h.bodies {
		var n struct {
			Type string
			Data struct{ ID string }
		}
		if err := json.Unmarshal([]byte(body), &n); err != nil || n.Data.ID == "" {
			t.Fatalf("key %s: not a notification: %v: %s", key, err, body)
		}
		ids[n.Data.ID] = true
	}
	if int64(len(ids)) != alerts {
		t.Errorf("the webhook got %d different alert ids, want %d", len(ids), alerts)
	}
}
