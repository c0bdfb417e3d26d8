package protect

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"
	"runtime"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/table"
	"github.com/weirstream/weir/log/record"
)

// Options of a Protector.
type Options struct {
	// Keys are those of HMACs: the first makes tokens, tokens under the others are
	// recognised. Needed where a field has the policy hmac.
	Keys []Key
	// Tables are dimension tables and lists: of those whose entries come from a topic
	// and have sensitive fields, the topic's records are rewritten.
	Tables []*table.Definition
	// Subjects are the keys of encrypted values. Needed where a field has the policy
	// encrypt. They stay the caller's to close.
	Subjects *Subjects
	// Registerer takes the metrics, and has them already where a Protector was made
	// before; nil: none.
	Registerer prometheus.Registerer
}

// Protector rewrites record batches. Its methods may be called from any goroutine.
type Protector struct {
	keys     []Key
	subjects *Subjects
	topics   map[string]*plan
	streams  map[string]*plan // of the topics, by the stream's name
	dead     *plan            // of dead letters; nil where no stream is sensitive
	workers  chan *worker     // idle ones; nil: not made yet
}

// New makes a Protector of the streams that declare sensitive fields; the others
// pass through it untouched. The errors name the stream and the field.
func New(streams []*schema.Stream, o Options) (*Protector, error) {
	if (Uses(streams, schema.HMAC) || UsesTables(o.Tables, schema.HMAC)) && len(o.Keys) == 0 {
		return nil, errors.New("a field is sensitive: hmac, and there is no key")
	}
	if Uses(streams, schema.Encrypt) && o.Subjects == nil {
		return nil, errors.New("a field is sensitive: encrypt, and there is no store of subject keys")
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, err
	}
	p := &Protector{keys: o.Keys, subjects: o.Subjects, topics: map[string]*plan{}, streams: map[string]*plan{}}
	for _, s := range streams {
		if !Sensitive(s) {
			continue
		}
		pl, err := newPlan(s)
		if err != nil {
			return nil, err
		}
		pl.counts = m.of(pl.stream)
		p.topics[s.Topic], p.streams[pl.stream] = pl, pl
	}
	for _, d := range o.Tables {
		topic, pl := tablePlan(d)
		if pl == nil || p.topics[topic] != nil {
			continue
		}
		pl.counts = m.of(pl.stream)
		p.topics[topic] = pl
	}
	if len(p.topics) > 0 || len(o.Keys) > 0 && UsesTables(o.Tables, schema.HMAC) {
		p.dead = &plan{key: -1, subject: -1, counts: m.of(event.TopicDeadLetters)}
		p.topics[event.TopicDeadLetters] = p.dead
	}
	p.workers = make(chan *worker, runtime.GOMAXPROCS(0))
	for range cap(p.workers) {
		p.workers <- nil
	}
	return p, nil
}

// known reports whether a key has that id.
func (p *Protector) known(id []byte) bool {
	for i := range p.keys {
		if p.keys[i].ID == string(id) {
			return true
		}
	}
	return false
}

// Active reports whether there is any topic whose records Transform looks at.
func (p *Protector) Active() bool { return len(p.topics) > 0 }

// Transform rewrites one record batch, as a producer sent it, for the topic. It
// returns batch itself where the topic's records are not sensitive or nothing in
// it is; a rewritten batch is the caller's. batch is not changed and not retained.
//
// Errors: those of record.Check and *record.BatchError, for what is not a batch
// that can be read, and whatever the disk says where keys of new subjects cannot
// be stored. On an error nothing of the batch may be stored.
func (p *Protector) Transform(topic string, batch []byte) ([]byte, error) {
	pl := p.topics[topic]
	if pl == nil {
		return batch, nil
	}
	h, err := record.Check(batch)
	if err != nil {
		return nil, err
	}
	w := <-p.workers
	if w == nil {
		w = p.newWorker()
	}
	defer func() {
		if cap(w.out) > keepMax || w.builder.Len() > keepMax {
			w = nil // a huge batch has been here
		}
		p.workers <- w
	}()
	return w.batch(pl, h, batch)
}

