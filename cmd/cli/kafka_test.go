package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/vfs"
)

// startBroker serves a log in memory until the test ends.
func startBroker(t *testing.T) (l *commitlog.Log, addr string) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	l, err := commitlog.Open(t.Context(), "data", commitlog.Options{FS: vfs.NewMem(1), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	s, err := broker.New(l, broker.Options{Logger: quiet, DrainTimeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, ln.Addr().String()
}

// weir runs a command line against a broker.
type weir struct {
	t    *testing.T
	addr string
}

// run gives the exit code, standard output and standard error.
func (w *weir) run(in string, args ...string) (code int, out, errs string) {
	w.t.Helper()
	var o, e bytes.Buffer
	code = Main(append(args, "--kafka-addr", w.addr), strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

// want fails where the exit code is another or a text is in neither output.
func (w *weir) want(code int, texts []string, args ...string) string {
	w.t.Helper()
	return w.feed("", code, texts, args...)
}

func (w *weir) feed(in string, code int, texts []string, args ...string) string {
	w.t.Helper()
	got, out, errs := w.run(in, args...)
	for _, text := range append(texts, "") {
		if got != code || !strings.Contains(out+errs, text) {
			w.t.Errorf("weir %s: exit code %d, expected %d and %q in\n%s%s", strings.Join(args, " "), got, code, text, out, errs)
		}
	}
	return out
}

func TestTopicCommands(t *testing.T) {
	l, addr := startBroker(t)
	w := &weir{t, addr}
	if _, err := l.CreateTopic(commitlog.TopicSpec{Name: "weir.alerts", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	w.want(exitDone, []string{"clicks made with 3 partitions"}, "topic", "create", "clicks", "--partitions", "3", "--set", "retention.ms=1000")
	w.want(exitMistake, []string{"clicks", "TOPIC_ALREADY_EXISTS"}, "topic", "create", "clicks")
	w.want(exitDone, []string{"there already"}, "topic", "create", "clicks", "--if-not-exists")
	w.want(exitMistake, []string{`retention.ms="soon"`}, "topic", "create", "x", "--set", "retention.ms=soon")
	w.want(exitMistake, []string{"NAME=VALUE"}, "topic", "create", "x", "--set", "retention.ms")
	w.want(exitDone, []string{"units made"}, "topic", "create", "units", "--set", "retention.ms=7d", "--set", "segment.bytes=64MiB")
	w.want(exitDone, []string{"set: retention.ms=604800000 segment.bytes=67108864\n", "The size of a segment file"}, "topic", "describe", "units", "--settings")
	w.want(exitDone, nil, "topic", "delete", "units", "--yes")
	w.want(exitMistake, []string{"Weir's own"}, "topic", "create", "weir.mine")
	w.want(exitDone, []string{"can be made"}, "topic", "create", "x", "--dry-run")
	w.feed("a\nb\nc\n", exitDone, []string{"3 records written"}, "produce", "clicks", "--partition", "1")
	w.want(exitDone, []string{"TOPIC", "clicks       3           3", "retention.ms=1000", "weir.alerts"}, "topic", "list")
	var v topicView
	line, _, _ := strings.Cut(w.want(exitDone, nil, "topic", "list", "--json"), "\n")
	if err := json.Unmarshal([]byte(line), &v); err != nil || v.Topic != "clicks" || v.Records != 3 || v.Bytes < 61 || v.Partitions[1].End != 3 || v.Configs["retention.ms"] != "1000" {
		t.Errorf("%v in %s", err, line)
	}
	w.want(exitDone, []string{"clicks: 3 partitions, 3 records", "PARTITION", "cleanup.policy", "default"}, "topic", "describe", "clicks", "--settings")
	w.want(exitMistake, []string{`did you mean "clicks"?`}, "topic", "describe", "click")
	w.want(exitDone, []string{"clicks changed"}, "topic", "alter", "clicks", "--unset", "retention.ms", "--append", "cleanup.policy=compact")
	w.want(exitDone, []string{"set: cleanup.policy=delete,compact\n"}, "topic", "describe", "clicks")
	w.want(exitMistake, []string{"not a list"}, "topic", "alter", "clicks", "--append", "retention.ms=1")
	w.want(exitMistake, []string{"what is to be changed?"}, "topic", "alter", "clicks")
	w.want(exitMistake, []string{"topic clikcs: there is no such topic or partition; see: weir topic list"}, "topic", "alter", "clikcs", "--set", "retention.ms=1h")
	w.want(exitDone, []string{"could have 5"}, "topic", "add-partitions", "clicks", "--to", "5", "--dry-run")
	w.want(exitDone, []string{"has 5 partitions"}, "topic", "add-partitions", "clicks", "--to", "5")
	w.want(exitMistake, []string{"expected more than the 5"}, "topic", "add-partitions", "clicks", "--to", "4")
	w.want(exitMistake, []string{"clicks would be deleted: 3 records", "--yes"}, "topic", "delete", "clicks")
	w.want(exitMistake, []string{"Weir's own"}, "topic", "delete", "weir.alerts", "--yes")
	w.want(exitDone, []string{"clicks deleted"}, "topic", "delete", "clicks", "--yes")
	w.want(exitMistake, []string{"no topic"}, "topic", "delete", "clicks", "--yes")
}

// TestProduceConsume: what goes in by each way comes out by each way.
func TestProduceConsume(t *testing.T) {
	l, addr := startBroker(t)
	w := &weir{t, addr}
	for _, name := range []string{"t", "json", "copy", "empty", "own"} {
		if _, err := l.CreateTopic(commitlog.TopicSpec{Name: name, Partitions: 1}); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want string, args ...string) {
		t.Helper()
		if out := w.want(exitDone, nil, append([]string{"consume"}, args...)...); out != want {
			t.Errorf("weir consume %s: got\n%q\nexpected\n%q", strings.Join(args, " "), out, want)
		}
	}
	file := filepath.Join(t.TempDir(), "in.txt")
	if err := os.WriteFile(file, []byte("k3:v3\nk4:\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.feed("v0\nv1\n", exitDone, nil, "produce", "t", "--key", "k", "--header", "h=x", "--header", "i=")
	w.feed("k2:v2:w\n", exitDone, nil, "produce", "t", "--key-separator", ":", "--acks", "1", "--compression", "zstd", "-", file)
	expect("v0\nv1\nv2:w\nv3\n\n", "t", "--until-end")
	expect("k:v0\nk:v1\nk2:v2:w\nk3:v3\nk4:\n", "t", "--until-end", "--format", "key-value")
	expect("0@2 k2=v2:w\n0@3 k3=v3\n", "t", "--from", "2", "--count", "2", "--format", `%p@%o %k=%v\n`)
	expect("v3\n\n", "t", "--last", "2", "--until-end")
	expect("", "t", "--from", "end", "--until-end")
	expect("", "empty", "--until-end")
	expect("v0\n", "t", "--from", "1h", "--count", "1", "--partition", "0")
	expect("v0\n", "t", "--from", "2020-01-31", "--count", "1", "--isolation", "uncommitted")

	lines := `{"key":"k","value":"<v>","timestamp":"2026-01-31T12:00:00.123Z","headers":[{"key":"h","value":"x"},{"key":"n","value":null}]}
{"value":null,"key":"gone"}

{"value":{"amount":1.50},"partition":7,"offset":9,"topic":"another"}
{"key_base64":"/w==","value":"x"}
`
	w.feed(lines, exitDone, []string{"4 records written"}, "produce", "json", "--json")
	out := w.want(exitDone, []string{
		`{"topic":"json","partition":0,"offset":0,"timestamp":"2026-01-31T12:00:00.123Z","key":"k","value":"<v>","headers":[{"key":"h","value":"x"},{"key":"n","value":null}]`,
		`"offset":1,`, `"key":"gone","value":null`, `"value":"{\"amount\":1.50}"`, `"key":null,"key_base64":"/w==","value":"x"`,
	}, "consume", "json", "--json", "--until-end")
	// A copy is the same but for where it is.
	w.feed(out, exitDone, nil, "produce", "copy", "--json")
	again := strings.ReplaceAll(w.want(exitDone, nil, "consume", "copy", "--json", "--until-end"), `"topic":"copy"`, `"topic":"json"`)
	if strip(again) != strip(out) {
		t.Errorf("copied\n%s\nto\n%s", out, again)
	}
	w.feed("x\n", exitDone, []string{"1 record written"}, "produce", "made", "--create")

	w.feed("x\n", exitMistake, []string{`there is no topic "tt"`, `did you mean "t"?`}, "produce", "tt")
	w.feed("x\n", exitMistake, []string{"standard input:1: there is no key separator"}, "produce", "own", "--key-separator", "|")
	w.feed("{\"value\":\"x\"}\n{\"vale\":1}\n", exitMistake, []string{"standard input:2:", "vale", "1 record written before"}, "produce", "own", "--json")
	w.feed("{}\n", exitMistake, []string{"tombstone"}, "produce", "own", "--json")
	w.feed("x\n", exitMistake, []string{"no partition 4"}, "produce", "own", "--partition", "4")
	w.want(exitMistake, []string{"no such file"}, "produce", "own", file+"x")
	for _, args := range [][]string{
		{"produce", "t", "--acks", "2"}, {"produce", "t", "--compression", "rar"}, {"produce", "t", "--header", "x"}, {"produce", "t", "--json", "--key", "k"}, {"produce"},
		{"consume", "t", "--from", "yesterday"}, {"consume", "t", "--from", "-3"}, {"consume", "t", "--last", "1", "--from", "end"}, {"consume", "t", "--isolation", "x"},
		{"consume", "t", "--format", "xml"}, {"consume", "t", "--format", "%q"}, {"consume", "t", "--partition", "4"}, {"consume", "t", "--group", "g", "--last", "1"},
		{"consume", "nosuch"}, {"consume", "t", "--json", "--format", "plain"},
	} {
		w.want(exitMistake, []string{"weir: "}, args...)
	}
	if _, err := l.CreateTopic(commitlog.TopicSpec{Name: "small", Partitions: 1, Configs: map[string]string{"max.message.bytes": "200"}}); err != nil {
		t.Fatal(err)
	}
	w.feed(strings.Repeat("x", 1000)+"\n", exitFailed, []string{"standard input:1: not written", "max.message.bytes"}, "produce", "small")
	if text := forTerminal("a\x1b[2Jb\tc\n"); text != "a?[2Jb\tc\n" {
		t.Errorf("%q", text)
	}
}

// strip takes the producer and the epoch out of records as JSON.
func strip(records string) string {
	var b strings.Builder
	for line := range strings.Lines(records) {
		b.WriteString(line[:strings.Index(line, `,"leader_epoch"`)] + "\n")
	}
	return b.String()
}

// TestNoBroker: who asks where nobody answers is told how to start one.
func TestNoBroker(t *testing.T) {
	const addr = "127.0.0.1:1"
	w := &weir{t, addr}
	for _, args := range [][]string{{"topic", "list"}, {"consume", "t"}, {"produce", "t"}, {"group", "list"}} {
		w.want(exitFailed, []string{"no Kafka broker answers at " + addr, "connection refused", "weir run"}, args...)
	}
	w.addr = "nowhere"
	w.want(exitMistake, []string{"HOST:PORT"}, "topic", "list")
}

// TestConsumeStops: an interrupt ends a consumer that waits, in order.
func TestConsumeStops(t *testing.T) {
	l, addr := startBroker(t)
	if _, err := l.CreateTopic(commitlog.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	pr, pw := io.Pipe()
	root := newRoot()
	root.SetArgs([]string{"consume", "t", "--kafka-addr", addr})
	var errs bytes.Buffer
	root.SetOut(pw)
	root.SetErr(&errs)
	done := make(chan error, 1)
	go func() { done <- root.ExecuteContext(ctx) }()
	w := &weir{t, addr}
	w.feed("hello\n", exitDone, nil, "produce", "t")
	got := make([]byte, 6)
	if _, err := io.ReadFull(pr, got); err != nil || string(got) != "hello\n" {
		t.Fatalf("%v %q", err, got)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil || !strings.Contains(errs.String(), "1 record") {
			t.Fatalf("%v, %q", err, errs.String())
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}
