package window

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// HoppingConfig is windows of one length that begin at fixed times: every Hop from
// Offset on, counted from the Unix epoch in both directions. One holds the events with
// a time in [begin, begin+Size). With a Hop of Size, or none given, each event is in
// one window (tumbling); with a smaller one in several, with a greater one in none
// perhaps.
type HoppingConfig struct {
	Keys     []int                              // indexes of the key fields; none: all events have one key
	KeyTypes []event.Type                       // of the key fields
	Filter   func(b *event.Batch, row int) bool // nil: every event
	Values   []Value                            // what is aggregated
	Size     time.Duration
	Hop      time.Duration
	Offset   time.Duration
	// Outputs are the columns of a result behind begin, end and key. Slot and Extent
	// say nothing; Lag, ZScore and IsNew, which are about a current event, are refused.
	Outputs []Output
	Slot    int // of cep.Outbox.Results
}

// panesMost bounds the panes of a window.
const panesMost = 1 << 16

// Hopping is the operator of one HoppingConfig. A window closes behind the row, or
// idle mark, that brings the lowest watermark to its end; then there is one result for
// each key that has events in it.
//
// Of the events it keeps the state of aggregates alone, by key and pane: panes are as
// long as Size and Hop allow, and all windows over a pane share it (Li et al., "No Pane,
// No Gain", SIGMOD Record 34(1), 2005). A window of several panes is put together when
// it closes.
type Hopping struct {
	store
	cfg     HoppingConfig
	extent  extent
	pane    time.Duration
	perHop  int64 // panes from one window's begin to the next one's
	perSize int64 // panes of a window

	panes   []*pane    // in their order
	low     event.Time // windows that end there or before are closed
	missed  int64      // events whose windows were closed
	sum     []uint64   // cells of the window at hand
	paneKey []byte
	row     []byte
}

// pane is the events of a time, by key.
type pane struct {
	index   int64
	records []uint32 // of the keys, in the order of their first events in the log
}

const (
	paneBytes = 8 // of a record's key: the pane, behind the key
	sumID     = noRecord - 1
	countAt   = 0 // the word of the cells with the number of events
)

// NewHopping makes the operator. Its columns are at the positions that the batches'
// schema gives them.
func NewHopping(cfg HoppingConfig) (*Hopping, error) {
	if cfg.Hop == 0 {
		cfg.Hop = cfg.Size
	}
	switch {
	case cfg.Size <= 0 || cfg.Hop <= 0:
		return nil, fmt.Errorf("window: a size of %v and a hop of %v; expected above 0", cfg.Size, cfg.Hop)
	case cfg.Size > maxSpan || cfg.Hop > maxSpan:
		return nil, fmt.Errorf("window: a size or hop above %v", maxSpan)
	case len(cfg.Outputs) == 0:
		return nil, errors.New("window: no outputs")
	case len(cfg.KeyTypes) != len(cfg.Keys):
		return nil, fmt.Errorf("window: %d types of %d key fields", len(cfg.KeyTypes), len(cfg.Keys))
	}
	cfg.Offset %= cfg.Hop
	h := &Hopping{cfg: cfg, extent: extent{Extent: Extent{Length: cfg.Size}}, pane: gcd(cfg.Size, cfg.Hop)}
	if cfg.Hop > cfg.Size {
		h.pane = cfg.Hop // the rest of it is no window's
	}
	h.perHop, h.perSize = int64(cfg.Hop/h.pane), max(1, int64(cfg.Size/h.pane))
	if h.perSize > panesMost {
		return nil, fmt.Errorf("window: a size of %v with a hop of %v has %d panes where %d are the most; expected a hop that divides the size", cfg.Size, cfg.Hop, h.perSize, panesMost)
	}
	var err error
	if h.store, err = newStore(cfg.Keys, cfg.Values); err != nil {
		return nil, err
	}
	h.cells = countAt + 1
	for _, o := range cfg.Outputs {
		if err := h.addOutput(o); err != nil {
			return nil, err
		}
	}
	h.cellsAt = recordWords
	h.recStride = h.cellsAt + h.cells
	h.sum = make([]uint64, h.cells)
	h.reset()
	return h, nil
}

