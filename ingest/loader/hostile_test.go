package loader_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/commitlog"
)

func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// small is a stream with a nested member.
func small(format schema.Format) *schema.Stream {
	return &schema.Stream{
		Schema: &event.Schema{Stream: "s", Fields: []event.Field{
			{Name: "ts", Type: event.Type{Kind: event.Timestamp}},
			{Name: "key", Type: event.Type{Kind: event.String}, Optional: true},
			{Name: "n", Type: event.Type{Kind: event.Decimal, Scale: 2}},
			{Name: "deep", Type: event.Type{Kind: event.String}, Optional: true},
		}, Time: 0, Key: 1, ID: -1},
		Topic: "s", Partitions: 1, Format: format, Columns: []string{"at", "key", "n", "a.b"},
		Fields: []schema.Field{{From: "at", Layout: "unix"}, {}, {}, {From: "a.b"}},
	}
}

func (n *node) values(topic string) []string {
	var out []string
	for _, recs := range n.records(topic) {
		for _, r := range recs {
			out = append(out, string(r.Value))
		}
	}
	return out
}

func (n *node) deadLetters() []event.DeadLetter {
	n.t.Helper()
	var out []event.DeadLetter
	for _, recs := range n.records(event.TopicDeadLetters) {
		for _, r := range recs {
			var d event.DeadLetter
			if err := json.Unmarshal(r.Value, &d); err != nil {
				n.t.Fatal(err)
			}
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b event.DeadLetter) int { return int(a.Line - b.Line) })
	return out
}

// TestForms loads the same rows in each form of file into each form of stream.
func TestForms(t *testing.T) {
	const csvFile = "\ufeffat,key,n,a.b,more\r\n1,k,1.50,x,\r\n2,\"q \"\"1\"\"\",007,,\r\n3,,3,\"l1\nl2\",z"
	const ndjson = "\n{\"at\":1,\"key\":\"k\",\"n\":1.50,\"a\":{\"b\":\"x\"}}\n  {\"at\":2,\"key\":\"q \\\"1\\\"\",\"n\":\"007\"}\r\n\n{\"at\":3,\"n\":3,\"a\":{\"b\":\"l1\\nl2\"}}"
	asJSON := []string{`{"at":1,"key":"k","n":1.50,"a":{"b":"x"}}`, `{"at":2,"key":"q \"1\"","n":"007"}`, `{"at":3,"n":3,"a":{"b":"l1\nl2"}}`}
	for _, c := range []struct {
		name, file string
		format     schema.Format
		want       []string
	}{
		{"csv to json", csvFile, schema.JSON, asJSON},
		{"csv to csv", csvFile, schema.CSV, []string{`1,k,1.50,x`, `2,"q ""1""",007,`, "3,,3,\"l1\nl2\""}},
		{"ndjson to json", ndjson, schema.JSON, asJSON},
		{"ndjson to csv", ndjson, schema.CSV, []string{`"1","k","1.50","x"`, `"2","q ""1""","007",`, "\"3\",,\"3\",\"l1\nl2\""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := startNode(t)
			p, err := load(n, write(t, "rows", []byte(c.file)), small(c.format))
			if err != nil || p.Accepted != 3 || p.Dead != 0 {
				t.Fatalf("%v %+v %+v", err, p, n.deadLetters())
			}
			if got := n.values("s"); !slices.Equal(got, c.want) {
				t.Fatalf("%q, expected %q", got, c.want)
			}
			recs := n.records("s")[0]
			if recs[0].Timestamp != 1000 || string(recs[1].Key) != `q "1"` || recs[2].Key != nil {
				t.Fatalf("%+v", recs)
			}
		})
	}
}

