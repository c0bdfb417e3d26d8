package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// A .txnindex holds the aborted transactions whose markers lie in the segment
// beside it. Only a segment with any has one. It is written before each
// checkpoint that counts its entries; what recovery scans is found again from the
// markers, so only what lies below the checkpoint is taken from the file.

const txnIndexSuffix = ".txnindex"

const abortedSize = 4 * 8

func (s *segment) txnIndexFile() string {
	return strings.TrimSuffix(s.file, logSuffix) + txnIndexSuffix
}

// abortCount is, in a checkpoint, how many entries a segment's index has below it.
type abortCount struct {
	base int64
	n    uint32
}

func appendAborts(b []byte, list []aborted) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
	for _, a := range list {
		for _, v := range []int64{a.ProducerID, a.FirstOffset, a.LastOffset, a.stable} {
			b = binary.BigEndian.AppendUint64(b, uint64(v))
		}
	}
	return b
}

// readAborts decodes what appendAborts wrote; f.ok is false where it cannot.
func readAborts(f *fields) []aborted {
	n := int64(f.u32())
	if !f.ok || n*abortedSize != int64(len(f.b)) {
		f.ok = false
		return nil
	}
	list := make([]aborted, 0, n)
	for range n {
		a := aborted{AbortedTransaction{f.i64(), f.i64(), f.i64()}, f.i64()}
		if a.FirstOffset < 0 || a.LastOffset < a.FirstOffset || len(list) > 0 && a.LastOffset <= list[len(list)-1].LastOffset {
			f.ok = false
			return nil
		}
		list = append(list, a)
	}
	return list
}

func saveTxnIndex(fsys vfs.FS, name string, list []aborted) error {
	return vfs.WriteFile(fsys, name, txnIndexKind.wrap(appendAborts(nil, list)))
}

// loadTxnIndex reads an index. Errors: ErrNewerFormat, ErrDamagedFile,
// fs.ErrNotExist.
func loadTxnIndex(fsys vfs.FS, name string) ([]aborted, error) {
	b, err := vfs.ReadFile(fsys, name)
	if err != nil {
		return nil, err
	}
	payload, err := txnIndexKind.unwrap(name, b)
	if err != nil {
		return nil, err
	}
	f := newFields(payload)
	list := readAborts(f)
	if !f.ok {
		return nil, fmt.Errorf("%s: %w", name, ErrDamagedFile)
	}
	return list, nil
}

// loadAborts gives the segments what the checkpoint says they have. Where an
// index is missing, damaged or not of this checkpoint, all are made anew.
func (r *recovering) loadAborts() error {
	why := error(nil)
	for _, c := range r.from.aborts {
		if c.base > r.segs[0].base && !slices.ContainsFunc(r.segs, func(s *segment) bool { return s.base == c.base }) {
			why = fmt.Errorf("the segment of base %d is no more", c.base)
		}
		for _, seg := range r.segs {
			if seg.base != c.base {
				continue
			}
			list, err := loadTxnIndex(r.p.log.fs, seg.txnIndexFile())
			if errors.Is(err, ErrNewerFormat) {
				return err
			}
			more := false
			for len(list) > 0 && list[len(list)-1].LastOffset >= r.from.offset {
				more, list = true, list[:len(list)-1] // of after the checkpoint: the scan finds it
			}
			if err == nil && uint32(len(list)) != c.n {
				err = fmt.Errorf("%s: %w: %d entries, the checkpoint counts %d", seg.txnIndexFile(), ErrDamagedFile, len(list), c.n)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrDamagedFile) {
				return err
			}
			if err != nil {
				why = err
			}
			seg.aborts, seg.abortsSaved = list, len(list)
			if more {
				seg.abortsSaved = -1
			}
		}
	}
	if why == nil {
		return nil
	}
	r.p.log.logger.Warn("a transaction index is of no use; all of the partition are made anew from its markers", "topic", r.p.topic.name, "partition", r.p.index, "err", why)
	return r.rebuildAborts()
}

// rebuildAborts walks all batches below the checkpoint. It sees their headers and
// the markers; damage is for others to name.
func (r *recovering) rebuildAborts() error {
	t := newTxnReplay()
	for _, seg := range r.segs {
		seg.aborts, seg.abortsSaved = nil, -1
		if seg.base >= r.from.offset {
			continue
		}
		if err := r.rebuildSegment(&t, seg); err != nil {
			return err
		}
	}
	return nil
}

func (r *recovering) rebuildSegment(t *txnReplay, seg *segment) error {
	h, err := r.p.log.files.acquire(seg, false)
	if err != nil {
		return err
	}
	defer h.release()
	s := scanner{f: h.f, anyEpoch: true, next: seg.base, limit: seg.size, crc: true}
	for {
		head, b, d, err := s.batch()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if d != nil {
			if found, err := s.resync(); !found || err != nil {
				return err
			}
			continue
		}
		if head.BaseOffset >= r.from.offset {
			return nil
		}
		t.batch(seg, &head, b)
	}
}

// txnReplay finds the aborted transactions in a walk over all batches.
type txnReplay struct{ open map[int64]int64 } // first offset by producer

func newTxnReplay() txnReplay { return txnReplay{map[int64]int64{}} }

func (t *txnReplay) batch(seg *segment, h *record.BatchHeader, batch []byte) {
	if h.ProducerID < 0 || !h.Transactional() {
		return
	}
	first, open := t.open[h.ProducerID]
	if !h.Control() {
		if !open && h.Count > 0 {
			t.open[h.ProducerID] = h.BaseOffset
		}
		return
	}
	m, err := record.ParseMarker(batch)
	if err != nil || !open {
		return
	}
	delete(t.open, h.ProducerID)
	if m.Commit {
		return
	}
	stable := h.LastOffset() + 1
	for _, other := range t.open {
		stable = min(stable, other)
	}
	seg.aborts = append(seg.aborts, aborted{AbortedTransaction{h.ProducerID, first, h.LastOffset()}, stable})
}
