package httpin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/commitlog"
)

// Pattern is where Handler belongs in a ServeMux.
const Pattern = "POST /v1/streams/{name}/events"

// Log is what is written to; *sink.Local is one.
type Log interface {
	// AppendBatch appends a record batch: accepted and in order, not yet durable.
	AppendBatch(ctx context.Context, topic string, partition int32, batch []byte) (base int64, err error)
	// Durable waits until the record at offset is durable.
	Durable(ctx context.Context, topic string, partition int32, offset int64) error
	// End is the offset that the partition's next record will get.
	End(topic string, partition int32) (int64, error)
	Partitions(topic string) (int32, error)
}

// Options of a Handler. The zero values are the defaults.
type Options struct {
	// BodyMax is the largest body in bytes, as it was sent and unpacked; 0: 32 MiB.
	BodyMax int64
	// InFlight bounds the bytes of bodies in memory over all requests; 0: 256 MiB.
	InFlight int64
	// Writers is how many requests encode and append at once; 0: twice the CPUs.
	Writers int
	// ReadTimeout is the longest that a client may send nothing; 0: 30 s.
	ReadTimeout time.Duration
	// BodyTimeout is the longest that a body may take to arrive; 0: 5 minutes.
	BodyTimeout time.Duration
	// WriteTimeout is how long the log may take to make a body durable; 0: 1 minute.
	WriteTimeout time.Duration
	// Window is how long an Idempotency-Key is known; 0: 24 hours.
	Window time.Duration
	// KeysMax is how many keys are known at most, the newest; 0: 100,000.
	KeysMax int
	// Open reads a partition from an offset on, to find the keys of an earlier
	// life; nil: keys are known since the start only.
	Open func(ctx context.Context, topic string, partition int32, from, to int64) (source.Source, error)
	// OffsetForTime is the first offset of a partition with a record at or after a
	// time (ms), -1 for none; nil: keys are looked for from the topic's start.
	OffsetForTime func(topic string, partition int32, ms int64) (int64, error)
	// Transform rewrites a batch before it is appended to a topic, for sensitive
	// fields; nil: nothing is rewritten. It keeps the number of records, their
	// order and their headers.
	Transform  func(topic string, batch []byte) ([]byte, error)
	Now        func() time.Time      // nil: time.Now
	Registerer prometheus.Registerer // nil: no metrics
	Logger     *slog.Logger          // nil: slog.Default
}

func (o *Options) setDefaults() {
	o.BodyMax = cmp.Or(o.BodyMax, 32<<20)
	o.InFlight = cmp.Or(o.InFlight, 256<<20)
	o.Writers = cmp.Or(o.Writers, 2*runtime.GOMAXPROCS(0))
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 30*time.Second)
	o.BodyTimeout = cmp.Or(o.BodyTimeout, 5*time.Minute)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, time.Minute)
	o.Window = cmp.Or(o.Window, 24*time.Hour)
	o.KeysMax = cmp.Or(o.KeysMax, 100_000)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// Handler answers POST /v1/streams/{name}/events.
type Handler struct {
	served  atomic.Pointer[served]
	log     Log
	o       Options
	budget  budget
	writers chan struct{}
	ledger  *ledger
	metrics *metrics
}

// served are the streams that events are taken for.
type served struct {
	streams map[string]*schema.Stream
	names   []string
}

// New makes a Handler for the streams of a log. It reads back the keys that an
// earlier life knew, where Options.Open says how; ctx bounds that. The topic
// weir.deadletters must exist, and TopicRequests for requests with a key.
func New(ctx context.Context, streams []*schema.Stream, l Log, o Options) (*Handler, error) {
	o.setDefaults()
	h := &Handler{log: l, o: o, budget: budget{most: o.InFlight}, writers: make(chan struct{}, o.Writers)}
	h.Declare(streams)
	h.ledger = newLedger(h)
	h.metrics = newMetrics(h, o.Registerer)
	if err := h.ledger.restore(ctx); err != nil {
		return nil, fmt.Errorf("idempotency keys of earlier requests: %w", err)
	}
	return h, nil
}

// Declare makes h take events for these streams from now on. Requests that have
// begun end as they began.
func (h *Handler) Declare(streams []*schema.Stream) {
	s := &served{streams: make(map[string]*schema.Stream, len(streams))}
	for _, one := range streams {
		s.streams[one.Schema.Stream] = one
		s.names = append(s.names, one.Schema.Stream)
	}
	h.served.Store(s)
}

// format is how a body is written.
type format uint8

const (
	jsonBody format = iota // an object or an array
	lineBody               // NDJSON
	csvBody
)

// Accepted are the content types that are understood.
const Accepted = "application/json, application/x-ndjson, text/csv"

var formats = map[string]format{
	"application/json":     jsonBody,
	"application/x-ndjson": lineBody, "application/ndjson": lineBody, "application/jsonl": lineBody, "application/x-jsonlines": lineBody,
	"text/csv": csvBody,
}

