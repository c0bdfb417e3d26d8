package commitlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
)

// workers is how many partitions are recovered or closed down at the same time:
// more than processors, because most of it waits for the disk.
const workers = 16

// recover makes the partition what it was, from its files. mark is up to where it
// is known to have been durable. An error stops the whole log: of the disk, of
// ctx, or a file of a newer version.
func (p *Partition) recover(ctx context.Context, clean bool, mark int64) error {
	if err := p.recoverFiles(ctx, clean, mark); err != nil {
		return p.wrap(err)
	}
	if p.corrupt != nil {
		p.log.damage.found(p.corrupt)
	}
	return nil
}

// recovering is one partition's recovery.
type recovering struct {
	p      *Partition
	segs   []*segment
	from   *checkpoint
	epochs int   // how many were known before the scan
	known  bool  // mark is of the file synced, so that what lies above is not acknowledged
	mark   int64 // durable up to here
}

func (p *Partition) recoverFiles(ctx context.Context, clean bool, mark int64) error {
	segs, err := p.listSegments()
	if err != nil {
		return err
	}
	r := recovering{p: p, segs: segs, known: mark != unknownMark, mark: mark}
	if r.from, err = p.readCheckpoint(); err != nil {
		return err
	}
	if r.from != nil {
		r.mark = max(r.mark, r.from.offset)
	}
	p.epochs = nil
	if err := p.loadEpochs(segs); err != nil {
		return err
	}
	if len(segs) == 0 {
		p.epochs = epochs{{p.epoch, 0}}
		if r.mark > 0 {
			p.stop(r.mark, &CorruptError{Offset: 0, File: p.dir, Reason: fmt.Sprintf("no segment is there, but offsets up to %d were acknowledged", r.mark)})
		}
		return nil
	}
	r.epochs = len(p.epochs)
	first := r.checkpointed()
	if err := r.loadAborts(); err != nil {
		return err
	}
	p.ongoing = r.from.producers.ongoing()
	if clean && first == len(segs)-1 && segs[first].size == r.from.at.pos {
		return r.adopt()
	}
	return r.scan(ctx, max(first, 0))
}

// checkpointed is the index of the segment that the checkpoint lies in. Where the
// checkpoint does not fit the files it is forgotten and the answer is -1.
func (r *recovering) checkpointed() int {
	if r.from != nil {
		for i, seg := range r.segs {
			if seg.base == r.from.at.base && seg.size >= r.from.at.pos {
				return i
			}
		}
	}
	start := r.segs[0].base
	if r.from != nil {
		start = max(start, r.from.start)
	}
	r.from = &checkpoint{start: start, at: position{r.segs[0].base, 0}, offset: r.segs[0].base, producers: producers{}}
	return -1
}

// listSegments is the partition's segments by base, with their sizes.
func (p *Partition) listSegments() ([]*segment, error) {
	names, err := p.log.fs.List(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := p.log.fs.MkdirAll(p.dir); err != nil {
			return nil, err
		}
		return nil, p.log.fs.SyncDir(filepath.Dir(p.dir))
	}
	if err != nil {
		return nil, err
	}
	if again, err := p.finishSwaps(names); err != nil {
		return nil, err
	} else if again {
		if names, err = p.log.fs.List(p.dir); err != nil {
			return nil, err
		}
	}
	var segs []*segment
	for _, name := range names { // sorted, and the digits are padded
		base, ok := segmentBase(name)
		if !ok {
			continue
		}
		seg := newSegment(p.dir, base, p.log.o.Now())
		info, err := p.log.fs.Stat(seg.file)
		if err != nil {
			return nil, err
		}
		seg.size = info.Size
		if n := len(segs); n > 0 {
			segs[n-1].end = base
		}
		segs = append(segs, seg)
	}
	return segs, nil
}

// adopt takes a partition over that was closed in good order.
func (r *recovering) adopt() error {
	active := r.segs[len(r.segs)-1]
	active.end = r.from.offset
	if err := r.loadIndex(active, active.size, false); err != nil {
		return err
	}
	return r.publish(nil)
}

