package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirstream/weir/cep/reservoir"
	"github.com/weirstream/weir/cep/window"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/test/seeds"
)

// catalogue is programs by their IDs.
type catalogue []Program

func (c catalogue) byID(id string) (Program, error) {
	for _, p := range c {
		if p.ID() == id {
			return p, nil
		}
	}
	return nil, fmt.Errorf("no program %q", id)
}

// changing are two programs with equal windows, and one with others; and the same with
// their events on disk.
var changing = catalogue{testProgram{"p1", 20 * time.Second}, testProgram{"p2", 20 * time.Second}, testProgram{"p3", 35 * time.Second},
	diskProgram{testProgram{"d1", 20 * time.Second}}, diskProgram{testProgram{"d2", 20 * time.Second}}, diskProgram{testProgram{"d3", 35 * time.Second}}}

// diskProgram has the windows of testProgram with their events on disk.
type diskProgram struct{ testProgram }

func (p diskProgram) Instance(s *schema.Stream) (Instance, error) {
	amount := func(b *event.Batch, row int) (uint64, bool) { return uint64(b.Cols[2].Int64[row]), true }
	op, err := window.NewLong(window.Config{Keys: []int{1}, Values: []window.Value{{Type: s.Schema.Fields[2].Type, Read: amount}},
		Outputs: []window.Output{{Slot: 0, Extent: window.Extent{Length: p.longest}, Aggregate: window.Count, Value: -1}, {Slot: 1, Extent: window.Extent{Length: p.longest}, Aggregate: window.Sum}}},
		reservoir.Options{ChunkRows: 20, SegmentBytes: 500})
	return &testInstance{op: Operator{Identity: fmt.Sprint("long", p.longest), Name: "by(s.key) on disk", Operator: op}, scale: s.Schema.Fields[2].Type}, err
}

// TestProgramChanges changes the program while events are decided, and over restarts and
// kills: a replay with the journal decides each event with the program that did, and
// with the windows as they were.
func TestProgramChanges(t *testing.T) {
	switches := 0
	seeds.Each(t, 20, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 61))
		b := newBench(seed, nil)
		b.opts.Programs = changing.byID
		b.stream.AllDecisions = r.IntN(2) == 0
		in := randomInput(r)
		for parts, kills := 1+r.IntN(4), r.IntN(5); parts > 0; {
			parts--
			b.produceSome(r, "in", in, parts == 0)
			for {
				b.opts.BatchRows = 1 + r.IntN(300)
				b.opts.CheckpointEvery = []time.Duration{time.Nanosecond, time.Millisecond, time.Hour}[r.IntN(3)]
				if kills > 0 && r.IntN(2) == 0 {
					kills--
					b.log.fuse = 1 + r.IntN(40)
				}
				b.runChanging(t, r, r.IntN(2) == 0)
				dead := b.log.dead
				b.log.revive()
				b.fs = b.fs.CrashClone()
				if !dead {
					break
				}
			}
		}
		switches += b.journaled(kindProgram) - testPartitions
		for range 3 {
			ranges := randomRange(r, b, streams(b))
			b.prog = changing[r.IntN(len(changing))]
			sameReplay(t, ranges.inRange(b.result()), b.replay(t, r, streams(b), ranges, ReplayOptions{}))
		}
	})
	if switches <= 0 {
		t.Error("no program was ever changed: the test looks at nothing")
	}
}

// runChanging runs an engine until all input is decided or the log is killed, and
// declares other programs meanwhile. It may wait until the last one is in force.
func (b *bench) runChanging(t *testing.T, r *rand.Rand, wait bool) {
	t.Helper()
	e := b.engine(t)
	stop := start(t, e)
	for range r.IntN(4) {
		b.prog = changing[r.IntN(len(changing))]
		if err := e.Declare(streams(b), b.prog, nil); err != nil {
			t.Fatal(err)
		}
		if r.IntN(2) == 0 {
			time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond) // anywhere in the log
		}
	}
	killed := b.log.waitEnds("in", int(b.stream.Partitions))
	for wait && !killed {
		inForce := 0
		for _, s := range e.Status() {
			if s.Program == b.prog.ID() {
				inForce++
			}
		}
		killed = b.log.isDead()
		if wait = inForce < testPartitions; wait {
			time.Sleep(time.Millisecond)
		}
	}
	if err := stop(); err != nil && !killed && !b.log.isDead() {
		t.Fatal(err)
	}
}

// holdUp holds up who reads a topic from its beginning, until it is opened.
type holdUp struct {
	*memLog
	topic  string
	opened chan struct{}
	waits  chan struct{}
	once   sync.Once
}

func (g *holdUp) open(ctx context.Context, topic string, partition int32, from int64) (source.Source, error) {
	src, err := g.memLog.open(ctx, topic, partition, from)
	if topic == g.topic && from == 0 {
		src = &gated{src, g}
	}
	return src, err
}

type gated struct {
	source.Source
	*holdUp
}

func (g *gated) Next(ctx context.Context) (source.Chunk, error) {
	g.once.Do(func() { close(g.waits) })
	select {
	case <-g.opened:
		return g.Source.Next(ctx)
	case <-ctx.Done():
		return source.Chunk{}, ctx.Err()
	}
}