// request is one request on its way through.
type request struct {
	stream *schema.Stream
	format format
	gzip   bool
	key    string // empty: none
	body   body
	at     int64 // of arrival, ms since the epoch
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := h.o.Now()
	a, p := h.serve(w, r)
	status := 0
	if p != nil {
		status = p.write(w)
	} else {
		status = a.write(w)
	}
	h.metrics.answered(status, h.o.Now().Sub(began))
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request) (*Answer, *problem) {
	q, p := h.examine(r)
	if p != nil {
		return nil, p
	}
	if p := h.read(w, r, q); p != nil {
		return nil, p
	}
	defer q.body.release(&h.budget)
	h.metrics.bytes.Add(float64(len(q.body.data)))
	q.at = h.o.Now().UnixMilli()

	// What has arrived is written, whether or not the client waits for the answer.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), h.o.WriteTimeout)
	defer cancel()
	e := &entry{}
	if q.key != "" {
		var err error
		if e, err = h.ledger.begin(ctx, q); err != nil {
			return nil, h.failed(err, nil)
		}
		defer h.ledger.end(e)
	}
	select {
	case h.writers <- struct{}{}:
		defer func() { <-h.writers }()
	case <-ctx.Done():
		return nil, busy("too many requests are being written")
	}
	a, err := h.write(ctx, q, e)
	if err != nil {
		return nil, h.failed(err, a)
	}
	return a, nil
}

// examine reads what comes before the body.
func (h *Handler) examine(r *http.Request) (*request, *problem) {
	q := &request{}
	name := r.PathValue("name")
	served := h.served.Load()
	if q.stream = served.streams[name]; q.stream == nil {
		hint := schema.Suggest(name, served.names)
		if hint == "" {
			hint = "the streams are " + strings.Join(served.names, ", ")
			if len(served.names) == 0 {
				hint = "none is declared"
			}
		}
		return nil, &problem{Status: http.StatusNotFound, Detail: fmt.Sprintf("there is no stream %q: %s", name, hint)}
	}
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	f, known := formats[media]
	if charset := params["charset"]; err != nil || !known || charset != "" && !strings.EqualFold(charset, "utf-8") {
		found := "none was given"
		if t := r.Header.Get("Content-Type"); t != "" {
			found = fmt.Sprintf("%q was given", t)
		}
		return nil, &problem{Status: http.StatusUnsupportedMediaType, Detail: "the content type must be one of " + Accepted + ", in UTF-8; " + found,
			header: http.Header{"Accept-Post": {Accepted}}}
	}
	q.format = f
	switch encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		q.gzip = true
	default:
		return nil, &problem{Status: http.StatusUnsupportedMediaType, Detail: fmt.Sprintf("the content encoding must be gzip or absent; %q was given", encoding),
			header: http.Header{"Accept-Encoding": {"gzip"}}}
	}
	if values := r.Header.Values("Idempotency-Key"); len(values) > 0 {
		q.key = values[0]
		if len(values) > 1 || len(q.key) == 0 || len(q.key) > keyMax {
			return nil, &problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf("Idempotency-Key must stand there once and have 1 to %d bytes", keyMax)}
		}
	}
	return q, nil
}

// keyMax is the longest Idempotency-Key.
const keyMax = 255

// failed is the answer to a request that could not be written whole. a is what
// was.
func (h *Handler) failed(err error, a *Answer) *problem {
	p := &problem{Status: http.StatusServiceUnavailable, Detail: err.Error(), header: http.Header{"Retry-After": {"5"}}}
	var problems schema.Problems
	var one *schema.Problem
	switch {
	case errors.As(err, &problems):
		p = &problem{Status: http.StatusUnprocessableEntity, Detail: "the body does not fit the stream's declaration"}
		for _, one := range problems {
			p.Errors = append(p.Errors, located{Message: plain(one), Location: "body line 1"})
		}
		return p
	case errors.As(err, &one):
		return &problem{Status: http.StatusUnprocessableEntity, Detail: plain(one)}
	case errors.Is(err, errCut):
		return &problem{Status: http.StatusBadRequest, Detail: err.Error()}
	case errors.Is(err, errOtherBody):
		return &problem{Status: http.StatusUnprocessableEntity, Detail: err.Error()}
	case errors.Is(err, errRunning):
		return &problem{Status: http.StatusConflict, Detail: err.Error(), header: http.Header{"Retry-After": {"1"}}}
	case errors.Is(err, commitlog.ErrBatchTooLarge):
		p = &problem{Status: http.StatusRequestEntityTooLarge, Detail: "an event is larger than the topic's max.message.bytes: " + err.Error()}
	case errors.Is(err, commitlog.ErrDiskFull):
		p.Status, p.Detail = http.StatusInsufficientStorage, "the disk is full; nothing can be written until there is space again"
		p.header.Set("Retry-After", "30")
	}
	if a != nil && a.Accepted+a.Refused > 0 {
		p.Detail += fmt.Sprintf("; up to %d events of this body may have been written: send it again with the same Idempotency-Key to write only what is missing", a.Accepted+a.Refused)
	}
	h.o.Logger.Warn("a request was not written", "status", p.Status, "err", err)
	return p
}

// plain is a problem without a file, which the client does not have.
func plain(p *schema.Problem) string {
	q := *p
	q.File = ""
	return q.Error()
}
