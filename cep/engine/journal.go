package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/table"
)

// TopicJournal holds, in one partition, from which offset of which source
// partition on a shard used which state of the world. A shard's input is its
// partition merged with its records here.
const TopicJournal = "weir.journal"

// The kinds of journal records.
const (
	// kindTables says: from Cursor on, the tables and lists are those before the
	// offset Changes of weir.tables.
	kindTables = "tables"
	// kindIdle says: before Cursor, time has passed as by an event of the time Time;
	// see cep.Clock.
	kindIdle = "idle"
	// kindPanic says: the record at Cursor is left out, as the program panics on it with
	// Detail. What makes state again without deciding would not come to know.
	kindPanic = "panic"
	// kindProgram says: from Cursor on, Program decides.
	kindProgram = "program"
)

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
	Time      int64  `json:"time,omitempty"`    // of kindIdle, in nanoseconds
	Detail    string `json:"detail,omitempty"`  // of kindPanic
	Program   string `json:"program,omitempty"` // of kindProgram: its ID
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
	// What else the journal says, as JournalReplay.
	JournalPin
)

// TableUser is an Instance that looks tables up. Until it is told, all are empty.
type TableUser interface {
	// UseTables gives it the tables for the events from the next one on.
	UseTables(v *table.View)
}

// mark is a journal record of this shard that is still to be used.
type mark struct {
	offset int64 // in the journal
	journalRecord
}

// journal is what a shard has to do with its journal.
type journal struct {
	marks   []mark // in order, to be used
	settled int64  // an earlier life has decided events before it: no new mark there
	filling bool   // makes state from the log: no new mark anywhere
	loaded  int64  // the changes that the instance was told of
	read    int64  // the journal was read up to there
	inForce string // the program that the journal names for the next event; empty: none
}

// openJournal reads the shard's marks from an offset of the journal on.
func (s *shard) openJournal(ctx context.Context, from int64) error {
	s.marks, s.filling, s.loaded, s.read = nil, false, -1, from
	return s.readJournal(ctx)
}

