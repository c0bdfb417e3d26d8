// Package sensitive sends the card numbers that are published for tests through
// every way in of a node and looks for them in everything that it keeps and says.
package sensitive

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/cmd/node"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/record"
)

// cards are published for tests by the networks and by processors.
var cards = []string{"4111111111111111", "5555555555554444", "378282246310005", "6011111111111117", "30569309025904", "3530111333300000",
	"4012888888881881", "4222222222222", "5105105105105100", "371449635398431", "6011000990139424", "2223003122003222"}

// secrets are what else must not be found.
var secrets = []string{"Ada Lovelace", "+41 44 555 01 02", "cvv-value-912"}

const configText = `
rules: rules
streams:
  payments:
    as: tx
    time: ts
    key: card
    partitions: 3
    lateness: 1h
    fields:
      ts: timestamp
      card: {type: string, sensitive: hmac}
      name: {type: string, sensitive: encrypt, optional: true}
      shown: {type: string, sensitive: mask, optional: true}
      phone: {type: string, sensitive: drop, optional: true}
      note: {type: string, free_text: true, optional: true}
      amount: decimal(2)
      phones: {type: list, of: {type: string, sensitive: mask}, optional: true}
      wallet: {type: map, of: {type: string, sensitive: hmac}, optional: true}
      payer: {type: struct, optional: true, fields: {iban: {type: string, sensitive: hmac}, name: {type: string, sensitive: encrypt}, said: {type: string, free_text: true}}}
      cards: {type: list, of: {type: struct, fields: {pan: {type: string, sensitive: hmac}, notes: {type: map, of: {type: string, free_text: true}}}}, optional: true}
      counts: {type: map, of: int64, optional: true}
  lines:
    as: line
    format: csv
    lateness: 1h
    time: ts
    key: card
    fields:
      ts: timestamp
      card: {type: string, sensitive: hmac}
      name: {type: string, sensitive: encrypt, optional: true}
      shown: {type: string, sensitive: mask, optional: true}
      phone: {type: string, sensitive: drop, optional: true}
      note: {type: string, free_text: true, optional: true}
      amount: decimal(2)
  orders:
    time: ts
    key: card
    id: card
    dedupe: 24h
    fields: {ts: timestamp, card: {type: string, sensitive: hmac}}
lists:
  blocked-cards: {sensitive: hmac, csv: blocked.csv}
  watched-cards: {sensitive: hmac}
  names:
tables:
  holders:
    key: card
    fields: {card: {type: string, sensitive: hmac}, shown: {type: string, sensitive: mask}, note: {type: string, optional: true}}
  limits:
    key: card
    fields: {card: {type: string, sensitive: hmac}, ceiling: decimal(2), note: {type: string, optional: true}}
    topic: limits
receivers:
  - name: desk
    webhook: {url: %q, allow_cidrs: [127.0.0.0/8]}
`

const rulesText = `
id: twice
stream: payments
when: last("1h").by(tx.card).count() >= 2
message: '"card " + tx.card'
---
id: twice-in-lines
stream: lines
when: last("1h").by(line.card).count() >= 2
message: '"card " + line.card'
---
id: blocked
stream: payments
when: tx.card in list("blocked-cards")
message: '"card " + tx.card'
---
id: watched
stream: orders
when: orders.card in list("watched-cards") && lookup("holders", orders.card).shown.startsWith("4") && lookup("limits", orders.card).ceiling > 1
message: '"card " + orders.card'
`

// house is a running node and all that was heard of it.
type house struct {
	*node.Node
	t     *testing.T
	data  string
	stop  func()
	log   *safeBuffer
	hooks *safeBuffer
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}

func startHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, log: &safeBuffer{}, hooks: &safeBuffer{}}
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(h.hooks, r.Body) }))
	t.Cleanup(hook.Close)
	dir := t.TempDir()
	h.data = filepath.Join(dir, "data")
	h.write(filepath.Join(dir, "weir.yaml"), fmt.Sprintf(configText, hook.URL))
	h.write(filepath.Join(dir, "rules", "rules.yaml"), rulesText)
	h.write(filepath.Join(dir, "blocked.csv"), "value,_reason\n"+grouped(cards[0], " ")+",\"said "+cards[1]+"\"\n"+cards[1]+",x\n")
	cfg, err := config.Load(filepath.Join(dir, "weir.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.DataDir = h.data
	cfg.KafkaAddr, cfg.HTTPAddr, cfg.SQLAddr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	prepared, err := node.Prepare(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.Node = node.New(prepared, node.Options{Version: "test", Logger: slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the node did not end in order: %v", err)
		}
	})
	t.Cleanup(h.stop)
	select {
	case <-h.Ready():
	case <-time.After(time.Minute):
		t.Fatalf("not ready: %s", h.log.bytes())
	}
	return h
}

func (h *house) write(path, text string) {
	h.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) call(method, path, body string) []byte {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, "http://"+h.HTTPAddr()+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		h.t.Fatalf("%s %s: %s %v: %s", method, path, resp.Status, err, got)
	}
	return got
}

// query is the rows of a query and the answer's text.
func (h *house) query(text string) ([][]any, []byte) {
	h.t.Helper()
	body, err := json.Marshal(map[string]string{"query": text})
	if err != nil {
		h.t.Fatal(err)
	}
	got := h.call(http.MethodPost, "/v1/sql", string(body))
	var a struct {
		Rows      [][]any
		Truncated bool
	}
	if err := json.Unmarshal(got, &a); err != nil || a.Truncated {
		h.t.Fatalf("%s: %v, truncated %v", text, err, a.Truncated)
	}
	return a.Rows, got
}

func (h *house) count(text string) int {
	rows, _ := h.query(text)
	n, _ := strconv.Atoi(fmt.Sprint(rows[0][0]))
	return n
}

// wait waits for a condition of the node's making.
func (h *house) wait(what string, ok func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			counts, _ := h.query("SELECT (SELECT count(*) FROM payments), (SELECT count(*) FROM lines), (SELECT count(*) FROM orders), (SELECT count(*) FROM deadletters), (SELECT count(*) FROM alerts)")
			h.t.Fatalf("not within a minute: %s: there are %v\n%s", what, counts, h.log.bytes())
		}
	}
}

// grouped writes a card number in groups.
func grouped(pan, separator string) string {
	var parts []string
	for chunk := range slices.Chunk([]byte(pan), 4) {
		parts = append(parts, string(chunk))
	}
	return strings.Join(parts, separator)
}

func jsonEvent(pan string, second int) string {
	return fmt.Sprintf(`{"ts":"2026-01-01T00:00:%02dZ","card":%q,"name":"Ada Lovelace","shown":%q,"phone":"+41 44 555 01 02","note":"card %s or \u00%s, ok","amount":1.5,"cvv":"cvv-value-912","track_2":";%s=2512101?","deep":[{"pan":"%s"},%s]`,
		second, pan, grouped(pan, "-"), grouped(pan, " "), "3"+pan[:1]+pan[1:], pan, pan, pan) + nested(pan) + "}"
}

// nested are the members that hold more: declared lists, maps and structs, with the
// card as a value, as the key of a map, in escapes; and the same undeclared, with the
// card as a number in each way that JSON writes one.
func nested(pan string) string {
	escapes := ""
	for _, c := range pan {
		escapes += fmt.Sprintf(`\u%04X`, c)
	}
	return fmt.Sprintf(`,"phones":["+41 44 555 01 02",%[1]q],"wallet":{"main":%[1]q,%[2]q:%[3]q},"payer":{"iban":%[1]q,"name":"Ada Lovelace","said":"my card is %[2]s"},`+
		`"cards":[{"pan":"%[4]s","notes":{"a":"%[4]s",%[1]q:"b"}}],"counts":{%[1]q:1},"more":{"%[4]s":["%[4]s",%[1]s.0,%[5]se%[6]d,-%[1]s]},"free":"x%[1]sx / %[2]s"`,
		pan, grouped(pan, " "), grouped(pan, "-"), escapes, pan[:1]+"."+pan[1:], len(pan)-1)
}

