package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/layout"
	"github.com/weirstream/weir/log/record"
)

// Produce: append record batches.
//
// Behaviour:
//   - one batch of format v2 for each partition, appended as received or as
//     Options.Transform rewrites it; a batch that it cannot read is refused, where
//     without it the log takes records that nobody can decompress;
//   - batches are appended as the request arrives, one after the other: a large
//     request needs memory for one batch, and pipelined requests share an fsync;
//   - the answer waits until they are durable (acks 1 and -1 are the same with one
//     broker), for at most the request's timeout;
//   - records that a batch is refused for are named, so that a client does not
//     take the others for bad;
//   - acks 0: no answer; an error closes the connection;
//   - a transactional batch is accepted while its producer's transaction is ongoing
//     and contains the partition (KIP-890, part 1), and answered when that is
//     durable, too. A producer that does not say whose transaction it is gets
//     TRANSACTIONAL_ID_AUTHORIZATION_FAILED. Weir's own topics take no transactions.
//
// Versions:
//   - 0 to 2 are advertised and refused with UNSUPPORTED_VERSION, see invariant 4;
//   - 3 brought batches of format v2 and transactions, 7 zstd, 8 error messages,
//     9 flexible fields, 11 TRANSACTION_ABORTABLE where older ones say
//     INVALID_TXN_STATE, 13 topic ids instead of names. From 12 on a batch adds its
//     partition to the transaction (KIP-890, part 2).

// maxProducePartitions bounds the topics and the partitions of one request.
const maxProducePartitions = 1 << 16

// produceAnswer is a started produce request. It belongs to the reader until it
// is queued and to the writer afterwards.
type produceAnswer struct {
	srv     *Server
	hard    context.Context
	version int16
	acks    int16
	timeout time.Duration
	since   time.Time
	txn     *transaction // of the request's transactional id
	txnErr  error        // why there is none
	topics  []producedTopic
	parts   []producedPart // of all topics, in order
}

type producedTopic struct {
	name  string
	id    [16]byte
	parts int // how many of the parts are this topic's
}

type producedPart struct {
	index     int32
	partition *commitlog.Partition
	base      int64
	last      int64  // the offset to wait for
	stamped   int64  // log append time in ms, -1 where batches keep their own
	state     stored // of the transaction, to wait for as well
	err       error
}

var produceAnswers = sync.Pool{New: func() any { return new(produceAnswer) }}

func startProduce(c *conn, h header, w *window) (answer, error) {
	a := produceAnswers.Get().(*produceAnswer)
	a.srv, a.hard, a.version, a.since = c.srv, c.hard, h.version, time.Now()
	if err := a.read(c.ctx, w); err != nil {
		a.written()
		return nil, err
	}
	a.since = time.Now() // its timeout is not for its own arrival
	if a.acks != 0 {
		return a, nil
	}
	defer a.written()
	for i := range a.parts {
		if err := a.parts[i].err; err != nil {
			c.srv.code(err)
			return nil, fmt.Errorf("produce with acks 0 failed, closing to tell: %w", err)
		}
	}
	return nil, nil
}

// read decodes the request and appends each batch as it comes by.
func (a *produceAnswer) read(ctx context.Context, w *window) error {
	flexible := a.version >= 9
	b := &w.Reader
	var refused error
	if a.version < 3 {
		refused = refuse(kerr.UnsupportedVersion, "produce versions 0 to 2 are not served")
	} else if id := nullableString(b, flexible); id != nil {
		a.txn, a.txnErr = a.srv.txns.find(*id)
	}
	a.acks = b.Int16()
	a.timeout = time.Duration(max(0, b.Int32())) * time.Millisecond
	if a.acks < -1 || a.acks > 1 {
		refused = refuse(kerr.InvalidRequiredAcks, fmt.Sprintf("acks %d; expected -1, 0 or 1", a.acks))
	}
	for n := arrayLen(b, flexible); n > 0 && b.Ok(); n-- {
		if err := w.fill(headroom); err != nil {
			return err
		}
		if err := a.readTopic(ctx, w, flexible, refused); err != nil {
			return err
		}
	}
	if flexible {
		layout.SkipTags(b)
	}
	if !b.Ok() {
		return fmt.Errorf("%w: produce body", errMalformed)
	}
	return w.skip()
}

