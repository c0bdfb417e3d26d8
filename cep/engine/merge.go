package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/sink"
)

// merger writes the rows of a group's sources into keyed streams, whose order is then
// decided. Of rows that are there it takes the oldest first, of equal ones by topic,
// partition and offset; an event that is logged behind a younger one of its partition
// counts as old as that. It waits for a source of which more is in the log (as Kafka
// Streams does: KIP-695), so that after an outage, or over old data, the order is that of
// time. It does not wait for what is not there yet, but where time runs faster than the
// clock, as while a file is loaded: there for a moment (horizon).
type merger struct {
	sink sink.Sink
	// wait is how long a source is waited for after its newest rows; 0: it is not.
	wait time.Duration
	now  func() time.Time
	ctx  context.Context // of the timer's merge

	mu     sync.Mutex
	timer  *time.Timer // runs out when a source is not waited for any more; nil: none was
	err    error
	lanes  []*lane
	topics []*mergedTopic
	rows   int // that wait to be written
	units  int // of which all rows are merged, and wait to be written
	poked  []*lane
}

// lane is the way of one source partition into the keyed streams.
type lane struct {
	shard       *shard
	gather      *gather       // of the shard that is to know when its units are written; nil: none
	projections []*projection // by topic of the merger; nil where it is no source of that
	units       []*unit       // decoded, in order; of the first, rows before row are merged
	done        []*unit       // merged, and not yet written
	row         int
	effective   event.Time // of the newest row that was merged
	offered     time.Time  // when the newest rows came
	behind      bool       // there is more to read
	stopped     bool       // it will not be read
}

// mergedTopic is a keyed stream with a block for each partition that is being made.
type mergedTopic struct {
	topic string
	open  []openBlock
	parts []blockPart
	buf   []byte
}

type openBlock struct {
	parts []mergedPart
	order []uint8
}

type mergedPart struct {
	lane *lane
	unit *unit
	rows []int32
}

const (
	// mergeRows is how many rows are written at once.
	mergeRows = 1024
	// defaultKeyedWait is Options.KeyedWait where it is 0.
	defaultKeyedWait = 200 * time.Millisecond
)

// newMerger makes a merger into topics. All lanes are behind until they say otherwise.
func newMerger(to sink.Sink, topics []*keyedTopic) *merger {
	m := &merger{sink: to}
	for _, t := range topics {
		m.topics = append(m.topics, &mergedTopic{topic: t.topic(), open: make([]openBlock, t.partitions)})
	}
	return m
}

// add makes the lane of a shard.
func (m *merger) add(s *shard, projections []*projection, effective event.Time) *lane {
	l := &lane{shard: s, projections: make([]*projection, len(m.topics)), effective: effective, behind: true}
	for i, t := range m.topics {
		for _, p := range projections {
			if p.topic == t.topic {
				l.projections[i] = p
			}
		}
	}
	m.lanes = append(m.lanes, l)
	return l
}

// offer takes a unit whose routes are known, and merges what can be.
func (m *merger) offer(ctx context.Context, l *lane, u *unit) error {
	m.mu.Lock()
	defer m.poke()
	defer m.mu.Unlock()
	if m.wait > 0 && u.batch.Len() > 0 {
		l.offered = m.now()
	}
	l.units = append(l.units, u)
	return m.merge(ctx)
}

// read tells whether there is more to read of a lane, and merges what can be.
func (m *merger) read(ctx context.Context, l *lane, behind bool) error {
	m.mu.Lock()
	defer m.poke()
	defer m.mu.Unlock()
	if l.behind == behind {
		return m.err
	}
	l.behind = behind
	return m.merge(ctx)
}

// stop tells that no more is read of a lane.
func (m *merger) stop(l *lane) {
	m.mu.Lock()
	l.stopped = true
	m.poked = append(m.poked, m.lanes...)
	m.mu.Unlock()
	m.poke()
}

// pause tells that no more is read of a lane for now: others do not wait for it, and what
// it offered is merged.
func (m *merger) pause(ctx context.Context, l *lane) error {
	m.mu.Lock()
	defer m.poke()
	defer m.mu.Unlock()
	l.behind, l.stopped = false, true
	m.poked = append(m.poked, m.lanes...)
	return m.merge(ctx)
}

// stuck reports whether what waits to be merged will not be, as more of a source is in
// the log that nobody reads any more.
func (m *merger) stuck() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.lanes {
		if len(l.units) == 0 && l.behind && l.stopped {
			return true
		}
	}
	return false
}

// poke wakes the shards whose units were written.
func (m *merger) poke() {
	m.mu.Lock()
	poked := m.poked
	m.poked = nil
	m.mu.Unlock()
	for _, l := range poked {
		if l.gather != nil {
			l.gather.poke()
		}
	}
}

