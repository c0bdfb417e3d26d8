package history

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/dedupe"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/test/seeds"
)

// TestDuplicatesAreOneRow stops and starts, by which the ids are read from the table,
// and wants the rows that a Seen that was never stopped takes.
func TestDuplicatesAreOneRow(t *testing.T) {
	r := seeds.Rand(t)
	for _, kind := range []event.Kind{event.Int64, event.String} {
		s := transactions()
		s.Dedupe = 300 * time.Second
		s.Schema.Fields[0].Type.Kind = kind
		l := newFakeLog(map[string]int{"transactions": 2})
		l.chunk = 50
		path := filepath.Join(t.TempDir(), "weir.duckdb")
		seen := []*dedupe.Seen{dedupe.New(s.Dedupe), dedupe.New(s.Dedupe)}
		var want []string
		sent := [2]int{}
		for range 5 {
			for part := range 2 {
				for range 200 + r.IntN(200) {
					i := sent[part] // its time is in seconds
					if r.IntN(3) == 0 {
						i = max(0, i-r.IntN(500))
					}
					text := string(transaction(i))
					key := dedupe.OfInt64(int64(i))
					if kind == event.String {
						text = strings.Replace(text, fmt.Sprintf(`"TRANSACTION_ID":%d`, i), fmt.Sprintf(`"TRANSACTION_ID":"id %d"`, i), 1)
						key = dedupe.OfText(fmt.Appendf(nil, "id %d", i))
					}
					offset := len(l.topics["transactions"][part])
					l.append("transactions", part, []byte(text))
					at := event.FromTime(time.Date(2018, 4, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * time.Second))
					if !seen[part].Duplicate(key, at) {
						want = append(want, fmt.Sprintf("%d|%d", part, offset))
					}
					sent[part] += r.IntN(2)
				}
			}
			db := open(t, path)
			h, stop := start(t, db, []*schema.Stream{s}, l.options())
			wait(t, h, l, "transactions")
			if got := ask(t, db, "SELECT count(*)::VARCHAR FROM transactions"); got != fmt.Sprint(len(want)) {
				t.Fatalf("%s rows, want %d", got, len(want))
			}
			if got := ask(t, db, `SELECT count(*)::VARCHAR FROM (SELECT DISTINCT _partition, _offset FROM transactions) WHERE _partition::VARCHAR || '|' || _offset::VARCHAR IN ('`+strings.Join(want, "','")+`')`); got != fmt.Sprint(len(want)) {
				t.Fatalf("%s rows are the right ones, want %d", got, len(want))
			}
			stop()
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(l.topics["transactions"][0]) + len(l.topics["transactions"][1]); n-len(want) < 100 {
			t.Errorf("%d duplicates among %d: the test tests nothing", n-len(want), n)
		}
	}
}
