package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

// What of the log a restart reads is pinned, so that retention leaves it: of the
// newest two checkpoints each, the source from where the windows' events begin, should
// their state have to be made again, and the outputs, keyed streams and the journal
// from where they were. Pins are of the process; the next one pins what it finds in
// the checkpoints before it begins.

// passed is a place in the log at which a checkpoint was begun: no event before the
// offset is newer. Of the journal, what is before journaled was used.
type passed struct {
	offset    int64
	newest    event.Time
	journaled int64
}

// passedPer is how many of them are kept about, of the time that windows reach back.
const passedPer = 64

// needs is what of the log a checkpoint needs.
type needs struct {
	source  int64
	journal int64
	ends    []savedEnd
}

// reacher is an operator that holds no event for longer than that. Windows of a number
// of events and sessions may reach back further; the log is not kept for them.
type reacher interface{ Reach() time.Duration }

// reachOf is how far back operators go.
func reachOf(ops []Operator) (d time.Duration) {
	for _, op := range ops {
		if r, ok := op.Operator.(reacher); ok {
			d = max(d, r.Reach())
		}
	}
	return d
}

func (s *shard) reach() time.Duration {
	d := reachOf(s.instance.Operators())
	if s.seen != nil {
		d = max(d, s.stream.Dedupe)
	}
	return d
}

// passBy notes that a checkpoint is begun at the cursor, and forgets what is of no use
// any more. It returns what the checkpoint needs.
func (s *shard) passBy(ends []savedEnd) needs {
	reach, now := s.reach(), s.clock.Watermark()
	n := needs{source: s.cursor, journal: s.journaled, ends: ends}
	if reach == 0 {
		s.passed = nil
		return n
	}
	var from passed
	s.passed, from = passBy(s.passed, passed{s.cursor, s.clock.Newest(), s.journaled}, now, reach)
	n.source, n.journal = from.offset, from.journaled
	return n
}

// passBy adds a place to those before it, and returns the last of them before which there is
// nothing that windows of that reach hold at a watermark, or the log's beginning, and what
// is of use of all.
func passBy(all []passed, at passed, low event.Time, reach time.Duration) (kept []passed, from passed) {
	all = append(all, at)
	if k := len(all); k > 2 && all[k-1].newest-all[k-3].newest < event.Time(reach/passedPer) {
		all[k-2] = all[k-1] // close together
		all = all[:k-1]
	}
	first := 0
	for i, p := range all {
		if low != event.MinTime && p.newest <= low.Sub(reach) {
			from, first = p, i
		}
	}
	return all[first:], from
}

// and is what both need.
func (n needs) and(o needs) needs {
	out := needs{source: min(n.source, o.source), journal: min(n.journal, o.journal)}
	for _, e := range n.ends {
		for _, f := range o.ends {
			if f.topic == e.topic && f.partition == e.partition {
				e.end = min(e.end, f.end)
			}
		}
		out.ends = append(out.ends, e)
	}
	return out
}

// owner is who pins, for people.
func (s *shard) owner() string {
	return fmt.Sprintf("engine: %s/%d", s.stream.Schema.Stream, s.partition)
}

// pin pins what the checkpoints need.
func (s *shard) pin(n needs) {
	pin := s.engine.opts.Pin
	if pin == nil {
		return
	}
	pin(s.owner(), s.origin.Topic, s.partition, n.source)
	if s.journals() {
		pin(s.owner(), TopicJournal, 0, n.journal)
	}
	for _, e := range n.ends {
		pin(s.owner(), e.topic, e.partition, e.end)
	}
	for _, e := range s.pinned.ends {
		if !slices.ContainsFunc(n.ends, func(o savedEnd) bool { return o.topic == e.topic && o.partition == e.partition }) {
			pin(s.owner(), e.topic, e.partition, -1) // a keyed stream that it no longer writes
		}
	}
	s.pinned = n
}

// unpin takes the shard's pins back.
func (s *shard) unpin() {
	pin := s.engine.opts.Pin
	if pin == nil {
		return
	}
	pin(s.owner(), s.origin.Topic, s.partition, -1)
	pin(s.owner(), TopicJournal, 0, -1)
	for _, e := range s.pinned.ends {
		pin(s.owner(), e.topic, e.partition, -1)
	}
}

// pinSaved pins what the checkpoints on the disk need: everything where there is none.
func (s *shard) pinSaved() {
	if s.engine.opts.Pin == nil {
		return
	}
	var all needs
	found := false
	gens, err := s.checkpoints.store.Generations()
	for _, g := range gens {
		st, lerr := s.readCheckpoint(g)
		switch {
		case lerr != nil:
		case !found:
			all, found = st.needs, true
		default:
			all = all.and(st.needs)
		}
	}
	if err != nil {
		s.logger.Warn("what the checkpoints need of the log is not known: retention leaves all of it", "err", err)
		all = needs{}
	}
	s.pin(all)
}

// needed notes what a checkpoint that is durable now needs, and unpins what the one
// before the one before did.
func (s *shard) needed(n needs) {
	if before := s.newestNeeds; before != nil {
		s.pin(before.and(n))
	}
	s.newestNeeds = &n
}
