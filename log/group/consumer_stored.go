package group

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"

	"github.com/weirstream/weir/log/layout"
)

// The records of a group of the consumer protocol, as Kafka 4 has them (see
// ConsumerGroup*Key and *Value in its coordinator's messages): keys are of fixed
// form, values flexible and of version 0.

func consumerKey(kind int16, group string, member ...string) []byte {
	b := kbin.AppendInt16(nil, kind)
	b = kbin.AppendString(b, group)
	for _, m := range member {
		b = kbin.AppendString(b, m)
	}
	return b
}

// value0 begins a value of version 0, and tags ends a flexible structure.
func value0() []byte            { return kbin.AppendInt16(nil, 0) }
func tags(b []byte) []byte      { return append(b, 0) }
func epochValue(e int32) []byte { return tags(kbin.AppendInt32(value0(), e)) }

func appendSlots(b []byte, s Slots) []byte {
	by := map[[16]byte][]int32{}
	for x := range s {
		by[x.Topic] = append(by[x.Topic], x.Partition)
	}
	ids := slices.SortedFunc(maps.Keys(by), func(a, b [16]byte) int { return slices.Compare(a[:], b[:]) })
	b = kbin.AppendCompactArrayLen(b, len(ids))
	for _, id := range ids {
		slices.Sort(by[id])
		b = kbin.AppendUuid(b, id)
		b = kbin.AppendCompactArrayLen(b, len(by[id]))
		for _, p := range by[id] {
			b = kbin.AppendInt32(b, p)
		}
		b = tags(b)
	}
	return b
}

func (m *consumerMember) metadata() []byte {
	b := value0()
	b = kbin.AppendCompactNullableString(b, m.instance)
	b = kbin.AppendCompactNullableString(b, m.rack)
	b = kbin.AppendCompactString(b, m.clientID)
	b = kbin.AppendCompactString(b, m.clientHost)
	b = kbin.AppendCompactArrayLen(b, len(m.topics))
	for _, t := range m.topics {
		b = kbin.AppendCompactString(b, t)
	}
	b = kbin.AppendCompactNullableString(b, orNil(m.regex))
	b = kbin.AppendInt32(b, int32(m.rebalance.Milliseconds()))
	b = kbin.AppendCompactNullableString(b, orNil(m.assignor))
	if !m.usesClassic() {
		return tags(b)
	}
	classic := m.classic.stored()
	b = kbin.AppendUvarint(b, 1) // tagged field
	b = kbin.AppendUvarint(b, tagClassic)
	b = kbin.AppendUvarint(b, uint32(len(classic)))
	return append(b, classic...)
}

// tagClassic is the tag of what is said of a member of the classic protocol.
const tagClassic = 0

func (m *classicMember) stored() []byte {
	b := []byte{1} // not null
	b = kbin.AppendInt32(b, int32(m.session.Milliseconds()))
	b = kbin.AppendCompactArrayLen(b, len(m.protocols))
	for _, p := range m.protocols {
		b = kbin.AppendCompactString(b, p.Name)
		b = kbin.AppendCompactBytes(b, p.Metadata)
		b = tags(b)
	}
	return tags(b)
}

