package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// sectorSize is the unit that a disk writes whole or not at all.
const sectorSize = 512

// Mem is a file system in memory that remembers what was synced.
type Mem struct {
	mu      sync.Mutex
	rng     *rand.Rand
	names   map[string]*memNode // what is seen
	durable map[string]*memNode // what a crash leaves for certain
	pending map[string][]memOp  // by directory: changes of names not yet synced
	locks   map[string]bool
}

// memOp is a change of one name: to node, or its removal where node is nil.
type memOp struct {
	name string
	node *memNode
	// A rename is one operation of two names.
	oldName string
}

// memNode is a file or a directory.
type memNode struct {
	dir     bool
	data    []byte     // what is seen
	synced  []byte     // what a crash leaves for certain
	pending []memWrite // since the last sync
}

type memWrite struct {
	at       int64 // for truncate: the size
	data     []byte
	truncate bool
}

// NewMem is an empty file system. The seed decides what crash clones keep.
func NewMem(seed uint64) *Mem {
	m := &Mem{
		rng:     rand.New(rand.NewPCG(seed, 0x77656972)),
		names:   map[string]*memNode{},
		durable: map[string]*memNode{},
		pending: map[string][]memOp{},
		locks:   map[string]bool{},
	}
	for _, root := range []string{".", string(filepath.Separator)} {
		n := &memNode{dir: true}
		m.names[root], m.durable[root] = n, n
	}
	return m
}

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

func (m *Mem) change(op memOp) {
	dir := filepath.Dir(op.name)
	m.pending[dir] = append(m.pending[dir], op)
	apply(m.names, op)
}

func apply(names map[string]*memNode, op memOp) {
	if op.oldName != "" {
		// A directory takes along what is in it.
		prefix := op.oldName + string(filepath.Separator)
		for name, n := range names {
			if strings.HasPrefix(name, prefix) {
				delete(names, name)
				names[op.name+name[len(op.oldName):]] = n
			}
		}
		delete(names, op.oldName)
	}
	if op.node == nil {
		if n := names[op.name]; n != nil && n.dir {
			prefix := op.name + string(filepath.Separator)
			for name := range names {
				if strings.HasPrefix(name, prefix) {
					delete(names, name) // removed before, but not synced
				}
			}
		}
		delete(names, op.name)
		return
	}
	names[op.name] = op.node
}

func (m *Mem) open(op, name string, create, truncate bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	n := m.names[name]
	switch {
	case n != nil && n.dir:
		return nil, pathError(op, name, syscall.EISDIR)
	case n == nil && !create:
		return nil, pathError(op, name, fs.ErrNotExist)
	case n == nil:
		if d := m.names[filepath.Dir(name)]; d == nil || !d.dir {
			return nil, pathError(op, name, fs.ErrNotExist)
		}
		n = &memNode{}
		m.change(memOp{name: name, node: n})
	case truncate:
		n.truncate(0)
	}
	return &memFile{m: m, n: n, name: name, readOnly: !create}, nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) { return m.open("create", name, true, true) }

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open("open", name, false, false) }

// OpenFile implements FS.
func (m *Mem) OpenFile(name string) (File, error) { return m.open("open", name, true, false) }

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	n := m.names[name]
	if n == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if n.dir {
		for other := range m.names {
			if filepath.Dir(other) == name && other != name {
				return pathError("remove", name, syscall.ENOTEMPTY)
			}
		}
		delete(m.pending, name) // a directory made later by that name is another
	}
	m.change(memOp{name: name})
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	oldname, newname = filepath.Clean(oldname), filepath.Clean(newname)
	n := m.names[oldname]
	if n == nil {
		return pathError("rename", oldname, fs.ErrNotExist)
	}
	if old := m.names[newname]; old != nil && old.dir {
		return pathError("rename", newname, fs.ErrExist)
	}
	m.change(memOp{name: newname, node: n, oldName: oldname})
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mkdirAll(filepath.Clean(dir))
}