// utf16 is text as UTF-16 has it.
func utf16(text string) string {
	out := "\xff\xfe"
	for _, c := range text {
		out += string([]byte{byte(c), byte(c >> 8)})
	}
	return out
}

// kafka sends each card through the Kafka listener in every codec: twice well, then
// broken in several ways, then as a dead letter.
func (h *house) kafka() (good, bad int) {
	h.t.Helper()
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	for name, codec := range codecs {
		cl, err := kgo.NewClient(kgo.SeedBrokers(h.KafkaAddr()), kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(5*time.Millisecond))
		if err != nil {
			h.t.Fatal(err)
		}
		var recs []*kgo.Record
		add := func(topic, pan, value string) {
			recs = append(recs, &kgo.Record{Topic: topic, Key: []byte(pan), Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "pan", Value: []byte(pan)}}})
		}
		for _, pan := range cards {
			for s := range 2 {
				add("payments", pan, jsonEvent(pan, s))
				add("lines", pan, fmt.Sprintf("2026-01-01T00:00:%02dZ,%s,Ada Lovelace,%s,+41 44 555 01 02,\"card \"\"%s\"\"\",1.5", s, pan, pan, pan))
				good += 2
			}
			whole := jsonEvent(pan, 3)
			for _, value := range []string{whole[:len(whole)-20], whole + "}", "card " + pan, `{"ts":"` + pan + `","card":"` + pan + `","amount":1}`,
				`{"card":` + pan + `,"ts":"2026-01-01T00:00:00Z","amount":"` + pan + `x"}`, `{"card":{"number":"` + pan + `"}}`, "[" + pan + "]", `{"card":"` + pan, utf16(jsonEvent(pan, 3)),
				strings.Replace(whole, `"payer":{`, `"payer":[{`, 1), strings.Replace(whole, `"phones":[`, `"phones":[[`, 1),
				strings.Replace(whole, `"counts":{`, `"counts":{"`+pan+`":"`+pan+`",`, 1)} {
				add("payments", pan, value)
			}
			add("lines", pan, "2026-01-01T00:00:00Z,"+pan)
			add("lines", pan, pan+","+pan+",\"Ada Lovelace")
			bad += 12 + 2
			d := event.DeadLetter{Stream: "payments", Reason: "type", Detail: "found " + pan, File: "x", Line: 1, Raw: []byte(whole[:len(whole)-9])}
			add(event.TopicDeadLetters, pan, string(d.AppendJSON(nil)))
			d.Raw = []byte("2026;" + grouped(pan, "-") + ";x")
			add(event.TopicDeadLetters, pan, string(d.AppendJSON(nil)))
			bad += 2
		}
		if err := cl.ProduceSync(h.t.Context(), recs...).FirstErr(); err != nil {
			h.t.Fatalf("%s: %v", name, err)
		}
		cl.Close()
	}
	return good, bad
}

