package history

import (
	"github.com/weirstream/weir/ingest/dedupe"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
)

// ownTables are the tables of the topics that Weir writes. `_topic, _partition,
// _offset` are the place of the event that the record is about, so that decisions
// and alerts join their stream's table by them; of a delivery, that of its alert.
func ownTables() []*table {
	place := []column{{"_topic", "VARCHAR"}, {"_partition", "BIGINT"}, {"_offset", "BIGINT"}}
	tables := []*table{
		{name: "decisions", topic: event.TopicDecisions, columns: append([]column{
			{"time", "TIMESTAMP_NS"}, {"stream", "VARCHAR"}, {"key", "VARCHAR"}, {"action", "VARCHAR"}, {"score", "DOUBLE"}, {"rules", "VARCHAR[]"},
			{"values", "JSON"}, {"role", "VARCHAR"}, {"program", "VARCHAR"}, {"late", "BOOLEAN"},
		}, place...), decoder: ownDecoder(decisionRow)},
		{name: "alerts", topic: event.TopicAlerts, columns: append([]column{
			{"id", "VARCHAR"}, {"time", "TIMESTAMP_NS"}, {"rule", "VARCHAR"}, {"stream", "VARCHAR"}, {"key", "VARCHAR"}, {"severity", "VARCHAR"},
			{"score", "DOUBLE"}, {"action", "VARCHAR"}, {"message", "VARCHAR"}, {"values", "JSON"},
		}, place...), decoder: ownDecoder(alertRow)},
		{name: "deliveries", topic: event.TopicDeliveries, columns: append([]column{
			{"time", "TIMESTAMP_NS"}, {"alert", "VARCHAR"}, {"rule", "VARCHAR"}, {"receiver", "VARCHAR"}, {"attempt", "BIGINT"}, {"outcome", "VARCHAR"},
			{"status", "BIGINT"}, {"error", "VARCHAR"}, {"duration_ms", "DOUBLE"}, {"next_attempt", "TIMESTAMP_NS"},
		}, placeColumns(event.TopicAlerts)...), decoder: ownDecoder(deliveryRow)},
		{name: "deadletters", topic: event.TopicDeadLetters, columns: append([]column{
			{"time", "TIMESTAMP_NS"}, {"stream", "VARCHAR"}, {"reason", "VARCHAR"}, {"field", "VARCHAR"}, {"detail", "VARCHAR"}, {"file", "VARCHAR"},
			{"line", "BIGINT"}, {"column", "BIGINT"}, {"raw", "BLOB"},
		}, place...), decoder: ownDecoder(deadLetterRow)},
	}
	for _, t := range tables {
		t.fingerprint = t.ddl()
	}
	return tables
}

// positionsKey is the key of a record without a value in weir.deliveries that says how
// far the router is: it is no delivery.
const positionsKey = "positions"

// ownDecoder makes a decoder of a function that appends one record's row. What it
// appended of a record that it then refuses is cut off again.
func ownDecoder(row func(r *run, rec *source.Record) bool) func(int32, *dedupe.Seen) (decoder, error) {
	return func(int32, *dedupe.Seen) (decoder, error) {
		return func(r *run, recs []source.Record) (refused int) {
			r.begin()
			for i := range recs {
				if recs[i].Value == nil && string(recs[i].Key) == positionsKey {
					continue
				}
				if !row(r, &recs[i]) {
					r.cut(r.rows)
					refused++
					continue
				}
				r.rows++
			}
			return refused
		}, nil
	}
}

func decisionRow(r *run, rec *source.Record) bool {
	var d event.Decision
	if !parseDecision(rec.Value, &d, &r.scratch) {
		if err := d.UnmarshalJSON(rec.Value); err != nil {
			return false
		}
		r.scratch.values = d.Values.AppendJSON(r.scratch.values[:0])
	}
	r.time(0, d.Time)
	r.text(1, d.Stream)
	r.text(2, d.Key)
	r.text(3, d.Action)
	r.double(4, d.Score)
	r.list(5, d.Rules)
	r.bytes(6, r.scratch.values)
	r.text(7, d.Role)
	r.text(8, d.Program)
	r.bool(9, d.Late)
	r.place(10, d.Topic, d.Partition, d.Offset)
	r.watermark = max(r.watermark, d.Time)
	return true
}

func alertRow(r *run, rec *source.Record) bool {
	var a event.Alert
	if !parseAlert(rec.Value, &a, &r.scratch) {
		if err := a.UnmarshalJSON(rec.Value); err != nil {
			return false
		}
		r.scratch.values = a.Values.AppendJSON(r.scratch.values[:0])
	}
	r.text(0, a.ID)
	r.time(1, a.Time)
	r.text(2, a.Rule)
	r.text(3, a.Stream)
	r.text(4, a.Key)
	r.text(5, a.Severity)
	r.double(6, a.Score)
	r.text(7, a.Action)
	r.text(8, a.Message)
	r.bytes(9, r.scratch.values)
	r.place(10, a.Topic, a.Partition, a.Offset)
	r.watermark = max(r.watermark, a.Time)
	return true
}

func deliveryRow(r *run, rec *source.Record) bool {
	var d event.Delivery
	if err := d.UnmarshalJSON(rec.Value); err != nil {
		return false
	}
	r.time(0, d.Time)
	r.text(1, d.Alert)
	r.text(2, d.Rule)
	r.text(3, d.Receiver)
	r.int(4, int64(d.Attempt))
	r.text(5, d.Outcome)
	r.int(6, int64(d.Status))
	r.text(7, d.Error)
	r.double(8, d.DurationMillis)
	r.time(9, d.NextAttempt)
	r.int(10, int64(d.AlertPartition))
	r.int(11, d.AlertOffset)
	r.watermark = max(r.watermark, d.Time)
	return true
}

func deadLetterRow(r *run, rec *source.Record) bool {
	var d event.DeadLetter
	if err := d.UnmarshalJSON(rec.Value); err != nil {
		return false
	}
	at := event.FromMillis(rec.Timestamp)
	r.time(0, at)
	r.text(1, d.Stream)
	r.text(2, d.Reason)
	r.text(3, d.Field)
	r.text(4, d.Detail)
	if d.File != "" {
		r.text(5, d.File)
		r.int(6, d.Line)
		r.int(7, int64(d.Column))
	} else {
		r.null(5, event.String)
		r.null(6, event.Int64)
		r.null(7, event.Int64)
	}
	r.bytesOf(8, event.Bytes, d.Raw)
	if d.File != "" {
		r.null(9, event.String)
		r.null(10, event.Int64)
		r.null(11, event.Int64)
	} else {
		r.place(9, d.Topic, d.Partition, d.Offset)
	}
	r.watermark = max(r.watermark, at)
	return true
}
