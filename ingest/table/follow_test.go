package table

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/source"
)

// dimension is a topic of one partition that a test writes.
type dimension struct {
	mu   sync.Mutex
	cond *sync.Cond
	recs []source.Record
}

func (d *dimension) put(key, value string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := source.Record{Offset: int64(len(d.recs)), Key: []byte(key)}
	if value != "" {
		r.Value = []byte(value)
	}
	d.recs = append(d.recs, r)
	d.cond.Broadcast()
}

type dimensionSource struct {
	d  *dimension
	at int64
}

func (s *dimensionSource) Next(ctx context.Context) (source.Chunk, error) {
	stop := context.AfterFunc(ctx, func() { s.d.mu.Lock(); s.d.cond.Broadcast(); s.d.mu.Unlock() })
	defer stop()
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	for s.at == int64(len(s.d.recs)) {
		if ctx.Err() != nil {
			return source.Chunk{}, ctx.Err()
		}
		s.d.cond.Wait()
	}
	r := s.d.recs[s.at]
	s.at++
	return source.Chunk{Records: []source.Record{r}, Next: s.at}, nil
}
func (s *dimensionSource) SeekTo(at int64) error { s.at = at; return nil }
func (s *dimensionSource) Close() error          { return nil }

// TestFollow reads a topic with entries, tombstones and bad records, before and
// while it is followed, and after entries went while nobody followed.
func TestFollow(t *testing.T) {
	d := &dimension{}
	d.cond = sync.NewCond(&d.mu)
	s := openStore(t, newFakeLog(rand.New(rand.NewPCG(1, 1))))
	def := *merchants
	def.Source = "topic:m"
	follow := func() func() {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- s.Follow(ctx, &def, FollowOptions{Topic: "m", Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
				Open: func(_ context.Context, _ string, _ int32, from int64) (source.Source, error) {
					return &dimensionSource{d, from}, nil
				},
				Partitions: func(string) (int32, error) { return 1, nil },
				End: func(string, int32) (int64, error) {
					d.mu.Lock()
					defer d.mu.Unlock()
					return int64(len(d.recs)), nil
				}})
		}()
		return func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	shows := func(want string) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for {
			var got []string
			for _, r := range s.Head().Table("merchants").Page(nil, 10, nil) {
				e := r.Entry()
				got = append(got, dumpEntry(&def, &e))
			}
			text := strings.NewReplacer(" 9223372036854775807 \"topic:m\" \"\"", "").Replace(strings.Join(got, "; "))
			if text == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the table is %s, want %s", text, want)
			}
			time.Sleep(time.Millisecond)
		}
	}
	d.put(`["DE",1]`, `{"risk":3,"open":true}`)
	d.put(`["DE",2]`, `{"risk":4,"open":true,"country":"DE"}`)
	d.put(`nonsense`, `{"risk":4,"open":true}`)
	d.put(`["DE",2]`, ``)
	d.put(`["FR",2]`, `{"risk":"x","open":true}`)
	stop := follow()
	shows(`"DE" 1 {"risk":3,"open":true}`)
	d.put(`["DE",1]`, `{"risk":9,"open":false,"category":"food"}`)
	d.put(`["AT",1]`, `{"risk":1,"open":false}`)
	shows(`"AT" 1 {"risk":1,"open":false}; "DE" 1 {"category":"food","risk":9,"open":false}`)
	stop()
	d.mu.Lock()
	d.recs[5].Key = []byte(`["CH",1]`) // as if compacted: DE is gone without a word
	d.recs[0].Key = []byte(`["CH",1]`)
	d.mu.Unlock()
	stop = follow()
	shows(`"AT" 1 {"risk":1,"open":false}; "CH" 1 {"category":"food","risk":9,"open":false}`)
	stop()
}
