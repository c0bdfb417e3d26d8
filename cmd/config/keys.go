package config

import (
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/weirstream/weir/alerts"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// text is a text of the file and its place, for checks that span keys.
type text struct {
	s   string
	v   value
	set bool
}

// duration is a duration of the file and its place.
type duration struct {
	d time.Duration
	v value
}

// draft is a file that was read but not yet checked across its parts.
type draft struct {
	dataDir, rules   text
	kafka, http, sql text
	streams          []*streamDraft
	receivers        []*receiverDraft
	log              Log
	maxMessage       value // of log
	broker           Kafka
	sessionMin       value // of broker
	engine           Engine
	limits           SQL
	protect          []*keyDraft
	tables           []*tableDraft // and lists
}

type keyDraft struct {
	v                  value
	id                 text
	secret, secretFile text
}

type streamDraft struct {
	name       string
	v          value
	topic, as  text
	partitions int64
	format     string
	time       text
	id, key    text
	lateness   time.Duration
	markBy     []text
	markIdle   duration
	idle       duration
	diskFrom   time.Duration
	maxAhead   time.Duration
	dedupe     duration
	decisions  string
	compat     string
	zone       *time.Location
	csv        csvDraft
	fields     []*fieldDraft
	fieldsAt   value
}

type csvDraft struct {
	v         value
	set       bool
	columns   []text
	delimiter byte
}

type fieldDraft struct {
	name         string
	v            value
	typ          text
	from, layout text
	optional     bool
	sensitive    text
	freeText     bool
	subject      value // set where the field is

	of        *fieldDraft // the element of a list, the value of a map
	members   []*fieldDraft
	membersAt value
}

type receiverDraft struct {
	name     text
	v        value
	match    alerts.Match
	streams  []text // of match, to be looked up
	retryFor time.Duration
	inFlight int64
	webhook  *webhookDraft
}

type webhookDraft struct {
	v          value
	url        text
	secret     text
	secretFile text
	timeout    time.Duration
	cidrs      []Prefix
}

// Bounds of what one file may declare.
const (
	streamsMax    = 256
	fieldsMax     = 512
	membersMax    = 16_384
	receiversMax  = 64
	partitionsMax = 1024
	hmacKeysMax   = 16
)

// The tables below are the one place where a key, its default and its meaning
// are written down.

var topKeys []key[draft]

func init() { // the readers of sections refer to the tables below
	fieldKeys = slices.Insert(fieldKeys, 1, nestedKeys...)
	topKeys = []key[draft]{
		{name: "data_dir", expects: "directory", def: "weir-data", doc: "Everything that is kept: the log, checkpoints, the SQL database.",
			read: func(w *walker, v value, d *draft) { d.dataDir = w.pathText(v, "a directory") }},
		{name: "kafka_addr", expects: "HOST:PORT", def: "127.0.0.1:9092", doc: "Where Kafka clients connect.",
			read: func(w *walker, v value, d *draft) { d.kafka = w.addr(v) }},
		{name: "http_addr", expects: "HOST:PORT", def: "127.0.0.1:8080", doc: "Console, REST API and metrics.",
			read: func(w *walker, v value, d *draft) { d.http = w.addr(v) }},
		{name: "sql_addr", expects: "HOST:PORT", def: "127.0.0.1:7432", doc: "Where PostgreSQL clients connect.",
			read: func(w *walker, v value, d *draft) { d.sql = w.addr(v) }},
		{name: "rules", expects: "directory", defDoc: "`rules`, where it exists", doc: "The directory of rule files (`*.yaml`).",
			read: func(w *walker, v value, d *draft) { d.rules = w.pathText(v, "the directory of the rule files") }},
		{name: "streams", expects: "mapping of names to streams", doc: "The streams; see [below](#a-stream). A name is also the stream's SQL table.",
			read: readStreams},
		{name: "tables", expects: "mapping of names to tables", doc: "Dimension tables that rules look up; see [below](#a-table). A name is also an SQL table.",
			read: readTables(false)},
		{name: "lists", expects: "mapping of names to lists", doc: "Lists that rules ask; see [below](#a-list).",
			read: readTables(true)},
		{name: "receivers", expects: "list of receivers", doc: "Where alerts go; see [below](#a-receiver).",
			read: readReceivers},
		{name: "log", expects: "mapping", def: "{}", defDoc: "as below", doc: "How records are kept; see [below](#log).",
			read: func(w *walker, v value, d *draft) { walk(w, v, logKeys, d) }},
		{name: "kafka", expects: "mapping", def: "{}", defDoc: "as below", doc: "How Kafka clients are served; see [below](#kafka).",
			read: func(w *walker, v value, d *draft) { walk(w, v, kafkaKeys, d) }},
		{name: "engine", expects: "mapping", def: "{}", defDoc: "as below", doc: "How events are decided; see [below](#engine).",
			read: func(w *walker, v value, d *draft) { walk(w, v, engineKeys, &d.engine) }},
		{name: "sql", expects: "mapping", def: "{}", defDoc: "as below", doc: "What queries may use; see [below](#sql).",
			read: func(w *walker, v value, d *draft) { walk(w, v, sqlKeys, &d.limits) }},
		{name: "protect", expects: "mapping", doc: "The keys of sensitive fields; see [below](#protect).",
			read: func(w *walker, v value, d *draft) { walk(w, v, protectKeys, d) }},
	}
}

var engineKeys = []key[Engine]{
	{name: "checkpoint_every", expects: "duration from 100ms to 1h", def: "10s", doc: "How often a shard writes a checkpoint; a restart decides again at most what came since, and writes only what is missing.",
		read: func(w *walker, v value, e *Engine) {
			w.duration(v, 100*time.Millisecond, time.Hour, &e.CheckpointEvery)
		}},
	{name: "keep_programs", expects: "duration", def: "30d", doc: "How long the rules of before are kept once others are declared, in the data directory's `programs/`, and the keyed streams that only they need: a replay of that time decides by them, and a rule that comes back finds its keyed stream. 0: for ever.",
		read: func(w *walker, v value, e *Engine) { w.duration(v, 0, century, &e.KeepPrograms) }},
}

var sqlKeys = []key[SQL]{
	{name: "memory_max", expects: "size from 64MiB", def: "1GiB", doc: "The most memory that the SQL database uses; beyond it, it spills to disk.",
		read: func(w *walker, v value, s *SQL) { w.size(v, 64<<20, 1<<50, &s.MemoryMax) }},
	{name: "query_timeout", expects: "duration from 10ms to 24h", def: "30s", doc: "The longest that a query may run.",
		read: func(w *walker, v value, s *SQL) { w.duration(v, 10*time.Millisecond, 24*time.Hour, &s.QueryTimeout) }},
}

var protectKeys = []key[draft]{
	{name: "keys", expects: "list of keys", defDoc: "one made in the data directory, where a field needs it", doc: "The keys of `sensitive: hmac`. The first makes the hashes; hashes under the others are recognised. See [below](#protectkeys).",
		read: func(w *walker, v value, d *draft) {
			if n := resolve(v.node); n.Kind == yaml.ScalarNode {
				w.fail(v, "begin each key with `- id:`", "found %s, expected a list of keys", found(n))
				return
			}
			w.items(v, hmacKeysMax, func(item value) {
				k := &keyDraft{v: item}
				walk(w, item, hmacKeys, k)
				d.protect = append(d.protect, k)
			})
		}},
}

var hmacKeys = []key[keyDraft]{
	{name: "id", expects: "name", required: true, doc: "The key's name, part of every hash: a lower-case letter, then lower-case letters, digits and `_`, at most 16.",
		read: func(w *walker, v value, k *keyDraft) { k.id = w.text(v, "a name") }},
	{name: "secret", expects: "secret", defDoc: "none; one of `secret` and `secret_file` is needed", doc: "32 to 128 random bytes in base64. Better in `secret_file` or as `${env:NAME}`.",
		read: func(w *walker, v value, k *keyDraft) { k.secret = w.secretText(v, hmacSecretExpected) }},
	{name: "secret_file", expects: "file", defDoc: "none", doc: "A file that holds what `secret` would.",
		read: func(w *walker, v value, k *keyDraft) { k.secretFile = w.pathText(v, "a file") }},
}

var streamKeys = []key[streamDraft]{
	{name: "topic", expects: "topic name", defDoc: "the stream's name", doc: "The topic that holds the stream's records. It is made where it does not exist.",
		read: func(w *walker, v value, s *streamDraft) { s.topic = w.text(v, "a topic name") }},
	{name: "partitions", expects: "number from 1 to 1024", def: "4", doc: "With how many partitions the topic is made. A topic that exists keeps its own.",
		read: func(w *walker, v value, s *streamDraft) { w.number(v, 1, partitionsMax, &s.partitions) }},
	{name: "format", expects: "`json` or `csv`", def: "json", doc: "How a record is written: a JSON object, or a CSV line without a header.",
		read: func(w *walker, v value, s *streamDraft) { s.format = w.format(v) }},
	{name: "as", expects: "name", defDoc: "the stream's name", doc: "The stream's name in rules, as in `tx.amount`.",
		read: func(w *walker, v value, s *streamDraft) { s.as = w.text(v, "a name such as tx") }},
	{name: "time", expects: "name of a timestamp field", required: true, doc: "The field that is the event's time.",
		read: func(w *walker, v value, s *streamDraft) { s.time = w.text(v, "the name of a timestamp field") }},
	{name: "id", expects: "name of a field", defDoc: "none", doc: "The field that identifies the event: `string`, `int64` or `bytes`.",
		read: func(w *walker, v value, s *streamDraft) { s.id = w.text(v, "the name of a field") }},
	{name: "key", expects: "name of a field", defDoc: "none", doc: "The field by which records are partitioned and windows kept: `string`, `int64` or `bytes`.",
		read: func(w *walker, v value, s *streamDraft) { s.key = w.text(v, "the name of a field") }},
	{name: "dedupe", expects: "duration", defDoc: "none: every event counts", doc: "For how long, in event time, an event with the `id` of one before it in the same partition is a client's retry of that one: it goes to the dead letters (reason `duplicate`), gets no decision, enters no window and has no row in SQL. Needs `id`, a `string` or `int64`. An id takes some 32 to 128 bytes of memory for that long, in the engine and again in SQL's reader.",
		read: func(w *walker, v value, s *streamDraft) {
			s.dedupe.v = v
			w.duration(v, time.Millisecond, 366*24*time.Hour, &s.dedupe.d)
		}},
	{name: "lateness", expects: "duration", def: "5s", doc: "How far the watermark stays behind the greatest event time seen; an event behind the watermark is flagged `late`.",
		read: func(w *walker, v value, s *streamDraft) { w.duration(v, 0, 366*24*time.Hour, &s.lateness) }},
	{name: "watermark_by", expects: "list of names of fields", defDoc: "none: one watermark for each partition", doc: "Events that differ in these fields have watermarks of their own, as where venues or symbols report at their own pace: an event is `late` that is behind the watermark of its own group. State is kept until `watermark_idle` behind the greatest event time.",
		read: func(w *walker, v value, s *streamDraft) {
			w.items(v, 16, func(item value) {
				if t := w.text(item, "the name of a field"); t.set {
					s.markBy = append(s.markBy, t)
				}
			})
		}},
	{name: "watermark_idle", expects: "duration", defDoc: "`1h`, or the lateness where that is longer", doc: "With `watermark_by`: a group that is further than this behind the greatest event time of all is not waited for. At least `lateness`.",
		read: func(w *walker, v value, s *streamDraft) {
			s.markIdle.v = v
			w.duration(v, time.Millisecond, 366*24*time.Hour, &s.markIdle.d)
		}},
	{name: "idle", expects: "duration", def: "1m", doc: "How long a partition without records holds back what waits for event time to go on, in a stream whose events come near to the time of the clock: after that its watermark follows the stream's other partitions, or the clock, this far behind. An event that reaches the log within `idle` and `lateness` of its time is never late because of it. `0s`: a partition without records waits for its next one. See [windows](windows.md#time).",
		read: func(w *walker, v value, s *streamDraft) {
			s.idle.v = v
			w.duration(v, 0, 366*24*time.Hour, &s.idle.d)
		}},
	{name: "max_ahead", expects: "duration", def: "0s", defDoc: "`0s`: no bound", doc: "How far an event's time may be ahead of its record's timestamp. One further ahead goes to the dead letters, so that one bad clock cannot move the watermark.",
		read: func(w *walker, v value, s *streamDraft) { w.duration(v, 0, 366*24*time.Hour, &s.maxAhead) }},
	{name: "windows_on_disk", expects: "duration", def: "6h", doc: "How far a window must reach back, its length and delay together, to keep its events on disk instead of in memory. Its values are the same; `min`, `max`, `first`, `last`, `lag`, `speed`, numbers of events and sessions need their events in memory. `0s`: no window does. See [windows](windows.md#long-windows).",
		read: func(w *walker, v value, s *streamDraft) { w.duration(v, 0, 100*366*24*time.Hour, &s.diskFrom) }},
	{name: "decisions", expects: "`fired` or `all`", def: "fired", doc: "Record a decision for the events on which a rule fired, or for every event.",
		read: func(w *walker, v value, s *streamDraft) { s.decisions, _ = w.oneOf(v, "fired", "all") }},
	{name: "compatibility", expects: "`backward`, `forward`, `full` or `none`", def: "backward", doc: "What a change of the stream's declaration must keep: that records of before fit the new one (`backward`), that new records fit the one of before (`forward`), both, or nothing. A change that does not is refused before it takes effect. See the guide on [streams](../guides/streams.md#changing-a-stream).",
		read: func(w *walker, v value, s *streamDraft) {
			s.compat, _ = w.oneOf(v, string(schema.CompatNone), string(schema.CompatBackward), string(schema.CompatForward), string(schema.CompatFull))
		}},
	{name: "zone", expects: "IANA time zone", def: "UTC", doc: "Where timestamps are that say no offset, such as `Europe/Paris`.",
		read: func(w *walker, v value, s *streamDraft) { s.zone = w.zone(v) }},
	{name: "csv", expects: "mapping", doc: "How CSV records are written; only with `format: csv`. See [below](#csv).",
		read: func(w *walker, v value, s *streamDraft) {
			s.csv.v, s.csv.set = v, true
			walk(w, v, csvKeys, &s.csv)
		}},
	{name: "fields", expects: "mapping of names to types", required: true, doc: "The typed fields; see [below](#a-field).",
		read: readFields},
}

var csvKeys = []key[csvDraft]{
	{name: "columns", expects: "list of names", defDoc: "the fields, in their order", doc: "The columns of a record, in order. Columns that no field names are skipped.",
		read: func(w *walker, v value, c *csvDraft) {
			w.items(v, 4096, func(item value) {
				if t := w.text(item, "a column name"); t.set {
					c.columns = append(c.columns, t)
				}
			})
		}},
	{name: "delimiter", expects: "one character", def: ",", doc: "What stands between two columns: one ASCII character; `\"\\t\"` is a tab.",
		read: func(w *walker, v value, c *csvDraft) { c.delimiter = w.delimiter(v) }},
}

// nestedKeys are keys of a field that have fields within.
var nestedKeys = []key[fieldDraft]{
	{name: "of", expects: "type or field", defDoc: "none; `type: list` and `type: map` need it", doc: "The element of a list or the value of a map: its type, or a mapping with these keys (without `from` and `subject`).",
		read: func(w *walker, v value, f *fieldDraft) { f.of = readField(w, "", v) }},
	{name: "fields", expects: "mapping of names to types", defDoc: "none; `type: struct` needs it", doc: "The members of a struct, as the fields of a stream. `from` is then the one name of the member in its object.",
		read: func(w *walker, v value, f *fieldDraft) {
			f.membersAt = v
			w.each(v, func() string { return "a mapping of names to types" }, func(name string, child value) {
				if len(f.members) == event.MaxMembers {
					w.fail(child, "", "found more than %d members of a struct", event.MaxMembers)
					return
				}
				f.members = append(f.members, readField(w, name, child))
			})
		}},
}

var fieldKeys = []key[fieldDraft]{
	{name: "type", expects: "type", required: true, doc: "`bool`, `int64`, `double`, `decimal(N)` (exact, N decimal places up to 18), `string`, `timestamp`, `bytes`, or one that nests: `list(T)`, `map(T)` (its keys are strings) or `struct(name T, name T)`, where `?` behind a type says that the value may be absent. `list`, `map` and `struct` alone go with `of` and `fields`. See [below](#lists-maps-and-structs).",
		read: func(w *walker, v value, f *fieldDraft) { f.typ = w.text(v, "a type such as string or decimal(2)") }},
	{name: "from", expects: "text", defDoc: "the field's name", doc: "The column of a CSV record, or the path of a JSON member with its parts apart by dots.",
		read: func(w *walker, v value, f *fieldDraft) {
			f.from = w.text(v, "a column name or the path of a JSON member")
		}},
	{name: "layout", expects: "timestamp layout", defDoc: "`rfc3339`", doc: "How a timestamp is written: `rfc3339`, `unix`, `unix_ms`, `unix_us`, `unix_ns`, or a strptime layout such as `\"%Y-%m-%d %H:%M:%S\"`.",
		read: func(w *walker, v value, f *fieldDraft) { f.layout = w.text(v, "a timestamp layout") }},
	{name: "optional", expects: "`true` or `false`", def: "false", doc: "May be absent or null. A record without a field that is not optional goes to the dead letters.",
		read: func(w *walker, v value, f *fieldDraft) { f.optional, _ = w.truth(v) }},
	{name: "sensitive", expects: "`drop`, `mask`, `hmac` or `encrypt`", defDoc: "not sensitive", doc: "What happens to the value before it is written anywhere: left out (the field must be optional), BIN and last four kept, replaced by a keyed hash, or encrypted under a key of its subject. See the guide on [sensitive data](../guides/sensitive-data.md).",
		read: func(w *walker, v value, f *fieldDraft) {
			s, ok := w.oneOf(v, string(schema.Drop), string(schema.Mask), string(schema.HMAC), string(schema.Encrypt))
			f.sensitive = text{s: s, v: v, set: ok}
		}},
	{name: "free_text", expects: "`true` or `false`", def: "false", doc: "People write into it: card numbers in it are masked before it is written.",
		read: func(w *walker, v value, f *fieldDraft) { f.freeText, _ = w.truth(v) }},
	{name: "subject", expects: "`true` or `false`", defDoc: "the stream's key is the subject", doc: "The field names whom the event is about: `sensitive: encrypt` uses a key for each of its values, and `weir erase` takes one.",
		read: func(w *walker, v value, f *fieldDraft) {
			if yes, _ := w.truth(v); yes {
				f.subject = v
			}
		}},
}

var receiverKeys = []key[receiverDraft]{
	{name: "name", expects: "name", required: true, doc: "The receiver's name in deliveries, metrics and the console. Its place in the alerts is kept under this name.",
		read: func(w *walker, v value, r *receiverDraft) { r.name = w.text(v, "a name") }},
	{name: "webhook", expects: "mapping", defDoc: "none; a receiver needs a kind", doc: "An HTTP endpoint; see [below](#webhook).",
		read: func(w *walker, v value, r *receiverDraft) {
			r.webhook = &webhookDraft{v: v}
			walk(w, v, webhookKeys, r.webhook)
		}},
	{name: "match", expects: "mapping", defDoc: "every alert", doc: "Which alerts the receiver gets; see [below](#match).",
		read: func(w *walker, v value, r *receiverDraft) { walk(w, v, matchKeys, r) }},
	{name: "retry_for", expects: "duration from 1s to 30d", def: "3d", doc: "How long an alert that the receiver does not take is tried again before it is recorded as failed.",
		read: func(w *walker, v value, r *receiverDraft) { w.duration(v, time.Second, 30*24*time.Hour, &r.retryFor) }},
	{name: "max_in_flight", expects: "number from 1 to 256", def: "8", doc: "How many notifications are under way at once. With 1, alerts of one partition arrive in order unless one is retried.",
		read: func(w *walker, v value, r *receiverDraft) { w.number(v, 1, 256, &r.inFlight) }},
}

var matchKeys = []key[receiverDraft]{
	{name: "rule", expects: "rule id or list of them", defDoc: "any rule", doc: "Only alerts of these rules.",
		read: func(w *walker, v value, r *receiverDraft) {
			for _, t := range w.texts(v, "a rule id") {
				r.match.Rules = append(r.match.Rules, t.s)
			}
		}},
	{name: "stream", expects: "stream name or list of them", defDoc: "any stream", doc: "Only alerts of these streams.",
		read: func(w *walker, v value, r *receiverDraft) { r.streams = w.texts(v, "the name of a stream") }},
	{name: "severity_min", expects: "`low`, `medium`, `high` or `critical`", def: "low", doc: "Only alerts of this severity or a greater one.",
		read: func(w *walker, v value, r *receiverDraft) { r.match.SeverityMin, _ = w.oneOf(v, alerts.Severities...) }},
}

var webhookKeys = []key[webhookDraft]{
	{name: "url", expects: "http or https URL", required: true, doc: "Where alerts are posted. It is masked wherever it would be shown, beyond its host.",
		read: func(w *walker, v value, h *webhookDraft) { h.url = w.secretText(v, "an http or https URL") }},
	{name: "secret", expects: "secret", defDoc: "none: not signed", doc: "Signs each notification: `whsec_` and 24 to 64 bytes in base64; several, apart by spaces, while they are rotated. Better in `secret_file` or as `${env:NAME}`.",
		read: func(w *walker, v value, h *webhookDraft) { h.secret = w.secretText(v, secretExpected) }},
	{name: "secret_file", expects: "file", defDoc: "none", doc: "A file that holds what `secret` would.",
		read: func(w *walker, v value, h *webhookDraft) { h.secretFile = w.pathText(v, "a file") }},
	{name: "timeout", expects: "duration from 10ms to 5m", def: "10s", doc: "The longest that one attempt may take, from connecting to the answer.",
		read: func(w *walker, v value, h *webhookDraft) {
			w.duration(v, 10*time.Millisecond, 5*time.Minute, &h.timeout)
		}},
	{name: "allow_cidrs", expects: "list of networks", defDoc: "none", doc: "Networks that the receiver may be in although they are not public, such as `10.0.0.0/8`, or `127.0.0.0/8` for this machine.",
		read: func(w *walker, v value, h *webhookDraft) { h.cidrs = w.cidrs(v) }},
}

func readStreams(w *walker, v value, d *draft) {
	w.each(v, func() string { return "a mapping of stream names to streams" }, func(name string, child value) {
		if len(d.streams) == streamsMax {
			w.fail(child, "", "found more than %d streams", streamsMax)
			return
		}
		d.streams = append(d.streams, readStream(w, name, child))
	})
}

func readStream(w *walker, name string, v value) *streamDraft {
	s := &streamDraft{name: name, v: v}
	walk(w, v, streamKeys, s)
	return s
}

func readFields(w *walker, v value, s *streamDraft) {
	s.fieldsAt = v
	w.each(v, func() string { return "a mapping of field names to types" }, func(name string, child value) {
		if len(s.fields) == fieldsMax {
			w.fail(child, "", "found more than %d fields", fieldsMax)
			return
		}
		s.fields = append(s.fields, readField(w, name, child))
	})
}

// readField reads a type, or a mapping with more about the field. Aliases can make a
// small file hold itself or very much: depth and number are bounded.
func readField(w *walker, name string, v value) *fieldDraft {
	f := &fieldDraft{name: name, v: v}
	w.depth++
	defer func() { w.depth-- }()
	switch w.fields++; {
	case w.depth > event.MaxNesting+2: // of which the type is told to be too deep
		w.fail(v, "", "nested deeper than %d lists, maps and structs", event.MaxNesting)
		return f
	case w.fields > membersMax:
		if w.fields == membersMax+1 {
			w.fail(v, "", "found more than %d fields and members in one file", membersMax)
		}
		return f
	}
	if isScalar(v) {
		f.typ = w.text(v, "a type such as string or decimal(2)")
	} else {
		walk(w, v, fieldKeys, f)
	}
	return f
}

func readReceivers(w *walker, v value, d *draft) {
	n := resolve(v.node)
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" { // all commented out
		return
	}
	if n.Kind != yaml.SequenceNode {
		w.fail(v, "begin each receiver with `- name:`", "found %s, expected a list of receivers", found(n))
		return
	}
	w.items(v, receiversMax, func(item value) {
		r := &receiverDraft{v: item}
		walk(w, item, receiverKeys, r)
		d.receivers = append(d.receivers, r)
	})
}

// formats that are known to be coming.
var formatsLater = []string{"avro", "protobuf", "debezium"}

func (w *walker) format(v value) string {
	if s := resolve(v.node).Value; strings.Contains(" "+strings.Join(formatsLater, " ")+" ", " "+s+" ") && s != "" {
		w.fail(v, "", "not available in this version: format %s; expected one of json, csv", s)
		return ""
	}
	f, _ := w.oneOf(v, string(schema.JSON), string(schema.CSV))
	return f
}

// laterKinds are kinds of receivers that are reported as not yet available where
// they stand, so that their receiver is not also reported as having no kind.
var laterKinds = []string{"slack"}
