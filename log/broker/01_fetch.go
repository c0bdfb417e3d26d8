package broker

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
)

// Fetch: read record batches up to the high watermark, or with isolation level
// read_committed up to the last stable offset.
//
// Behaviour:
//   - waits for MinBytes at most MaxWaitMillis, woken by the log and not by a
//     timer; answers at once where a partition has an error;
//   - the first batch of an answer is whole even where it exceeds the limits, so
//     that a consumer always makes progress; what follows keeps to them;
//   - read_committed: the answer names the aborted transactions within what it
//     holds, whose records, like markers, are in the bytes and for clients to skip;
//   - sessions (KIP-227), see fetch_session.go. Clients of one session may be told of
//     a partition only when it changed;
//   - a client's leader epochs are checked (KIP-320): FENCED_LEADER_EPOCH,
//     UNKNOWN_LEADER_EPOCH, and, where it tells the epoch of its last batch and our
//     log parted from there, the diverging epoch and its end;
//   - a batch that fails its checks on disk is CORRUPT_MESSAGE and never sent; the
//     log names its file in an error of its own;
//   - there is one replica, so racks do not matter.
//
// Versions: 4 brought isolation levels, 5 the start offset, 7 sessions, 9 leader
// epochs, 11 racks, 12 flexible fields and diverging epochs, 13 topic ids instead of
// names, 16 the endpoints of leaders; 14, 15, 17 and 18 fields of followers only.

// minFetchBytes is what a fetch may return when the budget for responses is used
// up.
const minFetchBytes = 64 << 10

// readCommitted is the isolation level.
const readCommitted = 1

type fetchAnswer struct {
	c         *conn
	req       *kmsg.FetchRequest
	committed bool
	session   *fetchSession // nil: none
	full      bool          // the answer has every partition
	parts     []fetchedPart // in the order in which they are served
	held      int64         // taken from the budget for fetches
}

type fetchedPart struct {
	sessionKey
	offset           int64
	epoch, lastEpoch int32 // of the client; -1: untold
	limit            int32
	partition        *commitlog.Partition
	watermark        int64 // as of the last read
	stable           int64
	start            int64
	end              int64 // where it ended before the last read
	flushed          int64 // likewise
	cursor           *cursor
	data             []byte // the cursor's
	aborted          []commitlog.AbortedTransaction
	diverging        *epochEnd
	err              error
}

// epochEnd is where the log's part of a leader epoch ends.
type epochEnd struct {
	epoch int32
	end   int64
}

func newFetchedPart(key sessionKey, offset int64, limit, epoch, lastEpoch int32) fetchedPart {
	return fetchedPart{sessionKey: key, offset: offset, limit: limit, epoch: epoch, lastEpoch: lastEpoch, watermark: -1, stable: -1, start: -1}
}

func startFetch(c *conn, h header, body []byte) (answer, error) {
	req, err := decode[kmsg.FetchRequest](h.version, body)
	if err != nil {
		return nil, err
	}
	return &fetchAnswer{c: c, req: req, committed: req.IsolationLevel == readCommitted}, nil
}

func (a *fetchAnswer) finish(ctx context.Context, f *frame) error {
	if err := a.list(); err != nil {
		a.encode(f, err)
		return nil
	}
	a.resolve()
	wait := min(time.Duration(max(0, a.req.MaxWaitMillis))*time.Millisecond, a.c.srv.opt.IdleTimeout/2)
	if !a.enough(a.read()) && wait > 0 && ctx.Err() == nil {
		a.await(ctx, wait)
	}
	a.encode(f, nil)
	return nil
}

// Session epochs with a meaning of their own.
const (
	finalEpoch   = -1 // no session, and the end of the one named
	initialEpoch = 0  // a new one
)

