// Package webhook is a receiver that posts each alert to an HTTP endpoint.
//
// Invariants:
//
//  1. to be written with the receiver
//
// It starts no goroutine of its own.
package webhook
