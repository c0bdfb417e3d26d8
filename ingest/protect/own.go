package protect

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/log/record"
)

// ownPrefix begins the names of the headers by which Weir's own writers tell each
// other what a record is: a replayed one, an HTTP request's, a decision's origin.
const ownPrefix = "weir-"

// clientHeaders are those of them that clients may write: `weir load` is a client. A
// reader of these trusts them no further than a load's own progress.
var clientHeaders = []string{"weir-load", "weir-load-line", "weir-load-partitions", "weir-columns"}

// ClientHeaders takes Weir's own headers out of what clients produce, so that a
// client cannot pass a record off as another that was there before: hide it from SQL,
// have it counted twice or a dead letter or an HTTP request taken for done. Writers in
// this process do not come this way. Its methods may be called from any goroutine.
type ClientHeaders struct {
	readers sync.Pool
	removed prometheus.Counter
}

// NewClientHeaders makes one; reg takes its metric, nil: none.
func NewClientHeaders(reg prometheus.Registerer) (*ClientHeaders, error) {
	c := &ClientHeaders{removed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "weir_protect_headers_removed_total", Help: "Headers with names of Weir's own that clients produced and that were left out.",
	})}
	c.readers.New = func() any { return record.NewReader(record.Options{SkipCRC: true}) }
	if reg == nil {
		return c, nil
	}
	return c, reg.Register(c.removed)
}

// Strip returns the batch without such headers: the batch itself where it has none,
// as it was sent where its records cannot be read, by anyone. Else it is a new one with
// the same records, producer, sequence and codec. batch is not changed and not
// retained. Errors are those of record.Check.
func (c *ClientHeaders) Strip(batch []byte) ([]byte, error) {
	h, err := record.Check(batch)
	if err != nil {
		return nil, err
	}
	if h.Codec() == record.None && !bytes.Contains(batch, []byte(ownPrefix)) {
		return batch, nil
	}
	r := c.readers.Get().(*record.Reader)
	defer c.readers.Put(r)
	r.Reset(batch[:h.Size()])
	recs, err := r.ReadBatch(nil)
	if err != nil {
		return batch, nil
	}
	found := 0
	for i := range recs {
		for _, header := range recs[i].Headers {
			if forged(header.Key) {
				found++
			}
		}
	}
	if found == 0 {
		return batch, nil
	}
	out, err := withoutOwn(h, recs)
	if err == nil {
		c.removed.Add(float64(found))
	}
	return out, err
}

func forged(name string) bool {
	return strings.HasPrefix(name, ownPrefix) && !slices.Contains(clientHeaders, name)
}

// withoutOwn is a batch of the records without forged headers.
func withoutOwn(h record.BatchHeader, recs []record.Record) ([]byte, error) {
	o := record.BatchOptions{Codec: h.Codec(), ProducerID: h.ProducerID, ProducerEpoch: h.ProducerEpoch, BaseSequence: h.BaseSequence,
		Transactional: h.Transactional()}
	if h.LogAppendTime() {
		o.LogAppendTime = h.MaxTimestamp
	}
	var b record.Builder
	b.Reset(o)
	for i := range recs {
		headers := slices.DeleteFunc(slices.Clone(recs[i].Headers), func(h record.Header) bool { return forged(h.Key) })
		b.Append(recs[i].Timestamp, recs[i].Key, recs[i].Value, headers)
	}
	out, err := b.Build()
	return slices.Clone(out), err
}
