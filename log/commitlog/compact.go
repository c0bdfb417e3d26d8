package commitlog

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// Compaction keeps of the records with a key the last one by key. It goes over
// sealed segments below the last stable offset: first it notes the last offset of
// each key in the part not compacted before, as much as fits in memory, then it
// writes all segments up to there anew and puts each group of them in its place.
// Offsets never change, and stay dense: an empty batch stands for what went.
//
// As in Kafka: a tombstone (a record without value) and a marker whose
// transaction has no more records get a delete horizon when compaction first sees
// them so, and go once that has passed (KIP-534); records of aborted transactions
// go at once; the last batch of a producer that is remembered stays, empty if need
// be, so that its sequences and epoch survive.

// compactor compacts one partition once.
type compactor struct {
	p       *Partition
	ctx     context.Context
	config  *topicConfig
	now     int64 // ms
	segs    []*segment
	from    int64 // what lies below was compacted before
	to      int64 // segments end here
	keys    keyMap
	mapEnd  int64                          // records from here on are not in keys
	aborted map[int64][]AbortedTransaction // by producer, in order
	last    map[int64]lastOf               // of remembered producers
	seen    map[int64]bool                 // producers with records of the transaction under way
	w       record.Rewriter
	out     []byte
	stats   compactStats
}

type compactStats struct{ read, written, records, dropped int64 }

// lastOf is what must stay of a producer: the batch that ends at offset or, with
// -1, its marker of that epoch.
type lastOf struct {
	offset int64
	epoch  int16
}

// keyMap holds the last offset of keys, by a hash without known collisions: a
// client that could find one could make another's record go.
type keyMap struct {
	offsets map[[16]byte]int64
	most    int
}

// keySize is what one key takes in the map, about.
const keySize = 64

func keyHash(key []byte) [16]byte {
	sum := sha256.Sum256(key)
	return [16]byte(sum[:16])
}

// put is false where there is no room for one more key.
func (m *keyMap) put(key []byte, offset int64) bool {
	h := keyHash(key)
	if _, known := m.offsets[h]; !known && len(m.offsets) >= m.most {
		return false
	}
	m.offsets[h] = offset
	return true
}

// compactable is what can be compacted now.
type compactable struct {
	segs       []*segment
	from, to   int64
	clean, all int64     // bytes
	oldest     time.Time // of what is not compacted; zero: unknown
}

// due reports whether it is time, by ratio or by age.
func (c *compactable) due(config *topicConfig, now time.Time) bool {
	if c.to <= c.from || c.all == c.clean {
		return false
	}
	if float64(c.all-c.clean)/float64(c.all) > config.minDirty {
		return true
	}
	return !c.oldest.IsZero() && now.Sub(c.oldest) > config.maxLag
}

// compactable finds the sealed segments that may be compacted.
func (p *Partition) compactable(config *topicConfig, now time.Time) (*compactable, error) {
	p.mu.Lock()
	c := &compactable{from: max(p.cleaned, p.start)}
	if p.blocked() == nil {
		stable := p.stable()
		for i, seg := range p.segs {
			if i+1 == len(p.segs) || seg.base >= p.hwPos.base || seg.end > stable {
				break
			}
			c.segs = append(c.segs, seg)
		}
	}
	p.mu.Unlock()
	for i, seg := range c.segs {
		newest, err := p.newest(seg)
		if err != nil {
			return nil, err
		}
		if config.minLag > 0 && newest > now.Add(-config.minLag).UnixMilli() {
			c.segs = c.segs[:i]
			break
		}
		c.all += seg.size
		if seg.end <= c.from {
			c.clean += seg.size
		} else if c.oldest.IsZero() && config.maxLag < math.MaxInt64 {
			if c.oldest, err = p.firstTime(seg); err != nil {
				return nil, err
			}
		}
		c.to = seg.end
	}
	return c, nil
}

