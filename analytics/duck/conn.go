package duck

import (
	"errors"
	"fmt"

	"github.com/duckdb/duckdb-go/v2/mapping"
)

// connection is a raw connection to the instance of one generation.
type connection struct {
	conn mapping.Connection
	open bool
}

// connect opens a connection; db.mu is held.
func (db *DB) connect() (*connection, error) {
	if !db.open {
		return nil, ErrClosed
	}
	c := &connection{}
	if mapping.Connect(db.inst, &c.conn) == mapping.StateError {
		return nil, errors.New("DuckDB gives no connection")
	}
	c.open = true
	return c, nil
}

func (c *connection) disconnect() {
	if c.open {
		mapping.Disconnect(&c.conn)
		c.open = false
	}
}

// exec runs statements without parameters and drops their results.
func (c *connection) exec(text string) error {
	var res mapping.Result
	defer mapping.DestroyResult(&res)
	if mapping.Query(c.conn, text, &res) == mapping.StateError {
		return parseError(mapping.ResultError(&res))
	}
	return nil
}

// int64 runs a query whose answer is one BIGINT.
func (c *connection) int64(text string) (int64, error) {
	var res mapping.Result
	defer mapping.DestroyResult(&res)
	if mapping.Query(c.conn, text, &res) == mapping.StateError {
		return 0, parseError(mapping.ResultError(&res))
	}
	chunk := mapping.FetchChunk(res)
	if chunk.Ptr == nil {
		return 0, fmt.Errorf("no row: %s", text)
	}
	defer mapping.DestroyDataChunk(&chunk)
	v := newVector(mapping.DataChunkGetVector(chunk, 0), int(mapping.DataChunkGetSize(chunk)))
	if v.n == 0 || v.Type.Kind != BigInt {
		return 0, fmt.Errorf("not one BIGINT: %s", text)
	}
	return v.Int64(0), nil
}
