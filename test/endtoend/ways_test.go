package endtoend

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"gopkg.in/yaml.v3"

	"github.com/weirstream/weir/test/published"
)

// ways are the ways in; each has a stream of its own for each published file.
var ways = []string{"file", "http", "kafka"}

// writeWays makes a deployment in which each stream of the examples stands once for
// each way in, and returns the examples' declarations.
func writeWays(t *testing.T) (path string, streams map[string]map[string]any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(published.Root(t), "docs", "examples", "weir.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var examples struct{ Streams map[string]map[string]any }
	if err := yaml.Unmarshal(text, &examples); err != nil {
		t.Fatal(err)
	}
	all := map[string]any{}
	for name, s := range examples.Streams {
		for _, way := range ways {
			one := map[string]any{}
			for k, v := range s {
				one[k] = v
			}
			one["topic"], one["as"] = name+"-"+way, name+"_"+way
			all[name+"_"+way] = one
		}
	}
	if text, err = yaml.Marshal(map[string]any{"streams": all}); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "weir.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, examples.Streams
}

// TestWaysIn carries the published files in by file, HTTP and Kafka: SQL has the
// same rows in the same partitions, whichever way they came.
func TestWaysIn(t *testing.T) {
	config, streams := writeWays(t)
	a := start(t, config, t.TempDir(), nil)
	defer a.stop()
	for name, want := range map[string]int64{"transactions": handbookRows, "ticks": tickRows, "clicks": clickRows} {
		path := published.File(t, name+".csv.gz")
		a.load(path, name+"_file")
		a.post(path, name+"_http")
		a.produce(path, name+"-kafka", streams[name])
		a.settled(2 * time.Minute)
		got := map[string]string{}
		for _, way := range ways {
			got[way] = a.psql("select count(*), sum(hash(r)::hugeint) from (select * exclude (_topic, _offset) from " + name + "_" + way + ") r")
			if n := a.psqlInt("select count(*) from " + name + "_" + way); n != want {
				t.Errorf("%s by %s: %d rows, want %d", name, way, n, want)
			}
		}
		if got["file"] != got["http"] || got["file"] != got["kafka"] {
			t.Errorf("%s: rows and the sum of their hashes differ by the way they came: %v", name, got)
		}
		t.Logf("%s: %s", name, got["file"])
	}
}

// postBytes is about how much of a file one request carries.
const postBytes = 4 << 20

// post sends a CSV file over HTTP, so much at a time.
func (a *appliance) post(path, stream string) {
	a.t.Helper()
	header := fileHeader(a.t, path)
	var body bytes.Buffer
	send := func() {
		resp, err := http.Post("http://"+a.http+"/v1/streams/"+stream+"/events", "text/csv", &body)
		if err != nil {
			a.t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(answer, []byte(`"refused":0`)) {
			a.t.Fatalf("POST to %s: %s: %s %v", stream, resp.Status, answer[:min(len(answer), 1000)], err)
		}
		body.Reset()
	}
	for line := range fileLines(a.t, path) {
		if body.Len() == 0 {
			body.WriteString(header + "\n")
		}
		body.WriteString(line)
		body.WriteByte('\n')
		if body.Len() > postBytes {
			send()
		}
	}
	send()
}

// fileHeader is the first line of a gzip file.
func fileHeader(t testing.TB, path string) string {
	t.Helper()
	z, end := unpacked(t, path)
	defer end()
	line, err := z.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// produce writes a CSV file as JSON objects with another Kafka client than Weir's
// own, and with encoding/csv and encoding/json.
func (a *appliance) produce(path, topic string, stream map[string]any) {
	a.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(a.kafka), kgo.DefaultProduceTopic(topic), kgo.MaxBufferedRecords(100_000))
	if err != nil {
		a.t.Fatal(err)
	}
	defer cl.Close()
	z, end := unpacked(a.t, path)
	defer end()
	r := csv.NewReader(z)
	r.ReuseRecord = true
	columns, err := r.Read()
	if err != nil {
		a.t.Fatal(err)
	}
	columns = append([]string(nil), columns...)
	numbers, key := make([]bool, len(columns)), -1
	for field, declared := range stream["fields"].(map[string]any) {
		from, typ := field, ""
		switch d := declared.(type) {
		case string:
			typ = d
		case map[string]any:
			typ, _ = d["type"].(string)
			if f, ok := d["from"].(string); ok {
				from = f
			}
		}
		for i, c := range columns {
			if c == from {
				numbers[i] = typ == "int64" || typ == "double" || strings.HasPrefix(typ, "decimal")
				if field == stream["key"] {
					key = i
				}
			}
		}
	}
	ctx, cancel := context.WithCancelCause(a.t.Context())
	defer cancel(nil)
	for {
		row, err := r.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			a.t.Fatal(err)
		}
		object := make(map[string]any, len(row))
		for i, cell := range row {
			switch {
			case cell == "":
			case numbers[i]:
				object[columns[i]] = json.Number(cell)
			default:
				object[columns[i]] = cell
			}
		}
		value, err := json.Marshal(object)
		if err != nil {
			a.t.Fatal(err)
		}
		cl.Produce(ctx, &kgo.Record{Key: []byte(row[key]), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				cancel(err)
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		a.t.Fatalf("producing to %s: %v, %v", topic, err, context.Cause(ctx))
	}
}
