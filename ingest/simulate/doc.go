// Package simulate makes the demo's three streams: card transactions, clicks and
// market ticks, as JSON values with their event time as data. Whoever paces them
// decides how event time relates to the clock on the wall.
//
// Transactions follow the published simulator of the Fraud Detection Handbook (Le
// Borgne, Siblini, Lebichot, Bontempi: "Reproducible Machine Learning for Credit
// Card Fraud Detection", chapter 3): customers and terminals in a square of 100 by
// 100, amounts normal around each customer's own mean, and its three frauds:
//
//	1  an amount over 220 (a baseline that any system must find)
//	2  two terminals a day are compromised: all their transactions of 28 days
//	3  three customers a day: a third of their transactions of 14 days, times 5
//
// To them come two that show in seconds:
//
//	4  card testing: several small amounts, then one large, on one card
//	5  account take-over: a login from a new device and changes of the account
//	   (clicks), then a payment far above the customer's mean
//
// A simulated day may be shorter than a day of event time, so that a few thousand
// customers fill a stream; see TransactionOptions.Rate.
//
// Invariants:
//
//  1. Equal options give equal events, byte for byte.
//  2. Events come in order of time: each generator's, and the merged ones. Ticks
//     have strictly increasing times.
//  3. Keys and values belong to the generator until its next call.
//  4. No value looks like a card number: a card is named by its customer's number.
//  5. Memory depends on the options, not on how long the simulation runs.
//
// Goroutines: none. A generator belongs to one goroutine at a time.
//
// What it does not do: wait, read a clock, write to a log.
package simulate
