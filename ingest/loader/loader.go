package loader

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/log/record"
)

// Options of a load.
type Options struct {
	Addr   string         // host:port of a broker
	Stream *schema.Stream // to load into; its topic is made where it is missing
	// Progress is called from time to time and once at the end, by one goroutine
	// at a time. Nil: not.
	Progress func(Progress)
	// Again loads a file once more that was loaded before: as new rows.
	Again bool
	// RetryFor is how long one request is tried again when the broker cannot be
	// reached or says that it will pass; default 30 s.
	RetryFor time.Duration
	Codec    record.Codec // of the batches; None is the fastest over loopback
	Logger   *slog.Logger // nil: slog.Default
}

// Progress is how far a load came. Rows and dead letters count once they are
// durable.
type Progress struct {
	Lines      int64 // rows of the file seen, good and bad
	Accepted   int64 // rows loaded by this call
	Dead       int64 // rows that went to the dead letters in this call
	Skipped    int64 // rows that an earlier call had dealt with
	BytesRead  int64 // of the file, as it is on the disk
	BytesTotal int64
	Elapsed    time.Duration
	// Already: the file was loaded wholly before; nothing was done.
	Already bool
	// Load identifies the load; see HeaderLoad.
	Load string
}

// progressEvery is the time between calls of Options.Progress.
const progressEvery = 200 * time.Millisecond

// ErrInterrupted is wrapped by the error of a load that was cancelled or failed on
// the way: the same call resumes it.
var ErrInterrupted = errors.New("the load is not finished; the same command resumes it")

// errAgain is ErrInterrupted of a repeated load: repeated with Options.Again it
// would begin anew, and double what it has written.
type errAgain struct{}

func (errAgain) Error() string {
	return "the load is not finished; the same command without --again resumes it"
}
func (errAgain) Is(target error) bool { return target == ErrInterrupted }

// Load puts the rows of a file into a stream. The file is CSV with a header or
// NDJSON, plain or gzip, told by its content. It resumes what an earlier call
// left, and does nothing where the file is wholly loaded, unless Options.Again.
//
// When ctx is cancelled it waits for what is on its way and returns ctx's error
// and ErrInterrupted. Errors about the file name it and the line. A file that
// cannot be read to its end is loaded as far as it goes before the error.
func Load(ctx context.Context, path string, o Options) (Progress, error) {
	if o.RetryFor == 0 {
		o.RetryFor = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	in, err := openInput(path)
	if err != nil {
		return Progress{}, err
	}
	defer in.file.Close()
	c, err := newClient(&o)
	if err != nil {
		return Progress{}, err
	}
	defer c.kgo.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	l := &load{ctx: ctx, cancel: cancel, o: &o, in: in, client: c, began: time.Now()}
	defer l.end()
	if err := l.prepare(); err != nil {
		return l.progress(), fmt.Errorf("load %s: %w", path, err)
	}
	reported := l.report()
	err = l.run()
	l.end()
	reported()
	p := l.progress()
	p.Already = err == nil && p.Skipped > 0 && p.Accepted+p.Dead == 0
	if err == nil {
		err = in.unchanged()
	}
	if o.Progress != nil {
		o.Progress(p)
	}
	return p, err
}

// load is one call of Load. Fields without a note belong to its goroutine.
type load struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	o      *Options
	in     *input
	client *client
	began  time.Time
	id     string

	rows, dead marks
	free       chan *staged // batches not in use
	senders    sync.WaitGroup
	started    []*sender
	columns    []byte // of the file, for the header of dead letters
	reading    bool   // the input's goroutine was started
	ended      bool
	record     []byte // a dead letter's

	lines, accepted, deadCount, skipped atomic.Int64
}

// marks is what a load knows of one of its two topics.
type marks struct {
	topic      *topic
	missing    error     // why there is no topic
	partitions int       // with which the load began
	senders    []*sender // by partition
	limit      int       // bytes of a batch
}

// prepare finds the topics and how far an earlier call came.
func (l *load) prepare() error {
	base, err := l.in.loadID(l.o.Stream.Schema.Stream)
	if err != nil {
		return err
	}
	err = l.client.retry(l.ctx, "find topic "+l.o.Stream.Topic, func() error {
		l.rows.topic, err = l.client.ensure(l.ctx, l.o.Stream.Topic, max(1, l.o.Stream.Partitions))
		return err
	})
	if err != nil {
		return fmt.Errorf("broker %s: %w", l.o.Addr, err)
	}
	l.dead.topic, l.dead.missing = l.client.ensure(l.ctx, event.TopicDeadLetters, 1)
	if l.dead.missing != nil {
		l.o.Logger.Debug("no topic for dead letters", "err", l.dead.missing)
	}
	return l.resume(base)
}

