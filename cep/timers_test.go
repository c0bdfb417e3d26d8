package cep

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

func snapshotOf(t *testing.T, s interface{ Snapshot(*SnapshotWriter) error }) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := NewSnapshotWriter(&buf)
	if err := errors.Join(s.Snapshot(w), w.Flush()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestTimers compares timers with a sorted list, over snapshots.
func TestTimers(t *testing.T) {
	r := seeds.Rand(t)
	for range 50 {
		timers := &Timers{}
		var list []timer
		low := event.Time(0)
		for id := range uint64(200) {
			switch r.IntN(4) {
			case 0, 1:
				at := low + event.Time(r.IntN(20)) - 2
				timers.Ask(at, id)
				list = append(list, timer{at: at, id: id})
			case 2:
				low += event.Time(r.IntN(10))
				slices.SortStableFunc(list, func(a, b timer) int { return int(a.at - b.at) })
				for {
					at, id, ok := timers.Due(low)
					if want := len(list) > 0 && list[0].at <= low; ok != want || ok && (at != list[0].at || id != list[0].id) {
						t.Fatalf("due %d %d %v, want %v of %v", at, id, ok, want, list)
					}
					if !ok {
						break
					}
					list = list[1:]
				}
			default:
				text := snapshotOf(t, timers)
				back := &Timers{}
				if err := back.Restore(NewSnapshotReader(bytes.NewReader(text))); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(text, snapshotOf(t, back)) || back.Len() != len(list) {
					t.Fatal("what was restored has another snapshot")
				}
				for n := range min(len(text), 1+r.IntN(4)) {
					if err := new(Timers).Restore(NewSnapshotReader(bytes.NewReader(text[:n]))); err == nil {
						t.Fatalf("a snapshot cut at %d of %d bytes was restored", n, len(text))
					}
				}
				timers = back
			}
		}
	}
}

func FuzzTimers(f *testing.F) {
	f.Add([]byte{2, 2, 1, 4, 2})
	f.Fuzz(func(t *testing.T, data []byte) {
		timers := &Timers{}
		if err := timers.Restore(NewSnapshotReader(bytes.NewReader(data))); err != nil {
			return
		}
		last := event.MinTime
		for {
			at, _, ok := timers.Due(event.MaxTime)
			if !ok {
				return
			}
			if at < last {
				t.Fatalf("%d after %d", at, last)
			}
			last = at
		}
	})
}
