package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

const (
	testPartitions   = 3
	outputPartitions = 2
)

// bench is one engine over one log and one directory of checkpoints.
type bench struct {
	log    *memLog
	fs     *vfs.Mem
	opts   Options
	prog   Program
	stream *schema.Stream
}

func newBench(seed uint64, in [][]string) *bench {
	b := &bench{log: newMemLog(seed), fs: vfs.NewMem(seed), prog: testProgram{"p1", 20 * time.Second}, stream: testStream(testPartitions)}
	for p, values := range in {
		b.log.produce("in", int32(p), values...)
	}
	b.opts = Options{OutputPartitions: map[string]int32{event.TopicDecisions: outputPartitions, event.TopicAlerts: outputPartitions},
		CheckpointEvery: time.Hour, KeyedWait: -1, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}
	return b
}

// run runs an engine until all input is decided or the log is killed. It returns
// the status at the end.
func (b *bench) run(t *testing.T) []ShardStatus {
	t.Helper()
	return b.runEngine(t).Status()
}

func (b *bench) runEngine(t *testing.T) *Engine {
	t.Helper()
	e := b.engine(t)
	b.until(t, e, streams(b))
	return e
}

// engine is an engine on the bench, with what a test has changed of its options.
func (b *bench) engine(t *testing.T, changes ...func(*Options)) *Engine {
	t.Helper()
	return b.engineOf(t, streams(b), changes...)
}

