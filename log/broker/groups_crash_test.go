package broker

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// TestCommitsOutliveCrashes: many groups commit at the same time, the power goes,
// and no acknowledged commit is lost; nor is a later one undone by an earlier.
func TestCommitsOutliveCrashes(t *testing.T) {
	const crashes, parallel = 6, 8
	seed := seeds.One(t)
	r := rand.New(rand.NewPCG(seed, 0)) // under mu
	fs := vfs.NewMem(seed)
	acked := map[string]int64{}
	next := int64(1)
	for round := range crashes {
		s := txnServer(t, fs)
		if round == 0 {
			if _, err := s.log.CreateTopic(commitlog.TopicSpec{Name: "t", Partitions: 1}); err != nil {
				t.Fatal(err)
			}
		}
		for id, want := range acked {
			var at fetchedOffset
			if err := s.groups.readOffsets(t.Context(), id, true, nil, -1, func(r reading) { at = r.of(group.TopicPartition{Topic: "t"}) }); err != nil || at.Offset.Offset < want {
				t.Fatalf("round %d: group %s reads %d, acknowledged was %d: %v", round, id, at.Offset.Offset, want, err)
			}
		}
		var mu sync.Mutex
		var running sync.WaitGroup
		var clone *vfs.Mem
		for g := range parallel {
			id := fmt.Sprint("g", g)
			from := next
			running.Go(func() {
				for i := range int64(20) {
					in := commitOf(id, from+i)
					s.groups.commit(t.Context(), &in)
					mu.Lock()
					if clone == nil && in.topics[0].parts[0].err == nil {
						acked[id] = from + i
					}
					if clone == nil && r.IntN(parallel*20) == 0 {
						clone = fs.CrashClone() // nothing is acknowledged meanwhile
					}
					mu.Unlock()
				}
			})
		}
		running.Wait()
		if clone == nil {
			clone = fs.CrashClone()
		}
		fs, next = clone, next+20
	}
	if len(acked) != parallel {
		t.Fatalf("%d groups committed", len(acked))
	}
}

// TestCommitBeforeLoad: a new broker takes commits before the goroutine that loads
// what a life before left, which is nothing, has had its turn. They stay.
func TestCommitBeforeLoad(t *testing.T) {
	fs := vfs.NewMem(1)
	l := openMem(t, fs)
	defer l.Close()
	s, err := New(l, Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.groups.stop()
	if _, err := l.CreateTopic(commitlog.TopicSpec{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	in := commitOf("g", 7)
	if s.groups.commit(t.Context(), &in); in.topics[0].parts[0].err != nil {
		t.Fatal(in.topics[0].parts[0].err)
	}
	s.groups.topic.load(t.Context(), s.groups)
	if at := fetched(t, s, true); at.err != nil || at.Offset.Offset != 7 {
		t.Fatalf("committed 7, read %+v", at)
	}
}

func commitOf(id string, offset int64) commit {
	return commit{group: id, caller: group.Caller{Generation: -1}, version: 9,
		topics: []commitTopic{{name: "t", parts: []commitPart{{at: group.Offset{Offset: offset, LeaderEpoch: -1}}}}}}
}
