package engine

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/window"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/table"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// listProgram fires where the key is in a list, with what a table says of it, and
// where a window of the events whose key was in the list when they came has two.
type listProgram struct{ id string }

func (p listProgram) ID() string { return p.id }

func (p listProgram) Instance(*schema.Stream) (Instance, error) {
	i := &listInstance{}
	op, err := window.New(window.Config{Keys: []int{1}, Filter: func(b *event.Batch, row int) bool {
		_, in := i.view.Table("watched").Find(b.Cols[1].Bytes(row), b.Time[row])
		return in
	}, Outputs: []window.Output{{Slot: 0, Extent: window.Extent{Length: 20 * time.Second}, Aggregate: window.Count, Value: -1}}})
	i.op = Operator{Identity: "listed " + p.id, Operator: op}
	return i, err
}

type listInstance struct {
	op   Operator
	view *table.View
}

func (i *listInstance) Needs() []int               { return []int{2} }
func (i *listInstance) Features() []event.Type     { return []event.Type{{Kind: event.Int64}} }
func (i *listInstance) Operators() []Operator      { return []Operator{i.op} }
func (i *listInstance) UseTables(view *table.View) { i.view = view }

func (i *listInstance) Decide(b *event.Batch, out *cep.Outbox, dst []Finding) ([]Finding, error) {
	for row := range b.Len() {
		key, t := b.Cols[1].Bytes(row), b.Time[row]
		if _, in := i.view.Table("watched").Find(key, t); in {
			dst = append(dst, Finding{Row: row, Rule: "watched", Action: "alert", Severity: "low"})
		}
		if r, there := i.view.Table("limits").Find(key, t); there && b.Cols[2].Int64[row] > int64(r.Bits(0)) {
			dst = append(dst, Finding{Row: row, Rule: "over", Action: "decline", Severity: "high", Values: event.Values{{Name: "limit", JSON: fmt.Sprint(int64(r.Bits(0)))}}})
		}
		if n := out.Features[0].Int64[row]; n >= 2 {
			dst = append(dst, Finding{Row: row, Rule: "often", Action: "review", Severity: "low", Values: event.Values{{Name: "n", JSON: fmt.Sprint(n)}}})
		}
	}
	return dst, nil
}

var (
	watched = table.NewList("watched", event.Type{Kind: event.String})
	limits  = &table.Definition{Name: "limits", Key: []event.Field{{Name: "key", Type: event.Type{Kind: event.String}}},
		Columns: []event.Field{{Name: "most", Type: event.Type{Kind: event.Decimal, Scale: 2}}}}
)

