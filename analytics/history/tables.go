package history

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/ingest/deadletter"
	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/dedupe"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
)

// table is a SQL table and how its rows come out of a topic's records.
type table struct {
	name    string
	topic   string
	columns []column
	// fingerprint changes when the table must be refilled.
	fingerprint string
	// decoder makes what decodes one partition; seen is nil where the table's stream
	// does not leave out duplicates.
	decoder func(partition int32, seen *dedupe.Seen) (decoder, error)
	stream  *schema.Stream // nil for Weir's own
}

// column is one column of a table.
type column struct {
	name string
	typ  string // in SQL, with GENERATED ALWAYS where it is not stored
}

// decoder appends the rows of recs to r, which is empty, and returns how many
// records it refused.
type decoder func(r *run, recs []source.Record) (refused int)

func (t *table) ddl() string {
	parts := make([]string, len(t.columns))
	for i, c := range t.columns {
		parts[i] = duck.Quote(c.name) + " " + c.typ
	}
	return "CREATE TABLE main." + duck.Quote(t.name) + "(" + strings.Join(parts, ", ") + ")"
}

// placeColumns are the record's place. A topic's name is the same in every row:
// it is a generated column, which takes no space and no time to append.
func placeColumns(topic string) []column {
	return []column{{"_topic", "VARCHAR GENERATED ALWAYS AS (" + duck.Literal(topic) + ") VIRTUAL"}, {"_partition", "BIGINT"}, {"_offset", "BIGINT"}}
}

func streamTable(s *schema.Stream) (*table, error) {
	t := &table{name: s.Schema.Stream, topic: s.Topic}
	project := make([]int, len(s.Schema.Fields))
	for i, f := range s.Schema.Fields {
		project[i] = i
		t.columns = append(t.columns, column{f.Name, duck.ColumnType(f.Type)})
	}
	t.columns = append(t.columns, placeColumns(s.Topic)...)
	declared := map[string]any{
		"ddl": t.ddl(), "topic": s.Topic, "format": s.Format, "columns": s.Columns, "delimiter": s.Delimiter, "fields": s.Fields, "optional": optional(s.Schema),
		"time": s.Schema.Time, "zone": fmt.Sprint(s.Zone), "lateness": s.Lateness, "max_ahead": s.MaxAhead,
	}
	if s.Dedupe > 0 {
		declared["dedupe"], declared["id"] = s.Dedupe, s.Schema.ID
	}
	print, err := json.Marshal(declared)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", t.name, err)
	}
	t.fingerprint = string(print)
	t.stream = s
	t.decoder = func(partition int32, seen *dedupe.Seen) (decoder, error) {
		d, err := decode.New(s, project, decode.Options{Seen: seen})
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", t.name, err)
		}
		return streamDecoder(s, project, d, event.Origin{Topic: s.Topic, Partition: partition}), nil
	}
	return t, nil
}

func optional(s *event.Schema) []bool {
	out := make([]bool, len(s.Fields))
	for i, f := range s.Fields {
		out[i] = f.Optional
	}
	return out
}

// batchDecoder is what decode.Decoder does.
type batchDecoder interface {
	Decode(dst *event.Batch, origin event.Origin, recs []source.Record, bad func(r *source.Record, f decode.Failure))
}

func streamDecoder(s *schema.Stream, project []int, d batchDecoder, origin event.Origin) decoder {
	refused := 0
	bad := func(*source.Record, decode.Failure) { refused++ }
	return func(r *run, recs []source.Record) int {
		refused = 0
		r.batch.Reset(s.Schema, project)
		d.Decode(&r.batch, origin, withoutCopies(recs, s.Topic), bad)
		n := r.batch.Len()
		r.extra(2)
		for _, off := range r.batch.Offset {
			r.extras[0].AppendInt64(int64(origin.Partition))
			r.extras[1].AppendInt64(off)
		}
		for i := range r.batch.Cols {
			r.add(&r.batch.Cols[i], nil)
		}
		r.add(&r.extras[0], nil)
		r.add(&r.extras[1], nil)
		for _, t := range r.batch.Time {
			r.watermark = max(r.watermark, t)
		}
		if r.watermark != event.MinTime {
			r.watermark = r.watermark.Sub(s.Lateness)
		}
		r.rows = n
		return refused
	}
}

// withoutCopies leaves out replayed copies of records that fit the declaration
// where they stand in the same topic: this table, filled from the log's start under
// that declaration, has them already.
func withoutCopies(recs []source.Record, topic string) []source.Record {
	copied := func(r *source.Record) bool {
		return slices.ContainsFunc(r.Headers, func(h source.Header) bool {
			return h.Key == deadletter.HeaderOriginal && strings.HasPrefix(string(h.Value), topic+"/")
		})
	}
	for i := range recs {
		if !copied(&recs[i]) {
			continue
		}
		kept := slices.Clone(recs[:i])
		for k := range recs[i:] {
			if r := &recs[i+k]; !copied(r) {
				kept = append(kept, *r)
			}
		}
		return kept
	}
	return recs
}

// checkNames refuses names that SQL cannot tell apart: it ignores case.
func checkNames(tables []*table, views []string) error {
	seen := map[string]string{"weir_freshness": "weir_freshness"}
	for _, v := range views {
		seen[strings.ToLower(v)] = v
	}
	for _, t := range tables {
		key := strings.ToLower(t.name)
		if other, ok := seen[key]; ok {
			return fmt.Errorf("stream %s: its SQL table would collide with %s; give the stream another name", t.name, other)
		}
		seen[key] = t.name
		fields := map[string]string{}
		for _, c := range t.columns {
			key := strings.ToLower(c.name)
			if other, ok := fields[key]; ok {
				return fmt.Errorf("stream %s: the field %s would collide with the column %s of its SQL table; give the field another name", t.name, c.name, other)
			}
			fields[key] = c.name
		}
	}
	return nil
}
