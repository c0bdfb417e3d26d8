package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/simulate"
)

// A pause shorter than this is not worth a timer: events are sent in small runs.
const pauseMin = 5 * time.Millisecond

// Feed produces the simulated streams, each event when its time comes, until ctx
// is done. It fails where the broker refuses a record for good.
func Feed(ctx context.Context, kafkaAddr string, seed uint64) error {
	refused := make(chan error, 1)
	client, err := kgo.NewClient(kgo.SeedBrokers(kafkaAddr), kgo.ProducerLinger(pauseMin))
	if err != nil {
		return fmt.Errorf("the demo's feed: %w", err)
	}
	defer client.Close()
	sim := simulate.New(simulate.Options{Seed: seed, Start: event.FromTime(time.Now())})
	for {
		e := sim.Next()
		if err := waitUntil(ctx, e.Time.Time(), refused); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the demo's feed: %w", err)
		}
		record := &kgo.Record{
			Topic: e.Stream, Timestamp: e.Time.Time(),
			Key: append([]byte(nil), e.Key...), Value: append([]byte(nil), e.Value...), // the generator keeps its own
		}
		client.Produce(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil && !errors.Is(err, context.Canceled) {
				select {
				case refused <- err:
				default: // one is enough
				}
			}
		})
	}
}

func waitUntil(ctx context.Context, t time.Time, refused <-chan error) error {
	pause := time.Until(t)
	if pause < pauseMin {
		pause = 0
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-refused:
		return err
	case <-timer.C:
		return nil
	}
}