func (b *bench) openTables(t *testing.T) *table.Store {
	t.Helper()
	clock := int64(0)
	s, err := table.Open(t.Context(), table.Options{Open: b.log.open, Log: b.log, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Now: func() time.Time { clock++; return time.Unix(clock, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	b.opts.Tables = s
	return s
}

// randomChanges are changes of the two tables: single ones and bursts, with expiries
// about the times of the events.
func randomChanges(r *rand.Rand) []table.Change {
	n := 1
	if r.IntN(3) == 0 {
		n = 1 + r.IntN(40)
	}
	out := []table.Change{{Op: table.OpDeclare, Definition: watched}, {Op: table.OpDeclare, Definition: limits}}
	for range n {
		key := []table.Value{{Bytes: fmt.Appendf(nil, "k%d", r.IntN(8))}}
		switch r.IntN(6) {
		case 0, 1:
			e := table.Entry{Key: key}
			if r.IntN(2) == 0 {
				e.Expires = event.FromTime(time.Unix(int64(1000+r.IntN(2000)), 0))
			}
			out = append(out, table.Change{Op: table.OpPut, Table: "watched", Entry: e})
		case 2:
			out = append(out, table.Change{Op: table.OpRemove, Table: "watched", Entry: table.Entry{Key: key}})
		case 3, 4:
			out = append(out, table.Change{Op: table.OpPut, Table: "limits", Entry: table.Entry{Key: key, Columns: []table.Value{{Bits: uint64(r.IntN(9000))}}}})
		default:
			out = append(out, table.Change{Op: []table.Op{table.OpClear, table.OpRemove}[r.IntN(2)], Table: "limits", Entry: table.Entry{Key: key}})
		}
	}
	return out
}

// livesWithChanges runs an engine over inputs that come in parts, while tables
// change between and within the parts, through a number of kills. It returns how
// many changes took effect.
func livesWithChanges(t *testing.T, b *bench, r *rand.Rand, in [][]string, kills int) {
	t.Helper()
	for parts := 2 + r.IntN(4); parts > 0; {
		b.produceSome(r, "in", in, parts == 1)
		parts--
		for {
			b.opts.BatchRows = 1 + r.IntN(300)
			b.opts.CheckpointEvery = []time.Duration{time.Nanosecond, time.Millisecond, time.Hour}[r.IntN(3)]
			store := b.openTables(t)
			if _, err := store.Change(t.Context(), randomChanges(r)); err != nil {
				t.Fatal(err)
			}
			if kills > 0 && r.IntN(2) == 0 {
				kills--
				b.log.fuse = 1 + r.IntN(30)
			}
			changes := rand.New(rand.NewPCG(r.Uint64(), 4))
			done := make(chan struct{})
			go func() { // while events are decided
				defer close(done)
				for range changes.IntN(6) {
					if _, err := store.Change(t.Context(), randomChanges(changes)); err != nil {
						return // killed
					}
				}
			}()
			b.run(t)
			<-done
			dead := b.log.dead
			b.log.revive()
			b.fs = b.fs.CrashClone()
			if !dead {
				break
			}
		}
	}
}

// clone is a bench with the log of another as it is, all of it durable, and with what a
// crash leaves of its files.
func (b *bench) clone(seed uint64) *bench {
	c := newBench(seed, nil)
	c.prog, c.stream, c.opts, c.fs = b.prog, b.stream, b.opts, b.fs.CrashClone()
	for name, p := range b.log.parts {
		c.log.parts[name] = &memPartition{recs: slices.Clone(p.recs), durable: len(p.recs)}
	}
	return c
}

// replayOf is a bench with the inputs, tables and journal of another, and nothing
// that it decided.
func replayOf(seed uint64, of *bench) *bench {
	b := of.clone(seed)
	b.fs, b.opts.Journal = vfs.NewMem(seed), JournalReplay
	maps.DeleteFunc(b.log.parts, func(name string, _ *memPartition) bool {
		return !strings.HasPrefix(name, "in/") && !strings.HasPrefix(name, table.TopicTables) && !strings.HasPrefix(name, TopicJournal)
	})
	return b
}

// TestJournalReplay wants what was decided through kills and restarts while tables
// changed to be what the log and the journal give: straight through, in batches of
// any size, with a checkpoint at every batch, and killed again.
func TestJournalReplay(t *testing.T) {
	fired := 0
	seeds.Each(t, 25, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 6))
		b := newBench(seed, nil)
		b.prog = listProgram{"p"}
		b.stream.AllDecisions = r.IntN(4) == 0
		livesWithChanges(t, b, r, randomInput(r), r.IntN(6))
		want := b.result()
		for _, w := range want {
			fired += len(w)
		}

		straight := replayOf(seed+1, b)
		straight.openTables(t)
		straight.opts.BatchRows, straight.opts.CheckpointEvery = 1+r.IntN(300), time.Hour
		if r.IntN(4) == 0 {
			straight.opts.BatchRows = 1
		}
		straight.run(t)
		sameResults(t, want, straight.result())

		again := replayOf(seed+2, b)
		again.untilDecided(r, r.IntN(5), 30, func() {
			again.openTables(t)
			again.run(t)
		})
		sameResults(t, want, again.result())
	})
	if fired == 0 {
		t.Error("nothing was ever decided: the test looks at nothing")
	}
}

// TestFillWithJournal loses a window's state: it is made again from the log with
// the lists as they were when each event came.
func TestFillWithJournal(t *testing.T) {
	seeds.Each(t, 10, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 7))
		b := newBench(seed, nil)
		b.prog = listProgram{"p"}
		b.stream = testStream(1)
		first, second := inputs(r, 600), inputs(r, 300)
		livesWithChanges(t, b, r, [][]string{slices.Clone(first)}, 0)

		whole := b.clone(seed + 1)

		for _, one := range []*bench{b, whole} {
			one.openTables(t)
			one.log.produce("in", 0, second...)
		}
		b.prog = listProgram{"other identity"} // its operator is not in the checkpoint
		b.run(t)
		whole.run(t)
		want, got := whole.result(), b.result()
		for name := range want {
			for i := range want[name] {
				want[name][i] = strings.ReplaceAll(want[name][i], `"program":"p"`, "")
			}
			for i := range got[name] {
				got[name][i] = strings.NewReplacer(`"program":"p"`, "", `"program":"other identity"`, "").Replace(got[name][i])
			}
		}
		sameResults(t, want, got)
	})
}

