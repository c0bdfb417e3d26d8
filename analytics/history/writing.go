package history

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/ingest/event"
)

// prepare makes the tables as they are declared and reads the positions. Tables
// that cannot be kept are dropped and will be refilled.
func (h *History) prepare() error {
	w := h.db.Writer()
	if w == nil {
		return duck.ErrClosed
	}
	w.Rollback()
	if err := w.Exec(stateDDL); err != nil {
		return err
	}
	have := map[string]string{}
	err := w.Each("SELECT name, fingerprint FROM weir_state.tables", func(c *duck.Chunk, i int) error {
		have[string(c.Columns[0].Bytes(i))] = string(c.Columns[1].Bytes(i))
		return nil
	})
	if err != nil {
		return err
	}
	if err := h.dropViews(w); err != nil {
		return err
	}
	for _, t := range h.tables {
		if err := h.prepareTable(w, t, have[t.name]); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
		delete(have, t.name)
	}
	for name := range have {
		h.logger.Info("a SQL table is dropped: its stream is no longer declared", "table", name)
		if err := drop(w, name); err != nil {
			return fmt.Errorf("table %s: %w", name, err)
		}
	}
	if err := h.loadPositions(w); err != nil {
		return err
	}
	if err := w.Exec(freshnessDDL); err != nil {
		return err
	}
	return h.makeViews(w)
}

const stateDDL = `CREATE TABLE IF NOT EXISTS weir_state.tables(name VARCHAR, fingerprint VARCHAR);
CREATE TABLE IF NOT EXISTS weir_state.positions(name VARCHAR, topic VARCHAR, "partition" BIGINT, next BIGINT, watermark TIMESTAMP_NS, newest TIMESTAMP_NS)`

// freshnessDDL reads the positions of the query's own snapshot, so that what it
// says holds for the other tables of the same statement.
const freshnessDDL = `CREATE OR REPLACE VIEW main.weir_freshness AS
SELECT p.name, p."partition", p.next AS "offset", p.watermark,
	CASE WHEN p.next >= coalesce(e.high_watermark, 0) THEN 0
	ELSE greatest(0, e.now_ms - coalesce(epoch_ms(p.newest), e.started_ms)) END::BIGINT AS age_ms
FROM weir_state.positions p LEFT JOIN weir_log_ends() e ON p.topic = e.topic AND p."partition" = e."partition"
ORDER BY p.name, p."partition"`

func (h *History) prepareTable(w *duck.Writer, t *table, have string) error {
	why := ""
	switch {
	case have == "":
	case have != t.fingerprint:
		keep, err := h.migrates(w, t)
		if err != nil {
			return err
		}
		if keep {
			h.logger.Warn("a SQL table gets the columns of its stream's new declaration and keeps its rows, of which the log no longer has all records", "table", t.name)
			return h.migrate(w, t, have)
		}
		why = "its declaration has changed"
	default:
		again, err := h.topicIsAnother(w, t)
		if err != nil {
			return err
		}
		if !again {
			return nil
		}
		why = "its topic ends before what was read from it: it was made anew"
	}
	if why != "" {
		h.logger.Warn("a SQL table is refilled from the log", "table", t.name, "topic", t.topic, "because", why)
	}
	// Also where the state does not know it: a crash between two statements.
	if err := drop(w, t.name); err != nil {
		return err
	}
	return w.Exec("BEGIN; " + t.ddl() + "; INSERT INTO weir_state.tables VALUES (" + duck.Literal(t.name) + ", " + duck.Literal(t.fingerprint) + "); COMMIT")
}

func drop(w *duck.Writer, name string) error {
	lit := duck.Literal(name)
	err := w.Exec("BEGIN; DROP TABLE IF EXISTS main." + duck.Quote(name) + "; DELETE FROM weir_state.tables WHERE name = " + lit +
		"; DELETE FROM weir_state.positions WHERE name = " + lit + "; COMMIT")
	if err != nil {
		_ = w.Exec("ROLLBACK") // none is open where BEGIN failed
	}
	return err
}

// topicIsAnother reports whether a position lies beyond the end of its partition,
// and not because of damage.
func (h *History) topicIsAnother(w *duck.Writer, t *table) (bool, error) {
	another := false
	err := w.Each(`SELECT "partition", next FROM weir_state.positions WHERE name = `+duck.Literal(t.name), func(c *duck.Chunk, i int) error {
		partition := int32(c.Columns[0].Int64(i))
		if h.opts.Damaged != nil && h.opts.Damaged(t.topic, partition) {
			return nil
		}
		end, err := h.opts.HighWatermark(t.topic, partition)
		if err != nil || end < c.Columns[1].Int64(i) {
			another = true // a partition that is no longer there, too
		}
		return nil
	})
	return another, err
}

