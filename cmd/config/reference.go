package config

import (
	"fmt"
	"strings"
)

// Reference is docs/reference/config.md: every key with what it expects, its
// default and its meaning, from the tables that the reader itself uses.
func Reference() string {
	var b strings.Builder
	b.WriteString(referenceHead)
	section(&b, "The file", "", topKeys)
	section(&b, "A stream", "Under `streams`, by name. A name is a letter, then letters, digits and `_`; it is also the name of the stream's SQL table, so names differ in more than upper and lower case, and SQL's reserved words and Weir's own tables cannot be used.", streamKeys)
	section(&b, "A field", "Under `fields` of a stream, by name: either just its type, as in `amount: decimal(2)`, or a mapping with these keys.", fieldKeys)
	b.WriteString(nestedText)
	section(&b, "csv", "Under `csv` of a stream with `format: csv`.", csvKeys)
	section(&b, "A table", "Under `tables`, by name; see the guide on [lists and tables](../guides/tables.md). A name is a letter, then letters, digits and `_`.", tableKeys)
	section(&b, "A list", "Under `lists`, by name: a mapping with these keys, just its type, or nothing for a list of strings. A name is a letter, then letters, digits, `-` and `_`.", listKeys)
	section(&b, "csv of a table", "Under `csv` of a table or list, where it is more than the file. Beside the fields (`value` in a list), the file may have the columns `_expires` and `_reason`.", tableCSVKeys)
	section(&b, "A receiver", "An item of `receivers`. A receiver that is new in the file gets the alerts from the last stop on; one that was there goes on where it was.", receiverKeys)
	section(&b, "match", "Under `match` of a receiver. An alert must pass all that is given.", matchKeys)
	section(&b, "webhook", "Under `webhook` of a receiver; see the guide on [alerts](../guides/alerts.md).", webhookKeys)
	section(&b, "log", "Under `log`; see the guide on [running it](../guides/operations.md#disk-fsync-and-retention).", logKeys)
	section(&b, "kafka", "Under `kafka`; what is beyond these limits is in [what Kafka clients find](kafka.md#limits).", kafkaKeys)
	section(&b, "engine", "Under `engine`.", engineKeys)
	section(&b, "protect", "Under `protect`; see the guide on [sensitive data](../guides/sensitive-data.md).", protectKeys)
	section(&b, "protect.keys", "An item of `keys` under `protect`.", hmacKeys)
	section(&b, "sql", "Under `sql`.", sqlKeys)
	return b.String()
}

const referenceHead = `<!-- Made by config.Reference: go test ./cmd/config -run TestReference -rewrite -->
# weir.yaml

Every key that ` + "`weir.yaml`" + ` may have. Anything else in the file is an error that names
its line and column, before anything starts; ` + "`weir check-config`" + ` says so without
starting at all.

- Relative paths are relative to the file.
- A duration is written ` + "`500ms`, `5s`, `1m`, `24h`, `7d` or `1d12h`" + `; a size ` + "`512KiB`, `64MiB`, `1.5GiB` or `100MB`" + `.
- ` + "`${env:NAME}`" + ` in a value stands for the environment variable NAME, which has to be
  set. It is replaced after the YAML was read, and only in values.
- Where a list is expected, a single item may stand alone.
`

const nestedText = "\n### Lists, maps and structs\n\n" + `Two ways to write the same, the second with room for more about a member:

` + "```yaml" + `
fields:
  ts: timestamp
  tags: list(string)
  attrs: map(decimal(2)?)                  # the values may be null
  items: list(struct(sku string, price decimal(2)))
  geo: {type: struct, fields: {lat: double, lon: double}}
  payer:
    type: struct
    optional: true
    fields:
      name: {type: string, from: fullName}
      iban: {type: string, sensitive: hmac}
      seen: {type: list, of: {type: timestamp, layout: unix_ms}}
` + "```" + `

They nest up to 4 deep, and a list or map has at most 65,536 elements. In YAML's
braces a type with commas needs quotes. Only streams with ` + "`format: json`" + ` have them.
An element or member that is not optional and is null or absent, one of another
type, and a key that stands in a map twice make the record a dead letter whose field
is the path to it, such as ` + "`items[2].price`" + `; of members of a struct with one name
the last counts, as of all members.
`

func section[T any](b *strings.Builder, title, text string, keys []key[T]) {
	fmt.Fprintf(b, "\n## %s\n\n", title)
	if text != "" {
		b.WriteString(text + "\n\n")
	}
	b.WriteString("| key | expects | default | meaning |\n|---|---|---|---|\n")
	for i := range keys {
		k := &keys[i]
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", k.name, cell(k.expects), cell(k.shownDefault()), cell(k.doc))
	}
}

func (k *key[T]) shownDefault() string {
	switch {
	case k.required:
		return "required"
	case k.defDoc != "":
		return k.defDoc
	case k.def != "":
		return "`" + k.def + "`"
	}
	return "none"
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
