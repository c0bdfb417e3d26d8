package commitlog

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// txnModel is a partition's transactions, the slow and obvious way.
type txnModel struct {
	open   map[int64]int64 // first offset by producer
	aborts []AbortedTransaction
	end    int64
}

func (m *txnModel) stable() int64 {
	stable := m.end
	for _, first := range m.open {
		stable = min(stable, first)
	}
	return stable
}

func (m *txnModel) aborted(from, to int64) (list []AbortedTransaction) {
	for _, a := range m.aborts {
		if a.LastOffset >= from && a.FirstOffset < to {
			list = append(list, a)
		}
	}
	return list
}

// TestTransactions runs random transactions against the model, over restarts,
// crashes, lost and damaged indexes.
func TestTransactions(t *testing.T) {
	seeds.Each(t, 30, func(t *testing.T, seed uint64) { runTransactions(t, seed) })
}

func runTransactions(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 3))
	m := vfs.NewMem(seed)
	o := testOptions(m)
	o.SegmentBytes = int64(1024 << rng.IntN(4))
	l := mustOpen(t, "data", o)
	p := mustTopic(t, l, "a", 1).Partitions()[0]
	model := txnModel{open: map[int64]int64{}}
	sequence := map[int64]int32{}
	stable := int64(0)
	for range 300 {
		id := 1 + rng.Int64N(6)
		start, open := model.open[id]
		switch rng.IntN(10) {
		case 0, 1:
			commit := rng.IntN(2) == 0
			offset, err := p.AppendMarker(context.Background(), Marker{ProducerID: id, ProducerEpoch: 1, CoordinatorEpoch: 5, Commit: commit})
			if err != nil || offset != model.end {
				t.Fatal(offset, err)
			}
			if open && !commit {
				model.aborts = append(model.aborts, AbortedTransaction{id, start, offset})
			}
			delete(model.open, id)
			model.end++
		case 2:
			model.end = mustAppend(t, p, newBatch(record.BatchOptions{}, "plain", 2, 50, 1)) + 2
		case 3:
			if rng.IntN(8) == 0 {
				l, p = reopenTransactions(t, l, &m, o, rng)
			}
		case 4:
			if err := p.checkpoint(context.Background()); err != nil {
				t.Fatal(err)
			}
		default:
			n := 1 + rng.IntN(3)
			base := mustAppend(t, p, newBatch(record.BatchOptions{ProducerID: id, ProducerEpoch: 1, BaseSequence: sequence[id], Transactional: true}, "txn", n, rng.IntN(200), 1))
			if base != model.end {
				t.Fatalf("base %d, want %d", base, model.end)
			}
			sequence[id] += int32(n)
			model.end += int64(n)
			if !open {
				model.open[id] = base
			}
		}
		checkTransactions(t, p, &model, rng)
		if got := p.LastStableOffset(); got < stable {
			t.Fatalf("last stable offset %d after %d", got, stable)
		} else {
			stable = got
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// reopenTransactions closes or crashes, and may take or damage an index.
func reopenTransactions(t *testing.T, l *Log, m **vfs.Mem, o Options, rng *rand.Rand) (*Log, *Partition) {
	if rng.IntN(2) == 0 {
		*m = (*m).CrashClone()
		_ = l.Close()
	} else if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o.FS = *m
	names, err := (*m).List("data/topics/a-0")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, txnIndexSuffix) || rng.IntN(3) > 0 {
			continue
		}
		name = "data/topics/a-0/" + name
		if rng.IntN(2) == 0 {
			if err := (*m).Remove(name); err != nil {
				t.Fatal(err)
			}
			continue
		}
		f, err := (*m).OpenFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xaa}, envelopeSize+rng.Int64N(abortedSize)); err != nil {
			t.Fatal(err)
		}
	}
	repairSound(t, o, rng)
	l = mustOpen(t, "data", o)
	if found, err := l.Verify(context.Background(), nil); err != nil || len(found) > 0 {
		t.Fatal(found, err)
	}
	return l, mustPartition(t, l, "a", 0)
}

