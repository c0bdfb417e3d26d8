package alerts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/source"
)

// batchMax is how many alerts a reader hands over at once.
const batchMax = 128

// read goes through one partition of weir.alerts for r until ctx ends, from where
// the last run left it. A log that cannot be read is tried again.
func (r *receiver) read(ctx context.Context, partition int32, resume *position, out chan<- batch) {
	next, wait := resume.start(), 100*time.Millisecond
	for ctx.Err() == nil {
		before := next
		err := r.readFrom(ctx, partition, resume, &next, out)
		if ctx.Err() != nil {
			return
		}
		err = fmt.Errorf("reading %s[%d] at offset %d: %w", event.TopicAlerts, partition, next, err)
		r.logger.Error("alerts cannot be read; trying again", "error", err)
		r.remember(&event.Delivery{Time: event.FromTime(time.Now()), Outcome: outcomeRetry, Error: clipError(err)})
		if wait = min(2*wait, 10*time.Second); next > before {
			wait = 100 * time.Millisecond
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// readFrom reads from *next on and moves it, until something fails.
func (r *receiver) readFrom(ctx context.Context, partition int32, resume *position, next *int64, out chan<- batch) (err error) {
	src, err := r.o.Sources(ctx, event.TopicAlerts, partition, *next)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	for {
		chunk, err := src.Next(ctx)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF // the range has no end
			}
			return err
		}
		b := batch{partition: partition, from: *next, to: chunk.Next}
		if len(chunk.Records) == 0 {
			select {
			case out <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
			*next = chunk.Next
		}
		for i := range chunk.Records {
			rec := &chunk.Records[i]
			if p := r.wanted(partition, rec, resume); p != nil {
				b.wanted = append(b.wanted, p)
			}
			if b.to = rec.Offset + 1; i == len(chunk.Records)-1 {
				b.to = chunk.Next
			}
			if len(b.wanted) < batchMax && i < len(chunk.Records)-1 {
				continue
			}
			select {
			case out <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
			*next = b.to
			b = batch{partition: partition, from: b.to}
		}
	}
}

// wanted is the alert in rec, nil where r does not want it or is done with it.
func (r *receiver) wanted(partition int32, rec *source.Record, resume *position) *pending {
	before, ok := resume.wants(rec.Offset)
	if !ok {
		return nil
	}
	p := &pending{partition: partition, offset: rec.Offset, tries: before.n}
	if err := p.alert.UnmarshalJSON(rec.Value); err != nil || p.alert.ID == "" {
		if err == nil {
			err = errors.New("no id")
		}
		r.m.malformed.WithLabelValues(r.Name).Inc()
		r.logger.Warn("a record is not an alert; skipped", "topic", event.TopicAlerts, "partition", partition, "offset", rec.Offset, "error", err)
		return nil
	}
	if !r.Match.Matches(&p.alert) {
		return nil
	}
	p.data = bytes.Clone(rec.Value) // rec is the source's
	if before.n > 0 {
		p.first, p.due = before.first.Time(), before.next.Time()
		// Whether the receiver named the time is not recorded: assume that it did.
		p.asked = true
	}
	return p
}
