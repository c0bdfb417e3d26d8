package table

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
)

// Log is where the changes are written.
type Log interface {
	sink.Sink
	// End is the offset that the next record of the partition gets.
	End(topic string, partition int32) (int64, error)
}

// Options of a Store. Open and Log are required.
type Options struct {
	Open func(ctx context.Context, topic string, partition int32, from int64) (source.Source, error)
	Log  Log
	// Protect makes of the entry of a put or remove what may be written of it, by
	// Definition.Sensitive. It does nothing to what it made before, and does not change
	// the values in place. Nil: entries are written as they are.
	Protect func(d *Definition, c *Change) error
	// Now stamps changes; time.Now where nil. It is data from then on.
	Now        func() time.Time
	Registerer prometheus.Registerer // nil: no metrics
	Logger     *slog.Logger          // nil: slog.Default
}

// viewsKept is how many of the newest Views are kept for shards that restart.
const viewsKept = 64

// settleTimeout bounds the wait for a change to be durable after its caller left.
const settleTimeout = 30 * time.Second

// Store is all tables and lists of a node.
type Store struct {
	opts   Options
	logger *slog.Logger
	head   atomic.Pointer[View]

	// changing is held by who changes.
	changing sync.Mutex
	behind   bool // the log may have what the head has not

	// mu guards kept: the newest Views, oldest first.
	mu      sync.Mutex
	kept    []*View
	metrics *metrics
}

// Open reads all changes. The topic exists.
func Open(ctx context.Context, o Options) (*Store, error) {
	if o.Open == nil || o.Log == nil {
		return nil, errors.New("table: Options need Open and Log")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	s := &Store{opts: o, logger: o.Logger}
	s.head.Store(emptyView)
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer, s)
	if err != nil {
		return nil, fmt.Errorf("table: %w", err)
	}
	s.metrics = m
	return s, nil
}

// Head is the newest View. A nil Store has the empty one.
func (s *Store) Head() *View {
	if s == nil {
		return emptyView
	}
	return s.head.Load()
}

// catchUp reads what the log has and the head has not.
func (s *Store) catchUp(ctx context.Context) error {
	head := s.head.Load()
	end, err := s.opts.Log.End(TopicTables, 0)
	if err != nil {
		return fmt.Errorf("end of %s: %w", TopicTables, err)
	}
	if end > 0 {
		if err := s.opts.Log.Durable(ctx, TopicTables, 0, end-1); err != nil {
			return fmt.Errorf("wait for %s@%d: %w", TopicTables, end-1, err)
		}
	}
	next, open, err := s.read(ctx, head, end)
	if err != nil {
		return err
	}
	s.behind = false
	if open { // what a crash left of a group
		if err := s.abort(ctx); err != nil {
			return err
		}
	}
	s.publish(next)
	return nil
}

func (s *Store) abort(ctx context.Context) error {
	value, err := (&Change{Op: opAbort}).appendJSON(nil, nil, false)
	if err != nil {
		return err
	}
	s.behind = true
	at, err := s.opts.Log.Append(ctx, TopicTables, 0, []sink.Record{{Timestamp: s.opts.Now().UnixMilli(), Value: value}})
	if err == nil {
		err = s.opts.Log.Durable(ctx, TopicTables, 0, at)
	}
	if err != nil {
		return fmt.Errorf("write to %s: %w", TopicTables, err)
	}
	s.behind = false
	return nil
}

// read is the View at the offset to, made from an earlier one. open tells that the
// records end within a group, which the View is then without.
func (s *Store) read(ctx context.Context, from *View, to int64) (v *View, open bool, err error) {
	if from.seq >= to {
		return from, false, nil
	}
	src, err := s.opts.Open(ctx, TopicTables, 0, from.seq)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", TopicTables, err)
	}
	defer src.Close()
	r := replay{view: from, next: from.seq}
	for r.next < to {
		chunk, err := src.Next(ctx)
		if err != nil {
			return nil, false, fmt.Errorf("%s@%d: %w", TopicTables, r.next, err)
		}
		for i := range chunk.Records {
			if chunk.Records[i].Offset >= to {
				break
			}
			if err := r.record(&chunk.Records[i]); err != nil {
				return nil, false, fmt.Errorf("%s@%d: %w", TopicTables, chunk.Records[i].Offset, err)
			}
		}
		r.next = max(r.next, chunk.Next)
	}
	return r.edited(), r.edit != nil, nil
}

// replay applies records to a View, group by group.
type replay struct {
	view *View // after the last whole group
	done *edit // the groups since, not yet a View of its own
	edit *edit // the group at hand, nil between groups
	next int64 // the offset after the last record
	end  int64 // the offset after the last whole group
}

