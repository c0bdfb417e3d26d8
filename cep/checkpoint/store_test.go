package checkpoint

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// stepping calls step before each change of the file system.
type stepping struct {
	vfs.FS
	step func()
}

func (s *stepping) Create(name string) (vfs.File, error) {
	s.step()
	f, err := s.FS.Create(name)
	return steppingFile{f, s}, err
}

func (s *stepping) Remove(name string) error  { s.step(); return s.FS.Remove(name) }
func (s *stepping) Rename(a, b string) error  { s.step(); return s.FS.Rename(a, b) }
func (s *stepping) SyncDir(dir string) error  { s.step(); return s.FS.SyncDir(dir) }
func (s *stepping) MkdirAll(dir string) error { s.step(); return s.FS.MkdirAll(dir) }

type steppingFile struct {
	vfs.File
	fs *stepping
}

func (f steppingFile) WriteAt(p []byte, at int64) (int, error) {
	f.fs.step()
	if half := len(p) / 2; half > 0 {
		if n, err := f.File.WriteAt(p[:half], at); err != nil {
			return n, err
		}
		f.fs.step()
		n, err := f.File.WriteAt(p[half:], at+int64(half))
		return half + n, err
	}
	return f.File.WriteAt(p, at)
}

func (f steppingFile) Sync() error { f.fs.step(); return f.File.Sync() }

// written is a piece as it was handed to a Writer.
type written struct {
	op         string
	generation uint64
	piece      string
}

// history is what was written in the generations that the newest one rests on.
type history struct {
	pieces []written
	turns  map[uint64]map[string]uint64 // by generation
	metas  map[uint64]string
}

// needed is what of the history a generation needs, in order.
func (h *history) needed(g uint64) []written {
	now := h.turns[g]
	return slices.DeleteFunc(slices.Clone(h.pieces), func(w written) bool {
		turn, used := now[w.op]
		return w.generation > g || !used || turn-h.turns[w.generation][w.op] >= cep.FullTurn
	})
}

// check reads a generation and compares it with the history.
func (h *history) check(s *Store, saved *Saved) error {
	g := saved.Generation
	var got []written
	err := s.Replay(saved, func(op string, generation uint64, piece []byte) error {
		got = append(got, written{op, generation, string(piece)})
		return nil
	})
	if err != nil {
		return err
	}
	if string(saved.Meta) != h.metas[g] {
		return fmt.Errorf("meta %q, want %q", saved.Meta, h.metas[g])
	}
	got = slices.DeleteFunc(got, func(w written) bool {
		turn, used := h.turns[w.generation][w.op]
		return used && h.turns[g][w.op]-turn >= cep.FullTurn // superseded
	})
	if want := h.needed(g); !slices.Equal(got, want) {
		return fmt.Errorf("generation %d: %d pieces, want %d", g, len(got), len(want))
	}
	return nil
}

// TestCrashes crashes at every change of the file system, goes on from some of these
// crashes, and damages the newest generation now and then: what was committed is
// there, as it was.
func TestCrashes(t *testing.T) {
	crashes, damaged := 0, 0
	if seeds.Each(t, 100, func(t *testing.T, seed uint64) {
		c := &crashing{t: t, r: rand.New(rand.NewPCG(seed, 0)), mem: vfs.NewMem(seed),
			h: history{turns: map[uint64]map[string]uint64{}, metas: map[uint64]string{}}}
		c.open()
		for range 12 {
			if c.generation(); t.Failed() {
				return
			}
		}
		crashes, damaged = crashes+c.crashes, damaged+c.damaged
	}) && (crashes < 5000 || damaged < 100) {
		t.Errorf("%d crashes, %d times damaged", crashes, damaged)
	}
}

type crashing struct {
	t         *testing.T
	r         *rand.Rand
	mem       *vfs.Mem
	store     *Store
	h         history
	ops       []string
	turn      map[string]uint64
	lives     uint64
	committed []uint64 // since the beginning of this lineage; all of them whole
	begun     uint64   // the generation being written, 0: none
	after     *vfs.Mem // a crash to go on from

	crashes, damaged int
}

// open opens the store on mem, as after a start.
func (c *crashing) open() {
	c.store = Open(&stepping{c.mem, c.crash}, "dir")
	c.store.fileMin = 1 + c.r.Int64N(2000)
	c.ops = []string{"a", "b", "c"}[:1+c.r.IntN(3)]
	c.turn = map[string]uint64{}
	gens, err := c.store.Generations()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, g := range gens {
		saved, err := c.store.Load(g)
		if err != nil {
			continue
		}
		c.store.Use(saved)
		c.committed = slices.DeleteFunc(c.committed, func(old uint64) bool { return old >= g })
		c.committed = append(c.committed, g)
		c.h.pieces = slices.DeleteFunc(c.h.pieces, func(w written) bool { return w.generation > g })
		for _, op := range c.ops {
			c.turn[op] = c.h.turns[g][op]
		}
		return
	}
	c.committed, c.h.pieces = nil, nil
	c.store.Use(nil)
}

