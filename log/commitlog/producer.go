package commitlog

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weirstream/weir/log/record"
)

const (
	// keptBatches is how many batches of a producer are remembered, as Kafka's:
	// so many requests may be in flight.
	keptBatches = 5
	// maxProducers bounds the producers remembered in a partition; those longest
	// silent go first.
	maxProducers = 10_000
	// unsureFlag is set in a checkpoint beside the number of a producer's batches.
	unsureFlag = 0x80
)

// producers is what a partition knows of its idempotent producers.
type producers map[int64]*producer

// producer is one of them, with its last batches, the oldest first.
type producer struct {
	epoch       int16
	last        time.Time // of its last append
	txn         int64     // first offset of its open transaction; -1: none
	coordinator int32     // epoch of the coordinator of its last marker; -1: none
	n           int
	kept        [keptBatches]sentBatch
	// unsure: it is known by a marker alone. Whether it sent anything before is not
	// known, so that its next batch may have any sequence.
	unsure bool
}

type sentBatch struct {
	first, last  int32 // sequences
	base, offset int64 // of the first and last record
}

// check compares a batch with what its producer sent before (KIP-98, KIP-360). A
// producer that is not known may begin at any sequence: its state may have
// expired. Nor is more known of one of which only a marker is left.
func (ps producers) check(h *record.BatchHeader) (base, last int64, duplicate bool, err error) {
	p := ps[h.ProducerID]
	if p == nil {
		return 0, 0, false, nil
	}
	bad := func(why error, expected int32) error {
		return fmt.Errorf("%w: producer %d epoch %d sequence %d, expected epoch %d sequence %d", why, h.ProducerID, h.ProducerEpoch, h.BaseSequence, p.epoch, expected)
	}
	if h.ProducerEpoch < p.epoch {
		return 0, 0, false, bad(ErrInvalidProducerEpoch, p.nextSequence())
	}
	if h.ProducerEpoch == p.epoch && h.BaseSequence >= 0 {
		for _, b := range p.kept[:p.n] {
			if b.first == h.BaseSequence && b.last == lastSequence(h) {
				return b.base, b.offset, true, nil
			}
		}
	}
	expected := p.nextSequence()
	if h.ProducerEpoch > p.epoch {
		expected = 0
	}
	anySequence := p.unsure && h.ProducerEpoch == p.epoch || h.BaseSequence < 0 // a coordinator's batches have none
	if h.BaseSequence != expected && !anySequence {
		return 0, 0, false, bad(ErrOutOfOrderSequence, expected)
	}
	if p.txn >= 0 && !h.Transactional() {
		return 0, 0, false, fmt.Errorf("%w: producer %d sent a batch outside of its transaction, which is open since offset %d", ErrInvalidTxnState, h.ProducerID, p.txn)
	}
	return 0, 0, false, nil
}

// Sequences wrap from the largest int32 to 0.
func lastSequence(h *record.BatchHeader) int32 {
	return int32((int64(h.BaseSequence) + int64(h.LastOffsetDelta)) & math.MaxInt32)
}

func (p *producer) nextSequence() int32 {
	if p.n == 0 {
		return 0
	}
	return int32((int64(p.kept[p.n-1].last) + 1) & math.MaxInt32)
}

// update remembers an appended batch.
func (ps producers) update(h *record.BatchHeader, now time.Time) {
	p := ps.get(h.ProducerID, h.ProducerEpoch)
	p.last = now
	if h.Transactional() && p.txn < 0 {
		p.txn = h.BaseOffset
	}
	if h.BaseSequence < 0 {
		return
	}
	if p.n == keptBatches {
		copy(p.kept[:], p.kept[1:])
		p.n--
	}
	p.kept[p.n] = sentBatch{h.BaseSequence, lastSequence(h), h.BaseOffset, h.LastOffset()}
	p.n++
	p.unsure = false
}

