package duck

import (
	"context"
	"errors"
	"fmt"
	"time"

	bindings "github.com/duckdb/duckdb-go-bindings"
	"github.com/duckdb/duckdb-go/v2/mapping"
)

// Conn is a read-only connection. Its methods are called by one goroutine at a
// time; it runs one statement at a time.
type Conn struct {
	db         *DB
	searchPath string
	conn       *connection
	generation int
	busy       bool // a Rows is open
}

// connsMax bounds the connections to the instance.
const connsMax = 512

// Conn opens a read-only connection whose unqualified names are looked up in the
// schemas of searchPath, such as "main,weir_pg".
func (db *DB) Conn(searchPath string) (*Conn, error) {
	c := &Conn{db: db, searchPath: searchPath}
	if !db.mu.TryRLock() {
		return nil, ErrReopening
	}
	defer db.mu.RUnlock()
	db.connsMu.Lock()
	defer db.connsMu.Unlock()
	if len(db.conns) >= connsMax {
		return nil, fmt.Errorf("more than %d connections to the SQL database", connsMax)
	}
	if err := c.connect(); err != nil {
		return nil, err
	}
	if db.conns == nil {
		db.conns = map[*Conn]struct{}{}
	}
	db.conns[c] = struct{}{}
	return c, nil
}

// Close closes the connection. No Rows of it is open.
func (c *Conn) Close() {
	c.db.mu.RLock()
	defer c.db.mu.RUnlock()
	c.db.connsMu.Lock()
	delete(c.db.conns, c)
	c.db.connsMu.Unlock()
	if c.conn != nil {
		c.conn.disconnect()
	}
}

func (c *Conn) connect() error {
	raw, err := c.db.connect()
	if err != nil {
		return err
	}
	if err := raw.exec("SET search_path=" + Literal(c.searchPath)); err != nil {
		raw.disconnect()
		return err
	}
	c.conn, c.generation = raw, c.db.generation
	return nil
}

// use locks the instance against Reopen and Close and connects again after one.
// The caller unlocks with c.db.mu.RUnlock. It does not wait for a Reopen: that one
// may be waiting for a Rows of this same goroutine.
func (c *Conn) use() error {
	if !c.db.mu.TryRLock() {
		return ErrReopening
	}
	if !c.db.open {
		c.db.mu.RUnlock()
		return ErrClosed
	}
	if c.generation == c.db.generation {
		return nil
	}
	if err := c.connect(); err != nil {
		c.db.mu.RUnlock()
		return err
	}
	return nil
}

// Statement describes a user's statement.
type Statement struct {
	Text    string
	Columns []Field
	Params  []Type // Kind Unsupported where DuckDB cannot tell before the values come
}

// Describe checks that text is one statement that a user may run (*Denied where
// not) and tells its columns and parameters. ctx bounds it.
func (c *Conn) Describe(ctx context.Context, text string) (*Statement, error) {
	if err := c.use(); err != nil {
		return nil, err
	}
	defer c.db.mu.RUnlock()
	if c.busy {
		return nil, errBusy
	}
	defer interruptOn(ctx, c.conn.conn)()
	p, err := c.prepare(text)
	if err != nil {
		return nil, contextError(ctx, err)
	}
	defer mapping.DestroyPrepare(&p)
	s := &Statement{Text: text}
	for i := range mapping.PreparedStatementColumnCount(p) {
		s.Columns = append(s.Columns, Field{mapping.PreparedStatementColumnName(p, i), *childType(mapping.PreparedStatementColumnLogicalType(p, i), 0)})
	}
	for i := range mapping.NParams(p) {
		s.Params = append(s.Params, Type{Kind: Unsupported})
		if mapping.ParamType(p, i+1) != mapping.TypeInvalid {
			s.Params[i] = *childType(mapping.ParamLogicalType(p, i+1), 0)
		}
	}
	return s, nil
}

var errBusy = errors.New("the connection already runs a statement")

// prepare plans text after the policy has let it pass.
func (c *Conn) prepare(text string) (mapping.PreparedStatement, error) {
	var none mapping.PreparedStatement
	var stmts mapping.ExtractedStatements
	n := mapping.ExtractStatements(c.conn.conn, text, &stmts)
	defer mapping.DestroyExtracted(&stmts)
	if n == 0 {
		if message := mapping.ExtractStatementsError(stmts); message != "" {
			return none, parseError(message)
		}
		return none, &Denied{Reason: "there is no statement"}
	}
	if n > 1 {
		return none, &Denied{Reason: "this is more than one statement, or one that DuckDB would run as several; send them one by one"}
	}
	var p mapping.PreparedStatement
	if mapping.PrepareExtractedStatement(c.conn.conn, stmts, 0, &p) == mapping.StateError {
		err := parseError(mapping.PrepareError(p))
		mapping.DestroyPrepare(&p)
		// A statement that may not run anyway is told so first.
		if denied := c.allowed(text, mapping.StatementTypeInvalid); denied != nil {
			return none, denied
		}
		return none, err
	}
	if err := c.allowed(text, mapping.PreparedStatementType(p)); err != nil {
		mapping.DestroyPrepare(&p)
		return none, err
	}
	return p, nil
}

// Rows is an open result.
type Rows struct {
	Columns []Field

	conn   *Conn
	ctx    context.Context
	stop   func() // of the interrupts
	stmt   mapping.PreparedStatement
	result mapping.Result
	raw    mapping.DataChunk
	chunk  Chunk
	open   bool
}

