package protect

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// tally is what was found in a batch.
type tally struct {
	drop, mask, hmac, encrypt int64
	free                      int64 // card numbers in free text
	cards                     int64 // card numbers elsewhere
	track                     int64
	refused                   int64 // values that may not be stored
	misfit                    int64 // no text where a sensitive text is declared
	malformed                 int64 // records
}

type metrics struct {
	records, malformed *prometheus.CounterVec
	values             *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	if r == nil {
		return nil, nil
	}
	m := &metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_protect_records_total",
			Help: "Records searched for sensitive values before they are written, by stream or weir.deadletters."}, []string{"stream"}),
		malformed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_protect_malformed_records_total",
			Help: "Records that could not be parsed and were searched for card numbers as a whole."}, []string{"stream"}),
		values: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "weir_protect_values_total",
			Help: "Values replaced before they were written: by the policy of their field (drop, mask, hmac, encrypt), or because of a card number in free text (free_text) or elsewhere (card), track data (track), a name that may not be stored (refused), or something other than text in a sensitive field (misfit)."}, []string{"stream", "because"}),
	}
	for _, c := range []**prometheus.CounterVec{&m.records, &m.malformed, &m.values} {
		err := r.Register(*c)
		if there := (prometheus.AlreadyRegisteredError{}); errors.As(err, &there) {
			// Of a Protector before this one: its counts go on.
			if before, ok := there.ExistingCollector.(*prometheus.CounterVec); ok {
				*c, err = before, nil
			}
		}
		if err != nil {
			return nil, fmt.Errorf("metrics of sensitive fields: %w", err)
		}
	}
	return m, nil
}

// counts are the metrics of one stream.
type counts struct {
	records, malformed prometheus.Counter
	values             [9]prometheus.Counter
}

var reasons = [9]string{"drop", "mask", "hmac", "encrypt", "free_text", "card", "track", "refused", "misfit"}

func (m *metrics) of(stream string) *counts {
	if m == nil {
		return nil
	}
	c := &counts{records: m.records.WithLabelValues(stream), malformed: m.malformed.WithLabelValues(stream)}
	for i, because := range reasons {
		c.values[i] = m.values.WithLabelValues(stream, because)
	}
	return c
}

func (c *counts) add(t *tally, records int) {
	if c == nil {
		return
	}
	c.records.Add(float64(records))
	c.malformed.Add(float64(t.malformed))
	for i, n := range [9]int64{t.drop, t.mask, t.hmac, t.encrypt, t.free, t.cards, t.track, t.refused, t.misfit} {
		if n > 0 {
			c.values[i].Add(float64(n))
		}
	}
}
