package layout

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A layout is written as its fields in a row:
//
//	bool int8 int16 int32 int64 uuid    of fixed size
//	string bytes string? bytes?         compact; those with ? may be null
//	[ ... ]                             an array of structures
//	[]int32                             an array of such fields
//	{ ... }                             a structure
//	3=int32                             tagged field 3
//	int32@13+  string@-12  bool@8-10    with the versions that have it; else all
//
// Every structure ends in tagged fields. Only those that kmsg decodes are written:
// the others are bytes to it.

// message makes a Message of its notation. Notations are constants of this
// package, so a wrong one is a broken invariant.
func message(flexible int16, notation string) *Message {
	p := parser{notation}
	m := &Message{flexible: flexible, fields: p.structure("")}
	if p.rest != "" {
		panic(fmt.Sprintf("layout: %q does not end at %q", notation, p.rest))
	}
	return m
}

// words are the fields of one word.
var words = map[string]field{
	"bool": {kind: fixed, size: 1}, "int8": {kind: fixed, size: 1}, "int16": {kind: fixed, size: 2},
	"int32": {kind: fixed, size: 4}, "int64": {kind: fixed, size: 8}, "uuid": {kind: fixed, size: 16},
	"string": {kind: text}, "string?": {kind: nullable}, "bytes": {kind: nullable}, "bytes?": {kind: nullable},
}

type parser struct{ rest string }

// take cuts off s where the rest begins with it.
func (p *parser) take(s string) (ok bool) {
	p.rest, ok = strings.CutPrefix(p.rest, s)
	return ok
}

// run cuts off the characters of set that the rest begins with.
func (p *parser) run(set string) string {
	n := len(p.rest) - len(strings.TrimLeft(p.rest, set))
	run := p.rest[:n]
	p.rest = p.rest[n:]
	return run
}

const (
	digits  = "0123456789"
	letters = "abcdefghijklmnopqrstuvwxyz?" + digits
)

// structure reads up to end, or to the end of all.
func (p *parser) structure(end string) (s structure) {
	for p.run(" "); p.rest != "" && (end == "" || !p.take(end)); p.run(" ") {
		tagged := false
		tag, after, found := strings.Cut(p.rest, "=")
		n, err := strconv.ParseUint(tag, 10, 32)
		if tagged = found && err == nil; tagged {
			p.rest = after
		}
		f := p.field()
		f.tag = uint32(n)
		if tagged {
			s.tags = append(s.tags, f)
		} else {
			s.fields = append(s.fields, f)
		}
	}
	return s
}

func (p *parser) field() (f field) {
	switch {
	case p.take("[]"):
		of := p.element()
		f = field{kind: array, of: &of}
	case p.take("["):
		f = field{kind: array, of: &field{kind: group, inner: p.structure("]")}}
	case p.take("{"):
		f = field{kind: group, inner: p.structure("}")}
	default:
		f = p.element()
	}
	f.from, f.to = p.versions()
	return f
}

func (p *parser) element() field {
	rest := p.rest
	f, ok := words[p.run(letters)]
	if !ok {
		panic(fmt.Sprintf("layout: no kind of field at %q", rest))
	}
	return f
}

func (p *parser) versions() (from, to int16) {
	if !p.take("@") {
		return 0, math.MaxInt16
	}
	number := func(otherwise int16) int16 {
		n, err := strconv.ParseInt(p.run(digits), 10, 16)
		if err != nil {
			return otherwise
		}
		return int16(n)
	}
	from = number(0)
	if p.take("+") {
		return from, math.MaxInt16
	}
	if !p.take("-") {
		panic(fmt.Sprintf("layout: no versions at %q", p.rest))
	}
	return from, number(math.MaxInt16)
}