// uncompacted is the bytes of sealed segments that compaction has before it.
func (p *Partition) uncompacted() (n int64) {
	if !p.topic.now.Load().parsed.compact {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, seg := range p.segs {
		if i+1 < len(p.segs) && seg.end > p.cleaned {
			n += seg.size
		}
	}
	return n
}

// firstTime is the time of a segment's first batch, zero where it has none.
func (p *Partition) firstTime(seg *segment) (at time.Time, err error) {
	f, err := p.log.files.acquire(seg, false)
	if err != nil {
		return at, err
	}
	defer f.release()
	b := make([]byte, record.HeaderSize)
	if _, err := f.f.ReadAt(b, 0); err != nil {
		return at, err
	}
	if h, err := record.ParseHeader(b); err == nil && h.MaxTimestamp >= 0 {
		at = time.UnixMilli(h.MaxTimestamp)
	}
	return at, nil
}

// compact compacts the partition if that is due; done is false where it was not.
func (p *Partition) compact(ctx context.Context) (done bool, err error) {
	config, now := p.topic.now.Load().parsed, p.log.o.Now()
	if !config.compact || !p.cleaning.TryLock() {
		return false, nil
	}
	defer p.cleaning.Unlock()
	what, err := p.compactable(config, now)
	if err != nil || !what.due(config, now) {
		return false, p.wrap(err)
	}
	// Recovery begins in the checkpoint's segment: that one has to stay.
	if err := p.checkpointPast(ctx, what.segs[len(what.segs)-1]); err != nil {
		return false, err
	}
	c := &compactor{p: p, ctx: ctx, config: config, now: now.UnixMilli(), segs: what.segs, from: what.from, to: what.to,
		keys: keyMap{map[[16]byte]int64{}, max(1, int(p.log.o.CompactBytes/keySize))}, seen: map[int64]bool{}}
	began := time.Now()
	if err := c.run(); err != nil {
		return false, p.wrap(err)
	}
	p.log.metrics.compacted(c.stats, time.Since(began))
	p.log.logger.Debug("compacted", "topic", p.topic.name, "partition", p.index, "to", c.mapEnd, "bytes_before", c.stats.read, "bytes_after", c.stats.written,
		"records_dropped", c.stats.dropped, "seconds", time.Since(began).Seconds())
	p.mu.Lock()
	p.cleaned = c.mapEnd
	p.mu.Unlock()
	return true, p.checkpoint(ctx)
}

// checkpointPast writes a checkpoint unless the last one lies after seg.
func (p *Partition) checkpointPast(ctx context.Context, seg *segment) error {
	p.mu.Lock()
	past := p.saved.base > seg.base
	p.mu.Unlock()
	if past {
		return nil
	}
	return p.checkpoint(ctx)
}

func (c *compactor) run() error {
	c.aborted = map[int64][]AbortedTransaction{}
	for _, a := range c.p.AbortedTransactions(c.segs[0].base, c.to) {
		c.aborted[a.ProducerID] = append(c.aborted[a.ProducerID], a)
	}
	c.last = c.p.lastOfProducers()
	if err := c.collect(); err != nil {
		return err
	}
	for first := 0; first < len(c.segs) && c.segs[first].base < c.mapEnd; {
		n := c.group(c.segs[first:])
		if err := c.rewrite(c.segs[first : first+n]); err != nil {
			return err
		}
		first += n
	}
	return nil
}

func (p *Partition) lastOfProducers() map[int64]lastOf {
	p.appendMu.Lock()
	defer p.appendMu.Unlock()
	last := make(map[int64]lastOf, len(p.producers))
	for id, one := range p.producers {
		l := lastOf{-1, one.epoch}
		if one.n > 0 {
			l.offset = one.kept[one.n-1].offset
		}
		last[id] = l
	}
	return last
}

// group is how many of the segments become one.
func (c *compactor) group(segs []*segment) (n int) {
	size := int64(0)
	for n < len(segs) && segs[n].base < c.mapEnd {
		size += segs[n].size
		if n > 0 && (size > c.config.segmentBytes || segs[n].end-segs[0].base > math.MaxInt32) {
			break
		}
		n++
	}
	return n
}

// each calls f with every batch of a segment. A damaged one ends the compaction:
// nothing is thrown away because of it.
func (c *compactor) each(seg *segment, f func(h *record.BatchHeader, batch []byte) error) error {
	p := c.p
	file, err := p.log.files.acquire(seg, false)
	if err != nil {
		return p.lost(seg, 0, seg.base, err)
	}
	defer file.release()
	p.mu.Lock()
	epochs := p.epochs
	p.mu.Unlock()
	s := scanner{f: file.f, epochs: epochs, next: seg.base, limit: seg.size, crc: true}
	for {
		if err := c.stopped(); err != nil {
			return err
		}
		h, b, d, err := s.batch()
		switch {
		case errors.Is(err, io.EOF):
			if s.next != seg.end {
				return p.damaged(seg, &damage{pos: s.pos, offset: s.next, reason: fmt.Sprintf("the segment ends before offset %d", seg.end)})
			}
			return nil
		case err != nil:
			return p.lost(seg, s.pos, s.next, err)
		case d != nil:
			return p.damaged(seg, d)
		}
		if err := f(&h, b); err != nil {
			return err
		}
	}
}

func (c *compactor) stopped() error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	return c.p.gone
}