// get is a producer at an epoch. A new epoch begins without batches; an open
// transaction stays open until its marker comes.
func (ps producers) get(id int64, epoch int16) *producer {
	p := ps[id]
	if p == nil {
		if len(ps) >= maxProducers {
			ps.evict()
		}
		p = &producer{epoch: epoch, txn: -1, coordinator: -1}
		ps[id] = p
	}
	if epoch != p.epoch {
		p.epoch, p.n, p.unsure = epoch, 0, false
	}
	return p
}

// replay takes in a stored batch, and tells what it does to a transaction, which
// began at offset first.
func (ps producers) replay(h *record.BatchHeader, batch []byte, now time.Time) (step txnStep, first int64) {
	if h.ProducerID < 0 {
		return txnNone, -1
	}
	first = ps.txnStart(h.ProducerID)
	if !h.Control() {
		ps.update(h, now)
		if h.Transactional() && first < 0 {
			return txnBegin, -1
		}
		return txnNone, -1
	}
	m, err := record.ParseMarker(batch)
	if err != nil {
		return txnNone, -1 // a control record that this version does not know
	}
	ps.mark(Marker{m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch, m.Commit}, now)
	if m.Commit {
		return txnCommit, first
	}
	return txnAbort, first
}

// evict forgets the tenth that was silent the longest, but nobody with an open
// transaction.
func (ps producers) evict() {
	ids := ps.sorted(func(a, b int64) int { return ps[a].last.Compare(ps[b].last) })
	ids = slices.DeleteFunc(ids, func(id int64) bool { return ps[id].txn >= 0 })
	for _, id := range ids[:min(len(ids), len(ids)/10+1)] {
		delete(ps, id)
	}
}

// expire forgets who was silent for too long, but nobody with an open
// transaction.
func (ps producers) expire(now time.Time, after time.Duration) {
	for id, p := range ps {
		if p.txn < 0 && now.Sub(p.last) > after {
			delete(ps, id)
		}
	}
}

func (ps producers) sorted(compare func(a, b int64) int) []int64 {
	ids := make([]int64, 0, len(ps))
	for id := range ps {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compare)
	return ids
}

// appendTo encodes all producers, in order of id.
func (ps producers) appendTo(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(ps)))
	for _, id := range ps.sorted(cmp.Compare[int64]) {
		p := ps[id]
		b = binary.BigEndian.AppendUint64(b, uint64(id))
		b = binary.BigEndian.AppendUint16(b, uint16(p.epoch))
		b = binary.BigEndian.AppendUint64(b, uint64(p.last.UnixMilli()))
		b = binary.BigEndian.AppendUint64(b, uint64(p.txn))
		b = binary.BigEndian.AppendUint32(b, uint32(p.coordinator))
		n := byte(p.n)
		if p.unsure {
			n |= unsureFlag
		}
		b = append(b, n)
		for _, k := range p.kept[:p.n] {
			b = binary.BigEndian.AppendUint32(b, uint32(k.first))
			b = binary.BigEndian.AppendUint32(b, uint32(k.last))
			b = binary.BigEndian.AppendUint64(b, uint64(k.base))
			b = binary.BigEndian.AppendUint64(b, uint64(k.offset))
		}
	}
	return b
}

// readProducers decodes what appendTo wrote in a checkpoint of that version; f.ok
// is false where it cannot.
func readProducers(f *fields, version uint32) producers {
	ps := producers{}
	n := f.u32()
	for i := uint32(0); i < n && f.ok; i++ {
		id := f.i64()
		p := &producer{epoch: f.i16(), last: time.UnixMilli(f.i64()), txn: -1, coordinator: -1}
		if version >= 2 {
			p.txn, p.coordinator = f.i64(), int32(f.u32())
		}
		n := f.take(1)[0]
		p.n, p.unsure = int(n&^unsureFlag), n&unsureFlag != 0
		if p.n > keptBatches {
			f.ok = false
			break
		}
		for k := range p.n {
			p.kept[k] = sentBatch{int32(f.u32()), int32(f.u32()), f.i64(), f.i64()}
		}
		ps[id] = p
	}
	return ps
}
