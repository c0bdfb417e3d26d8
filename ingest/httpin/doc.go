// Package httpin takes events in over HTTP: POST /v1/streams/NAME/events with a
// JSON object, a JSON array, NDJSON or CSV.
//
// A request goes through: its stream, content type and encoding (httpin.go); its
// body, read under the limits (body.go); its key in the ledger (ledger.go); its
// rows, cut (elements.go for arrays, ingest/loader else), checked by the stream's
// decoder and appended in batches by partition (write.go); the wait until all is
// durable; the answer (answer.go).
//
// Invariants:
//
//  1. Nothing of a request is written before its whole body has arrived: a client
//     that goes away half-way, a body over the limit and a gzip bomb leave nothing
//     behind. (A gzip that ends too early has arrived: what is whole in it counts.)
//  2. Every event of a request that is answered with 200 or 422 is a durable record
//     of the stream or a durable dead letter with its line, by the same rules as a
//     row of a file.
//  3. A request with an Idempotency-Key that the ledger knows writes what is
//     missing of it and nothing else, and is answered as the first was, also after
//     a crash. The ledger knows the keys of the last 24 hours, at most 100,000.
//     A key's first record is durable in the topic weir.requests before any event
//     is written; the first record of each batch names the key and the batch's last
//     event. So after a crash only requests that were under way are looked for in
//     the streams, from where they began.
//  4. The outcome of an event depends on the body, the declaration and the time of
//     arrival only; a repeated request has the first one's time of arrival.
//  5. Bodies in memory stay within Options.InFlight bytes over all requests, and
//     Options.Writers requests at once encode, each with at most stagedBytes of
//     batches. Beyond that, clients are told to come back (429, Retry-After).
//
// Goroutines: none of its own. A Handler is safe for use by many.
//
// What it does not do: authenticate, decide (POST .../decide), or apply policies
// for sensitive fields itself: Options.Transform does, to every batch.
package httpin
