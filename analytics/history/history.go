package history

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/ingest/dedupe"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
	dimension "github.com/weirstream/weir/ingest/table"
)

// Options of New. Open, Partitions and HighWatermark are required.
type Options struct {
	Open          func(ctx context.Context, topic string, partition int32, from int64) (source.Source, error)
	Partitions    func(topic string) (int32, error)
	HighWatermark func(topic string, partition int32) (int64, error)
	// Start is the first offset that the log still has of a partition: where that is
	// not 0, a changed declaration does not cost the table the rows before. Nil: 0.
	Start func(topic string, partition int32) (int64, error)
	// Damaged tells that a partition ends early because damage took it out of
	// service: its rows are kept, they may be all that is left of the lost records.
	// Nil: none is.
	Damaged func(topic string, partition int32) bool

	// Tables are the dimension tables and lists to show; nil: none, and no table of
	// their changes.
	Tables []*dimension.Definition

	// CommitRows and CommitEvery bound a transaction: it is committed when it has
	// that many rows, or when its first row has waited that long. 0: 100,000 and
	// 200 ms.
	CommitRows  int
	CommitEvery time.Duration
	// CheckpointBytes is the size of DuckDB's write-ahead log at which it is folded
	// into the file. 0: 256 MiB.
	CheckpointBytes int64
	// Decoders is how many partitions decode at once; 0: one for each CPU.
	Decoders int

	Registerer prometheus.Registerer // nil: no metrics
	Logger     *slog.Logger          // nil: slog.Default
}

// History fills tables from topics.
type History struct {
	db      *duck.DB
	opts    Options
	logger  *slog.Logger
	metrics *metrics
	started time.Time

	// declared are the streams that Run is to show from now on.
	declared chan declaration

	// tables and partitions change where Run takes a declaration up, under mu; what
	// partitions points to is under mu, too.
	tables     []*table
	partitions []*partition
	mu         sync.Mutex
	moved      chan struct{} // closed and replaced when a position has moved
}

// declaration is what Declare gives Run.
type declaration struct {
	tables     []*table
	partitions []*partition
	done       chan<- error
}

// partition is one partition of one table.
type partition struct {
	table *table
	index int32
	// seen is what its reader leaves out by, made anew with each life of the readers.
	seen *dedupe.Seen

	// Under History.mu: what is committed.
	next      int64
	watermark event.Time
	newest    event.Time // timestamp of the newest record applied, MinTime where none
}

// New prepares the tables of the streams and of Weir's own topics. The topics
// exist. Errors name the stream and field that cannot be a table or column.
func New(db *duck.DB, streams []*schema.Stream, o Options) (*History, error) {
	if o.CommitRows <= 0 {
		o.CommitRows = 100_000
	}
	if o.CommitEvery <= 0 {
		o.CommitEvery = 200 * time.Millisecond
	}
	if o.CheckpointBytes <= 0 {
		o.CheckpointBytes = 256 << 20
	}
	if o.Decoders <= 0 {
		o.Decoders = runtime.GOMAXPROCS(0)
	}
	h := &History{db: db, opts: o, logger: o.Logger, started: time.Now(), moved: make(chan struct{}), declared: make(chan declaration)}
	if h.logger == nil {
		h.logger = slog.Default()
	}
	d, err := h.declarationOf(streams)
	if err != nil {
		return nil, err
	}
	h.tables, h.partitions = d.tables, d.partitions
	if err := db.Register(h.logEnds()); err != nil {
		return nil, err
	}
	if err := h.prepare(); err != nil {
		return nil, err
	}
	h.metrics = newMetrics(o.Registerer, h)
	return h, nil
}

// declarationOf is what shows the streams.
func (h *History) declarationOf(streams []*schema.Stream) (d declaration, err error) {
	for _, s := range streams {
		t, err := streamTable(s)
		if err != nil {
			return d, err
		}
		d.tables = append(d.tables, t)
	}
	d.tables = append(d.tables, ownTables()...)
	if h.opts.Tables != nil {
		d.tables = append(d.tables, tableChanges())
	}
	if err := checkNames(d.tables, h.viewNames()); err != nil {
		return d, err
	}
	for _, t := range d.tables {
		n, err := h.opts.Partitions(t.topic)
		if err != nil {
			return d, fmt.Errorf("table %s: %w", t.name, err)
		}
		for i := range n {
			d.partitions = append(d.partitions, &partition{table: t, index: i, watermark: event.MinTime, newest: event.MinTime})
		}
	}
	return d, nil
}