// TestChangeBeforeEvent wants an event that comes after an acknowledged change to
// be decided with it, on a stream that was idle, in each of its partitions, and
// after a restart.
func TestChangeBeforeEvent(t *testing.T) {
	b := newBench(30, nil)
	b.prog = listProgram{"p"}
	store := b.openTables(t)
	change := func(op table.Op) {
		_, err := store.Change(t.Context(), []table.Change{{Op: table.OpDeclare, Definition: watched},
			{Op: op, Table: "watched", Entry: table.Entry{Key: []table.Value{{Bytes: []byte("k")}}}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	const one = `{"ts": 1000, "key": "k", "amount": 1}`
	e := b.engine(t)
	stop := start(t, e)
	for _, op := range []table.Op{table.OpPut, table.OpRemove, table.OpPut, table.OpRemove} {
		b.log.waitEnds("in", testPartitions) // idle
		change(op)
		for p := range testPartitions {
			b.log.produce("in", int32(p), one)
		}
		b.log.waitEnds("in", testPartitions)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	change(table.OpPut)
	for p := range testPartitions {
		b.log.produce("in", int32(p), one)
	}
	b.run(t)
	for p := range testPartitions {
		var got []string
		for _, s := range b.log.outputOf(event.TopicAlerts, outputPartitions, fmt.Sprintf("in/%d", p)) {
			if id := strings.Fields(s)[1]; strings.HasSuffix(id, "/watched") {
				got = append(got, strings.Split(id, "/")[2])
			}
		}
		if want := []string{"0", "2", "4"}; !slices.Equal(got, want) {
			t.Errorf("partition %d: the rule fired at offsets %q, want %q", p, got, want)
		}
	}
}

// TestJournalPin decides all events with the tables of one moment.
func TestJournalPin(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 31))
	b := newBench(31, nil)
	b.prog, b.stream = listProgram{"p"}, testStream(1)
	livesWithChanges(t, b, r, [][]string{inputs(r, 500)}, 0)
	pinned := replayOf(32, b)
	store := pinned.openTables(t)
	pinned.opts.Journal, pinned.opts.PinChanges = JournalPin, store.Head().Seq()
	pinned.run(t)

	always := newBench(33, nil)
	always.prog, always.stream = b.prog, b.stream
	always.log.parts["in/0"] = pinned.log.part("in", 0)
	always.log.parts[table.TopicTables+"/0"] = pinned.log.part(table.TopicTables, 0)
	always.openTables(t)
	always.run(t)
	sameResults(t, always.result(), pinned.result())
}

// TestUnknownJournalRecord wants a partition that a newer version has decided to
// be refused by name, and another's record to be nobody's business.
func TestUnknownJournalRecord(t *testing.T) {
	b := newBench(34, nil)
	b.prog = listProgram{"p"}
	b.log.produce(TopicJournal, 0, `{"kind":"model","topic":"elsewhere","partition":0}`, `{"kind":"model","topic":"in","partition":1,"cursor":0}`)
	b.openTables(t)
	e := b.engine(t)
	if err := e.shards()[0].restore(t.Context()); err != nil {
		t.Error(err)
	}
	if err := e.shards()[1].restore(t.Context()); err == nil || !strings.Contains(err.Error(), `weir.journal@1: a record of the kind "model"`) {
		t.Errorf("error %v", err)
	}
}
