package duck

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

// growRandom appends a random value of the column's type.
func growRandom(r *rand.Rand, c *event.Column) {
	if r.IntN(5) == 0 {
		c.AppendNull()
		return
	}
	switch c.Type.Kind {
	case event.Bool:
		c.AppendBool(r.IntN(2) == 0)
		return
	case event.Int64:
		c.AppendInt64(r.Int64N(1000))
		return
	case event.String:
		c.AppendBytes([]byte(strings.Repeat("é", r.IntN(12))))
		return
	case event.List:
		for range r.IntN(4) {
			growRandom(r, &c.Children[0])
		}
	case event.Map:
		for i := range r.IntN(3) {
			c.Children[0].AppendBytes(fmt.Appendf(nil, "key %d", i))
			growRandom(r, &c.Children[1])
		}
	case event.Struct:
		for i := range c.Children {
			growRandom(r, &c.Children[i])
		}
	}
	c.AppendNested()
}

// TestNestedRoundTrip appends over several chunks, and reads back as JSON.
func TestNestedRoundTrip(t *testing.T) {
	r := seeds.Rand(t)
	db := openTemp(t)
	w := db.Writer()
	conn := openConn(t, db)
	for i, ty := range []string{"list(string)", "map(int64?)", "struct(a bool, b string?)", "list(struct(sku string, tags list(int64?), more map(struct(x bool))?)?)", "map(list(map(string?)))"} {
		typ, err := event.ParseType(ty)
		if err != nil {
			t.Fatal(err)
		}
		table := fmt.Sprint("t", i)
		mustExec(t, w, "CREATE TABLE "+table+"(n BIGINT, c "+ColumnType(typ)+")")
		var want []string
		for range 3 { // the chunk is used again
			var n, c event.Column
			n.Reset(event.Type{Kind: event.Int64})
			c.Reset(typ)
			for range 2049 + r.IntN(300) {
				n.AppendInt64(int64(len(want)))
				growRandom(r, &c)
				want = append(want, string(c.AppendJSON(nil, c.Len()-1)))
			}
			if err := w.Begin(); err != nil {
				t.Fatal(err)
			}
			to, err := w.Table("main", table)
			if err != nil {
				t.Fatal(err)
			}
			if err := to.Append([]Column{{Column: &n}, {Column: &c}}); err != nil {
				t.Fatal(err)
			}
			if err := w.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		got := strings.Split(text(t, conn, "SELECT coalesce(to_json(c)::VARCHAR, 'null') FROM "+table+" ORDER BY n"), "\n")
		if len(got) != len(want) {
			t.Fatalf("%s: %d rows, want %d", ty, len(got), len(want))
		}
		for i := range got {
			var a, b any
			if err := json.Unmarshal([]byte(got[i]), &a); err != nil {
				t.Fatalf("%s: row %d: %v: %s", ty, i, err, got[i])
			}
			if err := json.Unmarshal([]byte(want[i]), &b); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(a, b) {
				t.Fatalf("%s: row %d is %s, want %s", ty, i, got[i], want[i])
			}
		}
	}
}
