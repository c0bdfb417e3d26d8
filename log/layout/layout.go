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

// Check tells what is wrong with a message of that version, or how much memory
// kmsg takes to decode it, at most about. One that is not flexible has nothing wrong
// here: what decodes it is bounded by its bytes.
func (m *Message) Check(version int16, body []byte) (memory int, err error) {
	if version < m.flexible {
		return Rigid(body), nil
	}
	_, memory, err = m.walk(version, body)
	return memory, err
}

// Rigid is the memory that kmsg takes for a request without a flexible version.
func Rigid(body []byte) int { return base + rigid*len(body) }

// What things take in memory beside their bytes.
const (
	base    = 1 << 10 // a message
	perItem = 160     // an element that is a structure
	perWord = 40      // one that is not
	perText = 40      // a string
	perTag  = 512     // a tagged field that kmsg keeps: it has a map for each structure
	rigid   = 48      // each byte of a message that is not flexible
)

// CheckValue is Check for a message that begins with its version.
func (m *Message) CheckValue(value []byte) error {
	if len(value) < 2 {
		return fmt.Errorf("%w: %d bytes", ErrLayout, len(value))
	}
	_, err := m.Check(int16(binary.BigEndian.Uint16(value)), value[2:])
	return err
}

// walk returns how many bytes follow the message and what memory it takes.
func (m *Message) walk(version int16, body []byte) (rest, memory int, err error) {
	w := walk{Reader: kbin.Reader{Src: body}, version: version, memory: base + 2*len(body)}
	w.structure(&m.fields)
	if !w.Ok() {
		return 0, 0, fmt.Errorf("%w: a length, a count or an end that the %d bytes do not have", ErrLayout, len(body))
	}
	return len(w.Src), w.memory, nil
}

// SkipTags passes over tagged fields. Too many of them, or one that is larger than
// what is left, invalidate the reader.
func SkipTags(b *kbin.Reader) {
	w := walk{Reader: *b}
	w.tags(nil)
	*b = w.Reader
}

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

// walk goes over a message.
type walk struct {
	kbin.Reader
	version int16
	memory  int
}

func (w *walk) structure(s *structure) {
	for i := range s.fields {
		if f := &s.fields[i]; f.from <= w.version && w.version <= f.to {
			w.field(f)
		}
	}
	w.tags(s.tags)
}

func (w *walk) tags(known []field) {
	n := w.Uvarint()
	if n > MaxTags {
		w.invalidate()
	}
next:
	for ; n > 0 && w.Ok(); n-- {
		tag := w.Uvarint()
		value := w.Span(int(w.Uvarint()))
		for i := range known {
			if f := &known[i]; f.tag == tag && w.Ok() {
				w.tagged(f, value)
				continue next
			}
		}
		w.memory += perTag
	}
}

// tagged goes over the value of a tagged field alone; an error in it stays one of
// the whole.
func (w *walk) tagged(f *field, value []byte) {
	after := w.Src
	w.Src = value
	if w.field(f); w.Ok() {
		w.Src = after
	}
}

func (w *walk) field(f *field) {
	switch f.kind {
	case fixed:
		w.Span(f.size)
	case text:
		w.memory += perText
		w.Span(int(w.Uvarint()) - 1)
	case nullable:
		w.memory += perText
		if n := int(w.Uvarint()) - 1; n > 0 {
			w.Span(n)
		}
	case array:
		n := w.CompactArrayLen()
		if f.of.kind == group {
			w.memory += max(0, int(n)) * perItem
		} else {
			w.memory += max(0, int(n)) * perWord
		}
		for ; n > 0 && w.Ok(); n-- {
			w.field(f.of)
		}
	case group:
		w.structure(&f.inner)
	}
}

// invalidate makes the reader one that has read beyond its end.
func (w *walk) invalidate() { w.Span(-1) }
