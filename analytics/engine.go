package analytics

import (
	"context"
	_ "embed"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/analytics/history"
)

// Options of New. The zero value is usable.
type Options struct {
	// Timeout bounds a statement from its start to its last row. 0: 1 minute.
	Timeout time.Duration
	// Concurrency is how many statements run at once. 0: twice the CPUs, at least 4.
	Concurrency int
	// RowsMax and BytesMax bound the answer of Query; more is cut off and Truncated.
	// 0: 10,000 rows and 16 MiB.
	RowsMax  int
	BytesMax int
	// Freshness is history's; nil: answers have none.
	Freshness  func() []history.Freshness
	Registerer prometheus.Registerer // nil: no metrics
	Logger     *slog.Logger          // nil: slog.Default
}

// Engine answers SQL. Its methods are safe for use from many goroutines.
type Engine struct {
	db      *duck.DB
	opts    Options
	slots   chan struct{}
	metrics *metrics

	mu     sync.Mutex
	idle   []*duck.Conn
	closed bool
}

// searchPath has the users' tables first, then what stands in for PostgreSQL's
// catalog, which so hides DuckDB's own of the same names.
const searchPath = "main,weir_pg"

//go:embed catalog.sql
var catalogSQL string

// New makes an engine on db and creates there what PostgreSQL clients look for.
func New(db *duck.DB, o Options) (*Engine, error) {
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	if o.Concurrency <= 0 {
		o.Concurrency = max(4, 2*runtime.NumCPU())
	}
	if o.RowsMax <= 0 {
		o.RowsMax = 10_000
	}
	if o.BytesMax <= 0 {
		o.BytesMax = 16 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	e := &Engine{db: db, opts: o, slots: make(chan struct{}, o.Concurrency), metrics: newMetrics(o.Registerer)}
	err := db.OnOpen(makeCatalog)
	if err != nil {
		return nil, fmt.Errorf("SQL catalog: %w", err)
	}
	return e, nil
}

// Close closes the idle connections. No statement runs.
func (e *Engine) Close() {
	e.mu.Lock()
	idle := e.idle
	e.idle, e.closed = nil, true
	e.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}

// conn takes an idle connection or opens one.
func (e *Engine) conn() (*duck.Conn, error) {
	e.mu.Lock()
	if n := len(e.idle); n > 0 {
		c := e.idle[n-1]
		e.idle = e.idle[:n-1]
		e.mu.Unlock()
		return c, nil
	}
	e.mu.Unlock()
	return e.db.Conn(searchPath)
}

func (e *Engine) release(c *duck.Conn) {
	e.mu.Lock()
	if !e.closed && len(e.idle) < 2*e.opts.Concurrency {
		e.idle = append(e.idle, c)
		c = nil
	}
	e.mu.Unlock()
	if c != nil {
		c.Close()
	}
}

// Statement is a statement that may run, described.
type Statement struct {
	Text    string // as it was given
	Columns []duck.Field
	Params  []duck.Type // Kind Unsupported where it cannot be told before the values come

	tr *translation
}

// Describe checks one statement and tells its columns and parameters. Errors are
// *Error.
func (e *Engine) Describe(ctx context.Context, text string) (*Statement, error) {
	ctx, cancel := context.WithTimeout(ctx, e.opts.Timeout)
	defer cancel()
	tr := translate(text)
	c, err := e.conn()
	if err != nil {
		return nil, toError(err, nil, text)
	}
	defer e.release(c)
	s, err := c.Describe(ctx, tr.text)
	if err != nil {
		return nil, toError(err, tr, text)
	}
	return &Statement{Text: text, Columns: s.Columns, Params: s.Params, tr: tr}, nil
}

// Cursor is a running statement. It holds one of the engine's slots until Close.
type Cursor struct {
	Columns []duck.Field

	engine *Engine
	conn   *duck.Conn
	rows   *duck.Rows
	cancel context.CancelFunc
	tr     *translation
	text   string
	began  time.Time
	failed error
}

// Run runs a statement that Describe gave. casts are the SQL types that parameters
// given as text are cast to, see CastParams; args are as for duck.Conn.Query. The
// caller closes the Cursor. ctx bounds the reading too.
func (e *Engine) Run(ctx context.Context, s *Statement, casts []string, args ...any) (*Cursor, error) {
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, toError(ctx.Err(), nil, s.Text)
	}
	ctx, cancel := context.WithTimeout(ctx, e.opts.Timeout)
	cur := &Cursor{engine: e, cancel: cancel, tr: s.tr, text: s.Text, began: time.Now()}
	e.metrics.running.Inc()
	var err error
	if cur.conn, err = e.conn(); err == nil {
		text := s.tr.text
		if slices.ContainsFunc(casts, func(s string) bool { return s != "" }) {
			text = CastParams(text, casts)
			cur.tr = nil // positions no longer map
		}
		cur.rows, err = cur.conn.Query(ctx, text, args...)
	}
	if err != nil {
		err = cur.fail(err)
		cur.Close()
		return nil, err
	}
	cur.Columns = cur.rows.Columns
	return cur, nil
}

