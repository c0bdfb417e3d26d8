package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/cmd/config"
)

const tablesConfig = `
rules: listrules
streams:
  payments:
    as: tx
    time: ts
    key: card
    partitions: 2
    fields: {ts: timestamp, card: string, amount: decimal(2)}
lists:
  watched:
tables:
  limits:
    key: card
    csv: limits.csv
    fields: {card: string, most: decimal(2), note: {type: string, optional: true}}
  owners:
    key: card
    topic: card-owners
    fields: {card: string, name: string}
`

const tablesRules = `
id: watched
stream: payments
when: tx.card in list("watched")
---
id: over
stream: payments
when: tx.amount > lookup("limits", tx.card).most
---
id: ann
stream: payments
when: lookup("owners", tx.card).name == "Ann"
`

func ask(t *testing.T, n *Node, method, path, kind, body string, status int, into any) string {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+n.HTTPAddr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", kind)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return string(text)
}

// TestTables changes lists and tables every way there is, and wants each event to
// be decided with what was acknowledged before it.
func TestTables(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("listrules/r.yaml", tablesRules)
	write("limits.csv", "card,most,note\na,10,\nb,20.50,\"big, old\"\n")
	n, stop := startConfigured(t, dir, tablesConfig)
	decided := func(want string) {
		t.Helper()
		got := ""
		defer func() {
			if t.Failed() {
				t.Logf("decisions %s", got)
			}
		}()
		eventually(t, "decisions "+want, func() bool {
			res, err := n.query(t.Context(), `SELECT key || ':' || array_to_string(rules, '+') AS d FROM decisions ORDER BY time, key`)
			if err != nil {
				t.Fatal(err)
			}
			var all []string
			for _, row := range res.Rows {
				all = append(all, asText(row[0]))
			}
			got = strings.Join(all, " ")
			return got == want || strings.Count(got, " ") > strings.Count(want, " ")
		})
		if got != want {
			t.Fatalf("decisions %s, want %s", got, want)
		}
	}
	// An event is decided with a change that comes after it, too, where the engine is
	// behind; so each change waits for the events before it.
	engineAt := func(events int64) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d events in the engine", events), func() bool {
			seen := int64(0)
			for _, sh := range n.engine.Status() {
				seen += sh.Events
			}
			return seen == events
		})
	}
	const jsonKind = "application/json"
	var c Changed
	produce(t, n, payment("a", 1, "10"), payment("a", 2, "10.01"))
	engineAt(2)
	ask(t, n, "POST", "/v1/lists/watched/entries", jsonKind, `{"entries":[{"value":"a"},{"value":"z","_expires":"2026-01-01T00:00:05Z","_reason":"for a while"}],"author":"ann","reason":"a thief"}`, 200, &c)
	if c.Changed != 2 || c.Entries != 2 {
		t.Errorf("%+v", c)
	}
	produce(t, n, payment("a", 3, "1"), payment("z", 4, "1"), payment("z", 5, "1"))
	engineAt(5)
	ask(t, n, "POST", "/v1/lists/watched/entries/remove", jsonKind, `{"keys":[["a"],["never there"]]}`, 200, &c)
	if c.Changed != 1 || c.Entries != 1 {
		t.Errorf("%+v", c)
	}
	produce(t, n, payment("a", 6, "1"))
	engineAt(6)
	write("limits.csv", "card,most,note\na,0.50,\n")
	ask(t, n, "POST", "/-/reload", "", "", 200, nil)
	produce(t, n, payment("a", 7, "1"), payment("b", 8, "1000"))
	decided("a:over a:watched z:watched a:over")

	// A mistake in the file names its place and changes nothing.
	write("limits.csv", "card,most,note\na,much,\n")
	if text := ask(t, n, "POST", "/-/reload", "", "", 422, nil); !strings.Contains(text, `limits.csv:2:3: most: found "much"`) {
		t.Errorf("reload: %s", text)
	}
	cfg, err := config.Load(filepath.Join(dir, "weir.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Prepare(cfg); err == nil || !strings.Contains(err.Error(), `limits.csv:2:3: most: found "much"`) {
		t.Errorf("prepare: %v", err)
	}
	write("limits.csv", "card,most,note\na,0.50,\n")

	// A topic.
	cl, err := kgo.NewClient(kgo.SeedBrokers(n.KafkaAddr()), kgo.DefaultProduceTopic("card-owners"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Key: []byte("c"), Value: []byte(`{"name":"Ann"}`)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the owner is known", func() bool { return n.tables.Head().Table("owners").Len() == 1 })
	produce(t, n, payment("c", 9, "1"))
	decided("a:over a:watched z:watched a:over c:ann")

	// A restart knows all of it.
	stop()
	n, stop = startConfigured(t, dir, tablesConfig)
	defer stop()
	produce(t, n, payment("c", 10, "1"), payment("a", 11, "0.51"))
	decided("a:over a:watched z:watched a:over c:ann c:ann a:over")
	var page EntriesPage
	get(t, n, "/v1/lists/watched/entries", 200, &page)
	if len(page.Entries) != 1 || !strings.HasPrefix(string(page.Entries[0]), `{"value":"z","_expires":"2026-01-01T00:00:05Z","_since":"`) || !strings.HasSuffix(string(page.Entries[0]), `"_author":"ann","_reason":"for a while"}`) {
		t.Errorf("entries %s", page.Entries)
	}
	testTableSQL(t, n)
	testTableMistakes(t, n)
	testTableImport(t, n)
	testTableSQL(t, n)
}

// testTableSQL wants SQL to show the tables as they are, joined with streams, and to
// say how fresh they are.
func testTableSQL(t *testing.T, n *Node) {
	for query, want := range map[string]string{
		`SELECT card, most, note, _expires, _author FROM limits ORDER BY card`:                      `[["a","0.50",null,null,"csv:limits.csv"]]`,
		`SELECT p.amount, most FROM payments p JOIN limits USING (card) ORDER BY p.ts DESC LIMIT 1`: `[["0.51","0.50"]]`,
		`SELECT card, name FROM owners`:                                                                     `[["c","Ann"]]`,
		`SELECT list, value, expires, author, reason FROM list_entries`:                                     `[["watched","z","2026-01-01T00:00:05Z","ann","for a while"]]`,
		`SELECT name, type, entries FROM lists`:                                                             `[["watched","string",1]]`,
		`SELECT op, author FROM table_changes WHERE "table" = 'watched' AND key = '["a"]' ORDER BY _offset`: `[["put","ann"],["remove","api"]]`,
		`SELECT count(*) FROM table_entries WHERE "table" = 'zones'`:                                        `[[0]]`,
	} {
		got := ""
		eventually(t, query, func() bool {
			res, err := n.query(t.Context(), query)
			if err != nil {
				t.Fatalf("%s: %v", query, err)
			}
			if len(res.Freshness) == 0 {
				t.Fatalf("%s: says not how fresh it is", query)
			}
			text, err := json.Marshal(res.Rows)
			if err != nil {
				t.Fatal(err)
			}
			got = string(text)
			fresh := true
			for _, f := range res.Freshness {
				fresh = fresh && f.Age == 0
			}
			return got == want || fresh
		})
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", query, got, want)
		}
	}
}

// testTableMistakes wants each to say what to do.
func testTableMistakes(t *testing.T, n *Node) {
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/v1/lists/wached/entries", `{"entries":[{"value":"a"}]}`, 404, `there is no list \"wached\": did you mean \"watched\"?`},
		{"POST", "/v1/lists/limits/entries", `{"entries":[{"value":"a"}]}`, 404, `there is no list \"limits\"`},
		{"POST", "/v1/lists/watched/entries", `{"entries":[{"value":"a"},{"valu":"b"}]}`, 422, `entries[1].value: is missing`},
		{"POST", "/v1/lists/watched/entries", `{"entries":[{"value":"a","color":"b"}]}`, 422, `entries[0].color: there is no such field`},
		{"POST", "/v1/tables/limits/entries", `{"entries":[{"card":"a","most":1}]}`, 409, `the entries of table limits come from csv:limits.csv: change them there`},
		{"POST", "/v1/lists", `{"name":"watched"}`, 409, `declared in weir.yaml`},
		{"POST", "/v1/lists", `{"name":"no good"}`, 422, `found \"no good\" as a list's name`},
		{"POST", "/v1/tables", `{"name":"t","key":["a"],"fields":[{"name":"b","type":"string","optional":false}]}`, 422, `there is no field \"a\"`},
		{"DELETE", "/v1/lists/watched", ``, 409, `declared in weir.yaml`},
		{"GET", "/v1/lists/watched/entries?after=%25", ``, 422, `expected the next of an earlier page`},
		{"PUT", "/v1/lists/watched/entries", `{}`, 415, `text/csv`},
	} {
		if text := ask(t, n, c.method, c.path, "application/json", c.body, c.status, nil); !strings.Contains(text, c.want) {
			t.Errorf("%s %s: %s", c.method, c.path, text)
		}
	}
}

