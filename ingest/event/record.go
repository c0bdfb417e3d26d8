package event

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"unicode/utf8"
)

// Topics that Weir itself writes.
const (
	TopicDecisions   = "weir.decisions"
	TopicAlerts      = "weir.alerts"
	TopicDeliveries  = "weir.deliveries"
	TopicDeadLetters = "weir.deadletters"
)

// HeaderOrigin names the record header of a decision, alert or dead letter that
// holds its Identity, so that a scan for duplicates need not parse the value.
const HeaderOrigin = "weir-origin"

// RoleLive is the role of a decision that acts. Other roles are "shadow:ID" and
// "backtest:ID".
const RoleLive = "live"

// Identity is what makes a decision unique.
type Identity struct {
	Topic     string
	Partition int32
	Offset    int64
	Role      string
}

// AppendText appends "topic/partition/offset/role".
func (id Identity) AppendText(dst []byte) []byte {
	dst = append(dst, id.Topic...)
	dst = append(dst, '/')
	dst = strconv.AppendInt(dst, int64(id.Partition), 10)
	dst = append(dst, '/')
	dst = strconv.AppendInt(dst, id.Offset, 10)
	dst = append(dst, '/')
	return append(dst, id.Role...)
}

// Value is one named value that a decision rests on. JSON is its value as JSON
// text: a number, a quoted string, true, false or null. Decimals are quoted, so
// that no reader rounds them.
type Value struct {
	Name string
	JSON string
}

// Values is an ordered list of values, encoded as a JSON object in that order.
type Values []Value

// Decision is the record of one decided event, in weir.decisions.
type Decision struct {
	Time      Time
	Stream    string
	Key       string
	Action    string   // allow | alert | review | decline
	Score     float64  // the highest of the fired rules
	Rules     []string // ids of the fired rules, in program order
	Values    Values
	Role      string
	Program   string // hash of the rule set that decided
	Late      bool
	Topic     string
	Partition int32
	Offset    int64
}

// Identity is the decision's identity.
func (d *Decision) Identity() Identity {
	return Identity{Topic: d.Topic, Partition: d.Partition, Offset: d.Offset, Role: d.Role}
}

// AppendJSON appends the record's value.
func (d *Decision) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"time":`...)
	dst = AppendJSONTime(dst, d.Time)
	dst = appendStringField(dst, "stream", d.Stream)
	dst = appendStringField(dst, "key", d.Key)
	dst = appendStringField(dst, "action", d.Action)
	dst = append(dst, `,"score":`...)
	dst = AppendJSONDouble(dst, d.Score)
	dst = append(dst, `,"rules":[`...)
	for i, r := range d.Rules {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendJSONString(dst, r)
	}
	dst = append(dst, `],"values":`...)
	dst = d.Values.AppendJSON(dst)
	dst = appendStringField(dst, "role", d.Role)
	dst = appendStringField(dst, "program", d.Program)
	dst = append(dst, `,"late":`...)
	dst = appendBool(dst, d.Late)
	return append(appendPlace(dst, d.Topic, d.Partition, d.Offset), '}')
}

// Alert is the record of one fired rule, in weir.alerts.
type Alert struct {
	ID        string // stable: "topic/partition/offset/rule"
	Time      Time   // of the event
	Rule      string
	Stream    string
	Key       string
	Severity  string // low | medium | high | critical
	Score     float64
	Action    string
	Message   string
	Values    Values
	Topic     string
	Partition int32
	Offset    int64
}

// AlertID is the stable id of the alert that rule raises on an event. It is the
// idempotency key of every notification of that alert.
func AlertID(topic string, partition int32, offset int64, rule string) string {
	return topic + "/" + strconv.Itoa(int(partition)) + "/" + strconv.FormatInt(offset, 10) + "/" + rule
}

// AppendJSON appends the record's value.
func (a *Alert) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"id":`...)
	dst = AppendJSONString(dst, a.ID)
	dst = append(dst, `,"time":`...)
	dst = AppendJSONTime(dst, a.Time)
	dst = appendStringField(dst, "rule", a.Rule)
	dst = appendStringField(dst, "stream", a.Stream)
	dst = appendStringField(dst, "key", a.Key)
	dst = appendStringField(dst, "severity", a.Severity)
	dst = append(dst, `,"score":`...)
	dst = AppendJSONDouble(dst, a.Score)
	dst = appendStringField(dst, "action", a.Action)
	dst = appendStringField(dst, "message", a.Message)
	dst = append(dst, `,"values":`...)
	dst = a.Values.AppendJSON(dst)
	return append(appendPlace(dst, a.Topic, a.Partition, a.Offset), '}')
}

