package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// changingKeyed are programs whose windows come from none, one or two keyed streams, equal
// ones, more ones and others.
func changingKeyed(streams []*schema.Stream) []*shopProgram {
	local := func(seconds int) shopWindow {
		return shopWindow{over: "s", reader: "s", past: 1, now: 1, length: time.Duration(seconds) * time.Second}
	}
	keyed := func(name string, by, seconds, chunk int) shopWindow {
		return shopWindow{keyed: name, over: "s", reader: "s", past: by, now: by, length: time.Duration(seconds) * time.Second, chunk: chunk}
	}
	shop30, shop90, device, disk := keyed("shop", 3, 30, 0), keyed("shop", 3, 90, 0), keyed("device", 4, 40, 0), keyed("shop", 3, 60, 7)
	var out []*shopProgram
	for i, windows := range [][]shopWindow{{local(20), shop30}, {local(20), shop30, shop90}, {local(20), shop30, device}, {local(20), device, disk},
		{local(20)}, {local(35), shop90, disk}, {local(20), shop30}, {local(20), local(35), shop30}} {
		out = append(out, &shopProgram{id: string(rune('a' + i)), streams: streams, windows: windows})
	}
	return out
}

// TestKeyedProgramChanges changes between programs with keyed streams while events are
// decided, over restarts and kills. One source partition has the order of its log, so what
// each program would decide is known: every event has the decision of the one that the
// journal names for it, with the windows that it would have had from the beginning.
func TestKeyedProgramChanges(t *testing.T) {
	changes := 0
	seeds.Each(t, 15, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 71))
		streams := []*schema.Stream{shopStream("s", 1)}
		programs := changingKeyed(streams)
		values := shopInputs(r, 200+r.IntN(1500))
		in := map[string][][]string{"s": {values}}
		want := map[string]map[string][]string{}
		for _, p := range programs {
			w := newKeyedBench(seed, p.locally(), 0, in)
			w.run(t)
			want[p.id] = w.result()
		}
		b := newKeyedBench(seed+1, programs[r.IntN(len(programs))], 1+r.Int32N(4), nil)
		b.opts.Programs = func(id string) (Program, error) {
			for _, p := range programs {
				if p.id == id {
					return p, nil
				}
			}
			return nil, fmt.Errorf("no program %q", id)
		}
		for parts, kills := 1+r.IntN(4), r.IntN(5); parts > 0; {
			parts--
			n := len(values)
			if parts > 0 {
				n = r.IntN(n + 1)
			}
			b.log.produce("in", 0, values[:n]...)
			values = values[n:]
			for {
				b.opts.BatchRows = 1 + r.IntN(300)
				b.opts.CheckpointEvery = []time.Duration{time.Nanosecond, time.Millisecond, time.Hour}[r.IntN(3)]
				if kills > 0 && r.IntN(2) == 0 {
					kills--
					b.log.fuse = 1 + r.IntN(80)
				}
				b.runChanging(t, r, programs, r.IntN(2) == 0)
				dead := b.log.dead
				b.log.revive()
				b.fs = b.fs.CrashClone()
				if !dead {
					break
				}
			}
		}
		b.byTheJournal(t, want)
		changes += b.journaled(kindProgram) - 1
	})
	if changes <= 0 {
		t.Error("no program was ever changed: the test looks at nothing")
	}
}

// runChanging runs an engine until all input is decided or the log is killed, and declares
// programs meanwhile. It may wait until the last one is in force.
func (b *keyedBench) runChanging(t *testing.T, r *rand.Rand, programs []*shopProgram, wait bool) {
	t.Helper()
	e := b.engine(t)
	stop := start(t, e)
	for range r.IntN(4) {
		b.prog = programs[r.IntN(len(programs))]
		if err := e.Declare(b.streams, b.prog, nil); err != nil {
			t.Fatal(err)
		}
		if r.IntN(2) == 0 {
			time.Sleep(time.Duration(r.IntN(20)) * time.Millisecond) // anywhere
		}
	}
	killed := false
	for _, s := range b.streams {
		killed = killed || b.log.waitEnds(s.Topic, int(s.Partitions))
	}
	for end := time.Now().Add(time.Minute); wait && !killed; time.Sleep(time.Millisecond) {
		killed = b.log.isDead()
		wait = slices.ContainsFunc(e.Status(), func(s ShardStatus) bool { return s.Program != b.prog.ID() })
		if time.Now().After(end) {
			t.Fatalf("the program %s does not come into force: %+v", b.prog.ID(), e.Status())
		}
	}
	if err := stop(); err != nil && !killed && !b.log.isDead() {
		t.Fatal(err)
	}
}

