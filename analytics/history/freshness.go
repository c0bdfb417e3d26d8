package history

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/ingest/event"
)

// Freshness is how far one partition of one table has come.
type Freshness struct {
	Name      string // of the table
	Topic     string
	Partition int32
	Offset    int64         // every record below is visible
	Watermark event.Time    // MinTime where no event was seen
	Age       time.Duration // see the package comment
}

// Freshness is how far every partition of every table has come. It is safe to call
// from any goroutine.
func (h *History) Freshness() []Freshness {
	h.mu.Lock()
	out := make([]Freshness, len(h.partitions))
	newest := make([]event.Time, len(h.partitions))
	for i, p := range h.partitions {
		out[i] = Freshness{Name: p.table.name, Topic: p.table.topic, Partition: p.index, Offset: p.next, Watermark: p.watermark}
		newest[i] = p.newest
	}
	for _, name := range h.viewNames() {
		for i, p := range h.partitions {
			if p.table.name == changesTable {
				shown := out[i]
				shown.Name = name
				out, newest = append(out, shown), append(newest, p.newest)
			}
		}
	}
	h.mu.Unlock()
	now := time.Now()
	for i := range out {
		f := &out[i]
		end, err := h.opts.HighWatermark(f.Topic, f.Partition)
		if err != nil || f.Offset >= end {
			continue // caught up, or the topic is gone
		}
		since := h.started
		if newest[i] != event.MinTime {
			since = newest[i].Time()
		}
		f.Age = max(0, now.Sub(since))
	}
	return out
}

// advance shows committed positions.
func (h *History) advance(pending map[*partition]position) {
	h.mu.Lock()
	for p, pos := range pending {
		p.next, p.watermark, p.newest = pos.next, pos.watermark, pos.newest
	}
	close(h.moved)
	h.moved = make(chan struct{})
	h.mu.Unlock()
	for p, pos := range pending {
		h.metrics.rows.WithLabelValues(p.table.name).Add(float64(pos.rows))
		h.metrics.refused.WithLabelValues(p.table.name).Add(float64(pos.refused))
	}
}

// WaitFor waits until the record at offset is visible in every table that is
// filled from the topic, or ctx is done.
func (h *History) WaitFor(ctx context.Context, topic string, index int32, offset int64) error {
	h.mu.Lock()
	known := slices.ContainsFunc(h.partitions, func(p *partition) bool { return p.table.topic == topic && p.index == index })
	h.mu.Unlock()
	if !known {
		return fmt.Errorf("no table is filled from %s[%d]", topic, index)
	}
	for {
		h.mu.Lock()
		moved, there := h.moved, true
		for _, p := range h.partitions {
			if p.table.topic == topic && p.index == index && p.next <= offset {
				there = false
			}
		}
		h.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// logEnds is the table function behind weir_freshness: the end of every partition
// at the moment of the scan.
func (h *History) logEnds() *duck.TableFunction {
	number := event.Type{Kind: event.Int64}
	return &duck.TableFunction{
		Name: "weir_log_ends",
		Columns: []event.Field{
			{Name: "topic", Type: event.Type{Kind: event.String}}, {Name: "partition", Type: number}, {Name: "high_watermark", Type: number},
			{Name: "now_ms", Type: number}, {Name: "started_ms", Type: number},
		},
		Scan: func() []event.Column {
			cols := make([]event.Column, 5)
			cols[0].Reset(event.Type{Kind: event.String})
			for i := range cols[1:] {
				cols[1+i].Reset(number)
			}
			now, seen := time.Now().UnixMilli(), map[event.Origin]bool{}
			h.mu.Lock()
			partitions := h.partitions
			h.mu.Unlock()
			for _, p := range partitions {
				o := event.Origin{Topic: p.table.topic, Partition: p.index}
				end, err := h.opts.HighWatermark(o.Topic, o.Partition)
				if err != nil || seen[o] {
					continue
				}
				seen[o] = true
				cols[0].AppendBytes([]byte(o.Topic))
				for i, v := range []int64{int64(o.Partition), end, now, h.started.UnixMilli()} {
					cols[1+i].AppendInt64(v)
				}
			}
			return cols
		},
	}
}
