package loader

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/weirstream/weir/log/record"
)

// The headers of the first record of each batch that a load writes.
const (
	HeaderLoad       = "weir-load"            // the load's id
	HeaderLine       = "weir-load-line"       // the line of the batch's last row, decimal
	HeaderPartitions = "weir-load-partitions" // the topic's partitions when the load began
)

// progressAt is how far a load came in one partition.
type progressAt struct {
	found      bool
	id         string // with the suffix of a repeated load
	line       int64
	partitions int
	producer   int64
	epoch      int16
	sequence   int32 // of the next batch
}

// scanStep is how many offsets before the end the first look back reaches; each
// further one reaches scanGrow times as far.
const (
	scanStep = 4096
	scanGrow = 8
)

// sent is how far a producer came in a partition, by what is seen of its batches.
type sent map[producerEpoch]int32 // the sequence after the last batch

type producerEpoch struct {
	id    int64
	epoch int16
}

// lastBatch finds the last batch of any load of id (the first or a repeated one)
// in a partition, looking back from its end. In a compacted topic later batches can
// have lost their mark, or all records: from there the load goes on, with what it
// sent after that row once more, and with the sequence that the log expects.
func (c *client) lastBatch(ctx context.Context, t *topic, partition int, id string) (progressAt, error) {
	start, err := c.offset(ctx, t, partition, -2)
	if err != nil {
		return progressAt{}, err
	}
	end, err := c.offset(ctx, t, partition, -1)
	if err != nil {
		return progressAt{}, err
	}
	all := sent{}
	for step := int64(scanStep); end > start; step *= scanGrow {
		from := max(start, end-step)
		at, last, err := c.scan(ctx, t, partition, from, end, id)
		if err != nil {
			return at, err
		}
		for p, sequence := range last {
			if _, later := all[p]; !later {
				all[p] = sequence
			}
		}
		if at.found {
			at.sequence = all[producerEpoch{at.producer, at.epoch}]
			return at, nil
		}
		end = from
	}
	return progressAt{}, nil
}

// scan finds the last batch of a load of id among those that hold offsets from
// from to end, exclusive, and how far all producers came there.
func (c *client) scan(ctx context.Context, t *topic, partition int, from, end int64, id string) (last progressAt, all sent, err error) {
	var r record.Reader
	var recs []record.Record
	all = sent{}
	for from < end {
		batches, watermark, err := c.fetch(ctx, t, partition, from)
		if err != nil {
			return last, all, err
		}
		if len(batches) == 0 && watermark >= end {
			break // compaction took the rest: other logs leave nothing in its place
		}
		if len(batches) == 0 {
			return last, all, fmt.Errorf("fetch %s/%d at %d: nothing, and the log ends at %d where it went on to %d", t.name, partition, from, watermark, end)
		}
		for len(batches) > 0 {
			h, err := record.CheckStored(batches)
			if errors.Is(err, record.ErrShort) {
				break // a part of a batch ends some fetches
			}
			if err != nil {
				return last, all, fmt.Errorf("%s/%d at %d: %w", t.name, partition, from, err)
			}
			one := batches[:h.Size()]
			batches = batches[h.Size():]
			from = max(from, h.LastOffset()+1)
			if h.ProducerID < 0 || h.Control() {
				continue // not of a load
			}
			all[producerEpoch{h.ProducerID, h.ProducerEpoch}] = int32((int64(h.BaseSequence) + int64(h.LastOffsetDelta) + 1) & math.MaxInt32)
			r.Reset(one)
			if recs, err = r.ReadBatch(recs[:0]); err != nil || len(recs) == 0 {
				continue // whoever reads the topic will say so
			}
			if at, ok := readMark(&h, &recs[0], id); ok {
				last = at
			}
		}
	}
	return last, all, nil
}

// readMark reads the headers of a batch's first record.
func readMark(h *record.BatchHeader, first *record.Record, id string) (progressAt, bool) {
	at := progressAt{producer: h.ProducerID, epoch: h.ProducerEpoch}
	for _, hd := range first.Headers {
		switch hd.Key {
		case HeaderLoad:
			at.id = string(hd.Value)
		case HeaderLine:
			at.line, _ = strconv.ParseInt(string(hd.Value), 10, 64)
		case HeaderPartitions:
			at.partitions, _ = strconv.Atoi(string(hd.Value))
		}
	}
	base, _, _ := strings.Cut(at.id, ".")
	at.found = base == id && at.line > 0 && at.partitions > 0
	return at, at.found
}

// repeated is the number of a repeated load in an id: 1 for the first load.
func repeated(id string) int {
	_, n, ok := strings.Cut(id, ".")
	if !ok {
		return 1
	}
	k, _ := strconv.Atoi(n)
	return k
}

// repeatID is the id of the nth load of a file.
func repeatID(id string, n int) string {
	if n <= 1 {
		return id
	}
	return id + "." + strconv.Itoa(n)
}
