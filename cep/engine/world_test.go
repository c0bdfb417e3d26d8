package engine

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/ingest/table"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// world is a log and engines that decide it one after the other, on one disk, which may
// lose power at any of its operations: all that there is to an engine, at once.
type world struct {
	r        *rand.Rand
	streams  []*schema.Stream
	programs []*shopProgram // any of them may be declared
	program  *shopProgram   // that is
	parts    int32          // of a keyed stream
	kills    int            // that are left
	disk     *vfs.Mem
	wall     wall
	newest   int64 // event time, in seconds
	poison   bool  // there are events at which a program panics
}

// lifetime is one process of a world.
type lifetime struct {
	*world
	t      *testing.T
	disk   *mortal
	log    *commitlog.Log
	tables *table.Store
	opts   Options
}

// worldStreams are two streams of some partitions.
func worldStreams(r *rand.Rand, a, b int32) []*schema.Stream {
	out := []*schema.Stream{shopStream("s", a), shopStream("c", b)}
	for _, s := range out {
		s.AllDecisions = r.IntN(3) == 0
		s.Schema.Fields = append(s.Schema.Fields, event.Field{Name: "id", Type: event.Type{Kind: event.Int64}})
		s.Fields = append(s.Fields, schema.Field{})
		s.Schema.ID = 5
	}
	return out
}

// worldPrograms are programs that have some windows in common.
func worldPrograms(r *rand.Rand, streams []*schema.Stream, n int) (out []*shopProgram) {
	all := []shopWindow{
		{over: "s", reader: "s", past: 1, now: 1},
		{over: "c", reader: "c", past: 1, now: 1},
		{over: "s", reader: "s", past: 1, now: 1},
		{keyed: "shop", over: "s", reader: "s", past: 3, now: 3},
		{keyed: "shop", over: "c", reader: "s", past: 3, now: 3},
		{keyed: "shop", over: "s", reader: "c", past: 3, now: 3},
		{keyed: "device", over: "s", reader: "s", past: 4, now: 4},
		{keyed: "device", over: "c", reader: "c", past: 4, now: 4},
		{keyed: "device", over: "c", reader: "s", past: 4, now: 4},
	}
	for i := range all {
		all[i].length = time.Duration(10*i+1+r.IntN(10)) * time.Second
		all[i].listed = r.IntN(4) == 0
		if r.IntN(4) == 0 {
			all[i].chunk = 1 + r.IntN(20)
		}
	}
	for i := range n {
		p := &shopProgram{id: fmt.Sprint("p", i), streams: streams}
		for _, w := range all {
			if r.IntN(9) < 4 {
				p.windows = append(p.windows, w)
			}
		}
		out = append(out, p)
	}
	return out
}

func newWorld(seed uint64, r *rand.Rand, streams []*schema.Stream, programs []*shopProgram, parts int32) *world {
	w := &world{r: r, streams: streams, programs: programs, program: programs[0], parts: parts, disk: vfs.NewMem(seed), newest: 1000}
	w.wall.set(w.newest)
	return w
}

func (w *world) byID(id string) (Program, error) {
	for _, p := range w.programs {
		if base := id[strings.LastIndex(id, Over)+1:]; p.id == base { // of a part of another one
			out := *p
			out.id = id
			return &out, nil
		}
	}
	return nil, fmt.Errorf("no program %q", id)
}

// life opens the world's log and does something with it, on a disk that dies at its
// operation last; 0: it does not. It reports whether it died.
func (w *world) life(t *testing.T, last int, do func(l *lifetime) error) (died bool) {
	t.Helper()
	l := &lifetime{world: w, t: t, disk: newMortal(w.disk, last, []string{"", "log", "checkpoints"}[w.r.IntN(3)])}
	err := l.open()
	if err == nil {
		err = do(l)
	}
	w.disk = l.disk.Mem
	if w.r.IntN(2) == 0 {
		w.disk = w.disk.CrashClone() // it is not closed
	}
	if l.log != nil {
		if err2 := l.log.Close(); err == nil {
			err = err2
		}
	}
	if died = l.disk.isDead(); died {
		w.disk = l.disk.after
	}
	if err != nil && !died && !errors.Is(err, errPanic) {
		t.Fatal(err)
	}
	return died
}

