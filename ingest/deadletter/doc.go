// Package deadletter replays dead letters: those that fit their stream's present
// declaration are written into the stream, each once.
//
// Invariants:
//
//  1. A dead letter, known by its partition and offset in weir.deadletters, is
//     replayed at most once, whatever interrupts a replay. Before the records of a
//     chunk are written, a note in the topic weir.replays says, durably, which dead
//     letters they are of and where the stream's partitions end; each record names
//     its dead letter (HeaderReplayed). A later replay looks, from there on, for
//     those that an interrupted one wrote, and does not write them again.
//
//  2. One replay runs at a time in a process, and one process has the log.
//
//  3. A dead letter whose raw bytes may be cut short, of a file whose columns are
//     not known, or whose partition cannot be told because the key it was made from
//     is no longer in it (a sensitive key), is never guessed at: it is counted and
//     left.
//
//  4. A record that was in the topic already goes to its own partition again. Where
//     that record itself fits the declaration now, readers that look at the topic
//     from its start have it twice; HeaderOriginal names it, so that they may pass
//     over the copy.
//
//  5. A duplicate (decode.ReasonDuplicate) and the copy of a late event
//     (decode.ReasonLate) are never replayed, not even where their reason is asked
//     for: their events are in the stream.
//
// Goroutines: none.
//
// What it does not do: change or remove dead letters, apply policies for sensitive
// fields (Options.Transform does), or list them (SQL does, table deadletters).
package deadletter
