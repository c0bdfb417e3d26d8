// Package layout knows how Kafka's flexible messages lie in bytes, and refuses
// what does not lie so before a decoder is given it.
//
// kmsg, which decodes the messages, believes the number of tagged fields
// (KIP-482): it counts down from what a client says, up to 2^32 times, after the
// bytes are used up. A request of 50 bytes would cost ten seconds of a core. Every
// other loop of it is bounded by the bytes that are there.
//
// Where to look: requests.go has a line for each request, stored.go for each
// record of Weir's own topics, notation.go what such a line means, layout.go how
// bytes are held to it.
//
// Invariants:
//
//  1. What Check accepts, kmsg decodes without an error in time linear in its
//     length: every length and count lies within the bytes that are left, in tagged
//     fields that kmsg decodes, too.
//  2. What kmsg would decode, Check accepts, except more than MaxTags tagged fields
//     in one structure. Bytes after the end are ignored, as kmsg ignores them.
//  3. Check is linear and allocates nothing but its error. It keeps nothing. The
//     memory that it tells is as much as kmsg takes to decode a request.
//  4. A line covers every flexible version that kmsg knows.
//
// Goroutines: none; a Message is not changed once made.
//
// What it does not do: versions without tagged fields, responses, values (a
// string's characters, a number's range).
package layout