// list makes the list of partitions to read, of the request or of its session.
func (a *fetchAnswer) list() (err error) {
	sessions := a.c.srv.sessions
	a.full = a.req.SessionEpoch == finalEpoch || a.req.SessionEpoch == initialEpoch
	if !a.full {
		if a.session, err = sessions.next(a.req); err != nil {
			return err
		}
		a.parts = a.session.wanted()
		return nil
	}
	if a.req.SessionID != 0 {
		sessions.remove(a.req.SessionID)
	}
	if a.req.SessionEpoch == initialEpoch {
		a.session = sessions.add(a.req)
		a.c.remember(a.session)
	}
	for i := range a.req.Topics {
		rt := &a.req.Topics[i]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			a.parts = append(a.parts, newFetchedPart(sessionKey{rt.Topic, rt.TopicID, rp.Partition}, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LastFetchedEpoch))
		}
	}
	return nil
}

// resolve finds the partitions, and compares their leader epochs.
func (a *fetchAnswer) resolve() {
	s := a.c.srv
	var t *commitlog.Topic
	var err error
	for i := range a.parts {
		part := &a.parts[i]
		if i == 0 || part.name != a.parts[i-1].name || part.id != a.parts[i-1].id {
			t, err = s.find(part.name, part.id, a.req.Version >= 13)
		}
		part.partition, part.err = partitionOf(t, part.sessionKey.partition, err)
		if part.err == nil {
			part.err = checkEpoch(part.partition, part.epoch)
		}
	}
}

// enough reports whether an answer with n bytes of records is worth sending.
func (a *fetchAnswer) enough(n int64, told bool) bool {
	return told || len(a.parts) == 0 || n >= int64(min(a.req.MinBytes, max(a.req.MaxBytes, 1)))
}

// read fills the parts from the log until the response's limit is reached. told is
// that a partition has an error, or that its log has parted from the client's.
func (a *fetchAnswer) read() (total int64, told bool) {
	limit := int64(max(1, min(a.req.MaxBytes, a.c.srv.opt.MaxFetchBytes)))
	a.held = a.c.srv.fetches.takeUpTo(limit, minFetchBytes)
	limit = min(limit, a.held)
	for i := range a.parts {
		part := &a.parts[i]
		if part.err == nil {
			a.readPart(part, limit-total, total == 0)
			total += int64(len(part.data))
		}
		told = told || part.err != nil || part.diverging != nil
	}
	// A first batch can be larger than the limit: the budget is overdrawn by it.
	a.c.srv.fetches.give(a.held - total)
	a.held = total
	return total, told
}

// readPart reads one partition, at most limit bytes unless it is the first.
func (a *fetchAnswer) readPart(part *fetchedPart, limit int64, first bool) {
	p := part.partition
	if err := p.Err(); errors.Is(err, commitlog.ErrDeleted) || errors.Is(err, commitlog.ErrClosed) {
		a.fail(part, err)
		return
	}
	part.start, part.flushed = p.Start(), p.Flushed()
	a.measure(part)
	part.end = a.end(part)
	if part.offset < part.start || part.offset > p.End() {
		part.err = kerr.OffsetOutOfRange
		return
	}
	if part.diverging = divergence(p, part); part.diverging != nil {
		return
	}
	limit = min(limit, int64(part.limit))
	if part.offset >= part.end || limit <= 0 && !first {
		return
	}
	part.cursor = a.c.cur.take(p, part.offset)
	data, err := part.cursor.read(int(limit), a.committed)
	if err != nil {
		a.fail(part, err)
		return
	}
	part.data = data
	if int64(len(part.data)) > limit && !first {
		part.data = nil // one batch, too large: its turn will come
		return
	}
	if a.committed && len(part.data) > 0 {
		part.aborted = p.AbortedTransactions(part.offset, part.cursor.c.Offset())
	}
	a.measure(part) // what was read may be beyond the ends of a moment ago
}

// fail notes why a partition cannot be read.
func (a *fetchAnswer) fail(part *fetchedPart, err error) {
	if part.err = err; errors.Is(err, commitlog.ErrDeleted) && a.req.Version >= 13 {
		part.err = kerr.UnknownTopicID
	}
}

