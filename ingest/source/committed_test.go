package source

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/test/seeds"
)

// writeTxn appends a transactional batch and returns its offsets.
func writeTxn(t testing.TB, p *commitlog.Partition, producer int64, sequence int32, n int, codec record.Codec) []int64 {
	t.Helper()
	var b record.Builder
	b.Reset(record.BatchOptions{Codec: codec, ProducerID: producer, BaseSequence: sequence, Transactional: true})
	for range n {
		b.Append(1, nil, []byte("v"), nil)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	base, err := p.Append(t.Context(), batch, 1)
	if err != nil {
		t.Fatal(err)
	}
	offsets := make([]int64, n)
	for i := range offsets {
		offsets[i] = base + int64(i)
	}
	return offsets
}

func mark(t testing.TB, p *commitlog.Partition, producer int64, commit bool) {
	t.Helper()
	if _, err := p.AppendMarker(t.Context(), commitlog.Marker{ProducerID: producer, Commit: commit}); err != nil {
		t.Fatal(err)
	}
}

// offsets reads to the last stable offset. Every chunk must follow the one before.
func offsets(t testing.TB, p *commitlog.Partition, s *Partition) (got []int64) {
	t.Helper()
	for stable := p.LastStableOffset(); s.told < stable; {
		from := s.told
		c, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c.From != from || c.Next <= from || c.Next > stable || c.Lost != 0 || len(c.Records) == 0 && c.Next != stable {
			t.Fatalf("from %d, stable %d: chunk %+v", from, stable, c)
		}
		for _, r := range c.Records {
			if r.Offset < from || r.Offset >= c.Next {
				t.Fatalf("record %d in chunk %d to %d", r.Offset, from, c.Next)
			}
			got = append(got, r.Offset)
		}
	}
	return got
}

// TestReadsWhatIsCommitted runs random transactions and compares what sources give,
// while they run and afterwards, with what was committed.
func TestReadsWhatIsCommitted(t *testing.T) {
	r := seeds.Rand(t)
	p := openPartition(t)
	live := NewPartition(p, Options{BytesMax: 1 + r.IntN(2000)})
	var want, seen []int64
	open, sequence := map[int64][]int64{}, map[int64]int32{}
	for range 600 {
		producer, n := int64(1+r.IntN(4)), 1+r.IntN(5)
		switch {
		case r.IntN(3) == 0:
			write(t, p, n, record.None)
			for o := p.End() - int64(n); o < p.End(); o++ {
				want = append(want, o)
			}
		case r.IntN(3) > 0:
			open[producer] = append(open[producer], writeTxn(t, p, producer, sequence[producer], n, record.Codec(r.IntN(5)))...)
			sequence[producer] += int32(n)
		default:
			commit := r.IntN(2) == 0
			if mark(t, p, producer, commit); commit {
				want = append(want, open[producer]...)
			}
			open[producer] = nil
		}
		if r.IntN(3) == 0 {
			seen = append(seen, offsets(t, p, live)...)
		}
	}
	for producer := int64(1); producer < 5; producer++ {
		mark(t, p, producer, false)
	}
	slices.Sort(want)
	seen = append(seen, offsets(t, p, live)...)
	if !slices.Equal(seen, want) {
		t.Errorf("read while it was written: %v\nwant %v", seen, want)
	}
	for _, bytesMax := range []int{1, 100, 1000, 1 << 20} {
		if got := offsets(t, p, NewPartition(p, Options{BytesMax: bytesMax})); !slices.Equal(got, want) {
			t.Errorf("%d bytes at once: %v\nwant %v", bytesMax, got, want)
		}
	}
	for range 50 {
		from := r.Int64N(p.End())
		i, _ := slices.BinarySearch(want, from)
		if got := offsets(t, p, NewPartition(p, Options{From: from, BytesMax: 1 + r.IntN(1000)})); !slices.Equal(got, want[i:]) {
			t.Errorf("from %d: %v\nwant %v", from, got, want[i:])
		}
	}
}

// TestOpenTransactionDelays: what follows an open transaction is read when that is
// ended, at once.
func TestOpenTransactionDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := openPartition(t)
		s := NewPartition(p, Options{})
		write(t, p, 1, record.None)
		writeTxn(t, p, 7, 0, 2, record.None)
		write(t, p, 1, record.None)
		var got []string
		go func() {
			for {
				c, err := s.Next(t.Context())
				if err != nil {
					return
				}
				for _, r := range c.Records {
					got = append(got, fmt.Sprint(r.Offset))
				}
				got = append(got, fmt.Sprintf("to %d of %d", c.Next, c.HighWatermark))
			}
		}()
		synctest.Wait()
		if want := []string{"0", "to 1 of 4"}; !slices.Equal(got, want) {
			t.Errorf("while it is open: %q", got)
		}
		mark(t, p, 7, true)
		synctest.Wait()
		if want := []string{"0", "to 1 of 4", "1", "2", "3", "to 5 of 5"}; !slices.Equal(got, want) {
			t.Errorf("when it is committed: %q", got)
		}
		writeTxn(t, p, 7, 2, 1, record.None)
		mark(t, p, 7, false)
		synctest.Wait()
		if n := len(got); got[n-1] != "to 7 of 7" || n != 7 {
			t.Errorf("when the next is aborted: %q", got)
		}
	})
}

// TestUncommitted reads all that is durable.
func TestUncommitted(t *testing.T) {
	p := openPartition(t)
	writeTxn(t, p, 7, 0, 1, record.None)
	mark(t, p, 7, false)
	writeTxn(t, p, 7, 1, 1, record.None)
	s := NewPartition(p, Options{Uncommitted: true, To: 3})
	for _, want := range []int64{0, 2} {
		c, err := s.Next(t.Context())
		if err != nil || len(c.Records) == 0 {
			t.Fatalf("%+v, %v", c, err)
		}
		if want == 0 && len(c.Records) == 2 {
			return // both at once
		}
		if c.Records[0].Offset != want {
			t.Errorf("offset %d, want %d", c.Records[0].Offset, want)
		}
	}
}

// TestRepairedGapIsLost: a gap that a repair left is told, other gaps are not.
func TestRepairedGapIsLost(t *testing.T) {
	p := openPartition(t)
	s := NewPartition(p, Options{})
	s.rest = record.AppendGap(nil, 0, 5, 0)
	if err := s.fill(); err != nil {
		t.Fatal(err)
	}
	if c := s.chunk(s.recs); c.Lost != 5 || c.Next != 5 || len(c.Records) != 0 {
		t.Errorf("%+v", c)
	}
}