// stream is the declaration as `weir load` asks for it.
func (h *house) stream(name string) *schema.Stream {
	h.t.Helper()
	var v node.StreamView
	if err := json.Unmarshal(h.call(http.MethodGet, "/v1/streams/"+name, ""), &v); err != nil {
		h.t.Fatal(err)
	}
	s, err := v.Stream()
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// load sends each card through `weir load`, in files of CSV and NDJSON with good
// and bad rows.
func (h *house) load() (good, bad int) {
	h.t.Helper()
	dir := h.t.TempDir()
	csv := "name,amount,card,ts,note,phone,cvv,shown\n"
	var lines string
	for _, pan := range cards {
		for s := range 2 {
			csv += fmt.Sprintf("Ada Lovelace,2.5,%s,2026-01-01T00:00:1%dZ,\"see, %s\",+41 44 555 01 02,cvv-value-912,%s\n", pan, s, grouped(pan, "-"), pan)
			lines += jsonEvent(pan, 20+s) + "\n"
		}
		csv += fmt.Sprintf("Ada Lovelace,x%s,%s,2026-01-01T00:00:15Z,,+41 44 555 01 02,cvv-value-912,%s\n", pan, pan, pan) // no amount
		csv += fmt.Sprintf("%s,2.5\n", pan)
		lines += `{"ts":"` + pan + `","name":"Ada Lovelace","card":"` + pan + `","cvv":"cvv-value-912","amount":1}` + "\n" + `{"card":"` + pan + "\n"
	}
	for name, text := range map[string]string{"a.csv": csv, "b.ndjson": lines} {
		h.write(filepath.Join(dir, name), text)
		for _, s := range []string{"payments", "lines"} {
			p := h.loadFile(filepath.Join(dir, name), s)
			good, bad = good+int(p.Accepted), bad+int(p.Dead)
			// The load finds its place again in what was rewritten.
			if again := h.loadFile(filepath.Join(dir, name), s); again.Accepted+again.Dead > 0 {
				h.t.Errorf("%s into %s: loaded again: %+v", name, s, again)
			}
		}
	}
	if good != 2*2*2*len(cards) {
		h.t.Errorf("%d rows were loaded, want %d", good, 2*2*2*len(cards))
	}
	return good, bad
}

func (h *house) loadFile(path, stream string) loader.Progress {
	h.t.Helper()
	p, err := loader.Load(h.t.Context(), path, loader.Options{Addr: h.KafkaAddr(), Stream: h.stream(stream),
		Logger: slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		h.t.Fatalf("%s into %s: %v", path, stream, err)
	}
	return p
}

// web sends each card over HTTP, as NDJSON and as CSV, with good and bad rows.
func (h *house) web() (good, bad int) {
	h.t.Helper()
	csv := "name,amount,card,ts,note,phone,cvv,shown\n"
	var lines string
	for _, pan := range cards {
		for s := range 2 {
			csv += fmt.Sprintf("Ada Lovelace,2.5,%s,2026-01-01T00:00:3%dZ,\"see, %s\",+41 44 555 01 02,cvv-value-912,%s\n", pan, s, grouped(pan, "-"), pan)
			lines += jsonEvent(pan, 40+s) + "\n"
		}
		csv += fmt.Sprintf("Ada Lovelace,x%s,%s,2026-01-01T00:00:15Z,,+41 44 555 01 02,cvv-value-912,%s\n", pan, pan, pan)
		lines += `{"ts":"` + pan + `","name":"Ada Lovelace","card":"` + pan + `","cvv":"cvv-value-912","amount":1}` + "\n" + `{"card":"` + pan + "\n"
	}
	for contentType, text := range map[string]string{"text/csv": csv, "application/x-ndjson": lines} {
		for _, s := range []string{"payments", "lines"} {
			resp, err := http.Post("http://"+h.HTTPAddr()+"/v1/streams/"+s+"/events", contentType, strings.NewReader(text))
			if err != nil {
				h.t.Fatal(err)
			}
			var a struct{ Accepted, Refused int }
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err := errors.Join(err, json.Unmarshal(body, &a)); err != nil || a.Accepted != 2*len(cards) || a.Refused == 0 {
				h.t.Fatalf("%s into %s: %s, %v: %.1000s", contentType, s, resp.Status, err, body)
			}
			good, bad = good+a.Accepted, bad+a.Refused
		}
	}
	return good, bad
}

func TestNothingInTheClear(t *testing.T) {
	h := startHouse(t)
	goodSent, badSent := h.kafka()
	goodLoaded, badLoaded := h.load()
	goodPosted, badPosted := h.web()
	goodMore, badMore := h.more()
	h.lists()
	good, bad := goodSent+goodLoaded+goodPosted+goodMore, badSent+badLoaded+badPosted+badMore
	h.wait(fmt.Sprintf("%d events and %d dead letters in SQL", good, bad), func() bool {
		return h.count("SELECT (SELECT count(*) FROM payments) + (SELECT count(*) FROM lines)") == good && h.count("SELECT count(*) FROM deadletters") == bad
	})
	// Every card met itself: 10 events by Kafka, 4 by files and 4 by HTTP make a window
	// of 18; to payments came 2 in a transaction and 2 in merged files.
	each := map[string]int{"payments": 22, "lines": 18}
	alerts := 0
	for stream, n := range each {
		want := (n - 1) * len(cards)
		if stream == "payments" {
			want += 2 * n // two cards are blocked
		}
		alerts += want
		h.wait(fmt.Sprintf("%d alerts of %s", want, stream), func() bool {
			return h.count("SELECT count(*) FROM alerts WHERE stream = '"+stream+"'") == want
		})
		if got := h.count(fmt.Sprintf("SELECT count(*) FROM (SELECT card FROM %s GROUP BY card HAVING count(*) = %d AND card LIKE 'h1.%%')", stream, n)); got != len(cards) {
			t.Errorf("%s: %d cards have all their events, want %d", stream, got, len(cards))
		}
	}
	alerts += h.orders()
	h.wait("deliveries", func() bool {
		return h.count("SELECT count(DISTINCT alert) FROM deliveries WHERE outcome = 'delivered'") == alerts
	})
	pairs := each["payments"] * each["lines"] * len(cards)
	if n := h.count("SELECT count(*) FROM payments p JOIN lines l USING (card) WHERE p.phone IS NULL AND p.name LIKE 'e1.%' AND p.shown LIKE '______%*%____'"); n != pairs {
		t.Errorf("%d pairs are as they should be, want %d", n, pairs)
	}
	// The card is the same one wherever it stands.
	if n := h.count("SELECT count(*) FROM payments WHERE payer.iban = card AND cards[1].pan = card AND wallet['main'] = card AND payer.name LIKE 'e1.%'"); n < (each["payments"]-4)*len(cards) {
		t.Errorf("%d events have one token for one card in all their fields", n)
	}
	for _, table := range []string{"payments", "lines", "orders", "deadletters", "decisions", "alerts", "deliveries", "list_entries", "table_changes", "table_entries", "holders", "limits", "weir_freshness"} {
		for offset := 0; ; offset += 500 {
			rows, text := h.query(fmt.Sprintf("SELECT * FROM %s ORDER BY ALL LIMIT 500 OFFSET %d", table, offset))
			check(t, "SQL table "+table, text)
			if len(rows) < 500 {
				break
			}
		}
	}
	for _, path := range []string{"/v1/overview", "/v1/alerts?limit=500", "/v1/streams", "/v1/rules", "/v1/operators", "/metrics", "/v1/lists", "/v1/lists/blocked-cards/entries", "/v1/lists/watched-cards/entries", "/v1/tables/limits/entries"} {
		check(t, path, h.call(http.MethodGet, path, ""))
	}
	h.checkErasure()
	h.stop()
	check(t, "the log lines", h.log.bytes())
	check(t, "the webhook", h.hooks.bytes())
	files := checkDir(t, h.data)
	t.Logf("%d good events, %d dead letters, %d files searched", good, bad, files)
}

// checkErasure shreds one subject's key: its bytes leave the disk.
func (h *house) checkErasure() {
	h.t.Helper()
	name := filepath.Join(h.data, "protect", "subjects.keys")
	before, err := os.ReadFile(name)
	if err != nil {
		h.t.Fatal(err)
	}
	for i, want := range []string{`{"keys":1}`, `{"keys":0}`} {
		if got := strings.TrimSpace(string(h.call(http.MethodPost, "/v1/erase", `{"subject":"`+cards[0]+`"}`))); got != want {
			h.t.Errorf("erasure %d: %s, want %s", i+1, got, want)
		}
	}
	after, err := os.ReadFile(name)
	if err != nil || len(after) != len(before)-64 {
		h.t.Errorf("the file of keys had %d bytes, has %d, %v", len(before), len(after), err)
	}
	for _, file := range []string{"subjects.keys", "hmac.key"} {
		if info, err := os.Stat(filepath.Join(h.data, "protect", file)); err != nil || info.Mode().Perm() != 0o600 {
			h.t.Errorf("%s: %v, %v", file, info, err)
		}
	}
}

// checkDir searches every file, and every record of every batch in it.
func checkDir(t *testing.T, dir string) (files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		check(t, path, data)
		for _, plain := range batches(data) {
			check(t, path+", decompressed", plain)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// batches are the records of each batch in a segment, joined.
func batches(data []byte) (out [][]byte) {
	var r record.Reader
	for len(data) > 0 {
		h, err := record.CheckStored(data)
		if err != nil {
			return out
		}
		r.Reset(data[:h.Size()])
		data = data[h.Size():]
		recs, err := r.ReadBatch(nil)
		if err != nil {
			continue
		}
		var plain []byte
		for _, rec := range recs {
			plain = append(append(append(append(plain, rec.Key...), '\n'), rec.Value...), '\n')
			for _, h := range rec.Headers {
				plain = append(append(plain, h.Value...), '\n')
			}
		}
		out = append(out, plain)
	}
	return out
}

var base64Run = regexp.MustCompile(`[A-Za-z0-9+/_-]{16,}`)

// check looks for the secrets in data: as they are, in groups, in escapes, in
// base64, in base64 within JSON.
func check(t *testing.T, where string, data []byte) {
	t.Helper()
	if found := find(data); found != "" {
		t.Errorf("%s holds %s", where, found)
	}
}

func find(data []byte) string {
	if found := findPlain(data); found != "" {
		return found
	}
	if bytes.Contains(data, []byte(`\u00`)) {
		if found := findPlain(unescape(data)); found != "" {
			return found + " in escapes"
		}
	}
	for _, run := range base64Run.FindAll(data, -1) {
		run = bytes.ReplaceAll(bytes.ReplaceAll(run, []byte("-"), []byte("+")), []byte("_"), []byte("/"))
		for skip := range min(4, len(run)) {
			part := run[skip:]
			if len(part)%4 == 1 {
				part = part[:len(part)-1]
			}
			decoded, err := base64.RawStdEncoding.AppendDecode(nil, part)
			if found := findPlain(decoded); err == nil && found != "" {
				return found + " in base64"
			}
		}
	}
	return ""
}

func findPlain(data []byte) string {
	for _, s := range secrets {
		if bytes.Contains(data, []byte(s)) {
			return s
		}
	}
	digits := make([]byte, 0, len(data))
	for _, c := range data {
		switch {
		case c >= '0' && c <= '9':
			digits = append(digits, c)
		case !between(c):
			digits = append(digits, '|')
		}
	}
	for _, pan := range cards {
		if i := bytes.Index(digits, []byte(pan)); i >= 0 {
			return fmt.Sprintf("%s (%q)", pan, around(data, i))
		}
	}
	return ""
}

// between reports whether c may stand between the digits of a card: the point is that
// of 4.111111111111111e15, the zero that of UTF-16.
func between(c byte) bool { return c == ' ' || c == '-' || c == '.' || c == 0 }

// around is the part of data about its ith byte that is not between digits.
func around(data []byte, i int) []byte {
	for at, c := range data {
		if between(c) {
			continue
		}
		if i--; i < 0 {
			return data[max(0, at-40):min(len(data), at+60)]
		}
	}
	return nil
}

var escape = regexp.MustCompile(`\\u00([0-9a-fA-F]{2})`)

func unescape(data []byte) []byte {
	return escape.ReplaceAllFunc(data, func(m []byte) []byte {
		c, _ := strconv.ParseUint(string(m[4:]), 16, 8)
		return []byte{byte(c)}
	})
}

// TestTheSearchFinds: a search that finds nothing must be able to find.
func TestTheSearchFinds(t *testing.T) {
	pan := cards[0]
	var b record.Builder
	b.Reset(record.BatchOptions{Codec: record.Zstd})
	b.Append(1, nil, []byte(pan), nil)
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	d := event.DeadLetter{Raw: []byte("x" + pan)}
	for name, data := range map[string][]byte{"plain": []byte("x" + pan + "x"), "groups": []byte(grouped(pan, "-")), "escapes": []byte(`\u0034` + pan[1:]),
		"exponent": []byte(pan[:1] + "." + pan[1:] + "e15"), "UTF-16": []byte(utf16("card " + pan)), "all escapes": []byte(nested(pan)[300:]),
		"base64": d.AppendJSON(nil), "compressed": batches(batch)[0], "name": []byte(secrets[0])} {
		if find(data) == "" {
			t.Errorf("%s is not found in %q", name, data)
		}
	}
}
