package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

const (
	logSuffix   = ".log"
	indexSuffix = ".index"
)

// segment is one file of a partition. Its fields are guarded by Partition.mu and
// change only while it is the active one.
type segment struct {
	base    int64
	file    string // the .log
	size    int64  // bytes of whole batches
	end     int64  // the offset after the last batch
	maxTime int64  // largest timestamp; of a sealed segment see Partition.newest
	timed   bool   // maxTime is known
	made    time.Time

	aborts      []aborted // in order of their markers
	markers     []int64   // of one that compaction writes: the markers left
	noIndex     bool      // the same, for the index; guarded by indexCache.mu
	removed     bool      // deleted or replaced; guarded by fileCache.mu
	abortsSaved int       // how many are in the .txnindex; -1: write it anew

	index index // of the active segment; of others see indexCache
	// unclean: bytes of a failed write may follow size; only the appender looks.
	unclean bool
	// room is the size of its file, where that was made larger ahead of writes; fresh is
	// what was written since it had none. Only the appender looks.
	room, fresh int64
}

func segmentName(base int64) string { return fmt.Sprintf("%020d%s", base, logSuffix) }

// segmentBase is the base offset in a segment's name.
func segmentBase(name string) (int64, bool) {
	digits, ok := strings.CutSuffix(name, logSuffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	base, err := strconv.ParseInt(digits, 10, 64)
	return base, err == nil && base >= 0
}

func newSegment(dir string, base int64, made time.Time) *segment {
	return &segment{base: base, file: filepath.Join(dir, segmentName(base)), end: base, maxTime: noTime, made: made, index: index{end: base, maxTime: noTime}}
}

const (
	// defaultRoomFrom is what is written to a segment before it pays to make its file
	// larger ahead of more: the file system then need not find blocks for each sync, nor
	// write its journal because the file grew. That is most of what a large sync costs,
	// and of what makes a small one wait for what others do to the disk.
	defaultRoomFrom = 64 << 10
	// Space is taken for half as much as there is, within these bounds.
	roomMin, roomMax = 1 << 20, 16 << 20
)

// reserve takes space for a write of n bytes and for those after it, where that is
// possible, and worth it from so many bytes on. Until they are written there are zeros,
// which are no batch.
func (s *segment) reserve(f vfs.File, n, from, segmentBytes int64) {
	end := s.size + n
	s.fresh += n
	ahead, ok := f.(vfs.Preallocator)
	if !ok || s.fresh < from || end <= s.room {
		return
	}
	room := max(end, min(end+min(max(end/2, roomMin), roomMax), segmentBytes))
	if ahead.Preallocate(s.size, room-s.size) != nil {
		// A disk that is full or cannot: not tried again. Some of it may have been taken.
		room, s.unclean = math.MaxInt64, f.Truncate(s.size) != nil
	}
	s.room = room
}

// giveBack returns what was taken and not written, and reports whether the file got
// smaller.
func (s *segment) giveBack(f vfs.File) (bool, error) {
	smaller := s.room > s.size && s.room < math.MaxInt64
	if smaller {
		if err := f.Truncate(s.size); err != nil {
			return false, err
		}
	}
	s.room, s.fresh = 0, 0
	return smaller, nil
}

func (s *segment) indexFile() string { return strings.TrimSuffix(s.file, logSuffix) + indexSuffix }

// damage is why the bytes at a position are no valid batch.
type damage struct {
	pos    int64
	offset int64 // the first that cannot be read
	reason string
}

// scanner walks the batches of a segment file one after another with large reads.
// It sees what a CRC cannot: the base offset and the leader epoch lie outside it.
type scanner struct {
	f     vfs.File
	limit int64 // where to stop
	pos   int64 // of the next batch
	next  int64 // its base offset
	crc   bool  // check CRCs, not only headers
	// epochs say which leader epoch a batch must have, which no CRC covers. From
	// the offset learnFrom on, a larger one of at most learn may begin and is
	// added.
	epochs    epochs
	anyEpoch  bool // not checked
	learn     int32
	learnFrom int64
	buf       []byte
	at        int64       // position of buf in the file
	small     bool        // little will be read: an index interval at a time
	read      func(n int) // told of bytes read, to hold back
}

const (
	scanBuffer  = 256 << 10
	smallBuffer = 2 * indexInterval
)

// batch is the next batch, its position and header; the bytes are valid until
// the next call and end after the header where CRCs are not checked. At the limit
// ok is false; d is set where there is no valid batch. err is of the disk.
func (s *scanner) batch() (h record.BatchHeader, b []byte, d *damage, err error) {
	if s.pos >= s.limit {
		return h, nil, nil, io.EOF
	}
	bad := func(reason string) (record.BatchHeader, []byte, *damage, error) {
		return h, nil, &damage{pos: s.pos, offset: s.next, reason: reason}, nil
	}
	if b, err = s.window(record.HeaderSize); err != nil {
		return h, nil, nil, err
	}
	if len(b) < record.HeaderSize {
		return bad(fmt.Sprintf("%d bytes are no batch header", len(b)))
	}
	if h, err = record.ParseHeader(b); err != nil {
		return bad(err.Error())
	}
	if int64(h.Size()) > s.limit-s.pos {
		return bad(fmt.Sprintf("a batch of %d bytes with %d to the end", h.Size(), s.limit-s.pos))
	}
	if s.crc {
		if b, err = s.window(h.Size()); err != nil {
			return h, nil, nil, err
		}
		if _, err := record.CheckStored(b); err != nil {
			return bad(err.Error())
		}
	} else if h.Magic != 2 || h.LastOffsetDelta < 0 {
		return bad(record.ErrMagic.Error())
	}
	if h.BaseOffset != s.next {
		return bad(fmt.Sprintf("base offset %d where %d must be", h.BaseOffset, s.next))
	}
	if reason := s.epochOf(&h); reason != "" {
		return bad(reason)
	}
	s.pos += int64(h.Size())
	s.next = h.LastOffset() + 1
	return h, b, nil, nil
}

// epochOf checks the leader epoch; it says what is wrong with it.
func (s *scanner) epochOf(h *record.BatchHeader) string {
	n := len(s.epochs)
	if s.anyEpoch || n > 0 && h.LeaderEpoch == s.epochs.at(h.BaseOffset) {
		return ""
	}
	begins := n == 0 || h.BaseOffset > s.epochs[n-1].start && h.LeaderEpoch > s.epochs[n-1].epoch
	if begins && h.LeaderEpoch >= 0 && h.LeaderEpoch <= s.learn && h.BaseOffset >= s.learnFrom {
		s.epochs = s.epochs.from(h.LeaderEpoch, h.BaseOffset)
		return ""
	}
	return fmt.Sprintf("leader epoch %d where %d must be", h.LeaderEpoch, s.epochs.at(h.BaseOffset))
}

// window is n bytes at pos, fewer at the limit or where the file ends.
func (s *scanner) window(n int) ([]byte, error) {
	n = int(min(int64(n), s.limit-s.pos))
	if from := s.pos - s.at; from >= 0 && from+int64(n) <= int64(len(s.buf)) {
		return s.buf[from : from+int64(n)], nil
	}
	least := scanBuffer
	if s.small {
		least = smallBuffer
	}
	want := int(min(int64(max(n, least)), s.limit-s.pos))
	if cap(s.buf) < want {
		s.buf = make([]byte, want)
	}
	s.buf = s.buf[:want]
	s.at = s.pos
	got, err := s.f.ReadAt(s.buf, s.pos)
	s.buf = s.buf[:got]
	if s.read != nil {
		s.read(got)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return s.buf[:min(n, got)], nil
}

// content is where the bytes from a position on end that are not zero. What is behind
// was taken ahead and not written.
func content(f vfs.File, from, to int64) (int64, error) {
	end := from
	for buf := make([]byte, min(to-from, scanBuffer)); from < to; {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
		if n == 0 && err != nil {
			if errors.Is(err, io.EOF) {
				break
			}
			return end, err
		}
		if trimmed := len(bytes.TrimRight(buf[:n], "\x00")); trimmed > 0 {
			end = from + int64(trimmed)
		}
		from += int64(n)
	}
	return end, nil
}

// resync moves to the next valid batch after a damaged one at pos, if there is one:
// magic, a base offset of at least next and near it, a size that fits, and a right
// CRC.
func (s *scanner) resync() (found bool, err error) {
	const near = 1 << 31
	for from := s.pos + 1; from+record.HeaderSize <= s.limit; {
		s.pos = from
		b, err := s.window(scanBuffer)
		if err != nil {
			return false, err
		}
		if len(b) < record.HeaderSize {
			return false, nil
		}
		for i := 0; i+record.HeaderSize <= len(b); i++ {
			if b[i+16] != 2 || b[i] != 0 {
				continue // no magic, or an offset of 2^56
			}
			h, err := record.ParseHeader(b[i:])
			if err != nil || h.BaseOffset < s.next || h.BaseOffset-s.next > near || int64(h.Size()) > s.limit-from-int64(i) {
				continue
			}
			s.pos = from + int64(i)
			whole, err := s.window(h.Size())
			if err != nil {
				return false, err
			}
			if _, err := record.CheckStored(whole); err == nil {
				s.next = h.BaseOffset
				return true, nil
			}
			s.pos = from
			if b, err = s.window(scanBuffer); err != nil { // the buffer may have moved
				return false, err
			}
		}
		from += int64(len(b)) - record.HeaderSize + 1
	}
	return false, nil
}
