package commitlog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/weirstream/weir/log/vfs"
)

// The file synced tells recovery how far each partition was durable, so that it
// can tell what was acknowledged from what was only on its way. After each round,
// and before its acks leave, the flusher writes one record: length, CRC-32C, and
// for each partition topic seq, number and durable end. The record itself is not
// synced at once: after a kill it is there, after a power failure the last second
// of marks may be missing, and then less is known, nothing wrong.

// unknownMark is the mark of a partition of which nothing is known.
const unknownMark = int64(-1)

// maxSyncedFile is the size at which the file is written anew.
const maxSyncedFile = 1 << 20

const (
	recordHeader = 4 + 4
	markSize     = 4 + 4 + 8
)

type markKey struct {
	topic     uint32 // seq
	partition int32
}

func (l *Log) syncedName() string { return filepath.Join(l.dir, "synced") }

// readSynced is all marks, as far as the file is valid; nil where it is absent or
// damaged from the start. A partition that is not among them is newer than the
// file's beginning, and nothing of it is known to be durable: its mark is 0.
func readSynced(fsys vfs.FS, name string, logger *slog.Logger) (map[markKey]int64, error) {
	b, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := syncedKind.header(name, b); errors.Is(err, ErrNewerFormat) {
		return nil, err
	} else if err != nil {
		logger.Warn("no use of the marks of what was synced", "file", name, "err", err)
		return nil, nil
	}
	var marks map[markKey]int64
	b = b[envelopeSize:]
	for len(b) >= recordHeader {
		n := int64(binary.BigEndian.Uint32(b))
		if n > int64(len(b)-recordHeader) || n%markSize != 0 {
			break
		}
		payload := b[recordHeader : recordHeader+n]
		if crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(b[4:]) {
			break
		}
		if marks == nil {
			marks = map[markKey]int64{}
		}
		f := newFields(payload)
		for range n / markSize {
			k := markKey{f.u32(), int32(f.u32())}
			marks[k] = f.i64() // a later one counts
		}
		b = b[recordHeader+n:]
	}
	return marks, nil
}

// syncedFile writes the marks. Its append belongs to the flusher; sync may be
// called by the janitor.
type syncedFile struct {
	log *Log
	buf []byte
	bad bool // the last append failed

	mu    sync.Mutex
	f     vfs.File // nil: with NoSync, or after an error
	size  int64
	dirty bool
}

// newSyncedFile begins a new file with the present ends of all partitions. With
// NoSync there is none: nothing is known to be durable.
func newSyncedFile(l *Log) (*syncedFile, error) {
	s := &syncedFile{log: l}
	if l.o.NoSync {
		err := l.fs.Remove(l.syncedName())
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return s, errors.Join(err, l.fs.SyncDir(l.dir))
	}
	return s, s.renew(nil)
}

// renew replaces the file by one with the present ends, those of tasks included,
// which are not published yet.
func (s *syncedFile) renew(tasks []task) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f != nil {
		_ = s.f.Close() // replaced by a whole new one
		s.f = nil
	}
	s.begin()
	s.log.mu.RLock()
	for _, t := range s.log.topics {
		for _, p := range t.now.Load().partitions {
			p.mu.Lock()
			mark := p.hw
			if p.corrupt != nil {
				mark = p.mark // what was known stays known, and unknown unknown
			}
			s.add(p, mark)
			p.mu.Unlock()
		}
	}
	s.log.mu.RUnlock()
	s.addTasks(tasks)
	s.finish()
	name := s.log.syncedName()
	b := syncedKind.wrap(nil)
	b = append(b, s.buf...)
	if err := vfs.WriteFile(s.log.fs, name, b); err != nil {
		return diskFull(err)
	}
	f, err := s.log.fs.OpenFile(name)
	if err != nil {
		return err
	}
	s.f, s.size, s.dirty = f, int64(len(b)), false
	return nil
}

func (s *syncedFile) begin() { s.buf = append(s.buf[:0], make([]byte, recordHeader)...) }

func (s *syncedFile) add(p *Partition, end int64) {
	s.buf = binary.BigEndian.AppendUint32(s.buf, p.topic.seq)
	s.buf = binary.BigEndian.AppendUint32(s.buf, uint32(p.index))
	s.buf = binary.BigEndian.AppendUint64(s.buf, uint64(end))
}

func (s *syncedFile) addTasks(tasks []task) {
	for i := range tasks {
		if tasks[i].err == nil {
			s.add(tasks[i].p, tasks[i].end)
		}
	}
}

func (s *syncedFile) finish() {
	binary.BigEndian.PutUint32(s.buf, uint32(len(s.buf)-recordHeader))
	binary.BigEndian.PutUint32(s.buf[4:], crc32.Checksum(s.buf[recordHeader:], castagnoli))
}

// append marks what a round made durable. That it fails (the disk is full) makes
// the marks old: recovery would then take damage in the newest batches for a torn
// write. It is logged and tried again with the next round.
func (s *syncedFile) append(tasks []task) {
	if s.log.o.NoSync {
		return
	}
	var err error
	s.mu.Lock()
	usable := s.f != nil && s.size < maxSyncedFile
	if usable {
		s.begin()
		s.addTasks(tasks)
		s.finish()
		if err = writeAll(s.f, s.buf, s.size); err == nil {
			s.size += int64(len(s.buf))
			s.dirty = true
		}
	}
	s.mu.Unlock()
	if !usable {
		err = s.renew(tasks)
	}
	if err != nil && !s.bad { // told once, it may go on for long
		s.log.logger.Warn("marks of what was synced not written", "file", s.log.syncedName(), "err", err)
	}
	s.bad = err != nil
}

// sync makes the marks durable.
func (s *syncedFile) sync() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil || !s.dirty {
		return
	}
	if err := s.f.Sync(); err != nil {
		s.log.logger.Warn("marks of what was synced not synced", "file", s.log.syncedName(), "err", err)
		return
	}
	s.dirty = false
}

func (s *syncedFile) close() {
	s.sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f != nil {
		_ = s.f.Close() // synced
		s.f = nil
	}
}
