package protect

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// The file of subject keys: a header, then a slot for each subject, of slotSize
// bytes each. A slot is id, key, CRC-32C of both, zeros. A slot of zeros is a key
// that was shredded.
//
// The id is an HMAC of the subject under the file's own pepper, so that the file
// does not tell who is in it.
const (
	subjectsFile  = "subjects.keys"
	subjectsMagic = "weir subjects 1\n"
	slotSize      = 64
	idSize        = 16
	keySize       = 32
	pepperAt      = len(subjectsMagic)
	crcAt         = idSize + keySize // in a slot; in the header after the pepper, too
)

// SubjectsMax is how many subjects a store holds: some 150 bytes of memory each.
const SubjectsMax = 5_000_000

// ErrSubjects is returned where there would be more than SubjectsMax subjects.
var ErrSubjects = errors.New("too many subjects with encrypted values")

type subjectID [idSize]byte
type subjectKey [keySize]byte

// Subjects is the store of the keys under which values are encrypted, one for each
// subject, made at random when the subject is first seen. To shred a key is to
// erase what was encrypted under it, from every copy of the log.
//
// The keys are in memory and in one file that only its owner can read. A key is
// durable before a batch that needs it is appended (commit). Its methods may be
// called from any goroutine.
type Subjects struct {
	dir string

	mu     sync.Mutex
	file   *os.File
	pepper []byte
	slots  map[subjectID]slot
	end    int64       // of the file
	fresh  []subjectID // not yet durable, their slots in order before end
}

type slot struct {
	key subjectKey
	at  int64
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// OpenSubjects opens the store in a directory, and makes it where there is none.
// The directory is this process's alone. A file that was torn by a crash is cut; a
// file that is damaged elsewhere is an error with its place.
func OpenSubjects(dir string) (*Subjects, error) {
	s := &Subjects{dir: dir, slots: map[subjectID]slot{}}
	if err := s.open(); err != nil {
		if s.file != nil {
			err = errors.Join(err, s.file.Close())
		}
		return nil, fmt.Errorf("keys of subjects: %w", err)
	}
	return s, nil
}

func (s *Subjects) name() string { return filepath.Join(s.dir, subjectsFile) }

func (s *Subjects) open() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if info, err := os.Stat(s.name()); errors.Is(err, os.ErrNotExist) {
		s.pepper = make([]byte, keySize)
		rand.Read(s.pepper)
		return s.rewrite()
	} else if err != nil {
		return err
	} else if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s can be read by others (mode %#o), expected 0600", s.name(), info.Mode().Perm())
	}
	var err error
	if s.file, err = os.OpenFile(s.name(), os.O_RDWR, 0); err != nil {
		return err
	}
	data, err := io.ReadAll(s.file)
	if err != nil {
		return err
	}
	return s.load(data)
}

// load reads the file's content and cuts what a crash left at its end.
func (s *Subjects) load(data []byte) error {
	if len(data) < slotSize || string(data[:pepperAt]) != subjectsMagic || !intact(data[:slotSize]) {
		return fmt.Errorf("%s is not a file of subject keys, or its header is damaged", s.name())
	}
	s.pepper = data[pepperAt : pepperAt+keySize : pepperAt+keySize]
	s.end = slotSize
	bad := int64(0)
	for at := int64(slotSize); at+slotSize <= int64(len(data)); at += slotSize {
		one := data[at : at+slotSize]
		switch {
		case intact(one) && !zero(one):
			if bad > 0 {
				return fmt.Errorf("%s is damaged at byte %d", s.name(), bad)
			}
			s.slots[subjectID(one[:idSize])] = slot{subjectKey(one[idSize:crcAt]), at}
			s.end = at + slotSize
		case zero(one):
			// Shredded, or room that a crash left.
		case bad == 0:
			bad = at
		}
	}
	if s.end < int64(len(data)) {
		if err := s.file.Truncate(s.end); err != nil {
			return err
		}
		return s.file.Sync()
	}
	return nil
}

