package config

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/weirstream/weir/alerts"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// world is what the files of the tests see around them.
func world() ParseOptions {
	env := map[string]string{"HOOK": "https://hooks.example.com/T0/token", "PORT": "19092", "NOT_A_URL": "token://secret", "FSYNC": "true", "HMAC_SECRET": goodHMACSecret, "COUNT": "3",
		"SECRET": goodSecret, "EMPTY": "", "SNEAKY": "x\nsql_addr: 0.0.0.0:1"}
	files := map[string]string{"/etc/weir/good.secret": goodSecret + "\n", "/etc/weir/two.secret": goodSecret + "\n" + otherSecret + "\n",
		"/etc/weir/hmac.secret": goodHMACSecret + "\n", "/etc/weir/bad.secret": "whsec_c2VjcmV0", "/etc/weir/empty.secret": " \n"}
	return ParseOptions{
		Dir: "/etc/weir",
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		ReadFile: func(path string) ([]byte, error) {
			if text, ok := files[path]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		},
		DirExists: func(path string) bool { return path == "/etc/weir/rules" },
	}
}

const (
	goodSecret     = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	goodHMACSecret = "VGhpcyBpcyBubyBzZWNyZXQgYXQgYWxsLCBpdCBpcyBhIHRlc3Qu"
	otherSecret    = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
)

// TestMistakes and what is right: each file of testdata is a list of weir.yaml
// texts with what reading them gives. Run with -rewrite to accept what is given.
func TestFiles(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "weir.yaml" {
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			c, err := Parse("weir.yaml", []byte(d.Input), world())
			checkNoSecret(t, fmt.Sprintf("%v %+v %#v %s", c, c, c, err))
			if err != nil {
				return err.Error() + "\n"
			}
			return c.String() + "\n"
		})
	})
}

func checkNoSecret(t *testing.T, shown string) {
	t.Helper()
	for _, secret := range []string{"MfKQ9r8G", "C2FVsBQ", "T0/token", "token://", "token-in-url", "c2VjcmV0", "hunter2", "aHVudGVyMg", "VGhpcyBpcyB"} {
		if strings.Contains(shown, secret) {
			t.Errorf("the secret %s is shown in: %s", secret, shown)
		}
	}
}

func TestDefaults(t *testing.T) {
	want := Config{DataDir: "weir-data", KafkaAddr: "127.0.0.1:9092", HTTPAddr: "127.0.0.1:8080", SQLAddr: "127.0.0.1:7432",
		Log: Log{Fsync: true, SegmentBytes: 256 << 20, MaxMessageBytes: 16 << 20, CheckpointBytes: 32 << 20, CheckpointEvery: time.Minute,
			CompactEvery: 15 * time.Second, CompactMemory: 32 << 20, ScrubEvery: 24 * time.Hour, ScrubRate: 16 << 20, ProducerExpiry: 24 * time.Hour},
		Kafka: Kafka{AutoCreateTopics: true, Partitions: 1, MaxConnections: 1000, MaxConnectionsPerAddress: 500, IdleTimeout: 10 * time.Minute,
			MaxRequestBytes: 100 << 20, MaxFetchBytes: 55 << 20, RequestMemory: 256 << 20, FetchMemory: 256 << 20,
			OffsetsRetention: 7 * 24 * time.Hour, InitialRebalanceDelay: 100 * time.Millisecond, SessionTimeoutMin: 6 * time.Second, SessionTimeoutMax: 30 * time.Minute,
			GroupSizeMax: 10_000, TransactionTimeoutMax: 15 * time.Minute, TransactionalIDExpiration: 7 * 24 * time.Hour},
		Engine: Engine{CheckpointEvery: 10 * time.Second, KeepPrograms: 30 * 24 * time.Hour}, SQL: SQL{MemoryMax: 1 << 30, QueryTimeout: 30 * time.Second}}
	if got := Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("defaults %+v, want %+v", got, want)
	}
}

