package loader

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
)

// errShifted is why a shifted load did not end; it cannot be resumed, as the rest
// would have other times.
var errShifted = errors.New("the load is not finished; a load with shifted times cannot be resumed: the same command begins anew")

// shiftedID names a shifted load: each is one of its own.
func shiftedID(base string, shift time.Duration, began time.Time) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", base, shift, began.UnixNano()))
	return hex.EncodeToString(h[:12])
}

// Span is the event times of rows.
type Span struct {
	First, Last event.Time // the least and the greatest; MinTime where there are no rows
	Rows        int64      // good ones
}

// Join is the span of both.
func (s Span) Join(o Span) Span {
	switch {
	case s.Rows == 0:
		return o
	case o.Rows == 0:
		return s
	}
	return Span{min(s.First, o.First), max(s.Last, o.Last), s.Rows + o.Rows}
}

// FindSpan reads files, without a broker, for the times of the rows that fit the
// stream. progress, if not nil, is called now and then with the bytes read and all
// bytes. Errors are those of LoadAll.
func FindSpan(ctx context.Context, paths []string, s *schema.Stream, progress func(read, total int64)) (Span, error) {
	ins, err := openInputs(paths)
	if err != nil {
		return Span{}, err
	}
	defer ins.close()
	var all Span
	var lines atomic.Int64
	for _, in := range ins {
		one, err := spanOf(ctx, in, s, &lines, func(read int64) {
			if progress != nil {
				progress(read, in.size)
			}
		})
		if err != nil {
			return Span{}, fmt.Errorf("load %s: %w", in.name, err)
		}
		all = all.Join(one)
	}
	return all, nil
}

func spanOf(ctx context.Context, in *input, s *schema.Stream, lines *atomic.Int64, progress func(read int64)) (Span, error) {
	ctx, cancel := context.WithCancel(ctx)
	in.start(ctx)
	defer func() {
		cancel()
		for range in.chunks { // the reader ahead has ended when this has
		}
	}()
	span := Span{First: event.MinTime, Last: event.MinTime}
	f, err := newFeed(in, s, lines)
	if err != nil {
		return span, err
	}
	for {
		more, err := f.fill(ctx)
		if err != nil || !more {
			return span, err
		}
		for _, t := range f.enc.batch.Time {
			span = span.Join(Span{t, t, 1})
		}
		f.good, f.bad = len(f.enc.batch.Offset), len(f.enc.failures)
		progress(in.read.Load())
	}
}

// ShiftToNow is what to add to event times so that they end now and none is ever
// ahead of the clock: loaded as fast as it goes (speed 0), the last event is now;
// at a speed of 1 or more it will be now when its turn comes; at less than 1 the
// first event is now. It is a multiple of unit (see TimeUnit), rounded down.
func ShiftToNow(s Span, speed float64, now time.Time, unit time.Duration) time.Duration {
	shift := time.Duration(now.UnixNano()) - time.Duration(s.Last)
	switch {
	case speed >= 1:
		shift += time.Duration((float64(s.Last) - float64(s.First)) / speed)
	case speed > 0:
		shift = time.Duration(now.UnixNano()) - time.Duration(s.First)
	}
	if r := shift % unit; r < 0 {
		return shift - r - unit
	} else {
		return shift - r
	}
}

// TimeUnit is the smallest step by which event times of a stream can be shifted so
// that its layout still says them.
func TimeUnit(s *schema.Stream) (time.Duration, error) {
	l, err := timeLayout(s)
	if err != nil {
		return 0, err
	}
	return l.Unit(), nil
}

func timeLayout(s *schema.Stream) (*decode.Layout, error) {
	if len(s.Fields) <= s.Schema.Time {
		return decode.ParseLayout("")
	}
	return decode.ParseLayout(s.Fields[s.Schema.Time].Layout)
}

// shifter writes other times into records.
type shifter struct {
	by     time.Duration
	stream *schema.Stream
	layout *decode.Layout
	dec    *decode.Decoder
	text   []byte
	value  []byte
}

func newShifter(s *schema.Stream, by time.Duration) (*shifter, error) {
	layout, err := timeLayout(s)
	if err != nil {
		return nil, err
	}
	dec, err := decode.New(s, []int{s.Schema.Time}, decode.Options{})
	return &shifter{by: by, stream: s, layout: layout, dec: dec}, err
}

// apply shifts a row. Its value is valid until the next call.
func (s *shifter) apply(a *accepted) error {
	t := a.time.Add(s.by)
	if time.Duration(t-a.time) != s.by {
		return fmt.Errorf("its time %s cannot be shifted by %s: %w", a.time, s.by, decode.ErrTimeRange)
	}
	start, end, quoted, ok := s.dec.Place(a.value, s.stream.Schema.Time)
	if !ok {
		return fmt.Errorf("no place of the time in a row of stream %s", s.stream.Schema.Stream)
	}
	s.text = s.layout.Append(s.text[:0], t, s.stream.Zone)
	s.value = append(s.value[:0], a.value[:start]...)
	switch {
	case !quoted:
		s.value = append(s.value, s.text...)
	case s.stream.Format == schema.CSV:
		s.value = append(append(append(s.value, '"'), bytes.ReplaceAll(s.text, []byte(`"`), []byte(`""`))...), '"')
	default:
		s.value = appendString(s.value, s.text)
	}
	s.value = append(s.value, a.value[end:]...)
	a.time, a.value = t, s.value
	return nil
}
