package anomaly

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Anomaly is one thing that should not have been seen.
type Anomaly struct {
	Name   string
	Key    Key
	Detail string
}

func (a Anomaly) String() string {
	if a.Key == (Key{}) {
		return a.Name + ": " + a.Detail
	}
	return fmt.Sprintf("%s: %v: %s", a.Name, a.Key, a.Detail)
}

// Check returns the anomalies of a history, sorted; none is nil.
func Check(h History) []Anomaly {
	c := &checker{history: h, writer: map[place]*Op{}, logs: map[Key]*order{}, read: map[place]bool{}}
	c.index()
	c.offsets()
	c.aborted()
	c.missing()
	for _, ops := range c.processes() {
		c.polls(ops)
		c.sends(ops)
	}
	c.cycles()
	c.groups()
	c.transforms()
	slices.SortStableFunc(c.found, func(a, b Anomaly) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Key.String(), b.Key.String()), strings.Compare(a.Detail, b.Detail))
	})
	return slices.Compact(c.found)
}

// Names are the distinct names among anomalies, sorted.
func Names(found []Anomaly) []string {
	var names []string
	for _, a := range found {
		names = append(names, a.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// place is a value in a partition. Values are distinct, but a log might put one
// where it was not sent.
type place struct {
	key   Key
	value int64
}

type checker struct {
	history History
	writer  map[place]*Op
	logs    map[Key]*order
	read    map[place]bool // by a reader of committed values
	found   []Anomaly
}

// order is what is known to lie in one partition.
type order struct {
	at      map[int64][]int64 // offset: values, more than one is an anomaly
	of      map[int64][]int64 // value: offsets, sorted
	offsets []int64           // sorted
	maxRead int64             // highest offset read by a reader of committed values
}

func (c *checker) report(name string, key Key, format string, args ...any) {
	c.found = append(c.found, Anomaly{name, key, fmt.Sprintf(format, args...)})
}

func (c *checker) order(k Key) *order {
	if c.logs[k] == nil {
		c.logs[k] = &order{at: map[int64][]int64{}, of: map[int64][]int64{}, maxRead: NoOffset}
	}
	return c.logs[k]
}

// index reads the history: who wrote what, what was read, what lies where. Both
// acknowledged sends and polls tell what lies at an offset, whatever became of
// their transaction.
func (c *checker) index() {
	for i := range c.history {
		op := &c.history[i]
		for _, s := range op.Steps {
			o := c.order(s.Key)
			for _, r := range s.Records {
				at := place{s.Key, r.Value}
				if s.Send {
					c.writer[at] = op
				} else if !op.Uncommitted {
					c.read[at] = true
					o.maxRead = max(o.maxRead, r.Offset)
				}
				if r.Offset != NoOffset {
					o.put(r.Offset, r.Value)
				}
			}
		}
	}
	for _, o := range c.logs {
		for offset := range o.at {
			o.offsets = append(o.offsets, offset)
		}
		slices.Sort(o.offsets)
		for _, offsets := range o.of {
			slices.Sort(offsets)
		}
	}
}

func (o *order) put(offset, value int64) {
	if !slices.Contains(o.at[offset], value) {
		o.at[offset] = append(o.at[offset], value)
		o.of[value] = append(o.of[value], offset)
	}
}

// happened reports whether op certainly took effect: it was acknowledged, or one
// of its values was read by a reader of committed values.
func (c *checker) happened(op *Op) bool {
	if op == nil || op.Outcome != Info {
		return op != nil && op.Outcome == OK
	}
	for _, s := range op.sends() {
		for _, r := range s.Records {
			if c.read[place{s.Key, r.Value}] {
				return true
			}
		}
	}
	return false
}

func (c *checker) offsets() {
	for k, o := range c.logs {
		for _, offset := range o.offsets {
			if values := o.at[offset]; len(values) > 1 {
				slices.Sort(values)
				c.report("inconsistent-offsets", k, "offset %d holds the values %v", offset, values)
			}
		}
		for value, offsets := range o.of {
			if len(offsets) > 1 {
				c.report("duplicate", k, "value %d lies at the offsets %v", value, offsets)
			}
		}
	}
}

// aborted finds what was polled and should not exist.
func (c *checker) aborted() {
	for i := range c.history {
		op := &c.history[i]
		for _, s := range op.polls() {
			for _, r := range s.Records {
				w := c.writer[place{s.Key, r.Value}]
				switch {
				case w == nil:
					c.report("unwritten", s.Key, "process %d polled value %d at offset %d, which nobody sent there", op.Process, r.Value, r.Offset)
				case op.Uncommitted:
				case w == op:
					c.report("precommitted-read", s.Key, "process %d polled value %d in the transaction that sends it", op.Process, r.Value)
				case w.Outcome == Fail:
					c.report("G1a", s.Key, "process %d polled value %d at offset %d, which process %d sent in what failed or was aborted", op.Process, r.Value, r.Offset, w.Process)
				}
			}
		}
	}
}

// missing finds what was committed and not polled.
func (c *checker) missing() {
	for at, w := range c.writer {
		if c.read[at] || !c.happened(w) {
			continue
		}
		o := c.order(at.key)
		if offsets := o.of[at.value]; len(offsets) > 0 && offsets[len(offsets)-1] < o.maxRead {
			c.report("lost-write", at.key, "value %d of process %d at offset %d was never polled, offset %d was", at.value, w.Process, offsets[len(offsets)-1], o.maxRead)
		}
		c.report("unseen", at.key, "value %d, sent by process %d and %s, was never polled", at.value, w.Process, w.Outcome)
	}
}

// processes are the operations of each process, in order. Sends of one process
// may be on their way together: their order is that in which they began. Polls
// have that in which they ended: an assignment may change while one waits.
func (c *checker) processes() map[int][]*Op {
	by := map[int][]*Op{}
	for i := range c.history {
		op := &c.history[i]
		by[op.Process] = append(by[op.Process], op)
	}
	at := func(op *Op) int64 {
		if op.Assign == nil && len(op.polls()) == 0 {
			return op.Invoked
		}
		return op.Completed
	}
	for _, ops := range by {
		slices.SortFunc(ops, func(a, b *Op) int { return cmp.Compare(at(a), at(b)) })
	}
	return by
}

// polls follows what one process polls.
func (c *checker) polls(ops []*Op) {
	next := map[Key]int64{} // where the next poll of a partition begins, if known
	for _, op := range ops {
		if op.Assign != nil {
			clear(next)
			for k, offset := range op.Assign {
				if offset != NoOffset {
					next[k] = offset
				}
			}
			continue
		}
		within := map[Key]int64{}
		for _, s := range op.polls() {
			for _, r := range s.Records {
				if from, ok := within[s.Key]; ok {
					c.step("int-", s.Key, op, from, r)
				} else if from, ok := next[s.Key]; ok {
					c.step("", s.Key, op, from, r)
				}
				within[s.Key] = r.Offset + 1
			}
		}
		// What a transaction polled that was not committed is polled again.
		if op.Outcome == OK {
			for k, offset := range within {
				next[k] = offset
			}
		}
	}
}

// step compares one polled record with where it should have been: from, or the
// first visible value after it.
func (c *checker) step(prefix string, k Key, op *Op, from int64, r Record) {
	if r.Offset < from {
		c.report(prefix+"nonmonotonic-poll", k, "process %d polled offset %d, expected %d or more", op.Process, r.Offset, from)
		return
	}
	o := c.order(k)
	i, _ := slices.BinarySearch(o.offsets, from)
	for ; i < len(o.offsets) && o.offsets[i] < r.Offset; i++ {
		for _, value := range o.at[o.offsets[i]] {
			if op.Uncommitted || c.happened(c.writer[place{k, value}]) {
				c.report(prefix+"poll-skip", k, "process %d polled offset %d, expected %d: it skipped value %d at offset %d", op.Process, r.Offset, from, value, o.offsets[i])
			}
		}
	}
}

// sends follows what one process sends. Only sends that were acknowledged, with
// nothing uncertain between them, have an order.
func (c *checker) sends(ops []*Op) {
	last := map[Key]int64{}
	for _, op := range ops {
		within := map[Key]bool{}
		for _, s := range op.sends() {
			for _, r := range s.Records {
				if op.Outcome == Info || r.Offset == NoOffset {
					delete(last, s.Key)
					continue
				}
				if before, ok := last[s.Key]; ok && r.Offset <= before {
					prefix := ""
					if within[s.Key] {
						prefix = "int-"
					}
					c.report(prefix+"nonmonotonic-send", s.Key, "process %d sent value %d, which lies at offset %d, after one at offset %d", op.Process, r.Value, r.Offset, before)
				}
				last[s.Key], within[s.Key] = r.Offset, true
			}
		}
	}
}

// groupKey is a group's partition.
type groupKey struct {
	group string
	key   Key
}

// committing is one commit of a position: when it may have taken effect, and whether
// it did.
type committing struct {
	position, from, to int64
	did                bool
}

// groups checks what groups committed: a member that is given a partition goes on
// at a position that may have been the committed one, and of what lies before a
// committed position each value was polled by a member.
func (c *checker) groups() {
	commits, end := c.commits(), map[groupKey]int64{}
	polled := map[string]map[place]bool{}
	given := map[int]map[Key]int64{} // process: partition: when, until it is polled
	for _, op := range c.byTime() {
		switch {
		case op.Group == "":
			continue
		case op.invoked && op.Assign != nil:
			given[op.Process] = newlyGiven(op.Op, given[op.Process])
		case op.invoked:
			continue
		}
		if polled[op.Group] == nil {
			polled[op.Group] = map[place]bool{}
		}
		for _, s := range op.polls() {
			for _, r := range s.Records {
				polled[op.Group][place{s.Key, r.Value}] = true
			}
			polledAt := cmp.Or(op.Polled, op.Completed)
			since, ok := given[op.Process][s.Key]
			if ok && polledAt < since {
				continue // it was polled before it was taken and given again
			}
			if ok && len(s.Records) > 0 {
				if least := leastPosition(commits[groupKey{op.Group, s.Key}], since, polledAt); s.Records[0].Offset < least {
					c.report("lost-commit", s.Key, "process %d of group %s polled offset %d, and position %d had been committed", op.Process, op.Group, s.Records[0].Offset, least)
				}
			}
			if op.Outcome == OK {
				delete(given[op.Process], s.Key)
			}
		}
		for k, position := range op.Committed {
			if c.happened(op.Op) {
				end[groupKey{op.Group, k}] = max(end[groupKey{op.Group, k}], position)
			}
		}
	}
	c.skipped(end, polled)
}

// newlyGiven are the partitions of an assignment that the member has not polled
// yet, with the time since which it has them. Of others it goes on where it is, also
// when the group has expelled it and it does not know.
func newlyGiven(assign *Op, before map[Key]int64) map[Key]int64 {
	given := map[Key]int64{}
	for k, next := range assign.Assign {
		if since, ok := before[k]; ok {
			given[k] = since
		} else if next == NoOffset {
			given[k] = assign.Invoked
		}
	}
	return given
}

// skipped finds what lies before the last position that a group committed and was
// not polled.
func (c *checker) skipped(end map[groupKey]int64, polled map[string]map[place]bool) {
	for g, position := range end {
		o := c.order(g.key)
		for _, offset := range o.offsets {
			for _, value := range o.at[offset] {
				at := place{g.key, value}
				if offset < position && !polled[g.group][at] && c.happened(c.writer[at]) {
					c.report("group-skip", g.key, "group %s committed position %d and never polled value %d at offset %d", g.group, position, value, offset)
				}
			}
		}
	}
}

// commits are those that may have happened. One that nobody was told of may take
// effect until the broker is down.
func (c *checker) commits() map[groupKey][]committing {
	var down []int64
	for i := range c.history {
		if c.history[i].Down {
			down = append(down, c.history[i].Completed)
		}
	}
	slices.Sort(down)
	all := map[groupKey][]committing{}
	for i := range c.history {
		op := &c.history[i]
		if op.Group == "" || op.Outcome == Fail {
			continue
		}
		to := op.Completed
		if op.Outcome == Info {
			to = math.MaxInt64
			if i, _ := slices.BinarySearch(down, op.Completed); i < len(down) {
				to = down[i]
			}
		}
		for k, position := range op.Committed {
			g := groupKey{op.Group, k}
			all[g] = append(all[g], committing{position, op.Invoked, to, c.happened(op)})
		}
	}
	return all
}

// leastPosition is the least that may have been the committed position some time
// between since and until. Any member of a group may commit for any partition, so a
// commit that waited in a client may come after that of the next owner, and the
// later one counts, not the higher one.
func leastPosition(commits []committing, since, until int64) int64 {
	// A commit was there no more if one that began after it was over by then.
	var begun int64
	for _, one := range commits {
		if one.did && one.to <= since {
			begun = max(begun, one.from)
		}
	}
	if begun == 0 {
		return 0 // perhaps there was none
	}
	least := int64(math.MaxInt64)
	for _, one := range commits {
		if one.from < until && one.to >= begun {
			least = min(least, one.position)
		}
	}
	return least
}

// moment is the beginning or the end of an operation.
type moment struct {
	*Op
	invoked bool
}

// byTime is every operation twice: where it began and where it ended.
func (c *checker) byTime() []moment {
	var all []moment
	for i := range c.history {
		all = append(all, moment{&c.history[i], true}, moment{&c.history[i], false})
	}
	at := func(m moment) int64 {
		if m.invoked {
			return m.Invoked
		}
		return m.Completed
	}
	slices.SortFunc(all, func(a, b moment) int { return cmp.Compare(at(a), at(b)) })
	return all
}

// transforms checks that each input was transformed exactly once: no input has
// two committed outputs, and none below a committed position has no output.
func (c *checker) transforms() {
	made := map[int64]place{} // source: output
	for at := range c.read {
		w := c.writer[at]
		if w == nil {
			continue
		}
		for _, s := range w.sends() {
			for _, r := range s.Records {
				if s.Key != at.key || r.Value != at.value || r.Source == 0 {
					continue
				}
				if other, ok := made[r.Source]; ok {
					a, b := min(other.value, at.value), max(other.value, at.value)
					c.report("reprocessed", Key{}, "input %d was made into both %d and %d", r.Source, a, b)
				}
				made[r.Source] = at
			}
		}
	}
	for i := range c.history {
		op := &c.history[i]
		if !c.happened(op) || len(op.sends()) == 0 {
			continue
		}
		for k, end := range op.Committed {
			o := c.order(k)
			for _, offset := range o.offsets {
				for _, value := range o.at[offset] {
					if _, ok := made[value]; offset < end && !ok && c.read[place{k, value}] {
						c.report("unprocessed", k, "input %d at offset %d has no output, and position %d was committed", value, offset, end)
					}
				}
			}
		}
	}
}
