// Package seeds gives randomised tests their seed.
//
// Invariants:
//
//  1. A test prints its seed; WEIR_SEED runs that one again. What is not a number
//     there is an error.
//
// Goroutines: none.
package seeds
