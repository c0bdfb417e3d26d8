package group

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/log/layout"
)

// The records of __transaction_state have Kafka's own format, so that Kafka's
// tools read them: TransactionLogKey 0 and TransactionLogValue 1.

// ErrTxnRecord is wrapped by errors about bytes that are not such a record.
var ErrTxnRecord = errors.New("malformed record of a transactional id")

// TxnKey is the key of a transactional id's record.
func TxnKey(id string) []byte {
	return (&kmsg.TxnMetadataKey{TransactionalID: id}).AppendTo(nil)
}

// ReadTxnKey is the transactional id of a record's key.
func ReadTxnKey(key []byte) (id string, err error) {
	k := kmsg.NewTxnMetadataKey()
	if err := k.ReadFrom(key); err != nil {
		return "", fmt.Errorf("%w: key: %w", ErrTxnRecord, err)
	}
	if k.Version != 0 {
		return "", fmt.Errorf("%w: key of version %d", ErrTxnRecord, k.Version)
	}
	return k.TransactionalID, nil
}

// Value is the value of t's record.
func (t Txn) Value() []byte {
	v := kmsg.NewTxnMetadataValue()
	v.Version = 1
	v.ProducerID, v.ProducerEpoch = t.Producer.ID, t.Epoch
	v.PreviousProducerID, v.NextProducerID, v.ClientTransactionVersion = t.PrevProducerID, t.NextProducerID, t.Version
	v.TimeoutMillis, v.State = int32(t.Timeout.Milliseconds()), kmsg.TransactionState(t.State)
	v.LastUpdateTimestamp, v.StartTimestamp = t.Updated.UnixMilli(), -1
	if !t.Started.IsZero() {
		v.StartTimestamp = t.Started.UnixMilli()
	}
	for _, p := range t.Partitions {
		n := len(v.Topics)
		if n == 0 || v.Topics[n-1].Topic != p.Topic {
			v.Topics = append(v.Topics, kmsg.TxnMetadataValueTopic{Topic: p.Topic})
			n++
		}
		v.Topics[n-1].Partitions = append(v.Topics[n-1].Partitions, p.Partition)
	}
	return v.AppendTo(nil)
}

// ReadTxn is what Value wrote for a transactional id, or Kafka did.
func ReadTxn(id string, value []byte) (Txn, error) {
	v := kmsg.NewTxnMetadataValue()
	err := layout.TxnMetadataValue.CheckValue(value)
	if err == nil {
		err = v.ReadFrom(value)
	}
	if err != nil {
		return Txn{}, fmt.Errorf("%w: value: %w", ErrTxnRecord, err)
	}
	if v.Version < 0 || v.Version > 1 {
		return Txn{}, fmt.Errorf("%w: value of version %d", ErrTxnRecord, v.Version)
	}
	t := NewTxn(id)
	t.Producer, t.PrevProducerID, t.NextProducerID = Producer{v.ProducerID, v.ProducerEpoch}, v.PreviousProducerID, v.NextProducerID
	t.Version, t.State, t.Timeout = v.ClientTransactionVersion, TxnState(v.State), time.Duration(v.TimeoutMillis)*time.Millisecond
	t.Updated = time.UnixMilli(v.LastUpdateTimestamp)
	if v.StartTimestamp >= 0 {
		t.Started = time.UnixMilli(v.StartTimestamp)
	}
	if t.State < TxnEmpty || t.State >= TxnDead {
		return Txn{}, fmt.Errorf("%w: value with state %d", ErrTxnRecord, v.State)
	}
	for _, topic := range v.Topics {
		for _, i := range topic.Partitions {
			t.Partitions = append(t.Partitions, TopicPartition{topic.Topic, i})
		}
	}
	t.Partitions = sortedSet(t.Partitions)
	return t, nil
}
