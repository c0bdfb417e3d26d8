// Command ingest measures ingest/decode beside encoding/json, encoding/csv and
// the fastest peers that run with this Go, in one run and on the same records:
// events a second of one core, ns, allocations and bytes allocated per event.
// Results of a run are in
// results.md, which -out writes.
//
// Invariants:
//
//  1. Every side gives the same four typed values of each event: the time in ns,
//     two texts, an exact decimal. A test compares them.
//  2. Sides take turns: each round runs every side once, so that what else the
//     machine does falls on all of them. The figure is the median of the rounds.
//  3. Rates are by CPU time of the whole process, collector included, on
//     GOMAXPROCS 1: a machine shared with others does not change them much. Time on
//     the clock stands beside.
//  4. What a peer does less than Weir is printed with its figures.
//
// Goroutines: none of its own.
package main
