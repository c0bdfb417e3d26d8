// Package engine runs a program over streams: one shard for each partition of a
// stream's topic, each with the only loop there is: read a chunk, decode it, run
// the operators, decide, write decisions, alerts and dead letters.
//
// Invariants:
//
//  1. Input order is log order; only durable records are read. What is decided
//     for an event depends on the records up to it, on the journal and on the
//     program: not on batch sizes, clocks, or crashes in between.
//  2. A decision, alert or dead letter has an identity (source topic, partition,
//     offset and role) in its weir-origin header. None is written twice: a
//     checkpoint holds the cursor, the end of each output partition and all
//     operator state as of one moment, and becomes one when the outputs before that
//     moment are durable; meanwhile the shard goes on (checkpoints.go; cep.Incremental).
//     A shard that restarts from it reads the outputs behind those ends, and
//     leaves out what it finds there already. An event up to the last one decided
//     there is decided, with or without a decision record: a program that was
//     edited meanwhile adds nothing to it but alerts that its decision names.
//  3. A record that does not decode becomes a dead letter and nothing else.
//  4. A late event (its time is before its watermark; see cep.Clock) is decided and
//     flagged, and a copy of it is a dead letter of the reason late, in log order with
//     the others.
//  5. Where a checkpoint is missing, damaged, from another program's operators or
//     from before the stream's declaration changed, the operators' state is made
//     again from the log; it is never guessed. A checkpoint of another topic, or of
//     one that was deleted and made again, says nothing about this one: the shard
//     begins at its start.
//  6. A panic while a batch is processed is contained: the shard restarts from its
//     checkpoint and goes on record by record. The second time on the same offset
//     that record becomes a dead letter with the reason panic, and enters nothing but the
//     ids of a stream with dedupe; the journal says so first, for what makes state from
//     the log. Any other error is
//     shown in Status and the shard tries again with back-off.
//  7. A shard's input is its partition merged with its records in weir.journal,
//     each at its cursor. Which tables and lists an event is decided with is
//     journaled, and durable, before the event is decided; what an earlier life has
//     decided keeps its tables (docs/decisions/0005). A change that was acknowledged
//     before an event was written is in force for that event.
//  8. The wall clock enters once, as data: a partition without records goes on by idle
//     marks, which the journal holds with their cursor and time (idle.go). A mark is
//     durable before it has an effect, and has it behind all records before its cursor.
//     Its effect is the one on cep.Clock of an event of its time; an event that is in
//     the log within Stream.Idle and Lateness of its time is not late for it.
//  9. Declare changes which streams and which program run. A program takes over
//     between two events, while the shard runs (change.go): from an offset on that the
//     journal names first, operators of equal identity as they are, new ones with
//     what the log, merged with the journal, makes of them, which does not hold the
//     program before up. Until then the part of it that lacks nothing is in force
//     (Stepping). Shards that share keyed streams, before or after it, change together
//     (regroup.go, changeover.go): they are paused, with nothing undecided, and go on in other groups.
//     To a shard whose stream is another one it is a restart: its checkpoint is
//     written, and what comes after it begins there, by 2 and 5. What is done again,
//     after a crash or in a replay, is done by the program that the journal names,
//     where Options.Programs knows it. What a program has decided is durable before the
//     journal names another one; where a shard cannot follow the change, as with keyed
//     streams, it stands, and the shard begins with the program that is named last.
//  10. Replay is Run with sources that end and a log in memory behind what is there.
//     With the programs that decided and their journal it returns what was decided, byte
//     for byte but for the latency header, whatever the range, the batches and the changes
//     of the program in it; it writes nothing. It reads a keyed stream in the order that
//     this has. What windows say of an event follows from that, the log and the journal,
//     and not from when programs changed: so Replay decides what one program has decided,
//     of all partitions, and then what the next one has, from the checkpoints of that. A
//     program that has decided some of the range and is not known is an error.
//  11. What of the log a restart reads, and what windows of a length of time would be
//     made again from, is pinned (pins.go) from the newest two checkpoints on, before
//     New returns: retention leaves it. So are keyed streams, all of them until this
//     process has seen their windows' length of time (keyedpins.go).
//  12. A keyed stream (keyed.go) is a topic weir.keyed.NAME that the engine partitions by
//     another key than its sources have. Its order is decided once, by the merger
//     (merge.go), and is that topic's: by time among what is there, in each source's
//     own order always. The rows of a source partition are in each of its partitions
//     once and in the order of their offsets: a block says from which offset to which
//     it tells all of them, and what is told is not written again.
//  13. What the operators of a keyed stream say of an event follows from the topic up to
//     that event: whether it is late, and with which tables its windows are kept, its
//     source says. The watermark there, the least of all sources', only tells what may
//     be forgotten.
//  14. An event whose features come from keyed streams waits for all of them (gather.go),
//     and is decided in the order of its source's offsets. What waits is bounded
//     (parkedRows, gatherRows); who waits for whom is no circle, as it says there.
//  15. Shards that share keyed streams are a group: they start, fail and restart
//     together. A checkpoint of a keyed stream's shard becomes one when its sources'
//     have passed all that it took in (keyedcheckpoint.go), so what a source decides
//     again finds its features again.
//
// Outputs of source partition p go to partition p modulo the output topic's
// partitions, keyed by the event's key. Their timestamp is the event time. The
// header weir-latency-us is the time from when the shard took the chunk from the
// log to when the batch was written; it is no part of what is decided.
//
// Goroutines: Run and Declare start one for each group, and that one for each shard and
// each partition of its keyed streams; Run waits for all of them. A shard's state belongs
// to its goroutine; Status, KeyedStatus and Operators take copies under a lock. The
// merger runs in the goroutine of whichever source has something for it, or of its timer,
// under its lock.
// While the windows of a new program are made from the log, a shard has one that does
// that, at half speed at most; it ends before the shard does. A change of shards that share
// keyed streams has one, which outlasts them: Declare and Run end it.
// While a checkpoint is written it has one that gets finished pieces of the state and
// writes them; the shard waits for it before it ends.
//
// What it does not do: changes of models at run time.
package engine
