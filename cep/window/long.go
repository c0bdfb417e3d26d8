package window

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
	"unsafe"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/reservoir"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/log/vfs"
)

// Long is the operator of one Config whose events are on disk: in memory it has the
// state of the windows' parts by key, and the events in zones as wide as events are out
// of order. What it answers is what Sliding answers, but for MaxEvents, which it does
// not need.
//
// A window of an event at t that begins so far back and ends so far back is bounded by
// two offsets; several windows share them. At each offset an iterator follows the end
// of the reservoir: it gives a row when the greatest time less the offset has reached
// it. The parts of a window hold exactly the rows that the iterator of its end has
// given and that of its begin has not. For the greatest time that is the window. For
// an event behind it the rows given too early stand in the zones of both offsets, by
// key: they are taken out and put back for as long as it is asked.
type Long struct {
	store
	cfg     Config
	extents []longExtent
	offsets []offset // from the nearest on
	rows    *reservoir.Reservoir
	fs      vfs.FS
	dir     string
	options reservoir.Options

	low     event.Time // no event to come asks for what only events before it see, but for late ones
	upTo    event.Time // the greatest time: iterators have given what is up to it less their offset
	lagging bool       // but for the row at hand, which is beyond
	entries int64

	saved  []savedLong // snapshots that may be restored, or be needed for it, the oldest first
	turn   uint64      // of the newest; see cep.Incremental
	born   []uint32    // keys since
	freeze longFreeze
	taking *taking // what Apply was given
	err    error   // of Freeze

	fixes []fix
	found []uint64 // words of rows that were looked for
}

// longExtent is an extent with and without the current event.
type longExtent struct {
	extent
	count        int // word of the cells with the number of events
	end, begin   int // offsets
	with, before bool
}

// offset is a distance from the greatest time.
type offset struct {
	back  time.Duration
	it    *reservoir.Iterator // nil where back is 0: its rows are the events that enter
	moves []move
	zone  zone
}

// move is what a row does where an offset gives it.
type move struct {
	extent int
	leaves bool
}

// fix is a row that an event sees otherwise than the iterators have it.
type fix struct {
	words []uint64
	leave bool
}

// CanBeLong reports whether Long can answer for an output: the window has a length, and
// its value follows from what can be taken out of it again.
func CanBeLong(o *Output) bool {
	switch o.Aggregate {
	case Min, Max, First, Last, Lag, Speed:
		return false
	}
	return o.Extent.Length > 0
}

// NewLong makes the operator. Its columns are at the positions that the batches'
// schema gives them. Until Keep names a directory it keeps its events in memory.
func NewLong(cfg Config, o reservoir.Options) (*Long, error) {
	if len(cfg.Outputs) == 0 {
		return nil, errors.New("window: no outputs")
	}
	l := &Long{cfg: cfg, options: o}
	var err error
	if l.store, err = newStore(cfg.Keys, cfg.Values); err != nil {
		return nil, err
	}
	for i := range cfg.Outputs {
		o := &cfg.Outputs[i]
		if err := cfg.checkOutput(o); err != nil {
			return nil, err
		}
		if !CanBeLong(o) {
			return nil, fmt.Errorf("window: %s of %+v needs its events in memory", o.Aggregate, o.Extent)
		}
		l.addOutput(*o)
	}
	l.addOffsets()
	l.cellsAt = recordWords + (len(l.offsets)+1)/2
	l.recStride = l.cellsAt + l.cells
	l.Keep(vfs.NewMem(0), "rows")
	return l, nil
}

// Keep says where the events are kept. It comes before the first event and before
// Restore; without Restore, what is in the directory is removed.
func (l *Long) Keep(fsys vfs.FS, dir string) {
	l.fs, l.dir = fsys, dir
	l.rows = reservoir.New(fsys, dir, l.stride, l.options)
	l.reset()
}

