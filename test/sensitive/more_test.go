package sensitive

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/ingest/loader"
)

// more sends each card in what has more to it than a record: transactions, kept and
// aborted; files that are merged; a request with an Idempotency-Key; requests that
// are refused.
func (h *house) more() (good, bad int) {
	good += h.transactions()
	good += h.merged()
	bad += h.keyed()
	h.refused()
	return good, bad
}

// transactions writes each card twice in transactions that are committed, and twice
// in ones that are aborted.
func (h *house) transactions() (good int) {
	h.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(h.KafkaAddr()), kgo.TransactionalID("payments-in"), kgo.ProducerBatchCompression(kgo.ZstdCompression()))
	if err != nil {
		h.t.Fatal(err)
	}
	defer cl.Close()
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		if err := cl.BeginTransaction(); err != nil {
			h.t.Fatal(err)
		}
		for _, pan := range cards {
			for s := range 2 {
				r := &kgo.Record{Topic: "payments", Key: []byte(pan), Value: []byte(jsonEvent(pan, 4+s)),
					Headers: []kgo.RecordHeader{{Key: "card-" + pan, Value: []byte(grouped(pan, " "))}, {Key: "cvv", Value: []byte("cvv-value-912")}, {Key: "weir-load", Value: []byte(pan)}}}
				if err := cl.ProduceSync(h.t.Context(), r).FirstErr(); err != nil {
					h.t.Fatal(err)
				}
				if end == kgo.TryCommit {
					good++
				}
			}
		}
		if err := cl.EndTransaction(h.t.Context(), end); err != nil {
			h.t.Fatal(err)
		}
	}
	return good
}

