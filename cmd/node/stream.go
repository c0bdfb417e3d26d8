package node

import (
	"fmt"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// StreamView is a stream and its counters.
type StreamView struct {
	Name            string      `json:"name"`
	Topic           string      `json:"topic"`
	Alias           string      `json:"alias" doc:"Its name in rules."`
	Declared        string      `json:"declared" enum:"weir.yaml,api" doc:"Where it is declared: only the others are changed over HTTP."`
	Version         int         `json:"version" doc:"How often what its records hang on was declared, this time included."`
	Lateness        string      `json:"lateness" doc:"How far the watermark is behind the greatest event time."`
	WatermarkBy     []string    `json:"watermark_by,omitempty" doc:"Fields by which events have watermarks of their own."`
	WatermarkIdle   string      `json:"watermark_idle,omitempty" doc:"How far behind the greatest event time a group of watermark_by is no longer waited for."`
	Idle            string      `json:"idle" doc:"How long a partition without records holds the watermark back; 0s: for ever."`
	Partitions      int         `json:"partitions"`
	Format          string      `json:"format"`
	Key             string      `json:"key"`
	ID              string      `json:"id,omitempty" doc:"The field that identifies an event."`
	Dedupe          string      `json:"dedupe,omitempty" doc:"For how long, in event time, an event with the id of another is left out as its duplicate."`
	Time            string      `json:"time" doc:"The field with the event time."`
	Fields          []FieldView `json:"fields"`
	Columns         []string    `json:"columns,omitempty" doc:"Of a CSV record, in order."`
	Delimiter       string      `json:"delimiter,omitempty" doc:"Of a CSV record."`
	Zone            string      `json:"zone" doc:"Of timestamps that name none."`
	MaxAhead        string      `json:"max_ahead,omitempty" doc:"How far an event's time may be ahead of its record's."`
	Events          int64       `json:"events" doc:"Records in the topic."`
	EventsPerSecond float64     `json:"events_per_second" doc:"Over the last second."`
	Watermark       *time.Time  `json:"watermark" doc:"Event time up to which the stream is complete; null before the first event."`
	PinnedBytes     int64       `json:"pinned_bytes" doc:"Of the topic, what retention would have deleted but windows or checkpoints still need."`
	Lag             int64       `json:"lag" doc:"Records that the engine has still to decide."`
	Late            int64       `json:"late" doc:"Late events since the start."`
	DeadLetters     int64       `json:"dead_letters" doc:"Records that did not decode, since the start."`
	Decisions       int64       `json:"decisions" doc:"Since the start."`
	Alerts          int64       `json:"alerts" doc:"Since the start."`
}

// FieldView is one field of a stream.
type FieldView struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Optional  bool   `json:"optional" required:"false"`
	From      string `json:"from,omitempty"`
	Layout    string `json:"layout,omitempty"`
	Sensitive string `json:"sensitive,omitempty" enum:"drop,mask,hmac,encrypt,none" doc:"What happens to the value before it is written; of a table hmac, mask or none."`
	FreeText  bool   `json:"free_text,omitempty" doc:"Card numbers in it are masked before it is written."`
	Subject   bool   `json:"subject,omitempty" doc:"Names the subject under whose key values are encrypted."`

	Members []FieldView `json:"members,omitempty" doc:"Of a struct its members; of a list or map one, without a name: what it holds."`
}

func streamView(s *schema.Stream) StreamView {
	v := StreamView{
		Name: s.Schema.Stream, Topic: s.Topic, Alias: s.Schema.Alias, Format: string(s.Format),
		Time: s.Schema.Fields[s.Schema.Time].Name, Columns: s.Columns, Zone: time.UTC.String(), Lateness: s.Lateness.String(), Idle: s.Idle.String(),
	}
	if s.Schema.Key >= 0 {
		v.Key = s.Schema.Fields[s.Schema.Key].Name
	}
	if s.Schema.ID >= 0 {
		v.ID = s.Schema.Fields[s.Schema.ID].Name
	}
	for _, i := range s.WatermarkBy {
		v.WatermarkBy, v.WatermarkIdle = append(v.WatermarkBy, s.Schema.Fields[i].Name), s.WatermarkIdle.String()
	}
	if s.Dedupe > 0 {
		v.Dedupe = s.Dedupe.String()
	}
	if s.Delimiter != 0 {
		v.Delimiter = string(rune(s.Delimiter))
	}
	if s.Zone != nil {
		v.Zone = s.Zone.String()
	}
	if s.MaxAhead > 0 {
		v.MaxAhead = s.MaxAhead.String()
	}
	for i, f := range s.Schema.Fields {
		v.Fields = append(v.Fields, fieldView(&f, &s.Fields[i]))
	}
	return v
}

func fieldView(f *event.Field, d *schema.Field) FieldView {
	v := FieldView{Name: f.Name, Type: f.Type.String(), Optional: f.Optional, From: d.From, Layout: d.Layout,
		Sensitive: string(d.Sensitive), FreeText: d.FreeText, Subject: d.Subject}
	for i := range f.Type.Fields {
		m := d.Member(i)
		v.Members = append(v.Members, fieldView(&f.Type.Fields[i], &m))
	}
	return v
}

// field is what the view says beside the type.
func (v *FieldView) field() schema.Field {
	f := schema.Field{From: v.From, Layout: v.Layout, Sensitive: schema.Policy(v.Sensitive), FreeText: v.FreeText, Subject: v.Subject}
	for i := range v.Members {
		f.Members = append(f.Members, v.Members[i].field())
	}
	return f
}

// Stream is the declaration that the view was made of, as far as writing into
// the stream needs it: what a client of a running weir rebuilds.
func (v *StreamView) Stream() (*schema.Stream, error) {
	s := &schema.Stream{
		Schema: &event.Schema{Stream: v.Name, Alias: v.Alias, Key: -1, ID: -1, Time: -1},
		Topic:  v.Topic, Partitions: int32(v.Partitions), Format: schema.Format(v.Format), Columns: v.Columns,
	}
	for i, f := range v.Fields {
		t, err := event.ParseType(f.Type)
		if err != nil {
			return nil, fmt.Errorf("stream %s, field %s: %w", v.Name, f.Name, err)
		}
		s.Schema.Fields = append(s.Schema.Fields, event.Field{Name: f.Name, Type: t, Optional: f.Optional})
		s.Fields = append(s.Fields, f.field())
		if f.Name == v.Key {
			s.Schema.Key = i
		}
		if f.Name == v.Time {
			s.Schema.Time = i
		}
	}
	if s.Schema.Time < 0 {
		return nil, fmt.Errorf("stream %s: its time field %q is not among its fields", v.Name, v.Time)
	}
	if v.Delimiter != "" {
		s.Delimiter = v.Delimiter[0]
	}
	var err error
	if s.Zone, err = time.LoadLocation(v.Zone); err != nil {
		return nil, fmt.Errorf("stream %s: zone: %w", v.Name, err)
	}
	if v.MaxAhead != "" {
		if s.MaxAhead, err = time.ParseDuration(v.MaxAhead); err != nil {
			return nil, fmt.Errorf("stream %s: max_ahead: %w", v.Name, err)
		}
	}
	return s, nil
}