// byTheJournal wants each event's decision and alerts to be those of the program that the
// journal names for it; want is what each decides by itself.
func (b *keyedBench) byTheJournal(t *testing.T, want map[string]map[string][]string) {
	t.Helper()
	var marks []journalRecord
	for _, rec := range b.log.part(TopicJournal, 0).recs {
		var m journalRecord
		if err := json.Unmarshal(rec.Value, &m); err != nil {
			t.Fatal(err)
		}
		if m.Kind == kindProgram {
			marks = append(marks, m)
		}
	}
	all := map[string][]string{}
	for i, m := range marks {
		end := int64(1 << 40)
		if i+1 < len(marks) {
			end = marks[i+1].Cursor
		}
		by := m.Program[strings.LastIndex(m.Program, Over)+1:] // of a part of a program, the one before
		for name, lines := range want[by] {
			lines = slices.Clone(lines)
			for i := range lines {
				lines[i] = strings.Replace(lines[i], fmt.Sprintf(`"program":%q`, by), fmt.Sprintf(`"program":%q`, m.Program), 1)
			}
			if strings.HasPrefix(name, event.TopicDeadLetters) {
				all[name] = lines // the same whoever decides
			} else {
				all[name] = append(all[name], between(lines, m.Cursor, end)...)
			}
		}
	}
	defer func() {
		if t.Failed() {
			for _, m := range marks {
				t.Logf("from %d: %s", m.Cursor, m.Program)
			}
		}
	}()
	got := b.result()
	for name := range all {
		if strings.HasPrefix(name, event.TopicAlerts) {
			// What a kill cut off of a decision, the program that is there makes good.
			all[name], got[name] = identities(all[name]), identities(got[name])
		}
	}
	sameResults(t, all, got)
}

func identities(lines []string) (out []string) {
	for _, l := range lines {
		out = append(out, strings.Fields(l)[1])
	}
	return out
}

// between are the records of events from one offset to another.
func between(lines []string, from, to int64) []string {
	lines = since(lines, int(from))
	return lines[:len(lines)-len(since(lines, int(min(to, 1<<40))))]
}

// heldLog notes for how long decisions were held up at changes of the program.
type heldLog struct {
	slog.Handler
	held chan time.Duration
}

func (h *heldLog) Enabled(context.Context, slog.Level) bool { return true }

func (h *heldLog) WithAttrs([]slog.Attr) slog.Handler { return h }

func (h *heldLog) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "held" {
			h.held <- a.Value.Duration()
		}
		return true
	})
	return nil
}

