package commitlog

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/weirstream/weir/log/record"
)

// What some topics ask of a batch beyond its header. Others' records are not
// walked.

// rewriters are for batches whose records are looked at on their way in.
var rewriters = sync.Pool{New: func() any { return new(record.Rewriter) }}

// walks reports whether the topic's settings need the records of each batch.
func (c *topicConfig) walks() bool {
	return c.compact || !c.logAppendTime && (c.before < maxAge || c.after < maxAge)
}

// maxAge is the largest age that a setting in ms has.
const maxAge = time.Duration(math.MaxInt64 / int64(time.Millisecond) * int64(time.Millisecond))

// checkRecords refuses records without a key in a compacted topic, and those whose
// time is too far from now.
func (p *Partition) checkRecords(c *topicConfig, h *record.BatchHeader, batch []byte) error {
	w := rewriters.Get().(*record.Rewriter)
	defer rewriters.Put(w)
	recs, err := w.Records(batch)
	if err != nil {
		return fmt.Errorf("%w: %w: the topic's settings need its records", ErrInvalidBatch, err)
	}
	now := p.log.o.Now().UnixMilli()
	var keyless []int32
	for i := range recs {
		if c.compact && recs[i].Key == nil {
			keyless = append(keyless, int32(i))
		}
		if off := recs[i].Timestamp - now; !c.logAppendTime && (off > c.after.Milliseconds() || -off > c.before.Milliseconds()) {
			return fmt.Errorf("%w: record %d has time %d, the clock here says %d; message.timestamp.before.max.ms is %d, message.timestamp.after.max.ms %d",
				ErrInvalidTimestamp, i, recs[i].Timestamp, now, c.before.Milliseconds(), c.after.Milliseconds())
		}
	}
	if keyless != nil {
		return &RecordsError{Records: keyless, Reason: "no key, and the topic is compacted"}
	}
	return nil
}

// appendRecompressed appends the batch with another codec, and stamps the one that
// came as if it had been appended.
func (p *Partition) appendRecompressed(ctx context.Context, codec record.Codec, batch []byte, acks int16) (int64, error) {
	w := rewriters.Get().(*record.Rewriter)
	defer rewriters.Put(w)
	again, err := w.Recompress(batch, codec)
	if err != nil {
		return -1, p.wrap(fmt.Errorf("%w: %w: compression.type is %v", ErrInvalidBatch, err, codec))
	}
	h, err := record.CheckStored(again)
	if err != nil {
		return -1, p.wrap(fmt.Errorf("%w: %w", ErrInvalidBatch, err))
	}
	base, err := p.append(ctx, &h, again, acks)
	if base >= 0 {
		record.SetBaseOffset(batch, base)
		record.SetLeaderEpoch(batch, h.LeaderEpoch)
		if h, herr := record.ParseHeader(again); herr == nil && h.LogAppendTime() {
			record.SetLogAppendTime(batch, h.MaxTimestamp)
		}
	}
	return base, err
}

// MinInsyncReplicas is how many replicas must have a batch before acks=all is
// answered.
func (p *Partition) MinInsyncReplicas() int { return p.topic.now.Load().parsed.minInsync }
