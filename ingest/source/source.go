package source

import (
	"context"

	"github.com/weirstream/weir/log/record"
)

// Record is one record of the log.
type Record = record.Record

// Header is one header of a record.
type Header = record.Header

// Chunk is a run of a partition's records. One without records says that the
// offsets up to Next hold none.
type Chunk struct {
	Topic         string
	Partition     int32
	Records       []Record // they alias the source until its next Next
	From          int64    // where the chunk begins; its first record may be later
	Next          int64    // where the next chunk begins
	Lost          int64    // offsets among them whose records a repair took out
	HighWatermark int64    // of the partition when the chunk was read; exclusive
}

// Source reads one partition in offset order.
type Source interface {
	// Next blocks until there is something to say. It returns io.EOF at the
	// end of a bounded range and ctx.Err() when ctx ends; errors of the log name
	// topic, partition and offset.
	Next(ctx context.Context) (Chunk, error)
	// SeekTo makes the next chunk begin at offset, or at the first record after
	// it. That the offset exists is checked by the next Next.
	SeekTo(offset int64) error
	// Close frees what the source holds. Next fails afterwards.
	Close() error
}

// DefaultBytesMax is how many bytes of batches a chunk is read from by default.
const DefaultBytesMax = 1 << 20

// Options of a source.
type Options struct {
	From     int64 // the first offset
	To       int64 // the end of the range, exclusive; 0: there is none
	BytesMax int   // bytes of batches read at once; 0: DefaultBytesMax
	// Uncommitted reads up to the high watermark, and what transactions that are
	// open or were aborted wrote, too: for who looks for records of its own, which
	// are part of none.
	Uncommitted bool
}
