package config

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// String is the configuration as indented JSON by the keys of weir.yaml, secrets
// masked.
func (c Config) String() string {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil { // plain structs and strings
		panic(err)
	}
	return string(text)
}

type object = map[string]any

// MarshalJSON writes the configuration by the keys of weir.yaml, secrets masked.
func (c Config) MarshalJSON() ([]byte, error) {
	streams, receivers := object{}, []Receiver{}
	for _, s := range c.Streams {
		streams[s.Schema.Stream] = streamView(s)
	}
	view := object{
		"data_dir": c.DataDir, "kafka_addr": c.KafkaAddr, "http_addr": c.HTTPAddr, "sql_addr": c.SQLAddr, "rules": c.RulesDir,
		"log":     c.Log.view(),
		"kafka":   c.Kafka.view(),
		"engine":  object{"checkpoint_every": formatDuration(c.Engine.CheckpointEvery), "keep_programs": formatDuration(c.Engine.KeepPrograms)},
		"sql":     object{"memory_max": formatSize(c.SQL.MemoryMax), "query_timeout": formatDuration(c.SQL.QueryTimeout)},
		"streams": streams, "receivers": append(receivers, c.Receivers...),
	}
	for name, list := range map[string]bool{"tables": false, "lists": true} {
		if all := tablesView(c.Tables, list); len(all) > 0 {
			view[name] = all
		}
	}
	if len(c.Protect.Keys) > 0 {
		view["protect"] = protectView(c.Protect)
	}
	return json.Marshal(view)
}

func protectView(p Protect) object {
	keys := []object{}
	for _, k := range p.Keys {
		keys = append(keys, object{"id": k.ID, "secret": k.Secret})
	}
	return object{"keys": keys}
}

func fieldView(f *event.Field, d *schema.Field) object {
	one := object{"type": f.Type.String(), "optional": f.Optional}
	if d.From != "" {
		one["from"] = d.From
	}
	if d.Layout != "" {
		one["layout"] = d.Layout
	}
	if d.Sensitive != "" {
		one["sensitive"] = d.Sensitive
	}
	if d.FreeText {
		one["free_text"] = true
	}
	if d.Subject {
		one["subject"] = true
	}
	// Only what the text of the type does not say.
	if d.Any(func(m *schema.Field) bool {
		return m != d && (m.From != "" || m.Sensitive != "" || m.FreeText || m.Layout != "" && m.Layout != "rfc3339")
	}) {
		members := object{}
		for i := range f.Type.Fields {
			m := d.Member(i)
			members[cmp.Or(f.Type.Fields[i].Name, "of")] = fieldView(&f.Type.Fields[i], &m)
		}
		one["members"] = members
	}
	return one
}

func streamView(s *schema.Stream) object {
	fields := object{}
	for i, f := range s.Schema.Fields {
		fields[f.Name] = fieldView(&f, &s.Fields[i])
	}
	view := object{"topic": s.Topic, "partitions": s.Partitions, "format": s.Format, "as": s.Schema.Alias, "zone": s.Zone.String(),
		"lateness": formatDuration(s.Lateness), "idle": formatDuration(s.Idle), "max_ahead": formatDuration(s.MaxAhead), "windows_on_disk": formatDuration(max(0, s.DiskFrom)), "decisions": "fired", "fields": fields}
	if s.Compatibility != schema.CompatBackward {
		view["compatibility"] = s.Compatibility
	}
	if len(s.WatermarkBy) > 0 {
		names := []string{}
		for _, i := range s.WatermarkBy {
			names = append(names, s.Schema.Fields[i].Name)
		}
		view["watermark_by"], view["watermark_idle"] = names, formatDuration(s.WatermarkIdle)
	}
	if s.Dedupe > 0 {
		view["dedupe"] = formatDuration(s.Dedupe)
	}
	if s.AllDecisions {
		view["decisions"] = "all"
	}
	if s.Format == schema.CSV {
		view["csv"] = object{"columns": s.Columns, "delimiter": string(rune(s.Delimiter))}
	}
	for name, i := range map[string]int{"time": s.Schema.Time, "key": s.Schema.Key, "id": s.Schema.ID} {
		if i >= 0 {
			view[name] = s.Schema.Fields[i].Name
		}
	}
	return view
}

// MarshalJSON writes the receiver by the keys of weir.yaml, secrets masked.
func (r Receiver) MarshalJSON() ([]byte, error) {
	match := object{}
	if len(r.Match.Rules) > 0 {
		match["rule"] = r.Match.Rules
	}
	if len(r.Match.Streams) > 0 {
		match["stream"] = r.Match.Streams
	}
	if r.Match.SeverityMin != "" {
		match["severity_min"] = r.Match.SeverityMin
	}
	view := object{"name": r.Name, "match": match, "retry_for": formatDuration(r.RetryFor), "max_in_flight": r.MaxInFlight}
	if r.Webhook != nil {
		view["webhook"] = r.Webhook
	}
	return json.Marshal(view)
}

// MarshalJSON writes the webhook by the keys of weir.yaml, secrets masked.
func (h Webhook) MarshalJSON() ([]byte, error) {
	view := object{"url": maskURL(h.URL), "timeout": formatDuration(h.Timeout), "allow_cidrs": h.AllowCIDRs}
	if len(h.Secrets) > 0 {
		view["secret"] = mask
	}
	return json.Marshal(view)
}

// String shows where the webhook is, without what may be a token.
func (h Webhook) String() string { return "webhook " + maskURL(h.URL) }

// Format is String whatever the verb: %+v and %#v must not show the fields.
func (h Webhook) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(h.String())) }