func (a *produceAnswer) readTopic(ctx context.Context, w *window, flexible bool, refused error) error {
	b := &w.Reader
	if len(a.topics) >= maxProducePartitions {
		return fmt.Errorf("%w: more than %d topics in one produce request", errMalformed, maxProducePartitions)
	}
	var t producedTopic
	var topic *commitlog.Topic
	var err error
	if a.version >= 13 {
		t.id = b.Uuid()
		topic, err = a.srv.find("", t.id, true)
		if err == nil {
			t.name = topic.Name()
		}
	} else {
		name := stringSpan(b, flexible)
		if found, ok := a.srv.log.Topic(string(name)); ok { // the conversion does not allocate for most logs
			topic, t.name = found, found.Name()
		} else {
			t.name, err = string(name), kerr.UnknownTopicOrPartition
		}
	}
	if err == nil && !a.srv.opt.MayWrite(t.name, OpProduce) {
		err = refuse(kerr.TopicAuthorizationFailed, fmt.Sprintf("topic %q is written by Weir itself", t.name))
	}
	if refused != nil {
		err = refused
	}
	for n := arrayLen(b, flexible); n > 0 && b.Ok(); n-- {
		if err := w.fill(headroom); err != nil {
			return err
		}
		part := producedPart{index: b.Int32(), base: -1, stamped: -1}
		batch, broken := w.bytes(flexible)
		if broken != nil {
			return broken
		}
		if flexible {
			layout.SkipTags(b)
		}
		if !b.Ok() {
			break
		}
		if len(a.parts) >= maxProducePartitions {
			return fmt.Errorf("%w: more than %d partitions in one produce request", errMalformed, maxProducePartitions)
		}
		part.partition, part.err = partitionOf(topic, part.index, err)
		a.append(ctx, &part, batch)
		a.parts = append(a.parts, part)
		t.parts++
	}
	if flexible {
		layout.SkipTags(b)
	}
	a.topics = append(a.topics, t)
	return nil
}

// append checks and appends one partition's batch.
func (a *produceAnswer) append(ctx context.Context, part *producedPart, batch []byte) {
	if part.err != nil {
		return
	}
	h, err := a.check(batch)
	if err != nil {
		part.err = err
		return
	}
	if transform := a.srv.opt.Transform; transform != nil {
		if batch, err = transform(part.partition.Topic(), batch); err != nil {
			part.err = fmt.Errorf("record batch: %w", err)
			return
		}
	}
	if h.Transactional() {
		if part.state, err = a.enter(ctx, &h, part); err != nil {
			part.err = err
			return
		}
		defer a.txn.leave()
	}
	if n := part.partition.MinInsyncReplicas(); n > 1 && a.acks == -1 {
		part.err = refuse(kerr.NotEnoughReplicas, fmt.Sprintf("min.insync.replicas is %d and there is one replica", n))
		return
	}
	// acks 0 here: what waits for durability is finish, so that the next request
	// of this connection can be appended meanwhile.
	part.base, part.err = part.partition.Append(ctx, batch, 0)
	part.last = part.base + int64(h.LastOffsetDelta)
	// Under message.timestamp.type=LogAppendTime the log has stamped its time.
	if h, err := record.ParseHeader(batch); part.err == nil && err == nil && h.LogAppendTime() {
		part.stamped = h.MaxTimestamp
	}
}

// errOwnTransactional: Weir reads its own topics to their end, and must not wait
// for a client's transaction there.
var errOwnTransactional = refuse(kerr.TopicAuthorizationFailed, "Weir's own topics take no transactions")

