package history

import (
	"fmt"
	"strings"

	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/ingest/dedupe"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
	dimension "github.com/weirstream/weir/ingest/table"
)

// Tables and lists are one table of all changes, which is only appended to, and
// views of what is there now. A group of changes is in them when it is whole.

// changesTable is the name of the table of changes.
const changesTable = "table_changes"

func tableChanges() *table {
	t := &table{name: changesTable, topic: dimension.TopicTables, columns: append([]column{
		{"time", "TIMESTAMP_NS"}, {"table", "VARCHAR"}, {"op", "VARCHAR"}, {"key", "VARCHAR"}, {"row", "JSON"}, {"expires", "TIMESTAMP_NS"},
		{"author", "VARCHAR"}, {"reason", "VARCHAR"}, {"more", "BOOLEAN"},
	}, placeColumns(dimension.TopicTables)...)}
	t.decoder = changesDecoder
	t.fingerprint = t.ddl()
	return t
}

func changesDecoder(partition int32, seen *dedupe.Seen) (decoder, error) {
	return ownDecoder(func(r *run, rec *source.Record) bool { return changeRow(r, rec, partition) })(partition, seen)
}

func changeRow(r *run, rec *source.Record, partition int32) bool {
	c, err := dimension.ParseRecord(rec.Value)
	if err != nil {
		return false
	}
	text := func(i int, s string) {
		if s == "" {
			r.null(i, event.String)
			return
		}
		r.text(i, s)
	}
	r.time(0, c.Since)
	r.text(1, c.Table)
	r.text(2, string(c.Op))
	text(3, c.Key)
	text(4, c.Row)
	if c.Expires == event.MaxTime {
		c.Expires = event.MinTime // no value
	}
	r.time(5, c.Expires)
	text(6, c.Author)
	text(7, c.Reason)
	r.bool(8, c.More)
	r.int(9, int64(partition))
	r.int(10, rec.Offset)
	r.watermark = max(r.watermark, c.Since)
	return true
}

// entriesDDL are the views of what is there now. A group that a crash cut off lies
// between the record before it that ends a group and its abort.
const entriesDDL = `CREATE OR REPLACE VIEW main.table_changes_whole AS
WITH whole AS (SELECT coalesce(max(_offset), -1) AS last FROM main.table_changes WHERE NOT more),
aborted AS (SELECT a._offset AS upto, (SELECT coalesce(max(b._offset), -1) FROM main.table_changes b WHERE NOT b.more AND b._offset < a._offset) AS since
	FROM main.table_changes a WHERE a.op = 'abort')
SELECT c.* FROM main.table_changes c, whole w WHERE c._offset <= w.last
	AND NOT EXISTS (SELECT 1 FROM aborted a WHERE c._offset > a.since AND c._offset < a.upto);
CREATE OR REPLACE VIEW main.table_entries AS
WITH cleared AS (SELECT "table", max(_offset) AS at FROM main.table_changes_whole WHERE op IN ('clear', 'drop') GROUP BY ALL),
declared AS (SELECT "table", arg_max("row", _offset) AS "definition" FROM main.table_changes_whole WHERE op = 'declare' GROUP BY ALL),
newest AS (SELECT * FROM main.table_changes_whole WHERE op IN ('put', 'remove') QUALIFY row_number() OVER (PARTITION BY "table", key ORDER BY _offset DESC) = 1)
SELECT n."table", (d."definition"->>'$.kind') AS kind, n.key, n."row", n.expires, n.time AS since, n.author, n.reason, n._offset
FROM newest n JOIN declared d ON d."table" = n."table" LEFT JOIN cleared x ON x."table" = n."table"
WHERE n.op = 'put' AND n._offset > coalesce(x.at, -1);
CREATE OR REPLACE VIEW main.list_entries AS
SELECT "table" AS list, (key->>'$[0]') AS "value", expires, since, author, reason FROM main.table_entries WHERE kind = 'list';
CREATE OR REPLACE VIEW main.lists AS
WITH last AS (SELECT "table", arg_max(op, _offset) AS op, arg_max("row", _offset) AS d FROM main.table_changes_whole WHERE op IN ('declare', 'drop') GROUP BY ALL),
counted AS (SELECT "table", count(*) AS n FROM main.table_entries GROUP BY ALL)
SELECT l."table" AS name, (l.d->>'$.key[0].type') AS type, coalesce(c.n, 0) AS entries, (l.d->>'$.source') AS source
FROM last l LEFT JOIN counted c ON c."table" = l."table" WHERE l.op = 'declare' AND (l.d->>'$.kind') = 'list'`

// entryViews are the names of the views above.
var entryViews = []string{"table_changes_whole", "table_entries", "list_entries", "lists"}

// dimensionDDL is the view of a dimension table: its fields, typed, and since when
// and until when its entry is there.
func dimensionDDL(d *dimension.Definition) string {
	var columns []string
	for i, f := range d.Key {
		columns = append(columns, cast(fmt.Sprintf("(key->>'$[%d]')", i), f))
	}
	for _, f := range d.Columns {
		columns = append(columns, cast(fmt.Sprintf(`("row"->>'$.%s')`, f.Name), f))
	}
	return "CREATE OR REPLACE VIEW main." + duck.Quote(d.Name) + " AS SELECT " + strings.Join(columns, ", ") +
		", expires AS _expires, since AS _since, author AS _author, reason AS _reason FROM main.table_entries WHERE \"table\" = " + duck.Literal(d.Name) + " AND kind = 'table'"
}

func cast(text string, f event.Field) string {
	switch f.Type.Kind {
	case event.String: // as it is
	case event.Bytes:
		text = "from_base64(" + text + ")"
	default:
		text = "CAST(" + text + " AS " + duck.ColumnType(f.Type) + ")"
	}
	return text + " AS " + duck.Quote(f.Name)
}

// viewNames are the views that show tables and lists.
func (h *History) viewNames() []string {
	if h.opts.Tables == nil {
		return nil
	}
	names := entryViews
	for _, d := range h.opts.Tables {
		if !d.List {
			names = append(names[:len(names):len(names)], d.Name)
		}
	}
	return names
}

// dropViews drops the views of tables and lists, so that a stream may have the name
// of a table that is no more.
func (h *History) dropViews(w *duck.Writer) error {
	var old []string
	err := w.Each("SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main' AND view_name <> 'weir_freshness'", func(c *duck.Chunk, i int) error {
		old = append(old, string(c.Columns[0].Bytes(i)))
		return nil
	})
	for _, name := range old {
		if err == nil {
			err = w.Exec("DROP VIEW IF EXISTS main." + duck.Quote(name))
		}
	}
	return err
}

// makeViews makes them.
func (h *History) makeViews(w *duck.Writer) error {
	if h.opts.Tables == nil {
		return nil
	}
	if err := w.Exec(entriesDDL); err != nil {
		return err
	}
	for _, d := range h.opts.Tables {
		if d.List {
			continue
		}
		if err := w.Exec(dimensionDDL(d)); err != nil {
			return fmt.Errorf("table %s: %w", d.Name, err)
		}
	}
	return nil
}
