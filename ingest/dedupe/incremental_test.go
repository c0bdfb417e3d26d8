package dedupe

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
)

type generation struct {
	turn   uint64
	pieces [][]byte
	full   []byte // AppendSnapshot at that moment
}

// applied is a Seen made of the generations that the newest one needs.
func applied(t *testing.T, span time.Duration, all []generation) *Seen {
	t.Helper()
	s := New(span)
	newest := all[len(all)-1]
	for _, g := range all {
		if newest.turn-g.turn >= fullTurn {
			continue
		}
		for _, p := range g.pieces {
			if err := s.Apply(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !bytes.Equal(s.AppendSnapshot(nil), newest.full) {
		t.Fatalf("the state of generation %d is not that of the snapshot", len(all))
	}
	return s
}

// TestGenerations writes generations in random slices while ids come, goes on from them
// now and then, and compares with the snapshot and with the definition.
func TestGenerations(t *testing.T) {
	r := seeded(t)
	written := 0
	for round := range 60 {
		span := time.Duration(1 + r.IntN(3000))
		s, twin := New(span), &slow{span: span}
		var all []generation
		var open *generation
		ids := 1 + r.Int64N(3000)
		now := int64(0)
		for i := range 4000 {
			now += r.Int64N(3)
			at := event.Time(now - r.Int64N(20)*r.Int64N(20))
			id := r.Int64N(ids)
			key := OfInt64(id)
			if round%2 == 0 {
				key = OfText([]byte{byte(id), byte(id >> 8)})
			}
			if got, want := s.Duplicate(key, at), i < 800 && twin.duplicate(id, at); i < 800 && got != want {
				t.Fatalf("round %d, event %d: duplicate %v, want %v", round, i, got, want)
			}
			switch {
			case open == nil && r.IntN(60) == 0:
				open = &generation{full: s.AppendSnapshot(nil)}
				open.turn = s.Freeze(uint64(r.IntN(4)) * fullTurn / 6)
			case open != nil && r.IntN(4) == 0:
				piece, done := s.Write(nil, 1+r.IntN(2000))
				open.pieces = append(open.pieces, piece)
				if done {
					all = append(all, *open)
					open = nil
					written++
					if again := applied(t, span, all); i >= 800 && r.IntN(3) == 0 {
						s = again // as after a crash, with other events
					}
				}
			}
		}
	}
	if written < 500 {
		t.Errorf("only %d generations", written)
	}
}

func FuzzApply(f *testing.F) {
	s := New(100)
	for i := range int64(50) {
		s.Duplicate(OfInt64(i), event.Time(i))
	}
	s.Freeze(0)
	for done := false; !done; {
		var piece []byte
		piece, done = s.Write(nil, 100)
		f.Add(piece)
	}
	r := rand.New(rand.NewPCG(1, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := New(100)
		s.reserveMax = 1000
		if s.Apply(data) != nil {
			return
		}
		s.Duplicate(OfInt64(r.Int64()), event.Time(r.IntN(100)))
		again := New(100)
		if err := again.Restore(s.AppendSnapshot(nil)); err != nil || !bytes.Equal(again.AppendSnapshot(nil), s.AppendSnapshot(nil)) {
			t.Errorf("what was read is written otherwise: %v", err)
		}
	})
}