// readClassic reads a value's tagged fields, where it says that the member speaks the
// classic protocol; nil where it does not.
func readClassic(v *kbin.Reader) (m *classicMember) {
	rest := *v
	if layout.SkipTags(v); !v.Ok() {
		return nil
	}
	for n := rest.Uvarint(); n > 0 && rest.Ok(); n-- {
		tag := rest.Uvarint()
		in := kbin.Reader{Src: rest.Span(int(rest.Uvarint()))}
		if tag != tagClassic || in.Int8() < 0 {
			continue
		}
		m = &classicMember{session: time.Duration(in.Int32()) * time.Millisecond}
		for n := in.CompactArrayLen(); n > 0 && in.Ok(); n-- {
			m.protocols = append(m.protocols, Protocol{in.CompactString(), bytes.Clone(in.CompactBytes())})
			layout.SkipTags(&in)
		}
		if layout.SkipTags(&in); in.Complete() != nil || len(m.protocols) == 0 {
			v.Span(-1) // invalid
			return nil
		}
	}
	return m
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (m *consumerMember) current() []byte {
	b := value0()
	b = kbin.AppendInt32(b, m.epoch)
	b = kbin.AppendInt32(b, m.previous)
	b = kbin.AppendInt8(b, int8(m.state))
	b = appendSlots(b, m.assigned)
	b = appendSlots(b, m.revoking)
	return tags(b)
}

// Changes are the records of all that has changed since the last call.
func (g *Consumer) Changes(group string) []Record {
	var list []Record
	for _, id := range g.gone {
		if g.members[id] == nil {
			list = append(list, forgottenMember(group, id)...)
		}
	}
	g.gone = nil
	for _, m := range g.inOrder() {
		if m.changed {
			list = append(list, Record{consumerKey(keyMember, group, m.id), m.metadata()})
		}
	}
	if g.changed {
		list = append(list, Record{consumerKey(keyEpoch, group), epochValue(g.epoch)})
	}
	for _, m := range g.inOrder() {
		if m.changedTarget {
			list = append(list, Record{consumerKey(keyTargetMember, group, m.id), tags(appendSlots(value0(), m.target))})
		}
	}
	if g.changedTarget {
		list = append(list, Record{consumerKey(keyTargetEpoch, group), epochValue(g.targetEpoch)})
	}
	for _, m := range g.inOrder() {
		if m.changedCurrent {
			list = append(list, Record{consumerKey(keyCurrent, group, m.id), m.current()})
		}
		m.changed, m.changedTarget, m.changedCurrent = false, false, false
	}
	g.changed, g.changedTarget = false, false
	return list
}

// Unstored says that what Changes gave could not be stored: the next call gives
// all there is.
func (g *Consumer) Unstored() {
	g.changed, g.changedTarget = true, true
	for _, m := range g.members {
		m.changed, m.changedTarget, m.changedCurrent = true, true, true
	}
}

func forgottenMember(group, id string) []Record {
	return []Record{{consumerKey(keyCurrent, group, id), nil}, {consumerKey(keyTargetMember, group, id), nil}, {consumerKey(keyMember, group, id), nil}}
}

// Forgotten are the records that remove the group.
func (g *Consumer) Forgotten(group string) []Record {
	var list []Record
	for _, m := range g.inOrder() {
		list = append(list, forgottenMember(group, m.id)...)
	}
	for _, id := range g.gone {
		list = append(list, forgottenMember(group, id)...)
	}
	return append(list, Record{consumerKey(keyTargetEpoch, group), nil}, Record{consumerKey(keyEpoch, group), nil})
}

// LoadedConsumer is a record of a group of the consumer protocol.
type LoadedConsumer struct {
	kind    uint16
	member  string
	removed bool

	epoch    int32          // of keyEpoch and keyTargetEpoch
	metadata consumerMember // of keyMember
	current  consumerMember // of keyCurrent
	target   Slots          // of keyTargetMember
}

func (l *Loaded) loadConsumer(kind uint16, key, value []byte) error {
	k := kbin.Reader{Src: key}
	k.Int16()
	c := &LoadedConsumer{kind: kind, removed: value == nil}
	group := k.String()
	if kind == keyMember || kind == keyTargetMember || kind == keyCurrent {
		c.member = k.String()
	}
	if !k.Ok() {
		return fmt.Errorf("%w: key of kind %d", ErrStored, kind)
	}
	if value != nil {
		v := kbin.Reader{Src: value}
		if version := v.Int16(); version != 0 {
			return fmt.Errorf("%w: group %q: value of kind %d has version %d", ErrStored, group, kind, version)
		}
		if err := c.read(&v); err != nil {
			return fmt.Errorf("%w: group %q: value of kind %d: %w", ErrStored, group, kind, err)
		}
	}
	l.Group, l.Consumer = group, c
	return nil
}

// read reads a value; tagged fields after it are passed over.
func (c *LoadedConsumer) read(v *kbin.Reader) error {
	switch c.kind {
	case keyEpoch, keyTargetEpoch:
		c.epoch = v.Int32()
	case keyTargetMember:
		c.target = readSlots(v)
	case keyCurrent:
		c.current.epoch, c.current.previous, c.current.state = v.Int32(), v.Int32(), memberState(v.Int8())
		c.current.assigned, c.current.revoking = readSlots(v), readSlots(v)
	case keyMember:
		m := &c.metadata
		m.instance, m.rack, m.clientID, m.clientHost = v.CompactNullableString(), v.CompactNullableString(), v.CompactString(), v.CompactString()
		for n := v.CompactArrayLen(); n > 0 && v.Ok(); n-- {
			m.topics = append(m.topics, v.CompactString())
		}
		regex := v.CompactNullableString()
		m.rebalance = time.Duration(v.Int32()) * time.Millisecond
		assignor := v.CompactNullableString()
		if assignor != nil && KnownAssignor(*assignor) {
			m.assignor = *assignor
		}
		if regex != nil && *regex != "" {
			pattern, err := compileTopics(*regex)
			if err != nil {
				return err
			}
			m.regex, m.pattern = *regex, pattern
		}
		m.classic = readClassic(v)
	}
	return v.Complete()
}

// compileTopics is the pattern that matches whole names.
func compileTopics(regex string) (*regexp.Regexp, error) {
	return regexp.Compile(`\A(?:` + regex + `)\z`)
}

func readSlots(v *kbin.Reader) Slots {
	s := Slots{}
	for n := v.CompactArrayLen(); n > 0 && v.Ok(); n-- {
		id := v.Uuid()
		for m := v.CompactArrayLen(); m > 0 && v.Ok(); m-- {
			s[Slot{id, v.Int32()}] = struct{}{}
		}
		layout.SkipTags(v)
	}
	return s
}

// Restore takes in a record of the group, in the order of the log.
func (g *Consumer) Restore(l *LoadedConsumer) {
	switch l.kind {
	case keyEpoch:
		if g.epoch = l.epoch; l.removed {
			g.epoch = -1
		}
		return
	case keyTargetEpoch:
		if g.targetEpoch = l.epoch; l.removed {
			g.targetEpoch = -1
		}
		return
	}
	m := g.members[l.member]
	if m == nil {
		if l.removed {
			return
		}
		g.joined++
		m = &consumerMember{id: l.member, order: g.joined, assigned: Slots{}, revoking: Slots{}, target: Slots{}}
		g.members[l.member] = m
	}
	switch {
	case l.kind == keyMember && l.removed:
		delete(g.members, l.member)
	case l.kind == keyMember:
		from := &l.metadata
		m.instance, m.rack, m.clientID, m.clientHost = from.instance, from.rack, from.clientID, from.clientHost
		m.topics, m.regex, m.pattern, m.rebalance, m.assignor = from.topics, from.regex, from.pattern, from.rebalance, from.assignor
		m.classic = from.classic
	case l.kind == keyTargetMember && !l.removed:
		m.target = l.target
	case l.kind == keyCurrent && !l.removed:
		m.epoch, m.previous, m.state = l.current.epoch, l.current.previous, l.current.state
		m.assigned, m.revoking = l.current.assigned, l.current.revoking
	}
}

// Restored makes the group ready once all its records were taken in. Its members
// have their session timeout from now on to show that they are alive.
func (g *Consumer) Restored(now time.Time) {
	for _, m := range g.inOrder() {
		if m.usesClassic() {
			m.classic.session = min(max(m.classic.session, g.cfg.MinSession), g.cfg.MaxSession)
		}
		m.expires = g.at(now.Add(g.session(m)))
		if m.state == memberUnrevoked {
			m.revokeBy = g.at(now.Add(m.rebalance))
		}
		if m.instance != nil {
			g.static[*m.instance] = m.id
		}
		g.own(m, m.assigned, m.revoking)
	}
}
