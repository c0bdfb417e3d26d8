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
// Goroutines: none. A value may be read by any number of them.
package group