// BenchmarkChange tells for how long decisions are held up at a change to a program with
// equal windows of a million keys, in the stream's own shard and on a keyed stream.
func BenchmarkChange(b *testing.B) {
	const keys = 1_000_000
	for _, name := range []string{"", "shop"} {
		b.Run(map[string]string{"": "own", "shop": "keyed"}[name], func(b *testing.B) {
			streams := []*schema.Stream{shopStream("s", 1)}
			of := func(id string) *shopProgram {
				return &shopProgram{id: id, streams: streams, windows: []shopWindow{{keyed: name, over: "s", reader: "s", past: 3, now: 3, length: 90 * time.Hour}}}
			}
			log := newMemLog(1)
			values := make([]string, keys)
			for i := range values {
				values[i] = fmt.Sprintf(`{"ts": %d, "key": "k%d", "amount": 0.04, "shop": "s%d", "device": 1}`, 1000+i/1000, i%7, i)
			}
			log.produce("in", 0, values...)
			h := &heldLog{held: make(chan time.Duration, 10)}
			e, err := New(streams, of("p"), Options{FS: vfs.NewMem(1), Dir: "checkpoints", Open: log.open, Sink: log, Logger: slog.New(h),
				KeyedTopic: func(string, int32) (int32, error) { return 1, nil }})
			if err != nil {
				b.Fatal(err)
			}
			stop := start(b, e)
			for e.Status()[0].Cursor < keys {
				time.Sleep(time.Millisecond)
			}
			held := time.Duration(0)
			b.ResetTimer()
			for i := range b.N {
				if err := e.Declare(streams, of(fmt.Sprint("p", i)), nil); err != nil {
					b.Fatal(err)
				}
				held += <-h.held
			}
			b.ReportMetric(float64(held.Microseconds())/1000/float64(b.N), "ms-held")
			if err := stop(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// refusing is a log that refuses to have a program journaled, other than one, once.
type refusing struct {
	*memLog
	but     string
	refused chan struct{}
}

func (l *refusing) Append(ctx context.Context, topic string, partition int32, recs []sink.Record) (int64, error) {
	for _, rec := range recs {
		var j journalRecord
		if topic != TopicJournal || json.Unmarshal(rec.Value, &j) != nil || j.Kind != kindProgram || j.Program == l.but {
			continue
		}
		select {
		case <-l.refused:
		default:
			close(l.refused)
			return 0, errors.New("disk full")
		}
	}
	return l.memLog.Append(ctx, topic, partition, recs)
}

// TestChangeGivenUp has a change fail when the shards have been paused for it: they go on
// with what they have, and decide what comes.
func TestChangeGivenUp(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 73))
	streams := []*schema.Stream{shopStream("s", 1)}
	programs := changingKeyed(streams)
	first, second := shopInputs(r, 300), shopInputs(r, 300)
	want := newKeyedBench(1, programs[0].locally(), 0, map[string][][]string{"s": {slices.Concat(first, second)}})
	want.run(t)
	b := newKeyedBench(1, programs[0], 3, map[string][][]string{"s": {first}})
	log := &refusing{b.log, programs[0].id, make(chan struct{})}
	b.opts.Programs = func(id string) (Program, error) { return nil, fmt.Errorf("no program %q", id) }
	e := b.engine(t, func(o *Options) { o.Sink = log })
	stop := start(t, e)
	b.log.waitEnds("in", 1)
	if err := e.Declare(b.streams, programs[2], nil); err != nil {
		t.Fatal(err)
	}
	<-log.refused
	b.log.produce("in", 0, second...)
	b.log.waitEnds("in", 1)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if st := e.Status()[0]; st.Restarts != 0 || st.Err != "" {
		t.Errorf("status %+v", st)
	}
	sameResults(t, want.result(), b.result())
}

// jumpy is a program whose operators in its streams' own shards panic at every event.
type jumpy struct {
	*shopProgram
	panicked chan struct{}
}

func (p jumpy) Instance(s *schema.Stream) (Instance, error) {
	in, err := p.shopProgram.Instance(s)
	for i := range in.Operators() {
		op := &in.Operators()[i]
		op.Operator = jumpyOperator{op.Operator, p.panicked}
	}
	return in, err
}

type jumpyOperator struct {
	cep.Operator
	panicked chan struct{}
}

func (o jumpyOperator) Process(*event.Batch, *cep.Outbox) error {
	select {
	case o.panicked <- struct{}{}:
	default:
	}
	panic("jumpy")
}

// TestChangePanics declares a program of which a new window panics at the events that are
// read while the shards stand still for it: they go on with the one before.
func TestChangePanics(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 74))
	streams := []*schema.Stream{shopStream("s", 1)}
	programs := changingKeyed(streams)
	first, second := shopInputs(r, 300), shopInputs(r, 300)
	want := newKeyedBench(1, programs[0].locally(), 0, map[string][][]string{"s": {slices.Concat(first, second)}})
	want.run(t)
	b := newKeyedBench(1, programs[0], 3, map[string][][]string{"s": {first}})
	b.opts.Programs = func(id string) (Program, error) { return nil, fmt.Errorf("no program %q", id) }
	e := b.engine(t)
	stop := start(t, e)
	b.log.waitEnds("in", 1)
	p := jumpy{programs[5], make(chan struct{})}
	if err := e.Declare(b.streams, p, nil); err != nil {
		t.Fatal(err)
	}
	<-p.panicked
	b.log.produce("in", 0, second...)
	waitUntil(t, "what comes is decided", func() bool { return e.Status()[0].Cursor == int64(len(first)+len(second)) })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	b.byTheJournal(t, map[string]map[string][]string{programs[0].id: want.result()})
}

// TestChangeWarmsOnce changes to a program in two steps, of which the second needs a new
// window: that is made once, however late the shards run again behind the first.
func TestChangeWarmsOnce(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // who starts a goroutine goes on before it
	streams := []*schema.Stream{shopStream("s", 1)}
	programs := changingKeyed(streams)
	b := newKeyedBench(1, programs[0], 3, map[string][][]string{"s": {shopInputs(rand.New(rand.NewPCG(1, 75)), 300)}})
	opened := atomic.Int64{}
	e := b.engine(t, func(o *Options) {
		o.Open = func(ctx context.Context, topic string, partition int32, from int64) (source.Source, error) {
			if topic == "in" && from == 0 {
				opened.Add(1)
			}
			return b.log.open(ctx, topic, partition, from)
		}
	})
	stop := start(t, e)
	b.log.waitEnds("in", 1)
	opened.Store(0)
	if err := e.Declare(b.streams, programs[7], nil); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the program is in force", func() bool { return e.Status()[0].Program == programs[7].id })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("the log was read %d times for the new window", n)
	}
}

// forgetful is a program whose operators on keyed streams cannot be given a state once.
type forgetful struct {
	*shopProgram
	asked chan struct{} // closed when one is
}

func (p forgetful) KeyedInstance(i int) (KeyedInstance, error) {
	in, err := p.shopProgram.KeyedInstance(i)
	for i := range in.Operators() {
		op := &in.Operators()[i]
		op.Operator.Operator = forgetfulOperator{op.Operator.Operator, p.asked}
	}
	return in, err
}

