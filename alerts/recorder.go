package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
)

// headerPositions is the header of a positions record that holds the checkpoint,
// and positionsKey its key.
const (
	headerPositions = "weir-positions"
	positionsKey    = "positions"
)

// note is one change of one receiver's position: a range that was read, or an
// attempt.
type note struct {
	receiver  int
	partition int32
	from, to  int64
	opened    []int64
	attempt   *event.Delivery
}

// recorder owns the state of all receivers and writes weir.deliveries: one
// goroutine, so that a positions record agrees with the delivery records before
// it.
type recorder struct {
	o          *Options
	logger     *slog.Logger
	receivers  []*receiver
	in         chan note
	deliveries int32            // partitions of weir.deliveries
	state      []partitionState // by partition of weir.alerts

	// By partition of weir.deliveries:
	since []int  // delivery records since the last positions record
	dirty []bool // the state differs from the last positions record
	last  []int64
	batch [][]sink.Record

	err error // records could not be written before the stop
}

func newRecorder(receivers []*receiver, o *Options, alerts, deliveries int32) *recorder {
	r := &recorder{o: o, logger: o.Logger, receivers: receivers, in: make(chan note, 1024), deliveries: deliveries,
		state: make([]partitionState, alerts), since: make([]int, deliveries), dirty: make([]bool, deliveries),
		last: make([]int64, deliveries), batch: make([][]sink.Record, deliveries)}
	for i := range r.last {
		r.last[i] = -1
		r.dirty[i] = true // the first positions record says which receivers there are
	}
	for p := range r.state {
		r.state[p].receivers = make([]position, len(receivers))
		for i := range receivers {
			r.state[p].receivers[i] = newPosition(0)
		}
	}
	return r
}

// run writes what comes in until in is closed, and then the positions.
func (r *recorder) run(ctx context.Context) error {
	tick := time.NewTicker(r.o.CheckpointEvery)
	defer tick.Stop()
	for {
		select {
		case n, ok := <-r.in:
			if !ok {
				return r.finish()
			}
			r.take(n)
			r.drainQueue()
			r.write(ctx)
			for dp := range r.since {
				if r.since[dp] >= recordsMax {
					r.checkpoint(ctx, int32(dp))
				}
			}
		case <-tick.C:
			r.look()
			for dp := range r.dirty {
				if r.dirty[dp] {
					r.checkpoint(ctx, int32(dp))
				}
			}
		}
	}
}

// drainQueue takes what else is queued, so that one Append writes many records.
func (r *recorder) drainQueue() {
	for range 512 {
		select {
		case n, ok := <-r.in:
			if !ok {
				return // run sees it again
			}
			r.take(n)
		default:
			return
		}
	}
}

// take applies n to the state and queues its record.
func (r *recorder) take(n note) {
	dp := n.partition % r.deliveries
	pos := &r.state[n.partition].receivers[n.receiver]
	r.dirty[dp] = true
	if n.attempt == nil {
		pos.read(n.from, n.to, n.opened)
		return
	}
	pos.apply(n.attempt)
	r.receivers[n.receiver].count(n.attempt.Outcome)
	r.batch[dp] = append(r.batch[dp], sink.Record{Timestamp: n.attempt.Time.Millis(), Key: []byte(n.attempt.Alert), Value: n.attempt.AppendJSON(nil)})
}

// write appends the queued records.
func (r *recorder) write(ctx context.Context) {
	for dp := range r.batch {
		if len(r.batch[dp]) == 0 {
			continue
		}
		r.append(ctx, int32(dp), r.batch[dp])
		r.since[dp] += len(r.batch[dp])
		clear(r.batch[dp])
		r.batch[dp] = r.batch[dp][:0]
	}
}

// look notes how far weir.alerts goes, for receivers that are new at the next
// start.
func (r *recorder) look() {
	for p := range r.state {
		end, err := r.o.HighWatermark(event.TopicAlerts, int32(p))
		if err == nil && end > r.state[p].end {
			r.state[p].end = end
			r.dirty[int32(p)%r.deliveries] = true
		}
	}
}

// checkpoint appends the positions record of a partition of weir.deliveries.
func (r *recorder) checkpoint(ctx context.Context, dp int32) {
	c := checkpoint{Version: checkpointVersion}
	for p := range r.state {
		if int32(p)%r.deliveries != dp {
			continue
		}
		one := partitionCheckpoint{Partition: int32(p), End: r.state[p].end, Receivers: make(map[string]positionCheckpoint, len(r.receivers))}
		for i := range r.receivers {
			one.Receivers[r.receivers[i].Name] = r.state[p].receivers[i].checkpoint()
		}
		c.Partitions = append(c.Partitions, one)
	}
	text, err := json.Marshal(c)
	if err != nil { // integers and names
		panic(err)
	}
	r.append(ctx, dp, []sink.Record{{Timestamp: time.Now().UnixMilli(), Key: []byte(positionsKey), Headers: []sink.Header{{Key: headerPositions, Value: text}}}})
	r.since[dp], r.dirty[dp] = 0, false
}