// repairSound sometimes repairs a partition that is not damaged: all that is found
// afterwards, transactions, producers, leader epochs, must be as without.
func repairSound(t testing.TB, o Options, rng *rand.Rand) {
	t.Helper()
	if rng.IntN(3) > 0 {
		return
	}
	report, err := Repair(context.Background(), "data", "a", 0, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, lost := range report.Lost {
		if lost.From < lost.To {
			t.Fatalf("a repair of what is not damaged lost %+v", lost)
		}
	}
}

// TestVerifyTransactionIndex: an aborted transaction that an index lacks is named, and
// a repair puts it there.
func TestVerifyTransactionIndex(t *testing.T) {
	o := testOptions(vfs.NewMem(1))
	l := mustOpen(t, "data", o)
	p := mustTopic(t, l, "a", 1).Partitions()[0]
	for id := int64(1); id <= 3; id++ {
		mustAppend(t, p, newBatch(record.BatchOptions{ProducerID: id, Transactional: true}, "txn", 1, 10, 1))
		if _, err := p.AppendMarker(context.Background(), Marker{ProducerID: id, Commit: id == 2}); err != nil {
			t.Fatal(err)
		}
	}
	want := slices.Clone(p.segs[0].aborts)
	verify := func(damage int) []*CorruptError {
		t.Helper()
		found, err := l.Verify(context.Background(), nil)
		if err != nil || len(found) != damage {
			t.Fatal(found, err)
		}
		return found
	}
	verify(0)
	p.segs[0].aborts = want[:1] // as if the third had never been noted
	found := verify(1)[0]
	if found.Offset != 5 || found.File != p.segs[0].txnIndexFile() || !strings.Contains(found.Error(), "producer 3") {
		t.Error(found)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, "data", o)
	verify(1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Repair(context.Background(), "data", "a", 0, o); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, "data", o)
	defer l.Close()
	verify(0)
	if got := mustPartition(t, l, "a", 0).segs[0].aborts; !slices.Equal(got, want) {
		t.Errorf("aborted after the repair: %v, want %v", got, want)
	}
}

func checkTransactions(t *testing.T, p *Partition, model *txnModel, rng *rand.Rand) {
	t.Helper()
	if got, want := p.LastStableOffset(), model.stable(); got != want {
		t.Fatalf("last stable offset %d, want %d", got, want)
	}
	for id := int64(1); id <= 6; id++ {
		want, open := model.open[id]
		if first, _, got := p.OpenTransaction(id); got != open || open && first != want {
			t.Fatalf("producer %d: open %v since %d, want %v since %d", id, got, first, open, want)
		}
	}
	from := rng.Int64N(model.end + 1)
	to := min(from+1+rng.Int64N(40), model.stable())
	if got, want := p.AbortedTransactions(from, to), model.aborted(from, to); to > from && !slices.Equal(got, want) {
		t.Fatalf("aborted in %d to %d: %v, want %v", from, to, got, want)
	}
	if from >= model.stable() {
		return
	}
	c, next := p.NewCursor(from), from
	for {
		run, err := p.ReadCommitted(c, 1+rng.IntN(2000))
		if err != nil {
			t.Fatal(err)
		}
		if len(run) == 0 {
			break
		}
		for len(run) > 0 {
			h, err := record.CheckStored(run)
			if err != nil || h.BaseOffset > next || h.LastOffset() < next {
				t.Fatalf("read %d to %d, want %d: %v", h.BaseOffset, h.LastOffset(), next, err)
			}
			next = h.LastOffset() + 1
			run = run[h.Size():]
		}
	}
	if next != model.stable() {
		t.Fatalf("read to %d, the last stable offset is %d", next, model.stable())
	}
}

func TestTransactionRefusals(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	o := testOptions(vfs.NewMem(1))
	o.Now = func() time.Time { return now }
	l := mustOpenAlone(t, "data", o)
	p := mustTopic(t, l, "a", 1).Partitions()[0]
	ctx := context.Background()
	send := func(id int64, epoch int16, sequence int32, transactional bool) error {
		b := newBatch(record.BatchOptions{ProducerID: id, ProducerEpoch: epoch, BaseSequence: sequence, Transactional: transactional}, "x", 1, 10, 1)
		_, err := p.Append(ctx, b, -1)
		return err
	}
	marker := func(id int64, epoch int16, coordinator int32, commit bool) error {
		_, err := p.AppendMarker(ctx, Marker{id, epoch, coordinator, commit})
		return err
	}
	for i, c := range []struct {
		err  error
		want error
	}{
		{send(1, 0, 7, true), nil}, // not known: any sequence
		{send(1, 0, 8, false), ErrInvalidTxnState},
		{send(1, 0, 9, true), ErrOutOfOrderSequence},
		{send(-1, 0, 0, true), ErrInvalidBatch},
		{send(2, 0, -1, true), ErrInvalidBatch},
		{marker(1, 0, 3, true), nil},
		{marker(1, 0, 2, true), ErrCoordinatorFenced},
		{marker(1, 0, 3, true), nil}, // again
		{send(1, 0, 8, false), nil},
		{marker(1, 2, 3, false), nil}, // KIP-890: with the bumped epoch
		{send(1, 0, 9, true), ErrInvalidProducerEpoch},
		{marker(1, 1, 3, true), ErrInvalidProducerEpoch},
		{marker(1, 1, 3, true), ErrProducerFenced},
		{send(1, 2, 9, true), ErrOutOfOrderSequence}, // a new epoch begins at 0
		{send(1, 2, 0, true), nil},
		{send(1, 3, 0, true), nil}, // goes on with the transaction of the epoch before
		{marker(-1, 0, 0, true), ErrInvalidBatch},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("case %d: %v, want %v", i, c.err, c.want)
		}
	}
	control := record.AppendMarker(nil, record.Marker{ProducerID: 9})
	for _, f := range []func(context.Context, []byte, int16) (int64, error){p.Append, p.AppendUnsequenced} {
		if _, err := f(ctx, control, -1); !errors.Is(err, ErrInvalidBatch) {
			t.Error(err)
		}
	}
	unsequenced := newBatch(record.BatchOptions{ProducerID: 5, BaseSequence: -1, Transactional: true}, "x", 1, 10, 1)
	for range 2 {
		if _, err := p.AppendUnsequenced(ctx, unsequenced, -1); err != nil {
			t.Error(err)
		}
	}
	first, epoch, open := p.OpenTransaction(1)
	if got := p.Producers(); !open || epoch != 3 || len(got) != 2 || got[0].TxnStart != first || got[0].CoordinatorEpoch != 3 || got[0].LastSequence != 0 || got[1].LastSequence != -1 {
		t.Fatalf("%v %d %+v", open, epoch, got)
	}
	if p.LastStableOffset() != first {
		t.Fatal(p.LastStableOffset(), first)
	}
	// Expiry spares who has a transaction open.
	if err := marker(5, 0, 0, true); err != nil {
		t.Fatal(err)
	}
	now = now.Add(25 * time.Hour)
	if err := send(-1, 0, 0, false); err != nil {
		t.Fatal(err)
	}
	if err := p.checkpoint(ctx); err != nil {
		t.Fatal(err)
	}
	if got := p.Producers(); len(got) != 1 || got[0].ProducerID != 1 {
		t.Fatalf("%+v", got)
	}
	waited := make(chan error)
	go func() { waited <- p.WaitStable(ctx, first) }()
	if err := marker(1, 3, 3, false); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	if p.LastStableOffset() != p.HighWatermark() {
		t.Fatal(p.LastStableOffset(), p.HighWatermark())
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