// merge takes rows while all lanes that are behind have some.
func (m *merger) merge(ctx context.Context) error {
	for m.err == nil {
		first, second, ok := m.oldest()
		if !ok {
			break
		}
		horizon, left := m.horizon()
		if first.time() > horizon {
			m.mergeIn(left)
			break
		}
		m.err = m.take(ctx, first, second, horizon)
	}
	if m.err == nil {
		m.err = m.flush(ctx)
	}
	return m.err
}

// oldest is the lane with the oldest row, and the lane whose row is the next oldest; nil
// where there is none. It is not ok where there is no row, or one has to be waited for.
func (m *merger) oldest() (first, second *lane, ok bool) {
	for _, l := range m.lanes {
		l.skipEmpty(m)
		switch {
		case len(l.units) == 0 && l.behind:
			return nil, nil, false
		case len(l.units) == 0:
		case first == nil || l.before(first):
			first, second = l, first
		case second == nil || l.before(second):
			second = l
		}
	}
	return first, second, first != nil
}

// horizon is the time up to which rows are taken although sources have none: one from
// which rows came a moment ago is waited for where rows are further ahead of its time
// than the clock went on since, by more than events come out of order. There time runs
// faster than the clock, and its next rows may well be older. Of events as they happen
// that is never so. It is that for so long.
func (m *merger) horizon() (least event.Time, left time.Duration) {
	least = event.MaxTime
	if m.wait <= 0 {
		return least, 0
	}
	now := m.now()
	for _, l := range m.lanes {
		since := now.Sub(l.offered)
		if len(l.units) == 0 && !l.stopped && l.effective != event.MinTime && since < m.wait {
			if t := l.effective.Add(since + l.shard.stream.Lateness); t < least {
				least, left = t, m.wait-since
			}
		}
	}
	return least, left
}

// mergeIn merges in a while.
func (m *merger) mergeIn(d time.Duration) {
	if m.timer == nil {
		m.timer = time.AfterFunc(d, m.timeout)
	} else {
		m.timer.Reset(d)
	}
}

// timeout merges when a source is not waited for any more. Its error is what the next
// call of another method returns.
func (m *merger) timeout() {
	m.mu.Lock()
	if m.ctx.Err() == nil {
		m.merge(m.ctx) //nolint:errcheck // as it says
	}
	m.poked = append(m.poked, m.lanes...)
	m.mu.Unlock()
	m.poke()
}

// failure is why the merger does not go on, nil while it does.
func (m *merger) failure() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// close ends waiting, and merging.
func (m *merger) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.timer != nil {
		m.timer.Stop()
	}
	m.err = errStopped // its function may be about to run
}

// skipEmpty is done with units without rows.
func (l *lane) skipEmpty(m *merger) {
	for len(l.units) > 0 && l.units[0].batch.Len() == 0 {
		m.finish(l)
	}
}

// before reports whether a lane's next row comes before that of another.
func (l *lane) before(o *lane) bool {
	a, b := l.time(), o.time()
	switch {
	case a != b:
		return a < b
	case l.shard.origin.Topic != o.shard.origin.Topic:
		return l.shard.origin.Topic < o.shard.origin.Topic
	}
	return l.shard.partition < o.shard.partition
}

func (l *lane) time() event.Time { return max(l.effective, l.units[0].batch.Time[l.row]) }

// take merges rows of a lane up to a time, until another one's is older, or its unit ends.
func (m *merger) take(ctx context.Context, l, second *lane, horizon event.Time) error {
	u := l.units[0]
	for n := u.batch.Len(); ; {
		l.effective = l.time()
		for t, p := range l.projections {
			if p == nil {
				continue
			}
			q := u.routes[p.index][l.row]
			if u.batch.Offset[l.row] >= p.parts[q].next {
				m.topics[t].open[q].add(l, u, int32(l.row))
			}
		}
		l.row++
		m.rows++
		if l.row == n {
			m.finish(l)
			break
		}
		if m.rows >= mergeRows || second != nil && second.before(l) || l.time() > horizon {
			break
		}
	}
	if m.rows >= mergeRows || m.units+len(m.lanes) >= blockParts {
		return m.flush(ctx)
	}
	return nil
}

func (o *openBlock) add(l *lane, u *unit, row int32) {
	at := len(o.parts) - 1
	for at >= 0 && o.parts[at].unit != u {
		at--
	}
	if at < 0 {
		at = len(o.parts)
		if at < cap(o.parts) {
			o.parts = o.parts[:at+1]
			o.parts[at].lane, o.parts[at].unit, o.parts[at].rows = l, u, o.parts[at].rows[:0]
		} else {
			o.parts = append(o.parts, mergedPart{lane: l, unit: u})
		}
	}
	o.parts[at].rows = append(o.parts[at].rows, row)
	o.order = append(o.order, uint8(at))
}

