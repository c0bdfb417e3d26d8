// Command checkpoint measures for how long checkpoints hold a shard, and what they
// write: a shard of the engine on a real disk with many keys in eight windows, fed at a
// steady rate.
//
//	go run ./benchmarks/checkpoint -out benchmarks/checkpoint/results.md
//
// Invariants:
//
//  1. The shard is the engine's own, from records to decisions; only the log is
//     replaced, by a source that makes records and a sink that forgets them.
//  2. A time at which the shard is held is from when it gets records, or hears that
//     there are none, to when it asks again: deciding, and what a checkpoint does. So
//     the figures of a version that knows nothing of this program can be taken, too.
//  3. The keys are the same for equal flags.
//
// Goroutines: the engine's.
package main