func (l *Long) addOutput(o Output) {
	of := o.Extent
	of.WithoutCurrent = false
	i := slices.IndexFunc(l.extents, func(x longExtent) bool { return x.Extent == of })
	if i < 0 {
		i = len(l.extents)
		l.extents = append(l.extents, longExtent{extent: extent{Extent: of}, count: l.cells})
		l.cells++
	}
	x := &l.extents[i]
	x.out = append(x.out, l.read(&x.extent, o, l.cfg.readsAlike(Entropy, of, o.Value)))
	x.before = x.before || beforeIt(&o)
	x.with = x.with || !beforeIt(&o)
	l.current = l.current || o.Aggregate.readsCurrent()
}

// beforeIt tells whether an output is read before the current event enters.
func beforeIt(o *Output) bool { return o.Extent.WithoutCurrent && o.Extent.Delay == 0 }

func (l *Long) addOffsets() {
	at := func(back time.Duration) *offset {
		i, found := slices.BinarySearchFunc(l.offsets, back, func(o offset, b time.Duration) int { return cmp.Compare(o.back, b) })
		if !found {
			l.offsets = slices.Insert(l.offsets, i, offset{back: back})
		}
		return &l.offsets[i]
	}
	for i := range l.extents {
		x := &l.extents[i]
		end := at(x.Delay)
		end.moves = append(end.moves, move{i, false})
		begin := at(x.Delay + x.Length)
		begin.moves = append(begin.moves, move{i, true})
	}
	for i := range l.offsets {
		for _, m := range l.offsets[i].moves {
			if m.leaves {
				l.extents[m.extent].begin = i
			} else {
				l.extents[m.extent].end = i
			}
		}
	}
}

func (l *Long) reset() {
	l.clear()
	l.low, l.upTo, l.entries = event.MinTime, event.MinTime, 0
	l.saved, l.turn, l.born, l.freeze, l.taking, l.err = nil, 0, nil, longFreeze{}, nil, nil
	for i := range l.offsets {
		o := &l.offsets[i]
		o.zone = zone{stride: l.stride}
		if o.back > 0 {
			o.it = l.rows.Iterator(0)
		}
	}
}

// Reach is how far back the windows reach.
func (l *Long) Reach() time.Duration { return l.offsets[len(l.offsets)-1].back }

// lasts name for each offset a key's latest row in its zone; see zone.
func (l *Long) lasts(id uint32) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(&l.recordAt(id)[recordWords])), len(l.offsets))
}

// Stats reports what the operator holds.
func (l *Long) Stats() cep.Stats {
	s := cep.Stats{Keys: int64(l.table.n), Events: l.entries, Bytes: l.bytes() + l.rows.Bytes(), Disk: l.rows.Disk()}
	for i := range l.offsets {
		s.Bytes += l.offsets[i].zone.bytes()
	}
	return s
}

// TopKeys are the n keys with the most events, most first, equal ones in the order
// of their hashes. It looks at every key.
func (l *Long) TopKeys(n int) []cep.KeyStats { return l.topKeys(n, l.keyBytes) }

// LookTop looks at some records for the n keys with the most events, and returns true
// with them when it has been at all: each as it was when it was looked at.
func (l *Long) LookTop(n, records int) ([]cep.KeyStats, bool) {
	return l.lookTop(n, records, l.keyBytes)
}

// keyBytes is the memory that a key is using, texts aside, which keys share.
func (l *Long) keyBytes(id uint32, r *record) int64 {
	bytes := l.nameBytes(r)
	for i := range l.extents {
		bytes += l.partBytes(id, l.extents[i].parts)
	}
	return bytes
}

// Process implements cep.Operator.
func (l *Long) Process(b *event.Batch, out *cep.Outbox) error { return l.batch(b, out, false) }

// Ask leaves in out what the windows hold for the events of another stream, whose
// fields Config.AskKeys hold the key. They do not enter.
func (l *Long) Ask(b *event.Batch, out *cep.Outbox) error { return l.batch(b, out, true) }

func (l *Long) batch(b *event.Batch, out *cep.Outbox, asking bool) error {
	if err := l.take(b, &l.cfg, asking); err != nil {
		return err
	}
	for first := 0; first < b.Len(); {
		end, err := l.group(b, out, first)
		if err != nil {
			return err
		}
		l.lookUp(b, first, end)
		l.touch(first, end)
		for row := first; row < end; row++ {
			if err := l.event(b, row, &l.ahead[row-first], out); err != nil {
				return err
			}
		}
		first = end
	}
	l.lagging = false
	return nil
}

