package protect

import (
	"bytes"
	"slices"
)

// cellSpan is one cell of a line: all of it, quotes included, and its text.
type cellSpan struct {
	start, end int
	from, to   int
	doubled    bool // has doubled quotes
}

// csv goes over the line in w.src as json does over an object. It returns false
// where the line is not what the decoder would take.
func (w *worker) csv() bool {
	good := w.cells()
	for i := range w.spans {
		c, col := &w.spans[i], &w.plan.columns[i]
		if w.finding {
			if col.field >= 0 && col.field == w.plan.subject {
				w.subject = appendUndoubled(w.subject[:0], w.src[c.from:c.to], c.doubled)
			}
			continue
		}
		if w.cell(c, col); w.err != nil {
			return false
		}
	}
	return good
}

// cells cuts the line into at most as many cells as there are columns and reports
// whether it is well-formed and has so many.
func (w *worker) cells() (good bool) {
	b := w.src
	w.spans = w.spans[:0]
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
	}
	if n := len(b); n > 0 && b[n-1] == '\r' {
		b = b[:n-1]
	}
	good = true
	for i := 0; len(w.spans) < len(w.plan.columns); i++ { // over the delimiter
		c := cellSpan{start: i}
		if i < len(b) && b[i] == '"' {
			i = quotedEnd(b, i+1, &c)
			good = good && c.to < i && (i == len(b) || b[i] == w.plan.comma)
			for i < len(b) && b[i] != w.plan.comma { // whatever stands after the quote
				i++
				c.to = i
			}
		} else {
			for i < len(b) && b[i] != w.plan.comma && b[i] != '\n' && b[i] != '\r' {
				good = good && b[i] != '"'
				i++
			}
			c.from, c.to = c.start, i
		}
		c.end = i
		w.spans = append(w.spans, c)
		if i == len(b) {
			return good && len(w.spans) == len(w.plan.columns)
		}
		if b[i] != w.plan.comma { // an end of line within the record
			return false
		}
	}
	return false
}

// quotedEnd is the place after the quote that ends the cell whose text begins at
// i, or the end of b with c.to there where it has none.
func quotedEnd(b []byte, i int, c *cellSpan) int {
	c.from = i
	for ; i < len(b); i++ {
		if b[i] != '"' {
			continue
		}
		if i+1 < len(b) && b[i+1] == '"' {
			c.doubled = true
			i++
			continue
		}
		c.to = i
		return i + 1
	}
	c.to = len(b)
	return len(b)
}

// cell does to one cell what its column asks for.
func (w *worker) cell(c *cellSpan, col *column) {
	text := w.src[c.from:c.to]
	if len(text) == 0 {
		return
	}
	if col.field >= 0 && col.field == w.plan.key && !c.doubled {
		w.keyText = text
	}
	switch {
	case col.forbidden:
		w.tally.refused++
		w.put(c.start, c.end)
	case col.field < 0:
		w.searchCell(c, &w.tally.cards)
	case w.plan.fields[col.field].free:
		w.searchCell(c, &w.tally.free)
	case w.plan.fields[col.field].policy == "":
		w.suspect(text)
		if !w.mayTrack {
			return
		}
		w.clear = append(w.clear[:0], text...)
		if n := tracks(w.clear); n > 0 {
			w.tally.track += int64(n)
			w.put(c.from, c.to)
			w.out = append(w.out, w.clear...)
		}
	default:
		w.clear = appendUndoubled(w.clear[:0], text, c.doubled)
		w.fresh, w.err = w.replace(w.fresh[:0], &w.plan.fields[col.field], w.clear)
		if w.err == nil {
			w.put(c.start, c.end)
			w.out = w.appendCell(w.out, w.fresh)
		}
	}
}

// searchCell searches a cell's text, whose doubled quotes do not matter, for card
// numbers and track data.
func (w *worker) searchCell(c *cellSpan, count *int64) {
	w.clear = append(w.clear[:0], w.src[c.from:c.to]...)
	cards, track := w.search.text(w.clear)
	*count += int64(cards)
	w.tally.track += int64(track)
	if cards+track > 0 {
		w.put(c.from, c.to)
		w.out = append(w.out, w.clear...)
	}
}

// appendCell appends a cell with that text, in quotes where it has to be.
func (w *worker) appendCell(dst, text []byte) []byte {
	if !slices.Contains(text, w.plan.comma) && !bytes.ContainsAny(text, "\"\r\n") {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	for _, c := range text {
		if c == '"' {
			dst = append(dst, '"')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}

func appendUndoubled(dst, t []byte, doubled bool) []byte {
	if !doubled {
		return append(dst, t...)
	}
	for i := 0; i < len(t); i++ {
		dst = append(dst, t[i])
		if t[i] == '"' && i+1 < len(t) && t[i+1] == '"' {
			i++
		}
	}
	return dst
}