func TestStream(t *testing.T) {
	c, err := Parse("weir.yaml", []byte(`
streams:
  tx:
    topic: card-transactions
    format: csv
    as: payment
    time: at
    key: card
    id: id
    lateness: 1m
    max_ahead: 1d12h
    decisions: all
    zone: Europe/Paris
    csv: {columns: [ID, AT, CARD, SKIPPED, AMOUNT], delimiter: "\t"}
    fields:
      id: {type: int64, from: ID}
      at: {type: timestamp, from: AT, layout: "%Y-%m-%d %H:%M:%S"}
      card: {type: string, from: CARD}
      amount: {type: decimal(2), from: AMOUNT, optional: true}
`), world())
	if err != nil {
		t.Fatal(err)
	}
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	want := &schema.Stream{
		Schema: &event.Schema{Stream: "tx", Alias: "payment", Time: 1, Key: 2, ID: 0, Fields: []event.Field{
			{Name: "id", Type: event.Type{Kind: event.Int64}}, {Name: "at", Type: event.Type{Kind: event.Timestamp}},
			{Name: "card", Type: event.Type{Kind: event.String}}, {Name: "amount", Type: event.Type{Kind: event.Decimal, Scale: 2}, Optional: true}}},
		Topic: "card-transactions", Partitions: 4, Format: schema.CSV, Columns: []string{"ID", "AT", "CARD", "SKIPPED", "AMOUNT"}, Delimiter: '\t',
		Fields: []schema.Field{{From: "ID", Line: 16, Column: 7}, {From: "AT", Layout: "%Y-%m-%d %H:%M:%S", Line: 17, Column: 7}, {From: "CARD", Line: 18, Column: 7}, {From: "AMOUNT", Line: 19, Column: 7}},
		Zone:   paris, Lateness: time.Minute, Idle: time.Minute, MaxAhead: 36 * time.Hour, DiskFrom: 6 * time.Hour, AllDecisions: true, Compatibility: schema.CompatBackward,
		Place: schema.Problem{File: "weir.yaml", Line: 3, Column: 3, Field: "streams.tx"},
	}
	if !reflect.DeepEqual(c.Streams[0], want) {
		t.Errorf("stream %+v, want %+v", c.Streams[0], want)
	}
}

func TestReceiver(t *testing.T) {
	c, err := Parse("weir.yaml", []byte(`
receivers:
  - name: desk
    match: {rule: [a, b], severity_min: high}
    retry_for: 2d
    max_in_flight: 2
    webhook: {url: "${env:HOOK}", secret_file: two.secret, timeout: 3s, allow_cidrs: [10.0.0.0/8, "::1"]}
`), world())
	if err != nil {
		t.Fatal(err)
	}
	r := c.Receivers[0]
	if r.Name != "desk" || !reflect.DeepEqual(r.Match, alerts.Match{Rules: []string{"a", "b"}, SeverityMin: "high"}) || r.RetryFor != 48*time.Hour || r.MaxInFlight != 2 {
		t.Errorf("receiver %+v", r)
	}
	h := r.Webhook
	if h.URL != "https://hooks.example.com/T0/token" || h.Timeout != 3*time.Second || len(h.AllowCIDRs) != 2 || h.AllowCIDRs[1].String() != "::1/128" ||
		len(h.Secrets) != 2 || h.Secrets[0].Reveal() != goodSecret || h.Secrets[1].Reveal() != otherSecret {
		t.Errorf("webhook URL %q, %d secrets, %s, %v", h.URL, len(h.Secrets), h.Timeout, h.AllowCIDRs)
	}
}

