package layout

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kbin"
)

// ErrLayout is wrapped by every error about bytes that are not such a message.
var ErrLayout = errors.New("not laid out as its version says")

// MaxTags bounds the tagged fields of one structure.
const MaxTags = 1024

// Message is the layout of one kind of message in all its flexible versions.
type Message struct {
	flexible int16 // the first version with tagged fields
	fields   structure
}

// Flexible is the first version with compact strings and tagged fields.
func (m *Message) Flexible() int16 { return m.flexible }

// Check tells what is wrong with a message of that version. One that is not
// flexible passes: what decodes it is bounded by its bytes.
func (m *Message) Check(version int16, body []byte) error {
	if version < m.flexible {
		return nil
	}
	_, err := m.check(version, body)
	return err
}

// CheckValue is Check for a message that begins with its version.
func (m *Message) CheckValue(value []byte) error {
	if len(value) < 2 {
		return fmt.Errorf("%w: %d bytes", ErrLayout, len(value))
	}
	return m.Check(int16(binary.BigEndian.Uint16(value)), value[2:])
}

// check returns how many bytes follow the message.
func (m *Message) check(version int16, body []byte) (rest int, err error) {
	b := kbin.Reader{Src: body}
	m.fields.pass(&b, version)
	if !b.Ok() {
		return 0, fmt.Errorf("%w: a length, a count or an end that the %d bytes do not have", ErrLayout, len(body))
	}
	return len(b.Src), nil
}

// SkipTags passes over tagged fields. Too many of them, or one that is larger than
// what is left, invalidate the reader.
func SkipTags(b *kbin.Reader) { (&structure{}).passTags(b, 0) }

// structure is fields in a row, followed by tagged fields.
type structure struct {
	fields []field
	tags   []field // those that kmsg decodes
}

// field is a field of a structure, or what an array is of.
type field struct {
	kind     kind
	size     int       // of a fixed one
	of       *field    // elements of an array
	inner    structure // fields of a group
	from, to int16     // the versions that have it
	tag      uint32    // where it is tagged
}

type kind uint8

const (
	fixed    kind = iota
	text          // a length that is not null, and so many bytes
	nullable      // the same, or null; kmsg reads null bytes where there must be some
	array
	group // a structure within another
)

func (s *structure) pass(b *kbin.Reader, version int16) {
	for i := range s.fields {
		if f := &s.fields[i]; f.from <= version && version <= f.to {
			f.pass(b, version)
		}
	}
	s.passTags(b, version)
}

func (s *structure) passTags(b *kbin.Reader, version int16) {
	n := b.Uvarint()
	if n > MaxTags {
		invalidate(b)
	}
	for ; n > 0 && b.Ok(); n-- {
		tag := b.Uvarint()
		value := b.Span(int(b.Uvarint()))
		for i := range s.tags {
			if f := &s.tags[i]; f.tag == tag && b.Ok() {
				// The value alone; an error in it stays one of b.
				after := b.Src
				b.Src = value
				if f.pass(b, version); b.Ok() {
					b.Src = after
				}
			}
		}
	}
}

func (f *field) pass(b *kbin.Reader, version int16) {
	switch f.kind {
	case fixed:
		b.Span(f.size)
	case text:
		b.Span(int(b.Uvarint()) - 1)
	case nullable:
		if n := int(b.Uvarint()) - 1; n > 0 {
			b.Span(n)
		}
	case array:
		for n := b.CompactArrayLen(); n > 0 && b.Ok(); n-- {
			f.of.pass(b, version)
		}
	case group:
		f.inner.pass(b, version)
	}
}

// invalidate makes the reader one that has read beyond its end.
func invalidate(b *kbin.Reader) { b.Span(-1) }
