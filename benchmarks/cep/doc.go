// Command cep measures the window operator of cep/window: what an event costs by
// aggregate and by the number of events in the window, in order and out of order;
// and ten windows over many keys, beside the same windows in Flink SQL (OVER with
// RANGE in event time) in one run, whose results are compared.
//
//	go run ./benchmarks/cep
//	go run ./benchmarks/cep -part engine
//
// With -part engine it measures the whole engine in this process, over a log on disk:
// events per second from a full log, by partitions and with windows by a second key,
// and the time from appending an event to its decision being durable, open loop, by
// rate and by length of the windows, beside that of a bare sync of the same disk.
//
// It needs a JDK and mvn for Flink, which it takes from Maven Central on its first
// run; without them, -flink "" leaves the peer out and says so.
//
// Invariants:
//
//  1. Making the events is not part of a figure of the operator; it is on both sides
//     beside Flink.
//  2. A result that differs from the peer's is an error, as is an event without a
//     decision or with two where all have one.
//  3. A latency counts from when an event was due, not from when it could be appended.
//
// Goroutines: the engine, and one that appends events when they are due; none else.
package main
