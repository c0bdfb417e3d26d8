package pgwire

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	wire "github.com/jeroenrinzema/psql-wire"
	"github.com/jeroenrinzema/psql-wire/codes"
	psqlerr "github.com/jeroenrinzema/psql-wire/errors"
	"github.com/jeroenrinzema/psql-wire/pkg/types"

	"github.com/weirstream/weir/analytics"
	"github.com/weirstream/weir/analytics/duck"
)

// parse is psql-wire's entry: the text of a Query or Parse message.
func (s *Server) parse(ctx context.Context, q wire.Query) (stmts wire.PreparedStatements, err error) {
	c := connOf(ctx)
	defer func() {
		err = c.failed(recovered(recover(), err))
	}()
	texts := analytics.Split(q.Query)
	if len(texts) == 0 {
		return wire.Prepared(wire.NewStatement(c.guard(func(_ context.Context, w wire.DataWriter, _ []wire.Parameter) error {
			if _, err := c.Write([]byte{'I', 0, 0, 0, 4}); err != nil { // EmptyQueryResponse
				return err
			}
			return w.Empty()
		}))), nil
	}
	for _, text := range texts {
		if !q.SimpleQuery && c.tx == types.ServerTransactionFailed && !endsTransaction(text) {
			return nil, errAborted()
		}
		stmt, err := s.statement(ctx, c, text, q)
		if err != nil {
			return nil, err
		}
		stmts = append(stmts, stmt)
	}
	return stmts, nil
}

// statement prepares one statement: one that the session answers by itself, or one
// for the engine.
func (s *Server) statement(ctx context.Context, c *conn, text string, q wire.Query) (*wire.PreparedStatement, error) {
	if stmt := c.own(text); stmt != nil {
		return stmt, nil
	}
	text = template(text)
	qctx, done := c.running()
	defer done()
	st, err := s.engine.Describe(qctx, text)
	if err != nil {
		return nil, err
	}
	params := make([]uint32, len(st.Params))
	for i := range params {
		if i < len(q.ParameterOIDs) && q.ParameterOIDs[i] != 0 {
			params[i] = q.ParameterOIDs[i]
		} else {
			params[i] = oidOf(st.Params[i])
		}
	}
	columns := make(wire.Columns, len(st.Columns))
	for i, f := range st.Columns {
		oid := oidOf(f.Type)
		columns[i] = wire.Column{Name: columnName(f.Name), Oid: oid, Width: widths[oid]}
	}
	run := func(_ context.Context, w wire.DataWriter, values []wire.Parameter) error {
		return s.run(c, st, params, w, values)
	}
	return wire.NewStatement(c.guard(run), wire.WithColumns(columns), wire.WithParameters(params)), nil
}

// columnName is DuckDB's name of a column without an alias in PostgreSQL's form
// where clients go by it: count_star() is count, now() is now.
func columnName(name string) string {
	short, ok := strings.CutSuffix(name, "()")
	if !ok {
		return name
	}
	if short = strings.Trim(short, `"`); short == "count_star" {
		return "count"
	}
	return short
}

// guard wraps what runs a statement: a panic is the statement's error, and an error
// is the transaction's.
func (c *conn) guard(run wire.PreparedStatementFn) wire.PreparedStatementFn {
	return func(ctx context.Context, w wire.DataWriter, values []wire.Parameter) (err error) {
		defer func() {
			if errors.Is(err, wire.ErrSuspendedHandlerClosed) {
				return // the client closed a portal before its end
			}
			err = c.failed(recovered(recover(), err))
		}()
		return run(ctx, w, values)
	}
}

// recovered makes an error of a panic, whose stack goes to the log by way of its
// message being rare.
func recovered(p any, err error) error {
	if p == nil {
		return err
	}
	return fmt.Errorf("internal error: %v\n%s", p, debug.Stack())
}

// failed notes an error in the session and gives it its wire form.
func (c *conn) failed(err error) error {
	if err == nil {
		return nil
	}
	if c.tx == types.ServerTransactionBlock {
		c.tx = types.ServerTransactionFailed
	}
	var coded *wireError
	if errors.As(err, &coded) {
		return err
	}
	var e *analytics.Error
	if !errors.As(err, &e) {
		c.server.logger.Error("a SQL statement failed inside Weir", "error", err)
		return pgError("XX000", strings.SplitN(err.Error(), "\n", 2)[0], "")
	}
	c.position = e.Position
	return pgError(e.Code, e.Message, e.Hint)
}

// wireError marks an error that has its wire form.
type wireError struct{ error }

func (e *wireError) Unwrap() error { return e.error }

func pgError(code, message, hint string) error {
	err := psqlerr.WithCode(errors.New(message), codes.Code(code))
	if hint != "" {
		err = psqlerr.WithHint(err, hint)
	}
	return &wireError{err}
}