func (b *bench) engineOf(t *testing.T, streams []*schema.Stream, changes ...func(*Options)) *Engine {
	t.Helper()
	o := b.opts
	o.FS, o.Dir, o.Open, o.Sink = b.fs, "checkpoints", b.log.open, b.log
	for _, change := range changes {
		change(&o)
	}
	e, err := New(streams, b.prog, o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// start runs an engine; what it returns stops it.
func start(t testing.TB, e *Engine) (stop func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	return func() error { cancel(); return <-done }
}

// untilDecided has all input decided in lives that are begun by life, all but the last
// killed, within so many appends.
func (b *bench) untilDecided(r *rand.Rand, kills, appends int, life func()) {
	for ; ; kills-- {
		b.opts.BatchRows = 1 + r.IntN(300)
		b.opts.CheckpointEvery = []time.Duration{time.Nanosecond, time.Millisecond, time.Hour}[r.IntN(3)]
		if kills > 0 {
			b.log.fuse = r.IntN(appends)
		}
		life()
		if kills <= 0 && !b.log.dead {
			return
		}
		b.log.revive()
		b.fs = b.fs.CrashClone()
	}
}

// produceSome appends a random part of what is left of the input, or all of it.
func (b *bench) produceSome(r *rand.Rand, topic string, left [][]string, all bool) {
	for p, values := range left {
		n := len(values)
		if !all {
			n = r.IntN(n + 1)
		}
		b.log.produce(topic, int32(p), values[:n]...)
		left[p] = values[n:]
	}
}

// until runs an engine until the streams' topics are read to their ends, or the log is
// killed.
func (b *bench) until(t *testing.T, e *Engine, streams []*schema.Stream) {
	t.Helper()
	stop := start(t, e)
	killed := false
	for _, s := range streams {
		killed = killed || b.log.waitEnds(s.Topic, int(s.Partitions))
	}
	if err := stop(); err != nil && !killed && !b.log.isDead() {
		t.Fatal(err)
	}
}

// result is what the engine wrote, by source partition and topic.
func (b *bench) result() map[string][]string {
	out := map[string][]string{}
	for p := range b.stream.Partitions {
		origin := fmt.Sprintf("in/%d", p)
		for _, topic := range []string{event.TopicDecisions, event.TopicAlerts, event.TopicDeadLetters} {
			out[topic+" of "+origin] = b.log.outputOf(topic, outputPartitions, origin)
		}
	}
	return out
}

func sameResults(t *testing.T, want, got map[string][]string) {
	t.Helper()
	for name, w := range want {
		g := got[name]
		for i := range max(len(w), len(g)) {
			switch {
			case i >= len(g):
				t.Errorf("%s: %d records, want %d; missing %s", name, len(g), len(w), w[i])
			case i >= len(w):
				t.Errorf("%s: %d records, want %d; too many %s", name, len(g), len(w), g[i])
			case w[i] != g[i]:
				t.Errorf("%s, record %d:\n got %s\nwant %s", name, i, g[i], w[i])
			default:
				continue
			}
			break
		}
	}
}

func randomInput(r *rand.Rand) [][]string {
	in := make([][]string, testPartitions)
	for p := range in {
		in[p] = inputs(r, r.IntN(1500))
	}
	return in
}

// TestReplayEquality wants the same bytes straight through, with any batch size,
// with a checkpoint at every chunk, and killed and restored at random points.
func TestReplayEquality(t *testing.T) {
	seeds.Each(t, 25, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		in := randomInput(r)
		straight := newBench(seed, in)
		straight.stream.AllDecisions = r.IntN(4) == 0
		if r.IntN(3) == 0 {
			straight.stream.WatermarkBy, straight.stream.WatermarkIdle = []int{1}, 8*time.Second
		}
		wantStatus := straight.run(t)
		want := straight.result()

		b := newBench(seed+1, in)
		b.stream = straight.stream
		var status []ShardStatus
		b.untilDecided(r, r.IntN(6), 30, func() { status = b.run(t) })
		sameResults(t, want, b.result())
		for i := range status {
			w, g := wantStatus[i], status[i]
			g.Restarts = w.Restarts
			if w != g {
				t.Errorf("status %+v\n  want %+v", g, w)
			}
		}
	})
}

// TestProgramChange restarts with a program whose window is longer: its state is
// made from the log, and what comes after equals a run with that program alone.
func TestProgramChange(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	first, second := inputs(r, 800), inputs(r, 800)
	b := newBench(5, nil)
	b.stream = testStream(1)
	b.log.produce("in", 0, first...)
	b.run(t)
	b.prog = testProgram{"p2", 60 * time.Second}
	b.log.produce("in", 0, second...)
	b.run(t)

	alone := newBench(6, nil)
	alone.stream, alone.prog = b.stream, b.prog
	alone.log.produce("in", 0, append(slices.Clone(first), second...)...)
	alone.run(t)
	got, want := b.result(), alone.result()
	for name := range want {
		want[name], got[name] = since(want[name], len(first)), since(got[name], len(first))
	}
	sameResults(t, want, got)
}

// since is what of a result is of events from an offset on.
func since(all []string, offset int) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool {
		parts := strings.Split(strings.Fields(s)[1], "/")
		n, err := strconv.Atoi(parts[2])
		return err != nil || n < offset
	})
}

func streams(b *bench) []*schema.Stream { return []*schema.Stream{b.stream} }

// TestDamagedCheckpoint flips a byte in the manifest of the newest checkpoint, or in
// the last of its frames: the one before it does, or the log alone.
func TestDamagedCheckpoint(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	in := randomInput(r)
	straight := newBench(7, in)
	straight.run(t)
	for _, damage := range []struct {
		suffix string
		last   int
	}{{".manifest", 1}, {".manifest", 2}, {".frames", 1}, {".frames", 99}} {
		b := newBench(8, in)
		b.opts.CheckpointEvery = time.Nanosecond
		b.run(t)
		names, err := b.fs.List("checkpoints/s-0")
		if err != nil {
			t.Fatal(err)
		}
		names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, damage.suffix) })
		if len(names) < damage.last && damage.last < 99 {
			t.Fatalf("checkpoints %v", names)
		}
		for _, n := range names[max(0, len(names)-damage.last):] {
			info, err := b.fs.Stat("checkpoints/s-0/" + n)
			if err != nil {
				t.Fatal(err)
			}
			if err := vfs.FlipByte(b.fs, "checkpoints/s-0/"+n, info.Size-1); err != nil {
				t.Fatal(err)
			}
		}
		b.log.ends = map[string]bool{}
		b.run(t)
		sameResults(t, straight.result(), b.result())
	}
}