func (c *Cursor) fail(err error) error {
	c.failed = toError(err, c.tr, c.text)
	return c.failed
}

// Next is the next run of rows, nil at the end; it is good until the next call.
func (c *Cursor) Next() (*duck.Chunk, error) {
	chunk, err := c.rows.Next()
	if err != nil {
		return nil, c.fail(err)
	}
	return chunk, nil
}

// Close ends the statement. It may be called twice.
func (c *Cursor) Close() {
	if c.cancel == nil {
		return
	}
	if c.rows != nil {
		c.rows.Close()
	}
	c.cancel()
	c.cancel = nil
	if c.conn != nil {
		c.engine.release(c.conn)
	}
	<-c.engine.slots
	c.engine.metrics.done(c.failed, time.Since(c.began))
}

// Column is a column of a Result.
type Column struct {
	Name string
	Type string // as SQL writes it: BIGINT, DECIMAL(18,2), TIMESTAMP_NS, VARCHAR[]
}

// Result is the answer of a query, held whole.
type Result struct {
	Columns []Column
	// Rows hold nil, bool, int64, float64, string, []any (lists), map[string]any
	// (structs) and json.RawMessage (JSON). Integers beyond 64 bits and decimals are
	// strings, so that no reader rounds them; timestamps are RFC 3339; bytes base64.
	Rows      [][]any
	Elapsed   time.Duration
	Truncated bool
	// Freshness is of the tables that the query names: all that it says is in the
	// answer.
	Freshness []history.Freshness
}

// Query runs one statement for REST; args are as for duck.Conn.Query. Errors are
// *Error.
func (e *Engine) Query(ctx context.Context, text string, args ...any) (*Result, error) {
	began := time.Now()
	fresh := e.freshness(text) // before the snapshot, invariant 2
	cur, err := e.Run(ctx, &Statement{Text: text, tr: translate(text)}, nil, args...)
	if err != nil {
		return nil, err
	}
	defer cur.Close()
	res := &Result{Rows: [][]any{}, Freshness: fresh}
	for _, c := range cur.Columns {
		res.Columns = append(res.Columns, Column{c.Name, c.Type.String()})
	}
	bytes := 0
	for {
		chunk, err := cur.Next()
		if err != nil {
			return nil, err
		}
		if chunk == nil {
			break
		}
		for i := range chunk.Len() {
			if len(res.Rows) >= e.opts.RowsMax || bytes >= e.opts.BytesMax {
				res.Truncated = true
				break
			}
			row := make([]any, len(chunk.Columns))
			for j := range row {
				row[j] = value(&chunk.Columns[j], i, &bytes)
			}
			res.Rows = append(res.Rows, row)
		}
		if res.Truncated {
			break
		}
	}
	res.Elapsed = time.Since(began)
	return res, nil
}

// freshness is that of the tables whose names stand in text.
func (e *Engine) freshness(text string) []history.Freshness {
	if e.opts.Freshness == nil {
		return nil
	}
	names := map[string]bool{}
	for _, t := range tokenize(text) {
		if t.kind == word || t.kind == quoted {
			names[strings.ToLower(strings.Trim(text[t.start:t.end], `"`))] = true
		}
	}
	var out []history.Freshness
	for _, f := range e.opts.Freshness() {
		if names[strings.ToLower(f.Name)] {
			out = append(out, f)
		}
	}
	return out
}

// Running is how many statements run.
func (e *Engine) Running() int { return len(e.slots) }

// Timeout is how long a statement may take.
func (e *Engine) Timeout() time.Duration { return e.opts.Timeout }
