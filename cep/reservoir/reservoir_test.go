package reservoir

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// one row of the model.
type row struct {
	key   uint32
	words []uint64
	floor event.Time
}

// model is a reservoir beside a slice of all rows that it was given.
type model struct {
	t       *testing.T
	r       *rand.Rand
	fs      *vfs.Mem
	res     *Reservoir
	opts    Options
	columns int
	rows    []row
	its     []*Iterator
	now     event.Time
	low     event.Time
	saved   []saved // snapshots, the newest last
}

type saved struct {
	data []byte
	rows int
	at   []int64 // of the iterators
	now  event.Time
	low  event.Time
}

func newModel(t *testing.T, r *rand.Rand) *model {
	m := &model{t: t, r: r, fs: vfs.NewMem(r.Uint64()), columns: 1 + r.IntN(5), opts: Options{ChunkRows: 1 + r.IntN(12), SegmentBytes: int64(1 + r.IntN(600))},
		now: event.Time(r.IntN(1000)), low: event.MinTime}
	if err := errors.Join(m.fs.MkdirAll("a"), m.fs.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	m.res = New(m.fs, filepath.Join("a", "b"), m.columns, m.opts)
	for range 1 + r.IntN(4) {
		m.its = append(m.its, m.res.Iterator(0))
	}
	return m
}

func (m *model) append() {
	r := m.r
	if m.low = max(m.low, m.now-20); r.IntN(50) == 0 {
		m.now += 300
	}
	m.now += event.Time(r.IntN(5))
	one := row{key: uint32(r.IntN(5)), floor: m.low}
	if r.IntN(3) == 0 {
		one.key = []uint32{1 << 8, 1 << 31, 257, 70_000}[r.IntN(4)]
	}
	one.words = append(one.words, uint64(max(m.low, m.now-event.Time(r.IntN(20)))))
	for range m.columns - 1 {
		one.words = append(one.words, []uint64{0, uint64(r.IntN(300)), -uint64(r.IntN(300)), r.Uint64()}[r.IntN(4)])
	}
	m.rows = append(m.rows, one)
	if err := m.res.Append(one.key, one.words, one.floor); err != nil {
		m.t.Fatal(err)
	}
}

// read moves an iterator as far as a time asks for, or not all of it.
func (m *model) read(it *Iterator, upTo event.Time) {
	for {
		rows, whole, err := it.Due(upTo)
		if err != nil {
			m.t.Fatal(err)
		}
		n, part := len(rows.Keys), m.r.IntN(4) == 0
		if part {
			n = m.r.IntN(n + 1)
		}
		for i := range n {
			want := m.rows[it.Row()+int64(i)]
			if rows.Keys[i] != want.key || !slices.Equal(rows.Words[i*m.columns:(i+1)*m.columns], want.words) {
				m.t.Fatalf("row %d: key %d %v, want %d %v", it.Row()+int64(i), rows.Keys[i], rows.Words[i*m.columns:(i+1)*m.columns], want.key, want.words)
			}
		}
		it.Skip(n)
		if part {
			return
		}
		if !whole {
			break
		}
	}
	for i := it.Row(); i < int64(len(m.rows)); i++ {
		if event.Time(m.rows[i].words[0]) <= upTo {
			m.t.Fatalf("row %d with time %d was not given up to %d", i, m.rows[i].words[0], upTo)
		}
	}
}

// first is the first row that an iterator has not read.
func (m *model) first() int64 {
	first := m.res.End()
	for _, it := range m.its {
		first = min(first, it.Row())
	}
	return first
}

func (m *model) find() {
	key, from := m.rows[m.r.IntN(len(m.rows))].key, m.first()
	after := m.now - event.Time(m.r.IntN(400))
	upTo := after + event.Time(m.r.IntN(300))
	for _, row := range m.rows[:from] {
		after = max(after, event.Time(row.words[0])) // what may be gone is not looked for
	}
	var got, want []string
	err := m.res.Find(key, after, upTo, func(row int64, words []uint64) { got = append(got, fmt.Sprint(row, words)) })
	if err != nil {
		m.t.Fatal(err)
	}
	for i, row := range m.rows {
		if t := event.Time(row.words[0]); row.key == key && t > after && t <= upTo {
			want = append(want, fmt.Sprint(i, row.words))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		m.t.Fatalf("key %d in (%d, %d]: %v, want %v", key, after, upTo, got, want)
	}
}

func (m *model) snapshot() {
	var buf bytes.Buffer
	w := cep.NewSnapshotWriter(&buf)
	if err := errors.Join(m.res.Snapshot(w, m.first()), w.Flush()); err != nil {
		m.t.Fatal(err)
	}
	s := saved{data: buf.Bytes(), rows: len(m.rows), now: m.now, low: m.low}
	for _, it := range m.its {
		s.at = append(s.at, it.Row())
	}
	m.saved = append(m.saved, s)
}

// trim lets go what neither an iterator nor the last two snapshots need.
func (m *model) trim() {
	from := m.first()
	for _, s := range m.saved[max(0, len(m.saved)-2):] {
		from = min(from, slices.Min(s.at))
	}
	if err := m.res.Trim(from); err != nil {
		m.t.Fatal(err)
	}
}

// restore goes back to one of the last two snapshots, in the file system as it is or
// as a crash leaves it.
func (m *model) restore() {
	n := len(m.saved) - 1 - m.r.IntN(min(2, len(m.saved)))
	s := m.saved[n]
	m.saved = m.saved[n : n+1]
	if m.r.IntN(2) == 0 {
		m.fs = m.fs.CrashClone()
	}
	m.res = New(m.fs, filepath.Join("a", "b"), m.columns, m.opts)
	from, err := m.res.Restore(cep.NewSnapshotReader(bytes.NewReader(s.data)))
	if err != nil {
		m.t.Fatal(err)
	}
	m.rows, m.now, m.low = m.rows[:s.rows], s.now, s.low
	if got := m.res.End(); got != int64(s.rows) {
		m.t.Fatalf("%d rows after restore, want %d", got, s.rows)
	}
	m.its = nil
	for _, at := range s.at {
		if at < from {
			m.t.Fatalf("the first row needed is %d, an iterator is at %d", from, at)
		}
		m.its = append(m.its, m.res.Iterator(at))
	}
}

// TestAgainstModel runs random rows, iterators, snapshots, restores and crashes.
func TestAgainstModel(t *testing.T) {
	seeds.Each(t, 2000, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 7))
		m := newModel(t, r)
		for range r.IntN(300) {
			switch k := r.IntN(20); {
			case k < 11 || len(m.rows) == 0:
				m.append()
			case k < 16:
				m.read(m.its[r.IntN(len(m.its))], m.now-event.Time(r.IntN(300)))
			case k < 17:
				m.find()
			case k < 18:
				m.trim()
			case k < 19:
				m.snapshot()
			case len(m.saved) > 0:
				m.restore()
			}
			if t.Failed() {
				return
			}
		}
	})
}

