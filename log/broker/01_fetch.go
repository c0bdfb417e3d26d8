package broker

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/commitlog"
)

// Fetch: read record batches up to the high watermark.
//
// Behaviour:
//   - waits for MinBytes at most MaxWaitMillis, woken by the log and not by a
//     timer; answers at once where a partition has an error;
//   - the first batch at an offset is whole even where it exceeds the limits, so
//     that a consumer always makes progress; nothing more is read once MaxBytes
//     are there;
//   - no sessions: the answer's session id is 0, and a request that names a
//     session gets FETCH_SESSION_ID_NOT_FOUND, upon which clients start over;
//     forgotten topics therefore mean nothing;
//   - with no transactions the last stable offset is the high watermark and no
//     transaction was ever aborted, so both isolation levels read the same;
//   - a batch that fails its checks on disk is CORRUPT_MESSAGE and never sent; the
//     log names its file in an error of its own.
//
// Versions: 4 brought isolation levels, 5 the start offset, 7 sessions, 9 leader
// epochs, 12 flexible fields, 13 topic ids instead of names, 15 to 18 fields of
// followers only.

// minFetchBytes is what a fetch may return when the budget for responses is used
// up.
const minFetchBytes = 64 << 10

type fetchAnswer struct {
	c     *conn
	req   *kmsg.FetchRequest
	topic []fetchedTopic
	parts []fetchedPart // of all topics, in order
	held  int64         // taken from the budget for fetches
}

type fetchedTopic struct {
	name  string
	id    [16]byte
	parts int
}

type fetchedPart struct {
	index     int32
	partition *commitlog.Partition
	offset    int64
	limit     int32
	watermark int64 // as of the last read
	start     int64
	cursor    *cursor
	data      []byte // the cursor's
	err       error
}

func startFetch(c *conn, h header, body []byte) (answer, error) {
	req, err := decode[kmsg.FetchRequest](h.version, body)
	if err != nil {
		return nil, err
	}
	return &fetchAnswer{c: c, req: req}, nil
}

func (a *fetchAnswer) finish(ctx context.Context, f *frame) error {
	if a.req.SessionID != 0 {
		a.encode(f, kerr.FetchSessionIDNotFound)
		return nil
	}
	a.resolve()
	wait := min(time.Duration(max(0, a.req.MaxWaitMillis))*time.Millisecond, a.c.srv.opt.IdleTimeout/2)
	deadline := time.Now().Add(wait)
	for {
		n, failed := a.read()
		if failed || n >= int64(a.req.MinBytes) || len(a.parts) == 0 || ctx.Err() != nil {
			break
		}
		if !a.await(ctx, deadline) {
			break
		}
		a.release()
	}
	a.encode(f, nil)
	return nil
}

// resolve finds the partitions that the request names.
func (a *fetchAnswer) resolve() {
	s := a.c.srv
	for i := range a.req.Topics {
		rt := &a.req.Topics[i]
		t, err := s.find(rt.Topic, rt.TopicID, a.req.Version >= 13)
		a.topic = append(a.topic, fetchedTopic{name: rt.Topic, id: rt.TopicID, parts: len(rt.Partitions)})
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			part := fetchedPart{index: rp.Partition, offset: rp.FetchOffset, limit: rp.PartitionMaxBytes, watermark: -1, start: -1}
			part.partition, part.err = partitionOf(t, rp.Partition, err)
			if part.err == nil {
				part.err = checkEpoch(part.partition, rp.CurrentLeaderEpoch)
			}
			a.parts = append(a.parts, part)
		}
	}
}

// read fills the parts from the log until the response's limit is reached.
func (a *fetchAnswer) read() (total int64, failed bool) {
	limit := int64(min(a.req.MaxBytes, a.c.srv.opt.MaxFetchBytes))
	a.held = a.c.srv.fetches.takeUpTo(limit, minFetchBytes)
	limit = min(limit, a.held)
	for i := range a.parts {
		part := &a.parts[i]
		if part.err == nil {
			a.readPart(part, limit-total)
			total += int64(len(part.data))
		}
		failed = failed || part.err != nil
	}
	// A first batch can be larger than the limit: the budget is overdrawn by it.
	a.c.srv.fetches.give(a.held - total)
	a.held = total
	return total, failed
}

