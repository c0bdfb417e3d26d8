package vfs

import (
	"fmt"
	"math"
	"sync/atomic"
	"syscall"
)

// Faulty is an FS that fails on demand. Its faults may be set at any time, from
// any goroutine.
type Faulty struct {
	FS
	space  atomic.Int64 // bytes that may still be written
	writes fault
	syncs  fault
}

// fault fails an operation once, after some that succeed, or for good.
type fault struct {
	left atomic.Int64 // operations until it fails; negative: it does not
	err  atomic.Pointer[error]
}

func (f *fault) set(after int64, err error) {
	f.err.Store(&err)
	f.left.Store(after)
}

func (f *fault) hit() error {
	if f.left.Load() < 0 || f.left.Add(-1) >= 0 {
		return nil
	}
	return *f.err.Load()
}

// NewFaulty wraps fsys; without a fault set it does what fsys does.
func NewFaulty(fsys FS) *Faulty {
	f := &Faulty{FS: fsys}
	f.SetSpace(math.MaxInt64)
	f.writes.left.Store(-1)
	f.syncs.left.Store(-1)
	return f
}

// SetSpace leaves room for n more bytes. The write that exceeds it is cut short
// and fails with ENOSPC, as do all after it until more room is set.
func (f *Faulty) SetSpace(n int64) { f.space.Store(n) }

// FailWrite lets n writes succeed and the one after them fail with err, writing
// half of its bytes.
func (f *Faulty) FailWrite(n int64, err error) { f.writes.set(n, err) }

// FailSync lets n syncs of files succeed and the one after them fail with err.
func (f *Faulty) FailSync(n int64, err error) { f.syncs.set(n, err) }

// Create implements FS.
func (f *Faulty) Create(name string) (File, error) {
	if f.space.Load() <= 0 {
		return nil, pathError("create", name, syscall.ENOSPC)
	}
	return f.wrap(f.FS.Create(name))
}

// Open implements FS.
func (f *Faulty) Open(name string) (File, error) { return f.wrap(f.FS.Open(name)) }

// OpenFile implements FS.
func (f *Faulty) OpenFile(name string) (File, error) {
	if _, err := f.Stat(name); err != nil && f.space.Load() <= 0 {
		return nil, pathError("open", name, syscall.ENOSPC)
	}
	return f.wrap(f.FS.OpenFile(name))
}

func (f *Faulty) wrap(file File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: file, f: f}, nil
}

type faultyFile struct {
	File
	f *Faulty
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.f.writes.hit(); err != nil {
		n, _ := f.File.WriteAt(p[:len(p)/2], off) // the fault is the error to tell
		return n, fmt.Errorf("write: %w", err)
	}
	left := f.f.space.Add(-int64(len(p))) + int64(len(p))
	if left < int64(len(p)) {
		n, _ := f.File.WriteAt(p[:max(left, 0)], off) // the fault is the error to tell
		return n, fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	return f.File.WriteAt(p, off)
}

func (f *faultyFile) Sync() error {
	if err := f.f.syncs.hit(); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	return f.File.Sync()
}

// FlipByte inverts one byte of a file, as a failing disk might.
func FlipByte(fsys FS, name string, at int64) error {
	f, err := fsys.OpenFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return fmt.Errorf("flip byte %d of %s: %w", at, name, err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b[:], at); err != nil {
		return err
	}
	return f.Sync()
}
