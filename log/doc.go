// Package log is the root of Weir's partitioned log. It holds no code:
//
//   - vfs: files, an in-memory file system with crash clones, injected faults;
//   - record: Kafka's record batches, version 2;
//   - commitlog: topics, partitions and segments on one disk, group commit, recovery,
//     retention, compaction, transactions within a partition, leader epochs;
//   - layout: how far a flexible request's fields may reach;
//   - group: the coordinators of consumer groups and transactions, without I/O;
//   - broker: the Kafka protocol over them, and the coordinators' I/O.
package log
