package table

import (
	"encoding/json"
	"fmt"

	"github.com/weirstream/weir/ingest/event"
)

// Record is a change as it stands in TopicTables, for readers who keep changes and
// not tables.
type Record struct {
	Op      Op
	Table   string
	Key     string // a JSON array, of a put and a remove; equal keys have equal text
	Row     string // a JSON object: the columns of a put, the definition of a declare
	Expires event.Time
	Since   event.Time
	Author  string
	Reason  string
	More    bool // the next record is of the same group
}

// ParseRecord reads a record's value.
func ParseRecord(value []byte) (Record, error) {
	var w struct {
		Op         Op              `json:"op"`
		Table      string          `json:"table"`
		Key        json.RawMessage `json:"key"`
		Row        json.RawMessage `json:"row"`
		Definition json.RawMessage `json:"definition"`
		Expires    string          `json:"expires"`
		Since      string          `json:"since"`
		Author     string          `json:"author"`
		Reason     string          `json:"reason"`
		More       bool            `json:"more"`
	}
	if err := json.Unmarshal(value, &w); err != nil {
		return Record{}, err
	}
	r := Record{Op: w.Op, Table: w.Table, Key: string(w.Key), Row: string(w.Row), Expires: event.MaxTime, Since: event.MinTime, Author: w.Author, Reason: w.Reason, More: w.More}
	if w.Op == OpDeclare {
		r.Row = string(w.Definition)
	}
	for _, t := range []struct {
		name, text string
		to         *event.Time
	}{{"expires", w.Expires, &r.Expires}, {"since", w.Since, &r.Since}} {
		if t.text == "" {
			continue
		}
		at, err := parseTime(t.text)
		if err != nil {
			return r, fmt.Errorf("%s: %w", t.name, err)
		}
		*t.to = at
	}
	return r, nil
}
