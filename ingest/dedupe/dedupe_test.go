package dedupe

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

// slow is the definition: it keeps every event and looks at all of them.
type slow struct {
	span  time.Duration
	taken []struct {
		id int64
		at event.Time
	}
}

func (s *slow) duplicate(id int64, at event.Time) bool {
	greatest := at
	for _, e := range s.taken {
		greatest = max(greatest, e.at)
	}
	for _, e := range s.taken {
		if e.id == id && at-e.at <= event.Time(s.span) && e.at-at <= event.Time(s.span) && greatest-e.at <= event.Time(s.span) {
			return true
		}
	}
	s.taken = append(s.taken, struct {
		id int64
		at event.Time
	}{id, at})
	return false
}

func seeded(t testing.TB) *rand.Rand {
	return seeds.Rand(t)
}

// TestAgainstDefinition restores from a snapshot now and then, and compares with the
// slow twin event by event.
func TestAgainstDefinition(t *testing.T) {
	r := seeded(t)
	for round := range 30 {
		span := time.Duration(r.IntN(200))
		twin := &slow{span: span}
		s := New(span)
		now, duplicates := int64(0), 0
		key := OfInt64
		if round%2 == 0 {
			key = func(id int64) Key { return OfText(strconv.AppendInt(nil, id, 10)) }
		}
		for i := range 1500 {
			now += r.Int64N(4)
			at := event.Time(now - r.Int64N(20)*r.Int64N(20))
			id := r.Int64N(150)
			got, want := s.Duplicate(key(id), at), twin.duplicate(id, at)
			if got != want {
				t.Fatalf("round %d, event %d, id %d at %d, span %d: duplicate %v, want %v", round, i, id, at, span, got, want)
			}
			if want {
				duplicates++
			}
			if r.IntN(40) == 0 {
				again, state := New(span), s.AppendSnapshot(nil)
				if err := again.Restore(state); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(again.AppendSnapshot(nil), state) || again.Len() != s.Len() {
					t.Fatal("a restored state is another")
				}
				s = again
			}
		}
		if duplicates == 0 && span > 20 {
			t.Error("no duplicate among the events: the test tests nothing")
		}
	}
}

// TestMemory: ids that come and go take no more than what is said.
func TestMemory(t *testing.T) {
	s := New(10_000)
	for i := range int64(200_000) {
		if s.Duplicate(OfInt64(i), event.Time(i)) {
			t.Fatalf("the new id %d is a duplicate", i)
		}
		if i > 10_000 && len(s.table)*24 > 128*10_001 {
			t.Fatalf("after %d ids a table of %d entries for %d within the span", i, len(s.table), s.Len())
		}
	}
	if n := s.Len(); n != 10_001 {
		t.Errorf("%d ids within a span of 10,000", n)
	}
}

func TestNoAllocations(t *testing.T) {
	s, i := New(1000), int64(0)
	id := []byte("an id that is as long as a uuid is, 36")
	if n := testing.AllocsPerRun(1000, func() {
		i++
		s.Duplicate(OfText(id), event.Time(i*10_000))
		s.Duplicate(OfInt64(i%50), event.Time(i*10_000))
	}); n > 0.05 { // but for tables
		t.Errorf("%v allocations", n)
	}
}

func FuzzRestore(f *testing.F) {
	s := New(100)
	for i := range int64(5) {
		s.Duplicate(OfInt64(i), event.Time(i))
	}
	f.Add(s.AppendSnapshot(nil))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := New(100)
		if s.Restore(data) != nil {
			return
		}
		again := New(100)
		if err := again.Restore(s.AppendSnapshot(nil)); err != nil || !bytes.Equal(again.AppendSnapshot(nil), s.AppendSnapshot(nil)) {
			t.Errorf("what was read is written otherwise: %v", err)
		}
	})
}

func BenchmarkDuplicate(b *testing.B) {
	s, i := New(1_000_000), int64(0)
	b.ReportAllocs()
	for b.Loop() {
		i++
		s.Duplicate(OfText([]byte("0d1f9a7e-6a38-4c1b-9b53-2f6f3a2b7c11")), event.Time(i))
		s.Duplicate(OfInt64(i), event.Time(i))
	}
}
