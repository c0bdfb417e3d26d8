package table

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
)

// FollowOptions are how Follow gets at the topic of a table.
type FollowOptions struct {
	Topic      string
	Open       func(ctx context.Context, topic string, partition int32, from int64) (source.Source, error)
	Partitions func(topic string) (int32, error)
	// End is the offset before which all records are readable.
	End    func(topic string, partition int32) (int64, error)
	Logger *slog.Logger
}

// followBackoff is the time between two tries after an error.
const followBackoff = 5 * time.Second

// Follow keeps a table what a compacted topic says: the key of a record is the key
// of an entry (as text; a JSON array where it has several fields), its value a JSON
// object of the other fields, and of the key's where wanted, or nothing where the
// entry is gone. At the start it reads the topic to its end and changes what
// differs, in one group; from then on each chunk is a group. Records that do not
// fit are left out and counted. It returns when ctx is done.
func (s *Store) Follow(ctx context.Context, d *Definition, o FollowOptions) error {
	logger := o.Logger
	if logger == nil {
		logger = s.logger
	}
	f := &follower{store: s, def: d, opts: o, logger: logger.With("table", d.Name, "topic", o.Topic)}
	for {
		err := f.life(ctx)
		if ctx.Err() != nil {
			return nil
		}
		f.logger.Error("the table cannot follow its topic and tries again", "err", err, "in", followBackoff)
		t := time.NewTimer(followBackoff)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

type follower struct {
	store  *Store
	def    *Definition
	opts   FollowOptions
	logger *slog.Logger
}

func (f *follower) life(ctx context.Context) error {
	n, err := f.opts.Partitions(f.opts.Topic)
	if err != nil {
		return err
	}
	ends := make([]int64, n)
	var order []string
	entries := map[string]*Entry{}
	for p := range n {
		if ends[p], err = f.opts.End(f.opts.Topic, p); err != nil {
			return err
		}
		err := f.read(ctx, p, 0, ends[p], func(c []Change) error {
			for i := range c {
				key := string(AppendKey(nil, f.def.Key, c[i].Entry.Key))
				if _, known := entries[key]; !known {
					order = append(order, key)
				}
				entries[key] = nil
				if c[i].Op == OpPut {
					entries[key] = &c[i].Entry
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	all := make([]Entry, 0, len(order))
	for _, key := range order {
		if e := entries[key]; e != nil {
			all = append(all, *e)
		}
	}
	if _, err := f.store.Sync(ctx, f.def, all); err != nil {
		return err
	}
	return f.tail(ctx, ends)
}

// tail follows every partition from where it was read to.
func (f *follower) tail(ctx context.Context, ends []int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(ends))
	for p, from := range ends {
		wg.Go(func() {
			errs[p] = f.read(ctx, int32(p), from, -1, func(c []Change) error {
				_, err := f.store.Change(ctx, c)
				return err
			})
			cancel() // the others begin again with it
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// read gives the changes of a partition's records, chunk by chunk, up to an offset
// or for ever where that is below 0.
func (f *follower) read(ctx context.Context, partition int32, from, to int64, then func([]Change) error) error {
	if from == to {
		return nil
	}
	src, err := f.opts.Open(ctx, f.opts.Topic, partition, from)
	if err != nil {
		return err
	}
	defer src.Close()
	for to < 0 || from < to {
		c, err := src.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s[%d]@%d: %w", f.opts.Topic, partition, from, err)
		}
		from = c.Next
		if changes := f.changes(partition, c.Records); len(changes) > 0 {
			if err := then(changes); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *follower) changes(partition int32, recs []source.Record) []Change {
	out := make([]Change, 0, len(recs))
	bad := 0
	var first error
	for i := range recs {
		c, err := f.change(&recs[i])
		if err != nil {
			if bad++; first == nil {
				first = fmt.Errorf("%s[%d]@%d: %w", f.opts.Topic, partition, recs[i].Offset, err)
			}
			continue
		}
		out = append(out, c)
	}
	if bad > 0 {
		f.store.metrics.refused.WithLabelValues(f.def.Name).Add(float64(bad))
		f.logger.Error("records do not fit the table and are left out", "records", bad, "first", first)
	}
	return out
}

// change is what a record says.
func (f *follower) change(r *source.Record) (Change, error) {
	key, err := f.key(r.Key)
	if err != nil {
		return Change{}, fmt.Errorf("key: %w", err)
	}
	c := Change{Op: OpRemove, Table: f.def.Name, Entry: Entry{Key: key, Author: f.def.Source}}
	if len(r.Value) == 0 {
		return c, f.store.protect(f.def, &c)
	}
	c.Op = OpPut
	if c.Entry, err = parseColumns(f.def, r.Value); err != nil {
		return c, err
	}
	c.Entry.Key, c.Entry.Author = key, f.def.Source
	if len(AppendKey(nil, f.def.Key, key))+len(r.Value) > EntryMax/2 {
		return c, ErrTooLarge
	}
	return c, f.store.protect(f.def, &c)
}

func (f *follower) key(text []byte) ([]Value, error) {
	if text == nil {
		return nil, errNull
	}
	if len(f.def.Key) == 1 {
		v, err := ParseText(f.def.Key[0].Type, string(text))
		return []Value{v}, err
	}
	raw, err := jsonArray(text)
	if err != nil {
		return nil, err
	}
	return ParseKey(f.def, raw)
}

// parseColumns is ParseEntry of an object whose key stands elsewhere.
func parseColumns(d *Definition, text []byte) (Entry, error) {
	loose := *d
	loose.Key = make([]event.Field, len(d.Key))
	for i, f := range d.Key {
		f.Optional = true
		loose.Key[i] = f
	}
	return ParseEntry(&loose, text)
}