func errAborted() error {
	return pgError("25P02", "current transaction is aborted, commands ignored until end of transaction block", "")
}

// rowsAtOnce is how many rows are handed to psql-wire at once.
const rowsAtOnce = 256

// run executes a statement and sends its rows.
func (s *Server) run(c *conn, st *analytics.Statement, oids []uint32, w wire.DataWriter, values []wire.Parameter) error {
	if c.tx == types.ServerTransactionFailed {
		return errAborted()
	}
	if len(values) != len(oids) {
		return pgError("08P01", fmt.Sprintf("bind message supplies %d parameters, but the prepared statement requires %d", len(values), len(oids)), "")
	}
	casts, args := make([]string, len(values)), make([]any, len(values))
	for i, v := range values {
		var err error
		if args[i], casts[i], err = argument(v, oids[i], st.Params[i]); err != nil {
			return pgError("22P03", fmt.Sprintf("parameter $%d: %v", i+1, err), "")
		}
	}
	ctx, done := c.running()
	defer done()
	stop := c.watch(done)
	cur, err := s.engine.Run(ctx, st, casts, args...)
	stop()
	if err != nil {
		return err
	}
	defer cur.Close()
	if len(cur.Columns) != len(st.Columns) {
		return pgError("0A000", "cached plan must not change result type", "prepare the statement again: its tables have changed")
	}
	out := newRowBuffer(w.Columns())
	for {
		// Only while DuckDB computes: between rows psql-wire may read.
		stop := c.watch(done)
		chunk, err := cur.Next()
		stop()
		if err != nil {
			return err
		}
		if chunk == nil {
			return w.Complete("SELECT " + strconv.FormatUint(uint64(w.Written()), 10))
		}
		for from := 0; from < chunk.Len(); from += rowsAtOnce {
			if err := wire.WriteRows(w, out.rows(chunk, from, min(rowsAtOnce, chunk.Len()-from))); err != nil {
				return err
			}
		}
	}
}

// rowBuffer holds the cells of some rows, used over and over.
type rowBuffer struct {
	cells []cell
	vals  []any
	out   [][]any
}

func newRowBuffer(columns wire.Columns) *rowBuffer {
	b := &rowBuffer{cells: make([]cell, rowsAtOnce*len(columns)), vals: make([]any, rowsAtOnce*len(columns)), out: make([][]any, rowsAtOnce)}
	for i := range b.cells {
		b.cells[i].oid = columns[i%len(columns)].Oid
	}
	for i := range b.out {
		b.out[i] = b.vals[i*len(columns) : (i+1)*len(columns)]
	}
	return b
}

func (b *rowBuffer) rows(chunk *duck.Chunk, from, n int) [][]any {
	for i := range n {
		row := b.out[i]
		for j := range row {
			v := &chunk.Columns[j]
			if v.IsNull(from + i) {
				row[j] = nil
				continue
			}
			c := &b.cells[i*len(row)+j]
			c.v, c.row = v, from+i
			row[j] = c
		}
	}
	return b.out[:n]
}

func endsTransaction(text string) bool {
	switch first(text) {
	case "ROLLBACK", "COMMIT", "END", "ABORT":
		return true
	}
	return false
}

func first(text string) string {
	if w := analytics.Words(text, 1); len(w) > 0 {
		return w[0]
	}
	return ""
}

// own is a statement that the session answers without the engine, nil where text
// is none.
func (c *conn) own(text string) *wire.PreparedStatement {
	words := analytics.Words(text, 8)
	switch words[0] {
	case "BEGIN", "START":
		return c.command("BEGIN", func(context.Context) { c.tx = types.ServerTransactionBlock })
	case "COMMIT", "END":
		return wire.NewStatement(c.guard(func(_ context.Context, w wire.DataWriter, _ []wire.Parameter) error {
			tag := "COMMIT"
			if c.tx == types.ServerTransactionFailed {
				tag = "ROLLBACK"
			}
			c.tx = types.ServerIdle
			return w.Complete(tag)
		}))
	case "ROLLBACK", "ABORT":
		if len(words) > 1 && words[1] == "TO" || len(words) > 2 && words[2] == "TO" {
			return c.command("ROLLBACK", func(context.Context) {
				if c.tx == types.ServerTransactionFailed {
					c.tx = types.ServerTransactionBlock
				}
			})
		}
		return c.command("ROLLBACK", func(context.Context) { c.tx = types.ServerIdle })
	case "SAVEPOINT", "RELEASE":
		return c.command(words[0], nil)
	case "SET":
		return c.set(text, words)
	case "RESET", "UNLISTEN":
		return c.command(words[0], nil)
	case "DISCARD":
		return c.command("DISCARD ALL", deallocateAll)
	case "DEALLOCATE":
		return c.command("DEALLOCATE", func(ctx context.Context) { deallocate(ctx, text, words) })
	case "SHOW":
		return c.show(words)
	}
	return nil
}

