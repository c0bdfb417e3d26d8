// Package protect keeps sensitive values off the disk: it rewrites the records of
// a batch before the log appends it, by what their stream declares. It is what
// broker.Options.Transform calls.
//
// What happens to a value, by the policy of its field:
//
//	drop     JSON null, an empty cell
//	mask     the first six and the last four of 13 to 19 digits stay, else the
//	         last four characters, else nothing
//	hmac     h1.KEYID.TOKEN: 128 bits of HMAC-SHA-256 under the first key; equal
//	         values stay equal, over fields and streams, as long as the key does
//	encrypt  e1.TOKEN: AES-256-GCM under the key of the event's subject; see Subjects
//
// The strings in lists, maps and structs have policies of their own. A value with
// such strings declared in it that is no list, map or struct as declared is left out
// as a whole: what in it is sensitive cannot be told.
//
// Beside declared fields, in a stream that declares any of them:
//
//   - free-text fields, members and columns that no field declares, names of
//     undeclared members, headers, and record keys that are not a declared field's
//     value are searched for card numbers: 13 to 19 digits that pass the Luhn
//     check, with spaces, dashes or points between groups. They are masked in
//     place, BIN and last four stay.
//   - a member or column with the name of a card verification value, of track data
//     or of a PIN block (Forbidden) loses its value, whatever it is; such a field
//     cannot be declared.
//   - track data is masked in every string, whichever field it is in.
//   - of a value that does not parse, declared members or cells before the fault
//     are treated as ever; then the whole of it is searched for card numbers. It
//     ends where the value of a sensitive field has no end, and 11 digits or more
//     at its end, a card number cut short, lose all but six. A value that parses and
//     that the decoder refuses (a card number where the time is declared) is
//     searched as a whole, too.
//     After the fault of a JSON value, members that are called like a sensitive one
//     lose theirs (salvage.go).
//   - dead letters (the raw bytes and every text) are treated the same way.
//
// Entries of lists and tables are treated alike (Protector.Entry), before they are
// written: a field that is sensitive gives the token that a stream's would. Where
// anything of the node is sensitive, a key that may be a card number and is not
// declared is refused, other strings are masked.
//
// Beside that, ClientHeaders takes headers whose names begin with "weir-", but those of
// `weir load`, out of what clients produce: by them Weir's own writers, which do not
// come over Kafka, tell what a record is, and nobody may forge that. A client that
// knows the id of an unfinished load can still make that load skip rows.
//
// Invariants:
//
//  1. Transform returns as many records as it was given, in their order, with
//     their timestamps, and the batch's producer id, epoch, sequence and codec, so
//     that deduplication of a producer's retries works. A batch in which nothing
//     is sensitive comes back as it is.
//  2. What is not replaced stays byte for byte.
//  3. Transform of its own output changes no value that parses: a token under a
//     known key, a masked value and a ciphertext are recognised. So a dead letter can be
//     replayed, and a consumer's output produced again.
//  4. The same card gives the same token in a value and in a record key, however
//     its digits are grouped. The partition is the client's choice, made from the
//     clear key: events of one card meet in one partition as long as its clients
//     write the key alike.
//  5. A batch returned by Transform can be decrypted: its subjects' keys are
//     durable before it is.
//  6. Whatever the decoder takes, this package parses: it is more lenient, never
//     stricter. No input makes it panic or recurse beyond a fixed depth.
//
// Goroutines: none. A Protector serves any number of callers; at most
// GOMAXPROCS batches are rewritten at once, the others wait. That bounds memory.
//
// What it does not do: search declared fields that are neither sensitive nor free
// text; look through encodings other than JSON's (base64, compression within a
// value); find numbers split over several fields; decrypt for users (Reveal is
// for a later, authorised API).
package protect