// TestOldCheckpoint restores from a checkpoint in one file, as version 4 wrote it.
func TestOldCheckpoint(t *testing.T) {
	b := newBench(9, nil)
	b.stream = testStream(1)
	produce := func(from, to int) {
		for i := from; i < to; i++ {
			b.log.produce("in", 0, fmt.Sprintf(`{"ts": %d, "key": "k%d", "amount": 96}`, 1000+i, i%5))
		}
	}
	produce(0, 100)
	s := b.runEngine(t).shards()[0]
	s.passed = nil
	meta, err := s.encode(needs{})
	if err != nil {
		t.Fatal(err)
	}
	old := slices.Clone(meta[:len(meta)-4-3]) // without the checksum, and three zeros of version 5
	old[len(checkpointMagic)] = 4
	ops := s.stateful()
	var state bytes.Buffer
	w := cep.NewSnapshotWriter(&state)
	w.Uvarint(uint64(len(ops)))
	for _, op := range ops {
		w.Bytes([]byte(op.Identity))
		if err := appendSnapshot(w, op.Snapshot); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := vfs.RemoveAll(b.fs, "checkpoints/s-0"); err != nil {
		t.Fatal(err)
	}
	if err := b.fs.MkdirAll("checkpoints/s-0"); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFile(b.fs, "checkpoints/s-0/00000000000000000007.checkpoint", sealed(append(old, state.Bytes()...))); err != nil {
		t.Fatal(err)
	}
	b.log.parts["in/0"].recs[0].Value = []byte("what would be seen if the log were read again")
	for range 3 { // the last time the old file is gone
		produce(100, 110)
		if st := b.run(t)[0]; st.DeadLetters != 0 {
			t.Fatalf("status %+v", st)
		}
	}
	names, err := b.fs.List("checkpoints/s-0")
	if err != nil || slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".checkpoint") }) {
		t.Errorf("checkpoints %v %v", names, err)
	}
	if got := b.log.outputOf(event.TopicDecisions, outputPartitions, "in/0"); len(got) < 130 {
		t.Errorf("%d decisions", len(got))
	}
}

// TestPanic wants a record that makes the program panic in the dead letters, and
// all others decided.
func TestPanic(t *testing.T) {
	b := newBench(9, nil)
	b.stream = testStream(1)
	b.opts.BatchRows = 16
	for i := range 50 {
		amount := "95.00"
		if i == 20 {
			amount = "666"
		}
		b.log.produce("in", 0, fmt.Sprintf(`{"ts": %d, "key": "k", "amount": %s}`, 1000+100*i, amount))
	}
	st := b.run(t)[0]
	if st.Events != 49 || st.DeadLetters != 1 || st.Decisions != 49 || st.Alerts != 49 || st.Restarts != 3 {
		t.Errorf("status %+v", st)
	}
	dead := b.log.outputOf(event.TopicDeadLetters, 1, "in/0")
	if len(dead) != 1 || !strings.Contains(dead[0], `"reason":"panic"`) || !strings.Contains(dead[0], "in/0/20/deadletter") {
		t.Errorf("dead letters %q", dead)
	}
	// Another process meets the same record while it makes state from the log.
	b.prog = testProgram{"p2", 60 * time.Second}
	b.log.produce("in", 0, `{"ts": 9000, "key": "k", "amount": 96}`)
	if st := b.run(t)[0]; st.Events != 50 || st.DeadLetters != 1 || st.Decisions != 50 {
		t.Errorf("status %+v", st)
	}
}

