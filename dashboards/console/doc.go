// Package console is Weir's web console: the page on which analysts watch rates,
// alerts with the values that fired them, streams and rules, and put a question
// in SQL. The TypeScript is in web/, its build in dist/, which is committed and
// embedded, so that building Weir needs no Node.
//
// The page reads the REST API of the server that serves it (GET /v1/overview,
// /v1/alerts, /v1/streams, /v1/rules, /v1/operators, server-sent events at /v1/live,
// POST /v1/sql) and nothing else: no script, font or picture comes from elsewhere.
//
// Invariants:
//
//  1. dist/ is what web/ builds: dist/MANIFEST holds a hash of the sources and
//     one of each built file, and a test that needs no Node compares them.
//  2. A file under /assets/ carries a hash of its content in its name, so that
//     it never changes and may be cached for ever; the page itself is asked for
//     again each time.
//  3. Every answer carries a content security policy that allows this origin
//     only, no inline script, no inline style and no framing.
//  4. The page's memory is bounded: 500 live alerts, 5,000 with the older ones
//     that were asked for, five minutes of rates.
//
// It starts no goroutine. It does not serve the API, know what a stream or a
// rule is, or check who is asking.
//
// After a change under web/: `make console` builds dist/, `make test-console`
// drives the page in a browser against the mock in mock/.
package console