// TestWarming declares a program with a new window: while that is made from the log, the
// one before decides what comes; then the new one does, as if it always had.
func TestWarming(t *testing.T) {
	r := rand.New(rand.NewPCG(62, 62))
	b := newBench(62, nil)
	b.stream = testStream(1)
	b.opts.Programs, b.stream.AllDecisions = changing.byID, true
	all := inputs(r, 3*(warmNear+1000))
	third := len(all) / 3
	b.log.produce("in", 0, all[:third]...)
	b.run(t) // so that nothing but the warming reads from the beginning
	g := &holdUp{memLog: b.log, topic: "in", opened: make(chan struct{}), waits: make(chan struct{})}
	e := b.engine(t, func(o *Options) { o.Open = g.open })
	stop := start(t, e)
	status := func(what string, is func(s ShardStatus) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if s := e.Status()[0]; is(s) {
				return
			} else if time.Now().After(end) {
				t.Fatalf("%s: status %+v", what, s)
			}
		}
	}
	if err := e.Declare(streams(b), changing[2], nil); err != nil {
		t.Fatal(err)
	}
	<-g.waits
	b.log.produce("in", 0, all[third:2*third]...)
	status("while it is warmed", func(s ShardStatus) bool {
		return s.Cursor == int64(2*third) && s.Program == "p1" && s.Warming == "p3" && s.Warmed == 0
	})
	close(g.opened)
	status("once it is warm", func(s ShardStatus) bool { return s.Program == "p3" && s.Warming == "" })
	b.log.produce("in", 0, all[2*third:]...)
	b.log.waitEnds("in", 1)
	// Equal windows: nothing is read, as holdUp would tell.
	g.opened = make(chan struct{})
	if err := e.Declare(streams(b), testProgram{"p4", 35 * time.Second}, nil); err != nil {
		t.Fatal(err)
	}
	status("with equal windows", func(s ShardStatus) bool { return s.Program == "p4" })
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	whole := newBench(63, nil)
	whole.stream, whole.prog = b.stream, changing[2]
	whole.log.produce("in", 0, all...)
	whole.run(t)
	got, want := b.result(), whole.result()
	for name := range want {
		want[name], got[name] = since(want[name], 2*third), since(got[name], 2*third)
	}
	sameResults(t, want, got)
	decided := b.log.outputOf(event.TopicDecisions, outputPartitions, "in/0")
	for _, line := range decided {
		by := "p1"
		if at := since([]string{line}, 2*third); len(at) > 0 {
			by = "p3"
		}
		if strings.Contains(line, "/live") && !strings.Contains(line, fmt.Sprintf(`"program":%q`, by)) {
			t.Fatalf("not by %s: %s", by, line)
		}
	}
}

// unreadable is a log that cannot be read from its beginning.
type unreadable struct{ source.Source }

func (unreadable) Next(context.Context) (source.Chunk, error) {
	return source.Chunk{}, errors.New("the disk is gone")
}

// TestWarmingFails: why a new window cannot be made is told, until another program is
// declared; the one before goes on.
func TestWarmingFails(t *testing.T) {
	b := newBench(65, nil)
	b.stream = testStream(1)
	b.opts.Programs = changing.byID
	b.log.produce("in", 0, inputs(rand.New(rand.NewPCG(65, 65)), warmNear+10)...)
	b.run(t)
	e := b.engine(t, func(o *Options) {
		o.Open = func(ctx context.Context, topic string, partition int32, from int64) (source.Source, error) {
			src, err := b.log.open(ctx, topic, partition, from)
			if topic == "in" && from == 0 {
				src = unreadable{src}
			}
			return src, err
		}
	})
	stop := start(t, e)
	for _, p := range []struct {
		program Program
		told    bool
	}{{changing[2], true}, {b.prog, false}} {
		if err := e.Declare(streams(b), p.program, nil); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if s := e.Status()[0]; strings.Contains(s.WarmingErr, "in[0]@0: warm windows: the disk is gone") == p.told && (p.told || s.WarmingErr == "") && s.Err == "" && s.Program == b.prog.ID() {
				break
			} else if time.Now().After(end) {
				t.Fatalf("%s declared: status %+v", p.program.ID(), s)
			}
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// TestChangeReleases takes the only rule with a window away while events are decided: its
// state goes, and so does what it had pinned of the log.
func TestChangeReleases(t *testing.T) {
	b := newBench(64, nil)
	b.stream = testStream(1)
	b.prog = testProgram{"p1", 100 * time.Hour}
	b.opts.CheckpointEvery = time.Nanosecond
	pins := &pinning{pins: map[string]int64{}}
	b.opts.Pin = pins.pin
	o := b.opts
	o.FS, o.Dir, o.Open, o.Sink = b.fs, "checkpoints", b.log.open, b.log
	e, err := New(streams(b), b.prog, o)
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, e)
	all := inputs(rand.New(rand.NewPCG(64, 64)), 2000)
	pinned := func() int64 {
		pins.mu.Lock()
		defer pins.mu.Unlock()
		return pins.pins["in/0"]
	}
	decide := func(n int) {
		t.Helper()
		b.log.produce("in", 0, all[:n]...)
		all = all[n:]
		for e.Status()[0].Cursor < int64(2000-len(all)) && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
	}
	for range 5 {
		decide(200)
	}
	if at := pinned(); at != 0 || e.Operators()[0].Keys == 0 {
		t.Fatalf("before: pinned from %d, %+v", at, e.Operators())
	}
	if err := e.Declare(streams(b), ruleAbove{"p2", 5000}, nil); err != nil {
		t.Fatal(err)
	}
	for pinned() == 0 && len(all) > 0 {
		decide(10)
	}
	if at := pinned(); at < 1000 || len(e.Operators()) > 0 {
		t.Errorf("after: pinned from %d, %+v", at, e.Operators())
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
