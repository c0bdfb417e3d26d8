// Package reservoir keeps the events of long windows on disk: an append-only store
// of rows in log order, compressed in chunks, that several iterators read forward,
// each at its own distance from the end (the event reservoir of Railgun, PVLDB
// 14(12)). What memory holds of it does not grow with the rows: the rows since the
// last chunk, at most two chunks for each iterator, and some 30 bytes for each chunk.
//
// A row is a key's number, the row's time and further words of 64 bits. Rows are
// numbered from 0 in the order of Append. So many rows make a chunk, many chunks a
// segment file, named by the number of its first row. A segment is removed when its owner tells
// (Trim) that neither an iterator nor a snapshot needs a row of it.
//
// Invariants:
//
//  1. An iterator gives each row once, in the order of Append. Once Due(t) has no
//     rows, the iterator has given every row with a time up to t that there is or
//     ever will be, but for those that are appended with a floor up to t.
//  2. A snapshot holds the rows since the last chunk, and is returned only when all
//     chunks before are durable. Restore brings back exactly the rows of then: what
//     was appended behind them is cut. Where the files have other rows, since a life in
//     between began anew or at an earlier snapshot, it is refused with ErrDamaged.
//  3. A chunk has a version and checksums; one that is missing or damaged is an error
//     that names it and wraps ErrDamaged, never other rows. Its file is removed, so
//     that Restore fails from then on and the state is made again from the log.
//  4. Rows follow from what was appended alone; so do the bytes of chunks.
//
// chunk.go is the form of a chunk, segment.go the files, reservoir.go the rows and
// who reads them.
//
// Goroutines: a Reservoir and its iterators belong to one goroutine. Each time an
// iterator enters a chunk, one is started that reads the next chunk and ends; it
// touches nothing but the chunk that it makes.
//
// What it does not do: order rows by time, know what they mean.
package reservoir
