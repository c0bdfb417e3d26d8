// Package loader puts files of events into the log: the core of `weir load`. It
// is a Kafka client and keeps no state of its own; what it has done stands in the
// log, from where it resumes.
//
// A file is read and unpacked ahead (input.go), cut into rows (split.go), encoded
// in the stream's format and checked by decoding (encode.go), merged with the rows
// of other files by event time (feed.go), held back until it is due (pace.go), its
// time moved (shift.go), and collected by partition (loader.go); for each partition
// one sender builds record batches and waits for their acknowledgement (sender.go).
// resume.go finds what is there already, client.go holds the requests.
//
// Invariants:
//
//  1. Every row of the file becomes exactly one record of the stream or one dead
//     letter in weir.deadletters, however often the load is interrupted and run
//     again, as long as the file, its name and the stream's name stay the same.
//     (Rows of a file are told from those of another by the load id: a hash of
//     the stream's name, the file's base name and all that is in it; of several
//     files of those of each, in order.) A load with shifted
//     times is a new one each time, and does not resume.
//  2. The first record of each batch says which load it is of, which line is the
//     batch's last (of several files: which row of them merged), and with how many
//     partitions the load began. Rows of one partition are sent in that order, so
//     the last batch of a load in a partition says how far it came there.
//  3. A row's partition, and where batches begin and end, depend on the files and
//     the number of partitions only. A resumed load continues the producer id and
//     sequence of the last batch. So a batch that is still on its way from an
//     interrupted run meets the dedupe of the log, whichever of the two comes
//     first: it is taken once. Batches of a load at a pace end where it waits: there
//     the second of the two is refused for its sequence, and the load ends with an
//     error, to be run once more.
//  4. A record is written only if the stream's own decoder takes it. Its
//     timestamp is its event time, its key the text of the key field.
//  5. Memory is bounded: rows by MaxRow, batches by BatchBytes and stagedBytes.
//
// Goroutines: Load starts one that reads ahead, one sender for each partition that
// gets a batch, and one that reports progress; Load itself cuts and encodes. It
// returns when all have ended.
//
// What it does not do: infer schemas, apply sensitive-field policies (the broker
// does).
package loader
