package sink

import (
	"context"

	"github.com/weirstream/weir/log/record"
)

// Record is one record to write; its Offset is ignored.
type Record = record.Record

// Header is one header of a record.
type Header = record.Header

// Sink writes records to partitions.
type Sink interface {
	// Append writes recs and returns the offset of the first. They are accepted
	// and ordered, not yet durable. recs are not retained. No record is no error:
	// the base is then the offset that the next record would get.
	Append(ctx context.Context, topic string, partition int32, recs []Record) (base int64, err error)
	// Durable waits until the record at offset is durable, or ctx ends.
	Durable(ctx context.Context, topic string, partition int32, offset int64) error
}

// Partition is the partition of n for a key, as Kafka's own producers choose it:
// the murmur2 hash, its sign bit cleared, modulo n. n is at least 1. A record
// without a key may go anywhere; for a nil key this is the partition of the
// empty one.
func Partition(key []byte, n int32) int32 {
	return int32(murmur2(key)&0x7fffffff) % n
}

// murmur2 is org.apache.kafka.common.utils.Utils.murmur2.
func murmur2(data []byte) uint32 {
	const (
		seed = 0x9747b28c
		m    = 0x5bd1e995
	)
	h := uint32(seed) ^ uint32(len(data))
	for ; len(data) >= 4; data = data[4:] {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> 24
		k *= m
		h = h*m ^ k
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(data[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