// intact reports whether the CRC of a slot or of the header is right.
func intact(b []byte) bool {
	return crc32.Checksum(b[:crcAt], castagnoli) == binary.BigEndian.Uint32(b[crcAt:])
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

func (s *Subjects) idOf(subject []byte) (id subjectID) {
	h := hmac.New(sha256.New, s.pepper)
	h.Write(subject)
	copy(id[:], h.Sum(nil))
	return id
}

// key is the key of a subject, made where it has none. It is durable after the
// next commit.
func (s *Subjects) key(subject []byte) (subjectKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.idOf(subject)
	if one, ok := s.slots[id]; ok {
		return one.key, nil
	}
	if len(s.slots) >= SubjectsMax {
		return subjectKey{}, fmt.Errorf("%w: %d", ErrSubjects, SubjectsMax)
	}
	one := slot{at: s.end}
	rand.Read(one.key[:])
	s.slots[id] = one
	s.end += slotSize
	s.fresh = append(s.fresh, id)
	return one.key, nil
}

// find is the key of a subject, where it has one.
func (s *Subjects) find(subject []byte) (subjectKey, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.slots[s.idOf(subject)]
	return one.key, ok
}

// commit makes every key durable that was made so far. After an error they are
// written again by the next commit.
func (s *Subjects) commit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flush()
}

func (s *Subjects) flush() error {
	if len(s.fresh) == 0 {
		return nil
	}
	var buf []byte
	for _, id := range s.fresh {
		buf = appendSlot(buf, id, s.slots[id].key) // in the order of their places
	}
	if _, err := s.file.WriteAt(buf, s.slots[s.fresh[0]].at); err != nil {
		return fmt.Errorf("keys of subjects: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("keys of subjects: %w", err)
	}
	s.fresh = s.fresh[:0]
	return nil
}

func appendSlot(dst []byte, id subjectID, key subjectKey) []byte {
	at := len(dst)
	dst = append(dst, id[:]...)
	dst = append(dst, key[:]...)
	dst = binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[at:], castagnoli))
	return append(dst, make([]byte, slotSize-(len(dst)-at))...)
}

// Erase shreds the keys of subjects and returns how many there were. When it has
// returned without an error no file holds them: their slots were overwritten where
// they stood, then the file was written anew without them.
func (s *Subjects) Erase(subjects ...string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.flush(); err != nil {
		return 0, err
	}
	var found []subjectID
	for _, subject := range subjects {
		id := s.idOf([]byte(subject))
		if one, ok := s.slots[id]; ok {
			if _, err := s.file.WriteAt(make([]byte, slotSize), one.at); err != nil {
				return 0, fmt.Errorf("keys of subjects: %w", err)
			}
			found = append(found, id)
			delete(s.slots, id)
		}
	}
	if len(found) == 0 {
		return 0, nil
	}
	if err := s.file.Sync(); err != nil {
		return 0, fmt.Errorf("keys of subjects: %w", err)
	}
	if err := s.rewrite(); err != nil {
		return 0, fmt.Errorf("keys of subjects: the keys are overwritten, the file could not be written anew: %w", err)
	}
	return len(found), nil
}

// rewrite writes the file anew with the keys that there are.
func (s *Subjects) rewrite() error {
	var id subjectID
	header := make([]byte, 0, slotSize)
	header = append(append(header, subjectsMagic...), s.pepper...)
	header = binary.BigEndian.AppendUint32(header, crc32.Checksum(header, castagnoli))
	buf := append(header, make([]byte, slotSize-len(header))...)
	places := make(map[subjectID]slot, len(s.slots))
	var one slot
	for id, one = range s.slots {
		one.at = int64(len(buf))
		places[id] = one
		buf = appendSlot(buf, id, one.key)
	}
	if err := writeFile(s.name(), buf); err != nil {
		return err
	}
	file, err := os.OpenFile(s.name(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if s.file != nil {
		s.file.Close() // replaced and durable elsewhere
	}
	s.file, s.slots, s.end = file, places, int64(len(buf))
	return nil
}

// Close makes all keys durable and closes the file.
func (s *Subjects) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.flush(), s.file.Close())
}
