package endtoend

import (
	"bufio"
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirstream/weir/test/published"
)

// demoTimeout is how soon a newcomer must see everything move.
const demoTimeout = 30 * time.Second

// TestDemo runs `weir demo` as a newcomer does and wants, within 30 seconds,
// what the README says: events on three streams, alerts printed, SQL growing,
// topics listed, metrics that promtool takes.
func TestDemo(t *testing.T) {
	began := time.Now()
	cmd := exec.Command(binary, "demo", "--data-dir", t.TempDir(), "--kafka-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--sql-addr", "127.0.0.1:0")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errOut := &tailBuffer{}
	cmd.Stderr = writerFunc(func(p []byte) (int, error) { errOut.add(string(p)); return len(p), nil })
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a := &appliance{t: t, cmd: cmd, out: errOut, exited: make(chan error, 1)}
	addresses, alerts := make(chan string, 16), make(chan string, 1024)
	go func() {
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			switch text := lines.Text(); {
			case strings.HasPrefix(text, "alert "):
				select {
				case alerts <- text:
				default: // enough were seen
				}
			case addressLine.MatchString(text):
				addresses <- text
			}
		}
		a.exited <- cmd.Wait()
	}()
	t.Cleanup(a.kill)
	wait := func(what string, ch chan string) string {
		select {
		case s := <-ch:
			return s
		case err := <-a.exited:
			a.exited <- err
			t.Fatalf("the demo ended before %s: %v\n%s", what, err, errOut)
		case <-time.After(time.Until(began.Add(demoTimeout))):
			t.Fatalf("no %s within %v\n%s", what, demoTimeout, errOut)
		}
		return ""
	}
	for a.http == "" || a.kafka == "" || a.sql == "" {
		m := addressLine.FindStringSubmatch(wait("address", addresses))
		switch m[1] {
		case "console":
			a.http = m[2]
		case "Kafka":
			a.kafka = m[2]
		case "SQL":
			a.sql = m[2]
		}
	}
	t.Log(wait("alert printed by the receiver", alerts))

	// Each stream grows, in the overview and in SQL.
	streams := []string{"transactions", "clicks", "ticks"}
	first := map[string]int64{}
	for _, s := range streams {
		first[s] = a.psqlInt("select count(*) from " + s)
	}
	for _, s := range streams {
		for a.psqlInt("select count(*) from "+s) <= first[s] {
			if time.Since(began) > demoTimeout {
				t.Fatalf("SQL does not see %s grow", s)
			}
			time.Sleep(50 * time.Millisecond) // between two looks at a condition
		}
	}
	var o overview
	a.get("/v1/overview", &o)
	for _, s := range o.Streams {
		if s.Events == 0 || s.DeadLetters > 0 || s.Late > s.Events/10 {
			t.Errorf("stream %s: %+v", s.Name, s)
		}
	}
	for _, r := range o.Rules {
		if r.Errors > 0 {
			t.Errorf("rule %s has %d errors", r.ID, r.Errors)
		}
	}
	list := run(t, t.Context(), published.Program(t, "kcat"), "-b", a.kafka, "-L")
	for _, topic := range append(streams, "weir.decisions", "weir.alerts", "weir.deliveries", "weir.deadletters") {
		if !strings.Contains(list, `topic "`+topic+`"`) {
			t.Errorf("kcat -L does not list %s:\n%s", topic, list)
		}
	}
	resp, err := http.Get("http://" + a.http + "/")
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		t.Errorf("the console: %v %v", resp, err)
	}
	a.checkMetrics()
	if took := time.Since(began); took > demoTimeout {
		t.Errorf("all of it took %v, want at most %v", took, demoTimeout)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := <-a.exited; err != nil {
		t.Errorf("the demo did not end in order: %v\n%s", err, errOut)
		a.exited <- err
	} else {
		a.exited <- nil
	}
}

var addressLine = regexp.MustCompile(`^\s*(console|Kafka|SQL)\s+(?:http://)?(\d+\.\d+\.\d+\.\d+:\d+)`)

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// checkMetrics gives /metrics to promtool.
func (a *appliance) checkMetrics() {
	a.t.Helper()
	resp, err := http.Get("http://" + a.http + "/metrics")
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		a.t.Fatal(err)
	}
	cmd := exec.CommandContext(a.t.Context(), published.Program(a.t, "promtool"), "check", "metrics")
	cmd.Stdin = bytes.NewReader(text.Bytes())
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		a.t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	for _, name := range []string{"weir_build_info", "weir_log_", "weir_broker_", "weir_engine_", "weir_alerts_", "weir_sql_"} {
		if !strings.Contains(text.String(), "\n"+name) {
			a.t.Errorf("/metrics has nothing that begins with %s", name)
		}
	}
}

// TestFlippedByte flips one byte in the middle of a sealed segment and wants the
// damage named and never served, with the rest of the log at work.
func TestFlippedByte(t *testing.T) {
	file, _, _ := part(t, 60_000)
	config, data := writeConfig(t, "http://127.0.0.1:1/"), t.TempDir()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, append(text, "log: {segment_bytes: 1MiB}\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	a := start(t, config, data, nil)
	a.load(file, "transactions")
	a.stop()

	segments, err := filepath.Glob(filepath.Join(data, "log", "topics", "transactions-0", "*.log"))
	if err != nil || len(segments) < 2 {
		t.Fatalf("want at least two segments of transactions[0], found %v (%v)", segments, err)
	}
	bytesOf, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	at := len(bytesOf) / 2
	bytesOf[at] ^= 0x20
	if err := os.WriteFile(segments[0], bytesOf, 0o600); err != nil {
		t.Fatal(err)
	}

	b := start(t, config, data, nil)
	deadline := time.Now().Add(startTimeout)
	named := regexp.MustCompile(`topic=transactions.*partition=0.*offset=\d+.*file=\S*` + regexp.QuoteMeta(filepath.Base(segments[0])))
	for !named.MatchString(b.out.String()) {
		if time.Now().After(deadline) {
			t.Fatalf("the flipped byte was not found and named within %v:\n%s", startTimeout, b.out)
		}
		time.Sleep(50 * time.Millisecond) // between two looks at a condition
	}
	// A client gets an error or stops before the damage; it never gets the batch.
	cmd := exec.Command(published.Program(t, "kcat"), "-b", b.kafka, "-C", "-t", "transactions", "-p", "0", "-o", "beginning", "-e", "-q", "-m", "10", "-f", "%s\n")
	out, _ := cmd.CombinedOutput()
	if bytes.Contains(out, bytesOf[max(0, at-16):at+16]) {
		t.Error("the damaged bytes were served")
	}
	// The other partitions are whole.
	good := run(t, t.Context(), published.Program(t, "kcat"), "-b", b.kafka, "-C", "-t", "transactions", "-p", "1", "-e", "-q", "-f", "%o\n")
	if n := strings.Count(good, "\n"); n < 10_000 {
		t.Errorf("partition 1 gives %d records", n)
	}
}
