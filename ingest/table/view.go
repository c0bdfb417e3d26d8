package table

import (
	"bytes"
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/weirstream/weir/ingest/event"
)

// seed keeps what a stranger writes into a list from slowing it down. Nothing that
// leaves a View depends on it.
var seed = maphash.MakeSeed()

// segmentEntries is about how many entries a segment holds: a change copies one.
const segmentEntries = 256

// Table is a table as of one View. It is immutable. A nil Table is empty.
type Table struct {
	def      *Definition
	segments []*segment // by the high bits of the hash; a power of two
	shift    uint
	count    int64
	bytes    int64 // of the entries
}

func newTable(d *Definition) *Table { return &Table{def: d, segments: make([]*segment, 1), shift: 64} }

// Definition is what the table is.
func (t *Table) Definition() *Definition { return t.def }

// Len is the number of entries, expired ones included.
func (t *Table) Len() int64 {
	if t == nil {
		return 0
	}
	return t.count
}

// Bytes is the size of the entries.
func (t *Table) Bytes() int64 {
	if t == nil {
		return 0
	}
	return t.bytes
}

func (t *Table) segment(hash uint64) int {
	if t.shift == 64 {
		return 0
	}
	return int(hash >> t.shift)
}

// Find is the entry of a key, by its canonical bytes, that an event of time at
// sees. It allocates nothing.
func (t *Table) Find(key []byte, at event.Time) (Row, bool) {
	r, found := t.Get(key)
	if !found || at >= expires(r.e) && expires(r.e) != event.MaxTime {
		return Row{}, false
	}
	return r, true
}

// Get is the entry of a key, expired or not.
func (t *Table) Get(key []byte) (Row, bool) {
	if t == nil {
		return Row{}, false
	}
	hash := maphash.Bytes(seed, key)
	s := t.segments[t.segment(hash)]
	if s == nil {
		return Row{}, false
	}
	_, e := s.find(uint32(hash), key, len(t.def.Columns))
	return Row{e, t.def}, e != nil
}

// Page is the entries whose key comes after a key, in the order of their keys, at
// most limit, of those that keep accepts. It reads every entry.
func (t *Table) Page(after []byte, limit int, keep func(Row) bool) []Row {
	if t == nil || limit <= 0 {
		return nil
	}
	h := pageHeap{columns: len(t.def.Columns)}
	for _, s := range t.segments {
		s.each(func(e []byte) {
			key := entryKey(e, h.columns)
			switch {
			case after != nil && bytes.Compare(key, after) <= 0:
			case len(h.rows) == limit && bytes.Compare(key, entryKey(h.rows[0].e, h.columns)) >= 0:
			case keep != nil && !keep(Row{e, t.def}):
			case len(h.rows) == limit:
				h.rows[0] = Row{e, t.def}
				heap.Fix(&h, 0)
			default:
				heap.Push(&h, Row{e, t.def})
			}
		})
	}
	slices.SortFunc(h.rows, func(a, b Row) int { return bytes.Compare(entryKey(a.e, h.columns), entryKey(b.e, h.columns)) })
	return h.rows
}

// KeyBytes are the canonical bytes of the row's key.
func (r Row) KeyBytes() []byte { return entryKey(r.e, len(r.def.Columns)) }

// All calls f for every entry, in no order that means anything.
func (t *Table) All(f func(Row)) {
	if t == nil {
		return
	}
	for _, s := range t.segments {
		s.each(func(e []byte) { f(Row{e, t.def}) })
	}
}

// pageHeap has the greatest key at its top.
type pageHeap struct {
	rows    []Row
	columns int
}

func (h *pageHeap) Len() int { return len(h.rows) }
func (h *pageHeap) Less(i, j int) bool {
	return bytes.Compare(entryKey(h.rows[i].e, h.columns), entryKey(h.rows[j].e, h.columns)) > 0
}
func (h *pageHeap) Swap(i, j int) { h.rows[i], h.rows[j] = h.rows[j], h.rows[i] }
func (h *pageHeap) Push(x any)    { h.rows = append(h.rows, x.(Row)) }
func (h *pageHeap) Pop() any {
	last := len(h.rows) - 1
	r := h.rows[last]
	h.rows = h.rows[:last]
	return r
}

// View is all tables before an offset of TopicTables. It is immutable.
type View struct {
	seq    int64
	time   event.Time // of the newest change
	tables []*Table   // by name
}

var emptyView = &View{time: event.MinTime}

// Empty is the View before the first change.
func Empty() *View { return emptyView }

// Seq is the offset of TopicTables before which all changes are in the View.
func (v *View) Seq() int64 { return v.seq }

// Time is when the newest change was made, MinTime where there is none.
func (v *View) Time() event.Time { return v.time }

func (v *View) index(name string) (int, bool) {
	return slices.BinarySearchFunc(v.tables, name, func(t *Table, name string) int { return cmp.Compare(t.def.Name, name) })
}

