package history

import (
	"testing"

	"github.com/weirstream/weir/ingest/event"
	dimension "github.com/weirstream/weir/ingest/table"
)

// TestDimensions shows tables after groups that a crash cut off, clears, a removal
// and a group that is not whole yet.
func TestDimensions(t *testing.T) {
	db := temp(t)
	l := newFakeLog(map[string]int{dimension.TopicTables: 1})
	l.append(dimension.TopicTables, 0,
		[]byte(`{"op":"declare","table":"shops","definition":{"kind":"table","key":[{"name":"no","type":"int64"}],"columns":[{"name":"risk","type":"decimal(2)"},{"name":"raw","type":"bytes","optional":true}]}}`),
		[]byte(`{"op":"declare","table":"blocked","definition":{"kind":"list","key":[{"name":"value","type":"string"}]}}`),
		[]byte(`{"op":"put","table":"shops","key":[1],"row":{"risk":"1.00"},"more":true}`),
		[]byte(`{"op":"put","table":"shops","key":[2],"row":{"risk":"2.00","raw":"AQI="}}`),
		[]byte(`{"op":"put","table":"shops","key":[2],"row":{"risk":"9.00"},"more":true}`), // cut off
		[]byte(`{"op":"put","table":"shops","key":[3],"row":{"risk":"9.00"},"more":true}`),
		[]byte(`{"op":"abort"}`),
		[]byte(`{"op":"put","table":"blocked","key":["a"],"row":{}}`),
		[]byte(`{"op":"clear","table":"blocked"}`),
		[]byte(`{"op":"put","table":"blocked","key":["b"],"row":{},"expires":"2026-01-31T00:00:00Z"}`),
		[]byte(`{"op":"put","table":"shops","key":[4],"row":{"risk":"4.00"}}`),
		[]byte(`{"op":"remove","table":"shops","key":[4]}`),
		[]byte(`{"op":"put","table":"shops","key":[1],"row":{"risk":"8.00"},"more":true}`)) // not whole yet
	o := l.options()
	shops := &dimension.Definition{Name: "shops", Key: []event.Field{{Name: "no", Type: event.Type{Kind: event.Int64}}},
		Columns: []event.Field{{Name: "risk", Type: event.Type{Kind: event.Decimal, Scale: 2}}, {Name: "raw", Type: event.Type{Kind: event.Bytes}, Optional: true}}}
	o.Tables = []*dimension.Definition{shops, dimension.NewList("blocked", event.Type{Kind: event.String})}
	h, _ := start(t, db, nil, o)
	wait(t, h, l, dimension.TopicTables)
	check := func(wants map[string]string) {
		t.Helper()
		for query, want := range wants {
			if got := ask(t, db, query); got != want {
				t.Errorf("%s:\n got %s\nwant %s", query, got, want)
			}
		}
	}
	check(map[string]string{
		"SELECT no, risk, octet_length(raw) FROM shops ORDER BY no": "1|1.00|\n2|2.00|2",
		"SELECT list, value, expires FROM list_entries":             "blocked|b|2026-01-31 00:00:00",
		"SELECT name, type, entries FROM lists":                     "blocked|string|1",
		"SELECT count(*) FROM table_changes":                        "13",
	})
	l.append(dimension.TopicTables, 0, []byte(`{"op":"remove","table":"shops","key":[2]}`)) // ends the group
	wait(t, h, l, dimension.TopicTables)
	check(map[string]string{"SELECT no, risk FROM shops ORDER BY no": "1|8.00"})
}
