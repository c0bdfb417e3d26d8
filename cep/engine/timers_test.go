package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/test/seeds"
)

// silences tells which keys were silent for a time, and where in the log that was.
type silences struct {
	mu    sync.Mutex
	after time.Duration
	found []string
}

func (*silences) ID() string { return "silences" }

func (p *silences) Instance(*schema.Stream) (Instance, error) {
	return &silence{program: p, last: map[string]event.Time{}}, nil
}

// silence is the program's instance and its operator.
type silence struct {
	program *silences
	timers  cep.Timers
	keys    []string
	last    map[string]event.Time // the newest event of each key
}

var silenceTypes = []event.Type{{Kind: event.String}, {Kind: event.Timestamp}}

func (s *silence) Needs() []int           { return nil }
func (s *silence) Features() []event.Type { return nil }
func (s *silence) Operators() []Operator {
	return []Operator{{Identity: "silence", Name: "silence", Operator: s}}
}

func (s *silence) Process(b *event.Batch, out *cep.Outbox) error {
	for row, at := range b.Time {
		s.due(out.Low[row], row-1, out)
		key := string(b.Cols[1].Bytes(row))
		if _, known := s.last[key]; !known {
			s.keys = append(s.keys, key)
		}
		s.last[key] = max(s.last[key], at)
		s.timers.Ask(at.Add(s.program.after), uint64(slices.Index(s.keys, key)))
	}
	return nil
}

func (s *silence) Advance(t event.Time, out *cep.Outbox) error {
	s.due(t, out.Last(), out)
	return nil
}

func (s *silence) due(low event.Time, after int, out *cep.Outbox) {
	for {
		at, id, ok := s.timers.Due(low)
		if !ok {
			return
		}
		if key := s.keys[id]; s.last[key].Add(s.program.after) == at {
			r := out.Result(0, silenceTypes)
			r.After = append(r.After, after)
			r.Cols[0].AppendBytes([]byte(key))
			r.Cols[1].AppendInt64(int64(at))
		}
	}
}

func (s *silence) Decide(b *event.Batch, out *cep.Outbox, dst []Finding) ([]Finding, error) {
	r := out.Result(0, silenceTypes)
	s.program.mu.Lock()
	defer s.program.mu.Unlock()
	for i, after := range r.After {
		place := "before the next"
		if after >= 0 {
			place = fmt.Sprint("behind ", b.Offset[after])
		}
		s.program.found = append(s.program.found, fmt.Sprintf("%s: %s since %d", place, r.Cols[0].Bytes(i), r.Cols[1].Int64[i]))
	}
	return dst, nil
}

func (s *silence) Snapshot(w *cep.SnapshotWriter) error { return s.timers.Snapshot(w) }
func (s *silence) Restore(r *cep.SnapshotReader) error  { return s.timers.Restore(r) }

// TestTimersAtAnyBatchSize wants what waits for the watermark to happen at the same
// places of the log whatever the batches, idle marks among them.
func TestTimersAtAnyBatchSize(t *testing.T) {
	rows, marks := 0, 0
	seeds.Each(t, 15, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 43))
			b, w := newBench(seed, nil), &wall{}
			b.stream = testStream(1)
			b.stream.Idle = testIdle
			idleLives(t, b, w, r, [][]string{inputs(r, 200)}, 0)
			after := time.Duration(1+r.Int64N(20)) * time.Second
			var want []string
			for _, size := range []int{1, 2, 3, 1 + r.IntN(50), 1000} {
				one := replayOf(seed, b)
				p := &silences{after: after}
				one.prog, one.opts.BatchRows = p, size
				one.run(t)
				if want == nil {
					want = p.found
				}
				if !slices.Equal(p.found, want) {
					t.Errorf("in batches of %d:\n got %q\nwant %q", size, p.found, want)
				}
			}
			for _, line := range want {
				if strings.HasPrefix(line, "behind") {
					rows++
				} else {
					marks++
				}
			}
		})
	})
	if rows == 0 || marks == 0 {
		t.Errorf("%d silences behind events and %d behind marks: the test looks at nothing", rows, marks)
	}
}