// enter lets a transactional batch into its producer's transaction, until leave.
func (a *produceAnswer) enter(ctx context.Context, h *record.BatchHeader, part *producedPart) (stored, error) {
	if a.txn == nil && a.txnErr == nil {
		return stored{}, refuse(kerr.TransactionalIDAuthorizationFailed, "a transactional batch in a request without a transactional id")
	}
	if strings.HasPrefix(part.partition.Topic(), ownPrefix) {
		return stored{}, errOwnTransactional
	}
	st, err := stored{}, a.txnErr
	if err == nil {
		place := group.TopicPartition{Topic: part.partition.Topic(), Partition: part.index}
		st, err = a.txn.enter(ctx, a.srv.txns, group.Producer{ID: h.ProducerID, Epoch: h.ProducerEpoch}, place, a.version >= 12)
	}
	switch {
	case err == nil:
		return st, nil
	case errors.Is(err, group.ErrProducerFenced):
		err = kerr.InvalidProducerEpoch
	case errors.Is(err, group.ErrInvalidTxnState) && a.version >= 11:
		err = kerr.TransactionAbortable
	case errors.Is(err, group.ErrConcurrentTransactions) && a.version < 12,
		errors.Is(err, kerr.CoordinatorLoadInProgress), errors.Is(err, kerr.CoordinatorNotAvailable):
		err = kerr.NotEnoughReplicas // what such clients try again upon
	}
	return stored{}, err
}

// check is what can be said of a batch before the log looks at it.
func (a *produceAnswer) check(batch []byte) (record.BatchHeader, error) {
	if len(batch) > 16 && batch[16] < 2 {
		return record.BatchHeader{}, refuse(kerr.UnsupportedForMessageFormat, fmt.Sprintf("message format v%d; only v2 is served", batch[16]))
	}
	h, err := record.ParseHeader(batch)
	switch {
	case err != nil:
		return h, fmt.Errorf("record batch: %w", err)
	case h.Size() > len(batch):
		return h, refuse(kerr.CorruptMessage, fmt.Sprintf("record batch says %d bytes and has %d", h.Size(), len(batch)))
	case h.Size() < len(batch):
		return h, refuse(kerr.InvalidRecord, "expected exactly one record batch")
	case h.Count <= 0:
		return h, refuse(kerr.InvalidRecord, "record batch without records")
	case h.Control():
		return h, refuse(kerr.InvalidRecord, "control batches are not for clients to write")
	case h.Transactional() && h.ProducerID < 0:
		return h, refuse(kerr.InvalidRecord, "a transactional batch without a producer id")
	case h.Codec() > record.Zstd:
		return h, refuse(kerr.UnsupportedCompressionType, fmt.Sprintf("compression type %d", h.Codec()))
	case h.Codec() == record.Zstd && a.version < 7:
		return h, refuse(kerr.UnsupportedCompressionType, "zstd needs produce version 7")
	}
	return h, nil
}

// finish waits for durability and encodes the response.
func (a *produceAnswer) finish(_ context.Context, f *frame) error {
	a.wait()
	flexible := a.version >= 9
	f.buf = appendArrayLen(f.buf, len(a.topics), flexible)
	parts := a.parts
	for i := range a.topics {
		t := &a.topics[i]
		if a.version >= 13 {
			f.buf = kbin.AppendUuid(f.buf, t.id)
		} else {
			f.buf = appendString(f.buf, t.name, flexible)
		}
		f.buf = appendArrayLen(f.buf, t.parts, flexible)
		for j := range parts[:t.parts] {
			f.buf = a.appendPart(f.buf, &parts[j], flexible)
		}
		parts = parts[t.parts:]
		f.buf = appendTags(f.buf, flexible)
	}
	if a.version >= 1 {
		f.buf = kbin.AppendInt32(f.buf, 0) // throttle
	}
	f.buf = appendTags(f.buf, flexible)
	return nil
}

// wait returns when every appended batch is durable or has its error.
func (a *produceAnswer) wait() {
	var ctx context.Context
	for i := range a.parts {
		part := &a.parts[i]
		if part.err != nil || part.partition.HighWatermark() > part.last && part.state.durable() {
			continue
		}
		if ctx == nil {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(a.hard, a.since.Add(max(a.timeout, minProduceTimeout)))
			defer cancel()
		}
		err := part.partition.Wait(ctx, part.last)
		if err == nil {
			err = part.state.wait(ctx)
		}
		if err != nil {
			part.err = fmt.Errorf("%s/%d: appended at offset %d, not known to be durable: %w", part.partition.Topic(), part.index, part.base, err)
			part.base = -1
		}
	}
}

