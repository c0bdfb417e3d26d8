// Package alerts notifies receivers of what the engine found: it reads
// weir.alerts, calls each receiver whose Match wants an alert until the receiver
// has taken it, and records every attempt in weir.deliveries.
//
// Invariants:
//
//  1. to be written with the router
//
// It starts goroutines only in Router.Run.
package alerts