// readPart reads one partition, at most about limit bytes.
func (a *fetchAnswer) readPart(part *fetchedPart, limit int64) {
	p := part.partition
	part.start = p.Start()
	part.watermark = p.HighWatermark()
	if part.offset < part.start || part.offset > part.watermark {
		part.err = kerr.OffsetOutOfRange
		return
	}
	if part.offset == part.watermark || limit <= 0 {
		return
	}
	part.cursor = a.c.cur.take(p, part.offset)
	part.data, part.err = part.cursor.read(int(min(limit, int64(part.limit))))
	// What was read may be beyond the watermark of a moment ago.
	part.watermark = p.HighWatermark()
}

// await waits until a partition's watermark passes what read saw; false where
// the deadline comes first.
func (a *fetchAnswer) await(ctx context.Context, deadline time.Time) bool {
	if !time.Now().Before(deadline) {
		return false
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if len(a.parts) == 1 {
		err := a.parts[0].partition.Wait(ctx, a.parts[0].watermark)
		return err == nil || ctx.Err() == nil
	}
	woken := make(chan bool, len(a.parts))
	for i := range a.parts {
		part := &a.parts[i]
		go func() {
			err := part.partition.Wait(ctx, part.watermark)
			woken <- err == nil || ctx.Err() == nil
		}()
	}
	any := <-woken
	cancel()
	for range len(a.parts) - 1 {
		any = <-woken || any
	}
	return any
}

// release gives back what read took.
func (a *fetchAnswer) release() {
	for i := range a.parts {
		part := &a.parts[i]
		if part.cursor != nil {
			a.c.cur.put(part.cursor)
		}
		part.cursor, part.data = nil, nil
	}
	a.c.srv.fetches.give(a.held)
	a.held = 0
}

func (a *fetchAnswer) written() { a.release() }

// encode appends the response's body, with the records spliced in.
func (a *fetchAnswer) encode(f *frame, whole error) {
	s, version := a.c.srv, a.req.Version
	flexible := version >= 12
	f.buf = kbin.AppendInt32(f.buf, 0) // throttle
	if version >= 7 {
		f.buf = kbin.AppendInt16(f.buf, s.code(whole))
		f.buf = kbin.AppendInt32(f.buf, 0) // session
	}
	f.buf = appendArrayLen(f.buf, len(a.topic), flexible)
	parts := a.parts
	for i := range a.topic {
		t := &a.topic[i]
		if version >= 13 {
			f.buf = kbin.AppendUuid(f.buf, t.id)
		} else {
			f.buf = appendString(f.buf, t.name, flexible)
		}
		f.buf = appendArrayLen(f.buf, t.parts, flexible)
		for j := range parts[:t.parts] {
			a.encodePart(f, &parts[j], flexible)
		}
		parts = parts[t.parts:]
		f.buf = appendTags(f.buf, flexible)
	}
	f.buf = appendTags(f.buf, flexible)
}

func (a *fetchAnswer) encodePart(f *frame, part *fetchedPart, flexible bool) {
	version := a.req.Version
	f.buf = kbin.AppendInt32(f.buf, part.index)
	f.buf = kbin.AppendInt16(f.buf, a.c.srv.code(part.err))
	f.buf = kbin.AppendInt64(f.buf, part.watermark)
	f.buf = kbin.AppendInt64(f.buf, part.watermark) // last stable offset
	if version >= 5 {
		f.buf = kbin.AppendInt64(f.buf, part.start)
	}
	// Aborted transactions: none to one who reads committed, no answer to others.
	readCommitted := a.req.IsolationLevel == 1
	if flexible {
		f.buf = kbin.AppendCompactNullableArrayLen(f.buf, 0, !readCommitted)
	} else {
		f.buf = kbin.AppendNullableArrayLen(f.buf, 0, !readCommitted)
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
	f.buf = appendTags(f.buf, flexible)
}
