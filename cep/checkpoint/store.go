package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/log/vfs"
)

// ErrDamaged is wrapped by errors about what cannot have been written so.
var ErrDamaged = errors.New("damaged checkpoint")

const (
	manifestSuffix = ".manifest"
	framesSuffix   = ".frames"
	// oldSuffix is of checkpoints in one file, as versions before the manifest wrote
	// them; the engine reads those.
	oldSuffix = ".checkpoint"

	generationsKept = 2
	// A file is written on until it has so many bytes and such a part of all.
	defaultFileMin = 4 << 20
	fileShare      = 8
)

// Store keeps the checkpoints of one shard.
type Store struct {
	fs  vfs.FS
	dir string

	newest uint64 // generation, whole or not
	base   Saved  // what the next generation adds to
	whole  []*Saved
	file   vfs.File // the file at hand; nil: the next generation begins one
	next   uint64   // number of the next file
	made   bool     // the directory is there

	forgotten []string // operators whose state begins anew with the next generation

	fileMin int64
}

// Saved is a checkpoint.
type Saved struct {
	Generation uint64
	Meta       []byte
	Old        []byte // of a checkpoint in one file: all of it

	files  []frames
	ops    []operator // by number
	nextOp uint64
}

// frames is a file as of a checkpoint.
type frames struct {
	number uint64
	size   int64
	turns  []turn // by operator
}

type turn struct{ op, turn uint64 }

type operator struct {
	number   uint64
	identity string
}

// Open makes a store of a directory, which need not be there.
func Open(fsys vfs.FS, dir string) *Store {
	return &Store{fs: fsys, dir: dir, fileMin: defaultFileMin}
}

// Generations are those of which there is something, newest first. It is the first to
// be called.
func (s *Store) Generations() ([]uint64, error) {
	names, err := s.list()
	if err != nil {
		return nil, err
	}
	var gens []uint64
	for _, n := range names {
		for _, suffix := range []string{manifestSuffix, oldSuffix} {
			if g, ok := numberOf(n, suffix); ok {
				gens = append(gens, g)
			}
		}
		if f, ok := numberOf(n, framesSuffix); ok {
			s.next = max(s.next, f+1)
		}
	}
	slices.Sort(gens)
	gens = slices.Compact(gens)
	slices.Reverse(gens)
	if len(gens) > 0 {
		s.newest = max(s.newest, gens[0])
	}
	return gens, nil
}

