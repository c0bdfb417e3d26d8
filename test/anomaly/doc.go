// Package anomaly checks what clients of a log saw against what a log promises,
// in the manner of Jepsen's workload for Kafka-like systems, and names what it
// finds as that does. The checker knows nothing of Weir: a History goes in,
// anomalies come out. The tests of this package run the real broker on a file
// system that loses power, with real clients, record a history and check it.
//
// The anomalies:
//
//	inconsistent-offsets   one offset of a partition held two values
//	duplicate              one value lies at two offsets of a partition
//	lost-write             a later value was polled, this committed one never
//	unseen                 a committed value was never polled, though all was read
//	unwritten              a value was polled that nobody sent
//	G1a                    a value of an aborted transaction was polled
//	precommitted-read      a transaction polled what it had sent itself
//	G1c                    transactions that read each other's values in a circle
//	G1c-process            such a circle with the order of one process in it
//	G1c-realtime           such a circle with the order of time in it
//	poll-skip              a poll went past values that lie after the last poll
//	nonmonotonic-poll      a poll went back before the end of the last poll
//	nonmonotonic-send      a send was put before the process's earlier one
//	int-poll-skip, int-nonmonotonic-poll, int-nonmonotonic-send
//	                       the same within one operation
//	lost-commit            a group went on before every position that may have been
//	                       its committed one
//	group-skip             a group committed a position past a value that none of
//	                       its members polled
//	reprocessed            an input has two committed outputs: not exactly once
//	unprocessed            an input before a committed position has no output
//
// Invariants:
//
//  1. An operation whose outcome nobody told (a timeout, a broken connection) is
//     Info: it may have happened and may not. It is never taken for failed. One of
//     whose values a committed read saw has happened.
//  2. No anomaly is reported that a correct log could show: gaps in offsets are
//     markers or aborted values, a reader of uncommitted values may see aborted
//     ones, sends after an Info one may overtake it, a group's member may jump
//     when its assignment changes, of two commits at the same time either may be
//     the last, and an Info one may come late, as long as the broker lives.
//  3. lost-write assumes that some reader of committed values reads each partition
//     from its start, and unseen that it reads to the end.
//
// How long: a run of one seed takes about a second, mostly of waiting; its processes
// have a minute, and it gives up on a broker where nothing gets on for a minute
// more. With a bug planted it gives up after seconds and that is no failure: what
// was lost may have been what a reader waits for. TestBroker runs 100 seeds, four
// at once and the last quarter 24 (80 s of CPU under -race), `make test-long` 5,000.
//
// A finding comes with a trace: every request to the coordinators with its answer,
// what the clients of groups say of themselves, and the operations, in order of time,
// in a file in WEIR_TRACES or where temporary files are. In half of the seeds clients
// wait before some requests, long enough for their group to go on without them.
//
// Members of the group that transforms commit as who they were when they polled
// (asPolled in transact_test.go). franz-go v1.22.2 does not do so by itself, and with
// its cooperative balancer two members can commit the same inputs: TestExpelledMember
// fails without it. Clients of groups dawdle now and then for that reason.
//
// Errors of polls go to the trace and are no anomalies: what counts is what is polled.
// Among them are losses that franz-go v1.22.2 reports after a restart where its position
// is past a marker of a newer epoch than that of its last record.
//
// Goroutines: none but the Recorder's callers.
//
// What it does not do: G0 and int-send-skip, which the transactions of Kafka
// allow, and cycles over write-write edges, which they do not forbid.
package anomaly