// loadPositions reads the positions and adds those of new partitions.
func (h *History) loadPositions(w *duck.Writer) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	type key struct {
		name  string
		index int32
	}
	missing := map[key]*partition{}
	for _, p := range h.partitions {
		p.next, p.watermark, p.newest = 0, event.MinTime, event.MinTime
		missing[key{p.table.name, p.index}] = p
	}
	err := w.Each(`SELECT name, "partition", next, watermark, newest FROM weir_state.positions`, func(c *duck.Chunk, i int) error {
		k := key{string(c.Columns[0].Bytes(i)), int32(c.Columns[1].Int64(i))}
		p := missing[k]
		if p == nil {
			return fmt.Errorf("two positions, or one without its partition: %s[%d]", k.name, k.index)
		}
		delete(missing, k)
		p.next = c.Columns[2].Int64(i)
		for col, at := range map[int]*event.Time{3: &p.watermark, 4: &p.newest} {
			if !c.Columns[col].IsNull(i) {
				*at = event.Time(c.Columns[col].Int64(i))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k, p := range missing {
		err := w.Exec(`INSERT INTO weir_state.positions VALUES (` + duck.Literal(k.name) + ", " + duck.Literal(p.table.topic) + ", " + strconv.Itoa(int(k.index)) + ", 0, NULL, NULL)")
		if err != nil {
			return err
		}
	}
	return nil
}

// writing is the writer's loop over one life of the database.
type writing struct {
	h *History
	w *duck.Writer

	rows    int
	began   time.Time // when the open transaction got its first run; zero: none is open
	pending map[*partition]position
	refused time.Time // when DuckDB last refused a checkpoint
}

// position is what a transaction will make of a partition.
type position struct {
	next              int64
	watermark, newest event.Time
	rows, refused     int
}

// loop appends and commits until runs is closed or ctx is done; then it commits
// what it has.
func (w *writing) loop(ctx context.Context, runs <-chan *run) error {
	w.pending = map[*partition]position{}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case r, ok := <-runs:
			if !ok || ctx.Err() != nil {
				if ok {
					r.free()
				}
				return w.commit()
			}
			if w.began.IsZero() {
				timer.Reset(w.h.opts.CommitEvery)
			}
			if err := w.append(r); err != nil {
				w.w.Rollback()
				return err
			}
			if w.rows < w.h.opts.CommitRows {
				continue
			}
		case <-timer.C:
		case <-ctx.Done():
			return w.commit()
		}
		if err := w.commit(); err != nil {
			return err
		}
		if err := w.checkpoint(); err != nil {
			return err
		}
	}
}

func (w *writing) append(r *run) error {
	defer r.free()
	if w.began.IsZero() {
		if err := w.w.Begin(); err != nil {
			return err
		}
		w.began = time.Now()
	}
	if r.rows > 0 {
		t, err := w.w.Table("main", r.part.table.name)
		if err != nil {
			return err
		}
		if err := t.Append(r.cols); err != nil {
			return err
		}
		w.rows += r.rows
	}
	pos, ok := w.pending[r.part]
	if !ok {
		pos.watermark, pos.newest = event.MinTime, event.MinTime
	}
	pos.next = r.next
	pos.watermark = max(pos.watermark, r.watermark)
	if r.newest != event.MinTime {
		pos.newest = r.newest
	}
	pos.rows += r.rows
	pos.refused += r.refused
	w.pending[r.part] = pos
	return nil
}

// commit writes the positions with the rows and then shows them.
func (w *writing) commit() error {
	if w.began.IsZero() {
		return nil
	}
	started := time.Now()
	w.began, w.rows = time.Time{}, 0
	w.h.mergeWatermarks(w.pending)
	if err := w.w.Exec(positionsUpdate(w.pending)); err != nil {
		w.w.Rollback()
		return err
	}
	if err := w.w.Commit(); err != nil {
		w.w.Rollback()
		return err
	}
	w.h.metrics.commits.Observe(time.Since(started).Seconds())
	w.h.advance(w.pending)
	clear(w.pending)
	return nil
}

// mergeWatermarks keeps what the partitions had where this transaction brings
// nothing later.
func (h *History) mergeWatermarks(pending map[*partition]position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for p, pos := range pending {
		pos.watermark = max(pos.watermark, p.watermark)
		if pos.newest == event.MinTime {
			pos.newest = p.newest
		}
		pending[p] = pos
	}
}

// positionsUpdate replaces the positions by DELETE and INSERT. An UPDATE that is
// committed while a query has its snapshot open makes every CHECKPOINT fail until
// that query ends, so that under steady queries the write-ahead log would grow
// without bound; a DELETE does not.
func positionsUpdate(pending map[*partition]position) string {
	var gone, come strings.Builder
	nanos := func(t event.Time) string {
		if t == event.MinTime {
			return "NULL"
		}
		return "make_timestamp_ns(" + strconv.FormatInt(int64(t), 10) + ")"
	}
	for p, pos := range pending {
		if gone.Len() > 0 {
			gone.WriteString(" OR ")
			come.WriteString(", ")
		}
		fmt.Fprintf(&gone, `(name = %s AND "partition" = %d)`, duck.Literal(p.table.name), p.index)
		fmt.Fprintf(&come, "(%s, %s, %d, %d, %s, %s)", duck.Literal(p.table.name), duck.Literal(p.table.topic), p.index, pos.next, nanos(pos.watermark), nanos(pos.newest))
	}
	return "DELETE FROM weir_state.positions WHERE " + gone.String() + "; INSERT INTO weir_state.positions VALUES " + come.String()
}

// checkpointAgain is how long to wait after a checkpoint that DuckDB refused.
const checkpointAgain = 5 * time.Second

// checkpoint folds a write-ahead log that has grown.
func (w *writing) checkpoint() error {
	size := w.h.db.WALSize()
	if size < w.h.opts.CheckpointBytes || time.Since(w.refused) < checkpointAgain {
		return nil
	}
	started := time.Now()
	err := w.w.Checkpoint()
	var de *duck.Error
	if errors.As(err, &de) && strings.HasPrefix(de.Message, "Cannot CHECKPOINT") {
		// Something holds the old state open; it passes, and nothing is lost.
		w.refused = time.Now()
		w.h.logger.Warn("a checkpoint of the SQL database has to wait", "wal_bytes", size, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	w.h.metrics.checkpoints.Observe(time.Since(started).Seconds())
	return nil
}