// loadIndex loads the index of a segment up to limit and, unless the rest is
// going to be scanned anyway, completes it.
func (r *recovering) loadIndex(seg *segment, limit int64, scanned bool) error {
	fsys := r.p.log.fs
	if err := seg.index.load(fsys, seg.indexFile(), seg.base, limit); err != nil || scanned {
		return err
	}
	h, err := r.p.log.files.acquire(seg, false)
	if err != nil {
		return err
	}
	defer h.release()
	return seg.index.extend(h.f, seg.base, limit)
}

// scan verifies every batch from the checkpoint on, cuts what is torn and was
// never acknowledged, and stops the partition where something acknowledged is
// damaged.
func (r *recovering) scan(ctx context.Context, first int) error {
	for i := first; i < len(r.segs); i++ {
		seg := r.segs[i]
		d, err := r.scanSegment(ctx, seg)
		if err != nil {
			return err
		}
		if d == nil && i+1 < len(r.segs) && r.segs[i+1].base != seg.end {
			d = &damage{pos: seg.size, offset: seg.end, reason: fmt.Sprintf("the next segment begins at offset %d", r.segs[i+1].base)}
		}
		if d == nil && i+1 == len(r.segs) && seg.end < r.mark {
			d = &damage{pos: seg.size, offset: seg.end, reason: fmt.Sprintf("the file ends, but offsets up to %d were acknowledged", r.mark)}
		}
		if d != nil {
			if err := r.damaged(i, d); err != nil {
				return err
			}
			break
		}
	}
	return r.finish(first)
}

// scanSegment scans one segment and fills its index; the checkpoint's segment
// from where its index ends.
func (r *recovering) scanSegment(ctx context.Context, seg *segment) (*damage, error) {
	h, err := r.p.log.files.acquire(seg, false)
	if err != nil {
		return nil, err
	}
	defer h.release()
	limit := int64(0)
	if seg.base == r.from.at.base {
		limit = r.from.at.pos
	}
	if err := r.loadIndex(seg, limit, true); err != nil {
		return nil, err
	}
	x := &seg.index
	s := scanner{f: h.f, epochs: r.p.epochs, learn: r.p.epoch, learnFrom: r.mark, pos: x.covered, next: x.end, limit: seg.size, crc: true}
	defer func() { r.p.epochs = s.epochs }()
	now := r.p.log.o.Now()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		head, b, d, err := s.batch()
		if errors.Is(err, io.EOF) {
			seg.end = x.end
			return nil, nil
		}
		if err != nil || d != nil {
			seg.end = x.end
			if d != nil {
				d, err = trim(seg, h, d)
			}
			return d, err
		}
		x.add(seg.base, &head)
		if head.ProducerID >= 0 && head.BaseOffset >= r.from.offset {
			step, first := r.from.producers.replay(&head, b, now)
			r.p.transact(seg, &head, step, first)
		}
	}
}

// trim cuts zeros that a file ends in behind the batches, from the damage d on: space
// that was taken ahead. Anything else stays, and is d.
func trim(seg *segment, h *handle, d *damage) (*damage, error) {
	end, err := content(h.f, d.pos, seg.size)
	if err != nil || end > d.pos {
		return d, err
	}
	seg.size = d.pos
	return nil, h.f.Truncate(d.pos)
}

// damaged decides what becomes of the damage d in segment i and of all after it.
func (r *recovering) damaged(i int, d *damage) error {
	seg, p := r.segs[i], r.p
	follows, err := r.validAfter(i, d)
	if err != nil {
		return err
	}
	if d.offset < r.mark || !r.known && follows {
		reason := d.reason
		switch {
		case d.offset < r.mark:
			reason += fmt.Sprintf("; offsets up to %d were acknowledged", r.mark)
		case follows:
			reason += "; valid batches follow"
		}
		mark := unknownMark
		if r.known || d.offset < r.mark {
			mark = r.mark
		}
		p.stop(mark, &CorruptError{Offset: d.offset, File: seg.file, Position: d.pos, Reason: reason})
		seg.size, seg.end = d.pos, d.offset
		r.segs = r.segs[:i+1]
		return nil
	}
	h, err := p.log.files.acquire(seg, false)
	if err != nil {
		return err
	}
	end, err := content(h.f, d.pos, seg.size)
	h.release()
	if err != nil {
		return err
	}
	lost := end - d.pos
	for _, later := range r.segs[i+1:] {
		lost += later.size
	}
	if lost > 0 {
		p.log.metrics.cut(lost)
		p.log.logger.Warn("cut bytes after the last valid batch; they were never acknowledged", "topic", p.topic.name, "partition", p.index,
			"offset", d.offset, "file", seg.file, "position", d.pos, "bytes", lost, "reason", d.reason, "valid_batches_among_them", follows)
	}
	return r.cut(i, d)
}

