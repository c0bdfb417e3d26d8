// Command cep measures the window operator of cep/window: what an event costs by
// aggregate and by the number of events in the window, in order and out of order;
// and ten windows over many keys, beside the same windows in Flink SQL (OVER with
// RANGE in event time) in one run, whose results are compared.
//
//	go run ./benchmarks/cep
//
// It needs a JDK and mvn for Flink, which it takes from Maven Central on its first
// run; without them, -flink "" leaves the peer out and says so.
//
// Invariants:
//
//  1. Making the events is not part of a figure of the operator; it is on both sides
//     beside Flink.
//  2. A result that differs from the peer's is an error.
//
// Goroutines: none of its own.
package main