// Check is what keeps the streams from being shown: a name that another table has,
// say.
func (h *History) Check(streams []*schema.Stream) error {
	tables := ownTables()
	for _, s := range streams {
		t, err := streamTable(s)
		if err != nil {
			return err
		}
		tables = append(tables, t)
	}
	return checkNames(tables, h.viewNames())
}

// Declare makes Run, which must be running, show these streams from now on, by
// invariant 3: tables of streams that are as before stay as they are, after a short
// pause. Their topics exist. It returns when the tables are there; after an error of
// the database or of ctx, Run goes on trying.
func (h *History) Declare(ctx context.Context, streams []*schema.Stream) error {
	d, err := h.declarationOf(streams)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	d.done = done
	select {
	case h.declared <- d:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// untilDeclared runs the readers and the writer until ctx is done, the database
// fails, or there is a declaration to take up.
func (h *History) untilDeclared(ctx context.Context) (*declaration, error) {
	ctx, stop := context.WithCancel(ctx)
	var next *declaration
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		select {
		case d := <-h.declared:
			next = &d
			stop()
		case <-ctx.Done():
		}
	}()
	err := h.runOnce(ctx)
	stop()
	<-heard
	return next, err
}

// take takes up a declaration.
func (h *History) take(d *declaration) error {
	h.mu.Lock()
	h.tables, h.partitions = d.tables, d.partitions
	h.mu.Unlock()
	err := h.prepare()
	d.done <- err
	return err
}

// Back-off between tries after an error of the database or of a partition.
const (
	backoffMin = 250 * time.Millisecond
	backoffMax = 30 * time.Second
)

// Run fills the tables until ctx is done, then commits what it has read and
// returns nil.
func (h *History) Run(ctx context.Context) error {
	backoff := backoffMin
	for {
		began := time.Now()
		next, err := h.untilDeclared(ctx)
		if next != nil && ctx.Err() == nil {
			if err != nil {
				h.logger.Warn("the SQL side could not commit before a new declaration: it reads these records again", "error", err)
			}
			if err = h.take(next); err == nil {
				continue
			}
		}
		if ctx.Err() != nil {
			if err != nil {
				// What was not committed is read again at the next start.
				h.logger.Warn("the SQL side stopped before its last commit", "error", err)
			}
			return nil
		}
		if time.Since(began) > backoffMax {
			backoff = backoffMin
		}
		h.metrics.errors.Inc()
		h.logger.Error("the SQL side cannot write and tries again; queries show what was committed before", "error", err, "again_in", backoff)
		if !sleep(ctx, backoff) {
			return nil
		}
		backoff = min(2*backoff, backoffMax)
		if err := h.recover(err); err != nil {
			h.logger.Error("the SQL database cannot be opened again", "error", err)
		}
	}
}

// recover makes the database usable after err: a writer that lost its transaction
// needs nothing, an instance that DuckDB gave up is opened again.
func (h *History) recover(err error) error {
	var de *duck.Error
	if errors.As(err, &de) && de.Fatal() || errors.Is(err, duck.ErrClosed) {
		if err := h.db.Reopen(); err != nil {
			return err
		}
	}
	if h.db.Writer() == nil {
		return h.db.Reopen()
	}
	return h.prepare()
}

// sleep waits for d, or until ctx is done: then false.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// runOnce reads and writes until ctx is done or the database fails.
func (h *History) runOnce(ctx context.Context) error {
	rctx, stop := context.WithCancel(ctx)
	defer stop()
	if err := h.loadSeen(); err != nil {
		return err
	}
	runs := make(chan *run, len(h.partitions))
	slots := make(chan struct{}, h.opts.Decoders)
	var wg sync.WaitGroup
	for _, p := range h.partitions {
		h.mu.Lock()
		from := p.next
		h.mu.Unlock()
		wg.Go(func() { h.read(rctx, p, from, slots, runs) })
	}
	go func() {
		wg.Wait()
		close(runs)
	}()
	w := &writing{h: h, w: h.db.Writer()}
	err := w.loop(ctx, runs)
	stop()
	for r := range runs { // until every reader has ended
		r.free()
	}
	return err
}