// cut removes all from the damage d in segment i on, the newest first: a crash in
// between leaves a shorter tail to cut.
func (r *recovering) cut(i int, d *damage) error {
	fsys := r.p.log.fs
	for _, later := range slices.Backward(r.segs[i+1:]) {
		if err := fsys.Remove(later.file); err != nil {
			return err
		}
		_ = fsys.Remove(later.indexFile()) // it may never have been written
		_ = fsys.Remove(later.txnIndexFile())
		r.p.log.files.drop(later)
	}
	r.segs = r.segs[:i+1]
	seg := r.segs[i]
	h, err := r.p.log.files.acquire(seg, false)
	if err != nil {
		return err
	}
	defer h.release()
	seg.size, seg.end = d.pos, d.offset
	return h.f.Truncate(d.pos)
}

// validAfter reports whether a valid batch follows the damage d in segment i.
func (r *recovering) validAfter(i int, d *damage) (bool, error) {
	for j := i; j < len(r.segs); j++ {
		seg := r.segs[j]
		h, err := r.p.log.files.acquire(seg, false)
		if err != nil {
			return false, err
		}
		s := scanner{f: h.f, anyEpoch: true, pos: d.pos, next: d.offset, limit: seg.size}
		if j > i {
			s.pos = -1 // a batch may begin with the segment
		}
		found, err := s.resync()
		h.release()
		if found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// finish makes what was scanned durable (a kill may have left it in the page
// cache only) and lets the partition be used.
func (r *recovering) finish(first int) error {
	if r.p.corrupt == nil {
		if len(r.p.epochs) > r.epochs {
			// What was found is going to count as acknowledged.
			if err := r.p.saveEpochs(r.p.epochs); err != nil {
				return err
			}
		}
		for _, seg := range r.segs[min(first, len(r.segs)):] {
			h, err := r.p.log.files.acquire(seg, false)
			if err != nil {
				return err
			}
			err = h.f.Sync()
			h.release()
			if err != nil {
				return err
			}
		}
		if err := r.p.log.fs.SyncDir(r.p.dir); err != nil {
			return err
		}
	}
	return r.publish(r.segs[first:max(first, len(r.segs)-1)])
}

// publish sets the partition's state. sealed are segments that were scanned and
// are not active: their index goes to its file.
func (r *recovering) publish(sealed []*segment) error {
	p := r.p
	for _, seg := range sealed {
		if err := p.saveIndex(seg); err != nil {
			return err
		}
		seg.maxTime, seg.timed = seg.index.maxTime, true
		seg.index = index{}
	}
	active := r.segs[len(r.segs)-1]
	p.producers = r.from.producers
	p.segs = r.segs
	p.start = max(r.from.start, r.segs[0].base)
	p.end = active.end
	p.hw, p.hwPos = p.end, position{active.base, active.size}
	p.epochs = p.epochs.from(p.epoch, p.end)
	p.cleaned = min(r.from.cleaned, p.end)
	p.settle()
	p.start = min(p.start, p.end)
	p.saved = saved{at: p.log.o.Now(), base: r.from.at.base, since: active.size - r.from.at.pos}
	if active.base != r.from.at.base {
		p.saved.since = active.size + 1
	}
	return nil
}

// stop takes the partition out of service from e on.
func (p *Partition) stop(mark int64, e *CorruptError) {
	e.Topic, e.Partition, e.Offline = p.topic.name, p.index, true
	e.Repair = fmt.Sprintf("weir log repair --data-dir %s --topic %s --partition %d", p.log.dir, e.Topic, e.Partition)
	p.corrupt, p.mark = e, mark
}