// keepMax is the greatest buffer that an idle worker keeps, in bytes.
const keepMax = 16 << 20

// worker rewrites one batch at a time.
type worker struct {
	p       *Protector
	plan    *plan
	search  searcher
	macs    []hash.Hash // for each key
	reader  *record.Reader
	builder *record.Builder
	recs    []record.Record
	headers []record.Header
	key     []byte
	// For records that may be bad.
	decoders map[*plan]*decode.Decoder
	rows     event.Batch
	tally    tally
	// The text that appendMAC hashed last, and its token.
	lastText, lastToken []byte
	sealed              bool // a value of the batch was encrypted

	// Of the value at hand:
	src      []byte
	out      []byte // what it becomes: src up to copied, replaced
	copied   int
	finding  bool // the subject is looked for, nothing written
	mayTrack bool // there may be track data in it
	suspects bool // a declared field that is not sensitive may hold a card number
	err      error
	subject  []byte
	keyText  []byte // of the key field, where it has no escapes; in src
	spans    []cellSpan

	whole []byte // a dead letter

	name, clear, fresh, found, masked, grouped, probe, cipher, sum []byte
}

func (p *Protector) newWorker() *worker {
	w := &worker{p: p, reader: record.NewReader(record.Options{SkipCRC: true}), builder: new(record.Builder), decoders: map[*plan]*decode.Decoder{}}
	for _, k := range p.keys {
		w.macs = append(w.macs, newMAC(k))
	}
	return w
}

func (w *worker) batch(pl *plan, h record.BatchHeader, batch []byte) ([]byte, error) {
	w.reader.Reset(batch[:h.Size()])
	var err error
	if w.recs, err = w.reader.ReadBatch(w.recs[:0]); err != nil {
		if err == io.EOF {
			err = fmt.Errorf("%w: a batch without data", record.ErrRecord)
		}
		return nil, err
	}
	defer clear(w.recs)
	o := record.BatchOptions{Codec: h.Codec(), ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence,
		Transactional: h.Transactional()}
	if h.LogAppendTime() {
		o.LogAppendTime = h.MaxTimestamp
	}
	w.builder.Reset(o)
	w.sealed, w.tally = false, tally{}
	changed := false
	for i := range w.recs {
		one, err := w.record(pl, &w.recs[i])
		if err != nil {
			return nil, err
		}
		changed = changed || one
	}
	if w.sealed {
		if err := w.p.subjects.commit(); err != nil {
			return nil, err
		}
	}
	pl.counts.add(&w.tally, len(w.recs))
	if !changed {
		return batch, nil
	}
	out, err := w.builder.Build()
	if err != nil {
		return nil, fmt.Errorf("rewritten batch: %w", err)
	}
	return slices.Clone(out), nil
}

// record adds one rewritten record to the batch and reports whether anything of it
// is other than before.
func (w *worker) record(pl *plan, r *record.Record) (changed bool, err error) {
	w.keyText, w.suspects = nil, false
	var value []byte
	key := r.Key
	if pl == w.p.dead {
		value, err = w.deadLetter(r.Value)
	} else {
		value, err = w.value(pl, r.Value)
		if err == nil && w.suspects && !w.decodes(pl, value, r.Timestamp) {
			value, _ = w.searchAll(value, false)
		}
	}
	if err != nil {
		return false, err
	}
	changed = !same(value, r.Value)
	if len(r.Key) > 0 {
		key = w.recordKey(pl, r.Key)
		changed = changed || !same(key, r.Key)
	}
	headers := r.Headers
	if len(headers) > 0 && w.searchHeaders(headers) {
		headers, changed = w.headers, true
	}
	w.builder.Append(r.Timestamp, key, value, headers)
	return changed, nil
}

