package protect

import (
	"bytes"

	"github.com/weirstream/weir/ingest/event"
)

// deadLetter is what the value of a record of weir.deadletters becomes: the raw
// bytes are treated as a record of their stream, those of a file in another format
// searched for card numbers, and so is every other text.
func (w *worker) deadLetter(value []byte) ([]byte, error) {
	if len(value) == 0 {
		return value, nil
	}
	w.whole = append(w.whole[:0], value...)
	out, cards, track := w.search.broken(w.whole, false) // also of members that no dead letter has
	var d event.DeadLetter
	if err := d.UnmarshalJSON(value); err != nil {
		if cards+track == 0 {
			return value, nil
		}
		w.tally.cards += int64(cards)
		w.tally.track += int64(track)
		w.whole = out
		return out, nil
	}
	changed := cards+track > 0
	for _, text := range []*string{&d.Stream, &d.Reason, &d.Field, &d.Detail, &d.Topic, &d.File} {
		if t := w.searched([]byte(*text)); string(t) != *text {
			*text, changed = string(t), true
		}
	}
	raw, err := w.raw(w.p.streams[d.Stream], d.Raw)
	if err != nil {
		return nil, err
	}
	if !changed && bytes.Equal(raw, d.Raw) {
		return value, nil
	}
	d.Raw = raw
	w.whole = d.AppendJSON(w.whole[:0])
	return w.whole, nil
}

// raw is what the raw bytes of a dead letter become.
func (w *worker) raw(pl *plan, raw []byte) ([]byte, error) {
	raw = bytes.Clone(raw)
	cut := pl != nil
	if pl != nil {
		i := skipSpace(raw, 0)
		if isObject := i < len(raw) && raw[i] == '{'; isObject == (pl.root != nil) || isWide(raw) {
			value, err := w.value(pl, raw)
			if err != nil {
				return nil, err
			}
			raw, cut = bytes.Clone(value), false
		}
	}
	raw, cards, track := w.search.broken(raw, cut)
	w.tally.cards += int64(cards)
	w.tally.track += int64(track)
	return raw, nil
}