// TestRowsOfAnotherLife begins anew where there is a snapshot, with as many rows of other
// keys: the snapshot is refused, whichever of its rows are asked for, unless none of the
// files are.
func TestRowsOfAnotherLife(t *testing.T) {
	for _, kept := range []int{0, 40, 100} { // rows that both have
		mem := vfs.NewMem(1)
		_, snap := fill(t, mem, 100)
		r := New(mem, "d", 2, Options{ChunkRows: 8, SegmentBytes: 300})
		for i := range 100 {
			key := uint32(i % 3)
			if i >= kept {
				key = 2 - key
			}
			if err := r.Append(key, []uint64{uint64(i), uint64(i)}, event.Time(i)); err != nil {
				t.Fatal(err)
			}
		}
		r = New(mem, "d", 2, Options{ChunkRows: 8, SegmentBytes: 300})
		_, err := r.Restore(cep.NewSnapshotReader(bytes.NewReader(snap)))
		if (kept == 100) != (err == nil) || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%d rows kept: restored with the error %v", kept, err)
		}
	}
}

// fill makes a reservoir of n rows with a snapshot at its end.
func fill(t testing.TB, fsys vfs.FS, n int) (*Reservoir, []byte) {
	t.Helper()
	r := New(fsys, "d", 2, Options{ChunkRows: 8, SegmentBytes: 300})
	for i := range n {
		if err := r.Append(uint32(i%3), []uint64{uint64(i), uint64(i)}, event.Time(i)); err != nil {
			t.Fatal(err)
		}
	}
	var buf bytes.Buffer
	w := cep.NewSnapshotWriter(&buf)
	if err := errors.Join(r.Snapshot(w, 0), w.Flush()); err != nil {
		t.Fatal(err)
	}
	return r, buf.Bytes()
}

// TestDamageIsFound flips each byte of the files in turn: reading everything tells,
// and Restore does from then on.
func TestDamageIsFound(t *testing.T) {
	clean := vfs.NewMem(1)
	_, snap := fill(t, clean, 100)
	names, err := clean.List("d")
	if err != nil || len(names) < 3 {
		t.Fatal(names, err)
	}
	name := filepath.Join("d", names[1])
	data, err := vfs.ReadFile(clean, name)
	if err != nil {
		t.Fatal(err)
	}
	for at := range data {
		mem := clean.CrashClone() // all is synced
		if err := vfs.FlipByte(mem, name, int64(at)); err != nil {
			t.Fatal(err)
		}
		r := New(mem, "d", 2, Options{ChunkRows: 8, SegmentBytes: 300})
		_, err := r.Restore(cep.NewSnapshotReader(bytes.NewReader(snap)))
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("byte %d: %v", at, err)
			}
			continue
		}
		if err = readAll(r); !errors.Is(err, ErrDamaged) || !bytes.Contains([]byte(err.Error()), []byte(name)) {
			t.Fatalf("byte %d: read with the error %v, expected damage of %s", at, err, name)
		}
		r = New(mem, "d", 2, Options{ChunkRows: 8, SegmentBytes: 300})
		if _, err := r.Restore(cep.NewSnapshotReader(bytes.NewReader(snap))); !errors.Is(err, ErrDamaged) {
			t.Fatalf("byte %d: restored with the error %v after the damage was found", at, err)
		}
	}
}