// TestBadRows: what each bad row gets; the good ones around it survive.
func TestBadRows(t *testing.T) {
	n := startNode(t)
	file := strings.Join([]string{
		"at,key,n,a.b",
		"1,k,1,x",
		"x,k,1,x",     // 3: a time that is none
		"2,k,1.234,x", // 4: too many places
		"3,k",         // 5: too few cells
		"4,k,1,x,y,z", // 6: too many
		"5,k,,x",      // 7: a required field is missing
		"6,k\"k,1,x",  // 8: a quote in a cell
		"7,k,1,\"x",   // 9: never closed
		"8,k\xff,1,x", // 10: not UTF-8
		"9,k,NaN,x",   // 11
		"9e30,k,1,x",  // 12: beyond the range of time
		"10," + strings.Repeat("y", loader.MaxRow) + ",1,x", // 13: too long
		"11,k,1,x",
	}, "\n") + "\n"
	p, err := load(n, write(t, "bad.csv", []byte(file)), small(schema.JSON))
	if err != nil || p.Accepted != 2 || p.Dead != 11 || p.Lines != 13 {
		t.Fatalf("%v %+v", err, p)
	}
	if got := n.values("s"); len(got) != 2 || !strings.Contains(got[1], `"at":11,`) {
		t.Fatalf("%q", got)
	}
	want := []string{"3:1 type ts", "4:5 type n", "5:4 syntax ", "6:12 syntax ", "7:5 missing n", "8:4 syntax ", "9:7 syntax ", "10:3 encoding key", "11:5 type n", "12:1 time ts", "13:0 size "}
	var got []string
	for _, d := range n.deadLetters() {
		got = append(got, fmt.Sprintf("%d:%d %s %s", d.Line, d.Column, d.Reason, d.Field))
		if d.Stream != "s" || !strings.HasSuffix(d.File, "bad.csv") || d.Detail == "" || len(d.Raw) == 0 || len(d.Raw) > loader.MaxRaw {
			t.Errorf("%d bytes raw, %s", len(d.Raw), d.Detail)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%q\nexpected\n%q", got, want)
	}
	// None of them twice.
	p, err = load(n, write(t, "bad.csv", []byte(file)), small(schema.JSON))
	if err != nil || !p.Already || len(n.deadLetters()) != 11 {
		t.Fatalf("second load: %v %+v", err, p)
	}
}

// TestTruncatedGzip: the rows before the place are loaded, the error names it, and
// to load again adds nothing.
func TestTruncatedGzip(t *testing.T) {
	path, _ := generated(t, "rows.csv.gz", 20_000, 0, 5)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := startNode(t)
	cut := write(t, "rows.csv.gz", whole[:len(whole)/2])
	for range 2 {
		_, err = load(n, cut, transactions(schema.JSON))
		if err == nil || !strings.Contains(err.Error(), cut) || !strings.Contains(err.Error(), "line ") || !strings.Contains(err.Error(), "ends in the middle") {
			t.Fatalf("%v", err)
		}
		if got := n.count("transactions"); got < 5000 || got >= 20_000 {
			t.Fatalf("%d rows", got)
		}
		checkRows(t, n, n.count("transactions"), 0, true)
	}
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 0x55
	if _, err = load(n, write(t, "other.csv.gz", damaged), transactions(schema.JSON)); err == nil || !strings.Contains(err.Error(), "line ") {
		t.Fatalf("%v", err)
	}
}

func TestRefused(t *testing.T) {
	n := startNode(t)
	for name, c := range map[string]struct{ file, want string }{
		"missing column": {"AT,key,n\n1,k,1\n", `"at"`},
		"a hint":         {"att,key,n\n1,k,1\n", `did you mean "att"?`},
		"column twice":   {"at,key,n,n\n1,k,1,1\n", `column "n" stands in the header twice`},
		"broken header":  {"at,k\"ey,n\n1,k,1\n", "header"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := load(n, write(t, "f.csv", []byte(c.file)), small(schema.JSON))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "f.csv:1") || p.Accepted > 0 {
				t.Fatalf("%v", err)
			}
		})
	}
	for name, file := range map[string]string{"empty": "", "blank": "\n\n  \n", "only a header": "at,key,n\n"} {
		t.Run(name, func(t *testing.T) {
			if p, err := load(n, write(t, "f.csv", []byte(file)), small(schema.JSON)); err != nil || p.Lines != 0 {
				t.Fatalf("%v %+v", err, p)
			}
		})
	}
	if _, err := load(n, filepath.Join(t.TempDir(), "none.csv"), small(schema.JSON)); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%v", err)
	}
	if _, err := load(n, t.TempDir(), small(schema.JSON)); err == nil {
		t.Fatal("a directory was loaded")
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Close()
	if _, err := load(n, write(t, "e.gz", z.Bytes()), small(schema.JSON)); err != nil {
		t.Fatalf("an empty gzip: %v", err)
	}
}

