// Package table keeps dimension tables and lists: what rules look up beside the
// event itself. A table is typed key fields and typed columns; a list is a table
// of one key field and no column. Each entry may expire, and says since when it
// is there, who put it there and why.
//
// All changes of all tables are records of one partition, TopicTables. Their
// offsets are the one order of changes, and a View is the state of every table
// before an offset: it is immutable, and the same for everyone who asks for the
// same offset. So a shard needs to note only from where on in its input it uses
// which View (cep/engine, weir.journal); docs/decisions/0005 tells why.
//
// Invariants:
//
//  1. Changes that were made together are seen together: a View is taken between
//     groups of changes, never inside one. A group that a crash cut off is left
//     out by every reader, and the next group says so (op abort).
//  2. Change returns when the group is durable and Head shows it; an event that is
//     written after that is decided with it.
//  3. Store.At(offset) depends on the records below offset and on nothing else: no
//     clock, no order of a hash table, no limit. Limits are checked before a change
//     is written, so that a reader never meets one.
//  4. An entry is seen by an event of time t where t is before its expiry. An
//     entry never expires by the clock of the machine.
//  5. A View shares with its predecessor what did not change. Its entries stand in
//     a few large byte slices without pointers; Find allocates nothing.
//  6. What a person wrote wrong, in a CSV file, a JSON body or a declaration, is a
//     schema.Problem and changes nothing.
//  7. An entry is written as Options.Protect leaves it, whichever way it came: a
//     card number in a sensitive field reaches no disk.
//
// Goroutines: none of its own but Follow's, which belongs to who calls it. A Store
// is safe for use by several goroutines; one of them changes at a time.
//
// What it does not do: decide at which event a shard begins to use a View
// (cep/engine), read weir.yaml (cmd/config), or forget old changes: TopicTables is
// kept whole, so that every replay finds the View that it needs.
package table