// Delivery is the record of one attempt to notify a receiver, in
// weir.deliveries.
type Delivery struct {
	Time           Time   // of the attempt, by the router's clock
	Alert          string // the alert's id, which is the idempotency key
	Rule           string
	Receiver       string
	Attempt        int    // from 1
	Outcome        string // delivered | retry | failed
	Status         int    // of the HTTP answer, 0 where there was none
	Error          string
	DurationMillis float64
	NextAttempt    Time  // MinTime unless Outcome is retry
	AlertPartition int32 // the alert's place in weir.alerts
	AlertOffset    int64
}

// AppendJSON appends the record's value.
func (d *Delivery) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"time":`...)
	dst = AppendJSONTime(dst, d.Time)
	dst = appendStringField(dst, "alert", d.Alert)
	dst = appendStringField(dst, "rule", d.Rule)
	dst = appendStringField(dst, "receiver", d.Receiver)
	dst = append(dst, `,"attempt":`...)
	dst = appendInt(dst, int64(d.Attempt))
	dst = appendStringField(dst, "outcome", d.Outcome)
	dst = append(dst, `,"status":`...)
	dst = appendInt(dst, int64(d.Status))
	dst = appendStringField(dst, "error", d.Error)
	dst = append(dst, `,"duration_ms":`...)
	dst = AppendJSONDouble(dst, d.DurationMillis)
	dst = append(dst, `,"next_attempt":`...)
	dst = AppendJSONTime(dst, d.NextAttempt)
	return append(appendPlace(dst, TopicAlerts, d.AlertPartition, d.AlertOffset), '}')
}

// DeadLetter is the record of one event that could not be taken, in
// weir.deadletters. Exactly one of the two places is set: Topic, Partition and
// Offset for a record already in the log; File and Line for a line of a file.
type DeadLetter struct {
	Stream    string
	Reason    string // a stable word for metrics: syntax, type, missing, time, size, encoding
	Field     string // the field at fault, or empty
	Detail    string // for people: what was found, what was expected
	Topic     string
	Partition int32
	Offset    int64
	File      string
	Line      int64 // from 1, the header included
	Column    int   // from 1, in bytes; 0 where it does not apply
	Raw       []byte
}

// AppendJSON appends the record's value; Raw is base64.
func (d *DeadLetter) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"stream":`...)
	dst = AppendJSONString(dst, d.Stream)
	dst = appendStringField(dst, "reason", d.Reason)
	dst = appendStringField(dst, "field", d.Field)
	dst = appendStringField(dst, "detail", d.Detail)
	if d.File != "" {
		dst = appendStringField(dst, "file", d.File)
		dst = append(dst, `,"line":`...)
		dst = appendInt(dst, d.Line)
		dst = append(dst, `,"column":`...)
		dst = appendInt(dst, int64(d.Column))
	} else {
		dst = appendPlace(dst, d.Topic, d.Partition, d.Offset)
	}
	dst = append(dst, `,"raw":`...)
	raw, err := json.Marshal(d.Raw)
	if err != nil { // a []byte always marshals
		panic(err)
	}
	dst = append(dst, raw...)
	return append(dst, '}')
}

// UnmarshalJSON reads what AppendJSON wrote.
func (d *Decision) UnmarshalJSON(text []byte) error {
	var j struct {
		jsonPlace
		Stream, Key, Action, Role, Program string
		Time                               jsonTime
		Score                              float64
		Rules                              []string
		Values                             Values
		Late                               bool
	}
	if err := json.Unmarshal(text, &j); err != nil {
		return fmt.Errorf("decision record: %w", err)
	}
	*d = Decision{Time: Time(j.Time), Stream: j.Stream, Key: j.Key, Action: j.Action, Score: j.Score, Rules: j.Rules,
		Values: j.Values, Role: j.Role, Program: j.Program, Late: j.Late, Topic: j.Topic, Partition: j.Partition, Offset: j.Offset}
	return nil
}

// UnmarshalJSON reads what AppendJSON wrote.
func (a *Alert) UnmarshalJSON(text []byte) error {
	var j struct {
		jsonPlace
		ID, Rule, Stream, Key, Severity, Action, Message string
		Time                                             jsonTime
		Score                                            float64
		Values                                           Values
	}
	if err := json.Unmarshal(text, &j); err != nil {
		return fmt.Errorf("alert record: %w", err)
	}
	*a = Alert{ID: j.ID, Time: Time(j.Time), Rule: j.Rule, Stream: j.Stream, Key: j.Key, Severity: j.Severity, Score: j.Score,
		Action: j.Action, Message: j.Message, Values: j.Values, Topic: j.Topic, Partition: j.Partition, Offset: j.Offset}
	return nil
}

