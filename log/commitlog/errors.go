package commitlog

import (
	"errors"
	"fmt"
)

// Errors that a caller branches on. Those returned carry the place.
var (
	ErrClosed               = errors.New("log is closed")
	ErrDeleted              = errors.New("topic is deleted")
	ErrUnknownTopic         = errors.New("unknown topic")
	ErrUnknownPartition     = errors.New("unknown partition")
	ErrTopicExists          = errors.New("topic exists")
	ErrInvalidTopic         = errors.New("invalid topic name")
	ErrInvalidPartitions    = errors.New("invalid number of partitions")
	ErrInvalidConfig        = errors.New("invalid topic config")
	ErrOffsetOutOfRange     = errors.New("offset out of range")
	ErrDiskFull             = errors.New("disk full")
	ErrInvalidBatch         = errors.New("invalid record batch") // beside the error of package record
	ErrInvalidTimestamp     = errors.New("record time is too far from now")
	ErrNotEnoughReplicas    = errors.New("not enough replicas")
	ErrInvalidRecord        = errors.New("invalid record")
	ErrBatchTooLarge        = errors.New("record batch too large")
	ErrInvalidAcks          = errors.New("acks is neither -1, 0 nor 1")
	ErrOutOfOrderSequence   = errors.New("producer sequence out of order")
	ErrInvalidProducerEpoch = errors.New("producer epoch is old")
	ErrProducerFenced       = errors.New("producer is fenced")                // beside ErrInvalidProducerEpoch: of a marker
	ErrCoordinatorFenced    = errors.New("transaction coordinator is fenced") // its epoch is old
	ErrInvalidTxnState      = errors.New("batch does not fit its producer's transaction")
	ErrLocked               = errors.New("data directory is in use")
	ErrNewerFormat          = errors.New("file was written by a newer version")
	ErrDamagedFile          = errors.New("file is damaged")
	ErrFailed               = errors.New("partition failed to sync; it takes no appends until the log is opened again")
)

// RecordsError tells which records a batch was refused for. It wraps
// ErrInvalidRecord.
type RecordsError struct {
	Records []int32 // their places in the batch, the first is 0
	Reason  string
}

func (e *RecordsError) Error() string {
	return fmt.Sprintf("%v: %d records of the batch, the first is record %d: %s", ErrInvalidRecord, len(e.Records), e.Records[0], e.Reason)
}

func (e *RecordsError) Unwrap() error { return ErrInvalidRecord }

// CorruptError names stored bytes that are not what was written. They are never
// served.
type CorruptError struct {
	Topic     string
	Partition int32
	Offset    int64 // the first offset that cannot be read
	File      string
	Position  int64 // in bytes, within File
	Reason    string
	// Offline: the partition takes no appends and serves nothing from Offset on,
	// until it is repaired.
	Offline bool
	Repair  string // the command that repairs it; empty where it goes on serving
}

func (e *CorruptError) Error() string {
	s := fmt.Sprintf("corrupt: topic %s partition %d offset %d (%s at byte %d): %s", e.Topic, e.Partition, e.Offset, e.File, e.Position, e.Reason)
	if e.Offline {
		s += "; the partition is out of service from there: stop weir and run `" + e.Repair + "`"
	}
	return s
}