// Query plans and runs one statement in a READ ONLY transaction of its own. args
// are nil, bool, int, int32, int64, float64, string, []byte or time.Time. The
// result is computed as it is read; ctx bounds the reading too. The caller closes
// the Rows.
func (c *Conn) Query(ctx context.Context, text string, args ...any) (rows *Rows, err error) {
	if err := c.use(); err != nil {
		return nil, err
	}
	if c.busy {
		c.db.mu.RUnlock()
		return nil, errBusy
	}
	if err := ctx.Err(); err != nil {
		c.db.mu.RUnlock()
		return nil, err
	}
	r := &Rows{conn: c, ctx: ctx, open: true}
	c.busy = true
	r.stop = interruptOn(ctx, c.conn.conn)
	defer func() {
		if err != nil {
			r.Close()
			err = contextError(ctx, err)
		}
	}()
	if err := c.conn.exec("BEGIN TRANSACTION READ ONLY"); err != nil {
		return nil, err
	}
	if r.stmt, err = c.prepare(text); err != nil {
		return nil, err
	}
	if want := int(mapping.NParams(r.stmt)); want != len(args) {
		return nil, &Error{Type: "Invalid Input", Message: fmt.Sprintf("the statement has %d parameters, %d values were given", want, len(args)), Position: -1}
	}
	for i, a := range args {
		if err := bind(r.stmt, mapping.IdxT(i+1), a); err != nil {
			return nil, fmt.Errorf("parameter $%d: %w", i+1, err)
		}
	}
	var pending mapping.PendingResult
	defer mapping.DestroyPending(&pending)
	// The C API's only streaming result carries a deprecation note and has no
	// successor: the others hold the whole result in memory.
	if bindings.PendingPreparedStreaming(r.stmt, &pending) == mapping.StateError {
		return nil, parseError(mapping.PendingError(pending))
	}
	if mapping.ExecutePending(pending, &r.result) == mapping.StateError {
		return nil, parseError(mapping.ResultError(&r.result))
	}
	for i := range mapping.ColumnCount(&r.result) {
		t := *childType(mapping.ColumnLogicalType(&r.result, i), 0)
		name := mapping.ColumnName(&r.result, i)
		if !t.readable() {
			return nil, &Error{Type: "Not implemented", Message: fmt.Sprintf("column %q has a type that cannot be sent: cast it to VARCHAR", name), Position: -1}
		}
		r.Columns = append(r.Columns, Field{name, t})
	}
	return r, nil
}

// Next is the next run of rows, nil at the end.
func (r *Rows) Next() (*Chunk, error) {
	for {
		mapping.DestroyDataChunk(&r.raw)
		if err := r.ctx.Err(); err != nil {
			return nil, err
		}
		r.raw = mapping.FetchChunk(r.result)
		if r.raw.Ptr == nil {
			if message := mapping.ResultError(&r.result); message != "" {
				return nil, contextError(r.ctx, parseError(message))
			}
			return nil, nil
		}
		r.chunk.n = int(mapping.DataChunkGetSize(r.raw))
		if r.chunk.n == 0 {
			continue
		}
		r.chunk.Columns = r.chunk.Columns[:0]
		for i := range r.Columns {
			r.chunk.Columns = append(r.chunk.Columns, makeVector(mapping.DataChunkGetVector(r.raw, mapping.IdxT(i)), r.Columns[i].Type, r.chunk.n))
		}
		return &r.chunk, nil
	}
}

// Close ends the statement. It may be called twice.
func (r *Rows) Close() {
	if !r.open {
		return
	}
	r.open = false
	r.stop()
	mapping.DestroyDataChunk(&r.raw)
	mapping.DestroyResult(&r.result)
	mapping.DestroyPrepare(&r.stmt)
	_ = r.conn.conn.exec("ROLLBACK") // nothing was written; it fails only where BEGIN did
	r.conn.busy = false
	r.conn.db.mu.RUnlock()
}

// contextError is ctx's error where DuckDB's says no more than that it was
// interrupted.
func contextError(ctx context.Context, err error) error {
	var e *Error
	if ctx.Err() != nil && errors.As(err, &e) && e.Interrupted() {
		return ctx.Err()
	}
	return err
}

func bind(p mapping.PreparedStatement, i mapping.IdxT, arg any) error {
	var state mapping.State
	switch v := arg.(type) {
	case nil:
		state = mapping.BindNull(p, i)
	case bool:
		state = mapping.BindBoolean(p, i, v)
	case int:
		state = mapping.BindInt64(p, i, int64(v))
	case int32:
		state = mapping.BindInt64(p, i, int64(v))
	case int64:
		state = mapping.BindInt64(p, i, v)
	case float64:
		state = mapping.BindDouble(p, i, v)
	case string:
		state = mapping.BindVarcharLength(p, i, v, mapping.IdxT(len(v)))
	case []byte:
		state = mapping.BindBlob(p, i, v)
	case time.Time:
		value := mapping.CreateTimestampNS(mapping.NewTimestampNS(v.UnixNano()))
		defer mapping.DestroyValue(&value)
		state = mapping.BindValue(p, i, value)
	default:
		return fmt.Errorf("a value of type %T cannot be bound", arg)
	}
	if state == mapping.StateError {
		return fmt.Errorf("DuckDB does not take a value of type %T here", arg)
	}
	return nil
}
