package protect

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func openSubjects(t testing.TB, dir string) *Subjects {
	t.Helper()
	s, err := OpenSubjects(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSubjectsAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "protect")
	s := openSubjects(t, dir)
	keys := map[string]subjectKey{}
	for i := range 100 {
		name := fmt.Sprintf("subject %d", i)
		k, err := s.key([]byte(name))
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = k
	}
	if err := s.commit(); err != nil {
		t.Fatal(err)
	}
	// What a crash leaves: no Close.
	s = openSubjects(t, dir)
	gone := keys["subject 7"]
	if n, err := s.Erase("subject 7", "subject 7", "nobody"); n != 1 || err != nil {
		t.Fatalf("erased %d, %v", n, err)
	}
	delete(keys, "subject 7")
	for range 2 {
		if len(s.slots) != len(keys) {
			t.Fatalf("%d keys, want %d", len(s.slots), len(keys))
		}
		for name, want := range keys {
			if k, ok := s.find([]byte(name)); !ok || k != want {
				t.Errorf("%s: another key", name)
			}
		}
		if _, ok := s.find([]byte("subject 7")); ok {
			t.Error("the erased key is there")
		}
		data, err := os.ReadFile(s.name())
		if err != nil || bytes.Contains(data, gone[:]) || bytes.Contains(data, []byte("subject 1")) {
			t.Errorf("the file holds the erased key or a name, %v", err)
		}
		s = openSubjects(t, dir)
	}
	if k, err := s.key([]byte("subject 7")); err != nil || k == gone {
		t.Errorf("a subject that comes again has its old key, %v", err)
	}
}

func TestSubjectsDamage(t *testing.T) {
	for _, c := range []struct {
		name  string
		harm  func(data []byte) []byte
		keys  int // -1: an error
		wants string
	}{
		{"as it was", func(b []byte) []byte { return b }, 3, ""},
		{"torn", func(b []byte) []byte { return b[:len(b)-1] }, 2, ""},
		{"half a slot more", func(b []byte) []byte { return append(b, make([]byte, slotSize/2)...) }, 3, ""},
		{"a bad last slot", func(b []byte) []byte { b[len(b)-5] ^= 1; return b }, 3, ""}, // in the padding
		{"a flipped key at the end", func(b []byte) []byte { b[len(b)-40] ^= 1; return b }, 2, ""},
		{"a flipped key", func(b []byte) []byte { b[slotSize+20] ^= 1; return b }, -1, "is damaged at byte 64"},
		{"a flipped header", func(b []byte) []byte { b[20] ^= 1; return b }, -1, "header is damaged"},
		{"empty", func([]byte) []byte { return nil }, -1, "header is damaged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			s := openSubjects(t, dir)
			for _, name := range []string{"a", "b", "c"} {
				if _, err := s.key([]byte(name)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.commit(); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(s.name())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(s.name(), c.harm(data), 0o600); err != nil {
				t.Fatal(err)
			}
			again, err := OpenSubjects(dir)
			if c.keys < 0 {
				if err == nil || !strings.Contains(err.Error(), c.wants) {
					t.Fatalf("opened with %v, want %q", err, c.wants)
				}
				return
			}
			if err != nil || len(again.slots) != c.keys {
				t.Fatalf("%v, %+v", err, again)
			}
			if _, err := again.key([]byte("new")); err != nil {
				t.Fatal(err)
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
			if s := openSubjects(t, dir); len(s.slots) != c.keys+1 {
				t.Errorf("%d keys after a new one, want %d", len(s.slots), c.keys+1)
			}
		})
	}
}

func TestKeyFilesAreForTheirOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "protect")
	if _, ok, err := LoadKey(dir); ok || err != nil {
		t.Fatalf("a key before there is one: %v", err)
	}
	made, err := MakeKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	kept, ok, err := LoadKey(dir)
	if err != nil || !ok || kept.ID != made.ID || !bytes.Equal(kept.Secret, made.Secret) || !KeyID.MatchString(made.ID) {
		t.Errorf("kept %v, made %v, %v", kept, made, err)
	}
	openSubjects(t, dir)
	for _, name := range []string{keyFile, subjectsFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if err := os.Chmod(filepath.Join(dir, subjectsFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSubjects(dir); err == nil {
		t.Error("opened a file of keys that others can read")
	}
	if shown := fmt.Sprintf("%v %+v %#v %s", made, made, made, []Key{made}); strings.Contains(shown, string(made.Secret)) || strings.Contains(shown, "Secret") {
		t.Errorf("shown: %s", shown)
	}
}

// TestSubjectsTogether: many at once, an erasure among them.
func TestSubjectsTogether(t *testing.T) {
	dir := t.TempDir()
	s := openSubjects(t, dir)
	var all sync.WaitGroup
	errs := make(chan error, 8)
	for g := range 8 {
		all.Go(func() {
			for i := range 50 {
				if _, err := s.key(fmt.Appendf(nil, "%d", i)); err != nil {
					errs <- err
				}
				if err := s.commit(); err != nil {
					errs <- err
				}
				if i%25 == g {
					if _, err := s.Erase(fmt.Sprint(i)); err != nil {
						errs <- err
					}
				}
			}
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if again := openSubjects(t, dir); len(again.slots) != len(s.slots) {
		t.Errorf("%d keys kept of %d", len(again.slots), len(s.slots))
	}
}

// TestKeysAreDurable: where keys cannot be stored, nothing is encrypted under them.
func TestKeysAreDurable(t *testing.T) {
	s := openSubjects(t, t.TempDir())
	if _, err := s.key([]byte("a")); err != nil {
		t.Fatal(err)
	}
	file := s.file
	closed, err := os.Open(s.name())
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	s.file = closed
	if err := s.commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("stored in a closed file: %v", err)
	}
	s.file = file
	if err := s.commit(); err != nil {
		t.Errorf("once it can be stored: %v", err)
	}
}

func FuzzSubjects(f *testing.F) {
	s := openSubjects(f, f.TempDir())
	if _, err := s.key([]byte("a")); err != nil {
		f.Fatal(err)
	}
	if err := s.commit(); err != nil {
		f.Fatal(err)
	}
	data, err := os.ReadFile(s.name())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(append(data, make([]byte, 100)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, subjectsFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := OpenSubjects(dir); err == nil {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
