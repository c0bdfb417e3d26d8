package group

import (
	"errors"
	"reflect"
	"testing"
	"time"
)

var (
	epoch0 = time.UnixMilli(1_700_000_000_000)
	p0, p1 = TopicPartition{"t", 0}, TopicPartition{"t", 1}
)

func ids(next int64) FreshID {
	return func() (int64, error) { next++; return next - 1, nil }
}

func started(t *testing.T) Txn {
	t.Helper()
	tx, err := NewTxn("x").Init(epoch0, time.Minute, NoProducer, ids(7))
	if err != nil || tx.Producer != (Producer{7, 0}) || tx.State != TxnEmpty {
		t.Fatalf("%+v, %v", tx, err)
	}
	return tx
}

func added(t *testing.T, tx Txn, version int16, parts ...TopicPartition) Txn {
	t.Helper()
	next, changed, err := tx.Add(epoch0, tx.Producer, version, parts...)
	if err != nil || !changed || next.State != TxnOngoing {
		t.Fatalf("%+v, %v", next, err)
	}
	return next
}

func ended(t *testing.T, tx Txn, commit, bump bool) Txn {
	t.Helper()
	next, changed, err := tx.End(epoch0, tx.Producer, commit, bump, ids(70))
	if err != nil || !changed || !next.Preparing() || next.Commits() != commit {
		t.Fatalf("%+v, %v", next, err)
	}
	return next.Complete(epoch0)
}

func TestInitFencesAndRecovers(t *testing.T) {
	tx := started(t)
	first := tx.Producer
	second, err := tx.Init(epoch0, time.Minute, NoProducer, ids(8))
	if err != nil || second.Producer != (Producer{7, 1}) {
		t.Fatalf("%+v, %v", second, err)
	}
	if _, _, err := second.Add(epoch0, first, 2, p0); !errors.Is(err, ErrProducerFenced) {
		t.Errorf("the first producer adds: %v", err)
	}
	if _, err := second.Init(epoch0, time.Minute, first, ids(8)); !errors.Is(err, ErrProducerFenced) {
		t.Errorf("the first producer wants to go on: %v", err)
	}
	// KIP-360: who says who it is goes on, and does so again when the answer is lost.
	own, err := second.Init(epoch0, time.Minute, second.Producer, ids(8))
	if err != nil || own.Producer != (Producer{7, 2}) {
		t.Fatalf("%+v, %v", own, err)
	}
	if again, err := own.Init(epoch0, time.Minute, second.Producer, ids(8)); err != nil || again.Producer != own.Producer {
		t.Errorf("a retry: %+v, %v", again, err)
	}
	if _, err := own.Init(epoch0, time.Minute, Producer{99, 0}, ids(8)); !errors.Is(err, ErrProducerFenced) {
		t.Errorf("of another id: %v", err)
	}
}

func TestInitAbortsWhatIsOngoing(t *testing.T) {
	tx := added(t, started(t), 2, p0)
	aborting, err := tx.Init(epoch0, time.Minute, NoProducer, ids(8))
	if err != nil || aborting.State != TxnPrepareAbort || aborting.Epoch != 1 || !aborting.Has(p0) {
		t.Fatalf("%+v, %v", aborting, err)
	}
	if _, err := aborting.Init(epoch0, time.Minute, NoProducer, ids(8)); !errors.Is(err, ErrConcurrentTransactions) {
		t.Errorf("while it is aborted: %v", err)
	}
	next, err := aborting.Complete(epoch0).Init(epoch0, time.Minute, NoProducer, ids(8))
	if err != nil || next.State != TxnEmpty || next.Producer != (Producer{7, 2}) {
		t.Errorf("%+v, %v", next, err)
	}
}

func TestEpochsRunOut(t *testing.T) {
	tx := started(t)
	tx.Epoch = maxEpoch - 1
	was := tx.Producer
	rotated, err := tx.Init(epoch0, time.Minute, was, ids(8))
	if err != nil || rotated.Producer != (Producer{8, 0}) || rotated.PrevProducerID != 7 {
		t.Fatalf("%+v, %v", rotated, err)
	}
	if again, err := rotated.Init(epoch0, time.Minute, was, ids(9)); err != nil || again.Producer != rotated.Producer {
		t.Errorf("a retry: %+v, %v", again, err)
	}
	// With KIP-890 it is the end of a transaction that uses the last epoch up.
	open := added(t, tx, 2, p0)
	prepared, _, err := open.End(epoch0, was, true, true, ids(8))
	if err != nil || prepared.Producer != (Producer{7, maxEpoch}) || prepared.Successor() != (Producer{8, 0}) {
		t.Fatalf("%+v, %v", prepared, err)
	}
	done := prepared.Complete(epoch0)
	if done.Producer != (Producer{8, 0}) || done.PrevProducerID != 7 || done.NextProducerID != -1 {
		t.Fatalf("%+v", done)
	}
	if again, changed, err := done.End(epoch0, was, true, true, ids(9)); err != nil || changed || again.Successor() != (Producer{8, 0}) {
		t.Errorf("a retry: %+v, %v", again, err)
	}
}