// touch reads of each record what processing its row will read; see lookAhead.
func (l *Long) touch(first, end int) {
	var touched uint64
	for _, a := range l.ahead[:end-first] {
		if a.id != noRecord {
			words := l.recordAt(a.id)
			for i := recordWords; i < len(words); i += 8 {
				touched += words[i]
			}
		}
	}
	l.touched = touched
}

// Advance implements cep.Operator.
func (l *Long) Advance(t event.Time, _ *cep.Outbox) error {
	l.upTo = max(l.upTo, t)
	return l.bring(t)
}

// group moves the iterators to where the next rows of a batch ask for them, and says
// where these end.
func (l *Long) group(b *event.Batch, out *cep.Outbox, first int) (end int, err error) {
	end = min(first+aheadRows, b.Len())
	upTo := max(l.upTo, out.Low[end-1])
	for row := first; row < end; row++ {
		upTo = max(upTo, b.Time[row], out.Watermark[row]) // what a late event is told begins behind its watermark's window
	}
	far, err := l.far(upTo)
	if err != nil {
		return 0, err
	}
	if far { // perhaps a jump: what is due before it need not stand in zones for rows before it
		end = first + 1
		upTo = max(l.upTo, out.Low[first], b.Time[first], out.Watermark[first])
	}
	// The next watermark is not known behind the last row. A jump there would fill the
	// zones with all that is over: the one row can be asked for without.
	if l.lagging = far && end == b.Len() && b.Time[first] >= out.Watermark[first]; l.lagging {
		return end, l.bring(out.Low[first])
	}
	low := out.Low[end-1]
	if end < b.Len() {
		low = out.Low[end]
	}
	for row := first; row < end; row++ {
		low = min(low, max(b.Time[row], out.Low[row]))
	}
	l.upTo = upTo
	return end, l.bring(low)
}

// far reports whether an iterator has a whole chunk to read up to a time.
func (l *Long) far(upTo event.Time) (bool, error) {
	for i := range l.offsets {
		if o := &l.offsets[i]; o.it != nil {
			_, whole, err := o.it.Due(upTo.Sub(o.back))
			if whole || err != nil {
				return true, err
			}
		}
	}
	return false, nil
}

// bring takes the rows from the iterators that are due at upTo. No event to come is
// before low, but for late ones.
func (l *Long) bring(low event.Time) error {
	l.low = max(l.low, low)
	for i := range l.offsets {
		l.narrow(i) // makes room for what is due
		if err := l.fetch(i); err != nil {
			return fmt.Errorf("window: %w", err)
		}
		l.narrow(i)
	}
	if len(l.saved) > 0 { // snapshots need rows that are over
		return l.err
	}
	return errors.Join(l.err, l.rows.Trim(l.needed()))
}

// narrow takes out of an offset's zone what no event to come sees otherwise.
func (l *Long) narrow(i int) {
	o := &l.offsets[i]
	for z := &o.zone; z.n() > 0 && z.time(z.first) <= l.low.Sub(o.back); z.pop() {
		if i == len(l.offsets)-1 {
			l.leave(z.row(z.first).key, z.wordsOf(z.first))
		}
	}
}

// needed is the first row that is still asked for.
func (l *Long) needed() int64 {
	o := &l.offsets[len(l.offsets)-1]
	if o.zone.n() > 0 {
		return o.zone.row(o.zone.first).at
	}
	return o.it.Row()
}

// readMost is how many rows are read ahead of.
const readMost = 64

