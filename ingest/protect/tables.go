package protect

import (
	"strings"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/table"
)

// UsesTables reports whether any field of the tables has that policy.
func UsesTables(tables []*table.Definition, p schema.Policy) bool {
	for _, d := range tables {
		for _, have := range d.Sensitive {
			if have == p {
				return true
			}
		}
	}
	return false
}

// Entry makes of a table's or list's entry what may be written of it: fields that are
// sensitive are replaced by what a stream's would be, so that the value of an event
// finds its entry. Where anything of the node is sensitive, card numbers in other
// strings, the author and the reason are masked; but a key that could be one is
// refused, unless its field is declared not to be sensitive: as it is it may not be
// written, and no event would find what is left of it. Of a remove only the key is
// looked at. Errors are *schema.Problem. It is a table.Options.Protect.
func (p *Protector) Entry(d *table.Definition, c *table.Change) error {
	if !p.Active() && len(d.Sensitive) == 0 {
		return nil
	}
	w := <-p.workers
	if w == nil {
		w = p.newWorker()
	}
	defer func() { p.workers <- w }()
	e := &c.Entry
	e.Author, e.Reason = string(w.searched([]byte(e.Author))), string(w.searched([]byte(e.Reason)))
	var err error
	if e.Key, err = w.entryKey(d, e.Key, c.Op == table.OpPut); err != nil || c.Op != table.OpPut {
		return err
	}
	e.Columns = w.columns(d, e.Columns)
	return nil
}

// entryKey is what the values of a key become.
func (w *worker) entryKey(d *table.Definition, values []table.Value, put bool) ([]table.Value, error) {
	out := append([]table.Value(nil), values...)
	for i, f := range d.Key {
		switch {
		case i >= len(out) || f.Type.Kind != event.String:
		case d.Sensitive[f.Name] == schema.HMAC:
			out[i].Bytes = w.appendMAC(nil, out[i].Bytes)
		case d.Sensitive[f.Name] == "" && put && w.isIssued(out[i].Bytes):
			return nil, &schema.Problem{Field: f.Name, Message: "looks like a card number, which may not be written as it is",
				Hint: "declare the field sensitive: hmac, as the streams' field is that it is compared with; or sensitive: none, where it never is a card number"}
		}
	}
	return out, nil
}

// columns is what the values beside the key become.
func (w *worker) columns(d *table.Definition, values []table.Value) []table.Value {
	out := append([]table.Value(nil), values...)
	for i, f := range d.Columns {
		if i >= len(out) || out[i].Null || f.Type.Kind != event.String {
			continue
		}
		switch d.Sensitive[f.Name] {
		case schema.HMAC:
			out[i].Bytes = w.appendMAC(nil, out[i].Bytes)
		case schema.Mask:
			out[i].Bytes = appendMasked(nil, out[i].Bytes)
		case "":
			out[i].Bytes = append([]byte(nil), w.searched(out[i].Bytes)...)
		}
	}
	return out
}

// isIssued reports whether t is a number that one of the large networks could have
// issued.
func (w *worker) isIssued(t []byte) bool {
	if !isCard(t) || !w.holdsCard(t) {
		return false
	}
	var digits []byte
	for _, c := range t {
		if isDigit(c) {
			digits = append(digits, c-'0')
		}
	}
	return issued(digits)
}

// tablePlan is what is done to the records of a topic that a table's entries come
// from; nil where there is none, or nothing of it is sensitive.
func tablePlan(d *table.Definition) (topic string, p *plan) {
	topic, ok := strings.CutPrefix(d.Source, "topic:")
	if !ok || len(d.Sensitive) == 0 {
		return "", nil
	}
	p = &plan{stream: d.Name, key: -1, subject: -1, root: &node{children: map[string]*node{}, field: -1}}
	for i, f := range d.Fields() {
		policy := d.Sensitive[f.Name]
		if policy == schema.NotSensitive {
			policy = ""
		}
		p.root.at([]string{f.Name}).field = i
		p.fields = append(p.fields, field{name: f.Name, policy: policy})
	}
	if len(d.Key) == 1 {
		p.key = 0
	}
	p.secrets = map[string]bool{}
	p.root.noteSecrets(p)
	return topic, p
}