// measure takes down the ends of a partition, in the order in which the one never
// exceeds the other.
func (a *fetchAnswer) measure(part *fetchedPart) {
	part.stable = part.partition.LastStableOffset()
	part.watermark = part.partition.HighWatermark()
}

// end is up to where the part may be read, as measured.
func (a *fetchAnswer) end(part *fetchedPart) int64 {
	if a.committed {
		return part.stable
	}
	return part.watermark
}

// divergence is where the log parted from a client whose last batch was of the
// epoch that it tells; nil where it did not, or did not tell.
func divergence(p *commitlog.Partition, part *fetchedPart) *epochEnd {
	if part.lastEpoch < 0 {
		return nil
	}
	epoch, end := p.EpochEnd(part.lastEpoch)
	if end < 0 || epoch >= part.lastEpoch && end >= part.offset {
		return nil
	}
	return &epochEnd{epoch, end}
}

// await reads again whenever a partition has more, until there is enough or the
// time is over. One channel hears of all partitions.
func (a *fetchAnswer) await(ctx context.Context, wait time.Duration) {
	changed := make(chan struct{}, 1)
	for i := range a.parts {
		a.parts[i].partition.Watch(changed)
		defer a.parts[i].partition.Unwatch(changed)
	}
	over := time.NewTimer(wait)
	defer over.Stop()
	for {
		if a.worthReading() { // also before Watch
			a.release()
			if a.enough(a.read()) {
				return
			}
		}
		select {
		case <-changed:
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// worthReading reports whether what is new since the last read may make the answer
// enough: to read all again with each batch that comes would cost the square of
// MinBytes.
func (a *fetchAnswer) worthReading() bool {
	bytes, moved := int64(0), false
	for i := range a.parts {
		part := &a.parts[i]
		p := part.partition
		if p.Start() > part.offset || p.Err() != nil {
			return true
		}
		end := p.HighWatermark
		if a.committed {
			end = p.LastStableOffset
		}
		bytes += int64(len(part.data))
		switch {
		case end() <= part.end:
		case a.committed && part.stable < part.watermark:
			return true // what a transaction held back was there before
		default:
			moved = true
			bytes += p.Flushed() - part.flushed
		}
	}
	return moved && a.enough(bytes, false)
}

// release gives back what read took.
func (a *fetchAnswer) release() {
	for i := range a.parts {
		part := &a.parts[i]
		if part.cursor != nil {
			a.c.cur.put(part.cursor)
		}
		part.cursor, part.data, part.aborted = nil, nil, nil
	}
	a.c.srv.fetches.give(a.held)
	a.held = 0
}

func (a *fetchAnswer) written() { a.release() }

// tell are the parts that the answer has.
func (a *fetchAnswer) tell() []*fetchedPart {
	if a.session != nil {
		return a.session.told(a.parts, a.full)
	}
	tell := make([]*fetchedPart, len(a.parts))
	for i := range a.parts {
		tell[i] = &a.parts[i]
	}
	return tell
}

// encode appends the response's body, with the records spliced in.
func (a *fetchAnswer) encode(f *frame, whole error) {
	s, version := a.c.srv, a.req.Version
	flexible := version >= 12
	var session int32
	var tell []*fetchedPart
	if whole == nil {
		tell = a.tell()
		if a.session != nil {
			session = a.session.id
		}
	}
	f.buf = kbin.AppendInt32(f.buf, 0) // throttle
	if version >= 7 {
		f.buf = kbin.AppendInt16(f.buf, s.code(whole))
		f.buf = kbin.AppendInt32(f.buf, session)
	}
	sizes := topicSizes(tell)
	f.buf = appendArrayLen(f.buf, len(sizes), flexible)
	fenced := false
	for _, n := range sizes {
		if version >= 13 {
			f.buf = kbin.AppendUuid(f.buf, tell[0].id)
		} else {
			f.buf = appendString(f.buf, tell[0].name, flexible)
		}
		f.buf = appendArrayLen(f.buf, n, flexible)
		for _, part := range tell[:n] {
			a.encodePart(f, part, flexible)
			fenced = fenced || part.fenced()
		}
		tell = tell[n:]
		f.buf = appendTags(f.buf, flexible)
	}
	if version >= 16 && fenced {
		f.buf = a.c.appendEndpoints(f.buf)
		return
	}
	f.buf = appendTags(f.buf, flexible)
}

// topicSizes are how many of the parts in a row are of the same topic.
func topicSizes(parts []*fetchedPart) []int {
	var sizes []int
	for i, part := range parts {
		if i > 0 && part.name == parts[i-1].name && part.id == parts[i-1].id {
			sizes[len(sizes)-1]++
			continue
		}
		sizes = append(sizes, 1)
	}
	return sizes
}

func (a *fetchAnswer) encodePart(f *frame, part *fetchedPart, flexible bool) {
	version := a.req.Version
	f.buf = kbin.AppendInt32(f.buf, part.sessionKey.partition)
	f.buf = kbin.AppendInt16(f.buf, a.c.srv.code(part.err))
	f.buf = kbin.AppendInt64(f.buf, part.watermark)
	f.buf = kbin.AppendInt64(f.buf, part.stable)
	if version >= 5 {
		f.buf = kbin.AppendInt64(f.buf, part.start)
	}
	// Aborted transactions: a list, maybe empty, to one who reads committed records,
	// null to others.
	if flexible {
		f.buf = kbin.AppendCompactNullableArrayLen(f.buf, len(part.aborted), !a.committed)
	} else {
		f.buf = kbin.AppendNullableArrayLen(f.buf, len(part.aborted), !a.committed)
	}
	for _, t := range part.aborted {
		f.buf = kbin.AppendInt64(f.buf, t.ProducerID)
		f.buf = kbin.AppendInt64(f.buf, t.FirstOffset)
		f.buf = appendTags(f.buf, flexible)
	}
	if version >= 11 {
		f.buf = kbin.AppendInt32(f.buf, -1) // preferred read replica
	}
	if flexible {
		f.buf = kbin.AppendUvarint(f.buf, uint32(len(part.data))+1)
	} else {
		f.buf = kbin.AppendInt32(f.buf, int32(len(part.data)))
	}
	f.add(part.data)
	if flexible {
		f.buf = part.appendTags(f.buf)
	}
}

// fenced is that the client should look at who leads the partition.
func (p *fetchedPart) fenced() bool { return errors.Is(p.err, kerr.FencedLeaderEpoch) }

// Tagged fields of a partition.
const (
	tagDivergingEpoch = 0
	tagCurrentLeader  = 1
)

// appendTags appends the tagged fields that have something to say, in order.
func (p *fetchedPart) appendTags(dst []byte) []byte {
	switch {
	case p.diverging != nil:
		dst = append(dst, 1, tagDivergingEpoch, 4+8+1)
		dst = kbin.AppendInt32(dst, p.diverging.epoch)
		dst = kbin.AppendInt64(dst, p.diverging.end)
	case p.fenced():
		dst = append(dst, 1, tagCurrentLeader, 4+4+1)
		dst = kbin.AppendInt32(dst, nodeID)
		dst = kbin.AppendInt32(dst, p.partition.LeaderEpoch())
	}
	return append(dst, 0)
}

// appendEndpoints appends tag 0 of the response: where leaders are.
func (c *conn) appendEndpoints(dst []byte) []byte {
	host, port := c.advertised()
	var one []byte
	one = kbin.AppendCompactArrayLen(one, 1)
	one = kbin.AppendInt32(one, nodeID)
	one = kbin.AppendCompactString(one, host)
	one = kbin.AppendInt32(one, port)
	one = kbin.AppendCompactNullableString(one, nil) // rack
	one = append(one, 0)
	dst = append(dst, 1, 0)
	dst = kbin.AppendUvarint(dst, uint32(len(one)))
	return append(dst, one...)
}
