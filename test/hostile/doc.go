// Package hostile tries bad input on every way in: as a record of the log, as it is
// decoded; in a file, through the real loader and broker; over HTTP. What each gets
// is the table docs/reference/hostile.md, which the tests compare with what they
// see. To accept a new outcome:
//
//	go test ./test/hostile -rewrite
//
// Invariants:
//
//  1. Nothing is lost in silence: of every row that was sent one record or one dead
//     letter is found in the log, or the caller got an error. The good rows around
//     a bad one are in the log.
//  2. A dead letter has a reason, a detail for people and the raw bytes.
//  3. Memory stays under a bound whatever the size of the input; the bound is
//     tested.
//
// Goroutines: the broker's and the server's; one that measures memory.
package hostile
