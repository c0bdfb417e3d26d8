// Package commitlog stores topics: partitions of record batches in segment files
// on one disk. It knows batches as bytes with a header, and no schema.
//
// # Files
//
//	LOCK                      held while the log is open
//	meta                      topics, their ids, partitions and configs
//	producer-ids              producer ids below this number may be in use
//	synced                    how far each partition was made durable, appended
//	                          after every flush, before the acks leave
//	synced.next               the same, anew, being written
//	clean                     there while the log is closed in good order
//	topics/NAME-N/            one partition
//	  00000000000000000000.log    batches as received; the name is the base offset
//	  00000000000000000000.index  sparse offsets and times; rebuilt if damaged
//	  00000000000000000000.txnindex  aborted transactions with their marker in the
//	                              segment; only where there are any; rebuilt if damaged
//	  leader-epochs               at which offset each leader epoch began; rebuilt
//	                              if damaged
//	  *.cleaned, *-END.swap       what a compaction is writing, or has written and not
//	                              put in place yet
//	  checkpoint                  where recovery starts, and the producers there
//	  *.damaged-POSITION          bytes that a repair took out
//
// Every file of ours begins with a magic, a format version and a CRC-32C; one of
// a newer version is refused by name. A .log holds Kafka's batches and nothing
// else.
//
// # Invariants
//
//  1. The high watermark is the durable end: what lies below it was fsynced. (With
//     Options.NoSync: was written.) Only that is readable, and only that is
//     acknowledged to acks 1 and -1.
//
//  2. A batch is readable only with a right CRC: it is computed on every read.
//
//  3. A batch is written before anybody can see it. Where the write fails, its
//     bytes are cut and its offsets are given to the next one.
//
//  4. What was acknowledged is found again by Open, or the loss is named: bytes
//     below the synced mark that do not check take their partition out of service
//     with a *CorruptError and the command to run. Bytes above it were never
//     acknowledged; they are kept as far as they check and cut where they do not.
//     Without a usable mark (NoSync, a lost file) an invalid batch with a valid
//     one after it takes the partition out of service too.
//
//  5. Offsets only grow within a partition, and batches follow one another without
//     a gap: where compaction or a repair took records away, a batch without
//     records stands for their offsets. They are never given twice to different
//     acknowledged batches.
//
//  6. A name (file, directory, topic) is durable before anything that needs it is
//     acknowledged.
//
//  7. After a failed fsync its partition takes no more appends until the log is
//     opened again: the kernel may have dropped what it could not write.
//
//  8. The last stable offset never goes back and never passes the high watermark.
//     It is the first offset of the earliest transaction whose marker is not
//     durable; what transactions are open is part of the checkpoint and found
//     again from the batches after it. Control batches come from AppendMarker only.
//
//  9. Every Open is a leader epoch of its own, larger than all before, and every
//     batch carries that of its append. Which epoch a batch must have is durable
//     before it is acknowledged, so a flipped bit in it is found, as CRCs cannot.
//
//  10. Compaction never touches the active segment nor what is not below the last
//     stable offset, leaves the last record by key, every offset where it was, and
//     the last batch of each producer that is remembered. A segment that it wrote
//     takes the place of its sources at once: a crash leaves them or it. A damaged
//     batch stops it; nothing is thrown away because of damage.
//
//  11. A producer is remembered until it expires, not only as long as its records are
//     there: segments go after a checkpoint that lies behind them. Where that one is
//     lost too (a full disk, a damaged file), whoever is known by a marker alone may
//     go on at any sequence, as one that is not known at all.
//
//  12. Retention by age and size leaves what is pinned (pin.go). DeleteRecords and the
//     deletion of a topic do not look at pins; a full disk breaks them last, and says
//     whose.
//
// # Goroutines
//
// Per Log: up to maxSyncs of the flusher's while something is not durable, each of which
// syncs one partition after another, and a partition at most one; the janitor (checkpoints, retention), the cleaner (compaction)
// and the scrubber. None per topic, partition or reader. Lock order: Log.admin,
// Partition.cleaning, Partition.writing, Partition.appendMu, Partition.mu, and then one of Log.mu, the
// flusher's, the index cache's and the file cache's.
//
// # What it does not do
//
// Replication and the coordination of transactions. Records are walked on append
// only where a topic's settings need them: in compacted topics, to refuse those
// without a key, with bounds on their time, and to recompress.
//
// The file of the active segment of a partition to which much is written is larger than
// its batches (segment.reserve), so that a sync need not look for blocks nor write the
// file system's journal because the file grew. What is behind the batches is zeros, which
// are no batch. It is given back when the segment is closed, durably before a checkpoint
// behind it, and when little was written from one checkpoint to the next. After a crash
// recovery cuts it, and says nothing: zeros are nothing that was lost.
//
// There is no checksum over a whole sealed segment. Every byte of it is under a
// batch's CRC-32C or is one of two fields that must be exactly what offset and
// epoch say; batches follow one another without a gap from the offset in the name
// to that of the next segment. So bytes changed, taken, added or exchanged are
// found, by reads and by the scrubber.
package commitlog
