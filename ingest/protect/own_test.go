package protect

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirstream/weir/log/record"
)

// TestClientHeaders forges each of Weir's own headers, with every codec.
func TestClientHeaders(t *testing.T) {
	reg := prometheus.NewRegistry()
	c, err := NewClientHeaders(reg)
	if err != nil {
		t.Fatal(err)
	}
	h := func(names ...string) (out []record.Header) {
		for _, n := range names {
			out = append(out, record.Header{Key: n, Value: []byte("v of " + n)})
		}
		return out
	}
	for _, codec := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
		plain := build(t, codec, record.Record{Timestamp: 5, Value: []byte("weir-original is a text here"), Headers: h("trace", "weir-load", "weir-load-line", "weir-columns")})
		if out, err := c.Strip(plain); err != nil || &out[0] != &plain[0] {
			t.Errorf("codec %d: a batch without forged headers is not as it was: %v", codec, err)
		}
		sent := build(t, codec, record.Record{Timestamp: 5, Key: []byte("k"), Value: []byte("v"), Headers: h("weir-original", "trace", "weir-idempotency", "weir-idempotency-event")},
			record.Record{Timestamp: 6, Value: []byte("w"), Headers: h("weir-replayed", "weir-origin", "weir-anything-new", "Weir-Original")})
		before := bytes.Clone(sent)
		out, err := c.Strip(sent)
		if err != nil || !bytes.Equal(sent, before) {
			t.Fatalf("codec %d: %v", codec, err)
		}
		was, _ := record.Check(sent)
		is, err := record.Check(out)
		if err != nil || is.ProducerID != was.ProducerID || is.BaseSequence != was.BaseSequence || is.Codec() != was.Codec() || is.LastOffsetDelta != was.LastOffsetDelta || is.MaxTimestamp != was.MaxTimestamp {
			t.Fatalf("codec %d: header %+v, was %+v: %v", codec, is, was, err)
		}
		recs := read(t, out)
		if got := fmt.Sprintf("%d %s %s %s | %d %q %s %s", recs[0].Timestamp, recs[0].Key, recs[0].Value, recs[0].Headers, recs[1].Timestamp, recs[1].Key, recs[1].Value, recs[1].Headers); got != `5 k v [{trace v of trace}] | 6 "" w [{Weir-Original v of Weir-Original}]` {
			t.Errorf("codec %d: %s", codec, got)
		}
		if again, err := c.Strip(out); err != nil || &again[0] != &out[0] {
			t.Errorf("codec %d: a second time it is another: %v", codec, err)
		}
	}
	if got := testutil.ToFloat64(c.removed); got != 30 {
		t.Errorf("%v headers are counted, want 30", got)
	}
	if _, err := c.Strip([]byte("no batch")); err == nil {
		t.Error("what is no batch is taken")
	}
}

// FuzzClientHeaders: whatever is sent, nothing forged comes out of what can be read.
func FuzzClientHeaders(f *testing.F) {
	f.Add(build(f, record.None, record.Record{Value: []byte("v"), Headers: []record.Header{{Key: "weir-original", Value: []byte("t/0/0")}}}))
	f.Add(build(f, record.Gzip, record.Record{Value: []byte("v"), Headers: []record.Header{{Key: "weir-load"}}}))
	c, err := NewClientHeaders(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, batch []byte) {
		out, err := c.Strip(batch)
		if err != nil {
			return
		}
		r := record.NewReader(record.Options{SkipCRC: true})
		r.Reset(out)
		recs, err := r.ReadBatch(nil)
		if err != nil {
			return
		}
		for i := range recs {
			for _, h := range recs[i].Headers {
				if forged(h.Key) {
					t.Errorf("%q is left", h.Key)
				}
			}
		}
	})
}
