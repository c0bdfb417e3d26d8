// Package rules reads rule files, compiles them into one program for the engine
// and evaluates it.
//
// A rule is a YAML document whose `when` is a CEL expression over one event and
// over windows of the events before it:
//
//	id: card-testing
//	stream: transactions
//	when: tx.amount >= 200 && last("1h").by(tx.card).where(tx.amount < 5).count() >= 3
//	action: review
//
// What an expression means beyond CEL:
//
//   - The fields of the event are variables named alias.field.
//   - A window chain is last(SPAN | EVENTS) or session(GAP), .by(FIELDS), and then
//     any of .where(PREDICATE), .delay(SPAN) and .excluding_current(), and an
//     aggregate. It is taken out of the parsed expression before type checking and is
//     a typed variable from then on. Inside where and the aggregate, the alias is the
//     past event. SPAN is a duration with the units ns us ms s m h d w. The stream's
//     key is among FIELDS. cep/window says what exactly a window holds. An event for which where has no value does not
//     enter, one for which the summed expression has none does not count in that
//     sum; a real error there does the same and is counted with the rules that read
//     the window.
//   - decimal(n) is a type of its own. A number written beside a decimal is read as
//     a decimal from its text, so tx.amount >= 220.005 is what it says. Decimals
//     add, subtract, multiply and compare exactly, whatever their numbers of places;
//     an int beside a decimal becomes one. Division, and a double beside a decimal,
//     give doubles. A result that does not fit 64 bits is an error.
//   - A number written without a point beside a double is that double, and an int
//     beside a double becomes one.
//   - x in list("NAME") asks whether a list has x at the event's time, x in
//     table("NAME") whether a table has such a key, and lookup("NAME", KEY...).COLUMN
//     is a column of the entry of a key, typed; the name is written out, and the
//     table declared. No such entry, or no value in it, is no value, as below. Which
//     state of the tables an event sees is the engine's to say. Inside where and
//     aggregates a lookup is made when the event enters the window and not again.
//   - A struct's member is alias.field.member; lists and maps are CEL's, with
//     exists, all, filter, map, size, in, [index], [?"key"] and LIST.contains(x).
//     What of them is absent, a key that a map does not have, and an element behind
//     the end of a list have no value, as below. Members of structs are read by
//     closure.go, the rest by cel-go, which allocates.
//   - An absent optional field and the mean of an empty window have no value:
//     reading them is an error of the kind no_data, which && and || absorb where the
//     other side decides. has(x), x.orValue(y) and x.hasValue() ask first, for fields
//     and windows alike. At top level the rule does not fire, and is counted under
//     no_data. Every other error is counted under errors, with its text.
//
// Invariants:
//
//  1. A mistake in a rule is found before anything runs, and is a schema.Problem
//     that names file, line and column of the place inside the expression.
//  2. An expression is compiled to Go functions over columns (closure.go) where
//     they cover it, else it runs in cel-go. Both give the same results and kinds of
//     errors; a differential test holds them to it.
//  3. The parts of a top-level && are evaluated cheapest first. That changes
//     neither the result nor which error is told: the leftmost of the source.
//  4. Rules see the event, the windows, the tables that the engine gives, and
//     nothing else: no clock, no randomness.
//  5. Equal windows of all rules are one operator; windows that differ in length or
//     in what they sum share their events.
//  6. An event on which nothing fires costs no allocation where the rules are
//     within closure.go.
//  7. A row's windows are read only where no clause without windows is false (Prepare);
//     what the windows hold does not depend on it.
//
// Goroutines: none. A Program is shared by all shards, an instance belongs to one.
// Counters are atomic.
//
// What it does not do: windows by fields without the stream's key, windows over
// another stream, patterns, models. Each is refused by name.
package rules
