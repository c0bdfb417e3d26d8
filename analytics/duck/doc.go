// Package duck keeps Weir's SQL side in one DuckDB file database: one writer
// that appends columns and commits, and read-only connections for queries. It is
// the only package that uses cgo (through duckdb-go's mapping package).
//
// Invariants:
//
//  1. The log is the truth, the database is derived from it. A file that DuckDB
//     cannot open, or that another format version of Weir wrote, is moved aside
//     with a log line and an empty one takes its place.
//  2. There is one writer connection. Only its owner's goroutine uses it
//     between Begin and Commit or Rollback. Overlapping write transactions would
//     starve checkpoints and let the write-ahead log grow without bound. So would
//     an UPDATE under steady queries: one that is committed while a query has its
//     snapshot open makes CHECKPOINT fail until that query ends. INSERT and DELETE
//     do not.
//  3. What a transaction appended is visible and durable after Commit, all of
//     it or nothing of it, also over kill -9 (DuckDB's write-ahead log).
//  4. A user's statement is a single SELECT (or an EXPLAIN of one) by DuckDB's
//     own statement type, calls only table functions of a fixed list by DuckDB's
//     own parse tree, and runs in a READ ONLY transaction of an instance with
//     enable_external_access=false and lock_configuration=true. Each of the
//     four has been found necessary: enable_logging() and enable_profiling() are
//     table functions of a SELECT that a read-only transaction and a locked
//     configuration let through, and read_blob() may read the database's own file.
//  5. A statement is planned in the transaction that executes it. A plan held
//     over appends answers from stale statistics (count(*) of 0 after 1,000 rows).
//  6. Result chunks and everything they point to are valid until the next call of
//     Rows.Next or Rows.Close.
//  7. Times are nanoseconds since the epoch in UTC: columns are TIMESTAMP_NS and
//     the instance's TimeZone is UTC.
//
// Goroutines: none that outlives a call, but for one per cancelled query, which
// Rows.Close waits for. DuckDB runs its own worker threads.
//
// What it does not do: speak the PostgreSQL dialect (analytics), decide what is
// appended (analytics/history), or limit the memory of a single query: DuckDB has
// one limit for the instance, beyond which queries spill to disk or fail.
package duck