// record applies one record. Groups of one record share an edit: a View between
// them is not asked for.
func (r *replay) record(rec *source.Record) error {
	if r.edit == nil {
		if r.done != nil {
			r.edit = r.done
		} else {
			r.edit = r.view.edit()
		}
	}
	c, more, err := parseChange(rec.Value, func(name string) *Definition {
		if t := r.edit.find(name); t != nil {
			return t.def
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.next = rec.Offset + 1
	if c.Op == opAbort {
		r.edit, r.end = nil, r.next
		return nil
	}
	if more && r.edit == r.done { // a group of several may be aborted: begin it apart
		r.view, r.done = r.edited(), nil
		r.edit = r.view.edit()
	}
	if err := r.edit.apply(&c); err != nil {
		return err
	}
	if !more {
		r.done, r.edit, r.end = r.edit, nil, r.next
	}
	return nil
}

// edited is the View after the last whole group.
func (r *replay) edited() *View {
	if r.done == nil {
		return &View{seq: max(r.view.seq, r.end), time: r.view.time, tables: r.view.tables}
	}
	return r.done.view(r.end)
}

// publish makes a View the head and keeps it.
func (s *Store) publish(v *View) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(v)
	s.head.Store(v)
}

func (s *Store) keep(v *View) {
	i, found := slices.BinarySearchFunc(s.kept, v.seq, func(k *View, seq int64) int { return int(min(max(k.seq-seq, -1), 1)) })
	if found {
		return
	}
	s.kept = slices.Insert(s.kept, i, v)
	if len(s.kept) > viewsKept {
		s.kept = slices.Delete(s.kept, 0, 1)
	}
}

// At is the View at an offset that Head once had. Asking for the newest ones is
// cheap; an old one is made again from the log.
func (s *Store) At(ctx context.Context, seq int64) (*View, error) {
	switch head := s.Head(); {
	case head.seq == seq:
		return head, nil
	case seq == 0:
		return emptyView, nil
	case head.seq < seq:
		return nil, fmt.Errorf("%s ends at %d and the change %d was used: it is not the topic that was decided with", TopicTables, head.seq, seq)
	}
	s.mu.Lock()
	defer s.mu.Unlock() // shards that restart ask for the same one: the second finds it
	base := emptyView
	for _, v := range s.kept {
		if v.seq <= seq {
			base = v
		}
	}
	if base.seq == seq {
		return base, nil
	}
	v, open, err := s.read(ctx, base, seq)
	switch {
	case err != nil:
		return nil, err
	case open || v.seq != seq:
		return nil, fmt.Errorf("%s: %d is within a group of changes", TopicTables, seq)
	}
	s.keep(v)
	return v, nil
}

// Result is what a change did.
type Result struct {
	Seq     int64 // Views from here on have it
	Changed int   // how many changes made a difference
}

// Change makes changes, all of them or, after an error, none. It returns when they
// are durable and Head shows them. Changes that change nothing are not written.
// Errors: ErrUnknown, ErrFull, ErrTooLarge, ErrShape, and those of the log.
func (s *Store) Change(ctx context.Context, changes []Change) (Result, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.change(ctx, changes)
}

// Update makes changes that depend on the newest View: none can come between.
func (s *Store) Update(ctx context.Context, f func(v *View) ([]Change, error)) (Result, error) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.behind {
		if err := s.catchUp(ctx); err != nil {
			return Result{}, err
		}
	}
	changes, err := f(s.head.Load())
	if err != nil {
		return Result{}, err
	}
	return s.change(ctx, changes)
}

func (s *Store) change(ctx context.Context, changes []Change) (Result, error) {
	if s.behind {
		if err := s.catchUp(ctx); err != nil {
			return Result{}, err
		}
	}
	head := s.head.Load()
	e := head.edit()
	recs, err := s.encode(e, changes)
	if err != nil || len(recs) == 0 {
		return Result{Seq: head.seq}, err
	}
	end, err := s.write(ctx, recs)
	if err != nil {
		return Result{}, err
	}
	next := e.view(end)
	s.publish(next)
	s.metrics.changed(changes, e.changed)
	return Result{Seq: end, Changed: e.changed}, nil
}

// encode applies changes to e and makes records of those that make a difference.
func (s *Store) encode(e *edit, changes []Change) ([]sink.Record, error) {
	now := s.opts.Now()
	changes = e.withClears(changes)
	recs := make([]sink.Record, 0, len(changes))
	var buf []byte
	ends := make([]int, 0, len(changes))
	for i := range changes {
		c := &changes[i]
		c.Entry.Since = event.FromTime(now)
		if c.Op == OpPut && c.Entry.Expires == 0 {
			c.Entry.Expires = event.MaxTime
		}
		before := e.changed
		if t := e.find(c.Table); t != nil {
			if err := s.protect(t.def, c); err != nil {
				return nil, err
			}
		}
		if err := e.apply(c); err != nil {
			return nil, err
		}
		if e.changed == before {
			continue
		}
		var d *Definition
		if t := e.find(c.Table); t != nil {
			d = t.def
		}
		var err error
		if buf, err = c.appendJSON(buf, d, true); err != nil {
			return nil, err
		}
		ends = append(ends, len(buf))
		recs = append(recs, sink.Record{Timestamp: now.UnixMilli(), Key: []byte(c.Table)})
	}
	if err := e.checkLimits(); err != nil {
		return nil, err
	}
	start := 0
	for i, end := range ends {
		recs[i].Value = buf[start:end:end]
		start = end
	}
	if n := len(recs); n > 0 { // the last one ends the group
		v := recs[n-1].Value
		recs[n-1].Value = append(v[:len(v)-len(`,"more":true}`)], '}')
	}
	return recs, nil
}

func (s *Store) protect(d *Definition, c *Change) error {
	if s.opts.Protect == nil || c.Op != OpPut && c.Op != OpRemove {
		return nil
	}
	return s.opts.Protect(d, c)
}

// write appends a group and waits until it is durable. After an error the log may
// have it, or a part of it: the next change looks first.
func (s *Store) write(ctx context.Context, recs []sink.Record) (int64, error) {
	s.behind = true
	base, err := s.opts.Log.Append(ctx, TopicTables, 0, recs)
	if err != nil {
		return 0, fmt.Errorf("write to %s: %w", TopicTables, err)
	}
	end := base + int64(len(recs))
	// Who asked may leave; what is written is settled all the same.
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	if err := s.opts.Log.Durable(wait, TopicTables, 0, end-1); err != nil {
		return 0, fmt.Errorf("wait for %s@%d: %w", TopicTables, end-1, err)
	}
	s.behind = false
	return end, nil
}