// TestFencedWhereEpochsRunOut: who is fenced by one that gets a new producer id is not
// taken for that one.
func TestFencedWhereEpochsRunOut(t *testing.T) {
	tx := started(t)
	tx.Epoch = maxEpoch - 1
	was := tx.Producer
	other, err := tx.Init(epoch0, time.Minute, NoProducer, ids(8))
	if err != nil || other.Producer != (Producer{8, 0}) || other.PrevProducerID != 7 {
		t.Fatalf("%+v, %v", other, err)
	}
	if again, err := other.Init(epoch0, time.Minute, was, ids(9)); !errors.Is(err, ErrProducerFenced) {
		t.Errorf("it goes on as %+v, %v", again.Producer, err)
	}
}

// TestFencedByAnOlderProtocol: a producer that speaks KIP-890 is fenced by one that
// does not, whose transaction, found in a partition after a crash, is committed. That is
// not the answer to the first one's retry.
func TestFencedByAnOlderProtocol(t *testing.T) {
	first := ended(t, added(t, started(t), 2, p0), true, true)
	second, err := first.Init(epoch0, time.Minute, NoProducer, ids(8))
	if err != nil {
		t.Fatal(err)
	}
	open, _, ok := second.Adopt(epoch0, second.Producer, p0)
	if !ok {
		t.Fatal("not adopted")
	}
	done := ended(t, open, true, false)
	if after, changed, err := done.End(epoch0, first.Producer, true, true, ids(9)); !errors.Is(err, ErrProducerFenced) {
		t.Errorf("told %+v, changed %v, %v", after.Successor(), changed, err)
	}
}

func TestStaleEndDoesNotEndTheNext(t *testing.T) {
	tx := added(t, started(t), 2, p0)
	was := tx.Producer
	done := ended(t, tx, true, true)
	if done.Epoch != was.Epoch+1 {
		t.Fatalf("%+v", done)
	}
	next := added(t, done, 2, p1)
	for _, commit := range []bool{true, false} {
		if after, changed, err := next.End(epoch0, was, commit, true, ids(8)); !errors.Is(err, ErrProducerFenced) || changed || after.State != TxnOngoing {
			t.Errorf("commit %v: %+v, %v", commit, after, err)
		}
	}
}

func TestRetriesOfEnd(t *testing.T) {
	for _, bump := range []bool{false, true} {
		for _, commit := range []bool{false, true} {
			tx := added(t, started(t), 0, p0)
			was := tx.Producer
			prepared, _, err := tx.End(epoch0, was, commit, bump, ids(8))
			if err != nil {
				t.Fatal(err)
			}
			done := prepared.Complete(epoch0)
			if _, _, err := prepared.End(epoch0, was, commit, bump, ids(8)); !errors.Is(err, ErrConcurrentTransactions) {
				t.Errorf("bump %v commit %v while it is prepared: %v", bump, commit, err)
			}
			if _, _, err := prepared.End(epoch0, was, !commit, bump, ids(8)); !errors.Is(err, ErrInvalidTxnState) {
				t.Errorf("bump %v commit %v turned around while it is prepared: %v", bump, commit, err)
			}
			if _, changed, err := done.End(epoch0, was, commit, bump, ids(8)); changed || err != nil {
				t.Errorf("bump %v commit %v: again: %v", bump, commit, err)
			}
			if _, _, err := done.End(epoch0, was, !commit, bump, ids(8)); !errors.Is(err, ErrInvalidTxnState) {
				t.Errorf("bump %v commit %v: turned around: %v", bump, commit, err)
			}
		}
	}
}

