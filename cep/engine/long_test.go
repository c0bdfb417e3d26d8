package engine

import (
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/cep/reservoir"
	"github.com/weirstream/weir/cep/window"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// longProgram is a testProgram whose window keeps its events on disk, in small files.
type longProgram struct {
	testProgram
	rows int // of a chunk
}

func (p longProgram) Instance(s *schema.Stream) (Instance, error) {
	amount := func(b *event.Batch, row int) (uint64, bool) { return uint64(b.Cols[2].Int64[row]), true }
	x := window.Extent{Length: p.longest}
	op, err := window.NewLong(window.Config{Keys: []int{1}, Values: []window.Value{{Type: s.Schema.Fields[2].Type, Read: amount}},
		Outputs: []window.Output{{Slot: 0, Extent: x, Aggregate: window.Count, Value: -1}, {Slot: 1, Extent: x, Aggregate: window.Sum}}},
		reservoir.Options{ChunkRows: p.rows, SegmentBytes: 200})
	return &testInstance{op: Operator{Identity: "long", Name: "by(s.key) on disk", Rules: []string{"often", "big"}, Operator: op}, scale: s.Schema.Fields[2].Type}, err
}

// TestLongWindows wants the decisions of a window in memory from one on disk, killed and
// restored at random points, with files that are damaged or gone.
func TestLongWindows(t *testing.T) {
	seeds.Each(t, 25, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 21))
		in := randomInput(r)
		straight := newBench(seed, in)
		straight.prog = testProgram{"p1", 200 * time.Second}
		straight.run(t)
		want := straight.result()

		b := newBench(seed+1, in)
		b.prog = longProgram{testProgram{"p1", 200 * time.Second}, 1 + r.IntN(20)}
		b.untilDecided(r, 1+r.IntN(5), 30, func() {
			if files := b.eventFiles(t); len(files) > 0 && r.IntN(2) == 0 { // of a life before
				name := files[r.IntN(len(files))]
				if info, err := b.fs.Stat(name); err != nil || r.IntN(2) == 0 || info.Size == 0 {
					if err := b.fs.Remove(name); err != nil {
						t.Fatal(err)
					}
				} else if err := vfs.FlipByte(b.fs, name, r.Int64N(info.Size)); err != nil {
					t.Fatal(err)
				}
			}
			b.run(t)
		})
		sameResults(t, want, b.result())
	})
}

// eventFiles are the files of operators' events.
func (b *bench) eventFiles(t *testing.T) (files []string) {
	t.Helper()
	shards, _ := b.fs.List("checkpoints") // there is none before the first checkpoint
	for _, shard := range shards {
		dirs, err := b.fs.List(filepath.Join("checkpoints", shard))
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range dirs {
			if !strings.HasSuffix(dir, eventsSuffix) {
				continue
			}
			dir = filepath.Join("checkpoints", shard, dir)
			names, err := b.fs.List(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				files = append(files, filepath.Join(dir, n))
			}
		}
	}
	return files
}

// TestLongPins: what the log keeps for a window on disk is what it keeps for one in memory,
// as it is made again from there.
func TestLongPins(t *testing.T) {
	for _, prog := range []Program{testProgram{"p1", 200 * time.Second}, longProgram{testProgram{"p1", 200 * time.Second}, 8}} {
		in, err := prog.Instance(testStream(1))
		if err != nil {
			t.Fatal(err)
		}
		s := &shard{instance: in}
		if d := s.reach(); d != 200*time.Second {
			t.Errorf("%T reaches back %v", prog, d)
		}
	}
}

// TestLongDirectoriesGo wants the events of an operator removed that the program no
// longer has.
func TestLongDirectoriesGo(t *testing.T) {
	b := newBench(1, [][]string{inputs(rand.New(rand.NewPCG(1, 1)), 500), nil, nil})
	b.prog = longProgram{testProgram{"p1", 200 * time.Second}, 8}
	e := b.runEngine(t)
	if len(b.eventFiles(t)) == 0 {
		t.Fatal("no file of events after a window of 200 s")
	}
	disk := int64(0)
	for _, o := range e.Operators() {
		disk += o.Disk
	}
	if disk == 0 {
		t.Error("no bytes on disk in what is told of the operators")
	}
	b.prog = testProgram{"p2", 20 * time.Second}
	b.run(t)
	if files := b.eventFiles(t); len(files) > 0 {
		t.Errorf("left: %v", slices.Clip(files))
	}
}
