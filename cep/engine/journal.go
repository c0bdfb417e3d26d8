package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/table"
)

// TopicJournal holds, in one partition, from which offset of which source
// partition on a shard used which state of the world. A shard's input is its
// partition merged with its records here.
const TopicJournal = "weir.journal"

// kindTables is a journal record that says: from Cursor on, the tables and lists
// are those before the offset Changes of weir.tables.
const kindTables = "tables"

// journalRecord is a record's value in TopicJournal. Records of one source
// partition are in the order of their cursors.
type journalRecord struct {
	Kind      string `json:"kind"`
	Stream    string `json:"stream"`
	Topic     string `json:"topic"`
	TopicID   string `json:"topic_id,omitempty"` // tells the topic from another of its name
	Partition int32  `json:"partition"`
	Cursor    int64  `json:"cursor"`            // the first offset that it is for
	Changes   int64  `json:"changes,omitempty"` // of kindTables
}

// JournalMode says where a shard's changes come from.
type JournalMode uint8

// The modes.
const (
	// JournalLive uses the newest tables from the next event on, and journals that.
	JournalLive JournalMode = iota
	// JournalReplay uses what the journal says and nothing newer: the same input
	// gives the same decisions again.
	JournalReplay
	// JournalPin uses one state of the tables, Options.PinChanges, for all events.
	JournalPin
)

// TableUser is an Instance that looks tables up. Until it is told, all are empty.
type TableUser interface {
	// UseTables gives it the tables for the events from the next one on.
	UseTables(v *table.View)
}

// mark is a journal record of this shard that is still to be used.
type mark struct {
	offset  int64 // in the journal
	cursor  int64
	changes int64
}

// journal is what a shard has to do with its journal.
type journal struct {
	marks   []mark // in order, to be used
	settled int64  // an earlier life has decided events before it: no new mark there
	filling bool   // makes state from the log: no new mark anywhere
	loaded  int64  // the changes that the instance was told of
}

// openJournal reads the shard's marks from an offset of the journal on.
func (s *shard) openJournal(ctx context.Context, from int64) error {
	s.marks, s.filling, s.loaded = nil, false, -1
	if s.engine.opts.Tables == nil || s.engine.opts.Journal == JournalPin {
		return nil
	}
	end, err := s.journalEnd(ctx)
	if err != nil || from >= end {
		return err
	}
	src, err := s.engine.opts.Open(ctx, TopicJournal, 0, from)
	if err != nil {
		return err
	}
	defer src.Close()
	for from < end {
		c, err := src.Next(ctx)
		if err != nil {
			return fmt.Errorf("%s@%d: %w", TopicJournal, from, err)
		}
		from = c.Next
		for i := range c.Records {
			if err := s.noteMark(c.Records[i].Offset, c.Records[i].Value); err != nil {
				return fmt.Errorf("%s@%d: %w", TopicJournal, c.Records[i].Offset, err)
			}
		}
	}
	return nil
}

// noteMark keeps a record of the journal where it is this shard's.
func (s *shard) noteMark(offset int64, value []byte) error {
	var r journalRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return err
	}
	if r.Topic != s.origin.Topic || r.Partition != s.partition || r.TopicID != "" && s.source.id != "" && r.TopicID != s.source.id {
		return nil
	}
	if r.Kind != kindTables {
		return fmt.Errorf("a record of the kind %q, which this version does not know: a newer one has decided this partition", r.Kind)
	}
	s.marks = append(s.marks, mark{offset, r.Cursor, r.Changes})
	return nil
}

// journalEnd is the end of the journal once all before it is durable: an earlier
// life of this process may have written there.
func (s *shard) journalEnd(ctx context.Context) (int64, error) {
	o := output{topic: TopicJournal}
	return s.durableEnd(ctx, &o)
}

// merge tells from the journal which tables are in force for the next record, and
// returns how many of n records with these offsets that is for.
func (s *shard) merge(ctx context.Context, offset func(i int) int64, n int) (int, error) {
	store := s.engine.opts.Tables
	if store == nil {
		return n, nil
	}
	for len(s.marks) > 0 && s.marks[0].cursor <= offset(0) {
		s.changes, s.journaled = s.marks[0].changes, s.marks[0].offset+1
		s.marks = s.marks[1:]
	}
	until := int64(-1)
	switch {
	case s.engine.opts.Journal == JournalPin:
		s.changes = s.engine.opts.PinChanges
	case len(s.marks) > 0:
		until = s.marks[0].cursor
	case s.filling || s.engine.opts.Journal == JournalReplay:
	case offset(0) < s.settled:
		until = s.settled
	default:
		if err := s.adopt(ctx, store.Head()); err != nil {
			return 0, err
		}
	}
	for until >= 0 && offset(n-1) >= until {
		n--
	}
	return n, nil
}

// adopt journals that the tables change at the cursor. That is durable before
// anything is decided with them.
func (s *shard) adopt(ctx context.Context, head *table.View) error {
	if head.Seq() == s.changes {
		return nil
	}
	value, err := json.Marshal(journalRecord{Kind: kindTables, Stream: s.stream.Schema.Stream, Topic: s.origin.Topic, TopicID: s.source.id,
		Partition: s.partition, Cursor: s.position, Changes: head.Seq()})
	if err != nil {
		return err
	}
	key := s.origin.Topic + "/" + strconv.Itoa(int(s.partition))
	log := s.engine.opts.Sink
	at, err := log.Append(ctx, TopicJournal, 0, []sink.Record{{Timestamp: head.Time().Millis(), Key: []byte(key), Value: value}})
	if err == nil {
		err = log.Durable(ctx, TopicJournal, 0, at)
	}
	if err != nil {
		return fmt.Errorf("%s[%d]@%d: write to %s: %w", s.origin.Topic, s.partition, s.position, TopicJournal, err)
	}
	s.changes, s.journaled = head.Seq(), at+1
	return nil
}

// load tells the instance of the tables that the batch at hand is decided with, where
// it wants to know. Old ones are only made when an event is decided with them.
func (s *shard) load(ctx context.Context) error {
	user, wants := s.instance.(TableUser)
	if s.engine.opts.Tables == nil || s.loaded == s.tables || !wants {
		return nil
	}
	v, err := s.engine.opts.Tables.At(ctx, s.tables)
	if err != nil {
		return fmt.Errorf("%s[%d]@%d: tables: %w", s.origin.Topic, s.partition, s.from, err)
	}
	user.UseTables(v)
	s.loaded = s.tables
	return nil
}
