// Package pgwire serves PostgreSQL's wire protocol, so that psql, Grafana, JDBC
// and every PostgreSQL driver query Weir. It sits on jeroenrinzema/psql-wire.
//
// Anybody who reaches the port may connect, with any user and database name and no
// password; the port is on loopback unless told otherwise. Statements only read.
//
// Invariants:
//
//  1. A statement is planned again each time it is executed (analytics/duck,
//     invariant 5), each in a snapshot of its own: PostgreSQL's READ COMMITTED.
//     BEGIN, COMMIT and ROLLBACK are tracked for the client's sake only.
//  2. A result is sent as it is computed. What is held of it is one chunk of rows
//     and a write buffer; a slow client slows its own query until the statement
//     times out.
//  3. A statement ends when its client cancels it or goes away.
//  4. Every error has a SQLSTATE, and a position where DuckDB gives one.
//  5. Bounded: connections, the size of a message, the prepared statements and
//     portals of a session.
//
// psql-wire v0.20 has no field for an error's position, always calls itself
// server_version 150000, and writes each message by itself: conn.go amends the two
// and buffers writes until the next read.
//
// Goroutines: Serve runs one for each connection, and one more for it while
// DuckDB computes, which watches for the client going away. All end before Serve
// returns.
//
// What it does not do: TLS, passwords, COPY, cursors of SQL (DECLARE), LISTEN.
package pgwire