// resume reads back where each partition stands, and makes the senders.
func (l *load) resume(base string) error {
	rows, err := l.standing(&l.rows, base)
	if err != nil {
		return err
	}
	dead, err := l.standing(&l.dead, base)
	if err != nil {
		return err
	}
	newest := 1
	fresh := true
	for _, at := range append(rows, dead...) {
		if at.found {
			newest, fresh = max(newest, repeated(at.id)), false
		}
	}
	if l.o.Again && !fresh {
		newest++
	}
	l.id = repeatID(base, newest)
	producer, epoch, known := int64(0), int16(0), false
	for _, at := range append(rows, dead...) {
		if at.found && at.id == l.id {
			producer, epoch, known = at.producer, at.epoch, true
		}
	}
	if !known {
		err := l.client.retry(l.ctx, "ask for a producer id", func() error {
			producer, epoch, err = l.client.producerID(l.ctx)
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := l.makeSenders(&l.rows, rows, producer, epoch, false); err != nil {
		return err
	}
	if err := l.makeSenders(&l.dead, dead, producer, epoch, true); err != nil {
		return err
	}
	l.free = make(chan *staged, l.rows.partitions+l.dead.partitions+2*runtime.GOMAXPROCS(0)+4)
	for range cap(l.free) {
		l.free <- nil // made when first used
	}
	return nil
}

// standing is how far loads of this file came in each partition of a topic.
func (l *load) standing(m *marks, base string) ([]progressAt, error) {
	if m.topic == nil {
		return nil, nil
	}
	out := make([]progressAt, len(m.topic.leaders))
	group, ctx := errgroup.WithContext(l.ctx)
	group.SetLimit(4)
	for i := range out {
		group.Go(func() error {
			return l.client.retry(ctx, fmt.Sprintf("read back %s/%d", m.topic.name, i), func() (err error) {
				out[i], err = l.client.lastBatch(ctx, m.topic, i, base)
				return err
			})
		})
	}
	return out, group.Wait()
}

// makeSenders makes a topic's senders. The number of partitions is the one with
// which this load began, should the topic have grown since.
func (l *load) makeSenders(m *marks, at []progressAt, producer int64, epoch int16, dead bool) error {
	m.partitions = len(at)
	for i := range at {
		if at[i].found && at[i].id == l.id {
			m.partitions = at[i].partitions
		}
	}
	if m.partitions > len(at) {
		return fmt.Errorf("topic %s has %d partitions, and had %d when this load began", m.topic.name, len(at), m.partitions)
	}
	m.limit = batchBytes(max(1, m.partitions))
	for i := range m.partitions {
		s := &sender{load: l, topic: m.topic, partition: i, marks: m, dead: dead, producer: producer, epoch: epoch}
		if at[i].found && at[i].id == l.id {
			s.done, s.producer, s.epoch, s.sequence = at[i].line, at[i].producer, at[i].epoch, at[i].sequence
		}
		m.senders = append(m.senders, s)
	}
	return nil
}

// run reads the file to its end or until something fails.
func (l *load) run() error {
	l.reading = true
	l.in.start(l.ctx)
	err := l.rowsOf()
	if err == nil {
		err = l.flush()
	}
	l.end()
	// What a sender failed on comes before what followed from it.
	if cause := context.Cause(l.ctx); cause != nil && !errors.Is(cause, errEnded) {
		unfinished := ErrInterrupted
		if l.o.Again {
			unfinished = errAgain{}
		}
		return fmt.Errorf("load %s, line %d: %w: %w", l.in.name, l.lines.Load(), unfinished, cause)
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", l.in.name, err)
	}
	return nil
}

// rowsOf cuts the file and encodes its rows.
func (l *load) rowsOf() error {
	delimiter := l.o.Stream.Delimiter
	if delimiter == 0 {
		delimiter = ','
	}
	s := newSplitter(l.in.next, l.in.recycle, delimiter)
	s.skipBOM()
	next := s.nextLine
	var columns []string
	if c := s.first(); c != '{' && c != 0 {
		header := s.nextCSV()
		if header == nil {
			return s.broken()
		}
		if header.bad != "" {
			return &schema.Problem{File: l.in.name, Line: int(header.line), Column: header.column, Message: "the header: " + header.bad}
		}
		columns = columnNames(header)
		next = s.nextCSV
	}
	e, err := newEncoder(l.o.Stream, l.in.name, columns)
	if err != nil {
		return err
	}
	// A record bears its event's time, so max_ahead is measured from now: one wrong
	// year in a file must not move the watermark.
	e.arrived = time.Now().UnixMilli()
	if l.columns, err = json.Marshal(columns); err != nil {
		return err
	}
	for r := next(); r != nil; r = next() {
		l.lines.Add(1)
		if !e.add(r) {
			continue
		}
		if l.ctx.Err() != nil {
			return l.ctx.Err()
		}
		if err := e.flush(l.good, l.bad); err != nil {
			return err
		}
	}
	if err := e.flush(l.good, l.bad); err != nil {
		return err
	}
	if err := s.broken(); err != nil {
		// The rows before the place are good: they go, and then the error.
		if ferr := l.flush(); ferr != nil {
			return ferr
		}
		return err
	}
	return nil
}

// broken is the error of a file that could not be read to its end.
func (s *splitter) broken() error {
	if s.err == nil || errors.Is(s.err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("line %d: %w; the lines before it are loaded", s.line, s.err)
}

// columnNames is the header of a CSV file.
func columnNames(header *row) []string {
	e := encoder{}
	names := make([]string, len(header.cells))
	for i := range names {
		names[i] = string(e.text(header, i))
	}
	return names
}

// good takes a row into its partition's batch.
func (l *load) good(a *accepted) error {
	var p int32
	if a.key != nil {
		p = sink.Partition(a.key, int32(l.rows.partitions))
	} else {
		p = int32(a.line % int64(l.rows.partitions))
	}
	return l.stage(&l.rows, int(p), a.time, a.key, a.value, a.line)
}

// bad takes a dead letter into its partition's batch.
func (l *load) bad(d *event.DeadLetter) error {
	if l.dead.topic == nil {
		return fmt.Errorf("line %d: %s: %s; there is no topic for dead letters: %w", d.Line, d.Reason, d.Detail, l.dead.missing)
	}
	l.record = d.AppendJSON(l.record[:0])
	return l.stage(&l.dead, int(d.Line%int64(l.dead.partitions)), l.began.UnixMilli(), []byte(d.Stream), l.record, d.Line)
}

func (l *load) stage(m *marks, partition int, time int64, key, value []byte, line int64) error {
	s := m.senders[partition]
	if line <= s.done {
		l.skipped.Add(1)
		return nil
	}
	if s.filling == nil {
		select {
		case s.filling = <-l.free:
		case <-l.ctx.Done():
			return l.ctx.Err()
		}
		if s.filling == nil {
			s.filling = &staged{data: make([]byte, 0, m.limit+m.limit/8)}
		}
	}
	s.filling.add(time, key, value, line)
	if s.filling.size() < m.limit {
		return nil
	}
	return l.hand(s)
}

// hand gives the batch that s fills to its goroutine.
func (l *load) hand(s *sender) error {
	if s.in == nil {
		s.in = make(chan *staged, 1)
		l.started = append(l.started, s)
		l.senders.Go(s.run)
	}
	select {
	case s.in <- s.filling:
		s.filling = nil
		return nil
	case <-l.ctx.Done():
		return l.ctx.Err()
	}
}

// flush sends what is left.
func (l *load) flush() error {
	for _, m := range []*marks{&l.rows, &l.dead} {
		for _, s := range m.senders {
			if s.filling != nil {
				if err := l.hand(s); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// recycle gives a batch back.
func (l *load) recycle(b *staged) {
	if cap(b.data) > 2*BatchBytes {
		b = nil // a huge row has been here
	} else {
		b.reset()
	}
	l.free <- b // never blocks: as many places as batches
}

// fail ends the load with an error.
func (l *load) fail(err error) { l.cancel(err) }

func (l *load) acknowledged(dead bool, n int) {
	if dead {
		l.deadCount.Add(int64(n))
	} else {
		l.accepted.Add(int64(n))
	}
}

// errEnded is the cause that marks a load as ended in good order.
var errEnded = errors.New("ended")

// end waits for the senders. It may be called again.
func (l *load) end() {
	if l.ended {
		return
	}
	l.ended = true
	for _, s := range l.started {
		close(s.in)
	}
	l.senders.Wait()
	l.cancel(errEnded)
	if l.reading {
		for range l.in.chunks { // the reader ahead has ended when this has
		}
	}
}

// report calls Options.Progress from time to time until the function it returns is
// called.
func (l *load) report() (stop func()) {
	if l.o.Progress == nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.o.Progress(l.progress())
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}

func (l *load) progress() Progress {
	return Progress{Lines: l.lines.Load(), Accepted: l.accepted.Load(), Dead: l.deadCount.Load(), Skipped: l.skipped.Load(),
		BytesRead: l.in.read.Load(), BytesTotal: l.in.size, Elapsed: time.Since(l.began), Load: l.id}
}
