// Package node wires the parts of Weir into one running appliance: the log and
// its Kafka listener, the engine, the SQL side, the alert router, the REST API,
// the metrics and the console. It runs as well inside a test as under main.
//
// Invariants:
//
//  1. All that can fail because of what a person wrote fails in Prepare, before
//     a file is opened or a port is bound.
//  2. Ready is closed only when every listener accepts and the engine runs from
//     its checkpoint. The SQL database opens meanwhile: until then queries wait,
//     and readiness says so.
//  3. Parts are stopped in the order in which data flows: listeners, engine,
//     router, SQL side, log. What a later part still has to read is in the log.
//  4. A part that fails stops the node with its error; none is left half dead.
//  5. A change of streams over HTTP is whole: before it is on disk (streams.json)
//     nothing has changed, behind that every part takes it up, at the latest with
//     the next start. Records are protected by a declaration before any part reads
//     them by it, and the topic of a sensitive stream stays protected when the
//     stream is gone.
//  6. A reload of the rules is whole: what is wrong in any file changes nothing. The program
//     is in the catalogue (programs/) before the engine is told of it, so whatever the
//     journal names is there; what cannot be had of it is told and stops nothing.
//  7. A keyed stream's topic is deleted when no program of the catalogue or that runs reads
//     it, and no checkpoint pins it. The engine fills one that it needs again.
//
// Goroutines: Run owns one for each part, and the HTTP and Kafka servers' own;
// the desk owns one for each partition of weir.alerts and one that samples the
// rates once a second. Run returns after all of them.
//
// What it does not do: parse arguments or the configuration (cmd/cli,
// cmd/config).
package node
