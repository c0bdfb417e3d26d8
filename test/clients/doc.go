// Package clients runs other people's Kafka clients against a running Weir: each
// produces with every codec it knows, consumes alone and in a group through two
// rebalances, commits and aborts transactions, and sees its broker killed. What
// they did is checked by a reading of the test's own.
//
// A client is a small program in its own folder: go (a module of its own, so that
// these libraries do not enter Weir's), kafkajs, python, java. All follow one
// contract.
//
// A program is called as SCENARIO BOOTSTRAP KEY=VALUE... and prints one JSON
// object a line: {"event": ...}. The last line of one that succeeded is
// {"event":"done"}; one that failed ends with a status other than 0 and says why
// on standard error. Record i of a run with n partitions is, for everybody:
//
//	partition i mod n
//	key       "key-" + i mod 13, or null where i mod 7 is 3
//	value     RUN i "schöner 🐢" and twenty times "weir ", or null where i mod 11 is 5
//	headers   run: RUN, index: i, empty: (empty)
//	timestamp 1700000000000 + 1000 i
//
// The scenarios:
//
//   - produce topic run partitions codec idempotent count [from] [batch] [paced]:
//     sends the records from (0) to from+count. After each batch (all of them) it
//     waits for the acknowledgements and prints {"event":"acked","count":so far}.
//     If paced it reads a line of standard input before each batch.
//   - consume topic partitions isolation: prints {"event":"record","partition",
//     "offset","key","value","headers":[[key,value]...],"timestamp"} for each
//     record from the start until each partition has shown one whose value is
//     "end". isolation is committed or uncommitted.
//   - group topic group [protocol] [assignor]: consumes as a member of the group, from the
//     start where nothing is committed; prints each record, then commits it. Prints
//     {"event":"assigned","partitions":[...]} whenever what it holds has changed,
//     where the library tells. Leaves when standard input ends. With protocol
//     "consumer" the broker assigns (KIP-848); clients of both protocols take an
//     assignor for the classic one, range or cooperative-sticky, and with one commit
//     what they have consumed before they let go of a partition.
//   - transact topic run partitions id group source: one step for each line of
//     standard input, answered by {"event":"ok","step"} or {"event":"failed",
//     "step","error","fenced"}: begin; produce FROM COUNT; offset N (the group has
//     read partition 0 of source up to N, as part of the transaction); commit;
//     abort. The first begin fences earlier producers of the same id.
//   - admin topic run: makes the topic with 3 partitions and retention.ms, sends
//     records 0 to 30, prints {"event":"config","retention.ms"} as described, and
//     deletes what is before offset 5 of partition 0.
//   - wordcount topic output id state (java only): Kafka Streams.
//
// Invariants:
//
//  1. A client that cannot be had, because a registry cannot be reached, is named
//     as not run; where WEIR_REQUIRE_DATA is 1 or CI is true that is a failure.
//  2. What a client says is never the only proof: counts, order, committed offsets
//     and visibility are read by the test.
//  3. Nothing waits for a time: every wait is for a condition, within a bound.
//  4. What a client cannot do is in the list of clients, is logged by its test, and
//     is in docs/reference/kafka.md.
//  5. WEIR_CLIENTS_BROKER=HOST:PORT runs the same tests against another broker, by
//     which the tests themselves were checked against Apache Kafka.
//
// Goroutines: one for each program's output, which ends with the program. Programs
// are killed when their test ends.
package clients
