package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/layout"
)

// Record is one record of the state topic. A nil Value removes the key.
type Record struct{ Key, Value []byte }

// The versions of keys, which say what a record is.
const (
	keyOffsetOld    = 0
	keyOffset       = 1
	keyClassic      = 2
	keyEpoch        = 3
	keyPartitions   = 4 // written by Kafka up to 4.0; not needed
	keyMember       = 5
	keyTargetEpoch  = 6
	keyTargetMember = 7
	keyCurrent      = 8
)

// ErrStored is wrapped by errors about records that are not what they must be.
var ErrStored = errors.New("malformed record of a group")

// StoredOffset is the record of a committed offset, in the version that every
// Kafka tool since 2.1 reads.
func StoredOffset(group string, p TopicPartition, at Offset) Record {
	v := kmsg.NewOffsetCommitValue()
	v.Version, v.Offset, v.LeaderEpoch, v.Metadata, v.CommitTimestamp = 3, at.Offset, at.LeaderEpoch, at.Metadata, at.Time
	return Record{offsetKey(group, p), v.AppendTo(nil)}
}

// ForgottenOffset is the record that removes a committed offset.
func ForgottenOffset(group string, p TopicPartition) Record { return Record{offsetKey(group, p), nil} }

func offsetKey(group string, p TopicPartition) []byte {
	k := kmsg.NewOffsetCommitKey()
	k.Version, k.Group, k.Topic, k.Partition = keyOffset, group, p.Topic, p.Partition
	return k.AppendTo(nil)
}

func classicKey(group string) []byte {
	k := kmsg.NewGroupMetadataKey()
	k.Version, k.Group = keyClassic, group
	return k.AppendTo(nil)
}