// same reports whether two slices are one and the same.
func same(a, b []byte) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// value is what a record's value becomes: itself, or w.out.
func (w *worker) value(pl *plan, value []byte) ([]byte, error) {
	if len(value) == 0 {
		return value, nil
	}
	w.plan, w.src, w.out, w.copied, w.err = pl, value, w.out[:0], 0, nil
	w.mayTrack = bytes.IndexByte(value, '^') >= 0 || bytes.IndexByte(value, '=') >= 0
	if pl.encrypt {
		w.findSubject()
	}
	good := w.parse()
	if w.err != nil {
		return nil, w.err
	}
	if good && w.copied == 0 {
		return value, nil
	}
	if good {
		w.out = append(w.out, value[w.copied:]...)
		return w.out, nil
	}
	if w.copied == 0 && isWide(value) {
		w.src = bytes.ReplaceAll(value, []byte{0}, nil)
		w.parse()
		if w.err != nil {
			return nil, w.err
		}
	}
	w.suspects = false
	salvaged := w.salvage()
	if found, any := w.searchAll(w.out, true); any || salvaged || w.copied > 0 {
		return found, nil
	}
	return value, nil
}

// isWide reports whether a value that no parser takes is text in UTF-16 or UTF-32:
// sensitive fields are found in what is left without the zeros.
func isWide(value []byte) bool { return bytes.Count(value, []byte{0})*3 > len(value) }

// searchAll is the value of a bad record, searched from end to end: itself, or what
// w.out becomes. cut says that a card number may be cut short at its end.
func (w *worker) searchAll(value []byte, cut bool) (out []byte, any bool) {
	w.keyText = nil // the key is not taken for a field of it
	w.tally.malformed++
	w.whole = append(w.whole[:0], value...)
	out, cards, track := w.search.broken(w.whole, cut)
	w.tally.cards += int64(cards)
	w.tally.track += int64(track)
	if cards+track == 0 {
		return value, false
	}
	w.out = append(w.out[:0], out...)
	return w.out, true
}

// suspect notes whether the text of a declared field that is not sensitive may hold
// a card number: then the record must be a good one to keep it.
func (w *worker) suspect(text []byte) {
	if w.suspects || digitsIn(text) < panMin {
		return
	}
	w.suspects = w.holdsCard(text)
}

// decodes reports whether the decoder of the stream takes a value.
func (w *worker) decodes(pl *plan, value []byte, timestamp int64) bool {
	d := w.decoders[pl]
	if pl.declared == nil { // a table's
		return false
	}
	if d == nil {
		var err error
		if d, err = decode.New(pl.declared, nil, decode.Options{}); err != nil {
			return false
		}
		w.decoders[pl] = d
	}
	w.rows.Reset(pl.declared.Schema, nil)
	d.Decode(&w.rows, event.Origin{}, []record.Record{{Timestamp: timestamp, Value: value}}, func(*record.Record, decode.Failure) {})
	return w.rows.Len() == 1
}

func (w *worker) parse() bool {
	if w.plan.root != nil {
		return w.json()
	}
	return w.csv()
}

// findSubject puts into w.subject the text under which the key of the record's
// subject is kept: that of its field as the log will hold it.
func (w *worker) findSubject() {
	w.subject = w.subject[:0]
	w.finding = true
	w.parse()
	w.finding = false
	if len(w.subject) == 0 {
		return
	}
	if w.plan.fields[w.plan.subject].policy == schema.HMAC {
		w.clear = append(w.clear[:0], w.subject...)
		w.subject = w.appendMAC(w.subject[:0], w.clear)
		return
	}
	w.subject = append(w.subject[:0], w.normal(w.subject)...)
}

// put copies the value up to i and goes on after end; what stands between is to be
// written in its place.
func (w *worker) put(i, end int) {
	w.out = append(w.out, w.src[w.copied:i]...)
	w.copied = end
}

// recordKey is what a record's key becomes.
func (w *worker) recordKey(pl *plan, key []byte) []byte {
	if pl.key >= 0 && pl.fields[pl.key].policy == schema.HMAC {
		w.key = w.appendMAC(w.key[:0], key)
		if bytes.Equal(w.key, key) {
			return key
		}
		return w.key
	}
	if pl.key >= 0 && bytes.Equal(key, w.keyText) {
		return key // a value that is declared and not sensitive
	}
	w.key = append(w.key[:0], w.searched(key)...)
	if bytes.Equal(w.key, key) {
		return key
	}
	return w.key
}

