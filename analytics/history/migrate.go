package history

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/ingest/schema"
)

// migrates reports whether a table whose declaration has changed must keep its rows:
// the log no longer has all records that they were made of. Else it is filled again,
// by which columns that are new have what the records say of them.
func (h *History) migrates(w *duck.Writer, t *table) (bool, error) {
	if t.stream == nil || h.opts.Start == nil {
		return false, nil
	}
	cut := false
	err := w.Each(`SELECT topic, "partition", next FROM weir_state.positions WHERE name = `+duck.Literal(t.name), func(c *duck.Chunk, i int) error {
		if topic := string(c.Columns[0].Bytes(i)); topic != t.topic {
			return errAnotherTopic
		}
		start, err := h.opts.Start(t.topic, int32(c.Columns[1].Int64(i)))
		cut = cut || err == nil && start > 0 && c.Columns[2].Int64(i) > 0
		return nil
	})
	if err == errAnotherTopic {
		return false, nil
	}
	if err != nil || !cut {
		return false, err
	}
	again, err := h.topicIsAnother(w, t)
	return !again, err
}

var errAnotherTopic = fmt.Errorf("another topic")

// migrate gives a table the columns that are declared now and keeps its rows and
// positions: a column has the values of the one that was read from the same place of
// the record, else of the one of its name, as far as they convert; one that is new
// has none. fingerprint is the table's until now.
func (h *History) migrate(w *duck.Writer, t *table, fingerprint string) error {
	var before struct {
		Fields []schema.Field `json:"fields"` // in the order of the columns
	}
	if err := json.Unmarshal([]byte(fingerprint), &before); err != nil {
		return fmt.Errorf("its declaration until now: %w", err)
	}
	var have []string
	err := w.Each("SELECT column_name FROM duckdb_columns() WHERE schema_name = 'main' AND table_name = "+duck.Literal(t.name)+" ORDER BY column_index", func(c *duck.Chunk, i int) error {
		have = append(have, string(c.Columns[0].Bytes(i)))
		return nil
	})
	if err != nil {
		return err
	}
	at := func(name string) int {
		return slices.IndexFunc(have, func(h string) bool { return strings.EqualFold(h, name) })
	}
	into, from := []string{"_partition", "_offset"}, []string{"_partition", "_offset"}
	for i, f := range t.stream.Schema.Fields {
		path := cmp.Or(t.stream.Fields[i].From, f.Name)
		old := slices.IndexFunc(before.Fields, func(b schema.Field) bool { return b.From == path })
		if old < 0 || old >= len(have) {
			old = at(f.Name)
		}
		if old < 0 {
			old = at(path)
		}
		if old >= 0 {
			into = append(into, duck.Quote(f.Name))
			from = append(from, fmt.Sprintf("TRY_CAST(%s AS %s)", duck.Quote(have[old]), duck.ColumnType(f.Type)))
		}
	}
	next := *t
	next.name = "weir_migrating_" + t.name
	err = w.Exec("BEGIN; DROP TABLE IF EXISTS main." + duck.Quote(next.name) + "; " + next.ddl() +
		"; INSERT INTO main." + duck.Quote(next.name) + "(" + strings.Join(into, ", ") + ") SELECT " + strings.Join(from, ", ") + " FROM main." + duck.Quote(t.name) +
		"; DROP TABLE main." + duck.Quote(t.name) + "; ALTER TABLE main." + duck.Quote(next.name) + " RENAME TO " + duck.Quote(t.name) +
		"; DELETE FROM weir_state.tables WHERE name = " + duck.Literal(t.name) +
		"; INSERT INTO weir_state.tables VALUES (" + duck.Literal(t.name) + ", " + duck.Literal(t.fingerprint) + "); COMMIT")
	if err != nil {
		_ = w.Exec("ROLLBACK") // none is open where BEGIN failed
	}
	return err
}
