package commitlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// RepairReport tells what a Repair did.
type RepairReport struct {
	Topic     string
	Partition int32
	Batches   int64 // valid ones, kept
	End       int64 // the offset after the last
	Lost      []LostRange
}

// LostRange is one run of offsets that could not be saved.
type LostRange struct {
	From, To int64 // exclusive; equal where only bytes beyond the last batch went
	Reason   string
	Kept     string // the file with the damaged bytes; empty where there are none
	Bytes    int64
}

// Repair puts a partition with damage back into service, while no weir runs on
// dir. Valid batches stay at their offsets; damaged bytes are moved to a file
// beside the segment; lost offsets are filled with an empty batch, so that they
// are not given again. Errors: ErrLocked, ErrUnknownTopic, ErrUnknownPartition,
// ErrDiskFull, ctx.Err, and those of the disk; it may then be run again.
func Repair(ctx context.Context, dir, topic string, partition int32, o Options) (*RepairReport, error) {
	o.setDefaults()
	l := &Log{o: o, fs: o.FS, dir: dir, logger: o.Logger, files: newFileCache(o.FS, o.MaxOpenFiles), metrics: newMetrics(), topics: map[string]*Topic{}, byID: map[[16]byte]*Topic{}, alike: map[string][]string{}}
	l.damage.init(l.logger, l.metrics)
	if _, err := o.FS.Stat(dir); err != nil {
		return nil, err // acquire would make it
	}
	if err := l.acquire(); err != nil {
		return nil, err
	}
	report, err := l.repair(ctx, topic, partition)
	l.files.closeAll()
	return report, errors.Join(err, l.lock.Close())
}

func (l *Log) repair(ctx context.Context, topic string, partition int32) (*RepairReport, error) {
	var err error
	if l.meta, err = readMeta(l.fs, l.dir); err != nil {
		return nil, err
	}
	for i := range l.meta.Topics {
		if !l.meta.Topics[i].Deleting {
			if err := l.addTopic(&l.meta.Topics[i]); err != nil {
				return nil, err
			}
		}
	}
	p, err := l.Partition(topic, partition)
	if err != nil {
		return nil, err
	}
	marks, err := readSynced(l.fs, l.syncedName(), l.logger)
	if err != nil {
		return nil, err
	}
	r := repairing{p: p, ctx: ctx, mark: marks[markKey{p.topic.seq, p.index}], report: &RepairReport{Topic: topic, Partition: partition}}
	if err := r.run(); err != nil {
		return nil, p.wrap(diskFull(err))
	}
	return r.report, nil
}

// repairing is the repair of one partition.
type repairing struct {
	p      *Partition
	ctx    context.Context
	mark   int64 // offsets below it were acknowledged
	report *RepairReport
	ck     checkpoint
}

func (r *repairing) run() error {
	segs, err := r.p.listSegments()
	if err != nil {
		return err
	}
	old, err := r.p.readCheckpoint()
	if err != nil {
		return err
	}
	r.p.epochs = nil
	if err := r.p.loadEpochs(segs); err != nil {
		return err
	}
	r.ck = checkpoint{topic: r.p.topic.id, producers: producers{}}
	if old != nil {
		r.mark = max(r.mark, old.offset)
		r.ck.start = old.start
	}
	if len(segs) == 0 {
		segs = []*segment{newSegment(r.p.dir, 0, r.p.log.o.Now())}
	}
	r.report.End = segs[0].base
	for i, seg := range segs {
		to := max(r.mark, seg.base)
		if i+1 < len(segs) {
			to = segs[i+1].base
		}
		if err := r.segment(seg, to, i+1 == len(segs)); err != nil {
			return err
		}
	}
	if len(r.p.epochs) > 0 {
		if err := r.p.saveEpochs(r.p.epochs); err != nil {
			return err
		}
	}
	// Whatever the next Open has to scan, it begins here.
	r.ck.start = max(r.ck.start, segs[0].base)
	r.ck.offset = r.report.End
	for _, seg := range segs {
		if len(seg.aborts) == 0 {
			_ = r.p.log.fs.Remove(seg.txnIndexFile()) // there may be none
			continue
		}
		if err := saveTxnIndex(r.p.log.fs, seg.txnIndexFile(), seg.aborts); err != nil {
			return err
		}
		r.ck.aborts = append(r.ck.aborts, abortCount{seg.base, uint32(len(seg.aborts))})
	}
	return vfs.WriteFile(r.p.log.fs, r.p.checkpointName(), r.ck.encode())
}

// piece is a run of bytes of the old segment, or a gap in its place.
type piece struct {
	from, to int64 // bytes
	gapFrom  int64 // offsets; a gap where gapTo > gapFrom
	gapTo    int64
}