func TestEndWithoutPartitions(t *testing.T) {
	tx := started(t)
	if _, _, err := tx.End(epoch0, tx.Producer, true, true, ids(8)); !errors.Is(err, ErrInvalidTxnState) {
		t.Errorf("commit: %v", err)
	}
	if _, _, err := tx.End(epoch0, tx.Producer, false, false, ids(8)); !errors.Is(err, ErrInvalidTxnState) {
		t.Errorf("abort before KIP-890: %v", err)
	}
	next, changed, err := tx.End(epoch0, tx.Producer, false, true, ids(8))
	if err != nil || !changed || next.State != TxnPrepareAbort || next.Epoch != 1 || len(next.Partitions) != 0 {
		t.Errorf("abort: %+v, %v", next, err)
	}
}

func TestTimeOut(t *testing.T) {
	tx := added(t, started(t), 2, p0)
	was := tx.Producer
	if tx.Overdue(epoch0.Add(time.Minute - 1)) {
		t.Error("overdue too early")
	}
	if !tx.Overdue(epoch0.Add(time.Minute)) {
		t.Error("not overdue")
	}
	aborting, err := tx.TimeOut(epoch0, ids(8))
	if err != nil || aborting.State != TxnPrepareAbort || aborting.Epoch != 1 {
		t.Fatalf("%+v, %v", aborting, err)
	}
	done := aborting.Complete(epoch0)
	if done.Overdue(epoch0.Add(time.Hour)) {
		t.Error("overdue again")
	}
	if err := done.Verify(was, p0); !errors.Is(err, ErrProducerFenced) {
		t.Errorf("the producer goes on writing: %v", err)
	}
	if _, _, err := done.End(epoch0, was, true, true, ids(8)); !errors.Is(err, ErrTxnTimedOut) {
		t.Errorf("the producer commits: %v", err)
	}
	if after, changed, err := done.End(epoch0, was, false, true, ids(8)); err != nil || changed || after.Successor() != (Producer{7, 1}) {
		t.Errorf("the producer aborts: %+v, %v", after, err)
	}
	if after, err := done.Init(epoch0, time.Minute, was, ids(8)); err != nil || after.Producer != (Producer{7, 1}) {
		t.Errorf("the producer recovers: %+v, %v", after, err)
	}
}

func TestIdle(t *testing.T) {
	week := 7 * 24 * time.Hour
	tx := started(t)
	if tx.Idle(epoch0.Add(week-1), week) || !tx.Idle(epoch0.Add(week), week) {
		t.Error("an empty one")
	}
	if open := added(t, tx, 2, p0); open.Idle(epoch0.Add(week), week) {
		t.Error("an ongoing one is forgotten")
	}
}

func TestTxnRecord(t *testing.T) {
	tx := added(t, started(t), 2, p1, TopicPartition{"s", 4}, p0)
	tx.PrevProducerID = 3
	back, err := ReadTxn("x", tx.Value())
	if err != nil || !reflect.DeepEqual(back, tx) {
		t.Errorf("%+v\nis not\n%+v, %v", back, tx, err)
	}
	if id, err := ReadTxnKey(TxnKey("a b")); err != nil || id != "a b" {
		t.Errorf("%q, %v", id, err)
	}
	if _, err := ReadTxn("x", tx.Value()[:9]); !errors.Is(err, ErrTxnRecord) {
		t.Errorf("a cut value: %v", err)
	}
	tx.State = 9
	if _, err := ReadTxn("x", tx.Value()); !errors.Is(err, ErrTxnRecord) {
		t.Errorf("an impossible state: %v", err)
	}
}

// FuzzTxnRecord: bytes are refused, or are a state that can be written and read
// again.
func FuzzTxnRecord(f *testing.F) {
	f.Add(TxnKey("x"), NewTxn("x").Value())
	tx, _, err := Txn{ID: "x", Producer: Producer{1, 2}, State: TxnEmpty}.Add(epoch0, Producer{1, 2}, 2, p0, p1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(TxnKey(""), tx.Value())
	f.Add([]byte{0, 1, 0, 0}, []byte{0, 0})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		id, err := ReadTxnKey(key)
		if err != nil && !errors.Is(err, ErrTxnRecord) {
			t.Fatal(err)
		}
		tx, err := ReadTxn(id, value)
		if err != nil {
			if !errors.Is(err, ErrTxnRecord) {
				t.Fatal(err)
			}
			return
		}
		back, err := ReadTxn(id, tx.Value())
		if err != nil || !reflect.DeepEqual(back, tx) {
			t.Fatalf("%+v\nis not\n%+v, %v", back, tx, err)
		}
	})
}