type forgetfulOperator struct {
	cep.Operator
	asked chan struct{}
}

func (o forgetfulOperator) Restore(r *cep.SnapshotReader) error {
	select {
	case <-o.asked:
		return o.Operator.Restore(r)
	default:
		close(o.asked)
		return errors.New("forgotten")
	}
}

// heldFS makes no file in a directory until it is let go on.
type heldFS struct {
	vfs.FS
	dir  string
	held chan struct{} // closed when one waits
	let  chan struct{}
	once sync.Once
}

func (f *heldFS) Create(name string) (vfs.File, error) {
	if strings.HasPrefix(name, f.dir) {
		f.once.Do(func() { close(f.held) })
		<-f.let
	}
	return f.FS.Create(name)
}

// TestChangeNotWhole has the state of a keyed stream's windows lost while it is handed
// over, and a checkpoint of it begun that waits for its source's: that is given up, and all
// is restored.
func TestChangeNotWhole(t *testing.T) {
	streams := []*schema.Stream{shopStream("s", 1)}
	first := changingKeyed(streams)[0]
	second := *first
	second.id = "z"
	in := shopInputs(rand.New(rand.NewPCG(1, 76)), 300)
	want := map[string]map[string][]string{}
	for _, p := range []*shopProgram{first, &second} {
		w := newKeyedBench(1, p.locally(), 0, map[string][][]string{"s": {in}})
		w.run(t)
		want[p.id] = w.result()
	}
	b := newKeyedBench(1, first, 1, map[string][][]string{"s": {in[:200]}})
	p := forgetful{&second, make(chan struct{})}
	b.opts.Programs, b.opts.CheckpointEvery = catalogue{first, p}.byID, time.Nanosecond
	disk := &heldFS{FS: b.fs, dir: "checkpoints/s-0", held: make(chan struct{}), let: p.asked}
	e := b.engine(t, func(o *Options) { o.FS = disk })
	stop := start(t, e)
	<-disk.held
	k := e.running()[0].keyedShards()[0]
	waitUntil(t, "the events are taken in", func() bool { return e.KeyedStatus()[0].Rows > 0 })
	if err := e.Declare(b.streams, p, nil); err != nil {
		t.Fatal(err)
	}
	<-p.asked
	b.log.produce("in", 0, in[200:]...)
	b.log.waitEnds("in", 1)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if k.checkpoints.busy() {
		t.Error("a checkpoint of before is still being written")
	}
	b.byTheJournal(t, want)
}

// TestWarmedGrows: what is shown of a change never goes back when another reader of the
// log has its turn, which would be a second bar.
func TestWarmedGrows(t *testing.T) {
	s, shadow, other := &shard{}, &shard{}, &shard{}
	m := &move{shard: s, shadow: shadow, local: &warming{program: testProgram{id: "p"}, src: unreadable{}, reader: &shard{instance: &testInstance{}}}}
	fill := &filler{shard: shadow}
	c := &changeover{moves: []*move{m, {shard: other, shadow: &shard{}}}, fills: []*keyedFill{{all: []*filler{fill, {shard: other, at: 7}}}}}
	m.local.shown = func() int64 { return c.warmed(s) }
	last := int64(0)
	for _, at := range []*int64{&m.local.at, &fill.at} {
		for *at = 0; *at < 100; *at += 50 {
			s.warmed(m.local)
			if now := s.status.Warmed; now < last || now >= 100 {
				t.Errorf("%d after %d, with %d of 100 and %d of 100 read", now, last, m.local.at, fill.at)
			} else {
				last = now
			}
		}
	}
	if s.warmed(m.local); s.status.Warmed != 100 {
		t.Errorf("%d when all is read", s.status.Warmed)
	}
}

// TestChangeTellsOperators changes to a program with fewer windows on a keyed stream to
// which nothing comes: what is told of operators is told of those that are there.
func TestChangeTellsOperators(t *testing.T) {
	streams := []*schema.Stream{shopStream("s", 1)}
	programs := changingKeyed(streams)
	b := newKeyedBench(1, programs[1], 1, map[string][][]string{"s": {shopInputs(rand.New(rand.NewPCG(1, 77)), 300)}})
	e := b.engine(t)
	names := func() (out []string) {
		for _, op := range e.Operators() {
			out = append(out, op.Name+" of "+op.Stream)
		}
		slices.Sort(out)
		return out
	}
	stop := start(t, e)
	for _, p := range []*shopProgram{programs[1], programs[0]} {
		if err := e.Declare(b.streams, p, nil); err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, w := range p.windows {
			want = append(want, fmt.Sprint(w)+" of s")
		}
		slices.Sort(want)
		waitUntil(t, p.id+"'s operators are told of", func() bool { return slices.Equal(names(), want) })
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