// TestNoBroker: the error comes after RetryFor and says what to do.
func TestNoBroker(t *testing.T) {
	n := startNode(t)
	n.stop()
	_, err := loader.Load(context.Background(), write(t, "f.csv", []byte("at,key,n\n1,k,1\n")),
		loader.Options{Addr: n.addr, Stream: small(schema.JSON), RetryFor: 200 * time.Millisecond, Logger: discard})
	if err == nil || !strings.Contains(err.Error(), n.addr) {
		t.Fatalf("%v", err)
	}
}

// TestPartitionsGrow: a load that began with fewer partitions stays with them.
func TestPartitionsGrow(t *testing.T) {
	n := startNode(t)
	path, dead := generated(t, "rows.csv", 60_000, 777, 9)
	topic, err := n.log.CreateTopic(commitlog.TopicSpec{Name: "transactions", Partitions: 3})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		p, _ := topic.Partition(0)
		if p.Wait(ctx, 0) == nil {
			cancel()
		}
	}()
	_, err = loader.Load(ctx, path, loader.Options{Addr: n.addr, Stream: transactions(schema.JSON), Logger: discard})
	if !errors.Is(err, loader.ErrInterrupted) {
		t.Fatalf("not interrupted: %v", err)
	}
	if err := n.log.AddPartitions("transactions", 7); err != nil {
		t.Fatal(err)
	}
	if _, err := load(n, path, transactions(schema.JSON)); err != nil {
		t.Fatal(err)
	}
	checkRows(t, n, 60_000, dead, true)
}

// TestOthersWrite: records of others at the end of a partition do not hide where a
// load stands.
func TestOthersWrite(t *testing.T) {
	n := startNode(t)
	path, dead := generated(t, "rows.csv", 20_000, 777, 11)
	other, otherDead := generated(t, "others.csv", 40_000, 777, 12)
	for range 2 {
		for _, f := range []string{path, other} {
			if _, err := load(n, f, transactions(schema.JSON)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := n.count("transactions"); got != 60_000-dead-otherDead {
		t.Fatalf("%d rows", got)
	}
}

// TestNoDeadLetterTopic: without a topic for them a bad row stops the load, which
// goes on when there is one.
func TestNoDeadLetterTopic(t *testing.T) {
	n := startNode(t)
	if err := n.log.DeleteTopic(event.TopicDeadLetters); err != nil {
		t.Fatal(err)
	}
	path := write(t, "f.csv", []byte("at,key,n,a.b\n1,k,1,x\n2,k,bad,x\n"))
	if _, err := load(n, path, small(schema.JSON)); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Fatalf("%v", err)
	}
	if _, err := n.log.CreateTopic(commitlog.TopicSpec{Name: event.TopicDeadLetters, Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := load(n, path, small(schema.JSON)); err != nil || len(n.values("s")) != 1 || len(n.deadLetters()) != 1 {
		t.Fatalf("%v %q", err, n.values("s"))
	}
}

// TestFarAhead: one wrong year in a file would move the watermark past all that
// follows, so max_ahead holds for files as well, measured from the load.
func TestFarAhead(t *testing.T) {
	n := startNode(t)
	s := small(schema.JSON)
	s.MaxAhead = time.Minute
	now := time.Now()
	file := fmt.Sprintf("at,key,n,a.b\n%d,k,1,x\n%d,k,1,x\n%d,k,1,x\n", now.Add(-time.Hour).Unix(), now.AddDate(1, 0, 0).Unix(), now.Add(-time.Minute).Unix())
	p, err := load(n, write(t, "ahead.csv", []byte(file)), s)
	if err != nil || p.Accepted != 2 || p.Dead != 1 {
		t.Fatalf("%v %+v", err, p)
	}
	if d := n.deadLetters(); len(d) != 1 || d[0].Reason != "time" || d[0].Line != 3 {
		t.Fatalf("%+v", d)
	}
}