// TestErrorIsShown wants an error of the log in Status, and the work done once it
// is gone.
func TestErrorIsShown(t *testing.T) {
	b := newBench(10, nil)
	b.stream = testStream(1)
	b.log.produce("in", 0, `{"ts": 1000, "key": "k", "amount": 96}`)
	failures := 0
	reg := prometheus.NewRegistry()
	e := b.engine(t, func(o *Options) {
		o.Registerer = reg
		o.Sink = failing{b.log, func() error {
			if failures++; failures <= 2 {
				return errors.New("disk full")
			}
			return nil
		}}
	})
	stop := start(t, e)
	b.log.waitEnds("in", 1)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if st := e.Status()[0]; st.Restarts != 2 || st.Decisions != 1 || st.Err != "" {
		t.Errorf("status %+v", st)
	}
	lints, err := testutil.GatherAndLint(reg)
	if err != nil || len(lints) > 0 {
		t.Errorf("metrics: %v %v", err, lints)
	}
	want := "# HELP weir_engine_decisions_total Decision records, live and shadow, made by this process.\n# TYPE weir_engine_decisions_total counter\nweir_engine_decisions_total{partition=\"0\",stream=\"s\"} 1\n"
	if err := testutil.GatherAndCompare(reg, bytes.NewBufferString(want), "weir_engine_decisions_total"); err != nil {
		t.Error(err)
	}
}

// TestRows looks at the records of one event on which everything fires.
func TestRows(t *testing.T) {
	b := newBench(11, nil)
	b.stream = testStream(1)
	for range 3 {
		b.log.produce("in", 0, `{"ts": 1000, "key": "k", "amount": 96}`)
	}
	b.run(t)
	got := b.result()
	var d event.Decision
	decisions := got[event.TopicDecisions+" of in/0"]
	if len(decisions) != 4 {
		t.Fatalf("%d decisions, want three live and one shadow: %q", len(decisions), decisions)
	}
	if err := d.UnmarshalJSON([]byte(strings.SplitN(decisions[2], " ", 4)[3])); err != nil {
		t.Fatal(err)
	}
	if d.Action != "decline" || d.Score != 10 || !slices.Equal(d.Rules, []string{"often", "big"}) || d.Role != "live" || d.Program != "p1" || d.Key != "k" || len(d.Values) != 2 {
		t.Errorf("live decision %+v", d)
	}
	if !strings.HasPrefix(decisions[3], `1000000 in/0/2/shadow:much "k" {"time":"1970-01-01T00:16:40Z","stream":"s","key":"k","action":"review","score":1,"rules":["much"]`) {
		t.Errorf("shadow decision %s", decisions[3])
	}
	if alerts := got[event.TopicAlerts+" of in/0"]; len(alerts) != 4 || !strings.Contains(alerts[3], `"id":"in/0/2/big"`) {
		t.Errorf("alerts %q", alerts)
	}
}

// TestAnotherTopic wants a clear error where the log is shorter than what the
// checkpoint has seen.
func TestAnotherTopic(t *testing.T) {
	b := newBench(12, nil)
	b.stream = testStream(1)
	for range 3 {
		b.log.produce("in", 0, `{"ts": 1000, "key": "k", "amount": 96}`)
	}
	b.run(t)
	b.log.parts = map[string]*memPartition{}
	b.log.produce("in", 0, `{"ts": 1000, "key": "k", "amount": 96}`)
	e := b.engine(t)
	if err := e.shards()[0].restore(t.Context()); err == nil || !strings.Contains(err.Error(), "in[0]: the checkpoint is at offset 3 and the topic ends at 1") {
		t.Errorf("error %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	b := newBench(1, nil)
	o := b.opts
	if _, err := New(nil, b.prog, o); err == nil {
		t.Error("no FS: accepted")
	}
	o.FS, o.Open, o.Sink = b.fs, b.log.open, b.log
	if _, err := New([]*schema.Stream{testStream(1), testStream(1)}, b.prog, o); err == nil {
		t.Error("one topic twice: accepted")
	}
}

// TestNoStreams: an engine with nothing to decide runs until it is told to stop.
func TestNoStreams(t *testing.T) {
	b := newBench(1, nil)
	o := b.opts
	o.FS, o.Open, o.Sink = b.fs, b.log.open, b.log
	e, err := New(nil, b.prog, o)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- e.Run(ctx) }()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("ended by itself: %v", err)
		default:
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	f.Add([]byte(checkpointMagic))
	f.Add([]byte(checkpointMagic + "\x01\x02p1\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = decodeCheckpoint(data)
		_, _ = decodeCheckpoint(sealed(data))
	})
}