func TestSecretsAreMasked(t *testing.T) {
	s := Secret{"whsec_hunter2"}
	h := &Webhook{URL: "https://example.com/token-in-url", Secrets: []Secret{s}}
	c := Config{Receivers: []Receiver{{Name: "x", Webhook: h}}}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "secret", s, "webhook", h, "config", c)
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "secret", s, "webhook", h, "config", c)
	for _, x := range []any{s, &s, h, *h, c, &c, h.Secrets} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&logged, verb, x)
		}
	}
	checkNoSecret(t, logged.String())
	if !strings.Contains(logged.String(), "https://example.com/********") {
		t.Error("the host is not shown")
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load(filepath.Join(dir, "none.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	path := filepath.Join(dir, "weir.yaml")
	if err := os.WriteFile(path, []byte("data_dir: d\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	early, err := Load(path)
	if err != nil || early.DataDir != filepath.Join(dir, "d") || early.RulesDir != "" || early.RulesNow() != "" {
		t.Errorf("%v %v", early, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "rules"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := early.RulesNow(); got != filepath.Join(dir, "rules") {
		t.Errorf("rules that came later: %q", got)
	}
	if c, err := Load(path); err != nil || c.RulesDir != filepath.Join(dir, "rules") {
		t.Errorf("%v %v", c, err)
	}
	if err := os.WriteFile(path, []byte("# "+strings.Repeat("x", FileSizeMax)), 0o600); err != nil {
		t.Fatal(err)
	}
	var ps schema.Problems
	if _, err := Load(path); !errors.As(err, &ps) {
		t.Errorf("a giant file: %v", err)
	}
}

// TestShippedFiles reads the configurations that come with the project.
func TestShippedFiles(t *testing.T) {
	for _, path := range []string{"../demo/config/weir.yaml", "../../docs/examples/weir.yaml"} {
		if _, err := os.Stat(path); err != nil {
			t.Logf("%s is not there", path)
			continue
		}
		if _, err := Load(path); err != nil {
			t.Error(err)
		}
	}
}

var rewrite = flag.Lookup("rewrite") // datadriven's

// TestReference keeps docs/reference/config.md true.
func TestReference(t *testing.T) {
	const path = "../../docs/reference/config.md"
	want := Reference()
	if rewrite != nil && rewrite.Value.String() == "true" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is out of date: go test ./cmd/config -run TestReference -rewrite", path)
	}
	for _, keys := range [][3]string{{"data_dir", "directory", "`weir-data`"}, {"partitions", "number", "`4`"}, {"time", "timestamp field", "required"}} {
		if !strings.Contains(want, "| `"+keys[0]+"` |") || !strings.Contains(want, keys[2]) {
			t.Errorf("the reference lacks %v", keys)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"5s": 5 * time.Second, "1m": time.Minute, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour, "0": 0, "0s": 0,
		"1d12h": 36 * time.Hour, "1.5h": 90 * time.Minute, "1h30m": 90 * time.Minute, "100000d": 100000 * 24 * time.Hour} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q is %s, %v", text, got, err)
		}
		if back, err := ParseDuration(formatDuration(want)); err != nil || back != want {
			t.Errorf("%s comes back as %s, %v", want, back, err)
		}
	}
	for _, text := range []string{"", "5", "-5s", "+5s", "1d-1h", "5 s", "d", "1w", "999999d", "106751d24h", "9999999999h", "1dd", "12h1d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is %s", text, got)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "4096": 4096, "64MiB": 64 << 20, "1.5GiB": 3 << 29, "100MB": 1e8, "1 KiB": 1024, "12kB": 12000, "1TiB": 1 << 40} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q is %d, %v", text, got, err)
		}
		if back, err := ParseSize(formatSize(want)); err != nil || back != want {
			t.Errorf("%d comes back as %d, %v", want, back, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1MiB", "1.0001B", "1mib", "1e3", "0x10", "999999TiB", "1PiB", "1.3B"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

// FuzzParse wants of any text: no panic, and of any error problems that each have
// a line and are one line long.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // a folder
		}
		for _, part := range strings.Split(string(text), "weir.yaml\n")[1:] {
			yaml, _, _ := strings.Cut(part, "----")
			f.Add([]byte(yaml))
		}
	}
	f.Add([]byte("a: &a [*a]\nstreams: *a"))
	f.Add([]byte("streams: &s {x: {fields: *s}}"))
	f.Add([]byte("{{{{"))
	f.Add([]byte("\xff\xfe"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("weir.yaml", data, world())
		if err == nil {
			_ = c.String()
			return
		}
		var ps schema.Problems
		if !errors.As(err, &ps) || len(ps) == 0 || len(ps) > problemsMax {
			t.Fatalf("not problems: %v", err)
		}
		for _, p := range ps {
			if p.Line < 1 || p.File != "weir.yaml" || p.Message == "" || strings.ContainsAny(p.Error(), "\n\r") {
				t.Fatalf("problem %q", p.Error())
			}
		}
	})
}

// FuzzParseStream: a declaration on its own is a stream or problems, and what Streams
// takes out of a file is what Parse reads there.
func FuzzParseStream(f *testing.F) {
	for _, seed := range []string{`{"time":"ts","key":"id","fields":{"ts":"timestamp","id":"string"}}`, "time: ts\nfields: &a\n  ts: timestamp\n  b: *a\n", "[1]", "", "~", "{}", `{"fields":{"a":{"type":"list","of":{"type":"map"}}}}`,
		"topic: ${env:HOME}\ntime: ts\nfields: {ts: timestamp}", "time: ts\nformat: csv\ncsv: {columns: [a]}\nfields: {ts: {type: timestamp, from: a}}", "streams:\n  a: {}\n", "a: &a [*a]"} {
		f.Add(seed)
	}
	beside := Default()
	f.Fuzz(func(t *testing.T, text string) {
		s, err := beside.ParseStream("one", []byte(text), nil)
		var ps schema.Problems
		if (err == nil) != (s != nil) || err != nil && !errors.As(err, &ps) {
			t.Fatalf("%v, %v", s, err)
		}
		if s != nil {
			if _, err := beside.ParseStream("One", []byte(text), []*schema.Stream{s}); err == nil {
				t.Fatal("two streams of one name")
			}
		}
		names, declarations, err := Streams("f", []byte(text))
		if err != nil {
			return
		}
		for _, name := range names {
			_, _ = beside.ParseStream(name, declarations[name], nil)
		}
	})
}
