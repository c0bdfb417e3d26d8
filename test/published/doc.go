// Package published finds the published input files that tests and benchmarks
// read in place, and the outside programs that tests drive.
//
// Invariants:
//
//  1. A test that needs a file or a program which is not there is reported by
//     name as not run; with WEIR_REQUIRE_DATA=1 it fails instead, so that the
//     list of tests not run is empty wherever it must be.
//
// Goroutines: none.
//
// What it does not do: read the files.
package published
