package vfs

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"syscall"
)

// FS is a file system. Names are paths as of package filepath.
type FS interface {
	// Create makes an empty file for reading and writing; one that exists is
	// emptied.
	Create(name string) (File, error)
	// Open opens a file for reading; fs.ErrNotExist where there is none.
	Open(name string) (File, error)
	// OpenFile opens a file for reading and writing, and creates it if absent.
	OpenFile(name string) (File, error)
	Remove(name string) error
	// Rename replaces newname, atomically.
	Rename(oldname, newname string) error
	MkdirAll(dir string) error
	// List is the sorted names in a directory, without the directory.
	List(dir string) ([]string, error)
	Stat(name string) (Info, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(dir string) error
	// Lock takes an exclusive lock that ends with the process. ErrLocked where
	// another holds it.
	Lock(name string) (io.Closer, error)
	// Usage is the space of the file system that dir is on.
	Usage(dir string) (Usage, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes the content and the size durable (fdatasync).
	Sync() error
	Truncate(size int64) error
	Size() (int64, error)
	Close() error
}

// Preallocator is what a File may be as well.
type Preallocator interface {
	// Preallocate takes space on the disk for n bytes from an offset on, and makes the
	// file that large where it is smaller: what is not written reads as zeros. Truncate
	// gives it back.
	Preallocate(from, n int64) error
}

// Info is what Stat tells.
type Info struct {
	Size int64
	Dir  bool
}

// Usage is the space of a file system, in bytes.
type Usage struct {
	Total int64
	Free  int64 // available to this process
}

// ErrLocked is returned by Lock where another process, or another Lock call of
// this one, holds the lock.
var ErrLocked = errors.New("locked by another process")

// IsDiskFull reports whether err says that a disk or a quota is full.
func IsDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// ReadFile is the whole content of a file.
func ReadFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if err != nil && (err != io.EOF || int64(n) != size) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// WriteFile replaces the content of a file, atomically and durably: after a crash
// there is the old content or the new one, and after a nil error the new one.
func WriteFile(fsys FS, name string, data []byte) error {
	tmp := name + ".tmp"
	err := writeSynced(fsys, tmp, data)
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err != nil {
		_ = fsys.Remove(tmp) // the first error is the one to tell
		return fmt.Errorf("write %s: %w", name, err)
	}
	return fsys.SyncDir(filepath.Dir(name))
}

func writeSynced(fsys FS, name string, data []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// RemoveAll removes a file or a directory with all that is in it. What is not
// there is no error.
func RemoveAll(fsys FS, name string) error {
	info, err := fsys.Stat(name)
	if isNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Dir {
		names, err := fsys.List(name)
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := RemoveAll(fsys, filepath.Join(name, n)); err != nil {
				return err
			}
		}
	}
	if err := fsys.Remove(name); err != nil && !isNotExist(err) {
		return err
	}
	return nil
}