// readJournal reads the marks that came since it was read.
func (s *shard) readJournal(ctx context.Context) error {
	if !s.journals() {
		return nil
	}
	end, err := s.journalEnd(ctx)
	if err != nil || s.read >= end {
		return err
	}
	src, err := s.engine.opts.Open(ctx, TopicJournal, 0, s.read)
	if err != nil {
		return err
	}
	defer src.Close()
	for s.read < end {
		c, err := src.Next(ctx)
		if err != nil {
			return fmt.Errorf("%s@%d: %w", TopicJournal, s.read, err)
		}
		for i := range c.Records {
			if err := s.noteMark(c.Records[i].Offset, c.Records[i].Value); err != nil {
				return fmt.Errorf("%s@%d: %w", TopicJournal, c.Records[i].Offset, err)
			}
		}
		s.read = c.Next
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
	switch r.Kind {
	case kindTables:
		if s.engine.opts.Tables == nil || s.engine.opts.Journal == JournalPin {
			return nil
		}
	case kindIdle:
	case kindProgram:
		if s.engine.opts.Journal == JournalPin {
			return nil
		}
	case kindPanic:
		s.poisoned[r.Cursor] = poison{r.Detail, true}
		return nil
	default:
		return fmt.Errorf("a record of the kind %q, which this version does not know: a newer one has decided this partition", r.Kind)
	}
	s.marks = append(s.marks, mark{offset, r})
	return nil
}

// journals reports whether there is a journal. Where there are neither tables nor
// programs of before nor streams that can be idle, nobody has to make the topic.
func (s *shard) journals() bool {
	o := &s.engine.opts
	return o.Tables != nil || o.Programs != nil || s.stream.Idle > 0
}

// journalEnd is the end of the journal once all before it is durable: an earlier
// life of this process may have written there.
func (s *shard) journalEnd(ctx context.Context) (int64, error) {
	o := output{topic: TopicJournal}
	return s.durableEnd(ctx, &o)
}

// merge brings the shard to what its journal says for the next record, and returns
// how many of n records with these offsets that is for. Where time passes before it,
// then is called for an empty batch.
func (s *shard) merge(ctx context.Context, offset func(i int) int64, n int, then func() error) (int, error) {
	if err := s.useMarks(ctx, offset(0), math.MaxInt64, then); err != nil {
		return 0, err
	}
	until := int64(-1)
	store := s.engine.opts.Tables
	if store != nil && s.engine.opts.Journal == JournalPin {
		s.changes = s.engine.opts.PinChanges
	}
	switch {
	case len(s.marks) > 0:
		until = s.marks[0].Cursor
	case s.filling || s.engine.opts.Journal != JournalLive:
	case offset(0) < s.settled:
		// Where only other outputs, as keyed streams, reach further, it is decided now.
		if until = s.outputs.decided(); offset(0) >= until {
			until = s.settled
			if err := s.enterProgram(ctx, s.program.ID()); err != nil {
				return 0, err
			}
		}
	default:
		if err := s.enterProgram(ctx, s.program.ID()); err != nil {
			return 0, err
		}
		if store == nil {
			break
		}
		if err := s.adopt(ctx, store.Head()); err != nil {
			return 0, err
		}
	}
	for until >= 0 && offset(n-1) >= until {
		n--
	}
	return s.beforePoison(ctx, offset, n)
}

// poison is why a record is left out.
type poison struct {
	text      string // of the panic
	journaled bool
}

// beforePoison cuts a batch before a record that is left out; such a one is a batch by
// itself, and the journal says so before.
func (s *shard) beforePoison(ctx context.Context, offset func(i int) int64, n int) (int, error) {
	if len(s.poisoned) == 0 {
		return n, nil
	}
	for i := range n {
		p, bad := s.poisoned[offset(i)]
		switch {
		case !bad:
			continue
		case i > 0:
			return i, nil
		case !p.journaled && s.journals() && !s.filling && s.engine.opts.Journal == JournalLive:
			if err := s.enter(ctx, journalRecord{Kind: kindPanic, Cursor: offset(0), Detail: p.text}, s.engine.opts.Now().UnixMilli()); err != nil {
				return 0, err
			}
			s.poisoned[offset(0)] = poison{p.text, true}
		}
		return 1, nil
	}
	return n, nil
}

// useMarks uses the marks that are for the record at an offset or one before it, and
// stand before an offset of the journal. Where time passes, then is called for an
// empty batch.
func (s *shard) useMarks(ctx context.Context, cursor, before int64, then func() error) error {
	for len(s.marks) > 0 && s.marks[0].Cursor <= cursor && s.marks[0].offset < before {
		m := s.marks[0]
		s.marks, s.journaled = s.marks[1:], m.offset+1
		switch m.Kind {
		case kindTables:
			s.changes = m.Changes
		case kindProgram:
			if err := s.useProgram(ctx, &m); err != nil {
				return err
			}
		case kindIdle:
			s.pass(m.Cursor, event.Time(m.Time))
			if err := then(); err != nil {
				return err
			}
		}
	}
	return nil
}

// enter writes a record into the journal, at the position or where it says, and waits
// until it is durable.
func (s *shard) enter(ctx context.Context, r journalRecord, timestamp int64) error {
	r.Stream, r.Topic, r.TopicID, r.Partition, r.Cursor = s.stream.Schema.Stream, s.origin.Topic, s.source.id, s.partition, max(r.Cursor, s.position)
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	key := s.origin.Topic + "/" + strconv.Itoa(int(s.partition))
	log := s.engine.opts.Sink
	at, err := log.Append(ctx, TopicJournal, 0, []sink.Record{{Timestamp: timestamp, Key: []byte(key), Value: value}})
	if err == nil {
		err = log.Durable(ctx, TopicJournal, 0, at)
	}
	if err != nil {
		return fmt.Errorf("%s[%d]@%d: write to %s: %w", s.origin.Topic, s.partition, s.position, TopicJournal, err)
	}
	s.journaled = at + 1
	return nil
}

// adopt journals that the tables change at the cursor. That is durable before
// anything is decided with them.
func (s *shard) adopt(ctx context.Context, head *table.View) error {
	if head.Seq() == s.changes {
		return nil
	}
	if err := s.enter(ctx, journalRecord{Kind: kindTables, Changes: head.Seq()}, head.Time().Millis()); err != nil {
		return err
	}
	s.changes = head.Seq()
	return nil
}

// load tells the instance of the tables that the batch at hand is decided with.
func (s *shard) load(ctx context.Context) error {
	if err := s.engine.useTables(ctx, s.instance, s.tables, &s.loaded); err != nil {
		return fmt.Errorf("%s[%d]@%d: tables: %w", s.origin.Topic, s.partition, s.from, err)
	}
	return nil
}

// useTables tells an instance of tables, where it wants to know and has others loaded.
// Old ones are only made when an event is decided with them.
func (e *Engine) useTables(ctx context.Context, instance any, changes int64, loaded *int64) error {
	user, wants := instance.(TableUser)
	if e.opts.Tables == nil || *loaded == changes || !wants {
		return nil
	}
	v, err := e.opts.Tables.At(ctx, changes)
	if err != nil {
		return err
	}
	user.UseTables(v)
	*loaded = changes
	return nil
}