// fetch takes the rows from an offset's iterator that are due.
func (l *Long) fetch(i int) error {
	o := &l.offsets[i]
	if o.it == nil {
		return nil
	}
	for {
		rows, whole, err := o.it.Due(l.upTo.Sub(o.back))
		if err != nil {
			return err
		}
		at := o.it.Row()
		for from := 0; from < len(rows.Keys); from += readMost {
			keys := rows.Keys[from:min(from+readMost, len(rows.Keys))]
			var touched uint64
			for _, id := range keys {
				touched += l.recordAt(id)[recordWords+i/2] + l.cellsOf(id)[l.extents[o.moves[0].extent].count]
			}
			l.touched = touched
			for j, id := range keys {
				n := from + j
				l.pass(i, id, at+int64(n), rows.Words[n*l.stride:(n+1)*l.stride])
			}
		}
		o.it.Skip(len(rows.Keys))
		if !whole {
			return nil
		}
	}
}

// pass is told of a row that an offset gives.
func (l *Long) pass(i int, id uint32, at int64, words []uint64) {
	o := &l.offsets[i]
	l.touchKey(id)
	cells := l.cellsOf(id)
	for _, m := range o.moves {
		l.count(id, cells, &l.extents[m.extent], words, m.leaves)
	}
	last := i == len(l.offsets)-1
	switch {
	case event.Time(words[0]) > l.low.Sub(o.back), last && o.zone.n() > 0: // rows leave in their order
		o.zone.push(at, id, words, &l.lasts(id)[i])
	case last:
		l.leave(id, words)
	}
}

// count takes a row into a window, or out.
func (l *Long) count(id uint32, cells []uint64, x *longExtent, words []uint64, leaves bool) {
	if leaves {
		cells[x.count]--
	} else {
		cells[x.count]++
	}
	l.apply(cells, words, id, x.parts, leaves)
}

// leave is told of a row that no event can ask for any more.
func (l *Long) leave(id uint32, words []uint64) {
	l.entries--
	for _, value := range l.texts {
		if l.has(words, value) {
			l.dict.release(uint32(words[1+value]))
		}
	}
	l.touchKey(id)
	if r := l.rec(id); r.n > 1 {
		r.n--
	} else {
		l.forget(id, r)
	}
}

// forget gives everything of a key back.
func (l *Long) forget(id uint32, r *record) {
	r.n = 0
	cells := l.cellsOf(id)
	for i := range l.extents {
		l.clearParts(id, cells, &l.extents[i].extent)
	}
	l.removeRecord(id, r)
}

func (l *Long) event(b *event.Batch, row int, a *ahead, out *cep.Outbox) error {
	if a.keyless {
		emitNothing(l.cfg.Outputs, out)
		return nil
	}
	q := longQuery{query: query{t: b.Time[row], late: out.Late[row] || b.Time[row] < out.Low[row], row: row}, watermark: max(out.Watermark[row], out.Low[row])}
	id := l.idOf(b, row, a)
	enters := !q.late && !l.asking && (l.cfg.Filter == nil || l.cfg.Filter(b, row))
	if l.current {
		l.loadNow(b, row)
	}
	if err := l.emit(id, &q, true, out); err != nil {
		return err
	}
	if enters {
		if id == noRecord {
			k, _ := l.keyOf(b, row)
			id = l.addRecord(a.hash, k)
			clear(l.lasts(id))
			l.create(id)
		}
		l.load(b, row)
		if err := l.enter(id, q.t, out.Low[row]); err != nil {
			return fmt.Errorf("window: %w", err)
		}
		if q.entered = true; l.current {
			l.loadNow(b, row) // its texts have words now
		}
	}
	return l.emit(id, &q, false, out)
}

// enter takes in the event in scratch.
func (l *Long) enter(id uint32, t, low event.Time) error {
	l.scratch[0] = uint64(t)
	at := l.rows.End()
	if err := l.rows.Append(id, l.scratch, low); err != nil {
		return err
	}
	l.touchKey(id)
	l.rec(id).n++
	l.entries++
	near := &l.offsets[0]
	if near.it == nil {
		l.pass(0, id, at, l.scratch)
		near = &l.offsets[1]
	}
	if t > l.upTo.Sub(near.back) {
		return nil
	}
	for i := range l.offsets { // it is due where rows at hand are further apart than that
		if err := l.fetch(i); err != nil {
			return err
		}
	}
	return nil
}