func (l *lifetime) open() error {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	var err error
	l.log, err = commitlog.Open(l.t.Context(), "log", commitlog.Options{FS: l.disk, Logger: quiet, ScrubBytesPerSecond: -1, CompactEvery: -1})
	if err != nil {
		return err
	}
	topics := map[string]int32{event.TopicDecisions: outputPartitions, event.TopicAlerts: outputPartitions, event.TopicDeadLetters: 1, TopicJournal: 1, table.TopicTables: 1}
	outputs := maps.Clone(topics)
	for _, s := range l.streams {
		topics[s.Topic] = s.Partitions
	}
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		if _, err := l.topic(name, topics[name]); err != nil {
			return err
		}
	}
	to := sink.NewLocal(l.log)
	clock := int64(0)
	l.tables, err = table.Open(l.t.Context(), table.Options{Open: l.source, Log: to, Logger: quiet, Now: func() time.Time { clock++; return time.Unix(clock, 0) }})
	if err != nil {
		return err
	}
	l.opts = Options{FS: l.disk, Dir: "checkpoints", Open: l.source, Sink: to, TopicID: l.topicID, OutputPartitions: outputs, Tables: l.tables, Programs: l.byID,
		Now: l.wall.now, Logger: quiet,
		KeyedTopic: func(topic string, _ int32) (int32, error) { return l.topic(topic, l.parts) }}
	return nil
}

// topic makes a topic where it is not there, and tells how many partitions it has.
func (l *lifetime) topic(name string, partitions int32) (int32, error) {
	at, there := l.log.Topic(name)
	if !there {
		var err error
		if at, err = l.log.CreateTopic(commitlog.TopicSpec{Name: name, Partitions: partitions}); err != nil {
			return 0, err
		}
	}
	return int32(len(at.Partitions())), nil
}

func (l *lifetime) topicID(name string) (string, error) {
	at, there := l.log.Topic(name)
	if !there {
		return "", commitlog.ErrUnknownTopic
	}
	id := at.ID()
	return hex.EncodeToString(id[:]), nil
}

func (l *lifetime) source(_ context.Context, topic string, partition int32, from int64) (source.Source, error) {
	p, err := l.log.Partition(topic, partition)
	if err != nil {
		return nil, err
	}
	return source.NewPartition(p, source.Options{From: from}), nil
}

// produce writes events into a partition, and waits until they are durable.
func (l *lifetime) produce(topic string, partition int32, values []string) error {
	if len(values) == 0 {
		return nil
	}
	recs := make([]sink.Record, len(values))
	for i, v := range values {
		recs[i] = sink.Record{Timestamp: 1, Value: []byte(v)}
	}
	at, err := l.opts.Sink.Append(l.t.Context(), topic, partition, recs)
	if err != nil {
		return err
	}
	return l.opts.Sink.Durable(l.t.Context(), topic, partition, at+int64(len(recs))-1)
}

