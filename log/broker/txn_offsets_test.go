package broker

import (
	"log/slog"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/vfs"
)

// txnServer is a server whose coordinators have read their state.
func txnServer(t *testing.T, fs *vfs.Mem) *Server {
	t.Helper()
	l := openMem(t, fs)
	t.Cleanup(func() { l.Close() })
	s, err := New(l, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s.groups.topic.load(t.Context(), s.groups)
	t.Cleanup(s.groups.stop)
	return s
}

// fetched is what a group's offset of partition 0 of t reads as.
func fetched(t *testing.T, s *Server, stable bool) (at fetchedOffset) {
	t.Helper()
	if err := s.groups.readOffsets(t.Context(), "g", stable, nil, -1, func(r reading) { at = r.of(group.TopicPartition{Topic: "t"}) }); err != nil {
		t.Fatal(err)
	}
	return at
}

func addTxn(t *testing.T, s *Server, offset int64) int16 {
	t.Helper()
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.Version, req.Group, req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Generation = 5, "g", "tx", 9, 1, -1
	rt := kmsg.NewTxnOffsetCommitRequestTopic()
	rt.Topic, rt.Partitions = "t", []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: offset, LeaderEpoch: -1}}
	req.Topics = append(req.Topics, rt)
	return s.groups.addTxnOffsets(t.Context(), s, req).Topics[0].Partitions[0].ErrorCode
}

// TestTxnOffsets: offsets of a transaction are pending until it ends, count if it
// was committed and not if it was aborted, and all of that outlives a crash.
func TestTxnOffsets(t *testing.T) {
	fs := vfs.NewMem(1)
	s := txnServer(t, fs)
	if _, err := s.log.CreateTopic(commitlog.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	at, err := s.groups.offsetsPartition("g")
	if err != nil {
		t.Fatal(err)
	}
	last := int64(-1)
	for i, commit := range []bool{true, false, true} {
		if code := addTxn(t, s, int64(10+i)); code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		for range 2 { // before and after a crash
			if got := fetched(t, s, true); got.err != kerr.UnstableOffsetCommit {
				t.Fatalf("%d pending: %v", i, got)
			}
			if got := fetched(t, s, false); got.Offset.Offset != last {
				t.Fatalf("%d pending: read %v, committed was %d", i, got, last)
			}
			fs = fs.CrashClone()
			s = txnServer(t, fs)
		}
		if err := s.groups.completeTxnOffsets(t.Context(), at.Partition, commitlog.Marker{ProducerID: 9, ProducerEpoch: 1, Commit: commit}); err != nil {
			t.Fatal(err)
		}
		if commit {
			last = int64(10 + i)
		}
		for range 2 {
			if got := fetched(t, s, true); got.err != nil || got.Offset.Offset != last {
				t.Fatalf("after %d: read %v, want %d", i, got, last)
			}
			fs = fs.CrashClone()
			s = txnServer(t, fs)
		}
	}
}
