// Package vfs is the file system that the log and the engine's checkpoints write
// to, small enough to be replaced in tests: OS is the real one, Mem keeps
// everything in memory and can be cloned as a crash would leave it, Faulty makes
// either of them fail on demand.
//
// Invariants:
//
//  1. What File.Sync returned nil for survives a crash; so does a name (created,
//     renamed or removed) after SyncDir of its directory returned nil. Nothing
//     else does for certain, and what was not synced may survive in part and out
//     of order. Mem's crash clones keep to exactly this.
//  2. Errors wrap those of io/fs and syscall, so errors.Is(err, fs.ErrNotExist)
//     and IsDiskFull work with every FS.
//  3. An FS and its Files may be used by several goroutines. Writes that overlap
//     are the caller's to order.
//
// Goroutines: none.
//
// What it does not do: permissions, links, modification times, memory mapping.
package vfs