// Table is the table or list of a name, nil where there is none.
func (v *View) Table(name string) *Table {
	if i, found := v.index(name); found {
		return v.tables[i]
	}
	return nil
}

// Tables are all tables and lists, by name.
func (v *View) Tables() []*Table { return v.tables }

// Errors of changes, wrapped with what they are about.
var (
	ErrUnknown  = errors.New("there is no such table or list")
	ErrFull     = errors.New("the table is full")
	ErrTooLarge = errors.New("the entry is too large")
	ErrShape    = errors.New("the entries there do not fit the new fields")
)

// edit makes the next View: tables and segments are copied when they are first
// written to.
type edit struct {
	tables []*Table
	mine   map[string]*tableEdit
	time   event.Time
	buf    []byte
	key    []byte
	// changed counts the changes that made a difference.
	changed int
}

type tableEdit struct {
	*Table
	owned []bool // by segment
}

func (v *View) edit() *edit {
	return &edit{tables: slices.Clone(v.tables), mine: map[string]*tableEdit{}, time: v.time}
}

// view is the result, as of an offset. The edit is over.
func (e *edit) view(seq int64) *View { return &View{seq: seq, time: e.time, tables: e.tables} }

func (e *edit) find(name string) *Table {
	if i, found := (&View{tables: e.tables}).index(name); found {
		return e.tables[i]
	}
	return nil
}

func (e *edit) set(name string, t *Table) {
	i, found := (&View{tables: e.tables}).index(name)
	switch {
	case found && t == nil:
		e.tables = slices.Delete(e.tables, i, i+1)
	case found:
		e.tables[i] = t
	case t != nil:
		e.tables = slices.Insert(e.tables, i, t)
	}
}

// writable is a table's copy.
func (e *edit) writable(name string) (*tableEdit, error) {
	if t := e.mine[name]; t != nil {
		return t, nil
	}
	t := e.find(name)
	if t == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknown, clip(name))
	}
	c := *t
	c.segments = slices.Clone(t.segments)
	return e.own(name, &c, false), nil
}

func (e *edit) own(name string, t *Table, all bool) *tableEdit {
	te := &tableEdit{Table: t, owned: make([]bool, len(t.segments))}
	for i := range te.owned {
		te.owned[i] = all
	}
	e.mine[name] = te
	e.set(name, t)
	return te
}

func (t *tableEdit) writableSegment(i int) *segment {
	if !t.owned[i] || t.segments[i] == nil {
		t.segments[i] = t.segments[i].clone()
		t.owned[i] = true
	}
	return t.segments[i]
}

// apply makes one change. What it does depends on the change and the tables only.
func (e *edit) apply(c *Change) error {
	var err error
	switch c.Op {
	case OpPut:
		err = e.put(c)
	case OpRemove:
		err = e.remove(c)
	case OpClear:
		err = e.clear(c.Table)
	case OpDeclare:
		err = e.declare(c.Definition)
	case OpDrop:
		if e.find(c.Table) == nil {
			return fmt.Errorf("%w: %q", ErrUnknown, clip(c.Table))
		}
		e.set(c.Table, nil)
		delete(e.mine, c.Table)
		e.changed++
	}
	e.time = max(e.time, c.Entry.Since)
	return err
}

func (e *edit) put(c *Change) error {
	t, err := e.writable(c.Table)
	if err != nil {
		return err
	}
	columns := len(t.def.Columns)
	e.key = AppendKey(e.key[:0], t.def.Key, c.Entry.Key)
	hash := maphash.Bytes(seed, e.key)
	var fits bool
	if e.buf, fits = appendEntry(e.buf[:0], uint32(hash), e.key, &c.Entry); !fits {
		return fmt.Errorf("%s: %w: it has at most %d bytes", c.Table, ErrTooLarge, EntryMax)
	}
	at := t.segment(hash)
	if s := t.segments[at]; s != nil {
		if _, old := s.find(uint32(hash), e.key, columns); old != nil {
			if sameButSince(old, e.buf) {
				return nil
			}
			s = t.writableSegment(at)
			slot, old := s.find(uint32(hash), e.key, columns)
			t.bytes += int64(len(e.buf) - len(old))
			s.replace(slot, old, e.buf)
			e.changed++
			return nil
		}
	}
	t.writableSegment(at).insert(e.buf)
	t.count++
	t.bytes += int64(len(e.buf))
	e.changed++
	if t.count > int64(len(t.segments))*segmentEntries {
		t.grow()
	}
	return nil
}

// sameButSince tells that a change changes nothing but when it was made.
func sameButSince(a, b []byte) bool {
	return len(a) == len(b) && bytes.Equal(a[:atSince], b[:atSince]) && bytes.Equal(a[atSince+8:], b[atSince+8:])
}