// testTableImport makes a table, puts a file in its place, pages and searches it,
// and takes it away.
func testTableImport(t *testing.T, n *Node) {
	ask(t, n, "POST", "/v1/tables", "application/json", `{"name":"zones","key":["no"],"fields":[{"name":"no","type":"int64","optional":false},{"name":"name","type":"string","optional":true}]}`, 200, nil)
	var file bytes.Buffer
	file.WriteString("no,name\n")
	for i := range 5000 {
		fmt.Fprintf(&file, "%d,Zone %d\n", i-2500, i)
	}
	var c Changed
	ask(t, n, "PUT", "/v1/tables/zones/entries?author=ann", "text/csv", file.String(), 200, &c)
	if c.Changed != 5000 || c.Entries != 5000 {
		t.Errorf("%+v", c)
	}
	ask(t, n, "PUT", "/v1/tables/zones/entries?author=ann", "text/csv", strings.Replace(file.String(), "Zone 77\n", "Town\n", 1), 200, &c)
	if c.Changed != 1 {
		t.Errorf("%+v", c)
	}
	if text := ask(t, n, "PUT", "/v1/tables/zones/entries?file=z.csv", "text/csv", "no,name\n1,a\nx,b\n", 422, nil); !strings.Contains(text, "z.csv:3:1: no: found") {
		t.Error(text)
	}
	var page EntriesPage
	read := 0
	for next := ""; ; next = page.Next {
		page = EntriesPage{}
		get(t, n, "/v1/tables/zones/entries?limit=700&search=zONE&after="+next, 200, &page)
		read += len(page.Entries)
		if page.Next == "" {
			break
		}
	}
	if read != 4999 {
		t.Errorf("%d entries found, want 4999", read)
	}
	if text := ask(t, n, "GET", "/v1/tables/zones/entries.csv", "", "", 200, nil); !strings.HasPrefix(text, "no,name,_expires,_reason\n-2500,Zone 0,,\n") || strings.Count(text, "\n") != 5001 {
		t.Errorf("export %.200s", text)
	}
	var views []TableView
	get(t, n, "/v1/tables", 200, &views)
	if len(views) != 3 || views[2].Name != "zones" || views[2].Entries != 5000 || views[2].Declared || !views[0].Declared {
		t.Errorf("tables %+v", views)
	}
	ask(t, n, "DELETE", "/v1/tables/zones", "", "", 204, nil)
	get(t, n, "/v1/tables/zones", 404, nil)
}
