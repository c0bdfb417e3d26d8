package deadletter

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/record"
)

// note is a record of weir.replays: a chunk that is about to be written, or
// (Settled) one that was.
type note struct {
	Stream    string  `json:"stream"`
	Partition int32   `json:"partition"` // of weir.deadletters
	First     int64   `json:"first"`     // of the chunk's offsets: what a settled note settles
	Offsets   []int64 `json:"offsets"`   // of the dead letters
	Starts    []int64 `json:"starts,omitempty"`
	Settled   bool    `json:"settled"`
}

func (r *Replayer) note(ctx context.Context, n *note) (offset int64, err error) {
	value, err := json.Marshal(n)
	if err != nil {
		return 0, err
	}
	var b record.Builder
	b.Reset(record.BatchOptions{})
	b.Append(r.o.Now().UnixMilli(), []byte(n.Stream), value, nil)
	batch, err := b.Build()
	if err != nil {
		return 0, err
	}
	return r.log.AppendBatch(ctx, TopicReplays, 0, batch)
}

func (r *Replayer) isDone(at place) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, done := r.done[at]
	return done
}

// forget makes the next replay read the notes again.
func (r *Replayer) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = nil
}

// remember takes what a settled note says.
func (r *Replayer) remember(n *note) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done == nil {
		return nil
	}
	for _, off := range n.Offsets {
		r.done[place{n.Partition, off}] = struct{}{}
	}
	if len(r.done) > doneMax {
		return fmt.Errorf("over %d dead letters were replayed, more than can be remembered", doneMax)
	}
	return nil
}

// recall reads the notes, where that was not done, and looks for what an
// interrupted replay wrote.
func (r *Replayer) recall(ctx context.Context) error {
	r.mu.Lock()
	known := r.done != nil
	if !known {
		r.done = map[place]struct{}{}
	}
	r.mu.Unlock()
	if known {
		return nil
	}
	if err := r.readNotes(ctx); err != nil {
		r.forget()
		return err
	}
	return nil
}

func (r *Replayer) readNotes(ctx context.Context) error {
	end, err := r.log.End(TopicReplays, 0)
	if err != nil {
		return err
	}
	var unsettled []*note
	err = r.scan(ctx, TopicReplays, 0, 0, end, func(rec *source.Record) error {
		n := &note{}
		if json.Unmarshal(rec.Value, n) != nil || n.Stream == "" {
			return nil // not ours: anyone may produce to the topic
		}
		if !n.Settled {
			unsettled = append(unsettled, n)
			return nil
		}
		unsettled = slices.DeleteFunc(unsettled, func(o *note) bool {
			return o.Stream == n.Stream && o.Partition == n.Partition && o.First == n.First
		})
		return r.remember(n)
	})
	if err != nil {
		return err
	}
	for _, n := range unsettled {
		if err := r.settle(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// settle finds which of a note's dead letters were written, and notes that.
func (r *Replayer) settle(ctx context.Context, n *note) error {
	var stream *schema.Stream
	for _, s := range *r.streams.Load() {
		if s.Schema.Stream == n.Stream {
			stream = s
		}
	}
	if stream == nil {
		return nil // no replay into it can be asked for
	}
	wanted := make(map[place]bool, len(n.Offsets))
	for _, off := range n.Offsets {
		wanted[place{n.Partition, off}] = true
	}
	parts, err := r.log.Partitions(stream.Topic)
	if err != nil {
		return err
	}
	found := note{Stream: n.Stream, Partition: n.Partition, First: n.First, Settled: true}
	for p := range parts {
		from := int64(0)
		if int(p) < len(n.Starts) {
			from = n.Starts[p]
		}
		end, err := r.log.End(stream.Topic, p)
		if err != nil {
			return err
		}
		err = r.scan(ctx, stream.Topic, p, from, end, func(rec *source.Record) error {
			for i := range rec.Headers {
				if rec.Headers[i].Key != HeaderReplayed {
					continue
				}
				if at, ok := parsePlace(string(rec.Headers[i].Value)); ok && wanted[at] {
					delete(wanted, at)
					found.Offsets = append(found.Offsets, at.offset)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if _, err := r.note(ctx, &found); err != nil {
		return err
	}
	r.o.Logger.Info("an interrupted replay was looked at", "stream", n.Stream, "letters", len(n.Offsets), "written", len(found.Offsets))
	return r.remember(&found)
}
