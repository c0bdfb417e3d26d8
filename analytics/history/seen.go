package history

import (
	"fmt"

	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/ingest/dedupe"
	"github.com/weirstream/weir/ingest/event"
)

// loadSeen makes what readers of streams with dedupe leave out by from the rows that
// are committed: all that was taken before the positions, and nothing else, is in
// them. It runs before the readers do.
func (h *History) loadSeen() error {
	w := h.db.Writer()
	if w == nil {
		return duck.ErrClosed
	}
	for _, p := range h.partitions {
		if p.seen = nil; p.table.stream == nil || p.table.stream.Dedupe == 0 {
			continue
		}
		p.seen = dedupe.New(p.table.stream.Dedupe)
		if err := p.loadSeen(w); err != nil {
			return fmt.Errorf("table %s: ids of partition %d: %w", p.table.name, p.index, err)
		}
	}
	return nil
}

// loadSeen notes the events within the span before the partition's latest. Of one id
// there is one at most.
func (p *partition) loadSeen(w *duck.Writer) error {
	s := p.table.stream.Schema
	id, at := duck.Quote(s.Fields[s.ID].Name), duck.Quote(s.Fields[s.Time].Name)
	from := fmt.Sprintf(" FROM main.%s WHERE _partition = %d", duck.Quote(p.table.name), p.index)
	latest, err := w.Int64("SELECT coalesce(max(epoch_ns(" + at + ")), -9223372036854775807)" + from)
	if err != nil || latest == -9223372036854775807 {
		return err
	}
	oldest := event.Time(latest).Sub(p.table.stream.Dedupe)
	// Reading them in the order of their times, none is later than the span.
	text := fmt.Sprintf("SELECT %s, epoch_ns(%s)%s AND epoch_ns(%s) >= %d ORDER BY 2, _offset", id, at, from, at, int64(oldest))
	return w.Each(text, func(c *duck.Chunk, i int) error {
		key := dedupe.Key{}
		if s.Fields[s.ID].Type.Kind == event.Int64 {
			key = dedupe.OfInt64(c.Columns[0].Int64(i))
		} else {
			key = dedupe.OfText(c.Columns[0].Bytes(i))
		}
		p.seen.Duplicate(key, event.Time(c.Columns[1].Int64(i)))
		return nil
	})
}
