// Package infer reads a file of events and says what stream it could be: the
// types of its columns, which of them are optional, which is the time, the key and
// the id. It writes that as a block of weir.yaml in which every guess is
// explained.
//
// Invariants:
//
//  1. Where the whole file was read (Options.Rows 0), every row that is a row at
//     all fits the block: types, decimal places and what is optional hold for all
//     rows, by the decoder's own rules. Guesses that go beyond the rows (this is
//     money, this is the key) change names and references only.
//  2. The same file gives the same block.
//  3. No value of the file stands in the block, only what all values have in
//     common: a value may be a card number.
//  4. Memory is bounded: by the number of columns, and for each by trackedMax
//     hashes of values, or shapesMax shapes of what is in its lists.
//  5. Lists are lists, of structs where their elements are objects. Other objects are
//     fields with paths (from: user.id), which rules and SQL read the most easily,
//     but for those of many names of which each is in few: these are maps.
//
// Goroutines: none of its own; the file is unpacked by one of ingest/loader.
//
// What it does not do: guess a zone (times without one are UTC), or look at more than one file.
package infer