// generation writes one.
func (c *crashing) generation() {
	w := c.store.Begin()
	g := w.Generation()
	turns := map[string]uint64{}
	var list []Turn
	c.h.metas[g] = fmt.Sprint("meta ", g)
	for _, op := range c.ops {
		share := uint64(c.r.IntN(4)) * cep.FullTurn / 5
		if c.turn[op] == 0 {
			c.lives++ // what it had before, if anything, is of another operator of that name
			share = c.lives * 1000 * cep.FullTurn
		}
		c.turn[op] += share
		turns[op] = c.turn[op]
		list = append(list, Turn{op, c.turn[op]})
	}
	c.h.turns[g] = turns
	for range c.r.IntN(8) {
		op := c.ops[c.r.IntN(len(c.ops))]
		piece := make([]byte, c.r.IntN(400))
		if c.r.IntN(2) == 0 {
			for i := range piece {
				piece[i] = byte(c.r.Uint32())
			}
		}
		c.h.pieces = append(c.h.pieces, written{op, g, string(piece)})
		if err := w.Append(op, piece); err != nil {
			c.t.Fatal(err)
		}
	}
	c.begun = g
	if c.r.IntN(10) == 0 { // given up, as when an output does not become durable
		c.after = c.mem.CrashClone()
	} else if _, err := w.Commit([]byte(c.h.metas[g]), list); err != nil {
		c.t.Fatal(err)
	} else {
		c.committed = append(c.committed, g)
	}
	c.begun = 0
	c.verify(c.mem)
	if c.after != nil {
		c.mem, c.after = c.after, nil
		c.open()
	}
}

// crash verifies what a crash now would leave.
func (c *crashing) crash() {
	clone := c.mem.CrashClone()
	c.crashes++
	c.verify(clone)
	if c.r.IntN(40) == 0 {
		c.after = clone
	}
}

// verify reads what is on a file system, and reads it again with the newest
// generation damaged.
func (c *crashing) verify(mem *vfs.Mem) {
	last := uint64(0)
	if n := len(c.committed); n > 0 {
		last = c.committed[n-1]
	}
	got := c.newest(mem)
	if got != c.begun && got != last || got < last {
		c.t.Errorf("generation %d is the newest; %d was committed, %d begun", got, last, c.begun)
		return
	}
	if got == 0 || len(c.committed) < 2 || c.r.IntN(4) > 0 {
		return
	}
	damaged := mem.CrashClone()
	if c.damage(damaged, got) {
		c.damaged++
		before := c.committed[len(c.committed)-2]
		if got > last {
			before = last
		}
		if next := c.newest(damaged); next != before && next != got {
			c.t.Errorf("generation %d, with %d damaged; want %d", next, got, before)
		}
	}
}

// newest is the newest generation that is whole.
func (c *crashing) newest(mem vfs.FS) uint64 {
	s := Open(mem, "dir")
	gens, err := s.Generations()
	if err != nil {
		c.t.Fatal(err)
	}
	for _, g := range gens {
		saved, err := s.Load(g)
		if err == nil {
			err = c.h.check(s, saved)
		}
		if err == nil {
			return g
		}
		if !errors.Is(err, ErrDamaged) {
			c.t.Error(err)
		}
	}
	return 0
}

// damage flips a byte of a generation's manifest, or of the last of its frames.
func (c *crashing) damage(mem *vfs.Mem, g uint64) bool {
	s := Open(mem, "dir")
	saved, err := s.Load(g)
	if err != nil {
		c.t.Fatal(err)
	}
	name, at := s.name(g, manifestSuffix), c.r.Int64N(int64(len(saved.encode())))
	if c.r.IntN(2) == 0 {
		f := saved.files[len(saved.files)-1]
		if len(c.h.pieces) == 0 || c.h.pieces[len(c.h.pieces)-1].generation != g || f.size == 0 {
			return false
		}
		name, at = s.name(f.number, framesSuffix), f.size-1
	}
	if err := vfs.FlipByte(mem, name, at); err != nil {
		c.t.Fatal(err)
	}
	return true
}

