package loader

import (
	"bytes"
	"context"
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
	// Pace sends each row when its time has come. Nil: as fast as it goes.
	Pace *Pace
	// Shift is added to each event's time, in the record too; see ShiftToNow. A
	// shifted load is a new one each time: it neither resumes nor is resumed.
	Shift time.Duration
	// RetryFor is how long one request is tried again when the broker cannot be
	// reached or says that it will pass; default 30 s.
	RetryFor time.Duration
	Codec    record.Codec // of the batches; None is the fastest over loopback
	Logger   *slog.Logger // nil: slog.Default
}

// Progress is how far a load came. Rows and dead letters count once they are
// durable.
type Progress struct {
	Lines      int64      // rows of the file seen, good and bad
	Accepted   int64      // rows loaded by this call
	Dead       int64      // rows that went to the dead letters in this call
	Skipped    int64      // rows that an earlier call had dealt with
	Reached    event.Time // time of the last event that was taken up; MinTime before it
	BytesRead  int64      // of the files, as they are on the disk
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
	return LoadAll(ctx, []string{path}, o)
}

// LoadAll loads several files into one stream, merged by event time: of the rows
// that are next in their files it takes the earliest (of equal ones that of the
// file named first). Files in order of time give a stream in order of time. It is
// one load: it resumes where the same files are named in the same order. Where a
// file cannot be read to its end the others are loaded up to that place.
func LoadAll(ctx context.Context, paths []string, o Options) (Progress, error) {
	turn := pacer{pace: o.Pace}
	defer turn.leave()
	if o.RetryFor == 0 {
		o.RetryFor = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	inputs, err := openInputs(paths)
	if err != nil {
		return Progress{}, err
	}
	defer inputs.close()
	c, err := newClient(&o)
	if err != nil {
		return Progress{}, err
	}
	defer c.kgo.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	l := &load{ctx: ctx, cancel: cancel, o: &o, inputs: inputs, client: c, began: time.Now(), pacer: &turn}
	l.reached.Store(int64(event.MinTime))
	defer l.end()
	if err := l.prepare(); err != nil {
		return l.progress(), fmt.Errorf("load %s: %w", inputs, err)
	}
	reported := l.report()
	err = l.run()
	l.end()
	reported()
	p := l.progress()
	p.Already = err == nil && p.Skipped > 0 && p.Accepted+p.Dead == 0
	if err == nil {
		err = inputs.unchanged()
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
	inputs inputs
	pacer  *pacer
	client *client
	began  time.Time
	id     string

	rows, dead marks
	free       chan *staged // batches not in use
	senders    sync.WaitGroup
	started    []*sender
	reading    bool // the inputs' goroutines were started
	ended      bool
	record     []byte // a dead letter's

	lines, accepted, deadCount, skipped, reached atomic.Int64
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
	base, err := l.inputs.loadID(l.ctx, l.o.Stream.Schema.Stream)
	if err != nil {
		return err
	}
	if l.o.Shift != 0 {
		base = shiftedID(base, l.o.Shift, l.began)
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

// run reads the files to their ends or until something fails.
func (l *load) run() error {
	l.reading = true
	for _, in := range l.inputs {
		in.start(l.ctx)
	}
	err := l.rowsOf()
	if ferr := l.flush(); err == nil {
		err = ferr
	}
	l.end()
	// What a sender failed on comes before what followed from it.
	if cause := context.Cause(l.ctx); cause != nil && !errors.Is(cause, errEnded) {
		var unfinished error = ErrInterrupted
		switch {
		case l.o.Shift != 0:
			unfinished = errShifted
		case l.o.Again:
			unfinished = errAgain{}
		}
		return fmt.Errorf("load %s, line %d: %w: %w", l.inputs, l.lines.Load(), unfinished, cause)
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", l.inputs, err)
	}
	return nil
}

// rowsOf takes the rows of all files, merged by time.
func (l *load) rowsOf() error {
	m, err := l.merge()
	if err != nil {
		return err
	}
	for n := int64(1); ; n++ {
		f, err := m.next(l.ctx)
		if f == nil || err != nil {
			return err
		}
		at := n
		if len(m.feeds) == 1 {
			at = f.line()
		}
		if f.isBad() {
			err = l.bad(f, at)
		} else {
			err = l.good(f, at)
		}
		if err != nil {
			return err
		}
		f.skip()
	}
}

// merge opens a feed for each file.
func (l *load) merge() (*merge, error) {
	var shift *shifter
	if l.o.Shift != 0 {
		var err error
		if shift, err = newShifter(l.o.Stream, l.o.Shift); err != nil {
			return nil, err
		}
	}
	m := &merge{}
	for _, in := range l.inputs {
		f, err := newFeed(in, l.o.Stream, &l.lines)
		if err != nil {
			return nil, err
		}
		if f.enc.shift = shift; shift == nil {
			// A record bears its event's time, so max_ahead is measured from now: one wrong
			// year in a file must not move the watermark.
			f.enc.arrived = l.began.UnixMilli()
		}
		m.feeds = append(m.feeds, f)
	}
	return m, nil
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

// good takes a row into its partition's batch. n tells rows of the load apart and
// grows from row to row.
func (l *load) good(f *feed, n int64) error {
	a, err := f.row()
	if err != nil {
		return err
	}
	p := int(n % int64(l.rows.partitions))
	if a.key != nil {
		p = int(sink.Partition(a.key, int32(l.rows.partitions)))
	}
	if n > l.rows.senders[p].done {
		if err := l.pacer.wait(l.ctx, a.time, l.flush); err != nil {
			return err
		}
	}
	l.reached.Store(int64(a.time))
	return l.stage(&l.rows, p, a.time.Millis(), a.key, a.value, n)
}

// bad takes a dead letter into its partition's batch. The columns in a batch's
// header are those of one file.
func (l *load) bad(f *feed, n int64) error {
	d := f.deadLetter()
	if l.dead.topic == nil {
		return fmt.Errorf("%s, line %d: %s: %s; there is no topic for dead letters: %w", d.File, d.Line, d.Reason, d.Detail, l.dead.missing)
	}
	p := int(n % int64(l.dead.partitions))
	s := l.dead.senders[p]
	if s.filling != nil && !bytes.Equal(s.filling.columns, f.columns) {
		if err := l.hand(s); err != nil {
			return err
		}
	}
	l.record = d.AppendJSON(l.record[:0])
	if err := l.stage(&l.dead, p, l.began.UnixMilli(), []byte(d.Stream), l.record, n); err != nil {
		return err
	}
	if s.filling != nil {
		s.filling.columns = f.columns
	}
	return nil
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
		for _, in := range l.inputs {
			for range in.chunks { // the reader ahead has ended when this has
			}
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
	p := Progress{Lines: l.lines.Load(), Accepted: l.accepted.Load(), Dead: l.deadCount.Load(), Skipped: l.skipped.Load(),
		Reached: event.Time(l.reached.Load()), Elapsed: time.Since(l.began), Load: l.id}
	for _, in := range l.inputs {
		p.BytesRead += in.read.Load()
		p.BytesTotal += in.size
	}
	return p
}