// records are those of a partition.
func (l *lifetime) records(topic string, partition int32) (out []source.Record) {
	l.t.Helper()
	end, err := l.opts.Sink.End(topic, partition)
	if err != nil {
		l.t.Fatal(err)
	}
	src, err := l.source(l.t.Context(), topic, partition, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	defer src.Close()
	for at := int64(0); at < end; {
		c, err := src.Next(l.t.Context())
		if err != nil {
			l.t.Fatal(err)
		}
		at = c.Next
		for i := range c.Records {
			out = append(out, c.Records[i].Clone())
		}
	}
	return out
}

// worldInputs are random records of a stream; some are late, bad, sent again, of a key
// that most have, or such that a program panics at them.
func worldInputs(r *rand.Rand, from int64, n int, poison bool) (out []string, newest int64) {
	hot := r.IntN(3) == 0
	for newest = from; len(out) < n; {
		newest += r.Int64N(3)
		at := newest
		if r.IntN(5) == 0 {
			at -= r.Int64N(12)
		}
		key, shop := r.IntN(6), r.IntN(5)
		if hot && r.IntN(10) > 0 {
			key, shop = 0, 0
		}
		amount := fmt.Sprintf("%d.%02d", r.IntN(66), r.IntN(100))
		switch {
		case !poison || r.IntN(70) > 0:
		case r.IntN(3) == 0:
			amount = "666"
		default:
			amount = "777"
		}
		one := fmt.Sprintf(`{"ts": %d, "key": "k%d", "amount": %s, "shop": "s%d", "device": %d, "id": %d}`, at, key, amount, shop, r.IntN(4), r.Int64N(1<<40))
		switch r.IntN(60) {
		case 0:
			one = `{"ts": nonsense`
		case 1:
			one = fmt.Sprintf(`{"ts": %d, "key": "k%d", "amount": 1, "shop": "s", "id": %d}`, at, key, r.Int64N(1<<40)) // without a device
		case 2, 3:
			if len(out) > 0 {
				one = out[max(0, len(out)-1-r.IntN(60))]
			}
		}
		out = append(out, one)
	}
	return out, newest
}

// produceMore writes some events into each partition.
func (l *lifetime) produceMore(r *rand.Rand, most int) error {
	newest := l.newest
	for _, s := range l.streams {
		for p := range s.Partitions {
			if r.IntN(4) == 0 {
				continue
			}
			values, last := worldInputs(r, l.world.newest, r.IntN(most), l.poison)
			if err := l.produce(s.Topic, p, values); err != nil {
				return err
			}
			newest = max(newest, last)
		}
	}
	l.newest = newest
	l.wall.set(newest + r.Int64N(20))
	return nil
}

// worldRun says what happens while an engine decides.
type worldRun struct {
	acts   int  // at most: other programs, lists, events
	settle bool // go on until the program that was declared last is in force
	idle   bool // let time go on at the end
}

// run decides all there is, while things happen at random moments. The error is nil
// where the disk died.
func (l *lifetime) run(r *rand.Rand, how worldRun) error {
	o := l.opts
	o.BatchRows = 1 + r.IntN(300)
	if r.IntN(6) == 0 {
		o.BatchRows = 1
	}
	o.CheckpointEvery = []time.Duration{time.Nanosecond, 10 * time.Millisecond, time.Hour}[r.IntN(3)]
	o.KeyedWait = []time.Duration{-1, 0}[r.IntN(2)]
	e, err := New(l.streams, l.program, o)
	if err != nil {
		return err
	}
	stop := start(l.t, e)
	for range r.IntN(how.acts + 1) {
		select {
		case <-l.disk.in(1 + r.IntN(1+r.IntN(200))):
		case <-l.disk.died:
		case <-time.After(time.Duration(1+r.IntN(300)) * time.Millisecond): // nothing happens any more
		}
		if err = l.act(r, e); err != nil {
			break
		}
	}
	if err == nil {
		err = l.decided(e, how.settle)
	}
	if how.idle && err == nil {
		select {
		case <-l.disk.died:
		case <-time.After(time.Duration(r.IntN(60)) * time.Second):
		}
	}
	if ended := stop(); err == nil {
		err = ended
	}
	if l.disk.isDead() {
		return nil
	}
	return err
}

// act does one of the things that can happen while events are decided.
func (l *lifetime) act(r *rand.Rand, e *Engine) error {
	switch n := r.IntN(3); {
	case n == 0 && len(l.programs) > 1:
		l.program = l.programs[r.IntN(len(l.programs))]
		return e.Declare(l.streams, l.program, nil)
	case n == 1:
		_, err := l.tables.Change(l.t.Context(), worldChanges(r))
		return err
	default:
		return l.produceMore(r, 30)
	}
}

// worldChanges are changes of the list and the table, for keys of all kinds.
func worldChanges(r *rand.Rand) []table.Change {
	out := randomChanges(r)
	for i := range out {
		e := &out[i].Entry
		if out[i].Table == "watched" && len(e.Key) > 0 {
			e.Key[0].Bytes = []byte([]string{fmt.Sprint("k", r.IntN(6)), fmt.Sprint("s", r.IntN(5)), fmt.Sprint(r.IntN(4))}[r.IntN(3)])
		}
	}
	return out
}

// decided waits until all is decided, and the program in force that was declared.
func (l *lifetime) decided(e *Engine, settle bool) error {
	why := ""
	for range 100_000 { // hours, of the clock in the bubble
		why = ""
		for _, s := range e.Status() {
			end, err := l.opts.Sink.End(s.Topic, s.Partition)
			if err != nil {
				return err
			}
			if s.Cursor < end || s.Err != "" || settle && s.Program != l.program.id {
				why += fmt.Sprintf("%s[%d] is at %d of %d, with the program %q of %q, and %q\n", s.Topic, s.Partition, s.Cursor, end, s.Program, l.program.id, s.Err)
			}
		}
		if why == "" || l.disk.isDead() {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("not all is decided:\n%s", why)
}

// some is a number of operations after which a disk may die: any, and small ones often.
func some(r *rand.Rand) int { return 1 + r.IntN(1<<r.IntN(12)) }

// damage harms a file of a checkpoint, or takes it away.
func (w *world) damage(t *testing.T) {
	t.Helper()
	var files []string
	shards, _ := w.disk.List("checkpoints") // there is none before the first checkpoint
	for _, shard := range shards {
		var walk func(dir string)
		walk = func(dir string) {
			names, err := w.disk.List(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				if info, err := w.disk.Stat(filepath.Join(dir, n)); err != nil {
					t.Fatal(err)
				} else if info.Dir {
					walk(filepath.Join(dir, n))
				} else {
					files = append(files, filepath.Join(dir, n))
				}
			}
		}
		walk(filepath.Join("checkpoints", shard))
	}
	if len(files) == 0 {
		return
	}
	name := files[w.r.IntN(len(files))]
	info, err := w.disk.Stat(name)
	if err == nil && info.Size > 0 && w.r.IntN(2) == 0 {
		err = vfs.FlipByte(w.disk, name, w.r.Int64N(info.Size))
	} else if err == nil {
		err = w.disk.Remove(name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// lives has some lifetimes, the last of which decides all.
func (w *world) lives(t *testing.T, n int) {
	t.Helper()
	for n > 0 {
		last := 0
		if w.kills > 0 && w.r.IntN(3) > 0 {
			w.kills--
			last = some(w.r)
		}
		if w.r.IntN(3) == 0 {
			w.program = w.programs[w.r.IntN(len(w.programs))]
		}
		died := w.life(t, last, func(l *lifetime) error {
			if w.r.IntN(2) == 0 {
				if err := l.produceMore(w.r, 80); err != nil {
					return err
				}
			}
			return l.run(w.r, worldRun{acts: 5, settle: n == 1 || w.r.IntN(2) == 0, idle: w.r.IntN(3) == 0})
		})
		if !died {
			n--
		} else if w.r.IntN(4) == 0 {
			w.damage(t)
		}
	}
}

// outputs are what the events of each source partition made.
func (l *lifetime) outputs() map[string][]string {
	out := map[string][]string{}
	for topic, n := range map[string]int32{event.TopicDecisions: outputPartitions, event.TopicAlerts: outputPartitions, event.TopicDeadLetters: 1} {
		for p := range n {
			for _, r := range l.records(topic, p) {
				id := originOf(&r)
				origin := strings.Join(strings.Split(id, "/")[:2], "/")
				out[topic+" of "+origin] = append(out[topic+" of "+origin], fmt.Sprintf("%d %s %q %s", r.Timestamp, id, r.Key, r.Value))
			}
		}
	}
	return out
}

// truth is what the world's log says of all windows.
func (l *lifetime) truth() *truth {
	l.t.Helper()
	tr := &truth{local: map[event.Origin]*pastRows{}, keyed: map[string]map[event.Origin]map[int64]pastPlace{}}
	for _, s := range l.streams {
		for p := range s.Partitions {
			tr.local[event.Origin{Topic: s.Topic, Partition: p}] = &pastRows{}
		}
	}
	for _, p := range l.programs {
		for _, k := range p.Keyed() {
			if _, there := l.log.Topic(k.topic()); !there || tr.keyed[k.topic()] != nil {
				continue
			}
			places := map[event.Origin]map[int64]pastPlace{}
			for q := range l.parts {
				l.keyedRows(&k, q, places)
			}
			tr.keyed[k.topic()] = places
		}
	}
	return tr
}

// keyedRows notes what is in a partition of a keyed stream: each event once, in the order
// of its source.
func (l *lifetime) keyedRows(k *Keyed, q int32, places map[event.Origin]map[int64]pastPlace) {
	l.t.Helper()
	past, next := &pastRows{}, map[string]int64{}
	for i, rec := range l.records(k.topic(), q) {
		headers := (&blockReader{data: rec.Value}).headers(nil)
		for _, h := range headers {
			if of := partName(h.stream, h.partition); h.from != next[of] {
				l.t.Errorf("%s[%d]@%d: a block of %s from %d to %d, the one before ended at %d", k.topic(), q, i, of, h.from, h.to, next[of])
			} else {
				next[of] = h.to
			}
		}
		eachRow(l.t, k, rec.Value, func(h *blockHeader, b *event.Batch, out *cep.Outbox) {
			view, err := l.tables.At(l.t.Context(), h.tables)
			if err != nil {
				l.t.Fatal(err)
			}
			at := b.OriginOf(0)
			if places[at] == nil {
				places[at] = map[int64]pastPlace{}
			}
			if _, twice := places[at][b.Offset[0]]; twice {
				l.t.Errorf("%s: %v@%d is there twice", k.topic(), at, b.Offset[0])
			}
			places[at][b.Offset[0]] = pastPlace{past, len(past.rows)}
			past.rows = append(past.rows, newPastRow(h.stream, b, out, 0, view))
		})
	}
}

// journaled is what the journal has of a kind.
func (l *lifetime) journaled(kind string) (out []journalRecord) {
	for _, r := range l.records(TopicJournal, 0) {
		var j journalRecord
		if err := json.Unmarshal(r.Value, &j); err != nil {
			l.t.Fatal(err)
		}
		if j.Kind == kind {
			out = append(out, j)
		}
	}
	return out
}

// replay decides a range again.
func (l *lifetime) replay(r *rand.Rand, id string, programs func(id string) (Program, error), ranges replayRange) map[string][]string {
	l.t.Helper()
	prog, err := programs(id)
	if err != nil {
		l.t.Fatal(err)
	}
	o := ReplayOptions{Options: l.opts, Range: ranges.of, KeyedPartitions: func(topic string) (int32, bool) {
		at, there := l.log.Topic(topic)
		if !there {
			return 0, false
		}
		return int32(len(at.Partitions())), true
	}}
	o.Programs = programs
	o.BatchRows = 1 + r.IntN(300)*r.IntN(2)
	o.CheckpointEvery = time.Duration(r.IntN(2)) // at every batch, or never
	got, err := Replay(l.t.Context(), l.streams, prog, o)
	if err != nil {
		l.t.Errorf("replay: %v", err)
		return map[string][]string{}
	}
	for _, s := range got.Status {
		origin := event.Origin{Topic: s.Topic, Partition: s.Partition}
		if _, to := ranges.of(s.Topic, s.Partition); s.Cursor != to {
			l.t.Errorf("a replay of %v stands at %d, and not at %d", origin, s.Cursor, to)
		}
		if n := len(got.Records(event.TopicDecisions, origin)); s.Decisions != int64(n) {
			l.t.Errorf("a replay of %v has counted %d decisions, of %d", origin, s.Decisions, n)
		}
	}
	return replayed(got, l.streams)
}

// ranges are random ranges of each source partition, or all of it.
func (l *lifetime) ranges(r *rand.Rand, whole bool) replayRange {
	out := replayRange{}
	for _, s := range l.streams {
		for p := range s.Partitions {
			n, err := l.opts.Sink.End(s.Topic, p)
			if err != nil {
				l.t.Fatal(err)
			}
			from, to := int64(0), n
			if !whole && r.IntN(2) == 0 {
				to = r.Int64N(n + 1)
			}
			if !whole && r.IntN(2) == 0 {
				from = r.Int64N(to + 1)
			}
			out[partName(s.Topic, p)] = [2]int64{from, to}
		}
	}
	return out
}

// seen is what a number of worlds had in them.
type seen map[string]int

const changedKeyed = "a change to a program with keyed streams"

// check wants what was decided to be what follows from the log and the journal: decided
// in one life with windows that look at all events each time, and in replays of all of it
// and of ranges, over all programs that were in force.
func (w *world) check(t *testing.T, saw seen) {
	t.Helper()
	w.life(t, 0, func(l *lifetime) error {
		got := l.outputs()
		tr := l.truth()
		told := func(id string) (Program, error) {
			p, err := l.byID(id)
			if err != nil {
				return nil, err
			}
			return p.(*shopProgram).told(tr), nil
		}
		sameReplay(t, l.replay(w.r, l.programs[0].id, told, l.ranges(w.r, true)), got)
		if t.Failed() {
			for _, r := range l.records(TopicJournal, 0) {
				t.Logf("%s", r.Value)
			}
			for _, p := range l.programs {
				t.Logf("%+v", p)
			}
			return nil
		}
		for i := range 2 {
			p, ranges := l.programs[w.r.IntN(len(l.programs))], l.ranges(w.r, i == 0)
			sameReplay(t, ranges.inRange(got), l.replay(w.r, p.id, l.byID, ranges))
		}
		if all := l.journaled(kindProgram); slices.ContainsFunc(all, func(j journalRecord) bool {
			p, err := l.byID(j.Program)
			return err == nil && len(keyedOf(p)) > 0 && j.Program != all[0].Program
		}) {
			saw[changedKeyed]++
		}
		for _, kind := range []string{kindTables, kindIdle, kindPanic, kindProgram} {
			saw[kind] += len(l.journaled(kind))
		}
		for name, all := range got {
			topic, _, _ := strings.Cut(name, " ")
			saw[topic] += len(all)
		}
		for _, at := range tr.keyed {
			for _, rows := range at {
				saw["keyed rows"] += len(rows)
			}
		}
		return nil
	})
}

// TestWorld wants what was decided through any lives, in which all that can happen does,
// to be what follows from the log and the journal.
func TestWorld(t *testing.T) {
	saw := seen{}
	if !seeds.Each(t, 100, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 71))
			streams := worldStreams(r, 1+r.Int32N(3), 1+r.Int32N(2))
			for _, s := range streams {
				if r.IntN(2) == 0 {
					s.Idle = testIdle
				}
				if r.IntN(3) == 0 {
					s.WatermarkBy, s.WatermarkIdle = []int{1}, 8*time.Second
				}
				if r.IntN(3) == 0 {
					s.Dedupe = 40 * time.Second
				}
			}
			w := newWorld(seed, r, streams, worldPrograms(r, streams, 1+r.IntN(3)), 1+r.Int32N(4))
			w.kills, w.poison = r.IntN(6), r.IntN(3) == 0
			w.lives(t, 1+r.IntN(4))
			w.check(t, saw)
		})
	}) {
		return
	}
	t.Log(saw)
	for _, what := range []string{kindTables, kindIdle, kindPanic, kindProgram, event.TopicDecisions, event.TopicAlerts, event.TopicDeadLetters, "keyed rows", changedKeyed} {
		if saw[what] == 0 {
			t.Errorf("no world had %s: the test looks at nothing", what)
		}
	}
}

// TestWorldElsewhere decides the same events in logs of other numbers of partitions,
// keyed and not: lists, tables and the program change between them, and the disk of one
// dies. What is decided is equal but for where the events were logged.
func TestWorldElsewhere(t *testing.T) {
	saw := seen{}
	if !seeds.Each(t, 10, func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 72))
			alike := func(a, b, parts int32) *world {
				same := rand.New(rand.NewPCG(seed, 73))
				streams := worldStreams(same, a, b)
				return newWorld(seed, r, streams, worldPrograms(same, streams, 3), parts)
			}
			worlds := []*world{alike(1, 1, 1), alike(1+r.Int32N(4), 1+r.Int32N(3), 1+r.Int32N(4))}
			worlds[1].kills = r.IntN(6)
			for range 2 + r.IntN(2) {
				program, phase := r.IntN(3), newPhase(r, worlds[0].newest)
				for _, w := range worlds {
					w.program = w.programs[program]
					w.phase(t, phase)
				}
			}
			var results []map[string][]string
			for _, w := range worlds {
				w.check(t, saw)
				w.life(t, 0, func(l *lifetime) error {
					results = append(results, withoutOrigins(l.outputs()))
					return nil
				})
			}
			sameReplay(t, results[0], results[1])
		})
	}) {
		return
	}
	for _, what := range []string{kindTables, kindProgram, event.TopicDecisions, "keyed rows", changedKeyed} {
		if saw[what] == 0 {
			t.Errorf("no world had %s: the test looks at nothing", what)
		}
	}
}