func (e *edit) remove(c *Change) error {
	t, err := e.writable(c.Table)
	if err != nil {
		return err
	}
	e.key = AppendKey(e.key[:0], t.def.Key, c.Entry.Key)
	hash := maphash.Bytes(seed, e.key)
	at, columns := t.segment(hash), len(t.def.Columns)
	s := t.segments[at]
	if s == nil {
		return nil
	}
	if _, old := s.find(uint32(hash), e.key, columns); old == nil {
		return nil
	}
	s = t.writableSegment(at)
	slot, old := s.find(uint32(hash), e.key, columns)
	t.count--
	t.bytes -= int64(len(old))
	s.remove(slot, old)
	e.changed++
	return nil
}

func (e *edit) clear(name string) error {
	t := e.find(name)
	if t == nil {
		return fmt.Errorf("%w: %q", ErrUnknown, clip(name))
	}
	if t.count > 0 {
		e.own(name, newTable(t.def), true)
		e.changed++
	}
	return nil
}

// declare makes a table, or gives it other fields. Entries stay where their key is
// the same and every field that is new is optional; else a table that has a source
// begins empty, and one without is not changed.
func (e *edit) declare(d *Definition) error {
	old := e.find(d.Name)
	switch {
	case old == nil:
		e.own(d.Name, newTable(d), true)
	case old.def.equal(d):
		return nil
	case old.def.SameShape(d):
		t, err := e.writable(d.Name)
		if err != nil {
			return err
		}
		t.def = d
	case old.count == 0 || d.Source != "":
		e.own(d.Name, newTable(d), true)
	default:
		return e.migrate(old, d)
	}
	e.changed++
	return nil
}

// withClears puts a clear before each declaration that begins a table of entries
// anew, so that who reads the changes alone sees them go.
func (e *edit) withClears(changes []Change) []Change {
	for i := 0; i < len(changes); i++ {
		d := changes[i].Definition
		if changes[i].Op != OpDeclare {
			continue
		}
		changes[i].Table = d.Name
		if old := e.find(d.Name); old != nil && old.count > 0 && d.Source != "" && !old.def.SameShape(d) {
			changes = slices.Insert(slices.Clone(changes), i, Change{Op: OpClear, Table: d.Name})
			i++
		}
	}
	return changes
}

func (e *edit) migrate(old *Table, d *Definition) error {
	if !old.def.sameKey(d) {
		return fmt.Errorf("%s: %w: its key is another; remove its entries first", d.Name, ErrShape)
	}
	from := make([]int, len(d.Columns))
	for i, c := range d.Columns {
		from[i] = old.def.Column(c.Name)
		switch {
		case from[i] < 0 && !c.Optional:
			return fmt.Errorf("%s: %w: they have no %s; make it optional", d.Name, ErrShape, c.Name)
		case from[i] >= 0 && !old.def.Columns[from[i]].Type.Equal(c.Type):
			return fmt.Errorf("%s: %w: %s is a %s", d.Name, ErrShape, c.Name, old.def.Columns[from[i]].Type)
		case from[i] >= 0 && old.def.Columns[from[i]].Optional && !c.Optional:
			return fmt.Errorf("%s: %w: %s is optional", d.Name, ErrShape, c.Name)
		}
	}
	e.own(d.Name, newTable(d), true)
	var err error
	old.All(func(r Row) {
		c := Change{Op: OpPut, Table: d.Name, Entry: r.Entry()}
		columns := c.Entry.Columns
		c.Entry.Columns = make([]Value, len(from))
		for i, j := range from {
			c.Entry.Columns[i].Null = true
			if j >= 0 {
				c.Entry.Columns[i] = columns[j]
			}
		}
		err = cmp.Or(err, e.put(&c))
	})
	return err
}

// grow doubles the segments.
func (t *tableEdit) grow() {
	n := 2 * len(t.segments)
	next := &Table{def: t.def, segments: make([]*segment, n), shift: t.shift - 1, count: t.count, bytes: t.bytes}
	for _, s := range t.segments {
		s.each(func(e []byte) {
			at := next.segment(maphash.Bytes(seed, entryKey(e, len(t.def.Columns))))
			if next.segments[at] == nil {
				next.segments[at] = &segment{}
			}
			next.segments[at].insert(e)
		})
	}
	*t.Table = *next
	t.owned = make([]bool, n)
	for i := range t.owned {
		t.owned[i] = true
	}
}

// checkLimits tells which table has more than it may have.
func (e *edit) checkLimits() error {
	var full []string
	for name, t := range e.mine {
		d := t.def
		switch {
		case t.count > d.entriesMax():
			full = append(full, fmt.Sprintf("%s %s would have %d entries; max_entries is %d", d.Kind(), name, t.count, d.entriesMax()))
		case t.bytes > d.bytesMax():
			full = append(full, fmt.Sprintf("%s %s would have %d bytes; max_bytes is %d", d.Kind(), name, t.bytes, d.bytesMax()))
		}
	}
	if len(full) == 0 {
		return nil
	}
	slices.Sort(full)
	return fmt.Errorf("%w: %s", ErrFull, strings.Join(full, "; "))
}