var errFull = errors.New("no room for more keys")

// collect notes the last offset of each key that is not compacted yet.
func (c *compactor) collect() error {
	c.mapEnd = c.to
	for _, seg := range c.segs {
		if seg.end <= c.from {
			continue
		}
		err := c.each(seg, c.collectBatch)
		if errors.Is(err, errFull) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *compactor) collectBatch(h *record.BatchHeader, batch []byte) error {
	if h.LastOffset() < c.from || h.Count == 0 || h.Control() || c.isAborted(h) {
		return nil
	}
	recs, err := c.w.Records(batch)
	if err != nil {
		return nil // from before the topic was compacted; it stays as it is
	}
	for i := range recs {
		if recs[i].Key != nil && recs[i].Offset >= c.from && !c.keys.put(recs[i].Key, recs[i].Offset) {
			c.mapEnd = recs[i].Offset
			return errFull
		}
	}
	return nil
}

// isAborted: below the last stable offset every transaction is decided.
func (c *compactor) isAborted(h *record.BatchHeader) bool {
	if !h.Transactional() {
		return false
	}
	list := c.aborted[h.ProducerID]
	i, _ := slices.BinarySearchFunc(list, h.BaseOffset, func(a AbortedTransaction, offset int64) int {
		if a.LastOffset < offset {
			return -1
		}
		return 1
	})
	return i < len(list) && list[i].FirstOffset <= h.BaseOffset
}

// A cleaned file is being written; a swap file is complete and durable, and
// replaces the segments from its first offset until its second, which are its
// name.
const (
	cleanedSuffix = ".cleaned"
	swapSuffix    = ".swap"
)

// output is the segment that a group becomes.
type output struct {
	c       *compactor
	f       vfs.File
	seg     *segment
	gap     int64 // first offset not written
	next    int64 // after the last batch seen
	changed bool
	epochs  epochs
	buf     []byte
}

func (c *compactor) rewrite(group []*segment) error {
	first, last := group[0], group[len(group)-1]
	c.out = c.out[:0]
	name := strings.TrimSuffix(first.file, logSuffix) + cleanedSuffix
	f, err := c.p.log.fs.Create(name)
	if err != nil {
		return diskFull(err)
	}
	o := &output{c: c, f: f, seg: newSegment(c.p.dir, first.base, last.made), gap: first.base, next: first.base, changed: len(group) > 1}
	c.p.mu.Lock()
	o.epochs = c.p.epochs
	c.p.mu.Unlock()
	for _, seg := range group {
		c.stats.read += seg.size
		if err = c.each(seg, o.batch); err != nil {
			break
		}
	}
	if err == nil {
		err = o.finish()
	}
	if err == nil && o.changed {
		err = diskFull(f.Sync())
	}
	err = errors.Join(err, f.Close())
	c.stats.written += o.seg.size
	if err != nil || !o.changed {
		_ = c.p.log.fs.Remove(name) // where it cannot, the next Open does
		return err
	}
	o.keepAborts(group)
	return c.p.swap(group, o.seg, name)
}

// keepAborts gives the new segment the index entries whose markers are left.
func (o *output) keepAborts(group []*segment) {
	o.c.p.mu.Lock()
	defer o.c.p.mu.Unlock()
	for _, seg := range group {
		for _, a := range seg.aborts {
			if _, kept := slices.BinarySearch(o.seg.markers, a.LastOffset); kept {
				o.seg.aborts = append(o.seg.aborts, a)
			}
		}
	}
	o.seg.markers, o.seg.abortsSaved = nil, -1
	if len(o.seg.aborts) == 0 {
		o.seg.abortsSaved = 0
	}
}

// batch decides what is left of a batch and writes that.
func (o *output) batch(h *record.BatchHeader, batch []byte) error {
	o.next = h.LastOffset() + 1
	c := o.c
	o.buf = o.buf[:0]
	var err error
	switch {
	case h.IsGap():
		return o.flushBuffer()
	case h.Control():
		err = o.marker(h, batch)
	default:
		err = o.data(h, batch)
	}
	if err != nil {
		return err
	}
	if len(o.buf) == 0 && c.isLast(h) {
		o.buf = record.AppendEmpty(o.buf, *h)
	}
	if len(o.buf) == 0 {
		o.changed = true
		return o.flushBuffer()
	}
	if len(o.buf) != len(batch) {
		o.changed = true
	}
	if h.Control() {
		o.seg.markers = append(o.seg.markers, h.LastOffset())
	}
	return o.write(h.BaseOffset, h.LastOffset())
}

// isLast reports whether the batch has to stay for its producer.
func (c *compactor) isLast(h *record.BatchHeader) bool {
	if h.ProducerID < 0 {
		return false
	}
	l, known := c.last[h.ProducerID]
	if known && l.offset < 0 {
		return h.Control() && h.ProducerEpoch == l.epoch
	}
	return known && h.LastOffset() == l.offset
}

// marker keeps a marker until its transaction has no more records and its horizon
// is over.
func (o *output) marker(h *record.BatchHeader, batch []byte) error {
	c := o.c
	needed := c.seen[h.ProducerID] || h.LastOffset() >= c.mapEnd || c.isLast(h)
	delete(c.seen, h.ProducerID)
	horizon, set := h.DeleteHorizon()
	switch {
	case needed || set && c.now < horizon:
		o.buf = append(o.buf, batch...)
		return nil
	case set:
		c.stats.dropped++
		return nil
	}
	recs, err := c.w.Records(batch)
	if err != nil {
		o.buf = append(o.buf, batch...)
		return nil
	}
	o.changed = true
	o.buf, err = c.w.Rewrite(o.buf, batch, recs, c.horizon())
	return err
}

func (c *compactor) horizon() int64 {
	ms := c.config.deleteRetention.Milliseconds()
	if c.now > math.MaxInt64-ms {
		return math.MaxInt64
	}
	return c.now + ms
}

func (o *output) data(h *record.BatchHeader, batch []byte) error {
	c := o.c
	if h.Transactional() {
		c.seen[h.ProducerID] = true
	}
	c.stats.records += int64(h.Count)
	if h.Count == 0 || c.isAborted(h) {
		c.stats.dropped += int64(h.Count)
		return nil
	}
	recs, err := c.w.Records(batch)
	if err != nil {
		o.buf = append(o.buf, batch...) // cannot be read: nothing is known of its keys
		return nil
	}
	horizon, set := h.DeleteHorizon()
	expired := set && c.now >= horizon
	keep, tombstones := recs[:0], false
	for i := range recs {
		if c.keeps(&recs[i], expired) {
			tombstones = tombstones || recs[i].Value == nil
			keep = append(keep, recs[i])
		}
	}
	c.stats.dropped += int64(len(recs) - len(keep))
	begins := tombstones && !set
	switch {
	case len(keep) == len(recs) && !begins:
		o.buf = append(o.buf, batch...)
		return nil
	case len(keep) == 0:
		return nil
	}
	o.changed = true
	horizon = -1
	if begins {
		horizon = c.horizon()
	}
	o.buf, err = c.w.Rewrite(o.buf, batch, keep, horizon)
	return err
}

// keeps reports whether a record stays.
func (c *compactor) keeps(rec *record.Record, expired bool) bool {
	switch {
	case rec.Offset >= c.mapEnd:
		return true
	case rec.Key == nil:
		return false // from before the topic was compacted
	}
	if last, known := c.keys.offsets[keyHash(rec.Key)]; known && rec.Offset < last {
		return false
	}
	return rec.Value != nil || !expired
}

// write puts the batch in buf after the gap before it.
func (o *output) write(base, last int64) error {
	for o.gap < base {
		if err := o.writeGap(base); err != nil {
			return err
		}
	}
	o.gap = last + 1
	return o.add(o.buf)
}

func (o *output) writeGap(to int64) error {
	n := min(to-o.gap, record.MaxGap)
	b := record.AppendGap(nil, o.gap, int32(n), o.epochs.at(o.gap))
	o.gap += n
	return o.add(b)
}

// add writes a batch at the end. Writes are gathered.
func (o *output) add(b []byte) error {
	h, err := record.ParseHeader(b)
	if err != nil {
		return err
	}
	if o.seg.size+int64(len(b)) > math.MaxUint32 {
		return fmt.Errorf("compaction of %s: more than 4 GiB", o.seg.file)
	}
	o.seg.index.add(o.seg.base, &h)
	o.seg.size += int64(len(b))
	o.seg.end = h.LastOffset() + 1
	o.c.out = append(o.c.out, b...)
	return o.flushBuffer()
}

const compactBuffer = 1 << 20

func (o *output) flushBuffer() error {
	if len(o.c.out) < compactBuffer {
		return nil
	}
	return o.flush()
}

func (o *output) flush() error {
	b := o.c.out
	o.c.out = b[:0]
	return diskFull(writeAll(o.f, b, o.seg.size-int64(len(b))))
}

func (o *output) finish() error {
	for o.gap < o.next {
		if err := o.writeGap(o.next); err != nil {
			return err
		}
	}
	o.seg.maxTime, o.seg.timed = o.seg.index.maxTime, true
	return o.flush()
}

// swap puts the segment seg, written to the file cleaned and durable, in the place
// of the group. Once the file has its swap name the change is made: what a crash
// leaves undone, the next Open does.
func (p *Partition) swap(group []*segment, seg *segment, cleaned string) error {
	fsys := p.log.fs
	p.mu.Lock()
	i := slices.Index(p.segs, group[0])
	there := p.gone == nil && i >= 0 && i+len(group) < len(p.segs) && slices.Equal(p.segs[i:i+len(group)], group)
	p.mu.Unlock()
	if !there {
		_ = fsys.Remove(cleaned)
		return ErrDeleted
	}
	f, err := fsys.OpenFile(cleaned)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%020d%s", strings.TrimSuffix(seg.file, logSuffix), seg.end, swapSuffix)
	if err := errors.Join(fsys.Rename(cleaned, name), fsys.SyncDir(p.dir)); err != nil {
		_ = f.Close()
		p.failSwap(err)
		return err
	}
	pin := p.log.files.adopt(seg, f) // its name is not its own yet
	x := seg.index
	seg.index = index{}
	p.mu.Lock()
	p.segs = slices.Concat(p.segs[:i], []*segment{seg}, p.segs[i+len(group):])
	ended := p.gone
	p.mu.Unlock()
	if ended != nil {
		p.log.files.drop(seg) // shut did not see it
	}
	for _, old := range group {
		p.log.files.drop(old)
		p.log.indexes.drop(old)
	}
	if err := p.finishSwap(name, seg.base, seg.end); err != nil {
		p.failSwap(err)
		return err
	}
	if err := x.save(fsys, seg.indexFile()); err != nil {
		p.log.logger.Warn("index not saved; it will be made again", "file", seg.indexFile(), "err", err)
	}
	pin.release()
	return nil
}

// failSwap takes the partition's appends out of service: what is on the disk is
// in order after the next Open only.
func (p *Partition) failSwap(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed == nil && p.gone == nil {
		p.failed = fmt.Errorf("%w: compaction: %w", ErrFailed, diskFull(err))
		p.wake()
	}
}

// finishSwap removes the files that a swap file replaces and gives it its name,
// in an order that can be begun again at any point.
func (p *Partition) finishSwap(name string, from, to int64) error {
	fsys := p.log.fs
	names, err := fsys.List(p.dir)
	if err != nil {
		return err
	}
	for _, one := range names {
		digits, suffix, _ := strings.Cut(one, ".")
		base, ok := segmentBase(digits + logSuffix)
		if !ok || base < from || base >= to {
			continue
		}
		suffix = "." + suffix
		if suffix == indexSuffix || suffix == txnIndexSuffix || suffix == logSuffix && base != from {
			if err := fsys.Remove(filepath.Join(p.dir, one)); err != nil {
				return err
			}
		}
	}
	if err := fsys.Rename(name, newSegment(p.dir, from, time.Time{}).file); err != nil {
		return err
	}
	return fsys.SyncDir(p.dir)
}

// finishSwaps does what a crash left of compactions: swaps that had been made
// durable are finished, files not yet complete are removed.
func (p *Partition) finishSwaps(names []string) (again bool, err error) {
	for _, name := range names {
		full := filepath.Join(p.dir, name)
		if strings.HasSuffix(name, cleanedSuffix) {
			if err := p.log.fs.Remove(full); err != nil {
				return false, err
			}
			continue
		}
		if span, ok := strings.CutSuffix(name, swapSuffix); ok {
			from, to, _ := strings.Cut(span, "-")
			first, ok1 := segmentBase(from + logSuffix)
			end, ok2 := segmentBase(to + logSuffix)
			if !ok1 || !ok2 || end <= first {
				p.log.logger.Warn("file is no swap file of compaction", "file", full)
				continue
			}
			if err := p.finishSwap(full, first, end); err != nil {
				return false, err
			}
			again = true
		}
	}
	return again, nil
}

// cleaner compacts, the partition with the most to gain first, until nothing is
// due, and looks again later.
func (l *Log) cleaner(ctx context.Context) {
	failed := map[*Partition]time.Time{}
	for {
		for l.compactNext(ctx, failed) {
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(l.o.CompactEvery):
		}
	}
}

// retryCompaction is when a partition whose compaction failed is tried again.
const retryCompaction = 10 * time.Minute

func (l *Log) compactNext(ctx context.Context, failed map[*Partition]time.Time) bool {
	var best *Partition
	var most int64
	now := l.o.Now()
	for _, t := range l.Topics() {
		config := t.now.Load().parsed
		if !config.compact {
			continue
		}
		for _, p := range t.now.Load().partitions {
			if ctx.Err() != nil {
				return false
			}
			if at, bad := failed[p]; bad && time.Since(at) < retryCompaction {
				continue
			}
			c, err := p.compactable(config, now)
			if err == nil && c.due(config, now) && c.all-c.clean > most {
				best, most = p, c.all-c.clean
			}
		}
	}
	if best == nil {
		return false
	}
	_, err := best.compact(ctx)
	if err != nil && !ended(err) {
		failed[best] = time.Now()
		l.logger.Warn("compaction failed; the partition stays as it is and is tried again later", "topic", best.topic.name, "partition", best.index, "err", err)
	}
	return ctx.Err() == nil
}