// searched is t itself, or a copy with what it held of card numbers and track data
// masked, which is valid until the next call.
func (w *worker) searched(t []byte) []byte {
	w.found = append(w.found[:0], t...)
	cards, track := w.search.text(w.found)
	w.tally.cards += int64(cards)
	w.tally.track += int64(track)
	if cards+track == 0 {
		return t
	}
	return w.found
}

// ownHash is how ingest/loader and ingest/httpin write the hashes by which they
// find their places again: in hexadecimal, where a card number could only stand by
// chance.
var ownHash = regexp.MustCompile(`^[0-9a-f]{24,64}(\.[0-9]{1,6})?$`)

// The headers that have such a hash.
const (
	loadHeader    = "weir-load"
	requestHeader = "weir-idempotency"
)

// searchHeaders makes w.headers of the headers, searched, and reports whether they
// are other than before.
func (w *worker) searchHeaders(headers []record.Header) (changed bool) {
	w.headers = append(w.headers[:0], headers...)
	for i := range w.headers {
		h := &w.headers[i]
		if (h.Key == loadHeader || h.Key == requestHeader) && ownHash.Match(h.Value) {
			continue
		}
		if isForbidden([]byte(h.Key)) && h.Value != nil {
			h.Value, changed = nil, true
			w.tally.refused++
			continue
		}
		if v := w.searched(h.Value); len(v) > 0 && !same(v, h.Value) {
			h.Value, changed = bytes.Clone(v), true
		}
		if len(h.Key) >= panMin {
			if k := w.searched([]byte(h.Key)); string(k) != h.Key {
				h.Key, changed = string(k), true
			}
		}
	}
	return changed
}

// Tokens are the tokens that a value has under each of the keys, the newest first.
// A token is its own. They are what a person who looks for a card has to look for.
func (p *Protector) Tokens(value string) []string {
	w := p.newWorker()
	if w.isMAC([]byte(value)) {
		return []string{value}
	}
	out := make([]string, len(p.keys))
	for i := range p.keys {
		out[i] = string(w.appendToken(nil, i, []byte(value)))
	}
	return out
}

// Erase shreds the keys of a subject: of the value itself and of its tokens. What
// was encrypted under them can never be read again, once Erase has returned nil.
// It returns how many keys there were.
func (p *Protector) Erase(subject string) (int, error) {
	if p.subjects == nil || subject == "" {
		return 0, nil
	}
	names := append(p.Tokens(subject), subject)
	w := worker{}
	if n := string(w.normal([]byte(subject))); n != subject {
		names = append(names, n)
	}
	return p.subjects.Erase(names...)
}

// ErrErased is returned for a value whose subject has no key: it was erased, or
// never there.
var ErrErased = errors.New("there is no key for this subject: it was erased")

// Reveal decrypts a value of a stream's field. subject is the value of the
// subject's field, as it stands in the log. It is for authorised use: no API of
// Weir calls it yet.
func (p *Protector) Reveal(stream, field, subject, value string) (string, error) {
	if p.subjects == nil || !isCipher([]byte(value)) {
		return "", errors.New("not an encrypted value")
	}
	w := worker{}
	key, ok := p.subjects.find(w.normal([]byte(subject)))
	if !ok {
		return "", ErrErased
	}
	aead, err := newAEAD(key[:])
	if err != nil {
		return "", err
	}
	raw, err := encoding.DecodeString(value[len(cipherPrefix):])
	if err != nil {
		return "", fmt.Errorf("encrypted value: %w", err)
	}
	text, err := aead.Open(nil, raw[:nonceSize], raw[nonceSize:], []byte(stream+"\x00"+field))
	if err != nil {
		return "", fmt.Errorf("encrypted value of %s.%s: %w", stream, field, err)
	}
	return string(text), nil
}
