package loader

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// feed is the rows of one file in the order of the file, good and bad, read a
// chunk at a time. It belongs to one goroutine.
type feed struct {
	name    string
	split   *splitter
	cut     func() *row
	enc     *encoder
	columns []byte        // of the file, as a JSON array, for HeaderColumns
	lines   *atomic.Int64 // counts the rows read

	good, bad int // of the chunk at hand: the next good row and the next failure
	ended     bool
}

// newFeed begins to read a file that was started.
func newFeed(in *input, s *schema.Stream, lines *atomic.Int64) (*feed, error) {
	f := &feed{name: in.name, lines: lines, split: newSplitter(in.next, in.recycle, cmp.Or(s.Delimiter, ','))}
	f.split.skipBOM()
	f.cut = f.split.nextLine
	var columns []string
	if c := f.split.first(); c != '{' && c != 0 {
		header := f.split.nextCSV()
		if header == nil {
			return nil, f.split.broken()
		}
		if header.bad != "" {
			return nil, &schema.Problem{File: in.name, Line: int(header.line), Column: header.column, Message: "the header: " + header.bad}
		}
		columns = columnNames(header)
		f.cut = f.split.nextCSV
	}
	var err error
	if f.enc, err = newEncoder(s, in.name, columns); err != nil {
		return nil, err
	}
	f.columns, err = json.Marshal(columns)
	return f, err
}

// fill makes sure of a next row; false at the end. The error of a file that could
// not be read to its end comes after the rows before that place.
func (f *feed) fill(ctx context.Context) (bool, error) {
	for f.good == len(f.enc.batch.Offset) && f.bad == len(f.enc.failures) {
		if f.ended {
			return false, f.split.broken()
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		f.enc.reset()
		f.good, f.bad = 0, 0
		for full := false; !full; {
			r := f.cut()
			if r == nil {
				f.ended = true
				break
			}
			f.lines.Add(1)
			full = f.enc.add(r)
		}
		f.enc.decode()
	}
	return true, nil
}

// What follows is about the next row, after fill.

func (f *feed) isBad() bool {
	return f.bad < len(f.enc.failures) &&
		(f.good == len(f.enc.batch.Offset) || f.enc.failures[f.bad].row < int(f.enc.batch.Offset[f.good]))
}

func (f *feed) line() int64 {
	if f.isBad() {
		return f.enc.rows[f.enc.failures[f.bad].row].line
	}
	return f.enc.rows[f.enc.batch.Offset[f.good]].line
}

// time is the event's; a bad row has none and goes before all others.
func (f *feed) time() event.Time {
	if f.isBad() {
		return event.MinTime
	}
	return f.enc.batch.Time[f.good]
}

// row is the good row, its time shifted, valid until the next call.
func (f *feed) row() (accepted, error) {
	a := f.enc.good(f.good)
	if f.enc.shift == nil {
		return a, nil
	}
	if err := f.enc.shift.apply(&a); err != nil {
		return a, fmt.Errorf("%s, line %d: %w", f.name, a.line, err)
	}
	return a, nil
}

func (f *feed) deadLetter() event.DeadLetter { return f.enc.deadLetter(&f.enc.failures[f.bad]) }

// skip goes on to the row after.
func (f *feed) skip() {
	if f.isBad() {
		f.bad++
	} else {
		f.good++
	}
}

// merge gives the rows of several files, the earliest of those at hand first. What
// it gives depends on the files alone, and not on how they are read.
type merge struct{ feeds []*feed }

// next is the feed whose next row is the next of all, nil at the end. A file that
// broke off ends the merge: what comes after would be out of its order.
func (m *merge) next(ctx context.Context) (*feed, error) {
	var first *feed
	for _, f := range m.feeds {
		more, err := f.fill(ctx)
		if err != nil {
			if len(m.feeds) > 1 {
				err = fmt.Errorf("%s: %w", f.name, err)
			}
			return nil, err
		}
		if more && (first == nil || f.time() < first.time()) {
			first = f
		}
	}
	return first, nil
}