// append writes recs, trying again while the log cannot take them (a full disk);
// meanwhile the receivers wait. After a stop it tries for DrainTimeout.
func (r *recorder) append(ctx context.Context, dp int32, recs []sink.Record) {
	if r.err != nil {
		return // what follows a gap would not mean what it says
	}
	wait := 50 * time.Millisecond
	var deadline <-chan time.Time
	done := ctx.Done()
	for {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.o.DrainTimeout)
		base, err := r.o.Sink.Append(call, event.TopicDeliveries, dp, recs)
		cancel()
		if err == nil {
			r.last[dp] = base + int64(len(recs)) - 1
			return
		}
		r.logger.Error("deliveries cannot be recorded; receivers wait", "topic", event.TopicDeliveries, "partition", dp, "error", err)
		retry := time.NewTimer(wait)
		for waiting := true; waiting; {
			select {
			case <-retry.C:
				waiting = false
			case <-done:
				done, deadline = nil, time.After(r.o.DrainTimeout)
			case <-deadline:
				r.err = fmt.Errorf("%s[%d]: deliveries could not be recorded; their alerts are sent again after the next start: %w", event.TopicDeliveries, dp, err)
				return
			}
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// finish writes the last positions and waits until all is durable.
func (r *recorder) finish() error {
	stopped, cancel := context.WithCancel(context.Background())
	cancel()
	r.write(stopped)
	r.look()
	for dp := range r.dirty {
		if r.dirty[dp] {
			r.checkpoint(stopped, int32(dp))
		}
		if r.err == nil && r.last[dp] >= 0 {
			ctx, cancel := context.WithTimeout(context.Background(), r.o.DrainTimeout)
			err := r.o.Sink.Durable(ctx, event.TopicDeliveries, int32(dp), r.last[dp])
			cancel()
			if err != nil {
				r.err = fmt.Errorf("%s[%d] offset %d: %w", event.TopicDeliveries, dp, r.last[dp], err)
			}
		}
	}
	return r.err
}

// restore reads the state back from the tails of weir.deliveries.
func (r *recorder) restore(ctx context.Context) error {
	for dp := range r.deliveries {
		end, err := r.o.HighWatermark(event.TopicDeliveries, dp)
		if err != nil {
			return err
		}
		for span := int64(4 * recordsMax); ; span *= 4 {
			from := max(0, end-span)
			found, err := r.replay(ctx, dp, from, end)
			if err != nil {
				return fmt.Errorf("%s[%d] from offset %d: %w", event.TopicDeliveries, dp, from, err)
			}
			if found || from == 0 {
				break
			}
		}
	}
	for p := range r.state {
		if err := r.clamp(int32(p)); err != nil {
			return err
		}
		for i, one := range r.receivers {
			pos := &r.state[p].receivers[i]
			one.delivered.Add(pos.delivered)
			one.failed.Add(pos.failed)
		}
	}
	return nil
}

// clamp brings positions back to the end of weir.alerts where the log lost a tail
// that it had not synced: what will be written there is new.
func (r *recorder) clamp(p int32) error {
	end, err := r.o.HighWatermark(event.TopicAlerts, p)
	if err != nil {
		return err
	}
	st := &r.state[p]
	if st.end > end {
		r.logger.Warn("the log ends before the router's position; the router goes on from its end", "topic", event.TopicAlerts, "partition", p, "end", end, "position", st.end)
	}
	st.end = max(min(st.end, end), 0)
	for i := range st.receivers {
		pos := &st.receivers[i]
		pos.next = min(pos.next, end)
		maps.DeleteFunc(pos.open, func(o int64, _ tries) bool { return o >= end })
		maps.DeleteFunc(pos.done, func(o int64, _ struct{}) bool { return o >= end })
	}
	return nil
}

// replay applies the records of [from, end) of a partition of weir.deliveries
// from the last positions record among them on. Without one it does nothing
// unless from is the start.
func (r *recorder) replay(ctx context.Context, dp int32, from, end int64) (found bool, err error) {
	if from >= end {
		return false, nil
	}
	src, err := r.o.Sources(ctx, event.TopicDeliveries, dp, from)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	index := make(map[string]int, len(r.receivers))
	for i := range r.receivers {
		index[r.receivers[i].Name] = i
	}
	for next := from; next < end; {
		chunk, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return false, err
		}
		for i := range chunk.Records {
			rec := &chunk.Records[i]
			if rec.Offset >= end {
				break
			}
			isPositions, err := r.replayRecord(rec, index, found || from == 0)
			if err != nil {
				return false, fmt.Errorf("offset %d: %w", rec.Offset, err)
			}
			found = found || isPositions
		}
		next = chunk.Next
	}
	return found, nil
}

func (r *recorder) replayRecord(rec *source.Record, index map[string]int, apply bool) (isPositions bool, err error) {
	if rec.Value == nil {
		h := slices.IndexFunc(rec.Headers, func(h source.Header) bool { return h.Key == headerPositions })
		if h < 0 {
			return false, nil
		}
		c, err := parseCheckpoint(rec.Headers[h].Value)
		if err != nil {
			return false, err
		}
		r.load(c)
		return true, nil
	}
	if !apply {
		return false, nil
	}
	var d event.Delivery
	if err := d.UnmarshalJSON(rec.Value); err != nil {
		// Not Weir's own record: someone else wrote to the topic.
		r.logger.Warn("a record is not a delivery; skipped", "topic", event.TopicDeliveries, "offset", rec.Offset, "error", err)
		return false, nil
	}
	i, known := index[d.Receiver]
	if known && d.AlertPartition >= 0 && int(d.AlertPartition) < len(r.state) {
		r.state[d.AlertPartition].receivers[i].apply(&d)
	}
	return false, nil
}

// load makes c the state of the partitions that it describes.
func (r *recorder) load(c *checkpoint) {
	for _, one := range c.Partitions {
		if one.Partition < 0 || int(one.Partition) >= len(r.state) {
			continue
		}
		st := &r.state[one.Partition]
		st.end = one.End
		for i := range r.receivers {
			if pc, ok := one.Receivers[r.receivers[i].Name]; ok {
				st.receivers[i] = pc.position()
			} else {
				st.receivers[i] = newPosition(one.End)
			}
		}
	}
}