// merged loads two files at once, with each card in both.
func (h *house) merged() (good int) {
	h.t.Helper()
	dir := h.t.TempDir()
	var paths []string
	for i, name := range []string{"monday " + cards[2] + ".ndjson", "tuesday.ndjson"} {
		var text string
		for _, pan := range cards {
			text += jsonEvent(pan, 50+i) + "\n"
		}
		paths = append(paths, filepath.Join(dir, name))
		h.write(paths[i], text)
	}
	p, err := loader.LoadAll(h.t.Context(), paths, loader.Options{Addr: h.KafkaAddr(), Stream: h.stream("payments"),
		Logger: slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil || p.Accepted != int64(2*len(cards)) || p.Dead != 0 {
		h.t.Fatalf("merged files: %+v, %v", p, err)
	}
	return int(p.Accepted)
}

// do sends a request whose answer is checked as well as its status.
func (h *house) do(method, path, contentType, body string, header http.Header, want int) []byte {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, "http://"+h.HTTPAddr()+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if header != nil {
		req.Header = header
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		h.t.Fatalf("%s %s: %s, want %d: %s %v", method, path, resp.Status, want, got, err)
	}
	return got
}

// keyed writes each card once into orders, with itself as the request's key, and
// then once more as another request: a duplicate, as its id is the card.
func (h *house) keyed() (bad int) {
	h.t.Helper()
	for _, pan := range cards {
		body := fmt.Sprintf(`{"ts":"2026-01-01T00:00:00Z","card":%q}`, pan)
		for _, key := range []string{pan, pan, "again " + grouped(pan, "-")} {
			h.do(http.MethodPost, "/v1/streams/orders/events", "application/json", body, http.Header{"Idempotency-Key": {key}}, http.StatusOK)
		}
	}
	return len(cards)
}

// refused sends cards where they are refused: what is said and logged of it is
// searched like the rest.
func (h *house) refused() {
	h.t.Helper()
	pan := cards[0]
	for _, r := range []struct {
		path, contentType, body string
		want                    int
	}{
		{"/v1/streams/payments/events", "text/csv", "card,amount\n" + pan + ",1\n", http.StatusUnprocessableEntity},
		{"/v1/streams/payments/events", "text/plain", pan, http.StatusUnsupportedMediaType},
		{"/v1/streams/card" + pan + "/events", "application/json", "{}", http.StatusNotFound},
		{"/v1/sql", "application/json", `{"query":"select * from payments where card = '` + pan + `' and nothing"}`, http.StatusBadRequest},
		{"/v1/sql", "application/json", `{"query":"select ` + pan + ` from nowhere"}`, http.StatusBadRequest},
		{"/v1/deadletters/replay", "application/json", `{"stream":"x` + pan + `"}`, http.StatusNotFound},
	} {
		h.do(http.MethodPost, r.path, r.contentType, r.body, nil, r.want)
	}
	// A broken batch, and one to a topic that only Weir writes.
	cl, err := kgo.NewClient(kgo.SeedBrokers(h.KafkaAddr()), kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite(), kgo.UnknownTopicRetries(1))
	if err != nil {
		h.t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	for _, topic := range []string{"weir.tables", "weir.decisions"} {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte(pan), Value: []byte(pan)}).FirstErr(); err == nil {
			h.t.Errorf("a client could write to %s", topic)
		}
	}
}

// lists feeds cards to lists and tables in each way there is. Values are found, and
// removed, by the card.
func (h *house) lists() {
	h.t.Helper()
	entries := func(of func(pan string) string) string {
		var out []string
		for _, pan := range cards {
			out = append(out, of(pan))
		}
		return `{"author":"ada ` + cards[3] + `","reason":"case of card ` + grouped(cards[2], "-") + `","entries":[` + strings.Join(out, ",") + `]}`
	}
	const jsonBody = "application/json"
	h.do(http.MethodPost, "/v1/lists/watched-cards/entries", jsonBody, entries(func(pan string) string { return fmt.Sprintf(`{"value":%q}`, grouped(pan, " ")) }), nil, http.StatusOK)
	h.do(http.MethodPost, "/v1/tables/holders/entries", jsonBody, entries(func(pan string) string {
		return fmt.Sprintf(`{"card":%[1]q,"shown":%[1]q,"note":"has %[1]s","_reason":"%[1]s"}`, pan)
	}), nil, http.StatusOK)
	// Once more in the other way of writing: nothing changes.
	var text strings.Builder
	text.WriteString("value\n")
	for _, pan := range cards {
		text.WriteString(pan + "\n")
	}
	h.do(http.MethodPut, "/v1/lists/watched-cards/entries?file=cards.csv&reason="+cards[4], "text/csv", text.String(), nil, http.StatusOK)
	if got := h.do(http.MethodGet, "/v1/lists/watched-cards", jsonBody, "", nil, http.StatusOK); !bytes.Contains(got, []byte(fmt.Sprintf(`"entries":%d`, len(cards)))) {
		h.t.Errorf("the list of watched cards: %s", got)
	}
	if got := h.do(http.MethodGet, "/v1/lists/watched-cards/entries?search="+cards[5], jsonBody, "", nil, http.StatusOK); bytes.Count(got, []byte(`"value":"h1.`)) != 1 {
		h.t.Errorf("searching for a card: %s", got)
	}
	h.do(http.MethodPost, "/v1/lists/watched-cards/entries/remove", jsonBody, `{"keys":[["`+cards[1]+`"]],"reason":"`+cards[1]+`"}`, nil, http.StatusOK)
	// A list that does not say so takes no cards.
	got := h.do(http.MethodPost, "/v1/lists/names/entries", jsonBody, `{"entries":[{"value":"`+cards[0]+`"}]}`, nil, http.StatusUnprocessableEntity)
	if !bytes.Contains(got, []byte("sensitive: hmac")) {
		h.t.Errorf("a card in a list of names: %s", got)
	}
	check(h.t, "the refusal of a card in a list", got)
	// Made over HTTP.
	h.do(http.MethodPost, "/v1/lists", jsonBody, `{"name":"made","sensitive":"hmac"}`, nil, http.StatusOK)
	h.do(http.MethodPost, "/v1/lists/made/entries", jsonBody, `{"entries":[{"value":"`+cards[0]+`"}]}`, nil, http.StatusOK)
	// From a topic.
	cl, err := kgo.NewClient(kgo.SeedBrokers(h.KafkaAddr()))
	if err != nil {
		h.t.Fatal(err)
	}
	defer cl.Close()
	var recs []*kgo.Record
	for _, pan := range cards {
		recs = append(recs, &kgo.Record{Topic: "limits", Key: []byte(grouped(pan, "-")), Value: []byte(fmt.Sprintf(`{"card":%[1]q,"ceiling":"10.00","note":"of %[1]s"}`, pan))},
			&kgo.Record{Topic: "limits", Key: []byte("x" + pan), Value: []byte(`{"ceiling":"` + pan)})
	}
	recs = append(recs, &kgo.Record{Topic: "limits", Key: []byte(cards[2])})
	if err := cl.ProduceSync(h.t.Context(), recs...).FirstErr(); err != nil {
		h.t.Fatal(err)
	}
	h.wait("the table of limits", func() bool {
		return h.count("SELECT count(*) FROM limits WHERE card LIKE 'h1.%'") == len(cards)-1
	})
}

// orders writes each card once more, now that the lists are filled, and counts the
// alerts: a list, a table and a table of a topic have to know it.
func (h *house) orders() (alerts int) {
	h.t.Helper()
	// An event with the id of one before it is left out, so these are a day later.
	for _, pan := range cards {
		h.do(http.MethodPost, "/v1/streams/orders/events", "application/json", fmt.Sprintf(`{"ts":"2026-01-03T00:00:00Z","card":%q}`, grouped(pan, " ")), nil, http.StatusOK)
	}
	h.wait("orders", func() bool { return h.count("SELECT count(*) FROM orders") == 2*len(cards) })
	var want []string
	for i, pan := range cards {
		if pan[0] == '4' && i != 1 && i != 2 { // as the lists are
			want = append(want, pan)
		}
	}
	h.wait(fmt.Sprintf("%d alerts of orders", len(want)), func() bool {
		return h.count("SELECT count(*) FROM alerts WHERE stream = 'orders'") == len(want)
	})
	return len(want)
}