func gcd(a, b time.Duration) time.Duration {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (h *Hopping) addOutput(o Output) error {
	o.Extent = h.extent.Extent
	c := Config{Values: h.cfg.Values}
	if err := c.checkOutput(&o); err != nil {
		return err
	}
	if o.Aggregate == Lag || o.Aggregate.readsCurrent() {
		return fmt.Errorf("window: %s is about a current event, and a window that closes has none", o.Aggregate)
	}
	entropy := slices.ContainsFunc(h.cfg.Outputs, func(other Output) bool { return other.Aggregate == Entropy && other.Value == o.Value })
	r := h.read(&h.extent, o, entropy)
	if kind, words, ok := keptPart(o.Aggregate); ok {
		r.kept = h.keptPart(kind, words, &o)
	}
	for i := range h.extent.parts {
		p := &h.extent.parts[i]
		p.holds = h.values[p.value].isText() && (p.kind == setPart || p.kind == firstPart || p.kind == lastPart)
	}
	h.extent.out = append(h.extent.out, r)
	return nil
}

func (h *Hopping) keptPart(kind partKind, words int, o *Output) int {
	value2 := 0
	if kind == placesPart {
		value2 = o.Value2
	}
	for _, p := range h.extent.parts {
		if p.kind == kind && p.value == o.Value && p.value2 == value2 {
			return p.at
		}
	}
	p := part{kind: kind, value: o.Value, value2: value2, at: h.cells, words: words}
	h.cells += words
	h.extent.parts = append(h.extent.parts, p)
	return p.at
}

func (h *Hopping) reset() {
	h.clear()
	h.panes, h.low, h.missed = nil, event.MinTime, 0
}

// ResultTypes are the types of a result's columns: the window's begin and end, the key
// fields, the outputs.
func (h *Hopping) ResultTypes() []event.Type {
	types := append([]event.Type{{Kind: event.Timestamp}, {Kind: event.Timestamp}}, h.cfg.KeyTypes...)
	for _, o := range h.extent.out {
		types = append(types, ResultType(o.Aggregate, o.typ))
	}
	return types
}

// Missed is how many events came when all windows that they belong to were closed.
func (h *Hopping) Missed() int64 { return h.missed }

// Stats reports what the operator holds: a key counts once for each pane with events
// of it, as an event does.
func (h *Hopping) Stats() cep.Stats {
	return cep.Stats{Keys: int64(h.table.n), Events: int64(h.table.n),
		Bytes: int64(len(h.table.slots))*8 + int64(len(h.records))<<recordShift*int64(8*h.recStride) + h.arena.held*8 + h.dict.bytes()}
}

// Process implements cep.Operator.
func (h *Hopping) Process(b *event.Batch, out *cep.Outbox) error {
	for _, k := range h.cfg.Keys {
		if !b.Cols[k].Present() {
			return errors.New("window: a key's column was not decoded")
		}
	}
	for row := range b.Len() {
		h.close(out.Low[row], row-1, out)
		h.event(b, row)
	}
	return nil
}

// Advance implements cep.Operator.
func (h *Hopping) Advance(t event.Time, out *cep.Outbox) error {
	h.close(t, out.Last(), out)
	return nil
}

// paneOf is the pane of a time, false where it is in no window.
func (h *Hopping) paneOf(t event.Time) (int64, bool) {
	since := t.Sub(h.cfg.Offset)
	p := floorDiv(int64(since), int64(h.pane))
	return p, h.cfg.Hop <= h.cfg.Size || int64(since)-p*int64(h.pane) < int64(h.cfg.Size)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// end is where window i ends; at the ends of time, later than any watermark.
func (h *Hopping) end(i int64) event.Time {
	hop := int64(h.cfg.Hop)
	begin := i * hop
	if begin/hop != i {
		begin = math.MaxInt64
		if i < 0 {
			begin = math.MinInt64
		}
	}
	return event.Time(begin).Add(h.cfg.Offset).Add(h.cfg.Size)
}

// event takes an event into its pane, where a window over that is open.
func (h *Hopping) event(b *event.Batch, row int) {
	t := b.Time[row]
	p, in := h.paneOf(t)
	if !in || h.cfg.Filter != nil && !h.cfg.Filter(b, row) {
		return
	}
	k, ok := h.keyOf(b, row)
	if !ok {
		return
	}
	if h.end(floorDiv(p, h.perHop)) <= h.low {
		h.missed++
		return
	}
	h.paneKey = binary.BigEndian.AppendUint64(append(h.paneKey[:0], k...), uint64(p))
	hash := hashOf(h.paneKey)
	id, found := h.find(hash, h.paneKey)
	if !found {
		id = h.add(p, hash, h.paneKey)
	}
	h.load(b, row)
	h.scratch[0] = uint64(t)
	cells := h.cellsOf(id)
	cells[countAt]++
	h.apply(cells, h.scratch, id, h.extent.parts, false)
	for _, value := range h.texts {
		if h.has(h.scratch, value) {
			h.dict.release(uint32(h.scratch[1+value])) // what load held
		}
	}
}

// add makes the record of a key in a pane.
func (h *Hopping) add(p int64, hash uint32, key []byte) uint32 {
	at, found := slices.BinarySearchFunc(h.panes, p, func(one *pane, p int64) int { return compareInt(one.index, p) })
	if !found {
		h.panes = slices.Insert(h.panes, at, &pane{index: p})
	}
	id := h.addRecord(hash, key)
	h.panes[at].records = append(h.panes[at].records, id)
	return id
}

func compareInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// close brings the watermark to low: it emits the windows that end there or before, in
// the order of their ends. The results are behind a row.
func (h *Hopping) close(low event.Time, after int, out *cep.Outbox) {
	if low <= h.low {
		return
	}
	var rows *cep.Rows
	for len(h.panes) > 0 {
		i := h.firstOpen()
		end := h.end(i)
		if end > low {
			break
		}
		if rows == nil {
			rows = out.Result(h.cfg.Slot, h.ResultTypes())
		}
		h.emit(i, after, rows)
		h.low = end
		h.forget()
	}
	h.low = low
}

// firstOpen is the first window that is not closed of those over the first pane.
func (h *Hopping) firstOpen() int64 {
	// The first that the pane is in: the one before begins so long before that it ends.
	i := floorDiv(h.panes[0].index-h.perSize, h.perHop) + 1
	for h.end(i) <= h.low {
		i++
	}
	return i
}

// forget drops the panes of which all windows are closed.
func (h *Hopping) forget() {
	for len(h.panes) > 0 && h.end(floorDiv(h.panes[0].index, h.perHop)) <= h.low {
		for _, id := range h.panes[0].records {
			h.drop(id)
		}
		h.panes[0] = nil
		h.panes = h.panes[1:]
	}
}

func (h *Hopping) drop(id uint32) {
	cells := h.cellsOf(id)
	for i := range h.extent.parts {
		p := &h.extent.parts[i]
		h.letGo(p, cells[p.at:p.at+p.words])
	}
	h.clearParts(id, cells, &h.extent)
	h.removeRecord(id, h.rec(id))
}

// emit appends the results of a window: keys are in the order of the first pane that
// has events of them and, of one pane, of these events in the log.
func (h *Hopping) emit(window int64, after int, rows *cep.Rows) {
	first := window * h.perHop
	from, _ := slices.BinarySearchFunc(h.panes, first, func(one *pane, p int64) int { return compareInt(one.index, p) })
	to := from
	for to < len(h.panes) && h.panes[to].index < first+h.perSize {
		to++
	}
	for i := from; i < to; i++ {
		for _, id := range h.panes[i].records {
			if h.perSize == 1 {
				h.result(window, after, id, id, h.cellsOf(id), rows)
			} else if h.gather(id, h.panes[from:i], h.panes[i:to]) {
				h.result(window, after, id, sumID, h.sum, rows)
				h.clearParts(sumID, h.sum, &h.extent)
			}
		}
	}
}

// gather puts the panes of a key together in h.sum, from the one of a record on; false
// where the key has events in an earlier one.
func (h *Hopping) gather(id uint32, before, panes []*pane) bool {
	h.paneKey = h.appendKey(h.paneKey[:0], h.rec(id))
	key := len(h.paneKey) - paneBytes
	in := func(p *pane) (uint32, bool) {
		h.paneKey = binary.BigEndian.AppendUint64(h.paneKey[:key], uint64(p.index))
		return h.find(hashOf(h.paneKey), h.paneKey)
	}
	for _, p := range before {
		if _, found := in(p); found {
			return false
		}
	}
	clear(h.sum)
	for _, p := range panes {
		if one, found := in(p); found {
			cells := h.cellsOf(one)
			h.sum[countAt] += cells[countAt]
			h.merge(h.sum, sumID, cells, one, h.extent.parts)
		}
	}
	return true
}

// result appends one result, of the key of a record.
func (h *Hopping) result(window int64, after int, key, id uint32, cells []uint64, rows *cep.Rows) {
	rows.After = append(rows.After, after)
	end := h.end(window)
	rows.Cols[0].AppendInt64(int64(end.Sub(h.cfg.Size)))
	rows.Cols[1].AppendInt64(int64(end))
	h.row = h.appendKey(h.row[:0], h.rec(key))
	h.appendKeyFields(h.row[:len(h.row)-paneBytes], rows.Cols[2:])
	w := tally{&h.store, id, cells, int64(cells[countAt])}
	cols := rows.Cols[2+len(h.cfg.Keys):]
	for i := range h.extent.out {
		if o := &h.extent.out[i]; !w.appendKept(o, h.cfg.Size, &cols[i]) {
			rows.Faults = append(rows.Faults, cep.Fault{Slot: 2 + len(h.cfg.Keys) + i, Row: len(rows.After) - 1, Err: ErrOverflow})
		}
	}
}

// appendKeyFields appends what keyOf made a key of.
func (h *Hopping) appendKeyFields(key []byte, cols []event.Column) {
	for i, t := range h.cfg.KeyTypes {
		switch t.Kind {
		case event.String, event.Bytes:
			n, at := uint64(len(key)), 0
			if len(h.cfg.Keys) > 1 {
				n, at = binary.Uvarint(key)
			}
			cols[i].AppendBytes(key[at : at+int(n)])
			key = key[at+int(n):]
		case event.Bool:
			cols[i].AppendBool(key[0] != 0)
			key = key[1:]
		case event.Double:
			cols[i].AppendDouble(math.Float64frombits(binary.LittleEndian.Uint64(key)))
			key = key[8:]
		default:
			cols[i].AppendInt64(int64(binary.LittleEndian.Uint64(key)))
			key = key[8:]
		}
	}
}

// appendKept appends the value of an output of a window of some length whose events are
// not held; false where it does not fit its type.
func (w *tally) appendKept(o *read, length time.Duration, f *event.Column) bool {
	switch o.Aggregate {
	case Min, Max, First, Last:
		c := w.cells[o.kept:]
		if c[0] == 0 {
			f.AppendNull()
		} else if o.Aggregate == Min || o.Aggregate == Max {
			w.s.appendValue(f, o.typ.Kind, c[1])
		} else {
			w.s.appendValue(f, o.typ.Kind, c[2])
		}
	case Speed:
		v, ok := speedBetweenPlaces(w.cells[o.kept : o.kept+placesWords])
		appendDouble(f, v, ok)
	default:
		return w.appendTo(o, length, f)
	}
	return true
}

// Open appends to rows what the windows that are not closed hold now, in the order in
// which they will close: for views, which show a window while it fills. The results
// are behind a row.
func (h *Hopping) Open(after int, rows *cep.Rows) {
	if len(h.panes) == 0 {
		return
	}
	last := floorDiv(h.panes[len(h.panes)-1].index, h.perHop)
	for i := h.firstOpen(); i <= last; i++ {
		h.emit(i, after, rows)
	}
}
