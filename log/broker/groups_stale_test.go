package broker

import (
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/vfs"
)

func makeTopic(t *testing.T, s *Server, name string) *commitlog.Topic {
	t.Helper()
	topic, err := s.log.CreateTopic(commitlog.TopicSpec{Name: name, Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// deleteT deletes topic t as a client does.
func deleteT(t *testing.T, s *Server) {
	t.Helper()
	name := "t"
	if err := s.deleteTopic(t.Context(), &kmsg.DeleteTopicsResponseTopic{Topic: &name}); err != nil {
		t.Fatal(err)
	}
}

// TestForgottenWithOpenTransaction: what forgets a group's offset forgets also what
// a transaction that is open has for it, live and after a crash: the transaction's
// commit does not bring it back.
func TestForgottenWithOpenTransaction(t *testing.T) {
	forget := map[string]func(*testing.T, *Server){
		"group": func(t *testing.T, s *Server) {
			if err := s.groups.remove(t.Context(), "g"); err != nil {
				t.Fatal(err)
			}
		},
		"offset": func(t *testing.T, s *Server) {
			req := kmsg.NewPtrOffsetDeleteRequest()
			req.Group, req.Topics = "g", []kmsg.OffsetDeleteRequestTopic{{Topic: "t", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}}
			if _, err := s.deleteOffsets(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		},
		"topic": func(t *testing.T, s *Server) {
			deleteT(t, s)
			makeTopic(t, s, "t")
		},
	}
	for name, forget := range forget {
		for _, crash := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				fs := vfs.NewMem(1)
				s := txnServer(t, fs)
				makeTopic(t, s, "t")
				in := commitOf("g", 5)
				if s.groups.commit(t.Context(), &in); in.topics[0].parts[0].err != nil {
					t.Fatal(in.topics[0].parts[0].err)
				}
				if code := addTxn(t, s, 10); code != 0 {
					t.Fatal(kerr.ErrorForCode(code))
				}
				if forget(t, s); crash {
					fs = fs.CrashClone()
					s = txnServer(t, fs)
				}
				if err := s.groups.completeTxnOffsets(t.Context(), s.groups.topic.partition("g"), commitlog.Marker{ProducerID: 9, ProducerEpoch: 1, Commit: true}); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if got := fetched(t, s, true); got.err != nil || got.Offset.Offset != -1 {
						t.Fatalf("read %+v of what was forgotten", got)
					}
					fs = fs.CrashClone()
					s = txnServer(t, fs)
				}
			})
		}
	}
}

