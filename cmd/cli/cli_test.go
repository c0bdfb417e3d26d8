package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/loader"
)

// TestExitCodes wants 2 and advice for what a person got wrong, 1 for what failed.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := write("good.yaml", "streams:\n  s:\n    time: ts\n    fields: {ts: timestamp}\n")
	bad := write("bad.yaml", "streams:\n  s:\n    time: t\n    fields: {ts: timestamp}\n")
	rule := func(dir, expect string) {
		write(dir+".yaml", "rules: "+dir+"\nstreams:\n  s:\n    time: ts\n    id: id\n    fields: {ts: timestamp, id: string, n: int64}\n")
		write(filepath.Join(dir, "r.yaml"), "id: big\nstream: s\nwhen: s.n > 5\ntests:\n  - {name: a case, file: e.ndjson, expect: ["+expect+"]}\n")
		write(filepath.Join(dir, "e.ndjson"), `{"ts":"2026-01-01T00:00:00Z","id":"a","n":5}`+"\n"+`{"ts":"2026-01-01T00:00:00Z","id":"b","n":6}`+"\n")
	}
	rule("right", "b")
	rule("wrong", "a")
	for _, c := range []struct {
		args []string
		code int
		want string // in standard output or error
	}{
		{[]string{"version"}, 0, "weir "},
		{[]string{"--help"}, 0, "weir demo"},
		{[]string{"run", "--no-such-flag"}, 2, "weir run --help"},
		{[]string{"run", "extra"}, 2, "weir run --help"},
		{[]string{"run", "--log-level", "loud"}, 2, "expected debug, info, warn or error"},
		{[]string{"run", "--config", filepath.Join(dir, "none.yaml")}, 2, "--config FILE"},
		{[]string{"check-config", "--config", good}, 0, "good: 1 streams, 0 rules"},
		{[]string{"check-config", "--config", bad}, 2, "bad.yaml:3:"},
		{[]string{"load", "x.csv"}, 2, "--stream NAME"},
		{[]string{"load", "x.csv", "--stream", "s", "--http-addr", "127.0.0.1:1"}, 1, "weir run"},
		{[]string{"load", "x.csv", "--stream", "t", "--config", good}, 2, `no stream "t"`},
		{[]string{"load", filepath.Join(dir, "none.csv"), "--stream", "s", "--config", good, "--kafka-addr", "127.0.0.1:1"}, 2, "no such file"},
		{[]string{"log"}, 2, "weir log verify"},
		{[]string{"log", "repair", "--data-dir", dir}, 2, "--topic NAME"},
		{[]string{"nonsense"}, 2, "nonsense"},
		{[]string{"rule", "test", "--config", filepath.Join(dir, "right.yaml")}, 0, "all 1 cases passed"},
		{[]string{"rule", "test", "--config", filepath.Join(dir, "wrong.yaml")}, 1, "fired on b"},
		{[]string{"rule", "test", "bog", "--config", filepath.Join(dir, "right.yaml")}, 2, `no rule "bog"`},
		{[]string{"rule", "test", "--config", good}, 2, "no rule has a case"},
		{[]string{"rule", "test", "--config", "../demo/config/weir.yaml"}, 0, "cases passed"},
		{[]string{"rule", "check"}, 2, "there is no weir.yaml here: name your configuration with --config FILE"},
		{[]string{"check-config"}, 2, "there is no weir.yaml here"},
		{[]string{"run", "--config", good, "--kafka-addr", "9092"}, 2, `--kafka-addr "9092": expected HOST:PORT (did you mean "127.0.0.1:9092"?)`},
		{[]string{"run", "--config", good, "--sql-addr", "localhost:seven"}, 2, "expected a port"},
		{[]string{"run", "--config", good, "--data-dir", good}, 2, "good.yaml is a file: expected a directory"},
		{[]string{"rule", "list", "--config", filepath.Join(dir, "right.yaml")}, 0, "big  s"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			var out, errOut bytes.Buffer
			if code := Main(c.args, strings.NewReader(""), &out, &errOut); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if all := out.String() + errOut.String(); !strings.Contains(all, c.want) {
				t.Errorf("want %q in:\n%s", c.want, all)
			}
		})
	}
}

func TestMeter(t *testing.T) {
	var out bytes.Buffer
	m := newMeter(&out, "dir/file.csv.gz", false)
	m.show(loader.Progress{Elapsed: time.Second})
	if out.Len() > 0 {
		t.Errorf("shown too early: %q", out.String())
	}
	m.show(loader.Progress{Reached: event.MinTime, Accepted: 1_500_000, Dead: 2, BytesRead: 50, BytesTotal: 100, Elapsed: 10 * time.Second})
	if want := "file.csv.gz ████████████░░░░░░░░░░░░  50% 1,500,000 rows 150,000 rows/s 2 dead letters 10s left\n"; out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", 1000000: "1,000,000"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) = %s, want %s", n, got, want)
		}
	}
}