// Stored are the records of the group's state.
func (g *Classic) Stored(group string) []Record {
	v := kmsg.NewGroupMetadataValue()
	v.Version, v.ProtocolType, v.Generation, v.CurrentStateTimestamp = 3, g.protocolType, g.generation, g.since.UnixMilli()
	if len(g.members) > 0 {
		v.Protocol = &g.protocol
	}
	if g.leader != "" {
		v.Leader = &g.leader
	}
	for _, m := range g.inOrder() {
		vm := kmsg.NewGroupMetadataValueMember()
		vm.MemberID, vm.InstanceID, vm.ClientID, vm.ClientHost = m.id, m.instance, m.clientID, m.clientHost
		vm.SessionTimeoutMillis, vm.RebalanceTimeoutMillis = int32(m.session.Milliseconds()), int32(m.rebalance.Milliseconds())
		vm.Subscription, vm.Assignment = nonNil(m.metadata(g.protocol)), nonNil(m.assignment)
		v.Members = append(v.Members, vm)
	}
	return []Record{{classicKey(group), v.AppendTo(nil)}}
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Forgotten are the records that remove the group's state.
func (g *Classic) Forgotten(group string) []Record { return []Record{{classicKey(group), nil}} }

// RestoreClassic is the group that was stored. Its members have their session
// timeout from now on to show that they are alive.
func RestoreClassic(cfg *Config, now time.Time, v *kmsg.GroupMetadataValue) *Classic {
	g := NewClassic(cfg, now)
	g.generation, g.protocolType = v.Generation, v.ProtocolType
	if v.CurrentStateTimestamp >= 0 {
		g.since = time.UnixMilli(v.CurrentStateTimestamp)
	}
	if len(v.Members) == 0 {
		return g
	}
	g.state = Stable
	if v.Protocol != nil {
		g.protocol = *v.Protocol
	}
	for i := range v.Members {
		g.restore(now, &v.Members[i])
	}
	if v.Leader == nil { // nobody assigned in it: it was of the consumer protocol
		g.prepare(now)
		g.take()
		return g
	}
	if g.leader = *v.Leader; g.members[g.leader] == nil {
		g.leader = g.inOrder()[0].id
	}
	return g
}

func (g *Classic) restore(now time.Time, v *kmsg.GroupMetadataValueMember) {
	g.joined++
	m := &member{
		id: v.MemberID, order: g.joined, instance: v.InstanceID, clientID: v.ClientID, clientHost: v.ClientHost,
		session: time.Duration(v.SessionTimeoutMillis) * time.Millisecond, rebalance: time.Duration(v.RebalanceTimeoutMillis) * time.Millisecond,
		protocols:  []Protocol{{g.protocol, v.Subscription}},
		assignment: v.Assignment,
	}
	m.session = min(max(m.session, g.cfg.MinSession), g.cfg.MaxSession)
	if m.rebalance < 0 {
		m.rebalance = m.session
	}
	m.expires = g.at(now.Add(m.session))
	g.members[m.id] = m
	if m.instance != nil {
		g.static[*m.instance] = m.id
	}
}

// Loaded is a record of the state topic, read. One of the fields says what it is;
// where none does, it is of a kind that is not needed.
type Loaded struct {
	Group   string
	Removed bool // the key's value is null

	Offset  *LoadedOffset
	Classic *LoadedClassic
	// Consumer is a record of a group of the consumer protocol.
	Consumer *LoadedConsumer
}

// LoadedOffset is a committed offset.
type LoadedOffset struct {
	Partition TopicPartition
	Offset    Offset // empty where it was removed
}

// LoadedClassic is the state of a classic group; nil where it was removed.
type LoadedClassic struct{ Value *kmsg.GroupMetadataValue }

// Load reads a record of the state topic. Nothing of key and value is retained.
// The error wraps ErrStored.
func Load(key, value []byte) (l Loaded, err error) {
	defer func() {
		if r := recover(); r != nil { // in kmsg: generated code over what a disk gave
			err = fmt.Errorf("%w: %v", ErrStored, r)
		}
	}()
	if len(key) < 2 {
		return l, fmt.Errorf("%w: a key of %d bytes", ErrStored, len(key))
	}
	l.Removed = value == nil
	switch kind := binary.BigEndian.Uint16(key); kind {
	case keyOffsetOld, keyOffset:
		err = l.loadOffset(key, value)
	case keyClassic:
		err = l.loadClassic(key, value)
	case keyEpoch, keyMember, keyTargetEpoch, keyTargetMember, keyCurrent:
		err = l.loadConsumer(kind, key, value)
	}
	return l, err
}

func (l *Loaded) loadOffset(key, value []byte) error {
	var k kmsg.OffsetCommitKey
	if err := k.ReadFrom(key); err != nil {
		return fmt.Errorf("%w: key of an offset: %w", ErrStored, err)
	}
	o := &LoadedOffset{Partition: TopicPartition{k.Topic, k.Partition}}
	if value != nil {
		var v kmsg.OffsetCommitValue
		v.Default()
		err := layout.OffsetCommitValue.CheckValue(value)
		if err == nil {
			err = v.ReadFrom(value)
		}
		if err != nil {
			return fmt.Errorf("%w: offset of group %q: %w", ErrStored, k.Group, err)
		}
		o.Offset = Offset{Offset: v.Offset, LeaderEpoch: v.LeaderEpoch, Metadata: v.Metadata, Time: v.CommitTimestamp}
		if v.Version < 3 {
			o.Offset.LeaderEpoch = -1
		}
	}
	l.Group, l.Offset = k.Group, o
	return nil
}

func (l *Loaded) loadClassic(key, value []byte) error {
	var k kmsg.GroupMetadataKey
	if err := k.ReadFrom(key); err != nil {
		return fmt.Errorf("%w: key of a group: %w", ErrStored, err)
	}
	c := &LoadedClassic{}
	if value != nil {
		v := kmsg.NewGroupMetadataValue()
		err := layout.GroupMetadataValue.CheckValue(value)
		if err == nil {
			err = v.ReadFrom(value)
		}
		if err != nil {
			return fmt.Errorf("%w: group %q: %w", ErrStored, k.Group, err)
		}
		c.Value = &v
	}
	l.Group, l.Classic = k.Group, c
	return nil
}
