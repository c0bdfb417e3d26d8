package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestAlike runs the same steps on the real file system and in memory.
func TestAlike(t *testing.T) {
	for name, c := range map[string]struct {
		fs  FS
		dir string
	}{"os": {OS, t.TempDir()}, "mem": {NewMem(1), "/data"}, "faulty": {NewFaulty(NewMem(1)), "data"}} {
		t.Run(name, func(t *testing.T) { alike(t, c.fs, c.dir) })
	}
}

func alike(t *testing.T, fsys FS, dir string) {
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	in := func(names ...string) string { return filepath.Join(append([]string{dir}, names...)...) }
	check(fsys.MkdirAll(in("a", "b")))
	if _, err := fsys.Open(in("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("open of nothing: %v", err)
	}
	check(WriteFile(fsys, in("a", "one"), []byte("first")))
	check(WriteFile(fsys, in("a", "one"), []byte("second")))
	data, err := ReadFile(fsys, in("a", "one"))
	check(err)
	if string(data) != "second" {
		t.Fatalf("read %q", data)
	}
	f, err := fsys.OpenFile(in("a", "one"))
	check(err)
	_, err = f.WriteAt([]byte("XY"), 8)
	check(err)
	check(f.Sync())
	if size, err := f.Size(); err != nil || size != 10 {
		t.Fatal(size, err)
	}
	check(f.Truncate(7))
	check(f.Close())
	if data, _ = ReadFile(fsys, in("a", "one")); string(data) != "second\x00" {
		t.Fatalf("read %q", data)
	}
	names, err := fsys.List(in("a"))
	check(err)
	if !slices.Equal(names, []string{"b", "one"}) {
		t.Fatal(names)
	}
	if err := fsys.Remove(in("a")); err == nil {
		t.Fatal("removed a directory that is not empty")
	}
	check(fsys.Rename(in("a"), in("c")))
	if info, err := fsys.Stat(in("c", "one")); err != nil || info.Size != 7 || info.Dir {
		t.Fatal(info, err)
	}
	lock, err := fsys.Lock(in("LOCK"))
	check(err)
	if _, err := fsys.Lock(in("LOCK")); !errors.Is(err, ErrLocked) {
		t.Fatalf("locked twice: %v", err)
	}
	check(lock.Close())
	lock, err = fsys.Lock(in("LOCK"))
	check(err)
	check(lock.Close())
	check(RemoveAll(fsys, in("c")))
	if _, err := fsys.Stat(in("c", "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	check(fsys.SyncDir(dir))
}

// TestCrashKeepsWhatWasSynced looks at many clones: the synced is always there,
// the rest sometimes, and an atomic replacement is never half done.
func TestCrashKeepsWhatWasSynced(t *testing.T) {
	m := NewMem(42)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(m.MkdirAll("d"))
	must(m.SyncDir("."))
	must(WriteFile(m, "d/state", []byte("old")))
	f, err := m.Create("d/log")
	must(err)
	_, err = f.WriteAt([]byte("synced"), 0)
	must(err)
	must(f.Sync())
	must(m.SyncDir("d"))
	_, err = f.WriteAt(make([]byte, 2000), 6)
	must(err)
	tmp, err := m.Create("d/state.tmp")
	must(err)
	_, err = tmp.WriteAt([]byte("new"), 0)
	must(err)
	must(tmp.Sync())
	must(m.Rename("d/state.tmp", "d/state"))
	_, err = m.Create("d/unsynced")
	must(err)

	seen := map[string]int{}
	for range 200 {
		c := m.CrashClone()
		state, err := ReadFile(c, "d/state")
		must(err)
		if s := string(state); s != "old" && s != "new" {
			t.Fatalf("state %q", s)
		}
		log, err := ReadFile(c, "d/log")
		must(err)
		if len(log) < 6 || string(log[:6]) != "synced" {
			t.Fatalf("log %q", log)
		}
		_, err = c.Stat("d/unsynced")
		seen[fmt.Sprint("state ", string(state))]++
		seen[fmt.Sprint("log whole ", len(log) == 2006)]++
		seen[fmt.Sprint("unsynced ", err == nil)]++
	}
	for _, want := range []string{"state old", "state new", "log whole true", "log whole false", "unsynced true", "unsynced false"} {
		if seen[want] == 0 {
			t.Errorf("never saw %s in %v", want, seen)
		}
	}
}

func TestFaulty(t *testing.T) {
	f := NewFaulty(NewMem(1))
	file, err := f.Create("x")
	if err != nil {
		t.Fatal(err)
	}
	f.SetSpace(10)
	if n, err := file.WriteAt(make([]byte, 15), 0); n != 10 || !IsDiskFull(err) {
		t.Fatal(n, err)
	}
	if _, err := f.Create("y"); !IsDiskFull(err) {
		t.Fatal(err)
	}
	f.SetSpace(1 << 30)
	if _, err := file.WriteAt(make([]byte, 15), 0); err != nil {
		t.Fatal(err)
	}
	f.FailSync(1, syscall.EIO)
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := file.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if err := file.Sync(); err != nil {
		t.Fatal("a fault hits once", err)
	}
	if err := FlipByte(f, "x", 3); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadFile(f, "x"); err != nil || data[3] != 0xff || data[2] != 0 {
		t.Fatal(data, err)
	}
}
