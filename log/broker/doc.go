// Package broker serves a commit log to Kafka clients: it accepts connections,
// reads requests of the Apache Kafka protocol, and answers them from a
// commitlog.Log. It is one broker, node 1, which leads every partition.
//
// Where to look: server.go has the accept loop and the limits, conn.go the two
// halves of a connection, frame.go what a request and a response look like on
// the wire, keys.go the table of API keys with their versions. Each API key has
// one file, NN_name.go, which opens with what it does and where versions differ.
//
// Invariants:
//
//  1. Responses leave a connection in the order of its requests. Requests that
//     change something (Produce, CreateTopics, ...) take effect in the order they
//     arrived, without waiting for the answers before them; requests that only
//     read take effect when every earlier answer of the connection has been
//     written.
//  2. A produce request with acks 1 or -1 is answered after its batches are
//     durable; acks 0 is never answered, and an error under acks 0 closes the
//     connection, which is how Kafka tells such a producer.
//  3. Record batches are appended and fetched as bytes; the broker reads their
//     headers and never their records. Options.Transform may, before the append.
//  4. What is not served is not advertised. The exceptions are Produce 0 to 2,
//     advertised because librdkafka up to 2.0.2 turns compression off where the
//     minimum is 3, and refused with UNSUPPORTED_VERSION.
//  5. A transaction is committed everywhere or nowhere. Its decision is durable in
//     __transaction_state before any marker is written and before EndTxn is
//     answered; data of a transaction is appended under its lock, so that none
//     follows its marker (transactions.go).
//  6. A byte from the network never decides an allocation by itself: buffers grow
//     as bytes arrive, arrays are bounded by the bytes that are there, and what a
//     request can hold until it is answered comes out of one budget, of which a
//     connection has a share (conn.go). A Produce request passes through a window of
//     one batch (window.go). Nor does a byte decide how long something is counted:
//     log/layout goes over a flexible request before kmsg does. An answer is bounded
//     by what there is to tell (distinct.go).
//  7. A malformed frame, an unknown key or an unsupported version closes the one
//     connection it came on, with a line in the log at debug level.
//
// Goroutines: Serve runs the accept loop and, for each connection, a reader and a
// writer joined by a bounded queue; Serve returns when all of them have ended. A
// fetch waits on the writer, however many partitions it names. The transaction
// coordinator has one for timeouts, one for each transaction that is being
// completed, and up to maxMarkers that write markers. The group coordinator
// (groups.go) has one that loads its state and sweeps, and a timer for each group
// with members; a JoinGroup or SyncGroup waits on its connection's writer. Nothing
// outlives Serve.
//
// What it does not do: share groups, authentication, TLS, quotas, replication.
package broker
