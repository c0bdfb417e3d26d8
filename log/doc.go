// Package log is the root of Weir's partitioned log. It holds no code:
//
//   - vfs: files, an in-memory file system with crash clones, injected faults;
//   - record: Kafka's record batches, version 2;
//   - commitlog: topics, partitions and segments on one disk, group commit,
//     recovery, retention;
//   - broker: the Kafka protocol over it.
package log
