package infer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/weirstream/weir/ingest/event"
)

// shape is what the values in lists have in common, and what is in them.
type shape struct {
	values                       *column // of the plain values
	nulls, plain, lists, objects int64
	elem                         *shape
	members                      map[string]*shape
	names                        []string // of members, in the order of their coming
	manyNames                    bool     // more than a struct has
	room                         *int     // how many more shapes the field may have
}

// shapesMax bounds the shapes of one field.
const shapesMax = 4096

// inner is a shape within s, nil where there is no more room.
func (s *shape) inner() *shape {
	if s.room == nil {
		n := shapesMax
		s.room = &n
	}
	if *s.room == 0 {
		return nil
	}
	*s.room--
	return &shape{room: s.room}
}

// add takes one value.
func (s *shape) add(v any, depth int) {
	if depth > event.MaxNesting {
		s.lists, s.plain = s.lists+1, s.plain+1 // of no type
		return
	}
	scalar := func(text []byte, k kind) {
		if s.plain++; s.values == nil {
			s.values = newColumn("element")
			s.values.tooMany, s.values.unique, s.values.seen = true, false, nil // nobody asks for different ones
		}
		s.values.add(text, k)
	}
	switch v := v.(type) {
	case nil:
		s.nulls++
	case string:
		scalar([]byte(v), jsonText)
	case json.Number:
		scalar([]byte(v), jsonNumber)
	case bool:
		scalar(fmt.Appendf(nil, "%t", v), jsonTruth)
	case []any:
		s.lists++
		s.addElements(v, depth)
	case map[string]any:
		s.objects++
		s.addMembers(v, depth)
	}
}

func (s *shape) addElements(list []any, depth int) {
	if s.elem == nil {
		if s.elem = s.inner(); s.elem == nil {
			s.plain++ // of no type
			return
		}
	}
	for _, el := range list {
		s.elem.add(el, depth+1)
	}
}

func (s *shape) addMembers(object map[string]any, depth int) {
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names) // for the same type each time
	for _, name := range names {
		m := s.members[name]
		if m == nil {
			if s.manyNames = len(s.members) == event.MaxMembers; s.manyNames {
				return
			}
			if m = s.inner(); m == nil {
				s.manyNames = true
				return
			}
			if s.members == nil {
				s.members = map[string]*shape{}
			}
			s.members[name], s.names = m, append(s.names, name)
		}
		m.add(object[name], depth+1)
	}
}

// there is how many values are no null.
func (s *shape) there() int64 { return s.plain + s.lists + s.objects }

// mapNames is how many names, each in few of the objects, make a map and no struct.
const mapNames = 20

// typ is the type that all values have, not ok where there is none.
func (s *shape) typ() (t event.Type, ok bool) {
	switch n := s.there(); {
	case n == 0:
		return event.Type{Kind: event.String}, true // nothing is known of it
	case s.lists == n:
		return s.listType()
	case s.objects == n:
		return s.objectType()
	case s.plain == n:
		c := *s.values
		f := field{column: &c, name: "element"}
		if f.classify(); f.typ.Kind == event.Timestamp && f.layout != "rfc3339" {
			c.layouts = nil // a type written as one text has no layout
			f.classify()
		}
		return f.typ, c.text || c.number || c.truth
	}
	return event.Type{}, false
}

func (s *shape) listType() (event.Type, bool) {
	el, ok := s.elem.typ()
	return event.Type{Kind: event.List, Fields: []event.Field{{Type: el, Optional: s.elem.nulls > 0}}}, ok
}

func (s *shape) objectType() (event.Type, bool) {
	if s.isMap() {
		all := &shape{}
		for _, m := range s.members {
			if m.plain != m.there() {
				return event.Type{}, false
			}
		}
		t := event.Type{}
		for i, name := range s.names { // they must have one type
			m := s.members[name]
			all.nulls += m.nulls
			mt, ok := m.typ()
			if !ok || i > 0 && !mt.Equal(t) {
				return event.Type{}, false
			}
			t = mt
		}
		return event.Type{Kind: event.Map, Fields: []event.Field{{Type: t, Optional: all.nulls > 0}}}, true
	}
	t := event.Type{Kind: event.Struct}
	for _, name := range s.names {
		m := s.members[name]
		mt, ok := m.typ()
		if !ok || !goodField.MatchString(name) || slices.Contains(reserved, name) || slices.ContainsFunc(t.Fields, func(f event.Field) bool { return strings.EqualFold(f.Name, name) }) {
			continue // members that are not declared are ignored
		}
		t.Fields = append(t.Fields, event.Field{Name: name, Type: mt, Optional: m.there() < s.objects})
	}
	return t, len(t.Fields) > 0 && !s.manyNames
}

// isMap: many names, of which each object has few.
func (s *shape) isMap() bool {
	if len(s.names) < mapNames {
		return false
	}
	there := int64(0)
	for _, m := range s.members {
		there += m.there() + m.nulls
	}
	return there*4 < s.objects*int64(len(s.names))
}

// explain says what the type of a list or map rests on.
func (s *shape) explain() string {
	if s.lists == 0 {
		return fmt.Sprintf("%s names, each in few of the objects: taken for keys of a map", number(int64(len(s.names))))
	}
	n := s.elem.there() + s.elem.nulls
	text := number(n) + " elements"
	if n == 1 {
		text = "1 element"
	}
	if n == 0 {
		return "empty in every row: nothing is known of its elements"
	}
	if s.elem.nulls > 0 {
		text += fmt.Sprintf(", of which %s are null", number(s.elem.nulls))
	}
	if s.elem.objects > 0 && s.elem.isMap() {
		text += fmt.Sprintf("; %s names, each in few of them: taken for keys of a map", number(int64(len(s.elem.names))))
	}
	return text
}
