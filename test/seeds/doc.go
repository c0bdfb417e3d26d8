// Package seeds gives randomised tests their seeds, and says how many worlds they try.
//
// A test that makes one world of a seed asks for One, or Rand; a test that makes many
// runs them with Each. Environment variables say which and how many:
//
//	WEIR_SEED=n        the world of seed n alone: what a test that failed prints
//	WEIR_SEED_BASE=s   every test's seeds follow from s and the name of the test, so that
//	                   two runs try the same worlds; without it they are random
//	WEIR_SEEDS=k       k times as many worlds
//	WEIR_LONG=1        50 times as many, where WEIR_SEEDS says nothing
//	go test -short     a tenth
//
// make test takes the commit for WEIR_SEED_BASE: a run by hand tries what CI tries on that
// commit, and every commit tries something new. WEIR_SEED_BASE= make test tries random worlds.
//
// To run one failed world again, with the line that the test printed:
//
//	WEIR_SEED=1234 go test ./log/commitlog -run '^TestCompact$'
//
// Invariants:
//
//  1. Whatever ends a world of Each, an error, a panic or the time limit, its seed is
//     printed: a world is a test of its own, and has it in its name. The seed of One is in
//     the test's log, which go test keeps to itself at the time limit: there
//     WEIR_SEED_BASE finds it again.
//  2. A variable that cannot be read is an error.
//  3. Tests take no randomness from anywhere else; test/architecture has a test of that.
//
// Goroutines: none.
package seeds