// finish is done with the first unit of a lane: it counts as projected once all blocks
// are written.
func (m *merger) finish(l *lane) {
	u := l.units[0]
	l.units, l.row = l.units[1:], 0
	l.done = append(l.done, u)
	m.units++
	if len(l.done) == 1 {
		m.poked = append(m.poked, l)
	}
}

// flush writes the blocks that were made, and marks where a lane's partitions were not
// told for long how far it is.
func (m *merger) flush(ctx context.Context) error {
	for t := range m.topics {
		for q := range m.topics[t].open {
			if err := m.write(ctx, t, int32(q)); err != nil {
				return err
			}
		}
	}
	for _, l := range m.lanes {
		if err := m.wrote(ctx, l); err != nil {
			return err
		}
	}
	m.rows, m.units = 0, 0
	return nil
}

// write writes the block of a keyed stream's partition, where there is one.
func (m *merger) write(ctx context.Context, t int, q int32) error {
	topic := m.topics[t]
	o := &topic.open[q]
	if len(o.parts) == 0 {
		return nil
	}
	topic.parts = topic.parts[:0]
	for i := range o.parts {
		part := &o.parts[i]
		p := part.lane.projections[t]
		to := &p.parts[q]
		b := blockPart{blockHeader: part.lane.header(part.unit), batch: &part.unit.batch, outbox: &part.unit.outbox, rows: part.rows, fields: p.source.Fields}
		if last := part.rows[len(part.rows)-1]; len(part.lane.units) > 0 && part.lane.units[0] == part.unit {
			b.to, b.watermark = part.unit.batch.Offset[last]+1, part.unit.outbox.Low[last] // the rest follows
		}
		b.from, to.next, to.told = to.next, b.to, b.watermark
		topic.parts = append(topic.parts, b)
	}
	at, err := m.append(ctx, t, q, topic.parts, o.order)
	if err != nil {
		return err
	}
	for i := range o.parts {
		o.parts[i].lane.projections[t].parts[q].last = at
	}
	o.parts, o.order = o.parts[:0], o.order[:0]
	return nil
}

// header is what all parts of a unit have in common.
func (l *lane) header(u *unit) blockHeader {
	return blockHeader{stream: l.shard.stream.Schema.Stream, partition: l.shard.partition, incarnation: l.shard.incarnation(), to: u.to, watermark: u.low, tables: u.tables}
}

// append writes a block and returns where it is.
func (m *merger) append(ctx context.Context, t int, q int32, parts []blockPart, order []uint8) (int64, error) {
	topic := m.topics[t]
	topic.buf = appendBlock(topic.buf[:0], parts, order)
	rec := sink.Record{Value: topic.buf}
	if p := &parts[len(parts)-1]; len(p.rows) > 0 {
		rec.Timestamp = p.batch.Time[p.rows[len(p.rows)-1]].Millis()
	}
	at, err := m.sink.Append(ctx, topic.topic, q, []sink.Record{rec})
	if err != nil {
		return 0, fmt.Errorf("write to %s[%d]: %w", topic.topic, q, err)
	}
	return at, nil
}

// wrote is done with a lane's units of which all rows are written.
func (m *merger) wrote(ctx context.Context, l *lane) error {
	if len(l.done) == 0 {
		return nil
	}
	h, idle := l.header(l.done[len(l.done)-1]), false
	for _, u := range l.done {
		idle = idle || u.from == u.to // time passed
	}
	if err := m.tell(ctx, l, h, idle); err != nil {
		return err
	}
	for _, u := range l.done {
		u.projected.Store(true)
	}
	clear(l.done)
	l.done = l.done[:0]
	return nil
}

// tell marks how far a lane is in the partitions that were not told for long, or, with
// all, that do not know.
func (m *merger) tell(ctx context.Context, l *lane, h blockHeader, all bool) error {
	for t, p := range l.projections {
		if p == nil {
			continue
		}
		for q := range p.parts {
			to := &p.parts[q]
			if to.next > h.to || to.next == h.to && to.told >= h.watermark || !all && h.to-to.next < markEvery {
				continue
			}
			b := blockPart{blockHeader: h}
			b.from, to.next, to.told = to.next, h.to, h.watermark
			at, err := m.append(ctx, t, int32(q), []blockPart{b}, nil)
			if err != nil {
				return err
			}
			to.last = at
		}
	}
	return nil
}

// mark tells all partitions of the keyed streams how far a lane is that has no rows.
func (m *merger) mark(ctx context.Context, l *lane, position int64, watermark event.Time, tables int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = m.tell(ctx, l, l.header(&unit{to: position, low: watermark, tables: tables}), true)
	}
	return m.err
}