// TestOffsetsOfTopicBefore: a crash comes after a topic was deleted and before its
// offsets were. Another topic of that name, made while the coordinator reads its
// state, does not get them, nor does it after one more crash.
func TestOffsetsOfTopicBefore(t *testing.T) {
	fs := vfs.NewMem(1)
	s := txnServer(t, fs)
	makeTopic(t, s, "t")
	in := commitOf("g", 5)
	s.groups.commit(t.Context(), &in)
	if code := addTxn(t, s, 10); in.topics[0].parts[0].err != nil || code != 0 {
		t.Fatal(in.topics[0].parts[0].err, code)
	}
	if err := s.log.DeleteTopic("t"); err != nil {
		t.Fatal(err)
	}
	fs = fs.CrashClone()
	l := openMem(t, fs)
	t.Cleanup(func() { l.Close() })
	s, err := New(l, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	makeTopic(t, s, "t")
	s.groups.topic.load(t.Context(), s.groups)
	for range 2 {
		for _, stable := range []bool{false, true} {
			if got := fetched(t, s, stable); got.err != nil || got.Offset.Offset != -1 {
				t.Fatalf("read %+v of a topic before", got)
			}
		}
		fs = fs.CrashClone()
		s = txnServer(t, fs)
	}
}

// TestCommitToDeletedTopic: a commit that had found its topic, and comes to its
// group after the topic was deleted and made again, is refused.
func TestCommitToDeletedTopic(t *testing.T) {
	s := txnServer(t, vfs.NewMem(1))
	found := makeTopic(t, s, "t")
	in := commit{group: "g", caller: group.Caller{Generation: -1}, version: 9, topics: []commitTopic{{name: "t"}}}
	in.topics[0].add(found, 0, 7, -1, nil)
	deleteT(t, s)
	makeTopic(t, s, "t")
	if s.groups.commit(t.Context(), &in); in.topics[0].parts[0].err != error(kerr.UnknownTopicOrPartition) {
		t.Fatalf("committed: %v", in.topics[0].parts[0].err)
	}
	if got := fetched(t, s, false); got.Offset.Offset != -1 {
		t.Fatalf("read %+v", got)
	}
}

// TestRetentionFromLastMember: what a group committed long ago, for a partition that
// nothing came into since, is kept from when it lost its last member on, in both
// protocols and over a crash.
func TestRetentionFromLastMember(t *testing.T) {
	fs := vfs.NewMem(1)
	s := txnServer(t, fs)
	makeTopic(t, s, "t")
	p := group.TopicPartition{Topic: "t"}
	ctx, ids := t.Context(), []string{"classic", "consumer"}
	for _, id := range ids {
		c, err := s.groups.lock(id, true)
		if err != nil {
			t.Fatal(err)
		}
		old := group.Offset{Offset: 7, LeaderEpoch: -1, Time: time.Now().Add(-s.groups.cfg.Retention - time.Hour).UnixMilli()}
		c.offsets.Commit(p, old)
		err = s.groups.storePlain(ctx, c, time.Now(), []group.Record{group.StoredOffset(id, p, old)})
		if c.mu.Unlock(); err != nil {
			t.Fatal(err)
		}
	}
	joined, err := s.groups.join(ctx, "classic", group.JoinRequest{NewID: "m", ProtocolType: "consumer", Protocols: []group.Protocol{{Name: "p"}}, Session: 10 * time.Second, Rebalance: 10 * time.Second})
	if err == nil {
		_, err = s.groups.leave(ctx, "classic", []group.Caller{{MemberID: joined.MemberID}})
	}
	for _, epoch := range []int32{0, -1} {
		if err == nil {
			_, err = s.groups.beat(ctx, "consumer", group.Beat{MemberID: "m", Epoch: epoch, Rebalance: time.Minute, Topics: []string{"t"}, Owned: group.Slots{}})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	kept := func(id string) (at fetchedOffset) {
		if err := s.groups.readOffsets(ctx, id, true, nil, -1, func(r reading) { at = r.of(p) }); err != nil {
			t.Fatal(err)
		}
		return at
	}
	for range 2 {
		s.groups.sweep(ctx, time.Now().Add(s.groups.cfg.Retention-time.Minute))
		for _, id := range ids {
			if at := kept(id); at.Offset.Offset != 7 {
				t.Fatalf("%s: read %d", id, at.Offset.Offset)
			}
		}
		fs = fs.CrashClone()
		s = txnServer(t, fs)
	}
	s.groups.sweep(ctx, time.Now().Add(s.groups.cfg.Retention+time.Minute))
	for _, id := range ids {
		if at := kept(id); at.Offset.Offset != -1 {
			t.Fatalf("%s: is left after its time", id)
		}
	}
}

// TestStateOfSmallBatches: where batches of clients must be small a group can still
// commit for many partitions at once, and be removed.
func TestStateOfSmallBatches(t *testing.T) {
	l, err := commitlog.Open(t.Context(), "data", commitlog.Options{FS: vfs.NewMem(1), Logger: slog.New(slog.DiscardHandler), MaxBatchBytes: 2000})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := New(l, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.groups.stop()
	topic, err := l.CreateTopic(commitlog.TopicSpec{Name: "t", Partitions: 100})
	if err != nil {
		t.Fatal(err)
	}
	in := commit{group: "g", caller: group.Caller{Generation: -1}, version: 9, topics: []commitTopic{{name: "t"}}}
	for i := range int32(100) {
		in.topics[0].add(topic, i, 7, -1, nil)
	}
	if s.groups.commit(t.Context(), &in); in.topics[0].parts[99].err != nil {
		t.Fatal(in.topics[0].parts[99].err)
	}
	if err := s.groups.remove(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
}
