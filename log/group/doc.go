// Package group has the state machines of Kafka's coordinators, without I/O and
// without a clock: log/broker gives them requests and the time, makes what they
// return durable, and acts on it.
//
// # Transactions
//
// Txn (txn.go) is one transactional id: KIP-98 with the fencing of KIP-360, the
// timeouts of KIP-588 and the epochs of KIP-890. txn_record.go has its record in
// __transaction_state. Invariants:
//
//  1. A Txn is a value. A method returns the next one, which counts once the
//     caller has appended it; on an error it returns the old one.
//  2. From Prepare on the outcome stands: no request and no timeout changes it.
//  3. A producer that speaks KIP-890 has a new epoch after every transaction, so
//     that no late request of one ends or joins another.
//  4. Who is fenced stays fenced: an epoch of a producer id is given to one
//     producer, and again only to the same one whose answer was lost.
//
// What the caller owes, for a transaction to be whole (txn_sim_test.go shows it
// under crashes): a state is appended before the data that it allows; markers
// follow the durable Prepare, Complete follows the durable markers, and data of
// the next transaction follows the durable Complete; after a crash what is open in
// a partition is adopted by its transaction (Txn.Adopt) or aborted.
//
// # Groups
//
// classic.go is the protocol in which clients rebalance themselves (JoinGroup,
// SyncGroup; KIP-345, KIP-394); consumer.go the one in which the broker assigns
// (KIP-848), assignor.go its assignors, mixed.go its members that speak the classic
// protocol; migrate.go takes a group with members from one protocol to the other,
// embedded.go reads and writes what consumers tell each other within the classic one;
// offsets.go are committed offsets, those of open transactions included; stored.go and
// consumer_stored.go are how all of it is written to __consumer_offsets. These are
// changed in place: a method is told the time and returns Effects, requests to be
// answered and whether the state must be stored before the answers leave. The caller
// serialises the calls of one group and calls Tick when Deadline has come. What it hands
// over by reference is the group's.
//
//  1. A classic group's generation only grows; as in Kafka, one that no leader had
//     assigned in may be given again after a restart. Who is answered with an assignment
//     of a generation is a member of it and gets what its leader assigned in it.
//  2. In a group of the consumer protocol no partition is handed to a member while
//     another one has it or has not yet said that it let it go; the epochs of the
//     group only grow.
//  3. A member that does not come within its session timeout is removed; one that
//     waits for an answer is alive. Whoever keeps coming is, after the rebalance
//     timeout of the slowest, in a group that is Stable.
//  4. A group that changes its protocol keeps its members: what one of them has is
//     nobody else's till it has said that it let go, its epoch or generation stays
//     right till it has another, and both only grow (migrate_sim_test.go). The change is
//     one append to the log.
//  5. An offset of a transaction is seen when, and only when, the transaction was
//     committed; of two commits for one partition the later in the log counts.
//
// What is not done: share groups.
//
// Goroutines: none. A value may be read by any number of them.
package group