func (s *Store) list() ([]string, error) {
	names, err := s.fs.List(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

func numberOf(name, suffix string) (uint64, bool) {
	digits, found := strings.CutSuffix(name, suffix)
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, found && err == nil
}

// Name is the file of a generation, for people.
func (s *Store) Name(generation uint64) string { return s.name(generation, manifestSuffix) }

func (s *Store) name(number uint64, suffix string) string {
	return filepath.Join(s.dir, fmt.Sprintf("%020d%s", number, suffix))
}

// Load reads a generation's manifest.
func (s *Store) Load(generation uint64) (*Saved, error) {
	data, err := vfs.ReadFile(s.fs, s.name(generation, manifestSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		if data, err = vfs.ReadFile(s.fs, s.name(generation, oldSuffix)); err == nil {
			return &Saved{Generation: generation, Old: data}, nil
		}
	}
	if err != nil {
		return nil, err
	}
	saved, err := decodeManifest(data)
	if err != nil {
		return nil, err
	}
	if saved.Generation != generation {
		return nil, fmt.Errorf("%w: the manifest of generation %d under the name of %d", ErrDamaged, saved.Generation, generation)
	}
	return saved, nil
}

// Replay reads the pieces of a checkpoint's operators in the order in which they were
// written. A piece is valid until the next one. Among them are some that later ones
// supersede. An error of visit ends it and is returned.
func (s *Store) Replay(saved *Saved, visit func(identity string, generation uint64, piece []byte) error) error {
	identities := map[uint64]string{}
	for _, op := range saved.ops {
		identities[op.number] = op.identity
	}
	for i := range saved.files {
		if err := s.replayFile(&saved.files[i], identities, visit); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) replayFile(f *frames, identities map[uint64]string, visit func(string, uint64, []byte) error) error {
	name := s.name(f.number, framesSuffix)
	file, err := s.fs.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	r := newFrameReader(file, f.size)
	for {
		one, err := r.next()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if one == nil {
			return nil
		}
		if identity, known := identities[one.op]; known {
			if err := visit(identity, one.generation, one.piece); err != nil {
				return err
			}
		}
	}
}

// Use makes the next generation add to what is saved; nil: to nothing. What the
// operators are restored from is this.
func (s *Store) Use(saved *Saved) {
	s.closeFile()
	s.base, s.whole, s.forgotten = Saved{}, nil, nil
	if saved == nil {
		return
	}
	s.whole = []*Saved{saved}
	if saved.Old == nil {
		s.base = Saved{files: slices.Clone(saved.files), ops: saved.ops, nextOp: saved.nextOp}
	}
}

// Restart makes the next generation add to nothing: the operators were not restored
// from what is there, which stays until two generations more are whole.
func (s *Store) Restart() {
	s.closeFile()
	s.base = Saved{nextOp: s.base.nextOp}
}

// Forget makes the state of an operator begin anew with the next generation that is begun:
// it does not go on from what there is under its identity.
func (s *Store) Forget(identity string) { s.forgotten = append(s.forgotten, identity) }

// Has reports whether there is state of an operator.
func (s *Saved) Has(identity string) bool {
	return slices.ContainsFunc(s.ops, func(o operator) bool { return o.identity == identity })
}

// Close lets go of the file at hand.
func (s *Store) Close() { s.closeFile() }

func (s *Store) closeFile() {
	if s.file != nil {
		_ = s.file.Close() // what is durable was synced
		s.file = nil
	}
}

// Bytes is how many bytes of frames the newest checkpoint needs.
func (s *Store) Bytes() (sum int64) {
	for i := range s.base.files {
		sum += s.base.files[i].size
	}
	return sum
}

// Writer writes a generation.
type Writer struct {
	store *Store
	gen   uint64
	base  Saved
	file  frames // at hand
	begun bool   // the file's name is not durable yet
	buf   []byte // frames not yet written
	bytes int64
}

// flushFrom is how many bytes are written at once.
const flushFrom = 1 << 20

// Begin begins a generation. After an error of its Writer it is for Use to say what
// the next one adds to.
func (s *Store) Begin() *Writer {
	s.newest++
	s.base.ops = slices.DeleteFunc(slices.Clone(s.base.ops), func(o operator) bool { return slices.Contains(s.forgotten, o.identity) })
	s.forgotten = nil
	w := &Writer{store: s, gen: s.newest, base: s.base}
	w.base.files, w.base.ops = slices.Clone(s.base.files), slices.Clone(s.base.ops)
	if s.file != nil {
		last := len(w.base.files) - 1
		w.file = w.base.files[last]
		w.base.files = w.base.files[:last]
	}
	return w
}

// Generation is the number of the one being written.
func (w *Writer) Generation() uint64 { return w.gen }

// Bytes is how many bytes of frames were written.
func (w *Writer) Bytes() int64 { return w.bytes }

// Append writes a piece of an operator's state. It does not retain it.
func (w *Writer) Append(identity string, piece []byte) error {
	before := len(w.buf)
	w.buf = appendFrame(w.buf, w.base.number(identity), w.gen, piece)
	w.bytes += int64(len(w.buf) - before)
	if len(w.buf) < flushFrom {
		return nil
	}
	return w.flush()
}

// number is the operator's, a new one where it has none.
func (s *Saved) number(identity string) uint64 {
	i := slices.IndexFunc(s.ops, func(o operator) bool { return o.identity == identity })
	if i >= 0 {
		return s.ops[i].number
	}
	s.ops = append(s.ops, operator{s.nextOp, identity})
	s.nextOp++
	return s.nextOp - 1
}

func (w *Writer) flush() error {
	s := w.store
	if s.file == nil {
		if err := s.begin(); err != nil {
			return err
		}
		w.file, w.begun = frames{number: s.next - 1}, true
	}
	n, err := s.file.WriteAt(w.buf, w.file.size)
	w.file.size += int64(n)
	w.buf = w.buf[:0]
	return err
}

// begin begins a file.
func (s *Store) begin() error {
	if err := s.makeDir(); err != nil {
		return err
	}
	f, err := s.fs.Create(s.name(s.next, framesSuffix))
	if err != nil {
		return err
	}
	s.file = f
	s.next++
	return nil
}

// makeDir makes the directory, and its name and that of the one it is in durable: both
// may be new.
func (s *Store) makeDir() error {
	if s.made {
		return nil
	}
	if err := s.fs.MkdirAll(s.dir); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(s.dir), filepath.Dir(filepath.Dir(s.dir))} {
		if err := s.fs.SyncDir(dir); err != nil {
			return err
		}
	}
	s.made = true
	return nil
}

// Turn is how far an operator's shares have come with a generation. Of one that
// writes all of its state in each generation it is cep.FullTurn more each time.
type Turn struct {
	Identity string
	Turn     uint64
}

// Commit makes the generation durable: turns has all operators that it has state of.
// Then what is no longer needed goes.
func (w *Writer) Commit(meta []byte, turns []Turn) (*Saved, error) {
	s := w.store
	if err := w.flush(); err != nil { // also an empty one, so that there is a file
		return nil, err
	}
	if err := s.file.Sync(); err != nil {
		return nil, err
	}
	if w.begun {
		if err := s.fs.SyncDir(s.dir); err != nil {
			return nil, err
		}
	}
	saved := w.saved(meta, turns)
	if err := vfs.WriteFile(s.fs, s.name(w.gen, manifestSuffix), saved.encode()); err != nil {
		return nil, err
	}
	s.base = Saved{files: saved.files, ops: saved.ops, nextOp: saved.nextOp}
	s.whole = append(s.whole, saved)
	s.whole = s.whole[max(0, len(s.whole)-generationsKept):]
	if last := &saved.files[len(saved.files)-1]; last.size >= max(s.fileMin, s.Bytes()/fileShare) {
		s.closeFile()
	}
	return saved, s.sweep()
}

// saved is the checkpoint that the generation makes: with the files that are needed.
func (w *Writer) saved(meta []byte, turns []Turn) *Saved {
	out := &Saved{Generation: w.gen, Meta: meta, nextOp: w.base.nextOp}
	now := map[uint64]uint64{}
	w.file.turns = nil
	for _, t := range turns {
		n := w.base.number(t.Identity)
		now[n] = t.Turn
		out.ops = append(out.ops, operator{n, t.Identity})
		w.file.turns = append(w.file.turns, turn{n, t.Turn})
	}
	out.nextOp = w.base.nextOp
	for _, f := range append(w.base.files, w.file) {
		needed := f.number == w.file.number || slices.ContainsFunc(f.turns, func(t turn) bool {
			n, used := now[t.op]
			return used && n-t.turn < cep.FullTurn
		})
		if needed {
			out.files = append(out.files, f)
		}
	}
	return out
}

// sweep removes what the newest two generations do not need.
func (s *Store) sweep() error {
	names, err := s.list()
	if err != nil {
		return err
	}
	for _, name := range names {
		if s.keeps(name) {
			continue
		}
		if err := s.fs.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (s *Store) keeps(name string) bool {
	if g, ok := numberOf(name, manifestSuffix); ok {
		return slices.ContainsFunc(s.whole, func(w *Saved) bool { return w.Generation == g && w.Old == nil })
	}
	if g, ok := numberOf(name, oldSuffix); ok {
		return slices.ContainsFunc(s.whole, func(w *Saved) bool { return w.Generation == g && w.Old != nil })
	}
	if n, ok := numberOf(name, framesSuffix); ok {
		return slices.ContainsFunc(s.whole, func(w *Saved) bool {
			return slices.ContainsFunc(w.files, func(f frames) bool { return f.number == n })
		})
	}
	// A manifest that was not finished goes; anything else is not the store's.
	return !strings.HasSuffix(name, manifestSuffix+".tmp") && !strings.HasSuffix(name, oldSuffix+".tmp")
}