// UnmarshalJSON reads what AppendJSON wrote.
func (d *Delivery) UnmarshalJSON(text []byte) error {
	var j struct {
		jsonPlace
		Alert, Rule, Receiver, Outcome, Error string
		Time                                  jsonTime
		NextAttempt                           jsonTime `json:"next_attempt"`
		Attempt, Status                       int
		DurationMillis                        float64 `json:"duration_ms"`
	}
	if err := json.Unmarshal(text, &j); err != nil {
		return fmt.Errorf("delivery record: %w", err)
	}
	*d = Delivery{Time: Time(j.Time), Alert: j.Alert, Rule: j.Rule, Receiver: j.Receiver, Attempt: j.Attempt, Outcome: j.Outcome,
		Status: j.Status, Error: j.Error, DurationMillis: j.DurationMillis, NextAttempt: Time(j.NextAttempt),
		AlertPartition: j.Partition, AlertOffset: j.Offset}
	return nil
}

// UnmarshalJSON reads what AppendJSON wrote.
func (d *DeadLetter) UnmarshalJSON(text []byte) error {
	var j struct {
		jsonPlace
		Stream, Reason, Field, Detail, File string
		Line                                int64
		Column                              int
		Raw                                 []byte
	}
	if err := json.Unmarshal(text, &j); err != nil {
		return fmt.Errorf("dead letter record: %w", err)
	}
	*d = DeadLetter{Stream: j.Stream, Reason: j.Reason, Field: j.Field, Detail: j.Detail, File: j.File, Line: j.Line,
		Column: j.Column, Raw: j.Raw, Topic: j.Topic, Partition: j.Partition, Offset: j.Offset}
	return nil
}

// MarshalJSON is AppendJSON, for encoders that nest the record.
func (d Decision) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

// MarshalJSON is AppendJSON, for encoders that nest the record.
func (a Alert) MarshalJSON() ([]byte, error) { return a.AppendJSON(nil), nil }

// MarshalJSON is AppendJSON, for encoders that nest the record.
func (d Delivery) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

// MarshalJSON is AppendJSON, for encoders that nest the record.
func (d DeadLetter) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

type jsonPlace struct {
	Topic     string
	Partition int32
	Offset    int64
}

// jsonTime reads an RFC 3339 time; null is MinTime.
type jsonTime Time

func (t *jsonTime) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*t = jsonTime(MinTime)
		return nil
	}
	parsed, err := parseRFC3339(text)
	if err != nil {
		return err
	}
	*t = jsonTime(parsed)
	return nil
}

func appendPlace(dst []byte, topic string, partition int32, offset int64) []byte {
	dst = appendStringField(dst, "topic", topic)
	dst = append(dst, `,"partition":`...)
	dst = appendInt(dst, int64(partition))
	dst = append(dst, `,"offset":`...)
	return appendInt(dst, offset)
}

func appendStringField(dst []byte, name, value string) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return AppendJSONString(dst, value)
}

// AppendJSON appends the values as one JSON object, in order.
func (v Values) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	for i := range v {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendJSONString(dst, v[i].Name)
		dst = append(dst, ':')
		dst = append(dst, v[i].JSON...)
	}
	return append(dst, '}')
}

// UnmarshalJSON reads a flat JSON object, keeping the order of its members.
func (v *Values) UnmarshalJSON(text []byte) error {
	members, err := objectMembers(text)
	*v = members
	return err
}

// AppendJSONTime appends t as a quoted RFC 3339 string; MinTime is null.
func AppendJSONTime(dst []byte, t Time) []byte {
	if t == MinTime {
		return append(dst, "null"...)
	}
	dst = append(dst, '"')
	dst = t.AppendText(dst)
	return append(dst, '"')
}

// AppendJSONDouble appends f in the shortest form that reads back as f. JSON has
// no NaN and no infinities: they are null.
func AppendJSONDouble(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	return appendDouble(dst, f)
}

const hexDigits = "0123456789abcdef"

// AppendJSONString appends s quoted and escaped; bytes that are not UTF-8 become
// U+FFFD.
func AppendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\r':
				dst = append(dst, '\\', 'r')
			case '\t':
				dst = append(dst, '\\', 't')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			dst = append(dst, s[start:i]...)
			dst = append(dst, "\ufffd"...)
			i++
			start = i
			continue
		}
		i += size
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
