package engine

import (
	"runtime"
	"strings"
	"sync"

	"github.com/weirstream/weir/log/vfs"
)

// mortal is a disk that loses power at one of its operations: what a power failure at
// that moment leaves is put aside, and all that comes after fails.
type mortal struct {
	*vfs.Mem
	mu    sync.Mutex
	ops   int
	last  int           // the operation at which it dies; 0: none
	slow  string        // the directory in which a sync takes a while
	calls []call        // that wait for a number of operations
	after *vfs.Mem      // what is left; nil while it lives
	died  chan struct{} // closed when it does
}

// call is who waits for a number of operations.
type call struct {
	ops  int
	come chan struct{}
}

func newMortal(on *vfs.Mem, last int, slow string) *mortal {
	return &mortal{Mem: on, last: last, slow: slow, died: make(chan struct{})}
}

// step counts an operation, before it is done.
func (m *mortal) step() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.after != nil {
		return errDead
	}
	m.ops++
	for len(m.calls) > 0 && m.calls[0].ops <= m.ops {
		close(m.calls[0].come)
		m.calls = m.calls[1:]
	}
	if m.ops == m.last {
		m.after = m.CrashClone()
		close(m.died)
		return errDead
	}
	return nil
}

// in is closed when so many operations more were done. Who asks waits for it before
// asking again.
func (m *mortal) in(ops int) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := call{m.ops + ops, make(chan struct{})}
	m.calls = append(m.calls, c)
	return c.come
}

func (m *mortal) isDead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.after != nil
}

func (m *mortal) file(open func(string) (vfs.File, error), name string) (vfs.File, error) {
	if err := m.step(); err != nil {
		return nil, err
	}
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	return &mortalFile{f, m, m.slow != "" && strings.HasPrefix(name, m.slow)}, nil
}

func (m *mortal) Create(name string) (vfs.File, error)   { return m.file(m.Mem.Create, name) }
func (m *mortal) Open(name string) (vfs.File, error)     { return m.file(m.Mem.Open, name) }
func (m *mortal) OpenFile(name string) (vfs.File, error) { return m.file(m.Mem.OpenFile, name) }

func (m *mortal) do(what func() error) error {
	if err := m.step(); err != nil {
		return err
	}
	return what()
}

func (m *mortal) Remove(name string) error { return m.do(func() error { return m.Mem.Remove(name) }) }
func (m *mortal) Rename(from, to string) error {
	return m.do(func() error { return m.Mem.Rename(from, to) })
}
func (m *mortal) MkdirAll(dir string) error { return m.do(func() error { return m.Mem.MkdirAll(dir) }) }
func (m *mortal) SyncDir(dir string) error  { return m.do(func() error { return m.Mem.SyncDir(dir) }) }

type mortalFile struct {
	vfs.File
	m    *mortal
	slow bool
}

func (f *mortalFile) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.m.do(func() error { n, err = f.File.WriteAt(p, at); return err })
	return n, err
}

func (f *mortalFile) Sync() error {
	if f.slow {
		for range 2000 { // no sleep: whoever holds a lock meanwhile would hold up the bubble's clock
			runtime.Gosched()
		}
	}
	return f.m.do(f.File.Sync)
}

func (f *mortalFile) Truncate(size int64) error {
	return f.m.do(func() error { return f.File.Truncate(size) })
}
