package history

import (
	"bytes"
	"strconv"
	"time"
	"unsafe"

	"github.com/weirstream/weir/ingest/event"
)

// scratch is what a record's parser reuses.
type scratch struct {
	rules  []string
	values []byte // the JSON object of the record's values
}

// parseDecision reads exactly what event.Decision.AppendJSON writes where no
// string needs an escape. Anything else is false, and UnmarshalJSON, 30 times
// slower, takes it. The strings of d alias text; its values are left in s.
func parseDecision(text []byte, d *event.Decision, s *scratch) bool {
	p := parser{rest: text}
	d.Time = p.time(`{"time":`)
	d.Stream = p.str(`,"stream":`)
	d.Key = p.str(`,"key":`)
	d.Action = p.str(`,"action":`)
	d.Score = p.double(`,"score":`)
	p.lit(`,"rules":[`)
	s.rules = s.rules[:0]
	for !p.bad && len(p.rest) > 0 && p.rest[0] != ']' {
		if len(s.rules) > 0 {
			p.lit(`,`)
		}
		s.rules = append(s.rules, p.str(``))
	}
	d.Rules = s.rules
	s.values = append(s.values[:0], p.object(`],"values":`)...)
	d.Role = p.str(`,"role":`)
	d.Program = p.str(`,"program":`)
	d.Late = p.bool(`,"late":`)
	d.Topic, d.Partition, d.Offset = p.place()
	return p.end()
}

// parseAlert is parseDecision for event.Alert.
func parseAlert(text []byte, a *event.Alert, s *scratch) bool {
	p := parser{rest: text}
	a.ID = p.str(`{"id":`)
	a.Time = p.time(`,"time":`)
	a.Rule = p.str(`,"rule":`)
	a.Stream = p.str(`,"stream":`)
	a.Key = p.str(`,"key":`)
	a.Severity = p.str(`,"severity":`)
	a.Score = p.double(`,"score":`)
	a.Action = p.str(`,"action":`)
	a.Message = p.str(`,"message":`)
	s.values = append(s.values[:0], p.object(`,"values":`)...)
	a.Topic, a.Partition, a.Offset = p.place()
	return p.end()
}

// parser reads JSON of a known order of members. After the first mismatch bad is
// set and everything it reads is zero.
type parser struct {
	rest []byte
	bad  bool
}

func (p *parser) lit(s string) {
	if p.bad || len(p.rest) < len(s) || string(p.rest[:len(s)]) != s {
		p.bad = true
		return
	}
	p.rest = p.rest[len(s):]
}

// str reads a string without escapes. It aliases the text.
func (p *parser) str(prefix string) string {
	p.lit(prefix)
	if p.bad || len(p.rest) == 0 || p.rest[0] != '"' {
		p.bad = true
		return ""
	}
	end := bytes.IndexByte(p.rest[1:], '"')
	if end < 0 {
		p.bad = true
		return ""
	}
	body := p.rest[1 : 1+end]
	for _, c := range body {
		// Control characters and bytes that may not be UTF-8 go the slow way.
		if c == '\\' || c < 0x20 || c >= 0x80 {
			p.bad = true
			return ""
		}
	}
	p.rest = p.rest[end+2:]
	return unsafe.String(unsafe.SliceData(body), len(body))
}

func (p *parser) time(prefix string) event.Time {
	if p.peek(prefix, 'n') {
		p.lit(prefix)
		p.lit("null")
		return event.MinTime
	}
	s := p.str(prefix)
	if p.bad {
		return 0
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || !event.InRange(t) {
		p.bad = true
		return 0
	}
	return event.FromTime(t)
}

func (p *parser) peek(prefix string, c byte) bool {
	return !p.bad && len(p.rest) > len(prefix) && p.rest[len(prefix)] == c
}

// number is the text of a JSON number.
func (p *parser) number(prefix string) string {
	p.lit(prefix)
	n := 0
	for n < len(p.rest) && (p.rest[n]-'0' < 10 || p.rest[n] == '-' || p.rest[n] == '+' || p.rest[n] == '.' || p.rest[n]|0x20 == 'e') {
		n++
	}
	if p.bad || n == 0 {
		p.bad = true
		return "0"
	}
	// JSON has no leading zeros and no leading or trailing point.
	s := unsafe.String(unsafe.SliceData(p.rest), n)
	digits := s
	if digits[0] == '-' {
		digits = digits[1:]
	}
	if len(digits) == 0 || digits[0]-'0' > 9 || digits[0] == '0' && len(digits) > 1 && digits[1]-'0' < 10 || digits[len(digits)-1]-'0' > 9 {
		p.bad = true
		return "0"
	}
	for i := 1; i < len(digits)-1; i++ {
		if digits[i] == '.' && (digits[i-1]-'0' > 9 || digits[i+1]-'0' > 9) {
			p.bad = true
			return "0"
		}
	}
	p.rest = p.rest[n:]
	return s
}

func (p *parser) double(prefix string) float64 {
	v, err := strconv.ParseFloat(p.number(prefix), 64)
	p.bad = p.bad || err != nil
	return v
}

func (p *parser) int(prefix string, bits int) int64 {
	v, err := strconv.ParseInt(p.number(prefix), 10, bits)
	p.bad = p.bad || err != nil
	return v
}

func (p *parser) bool(prefix string) bool {
	if p.peek(prefix, 't') {
		p.lit(prefix)
		p.lit("true")
		return !p.bad
	}
	p.lit(prefix)
	p.lit("false")
	return false
}

// object is the text of a flat JSON object whose names and strings need no
// escapes; the members are not repeated and not nested.
func (p *parser) object(prefix string) []byte {
	p.lit(prefix)
	start := p.rest
	p.lit("{")
	for first := true; !p.bad && len(p.rest) > 0 && p.rest[0] != '}'; first = false {
		if !first {
			p.lit(",")
		}
		p.str("")
		p.lit(":")
		p.value()
	}
	p.lit("}")
	if p.bad {
		return nil
	}
	return start[:len(start)-len(p.rest)]
}

func (p *parser) value() {
	if p.bad || len(p.rest) == 0 {
		p.bad = true
		return
	}
	switch p.rest[0] {
	case '"':
		p.str("")
	case 't':
		p.lit("true")
	case 'f':
		p.lit("false")
	case 'n':
		p.lit("null")
	default:
		p.number("")
	}
}

func (p *parser) place() (topic string, partition int32, offset int64) {
	topic = p.str(`,"topic":`)
	partition = int32(p.int(`,"partition":`, 32))
	offset = p.int(`,"offset":`, 64)
	return topic, partition, offset
}

func (p *parser) end() bool {
	p.lit("}")
	return !p.bad && len(p.rest) == 0
}
