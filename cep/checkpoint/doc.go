// Package checkpoint keeps the checkpoints of one shard in a directory: for each
// generation a manifest, and files of frames that the generations share.
//
// A generation adds frames to the newest file and then writes its manifest: what the
// engine wants to know (meta), which files up to where hold the state, and the names
// of the operators. A frame is one piece of an operator's state (cep.Incremental)
// with a CRC-32C. Files are read back from the oldest frame to the newest.
//
// Invariants:
//
//  1. A manifest is written when all that it names is durable, files and their names,
//     and becomes visible as a whole. So after a crash the newest manifest that can be
//     read, and was committed, is as it was committed.
//  2. What is behind the length that a manifest gives of a file, or in no manifest, is
//     of a generation that was not committed: nothing reads it, and a file with such
//     an end is not written on.
//  3. A file goes when neither of the newest two generations that were whole needs
//     it, and these two were durable before. A generation needs a file while an
//     operator's turn is less than cep.FullTurn ahead of its turn at the file's end.
//  4. Where an operator's shares are as large as what has changed, the files that are
//     needed hold about twice the state, one file more, and until the shares have
//     come round once, a first generation of all of it.
//  5. A frame, or a manifest, with a flipped byte is an error that wraps ErrDamaged;
//     it is never read as something else. The generation before may be whole: it needs
//     no frame behind its own.
//
// Goroutines: none. A Store belongs to one goroutine at a time.
//
// What it does not do: say what is in a piece, or when to write one.
package checkpoint