// phase is events of distinct times, by stream, and changes of tables before them.
type phase struct {
	changes []table.Change
	events  []phaseEvent
}

type phaseEvent struct {
	stream, key, text string
	at                int64
}

func newPhase(r *rand.Rand, from int64) *phase {
	p := &phase{changes: worldChanges(r)}
	for i := range 1 + r.Int64N(200) {
		e := phaseEvent{[]string{"s", "s", "c"}[r.IntN(3)], fmt.Sprint("k", r.IntN(6)), "", from + 1 + i}
		amount := fmt.Sprintf("%d.%02d", r.IntN(66), r.IntN(100))
		if r.IntN(200) == 0 {
			amount = "777"
		}
		e.text = fmt.Sprintf(`{"ts": %d, "key": %q, "amount": %s, "shop": "s%d", "device": %d, "id": 1}`, e.at, e.key, amount, r.IntN(5), r.IntN(4))
		p.events = append(p.events, e)
	}
	return p
}

// phase brings the world's program into force, then the changes, and then decides the
// events, all of which are there before an engine is.
func (w *world) phase(t *testing.T, p *phase) {
	t.Helper()
	w.life(t, 0, func(l *lifetime) error { return l.run(w.r, worldRun{settle: true}) })
	w.life(t, 0, func(l *lifetime) error {
		if _, err := l.tables.Change(t.Context(), slices.Clone(p.changes)); err != nil {
			return err
		}
		for _, e := range p.events {
			s := w.streams[slices.IndexFunc(w.streams, func(s *schema.Stream) bool { return s.Schema.Stream == e.stream })]
			if err := l.produce(s.Topic, sink.Partition([]byte(e.key), s.Partitions), []string{e.text}); err != nil {
				return err
			}
			w.newest = e.at
		}
		return nil
	})
	for died := true; died; {
		last := 0
		if w.kills > 0 {
			w.kills--
			last = some(w.r)
		}
		died = w.life(t, last, func(l *lifetime) error { return l.run(w.r, worldRun{}) })
	}
}

// withoutOrigins is what was decided, but for where the events were logged.
func withoutOrigins(results map[string][]string) map[string][]string {
	origin := regexp.MustCompile(`in(\.c)?/\d+/\d+|"(partition|offset)":\d+`)
	out := map[string][]string{}
	for name, all := range results {
		topic, _, _ := strings.Cut(name, " ")
		for _, one := range all {
			out[topic] = append(out[topic], origin.ReplaceAllString(one, ""))
		}
	}
	for _, all := range out {
		slices.Sort(all)
	}
	return out
}