// command is a statement without rows.
func (c *conn) command(tag string, do func(context.Context)) *wire.PreparedStatement {
	return wire.NewStatement(c.guard(func(ctx context.Context, w wire.DataWriter, _ []wire.Parameter) error {
		if c.tx == types.ServerTransactionFailed && tag != "ROLLBACK" {
			return errAborted()
		}
		if do != nil {
			do(ctx)
		}
		return w.Complete(tag)
	}))
}

func deallocateAll(ctx context.Context) {
	if session, ok := wire.GetSession(ctx); ok {
		if cache, ok := session.Statements.(*statements); ok {
			cache.clear(ctx)
		}
	}
}

func deallocate(ctx context.Context, text string, words []string) {
	name := words[len(words)-1]
	if name == "ALL" {
		deallocateAll(ctx)
		return
	}
	// The name as it is written, not in upper case.
	fields := strings.Fields(text)
	name = strings.ToLower(fields[len(fields)-1])
	if q := fields[len(fields)-1]; strings.HasPrefix(q, `"`) {
		name = strings.Trim(q, `"`)
	}
	if session, ok := wire.GetSession(ctx); ok {
		_ = session.Statements.Delete(ctx, name) // it never fails
	}
}

// settingsMax bounds the settings that a session remembers.
const settingsMax = 64

// set accepts every SET: those that mean something here are statement_timeout and
// what SHOW gives back.
func (c *conn) set(text string, words []string) *wire.PreparedStatement {
	return c.command("SET", func(context.Context) {
		i := 1
		if len(words) > i && (words[i] == "SESSION" || words[i] == "LOCAL") {
			i++
		}
		if len(words) < i+3 || words[i+1] != "=" && words[i+1] != "TO" {
			return // SET TIME ZONE, SET TRANSACTION, ...
		}
		name, value := strings.ToLower(words[i]), strings.Trim(words[i+2], "'")
		if words[i+2] == strings.ToUpper(words[i+2]) && !strings.HasPrefix(words[i+2], "'") {
			value = strings.ToLower(value)
		}
		if name == "statement_timeout" {
			if d, ok := timeout(value, words[i+3:]); ok {
				c.timeout = d
			}
		}
		if c.settings == nil {
			c.settings = map[string]string{}
		}
		if _, known := c.settings[name]; known || len(c.settings) < settingsMax {
			c.settings[name] = value
		}
	})
}

// timeout reads a duration as PostgreSQL does: milliseconds, or with a unit.
func timeout(value string, rest []string) (time.Duration, bool) {
	if len(rest) > 0 {
		value += strings.ToLower(rest[0])
	}
	if ms, err := strconv.ParseInt(value, 10, 32); err == nil {
		return time.Duration(ms) * time.Millisecond, ms >= 0
	}
	d, err := time.ParseDuration(strings.ReplaceAll(strings.Replace(value, "min", "m", 1), " ", ""))
	return d, err == nil && d >= 0
}

// shown are the settings that SHOW answers; a session's own SET comes before.
var shown = map[string]string{
	"server_version": serverVersion, "server_version_num": "150000", "search_path": `"$user", public`, "timezone": "UTC", "client_encoding": "UTF8", "server_encoding": "UTF8",
	"datestyle": "ISO, MDY", "intervalstyle": "postgres", "standard_conforming_strings": "on", "transaction_isolation": "read committed", "default_transaction_isolation": "read committed",
	"transaction_read_only": "on", "default_transaction_read_only": "on", "is_superuser": "off", "max_identifier_length": "63", "application_name": "", "extra_float_digits": "1",
	"client_min_messages": "notice", "statement_timeout": "0", "integer_datetimes": "on", "lc_collate": "C.UTF-8", "lc_ctype": "C.UTF-8", "session_authorization": "weir", "ssl": "off",
}

// show answers SHOW of a PostgreSQL setting; SHOW TABLES and the like are DuckDB's.
func (c *conn) show(words []string) *wire.PreparedStatement {
	name := strings.ToLower(strings.Join(words[1:], " "))
	switch name {
	case "transaction isolation level":
		name = "transaction_isolation"
	case "time zone":
		name = "timezone"
	case "session authorization":
		name = "session_authorization"
	}
	value, ok := shown[name]
	if !ok {
		if value, ok = c.settings[name]; !ok {
			return nil
		}
	}
	return wire.NewStatement(c.guard(func(_ context.Context, w wire.DataWriter, _ []wire.Parameter) error {
		if c.tx == types.ServerTransactionFailed {
			return errAborted()
		}
		if set, ok := c.settings[name]; ok {
			value = set
		}
		if err := w.Row([]any{value}); err != nil {
			return err
		}
		return w.Complete("SHOW")
	}), wire.WithColumns(wire.Columns{{Name: name, Oid: oidText, Width: -1}}))
}
