package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (w *world) register(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/overview", func(rw http.ResponseWriter, _ *http.Request) { reply(rw, w.overview()) })
	mux.HandleFunc("GET /v1/streams", func(rw http.ResponseWriter, _ *http.Request) { reply(rw, w.overview().Streams) })
	mux.HandleFunc("GET /v1/rules", func(rw http.ResponseWriter, _ *http.Request) { reply(rw, w.overview().Rules) })
	mux.HandleFunc("GET /v1/keyed", func(rw http.ResponseWriter, _ *http.Request) { reply(rw, w.overview().Keyed) })
	mux.HandleFunc("GET /v1/operators", func(rw http.ResponseWriter, _ *http.Request) { reply(rw, w.operators()) })
	mux.HandleFunc("GET /v1/alerts", w.serveAlerts)
	mux.HandleFunc("GET /v1/live", w.serveLive)
	mux.HandleFunc("POST /v1/sql", w.serveSQL)
	mux.HandleFunc("POST /mock/alert", func(rw http.ResponseWriter, r *http.Request) {
		reply(rw, w.raiseNow(r.URL.Query().Get("rule"), r.URL.Query().Get("key")))
	})
	mux.HandleFunc("POST /mock/warm", func(rw http.ResponseWriter, r *http.Request) {
		percent, _ := strconv.ParseFloat(r.URL.Query().Get("percent"), 64)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.warm(r.URL.Query().Get("rule"), percent, r.URL.Query().Get("trouble"))
		rw.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("POST /mock/drop", func(rw http.ResponseWriter, r *http.Request) {
		ms, _ := strconv.Atoi(r.URL.Query().Get("ms"))
		w.drop(time.Duration(ms) * time.Millisecond)
		rw.WriteHeader(http.StatusNoContent)
	})
}

func reply(rw http.ResponseWriter, v any) {
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(v)
}

// problem is an error as RFC 9457 writes it.
func problem(rw http.ResponseWriter, status int, detail, message, location string) {
	rw.Header().Set("Content-Type", "application/problem+json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(map[string]any{
		"title": http.StatusText(status), "status": status, "detail": detail,
		"errors": []map[string]string{{"message": message, "location": location}},
	})
}

func (w *world) serveAlerts(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit := 50
	if s := q.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 500 {
			problem(rw, 422, "validation failed", "expected number between 1 and 500", "query.limit")
			return
		}
		limit = n
	}
	before, beforeID := int64(1<<62), "\uffff"
	if s := q.Get("before"); s != "" {
		nanos, id, ok := strings.Cut(s, ",")
		n, err := strconv.ParseInt(nanos, 10, 64)
		if !ok || err != nil {
			problem(rw, 422, "before: expected the next of an earlier page", "not a page mark", "query.before")
			return
		}
		before, beforeID = n, id
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	sorted := slices.Clone(w.alerts)
	slices.SortFunc(sorted, func(a, b *alert) int {
		if c := b.at.Compare(a.at); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	page := struct {
		Alerts []*alert `json:"alerts"`
		Next   string   `json:"next,omitempty"`
	}{Alerts: []*alert{}}
	matches := func(a *alert) bool {
		equal := func(name, v string) bool { return q.Get(name) == "" || q.Get(name) == v }
		return equal("rule", a.Rule) && equal("stream", a.Stream) && equal("severity", a.Severity) && equal("key", a.Key)
	}
	for _, a := range sorted {
		ns := a.at.UnixNano()
		if !matches(a) || ns > before || ns == before && a.ID >= beforeID {
			continue
		}
		if len(page.Alerts) == limit {
			last := page.Alerts[limit-1]
			page.Next = fmt.Sprintf("%d,%s", last.at.UnixNano(), last.ID)
			break
		}
		page.Alerts = append(page.Alerts, a)
	}
	reply(rw, page)
}

func (w *world) serveLive(rw http.ResponseWriter, r *http.Request) {
	feed, ok := w.watch()
	if !ok {
		http.Error(rw, "dropped for the test", http.StatusServiceUnavailable)
		return
	}
	defer w.unwatch(feed)
	rw.Header().Set("Content-Type", "text/event-stream")
	rw.Header().Set("Cache-Control", "no-store")
	control := http.NewResponseController(rw)
	send := func(name string, v any) error {
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(rw, "event: %s\ndata: %s\n\n", name, data); err != nil {
			return err
		}
		return control.Flush()
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	err := send("overview", w.overview())
	for err == nil {
		select {
		case <-r.Context().Done():
			return
		case a, open := <-feed.alerts:
			if !open {
				return
			}
			err = send("alert", json.RawMessage(a))
		case <-tick.C:
			err = send("overview", w.overview())
			if n := w.leftOut(feed); n > 0 && err == nil {
				err = send("left_out", n)
			}
		}
	}
}

// serveSQL answers a few kinds of query with something of the right shape.
func (w *world) serveSQL(rw http.ResponseWriter, r *http.Request) {
	var body struct {
		Query string `json:"query"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		problem(rw, 400, "the body is not JSON", err.Error(), "body")
		return
	}
	type column struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	type freshness struct {
		Name      string    `json:"name"`
		Partition int       `json:"partition"`
		Offset    int64     `json:"offset"`
		Watermark time.Time `json:"watermark"`
		AgeMS     int64     `json:"age_ms"`
	}
	lower := strings.ToLower(body.Query)
	if at := strings.Index(lower, "transaction "); at >= 0 {
		problem(rw, 400, `Catalog Error: Table with name transaction does not exist! Did you mean "transactions"?`, `table "transaction" does not exist`, fmt.Sprintf("body.query character %d", at+1))
		return
	}
	now := time.Now().UTC()
	result := map[string]any{"elapsed_ms": 3.184, "truncated": false, "freshness": []freshness{
		{"transactions", 0, 481_220, now.Add(-5 * time.Second), 41}, {"transactions", 1, 480_913, now.Add(-5 * time.Second), 44}}}
	if strings.Contains(lower, "group by") {
		result["columns"] = []column{{"merchant", "VARCHAR"}, {"payments", "BIGINT"}, {"spent", "DECIMAL(38,2)"}}
		rows := [][]any{}
		for i := range 40 {
			rows = append(rows, []any{fmt.Sprintf("m-%04d", 900-i*7), 9_007_199_254_740_993 - int64(i), fmt.Sprintf("%d.%02d", 48_210-i*911, i*13%100)})
		}
		result["rows"] = rows
	} else {
		result["columns"] = []column{{"id", "VARCHAR"}, {"ts", "TIMESTAMP_NS"}, {"card", "VARCHAR"}, {"terminal", "VARCHAR"}, {"amount", "DECIMAL(18,2)"}, {"country", "VARCHAR"}, {"_partition", "INTEGER"}, {"_offset", "BIGINT"}}
		result["rows"] = [][]any{{"81274", now.Add(-time.Minute).Format(time.RFC3339Nano), "4961", "3412", "312.40", nil, 0, 48211}}
	}
	reply(rw, result)
}