func readAll(r *Reservoir) error {
	for it := r.Iterator(0); it.Row() < r.End(); {
		rows, _, err := it.Due(1 << 40)
		if err != nil {
			return err
		}
		it.Skip(len(rows.Keys))
	}
	return nil
}

// TestFilesGo wants the files of rows that nobody needs removed.
func TestFilesGo(t *testing.T) {
	mem := vfs.NewMem(1)
	r := New(mem, "d", 1, Options{ChunkRows: 10, SegmentBytes: 1})
	it := r.Iterator(0)
	for i := range 10_000 {
		if err := r.Append(0, []uint64{uint64(i)}, event.Time(i)); err != nil {
			t.Fatal(err)
		}
		rows, _, err := it.Due(event.Time(i - 100))
		if err != nil {
			t.Fatal(err)
		}
		it.Skip(len(rows.Keys))
		if err := r.Trim(it.Row()); err != nil {
			t.Fatal(err)
		}
		names, err := mem.List("d")
		if err != nil {
			t.Fatal(err)
		}
		if len(names) > 12 {
			t.Fatalf("%d files for 100 rows at row %d", len(names), i)
		}
	}
	if b := r.Bytes(); b > 16<<10 {
		t.Errorf("%d bytes of memory for chunks of 10 rows", b)
	}
}

// TestWriteErrors wants an error from a full disk, and the rows of the last snapshot
// back.
func TestWriteErrors(t *testing.T) {
	mem := vfs.NewMem(1)
	faulty := vfs.NewFaulty(mem)
	r, snap := fill(t, faulty, 100)
	faulty.SetSpace(100)
	var err error
	for i := 100; i < 200 && err == nil; i++ {
		err = r.Append(0, []uint64{uint64(i), 0}, event.Time(i))
	}
	if !vfs.IsDiskFull(err) {
		t.Fatalf("error %v from a full disk", err)
	}
	r = New(mem, "d", 2, Options{ChunkRows: 8, SegmentBytes: 300})
	if _, err := r.Restore(cep.NewSnapshotReader(bytes.NewReader(snap))); err != nil {
		t.Fatal(err)
	}
	if err := readAll(r); err != nil || r.End() != 100 {
		t.Fatalf("%d rows, %v", r.End(), err)
	}
}

func FuzzChunk(f *testing.F) {
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := &chunk{}
		c.reset(int64(seed)*8, 1+int(seed%4))
		for range seed * 3 {
			c.keys = append(c.keys, uint32(r.Uint64()>>(r.IntN(64))))
			for range c.columns {
				c.words = append(c.words, r.Uint64()>>r.IntN(64))
			}
			c.n++
		}
		var e encoder
		f.Add(slices.Clone(e.encode(c)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var e encoder
		var c, again chunk
		if e.decode(&c, data) != nil {
			return
		}
		if err := e.decode(&again, slices.Clone(e.encode(&c))); err != nil {
			t.Fatal(err)
		}
		if again.first != c.first || !slices.Equal(again.keys, c.keys) || !slices.Equal(again.words, c.words) || !slices.Equal(again.floor, c.floor) {
			t.Fatal("a chunk differs after it was written and read")
		}
	})
}

func FuzzRestore(f *testing.F) {
	mem := vfs.NewMem(1)
	_, snap := fill(f, mem, 100)
	f.Add(snap)
	f.Fuzz(func(t *testing.T, data []byte) {
		r := New(mem.CrashClone(), "d", 2, Options{ChunkRows: 8, SegmentBytes: 300})
		if _, err := r.Restore(cep.NewSnapshotReader(bytes.NewReader(data))); err == nil {
			if err := readAll(r); err != nil && !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkReservoir(b *testing.B) {
	const delay = 1_000_000
	r := New(vfs.OS, b.TempDir(), 3, Options{})
	rng := rand.New(rand.NewPCG(1, 1))
	it := r.Iterator(0)
	i := 0
	for b.Loop() {
		i++
		if err := r.Append(uint32(rng.IntN(100_000)), []uint64{uint64(i) * 1_000_000, uint64(rng.IntN(10_000)), 0}, event.Time(i)*1_000_000); err != nil {
			b.Fatal(err)
		}
		rows, _, err := it.Due(event.Time(i-delay) * 1_000_000)
		if err != nil {
			b.Fatal(err)
		}
		it.Skip(len(rows.Keys))
	}
	b.ReportMetric(float64(r.Disk())/float64(i), "disk-B/row")
}

// BenchmarkFind looks for a key that is in one of 40 chunks.
func BenchmarkFind(b *testing.B) {
	r := New(vfs.OS, b.TempDir(), 3, Options{})
	const rows = 1_000_000
	for i := range rows {
		key := uint32(i*7919) % 100_000
		if i%(40*4096) == 0 {
			key = 1 << 20
		}
		if err := r.Append(key, []uint64{uint64(i), 5, 0}, event.Time(i)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if err := r.Find(1<<20, -1, rows, func(int64, []uint64) {}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows*1000, "ns/1000rows")
}
