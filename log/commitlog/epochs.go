package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/weirstream/weir/log/vfs"
)

// A leader epoch is a reign over the partition. With one node every Open of the
// log begins one; its number is the log's, in meta, and never used again. The
// file leader-epochs of a partition says at which offset each epoch began that
// has batches; the flusher makes it durable before the first of them is
// acknowledged, so recovery knows the epoch of every acknowledged batch, which no
// CRC covers.

// epochStart is the first offset of a leader epoch.
type epochStart struct {
	epoch int32
	start int64
}

// epochs are the leader epochs of a partition, both fields growing. A list is
// never modified once it was published.
type epochs []epochStart

// at is the epoch that the batch at an offset must have.
func (e epochs) at(offset int64) int32 {
	for i := len(e) - 1; i > 0; i-- {
		if e[i].start <= offset {
			return e[i].epoch
		}
	}
	if len(e) == 0 {
		return 0
	}
	return e[0].epoch
}

// from is the list with an epoch that begins at an offset: what began there or
// later has no batches.
func (e epochs) from(epoch int32, start int64) epochs {
	n := len(e)
	for n > 0 && e[n-1].start >= start {
		n--
	}
	return append(slices.Clone(e[:n]), epochStart{epoch, start})
}

// since is the list without the epochs that ended at or before an offset.
func (e epochs) since(start int64) epochs {
	for len(e) > 1 && e[1].start <= start {
		e = e[1:]
	}
	return e
}

// end is the largest epoch of at most the one asked for, and the offset at which
// the next one begins (KIP-101, KIP-279); logEnd is where the last one ends. Both
// are -1 where all epochs are smaller than the one asked for.
func (e epochs) end(epoch int32, logEnd int64) (int32, int64) {
	i, found := slices.BinarySearchFunc(e, epoch, func(s epochStart, epoch int32) int { return int(int64(s.epoch) - int64(epoch)) })
	switch {
	case epoch < 0 || i == len(e):
		return -1, -1
	case found && i == len(e)-1:
		return epoch, logEnd
	case found:
		return epoch, e[i+1].start
	case i == 0:
		return epoch, e[0].start
	}
	return e[i-1].epoch, e[i].start
}

// EpochEnd tells a follower or a client where its log and this one part: the
// largest leader epoch of at most the one asked for that there is, and the offset
// after its last record, of the present epoch the high watermark. Both are -1 for
// an epoch that has not begun.
func (p *Partition) EpochEnd(epoch int32) (e int32, end int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.epochs.end(epoch, p.hw)
}

func (p *Partition) epochsName() string { return filepath.Join(p.dir, "leader-epochs") }

func (e epochs) encode() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(e)))
	for _, s := range e {
		b = binary.BigEndian.AppendUint32(b, uint32(s.epoch))
		b = binary.BigEndian.AppendUint64(b, uint64(s.start))
	}
	return epochsKind.wrap(b)
}

// decodeEpochs reads what encode wrote. Errors: ErrNewerFormat, ErrDamagedFile.
func decodeEpochs(name string, b []byte) (epochs, error) {
	payload, err := epochsKind.unwrap(name, b)
	if err != nil {
		return nil, err
	}
	f := newFields(payload)
	var e epochs
	for n := f.u32(); n > 0 && f.ok; n-- {
		s := epochStart{int32(f.u32()), f.i64()}
		if k := len(e); s.epoch < 0 || s.start < 0 || k > 0 && (s.epoch <= e[k-1].epoch || s.start <= e[k-1].start) {
			f.ok = false
		}
		e = append(e, s)
	}
	if !f.ok || len(f.b) > 0 || len(e) == 0 {
		return nil, fmt.Errorf("%s: %w", name, ErrDamagedFile)
	}
	return e, nil
}

// saveEpochs makes the file durable.
func (p *Partition) saveEpochs(e epochs) error {
	return diskFull(vfs.WriteFile(p.log.fs, p.epochsName(), e.encode()))
}

// beginReign writes the file before the first batch of the present epoch is, where
// a full disk is no harm yet. The flusher gives it its name. The caller holds
// appendMu.
func (p *Partition) beginReign() error {
	p.mu.Lock()
	first := int64(0) // not start: it may lie within a segment, which is read whole
	if len(p.segs) > 0 {
		first = p.segs[0].base
	}
	b := p.epochs.since(first).encode()
	p.mu.Unlock()
	f, err := p.log.fs.Create(p.epochsName() + ".tmp")
	if err != nil {
		return diskFull(err)
	}
	if err := errors.Join(writeAll(f, b, 0), f.Close()); err != nil {
		return diskFull(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reign = reignWritten
	return nil
}

// endorse makes what beginReign wrote durable.
func (p *Partition) endorse() error {
	if err := p.enter(); err != nil {
		return err
	}
	defer p.writing.RUnlock()
	tmp := p.epochsName() + ".tmp"
	f, err := p.log.fs.OpenFile(tmp)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := p.log.fs.Rename(tmp, p.epochsName()); err != nil {
		return err
	}
	return p.log.fs.SyncDir(p.dir)
}

// takeReign reports whether endorse has to be called, once. The caller holds mu.
func (p *Partition) takeReign() bool {
	written := p.reign == reignWritten
	if written {
		p.reign = reignKnown
	}
	return written
}

// reign is how far the file with the present epoch is.
type reign int8

const (
	reignNew     reign = iota // to be written
	reignWritten              // to be made durable
	reignKnown
)

// loadEpochs finds the partition's epochs; they are made anew from the batches
// where the file is missing or damaged.
func (p *Partition) loadEpochs(segs []*segment) error {
	b, err := vfs.ReadFile(p.log.fs, p.epochsName())
	if err == nil {
		p.epochs, err = decodeEpochs(p.epochsName(), b)
	}
	switch {
	case err == nil || errors.Is(err, ErrNewerFormat):
		return err
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, ErrDamagedFile):
		return err
	case len(segs) == 0:
		return nil
	case p.log.meta.version == 1:
		p.epochs = epochs{{0, 0}} // there were no others
		return p.saveEpochs(p.epochs)
	}
	p.log.logger.Warn("no use of the leader epochs; they are made anew from the batches", "topic", p.topic.name, "partition", p.index, "err", err)
	for _, seg := range segs {
		if err := p.learnEpochs(seg); err != nil {
			return err
		}
	}
	return nil
}

func (p *Partition) learnEpochs(seg *segment) error {
	h, err := p.log.files.acquire(seg, false)
	if err != nil {
		return err
	}
	defer h.release()
	s := scanner{f: h.f, epochs: p.epochs, learn: p.epoch, next: seg.base, limit: seg.size}
	for {
		_, _, d, err := s.batch()
		if err != nil || d != nil { // damage is for the recovery to name
			p.epochs = s.epochs
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
	}
}
