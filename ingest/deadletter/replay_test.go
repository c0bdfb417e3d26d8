package deadletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

const partitions = 3

// payments is a stream whose amount has two places; a later declaration is made of
// it.
func payments() *schema.Stream {
	return &schema.Stream{Topic: "payments", Format: schema.JSON,
		Schema: &event.Schema{Stream: "payments", Alias: "p", Time: 0, Key: 1, ID: -1, Fields: []event.Field{
			{Name: "ts", Type: event.Type{Kind: event.Timestamp}}, {Name: "card", Type: event.Type{Kind: event.String}},
			{Name: "amount", Type: event.Type{Kind: event.Decimal, Scale: 3}}}},
		Fields: make([]schema.Field, 3)}
}

type house struct {
	t   testing.TB
	fs  vfs.FS
	log *commitlog.Log
}

func openHouse(t testing.TB, fs vfs.FS) *house {
	t.Helper()
	l, err := commitlog.Open(context.Background(), "data", commitlog.Options{FS: fs, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	for name, n := range map[string]int32{"payments": partitions, event.TopicDeadLetters: 2, TopicReplays: 1} {
		if _, ok := l.Topic(name); ok {
			continue
		}
		if _, err := l.CreateTopic(commitlog.TopicSpec{Name: name, Partitions: n}); err != nil {
			t.Fatal(err)
		}
	}
	return &house{t: t, fs: fs, log: l}
}

func (h *house) open(_ context.Context, topic string, partition int32, from, to int64) (source.Source, error) {
	p, err := h.log.Partition(topic, partition)
	if err != nil {
		return nil, err
	}
	return source.NewPartition(p, source.Options{From: max(from, p.Start()), To: to}), nil
}

func (h *house) replayer(l Log, s *schema.Stream) *Replayer {
	return New([]*schema.Stream{s}, l, h.open, Options{Logger: quiet})
}

// dead writes dead letters in one batch.
func (h *house) dead(partition int32, columns string, ls ...event.DeadLetter) {
	h.t.Helper()
	var recs []sink.Record
	for i := range ls {
		ls[i].Stream = "payments"
		r := sink.Record{Timestamp: time.Now().UnixMilli(), Value: ls[i].AppendJSON(nil)}
		if i == 0 && columns != "" {
			r.Headers = []sink.Header{{Key: loader.HeaderColumns, Value: []byte(columns)}}
		}
		recs = append(recs, r)
	}
	s := sink.NewLocal(h.log)
	base, err := s.Append(h.t.Context(), event.TopicDeadLetters, partition, recs)
	if err == nil {
		err = s.Durable(h.t.Context(), event.TopicDeadLetters, partition, base+int64(len(recs))-1)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

type stored struct {
	partition int32
	record.Record
}

func (h *house) stored() (out []stored) {
	h.t.Helper()
	for p := range int32(partitions) {
		part, err := h.log.Partition("payments", p)
		if err != nil {
			h.t.Fatal(err)
		}
		c := part.NewCursor(part.Start())
		for {
			b, err := part.Read(c, 1<<20)
			if err != nil {
				h.t.Fatal(err)
			}
			if len(b) == 0 {
				break
			}
			var r record.Reader
			r.Reset(bytes.Clone(b))
			for rec, err := r.Next(); err == nil; rec, err = r.Next() {
				one := *rec
				one.Value, one.Key, one.Headers = bytes.Clone(rec.Value), bytes.Clone(rec.Key), slices.Clone(rec.Headers)
				out = append(out, stored{p, one})
			}
		}
	}
	return out
}

func (s *stored) header(name string) string {
	for _, h := range s.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}

func pay(card string, amount string) []byte {
	return fmt.Appendf(nil, `{"ts":"2026-01-01T00:00:00Z","card":"%s","amount":%s}`, card, amount)
}

func TestReplay(t *testing.T) {
	h := openHouse(t, vfs.NewMem(1))
	h.dead(0, "",
		event.DeadLetter{Reason: "type", Topic: "payments", Partition: 2, Offset: 7, Raw: pay("a", "1.005")},
		event.DeadLetter{Reason: "type", Topic: "payments", Partition: 2, Offset: 8, Raw: pay("a", `"x"`)},
		event.DeadLetter{Reason: "missing", Topic: "payments", Partition: 1, Offset: 9, Raw: []byte(`{"ts":"2026-01-01T00:00:00Z"}`)},
		event.DeadLetter{Reason: "size", Topic: "payments", Partition: 1, Offset: 10, Raw: make([]byte, loader.MaxRaw)})
	h.dead(1, `["amount","card","ts"]`,
		event.DeadLetter{Reason: "type", File: "x.csv", Line: 2, Raw: []byte("1.5,b,2026-01-01T00:00:00Z")},
		event.DeadLetter{Reason: "syntax", File: "x.csv", Line: 3, Raw: []byte("1.5,b")})
	h.dead(1, `null`, event.DeadLetter{Reason: "type", File: "http", Line: 2, Raw: pay("c", "2")})
	s := sink.NewLocal(h.log)
	r := h.replayer(s, payments())

	dry, err := r.Replay(t.Context(), Request{Stream: "payments", DryRun: true})
	if err != nil || dry.Replayed != 3 || len(h.stored()) != 0 {
		t.Fatalf("dry run: %+v, %v, %d records", dry, err, len(h.stored()))
	}
	res, err := r.Replay(t.Context(), Request{Stream: "payments", Reason: "type"})
	if err != nil || res.Read != 4 || res.Replayed != 3 || res.Bad["type"] != 1 || res.Cut != 0 || !strings.Contains(res.Example, "amount") {
		t.Fatalf("%+v, %v", res, err)
	}
	want := map[string]stored{
		"0/0": {2, record.Record{Key: []byte("a"), Value: pay("a", "1.005")}},
		"1/0": {sink.Partition([]byte("b"), partitions), record.Record{Key: []byte("b"), Value: pay("b", "1.5")}},
		"1/2": {sink.Partition([]byte("c"), partitions), record.Record{Key: []byte("c"), Value: pay("c", "2")}},
	}
	got := h.stored()
	for i := range got {
		g := &got[i]
		w, ok := want[g.header(HeaderReplayed)]
		if !ok || g.partition != w.partition || !bytes.Equal(g.Key, w.Key) || !bytes.Equal(g.Value, w.Value) {
			t.Errorf("%d %s %s %v", g.partition, g.Key, g.Value, g.Headers)
		}
		if inTopic := g.header(HeaderReplayed) == "0/0"; inTopic != (g.header(HeaderOriginal) == "payments/2/7") {
			t.Errorf("%s: %v", g.Value, g.Headers)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d records", len(got))
	}
	// Again, by the same replayer and by one that has to read what was done.
	for _, r := range []*Replayer{r, h.replayer(s, payments())} {
		res, err := r.Replay(t.Context(), Request{Stream: "payments"})
		if err != nil || res.Read != 7 || res.Replayed != 0 || res.Already != 3 || res.Cut != 1 || res.Bad["missing"] != 1 || res.Bad["syntax"] != 1 || len(h.stored()) != 3 {
			t.Errorf("%+v, %v, %d records", res, err, len(h.stored()))
		}
	}
	if _, err := r.Replay(t.Context(), Request{Stream: "paymets"}); !errors.Is(err, ErrUnknownStream) {
		t.Error(err)
	}
}

// TestPanic replays records on which deciding failed only when they are named.
func TestPanic(t *testing.T) {
	h := openHouse(t, vfs.NewMem(1))
	h.dead(0, "", event.DeadLetter{Reason: ReasonPanic, Topic: "payments", Raw: pay("a", "1")})
	r := h.replayer(sink.NewLocal(h.log), payments())
	for reason, want := range map[string]int64{"": 0, ReasonPanic: 1} {
		if res, err := r.Replay(t.Context(), Request{Stream: "payments", Reason: reason, DryRun: true}); err != nil || res.Replayed != want || res.Bad[ReasonPanic] != 1-want {
			t.Errorf("%q: %+v, %v", reason, res, err)
		}
	}
}

// TestOriginal: a copy says so only where the original is good at its own time.
func TestOriginal(t *testing.T) {
	h := openHouse(t, vfs.NewMem(1))
	raw := fmt.Appendf(nil, `{"ts":%q,"card":"a","amount":1}`, time.Now().Add(30*time.Second).UTC().Format(time.RFC3339))
	h.dead(0, "", event.DeadLetter{Reason: "time", Topic: "payments", Raw: raw})
	s := payments()
	s.MaxAhead = time.Second
	r := New([]*schema.Stream{s}, sink.NewLocal(h.log), h.open, Options{Logger: quiet, Now: func() time.Time { return time.Now().Add(time.Minute) }})
	if res, err := r.Replay(t.Context(), Request{Stream: "payments"}); err != nil || res.Replayed != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	if got := h.stored(); len(got) != 1 || got[0].header(HeaderOriginal) != "" {
		t.Errorf("%v", got)
	}
}

func TestNotGuessed(t *testing.T) {
	h := openHouse(t, vfs.NewMem(1))
	h.dead(0, "", event.DeadLetter{Reason: "type", File: "x.csv", Line: 2, Raw: []byte("1.5,b,2026-01-01T00:00:00Z")})
	s := sink.NewLocal(h.log)
	secret := payments()
	secret.Fields[1].Sensitive = schema.HMAC
	if res, err := h.replayer(s, secret).Replay(t.Context(), Request{Stream: "payments", Columns: []string{"amount", "card", "ts"}}); err != nil || res.Unplaced != 1 || res.Replayed != 0 {
		t.Errorf("%+v, %v", res, err)
	}
	r := h.replayer(s, payments())
	if res, err := r.Replay(t.Context(), Request{Stream: "payments"}); err != nil || res.Unknown != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	if res, err := r.Replay(t.Context(), Request{Stream: "payments", Columns: []string{"a", "b", "c"}}); err != nil || res.Bad["missing"] != 1 {
		t.Errorf("%+v, %v", res, err)
	}
	if res, err := r.Replay(t.Context(), Request{Stream: "payments", Columns: []string{"amount", "card", "ts"}}); err != nil || res.Replayed != 1 {
		t.Errorf("%+v, %v", res, err)
	}
}

// breaking fails, and crashes the file system's clone, at the nth append.
type breaking struct {
	*sink.Local
	left  int
	fs    *vfs.Mem
	clone *vfs.Mem
}

var errBroken = errors.New("broken")

func (b *breaking) AppendBatch(ctx context.Context, topic string, partition int32, batch []byte) (int64, error) {
	if b.left--; b.left < 0 {
		if b.clone == nil {
			b.clone = b.fs.CrashClone()
		}
		return 0, errBroken
	}
	return b.Local.AppendBatch(ctx, topic, partition, batch)
}

// TestInterrupted breaks a replay at every append that it makes, and goes on after
// a crash and without one: each dead letter is in the stream once.
func TestInterrupted(t *testing.T) {
	const letters = 1500
	for at := range 14 {
		for _, crash := range []bool{false, true} {
			fs := vfs.NewMem(uint64(at))
			h := openHouse(t, fs)
			r := rand.New(rand.NewPCG(uint64(at), 0))
			var ls []event.DeadLetter
			for i := range letters {
				ls = append(ls, event.DeadLetter{Reason: "type", Topic: "payments", Partition: int32(r.IntN(partitions)), Offset: int64(i), Raw: pay(fmt.Sprint("c", i), "1")})
			}
			h.dead(0, "", ls...)
			b := &breaking{Local: sink.NewLocal(h.log), left: at, fs: fs}
			replayer := h.replayer(b, payments())
			_, err := replayer.Replay(t.Context(), Request{Stream: "payments"})
			if err != nil && !errors.Is(err, errBroken) {
				t.Fatal(err)
			}
			b.left = 1 << 30
			if crash && b.clone != nil {
				h = openHouse(t, b.clone)
				replayer = h.replayer(sink.NewLocal(h.log), payments())
			}
			res, err := replayer.Replay(t.Context(), Request{Stream: "payments"})
			if err != nil || res.Replayed+res.Already != letters {
				t.Fatalf("append %d, crash %t: %+v, %v", at, crash, res, err)
			}
			seen := map[string]int{}
			for _, s := range h.stored() {
				seen[string(s.Value)]++
			}
			for v, n := range seen {
				if n != 1 {
					t.Errorf("append %d, crash %t: %d times %s", at, crash, n, v)
				}
			}
			if len(seen) != letters {
				t.Errorf("append %d, crash %t: %d of %d", at, crash, len(seen), letters)
			}
		}
	}
}
