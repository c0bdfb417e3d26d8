package hostile

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/httpin"
	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

var quiet = slog.New(slog.DiscardHandler)

// house is a log with a broker, and the directory of the files.
type house struct {
	t    *testing.T
	log  *commitlog.Log
	addr string
	made int // topics
	dead int // dead letters seen
}

func newHouse(t *testing.T) *house {
	t.Helper()
	t.Chdir(t.TempDir()) // so that messages name files alike
	l, err := commitlog.Open(context.Background(), "data", commitlog.Options{FS: vfs.NewMem(1), Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(l, broker.Options{Logger: quiet, DrainTimeout: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.CreateTopic(commitlog.TopicSpec{Name: event.TopicDeadLetters, Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- b.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-served, l.Close()); err != nil {
			t.Error(err)
		}
	})
	return &house{t: t, log: l, addr: ln.Addr().String()}
}

// stream is the stream with a topic of its own.
func (h *house) stream(format schema.Format) *schema.Stream {
	h.t.Helper()
	h.made++
	s := payments(format, fmt.Sprintf("payments-%d", h.made))
	if _, err := h.log.CreateTopic(commitlog.TopicSpec{Name: s.Topic, Partitions: 1}); err != nil {
		h.t.Fatal(err)
	}
	return s
}

// result is what became of an input.
type result struct {
	taken []string // the values of the records
	dead  []event.DeadLetter
	err   string // what the caller was told beside, or empty
}

// load loads content as a file.
func (h *house) load(s *schema.Stream, content func(io.Writer)) result {
	h.t.Helper()
	name := fmt.Sprintf("file-%d", h.made)
	f, err := os.Create(name)
	if err != nil {
		h.t.Fatal(err)
	}
	content(f)
	if err := f.Close(); err != nil {
		h.t.Fatal(err)
	}
	p, err := loader.Load(context.Background(), name, loader.Options{Addr: h.addr, Stream: s, Logger: quiet, RetryFor: time.Second})
	if err := os.Remove(name); err != nil {
		h.t.Fatal(err)
	}
	r := h.read(s)
	if err != nil {
		r.err = strings.ReplaceAll(err.Error(), name, "FILE")
	}
	if p.Accepted != int64(len(r.taken)) || p.Dead != int64(len(r.dead)) || err == nil && p.Lines != p.Accepted+p.Dead {
		h.t.Errorf("the loader says %+v; the log has %d records and %d dead letters", p, len(r.taken), len(r.dead))
	}
	return r
}

// post sends content as a body.
func (h *house) post(s *schema.Stream, content func(io.Writer), headers ...string) result {
	h.t.Helper()
	return h.postTo("payments", s, content, headers...)
}

func (h *house) postTo(name string, s *schema.Stream, content func(io.Writer), headers ...string) result {
	h.t.Helper()
	in, err := httpin.New(context.Background(), []*schema.Stream{s}, sink.NewLocal(h.log), httpin.Options{Logger: quiet, Now: func() time.Time { return arrived }})
	if err != nil {
		h.t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(httpin.Pattern, in)
	server := httptest.NewServer(mux)
	defer server.Close()
	body, write := io.Pipe()
	go func() {
		content(write)
		_ = write.Close()
	}()
	req, err := http.NewRequest(http.MethodPost, server.URL+"/v1/streams/"+name+"/events", body)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, one := range headers {
		name, value, _ := strings.Cut(one, ": ")
		req.Header.Set(name, value)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	var a struct {
		httpin.Answer
		Detail string
		Errors []struct{ Message string } `json:"errors"` // of a problem; hides the answer's
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		h.t.Fatal(err)
	}
	r := h.read(s)
	if a.Accepted != int64(len(r.taken)) || a.Refused != int64(len(r.dead)) {
		h.t.Errorf("the answer is %d accepted, %d refused; the log has %d records and %d dead letters", a.Accepted, a.Refused, len(r.taken), len(r.dead))
	}
	switch {
	case resp.StatusCode >= 400 && a.Detail != "":
		r.err = fmt.Sprintf("%d: %s", resp.StatusCode, a.Detail)
		for _, e := range a.Errors {
			r.err += "\n" + e.Message
		}
	case a.Incomplete != "":
		r.err = fmt.Sprintf("%d, incomplete: %s", resp.StatusCode, a.Incomplete)
	case resp.StatusCode >= 400:
		r.err = fmt.Sprint(resp.StatusCode)
	}
	return r
}

// read reads a topic's records and the new dead letters.
func (h *house) read(s *schema.Stream) (r result) {
	h.t.Helper()
	for _, rec := range h.records(s.Topic) {
		r.taken = append(r.taken, string(rec.Value))
	}
	all := h.records(event.TopicDeadLetters)
	for _, rec := range all[h.dead:] {
		var d event.DeadLetter
		if err := d.UnmarshalJSON(rec.Value); err != nil {
			h.t.Fatal(err)
		}
		if d.Reason == "" || d.Detail == "" || len(d.Raw) == 0 || len(d.Raw) > loader.MaxRaw || d.Line == 0 || d.Stream != "payments" {
			h.t.Errorf("a dead letter of %d bytes says too little: %+v", len(d.Raw), d)
		}
		r.dead = append(r.dead, d)
	}
	h.dead = len(all)
	slices.SortFunc(r.dead, func(a, b event.DeadLetter) int { return int(a.Line - b.Line) })
	return r
}

func (h *house) records(topic string) (out []record.Record) {
	h.t.Helper()
	p, err := h.log.Partition(topic, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	if err := p.Flush(context.Background()); err != nil {
		h.t.Fatal(err)
	}
	for c := p.NewCursor(p.Start()); ; {
		b, err := p.Read(c, 1<<20)
		if err != nil {
			h.t.Fatal(err)
		}
		if len(b) == 0 {
			return out
		}
		var r record.Reader
		r.Reset(bytes.Clone(b))
		for rec, err := r.Next(); err == nil; rec, err = r.Next() {
			one := *rec
			one.Value = bytes.Clone(rec.Value)
			out = append(out, one)
		}
	}
}

// decoded is what becomes of one record, and the value of a field of it.
func decoded(t *testing.T, s *schema.Stream, value, show string) (decode.Failure, string) {
	t.Helper()
	var project []int
	for i := range s.Schema.Fields {
		project = append(project, i)
	}
	d, err := decode.New(s, project, decode.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b event.Batch
	b.Reset(s.Schema, project)
	calls, failure := 0, decode.Failure{}
	d.Decode(&b, event.Origin{Topic: s.Topic}, []source.Record{{Timestamp: arrived.UnixMilli(), Value: []byte(value)}},
		func(_ *source.Record, f decode.Failure) { calls, failure = calls+1, f })
	if calls+b.Len() != 1 {
		t.Fatalf("%d rows and %d failures of one record", b.Len(), calls)
	}
	if calls == 1 || show == "" {
		return failure, ""
	}
	return failure, string(b.Cols[s.Schema.Index(show)].AppendText(nil, 0))
}

// heapGrowth runs f and gives by how many bytes the live heap grew at most.
func heapGrowth(f func()) int64 {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	debug.FreeOSMemory()
	read := func() int64 {
		s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(s)
		return int64(s[0].Value.Uint64())
	}
	base := read()
	quit, peak := make(chan struct{}), make(chan int64)
	go func() {
		most, tick := int64(0), time.NewTicker(2*time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				most = max(most, read()-base)
			case <-quit:
				peak <- most
				return
			}
		}
	}()
	f()
	close(quit)
	return <-peak
}
