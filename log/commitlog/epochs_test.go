package commitlog

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// TestEpochEnd has the cases of KIP-101 and KIP-279.
func TestEpochEnd(t *testing.T) {
	e := epochs{{2, 10}, {3, 20}, {7, 50}}
	for _, c := range []struct {
		ask, epoch int32
		end        int64
	}{{-1, -1, -1}, {0, 0, 10}, {1, 1, 10}, {2, 2, 20}, {3, 3, 50}, {4, 3, 50}, {6, 3, 50}, {7, 7, 60}, {8, -1, -1}} {
		if epoch, end := e.end(c.ask, 60); epoch != c.epoch || end != c.end {
			t.Errorf("epoch %d: %d ends at %d, want %d at %d", c.ask, epoch, end, c.epoch, c.end)
		}
	}
	if epoch, end := (epochs)(nil).end(0, 5); epoch != -1 || end != -1 {
		t.Error(epoch, end)
	}
}

// TestEpochs opens a log again and again, in good order and after crashes, with
// the file of epochs lost or damaged now and then. Every batch has the epoch of
// the Open that it was appended in, and EpochEnd agrees with the batches.
func TestEpochs(t *testing.T) {
	seeds.Each(t, 40, func(t *testing.T, seed uint64) { runEpochs(t, seed) })
}

func runEpochs(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 5))
	m := vfs.NewMem(seed)
	o := testOptions(m)
	o.SegmentBytes = 2048
	l := mustOpen(t, "data", o)
	mustTopic(t, l, "a", 1)
	const name = "data/topics/a-0/leader-epochs"
	last := int32(-1)
	for range 12 {
		p := mustPartition(t, l, "a", 0)
		if p.LeaderEpoch() <= last {
			t.Fatalf("epoch %d after %d", p.LeaderEpoch(), last)
		}
		last = p.LeaderEpoch()
		for range rng.IntN(4) {
			mustAppend(t, p, newBatch(record.BatchOptions{}, "x", 1+rng.IntN(3), rng.IntN(300), 1))
		}
		checkEpochs(t, p)
		if rng.IntN(2) == 0 {
			m = m.CrashClone()
			_ = l.Close()
		} else if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		o.FS = m
		if _, err := m.Stat(name); err == nil {
			switch rng.IntN(6) {
			case 0:
				err = m.Remove(name)
			case 1:
				err = vfs.FlipByte(m, name, rng.Int64N(20))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var err error
		if l, err = Open(context.Background(), "data", o); errors.Is(err, ErrNewerFormat) {
			return // that was the byte
		} else if err != nil {
			t.Fatal(err)
		}
		if p := mustPartition(t, l, "a", 0); p.Err() != nil {
			t.Fatal(p.Err())
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func checkEpochs(t *testing.T, p *Partition) {
	t.Helper()
	batches, err := readAll(p, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var seen []int32
	ends := map[int32]int64{}
	for _, b := range batches {
		h, _ := record.ParseHeader(b)
		if n := len(seen); n == 0 || seen[n-1] != h.LeaderEpoch {
			seen = append(seen, h.LeaderEpoch)
		}
		ends[h.LeaderEpoch] = h.LastOffset() + 1
	}
	if !slices.IsSorted(seen) {
		t.Fatal(seen)
	}
	for _, epoch := range seen {
		if e, end := p.EpochEnd(epoch); e != epoch || end != ends[epoch] {
			t.Fatalf("epoch %d: %d ends at %d, want %d", epoch, e, end, ends[epoch])
		}
	}
	if e, end := p.EpochEnd(p.LeaderEpoch()); e != p.LeaderEpoch() || end != p.HighWatermark() {
		t.Fatal(e, end)
	}
	if e, end := p.EpochEnd(p.LeaderEpoch() + 1); e != -1 || end != -1 {
		t.Fatal(e, end)
	}
}