// segment repairs one segment, which must end at offset to, or with the last
// segment at least there.
func (r *repairing) segment(seg *segment, to int64, last bool) error {
	create := false
	if _, err := r.p.log.fs.Stat(seg.file); err != nil {
		create = true // of a partition that lost all its files
	}
	h, err := r.p.log.files.acquire(seg, create)
	if err != nil {
		return err
	}
	defer h.release()
	pieces, damaged, err := r.examine(seg, h, to)
	if err != nil {
		return err
	}
	if last {
		r.ck.at = position{seg.base, 0}
		for _, one := range pieces {
			r.ck.at.pos += one.to - one.from + int64(len(gap(one, nil)))
		}
	}
	if !damaged {
		return h.f.Sync()
	}
	return r.rewrite(seg, h, pieces)
}

// examine scans a segment and says what it is to be made of.
func (r *repairing) examine(seg *segment, h *handle, to int64) (pieces []piece, damaged bool, err error) {
	s := scanner{f: h.f, epochs: r.p.epochs, learn: r.p.epoch, next: seg.base, limit: seg.size, crc: true}
	defer func() { r.p.epochs = s.epochs }()
	good := piece{}
	for {
		if err := r.ctx.Err(); err != nil {
			return nil, false, err
		}
		head, b, d, err := s.batch()
		if err == nil && d == nil {
			good.to = s.pos
			r.report.Batches++
			r.report.End = s.next
			if head.ProducerID >= 0 {
				step, first := r.ck.producers.replay(&head, b, r.p.log.o.Now())
				r.p.transact(seg, &head, step, first)
			}
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, false, err
		}
		pieces = append(pieces, good)
		if d != nil {
			end, err := content(h.f, d.pos, seg.size)
			if err != nil {
				return nil, false, err
			}
			if end == d.pos { // space that was taken ahead
				if err := h.f.Truncate(end); err != nil {
					return nil, false, err
				}
				d, seg.size = nil, end
			}
		}
		if d == nil { // the end of the file
			if s.next < to {
				if err := r.lose(seg, s.pos, s.pos, s.next, to, "the segment ends before that", h); err != nil {
					return nil, false, err
				}
				pieces = append(pieces, piece{gapFrom: s.next, gapTo: to})
				r.report.End = to
				damaged = true
			}
			return pieces, damaged, nil
		}
		damaged = true
		from := s.next
		found, err := s.resync()
		if err != nil {
			return nil, false, err
		}
		if !found {
			s.pos, s.next = seg.size, max(from, to)
		}
		if err := r.lose(seg, d.pos, s.pos, from, s.next, d.reason, h); err != nil {
			return nil, false, err
		}
		pieces = append(pieces, piece{gapFrom: from, gapTo: s.next})
		r.report.End = s.next
		good = piece{from: s.pos, to: s.pos}
	}
}

// lose notes a lost range and keeps its bytes aside.
func (r *repairing) lose(seg *segment, fromPos, toPos, from, to int64, reason string, h *handle) error {
	lost := LostRange{From: from, To: to, Reason: reason, Bytes: toPos - fromPos}
	if lost.Bytes > 0 {
		lost.Kept = fmt.Sprintf("%s.damaged-%d", seg.file, fromPos)
		f, err := r.p.log.fs.Create(lost.Kept)
		if err != nil {
			return err
		}
		_, err = copyRange(f, 0, h.f, fromPos, toPos)
		if err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	r.report.Lost = append(r.report.Lost, lost)
	return nil
}

// rewrite replaces a segment by its pieces, atomically.
func (r *repairing) rewrite(seg *segment, h *handle, pieces []piece) error {
	fsys, tmp := r.p.log.fs, seg.file+".tmp"
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	at := int64(0)
	for _, one := range pieces {
		if at, err = copyRange(f, at, h.f, one.from, one.to); err != nil {
			break
		}
		b := gap(one, r.p.epochs)
		if err = writeAll(f, b, at); err != nil {
			break
		}
		at += int64(len(b))
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fsys.Rename(tmp, seg.file); err != nil {
		return err
	}
	_ = fsys.Remove(seg.indexFile()) // made anew
	r.p.log.files.drop(seg)
	return fsys.SyncDir(r.p.dir)
}

// gap is the empty batches that stand for a piece's lost offsets.
func gap(one piece, e epochs) []byte {
	var b []byte
	for from := one.gapFrom; from < one.gapTo; {
		n := min(one.gapTo-from, math.MaxInt32)
		b = record.AppendGap(b, from, int32(n), e.at(from))
		from += n
	}
	return b
}

func copyRange(dst vfs.File, at int64, src vfs.File, from, to int64) (int64, error) {
	buf := make([]byte, min(to-from, 1<<20))
	for from < to {
		n, err := src.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
		if n == 0 && err != nil {
			return at, err
		}
		if err := writeAll(dst, buf[:n], at); err != nil {
			return at, err
		}
		from, at = from+int64(n), at+int64(n)
	}
	return at, nil
}
