package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/cmd/node"
)

const payConfig = `
streams:
  pay:
    time: ts
    key: card
    fields: {ts: timestamp, card: string, amount: decimal(2)}
`

// startNode runs a node with a configuration until the test ends or stop is called.
func startNode(t *testing.T, dir, yaml string) (n *node.Node, stop func()) {
	t.Helper()
	path := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DataDir = filepath.Join(dir, "data")
	cfg.KafkaAddr, cfg.HTTPAddr, cfg.SQLAddr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	prepared, err := node.Prepare(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n = node.New(prepared, node.Options{Version: "test", Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))})
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

// TestDeadLetters loads a file with bad lines and sends a bad event, mends the
// declaration, and replays them with the commands.
func TestDeadLetters(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "pay.csv")
	if err := os.WriteFile(file, []byte("card,ts,amount\na,2026-01-01T00:00:00Z,1.50\nb,2026-01-01T00:00:01Z,1.505\nc,2026-01-01T00:00:02Z,\x1b[2J\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		code := Main(args, strings.NewReader(""), &out, &errs)
		return code, out.String() + errs.String()
	}
	expect := func(want []string, code int, args ...string) {
		t.Helper()
		got, text := run(args...)
		for _, w := range want {
			if got != code || !strings.Contains(text, w) {
				t.Errorf("%v: exit code %d, want %d and %q in:\n%s", args, got, code, w, text)
			}
		}
	}
	n, stop := startNode(t, dir, payConfig)
	expect([]string{"no dead letters"}, exitDone, "deadletter", "list", "--http-addr", n.HTTPAddr())
	expect([]string{"1 rows loaded"}, exitDone, "load", file, "--stream", "pay", "--kafka-addr", n.KafkaAddr(), "--http-addr", n.HTTPAddr(), "--quiet")
	resp, err := http.Post("http://"+n.HTTPAddr()+"/v1/streams/pay/events", "application/json", strings.NewReader(`{"ts":"2026-01-01T00:00:00Z","card":"d","amount":2.555}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	list := func(args ...string) string {
		t.Helper()
		code, text := run(append([]string{"deadletter", "list", "--http-addr", n.HTTPAddr()}, args...)...)
		if code != exitDone {
			t.Fatal(text)
		}
		return text
	}
	for deadline := time.Now().Add(time.Minute); strings.Count(list("--json"), "\n") < 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(list())
		}
	}
	text := list("--stream", "pay", "--reason", "type")
	for _, want := range []string{"TIME", file + ":3:24", "http:1:50", "amount", "more decimal places"} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in:\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Errorf("an escape sequence: %q", text)
	}
	if text := list("--reason", "missing"); !strings.Contains(text, "no dead letters") {
		t.Error(text)
	}
	var v letterView
	if err := json.Unmarshal([]byte(strings.SplitAfter(list("--json", "--limit", "1"), "\n")[0]), &v); err != nil || v.Stream != "pay" || v.Raw == "" {
		t.Errorf("%+v, %v", v, err)
	}
	stop()

	n, _ = startNode(t, dir, strings.Replace(payConfig, "decimal(2)", "decimal(3)", 1))
	addr := []string{"--http-addr", n.HTTPAddr()}
	replay := append([]string{"deadletter", "replay", "--stream", "pay"}, addr...)
	expect([]string{"pay: 3 dead letters, 2 would be replayed, 0 replayed before"}, exitDone, append(replay, "--dry-run")...)
	expect([]string{"pay: 3 dead letters, 2 replayed, 0 replayed before", "1 still do not fit: type", "the first of them: type in field amount"}, exitDone, replay...)
	expect([]string{`"replayed":0,"already":2`}, exitDone, append(replay, "--json")...)
	expect([]string{`did you mean "pay"?`}, exitMistake, append([]string{"deadletter", "replay", "--stream", "pya"}, addr...)...)
	expect([]string{"--stream"}, exitMistake, append([]string{"deadletter", "replay"}, addr...)...)
	expect([]string{"--limit"}, exitMistake, append([]string{"deadletter", "list", "--limit", "0"}, addr...)...)
	expect([]string{"is `weir run` up?"}, exitFailed, "deadletter", "list", "--http-addr", "127.0.0.1:1")
}
