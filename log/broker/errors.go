package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/group"
	"github.com/weirstream/weir/log/record"
)

// codes maps the log's errors to Kafka's, the first match counting.
var codes = []struct {
	is   error
	code *kerr.Error
}{
	{commitlog.ErrUnknownTopic, kerr.UnknownTopicOrPartition},
	{commitlog.ErrUnknownPartition, kerr.UnknownTopicOrPartition},
	{commitlog.ErrDeleted, kerr.UnknownTopicOrPartition},
	{commitlog.ErrTopicExists, kerr.TopicAlreadyExists},
	{commitlog.ErrInvalidTopic, kerr.InvalidTopicException},
	{commitlog.ErrInvalidPartitions, kerr.InvalidPartitions},
	{commitlog.ErrInvalidConfig, kerr.InvalidConfig},
	{commitlog.ErrOffsetOutOfRange, kerr.OffsetOutOfRange},
	{commitlog.ErrOutOfOrderSequence, kerr.OutOfOrderSequenceNumber},
	{commitlog.ErrInvalidProducerEpoch, kerr.InvalidProducerEpoch},
	{commitlog.ErrProducerFenced, kerr.ProducerFenced},
	{commitlog.ErrCoordinatorFenced, kerr.TransactionCoordinatorFenced},
	{commitlog.ErrInvalidTxnState, kerr.InvalidTxnState},
	{group.ErrConcurrentTransactions, kerr.ConcurrentTransactions},
	{group.ErrInvalidTxnState, kerr.InvalidTxnState},
	{group.ErrTxnTimedOut, kerr.TransactionAbortable},
	{group.ErrProducerFenced, kerr.ProducerFenced},
	{group.ErrProducerIDMapping, kerr.InvalidProducerIDMapping},
	{commitlog.ErrDiskFull, kerr.KafkaStorageError},
	{commitlog.ErrFailed, kerr.KafkaStorageError},
	{commitlog.ErrBatchTooLarge, kerr.MessageTooLarge},
	{record.ErrMagic, kerr.UnsupportedForMessageFormat},
	{record.ErrCRC, kerr.CorruptMessage},
	{record.ErrSize, kerr.CorruptMessage},
	{record.ErrShort, kerr.CorruptMessage},
	{record.ErrCount, kerr.InvalidRecord},
	{record.ErrCodec, kerr.UnsupportedCompressionType},
	{record.ErrDecompress, kerr.CorruptMessage}, // this and what follows: Options.Transform
	{record.ErrDecompressed, kerr.MessageTooLarge},
	{record.ErrRecord, kerr.InvalidRecord},
	{commitlog.ErrInvalidRecord, kerr.InvalidRecord},
	{commitlog.ErrInvalidTimestamp, kerr.InvalidTimestamp},
	{commitlog.ErrNotEnoughReplicas, kerr.NotEnoughReplicas},
	{commitlog.ErrInvalidBatch, kerr.InvalidRecord},
	{commitlog.ErrClosed, kerr.KafkaStorageError},
	{context.DeadlineExceeded, kerr.RequestTimedOut},
	{context.Canceled, kerr.RequestTimedOut},
}

// codeOf is the Kafka error for err; what has none of its own is a storage
// error, which clients retry.
func codeOf(err error) *kerr.Error {
	if err == nil {
		return nil
	}
	var known *kerr.Error
	if errors.As(err, &known) {
		return known
	}
	for _, c := range codes {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	var corrupt *commitlog.CorruptError
	if errors.As(err, &corrupt) {
		return kerr.CorruptMessage
	}
	return kerr.KafkaStorageError
}

// code counts err and gives the number that goes on the wire, 0 for none.
func (s *Server) code(err error) int16 {
	k := codeOf(err)
	if k == nil {
		return 0
	}
	s.metrics.errors.WithLabelValues(k.Message).Inc()
	return k.Code
}

// refusal is a Kafka error with words of its own.
type refusal struct {
	code *kerr.Error
	text string
}

func refuse(code *kerr.Error, text string) error { return &refusal{code, text} }

// notForClients is the refusal of what Options.MayWrite does not allow.
func notForClients(topic string, op Operation) error {
	return refuse(kerr.TopicAuthorizationFailed, fmt.Sprintf("topic %q is Weir's own, or a stream's that weir.yaml declares: not for clients to %s", topic, op))
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.code }

// text is err's words for a response's error message, nil for none.
func text(err error) *string {
	if err == nil {
		return nil
	}
	s := err.Error()
	return &s
}
