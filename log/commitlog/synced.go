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
// can tell what was acknowledged from what was only on its way. After each sync,
// and before its acks leave, the flusher writes one record: length, CRC-32C, and
// topic seq, number and durable end of the partition, or of several. The record itself is not
// synced at once: after a kill it is there, after a power failure the last second
// of marks may be missing, and then less is known, nothing wrong.

// unknownMark is the mark of a partition of which nothing is known.
const unknownMark = int64(-1)

// defaultMarksMax is the size at which the file is written anew. The janitor does so
// before (rotate), from a fourth of that on.
const defaultMarksMax = 4 << 20

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

// syncedFile writes the marks, for the flusher. The janitor syncs them.
type syncedFile struct {
	log *Log

	mu    sync.Mutex
	buf   []byte
	bad   bool     // the last append failed
	f     vfs.File // nil: with NoSync, or after an error
	size  int64
	dirty bool
	since []byte // records that a new file that is being made lacks; nil: none is
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
	return s, s.renew()
}

// renew replaces the file by one with the present ends, those included that are marked
// and not published yet. The caller holds mu, or is the only one.
func (s *syncedFile) renew() error {
	if s.f != nil {
		_ = s.f.Close() // replaced by a whole new one
		s.f = nil
	}
	s.since = nil
	name, b := s.log.syncedName(), s.present()
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

// rotate replaces the file when it is large, while marks are written: no sync waits for
// those of a new file. Where that fails, renew will tell.
func (s *syncedFile) rotate() {
	s.mu.Lock()
	if s.f == nil || s.since != nil || s.size < s.log.o.marksMax/4 {
		s.mu.Unlock()
		return
	}
	b := s.present()
	s.since = []byte{}
	s.mu.Unlock()
	name := s.log.syncedName() + ".next"
	f, err := s.log.fs.Create(name)
	if err == nil {
		err = writeAll(f, b, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = s.replace(f, int64(len(b)), name, err); err == nil {
		err = s.log.fs.SyncDir(s.log.dir)
	} else if f != nil {
		_ = f.Close() // not used
	}
	if err != nil {
		s.log.logger.Debug("marks of what was synced not written anew", "file", name, "err", err)
	}
}

// replace takes a new file of a size into use, with what was marked while it was made,
// unless there was an error.
func (s *syncedFile) replace(f vfs.File, size int64, name string, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	since := s.since
	s.since = nil
	switch {
	case err != nil:
		return err
	case since == nil || s.f == nil:
		return errors.New("it was written anew meanwhile")
	}
	if err := writeAll(f, since, size); err != nil {
		return err
	}
	if err := s.log.fs.Rename(name, s.log.syncedName()); err != nil {
		return err
	}
	_ = s.f.Close() // replaced by a whole new one
	s.f, s.size, s.dirty = f, size+int64(len(since)), true
	return nil
}

// present is a file with the present ends. The caller holds mu.
func (s *syncedFile) present() []byte {
	s.begin()
	s.log.mu.RLock()
	for _, t := range s.log.topics {
		for _, p := range t.now.Load().partitions {
			p.mu.Lock()
			mark := max(p.hw, p.marked)
			if p.corrupt != nil {
				mark = p.mark // what was known stays known, and unknown unknown
			}
			s.add(p, mark)
			p.mu.Unlock()
		}
	}
	s.log.mu.RUnlock()
	s.finish()
	return append(syncedKind.wrap(nil), s.buf...)
}

func (s *syncedFile) begin() { s.buf = append(s.buf[:0], make([]byte, recordHeader)...) }

func (s *syncedFile) add(p *Partition, end int64) {
	s.buf = binary.BigEndian.AppendUint32(s.buf, p.topic.seq)
	s.buf = binary.BigEndian.AppendUint32(s.buf, uint32(p.index))
	s.buf = binary.BigEndian.AppendUint64(s.buf, uint64(end))
}

func (s *syncedFile) finish() {
	binary.BigEndian.PutUint32(s.buf, uint32(len(s.buf)-recordHeader))
	binary.BigEndian.PutUint32(s.buf[4:], crc32.Checksum(s.buf[recordHeader:], castagnoli))
}

// append marks what a sync made durable. That it fails (the disk is full) makes
// the marks old: recovery would then take damage in the newest batches for a torn
// write. It is logged and tried again with the next sync.
func (s *syncedFile) append(t *task) {
	if s.log.o.NoSync || t.err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.p.mu.Lock()
	t.p.marked = t.end
	t.p.mu.Unlock()
	err := s.write(t)
	if err != nil && !s.bad { // told once, it may go on for long
		s.log.logger.Warn("marks of what was synced not written", "file", s.log.syncedName(), "err", err)
	}
	s.bad = err != nil
}

func (s *syncedFile) write(t *task) error {
	if s.f == nil || s.size >= s.log.o.marksMax {
		return s.renew()
	}
	s.begin()
	s.add(t.p, t.end)
	s.finish()
	if s.since != nil {
		s.since = append(s.since, s.buf...)
	}
	if err := writeAll(s.f, s.buf, s.size); err != nil {
		return err
	}
	s.size += int64(len(s.buf))
	s.dirty = true
	return nil
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