// TestRoom writes generations of a state that changes slowly and one that never does:
// what is on the disk stays within about twice the state and a file.
func TestRoom(t *testing.T) {
	mem := vfs.NewMem(1)
	s := Open(mem, "dir")
	s.fileMin = 10_000
	if _, err := s.Generations(); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	const state, changed = 100_000, 1000
	turn := map[string]uint64{}
	for i := range 1000 {
		w := s.Begin()
		var turns []Turn
		for _, op := range []string{"changes", "stays"} {
			share := uint64(cep.FullTurn * changed / state)
			if i == 0 {
				share = cep.FullTurn
			}
			turn[op] += share
			turns = append(turns, Turn{op, turn[op]})
			if err := w.Append(op, noise(int(share*state/cep.FullTurn))); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Append("changes", noise(changed)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(nil, turns); err != nil {
			t.Fatal(err)
		}
		names, err := mem.List("dir")
		if err != nil {
			t.Fatal(err)
		}
		disk := int64(0)
		for _, n := range names {
			info, err := mem.Stat("dir/" + n)
			if err != nil {
				t.Fatal(err)
			}
			disk += info.Size
		}
		limit := int64(2*2*state + 2*2*state/fileShare)
		if i < 3*state/changed {
			limit += 2 * state // the first generation, until the shares have come round
		}
		if disk > limit {
			t.Fatalf("generation %d: %d bytes on the disk in %d files, of a state of %d; want at most %d", i, disk, len(names), 2*state, limit)
		}
	}
}

// TestFailures fails writes and syncs: the generation fails, and what was committed
// before is still there for the next to add to.
func TestFailures(t *testing.T) {
	faulty := vfs.NewFaulty(vfs.NewMem(1))
	s := Open(faulty, "dir")
	if _, err := s.Generations(); err != nil {
		t.Fatal(err)
	}
	h := history{turns: map[uint64]map[string]uint64{}, metas: map[uint64]string{}}
	var last *Saved
	failed := 0
	for i := range 60 {
		if i%3 == 1 {
			faulty.FailWrite(int64(i/3%2), errors.New("write failed"))
		}
		if i%3 == 2 {
			faulty.FailSync(int64(i/3%3), errors.New("sync failed"))
		}
		w := s.Begin()
		g := w.Generation()
		h.turns[g], h.metas[g] = map[string]uint64{"op": uint64(i) << 30}, ""
		piece := bytes.Repeat([]byte{byte(i)}, 100)
		err := w.Append("op", piece)
		var saved *Saved
		if err == nil {
			saved, err = w.Commit(nil, []Turn{{"op", uint64(i) << 30}})
		}
		faulty.FailWrite(1<<40, nil)
		faulty.FailSync(1<<40, nil)
		if err != nil && saved == nil {
			failed++
			s.Use(last)
			continue
		}
		h.pieces = append(h.pieces, written{"op", g, string(piece)})
		last = saved
		if err := h.check(s, saved); err != nil {
			t.Fatal(err)
		}
	}
	if failed < 20 {
		t.Errorf("only %d generations failed", failed)
	}
}

func FuzzManifest(f *testing.F) {
	s := Saved{Generation: 3, Meta: []byte("meta"), nextOp: 2, ops: []operator{{0, "a"}, {1, "b"}}, files: []frames{{7, 100, []turn{{0, 1}, {1, 1 << 40}}}}}
	f.Add(s.encode()[:len(s.encode())-4])
	f.Add([]byte(manifestMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeManifest(binary.LittleEndian.AppendUint32(slices.Clone(data), crc32.Checksum(data, castagnoli)))
		if err != nil {
			return
		}
		again, err := decodeManifest(got.encode())
		if err != nil || !bytes.Equal(again.encode(), got.encode()) {
			t.Errorf("what was read is written otherwise: %v", err)
		}
	})
}

func FuzzFrames(f *testing.F) {
	one := appendFrame(nil, 1, 2, bytes.Repeat([]byte("weir"), 100))
	f.Add(one)
	f.Add(appendFrame(one, 3, 4, []byte("x")))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newFrameReader(bytes.NewReader(data), int64(len(data)))
		for {
			one, err := r.next()
			if err != nil && !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			if one == nil {
				return
			}
		}
	})
}

// TestForget has an operator's state begin anew while a generation is written that still
// adds to the one before: the next one reads nothing of either, and the other operator's
// as ever.
func TestForget(t *testing.T) {
	s := Open(vfs.NewMem(1), "ckp")
	if _, err := s.Generations(); err != nil {
		t.Fatal(err)
	}
	var saved *Saved
	for g, pieces := range []string{"1", "2", "3"} {
		w := s.Begin()
		if g == 1 {
			s.Forget("a")
		}
		turns := []Turn{{"a", cep.FullTurn + uint64(g)}, {"b", cep.FullTurn + uint64(g)}}
		err := errors.Join(w.Append("a", []byte("a"+pieces)), w.Append("b", []byte("b"+pieces)))
		if err != nil {
			t.Fatal(err)
		}
		if saved, err = w.Commit(nil, turns); err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := s.Replay(saved, func(_ string, _ uint64, piece []byte) error { got += string(piece) + " "; return nil }); err != nil {
			t.Fatal(err)
		}
		if want := []string{"a1 b1 ", "a1 b1 a2 b2 ", "b1 b2 a3 b3 "}[g]; got != want {
			t.Errorf("generation %d: read %q, want %q", g, got, want)
		}
	}
}