func (m *Mem) mkdirAll(dir string) error {
	if n := m.names[dir]; n != nil {
		if !n.dir {
			return pathError("mkdir", dir, syscall.ENOTDIR)
		}
		return nil
	}
	if err := m.mkdirAll(filepath.Dir(dir)); err != nil {
		return err
	}
	m.change(memOp{name: dir, node: &memNode{dir: true}})
	return nil
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = filepath.Clean(dir)
	if n := m.names[dir]; n == nil || !n.dir {
		return nil, pathError("list", dir, fs.ErrNotExist)
	}
	var names []string
	for name := range m.names {
		if filepath.Dir(name) == dir && name != dir {
			names = append(names, filepath.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.names[filepath.Clean(name)]
	if n == nil {
		return Info{}, pathError("stat", name, fs.ErrNotExist)
	}
	return Info{Size: int64(len(n.data)), Dir: n.dir}, nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = filepath.Clean(dir)
	if n := m.names[dir]; n == nil || !n.dir {
		return pathError("sync", dir, fs.ErrNotExist)
	}
	for _, op := range m.pending[dir] {
		apply(m.durable, op)
	}
	delete(m.pending, dir)
	return nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, fmt.Errorf("%s: %w", name, ErrLocked)
	}
	m.locks[name] = true
	return memLock{m, name}, nil
}

type memLock struct {
	m    *Mem
	name string
}

func (l memLock) Close() error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	delete(l.m.locks, l.name)
	return nil
}

// Usage implements FS; a Mem has no limit of its own.
func (m *Mem) Usage(string) (Usage, error) { return Usage{Total: 1 << 40, Free: 1 << 40}, nil }

// CrashClone is the file system as a power failure at this moment could leave it:
// all that was synced; of the names changed in each directory a prefix; of the
// bytes written to each file since its sync nothing, everything, a prefix that
// ends within a write, or any of the sectors with zeros between them. No lock
// survives. The original goes on unharmed.
func (m *Mem) CrashClone() *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := make(map[string]*memNode, len(m.durable))
	for name, n := range m.durable {
		names[name] = n
	}
	dirs := make([]string, 0, len(m.pending))
	for dir := range m.pending {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs) // the same seed keeps the same things
	for _, dir := range dirs {
		ops := m.pending[dir]
		for _, op := range ops[:m.rng.IntN(len(ops)+1)] {
			if op.oldName == "" || names[op.oldName] != nil {
				apply(names, op)
			}
		}
	}
	c := NewMem(m.rng.Uint64())
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted) // parents before children
	clones := map[*memNode]*memNode{}
	for _, name := range sorted {
		if p := filepath.Dir(name); p != name && c.names[p] == nil {
			continue // its directory was lost
		}
		n := names[name]
		if clones[n] == nil {
			clones[n] = n.crash(m.rng)
		}
		c.names[name], c.durable[name] = clones[n], clones[n]
	}
	return c
}

func (n *memNode) crash(rng *rand.Rand) *memNode {
	if n.dir {
		return &memNode{dir: true}
	}
	data := slices.Clone(n.synced)
	switch rng.IntN(4) {
	case 0: // nothing
	case 1:
		data = slices.Clone(n.data)
	case 2:
		for i, w := range n.pending[:rng.IntN(len(n.pending)+1)] {
			if i == len(n.pending)-1 || rng.IntN(8) == 0 {
				if !w.truncate {
					w.data = w.data[:rng.IntN(len(w.data)+1)]
				}
				data = w.apply(data)
				break
			}
			data = w.apply(data)
		}
	case 3:
		for _, w := range n.pending {
			data = w.applySectors(data, rng)
		}
	}
	return &memNode{data: data, synced: slices.Clone(data)}
}

func (w memWrite) apply(data []byte) []byte {
	if w.truncate {
		return resize(data, w.at)
	}
	if end := w.at + int64(len(w.data)); end > int64(len(data)) {
		data = resize(data, end)
	}
	copy(data[w.at:], w.data)
	return data
}

// applySectors applies any of a write's sectors; the size grows in any case.
func (w memWrite) applySectors(data []byte, rng *rand.Rand) []byte {
	if w.truncate {
		return w.apply(data)
	}
	if end := w.at + int64(len(w.data)); end > int64(len(data)) {
		data = resize(data, end)
	}
	for from := 0; from < len(w.data); {
		to := min(len(w.data), from+sectorSize-int((w.at+int64(from))%sectorSize))
		if rng.IntN(2) == 0 {
			copy(data[w.at+int64(from):], w.data[from:to])
		}
		from = to
	}
	return data
}

func resize(data []byte, size int64) []byte {
	if size <= int64(len(data)) {
		return data[:size]
	}
	old := len(data)
	data = slices.Grow(data, int(size)-old)[:size]
	clear(data[old:])
	return data
}

func (n *memNode) write(w memWrite) {
	n.data = w.apply(n.data)
	n.pending = append(n.pending, w)
}

func (n *memNode) truncate(size int64) { n.write(memWrite{at: size, truncate: true}) }

type memFile struct {
	m        *Mem
	n        *memNode
	name     string
	readOnly bool
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if f.readOnly {
		return 0, pathError("write", f.name, fs.ErrPermission)
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.write(memWrite{at: off, data: slices.Clone(p)})
	return len(p), nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	for _, w := range f.n.pending {
		f.n.synced = w.apply(f.n.synced)
	}
	f.n.pending = f.n.pending[:0]
	return nil
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	f.n.truncate(size)
	return nil
}

// Preallocate implements Preallocator.
func (f *memFile) Preallocate(from, n int64) error {
	if f.readOnly {
		return pathError("preallocate", f.name, fs.ErrPermission)
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if end := from + n; end > int64(len(f.n.data)) {
		f.n.truncate(end)
	}
	return nil
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.n.data)), nil
}

func (f *memFile) Close() error { return nil }