// minProduceTimeout is the least time a batch has to become durable: a client's
// timeout of 0 means no wait for other brokers, not for the disk.
const minProduceTimeout = time.Second

func (a *produceAnswer) appendPart(dst []byte, part *producedPart, flexible bool) []byte {
	dst = kbin.AppendInt32(dst, part.index)
	dst = kbin.AppendInt16(dst, a.srv.code(part.err))
	start := int64(-1)
	if part.partition != nil && part.err == nil {
		start = part.partition.Start()
	}
	if part.err != nil {
		part.base, part.stamped = -1, -1
	}
	dst = kbin.AppendInt64(dst, part.base)
	if a.version >= 2 {
		dst = kbin.AppendInt64(dst, part.stamped)
	}
	if a.version >= 5 {
		dst = kbin.AppendInt64(dst, start)
	}
	if a.version >= 8 {
		dst = appendRecordErrors(dst, part.err, flexible)
		dst = appendNullableString(dst, produceMessage(part.err), flexible)
	}
	return appendTags(dst, flexible)
}

// appendRecordErrors names the records that a batch was refused for (KIP-467): a
// client reports the others of the batch as not at fault.
func appendRecordErrors(dst []byte, err error, flexible bool) []byte {
	var at *commitlog.RecordsError
	if err == nil || !errors.As(err, &at) {
		return appendArrayLen(dst, 0, flexible)
	}
	dst = appendArrayLen(dst, len(at.Records), flexible)
	for _, i := range at.Records {
		dst = kbin.AppendInt32(dst, i)
		dst = appendNullableString(dst, &at.Reason, flexible)
		dst = appendTags(dst, flexible)
	}
	return dst
}

// produceMessage is the words beside an error code where they say more.
func produceMessage(err error) *string {
	var code *kerr.Error
	if err == nil || errors.As(err, &code) && err == error(code) {
		return nil
	}
	return text(err)
}

// memory is what the answer takes until it is written.
func (a *produceAnswer) memory() int64 {
	return int64(len(a.parts))*int64(unsafe.Sizeof(producedPart{})) + int64(len(a.topics))*int64(unsafe.Sizeof(producedTopic{}))
}

func (a *produceAnswer) written() {
	clear(a.topics)
	clear(a.parts)
	*a = produceAnswer{topics: a.topics[:0], parts: a.parts[:0]}
	if cap(a.parts) <= 1024 {
		produceAnswers.Put(a)
	}
}

// The helpers below read and write the two encodings that Kafka has of each of
// these: with fixed lengths, and, in flexible versions, compact.

func stringSpan(b *kbin.Reader, flexible bool) []byte {
	if flexible {
		return b.Span(compactLen(b))
	}
	return b.Span(int(b.Int16()))
}

func nullableString(b *kbin.Reader, flexible bool) *string {
	if flexible {
		return b.CompactNullableString()
	}
	return b.NullableString()
}

func nullableBytes(b *kbin.Reader, flexible bool) []byte {
	if flexible {
		return b.CompactNullableBytes()
	}
	return b.NullableBytes()
}

// compactLen reads a length that is stored plus one.
func compactLen(b *kbin.Reader) int {
	n := b.Uvarint()
	if n > math.MaxInt32 {
		return -1
	}
	return int(n) - 1
}

func arrayLen(b *kbin.Reader, flexible bool) int32 {
	if flexible {
		return b.CompactArrayLen()
	}
	return b.ArrayLen()
}

func appendArrayLen(dst []byte, n int, flexible bool) []byte {
	if flexible {
		return kbin.AppendCompactArrayLen(dst, n)
	}
	return kbin.AppendArrayLen(dst, n)
}

func appendString(dst []byte, s string, flexible bool) []byte {
	if flexible {
		return kbin.AppendCompactString(dst, s)
	}
	return kbin.AppendString(dst, s)
}

func appendNullableString(dst []byte, s *string, flexible bool) []byte {
	if flexible {
		return kbin.AppendCompactNullableString(dst, s)
	}
	return kbin.AppendNullableString(dst, s)
}

func appendTags(dst []byte, flexible bool) []byte {
	if flexible {
		return append(dst, 0)
	}
	return dst
}
