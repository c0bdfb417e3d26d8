package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/source"
)

// A change of the program takes effect between two events, without a restart, where
// canChange: the journal says from which offset on the new program
// decides, and that is durable before it does. Operators that both programs have, by
// their identity, keep their state. Those that are new are warmed first: a reader of
// their own makes their state from the log, merged with the journal, while the old
// program goes on deciding; the change is made when that has come to where the shard is.

const (
	// warmNear is how many offsets may be left to read when the shard is held for them.
	warmNear = 2048
	// warmAgain is when a warming that failed is tried again.
	warmAgain = 5 * time.Second
)

// warming makes the state of the operators of a program that the shard does not have.
type warming struct {
	program Program
	reader  *shard          // decodes as the shard did, and has the program's instance
	missing map[string]bool // identities
	began   time.Time

	src     source.Source // nil: nothing is missing
	records []source.Record
	next    int64        // all before it are in records, or read
	at      int64        // all before it are read
	shown   func() int64 // how far the change is that it is a part of; nil: at

	cancel context.CancelFunc
	near   chan struct{} // closed when it is near to the shard, or err is set
	err    error
}

// newWarming begins to make what a program needs.
func (s *shard) newWarming(ctx context.Context, p Program) (*warming, error) {
	return s.warmFor(ctx, p, nil, s.instance.Operators(), s.position)
}

// warmFor begins to make what a program with keyed streams needs beside some operators;
// all before an offset is in the log.
func (s *shard) warmFor(ctx context.Context, p Program, keyed []*keyedTopic, has []Operator, from int64) (*warming, error) {
	r := newShard(s.engine, s.stream, p, s.partition, s.engine.metrics)
	r.keyed, r.aside = keyed, true
	if err := r.begin(); err != nil {
		return nil, err
	}
	w := &warming{program: p, reader: r, began: time.Now(), cancel: func() {}, near: make(chan struct{})}
	w.missing = missing(r.instance.Operators(), has)
	for _, op := range r.instance.Operators() {
		if w.missing[op.Identity] {
			s.engine.place(s.dir(), op)
		}
	}
	r.filling, r.only = true, w.missing
	if len(w.missing) == 0 || from == 0 {
		return w, nil
	}
	var err error
	w.src, err = s.engine.opts.Open(ctx, s.origin.Topic, s.partition, 0)
	return w, err
}

// missing are the identities of operators that are not there.
func missing(ops, there []Operator) map[string]bool {
	out := map[string]bool{}
	for _, op := range ops {
		if !slices.ContainsFunc(there, func(o Operator) bool { return o.Identity == op.Identity }) {
			out[op.Identity] = true
		}
	}
	return out
}

// rules are those that wait for it.
func (w *warming) rules() (out []string) {
	for _, op := range w.reader.instance.Operators() {
		if w.missing[op.Identity] {
			out = append(out, op.Rules...)
		}
	}
	return out
}

func (w *warming) close() {
	w.cancel()
	if w.src != nil {
		w.src.Close()
	}
}

// chunk reads on, not beyond an offset that the shard has come to.
func (w *warming) chunk(ctx context.Context, to int64) error {
	r := w.reader
	if err := r.readJournal(ctx); err != nil {
		return err
	}
	if len(w.records) == 0 {
		c, err := w.src.Next(ctx)
		if err != nil {
			return fmt.Errorf("%s[%d]@%d: warm windows: %w", r.origin.Topic, r.partition, w.at, err)
		}
		w.records, w.next = c.Records, c.Next
	}
	n := 0
	for n < len(w.records) && w.records[n].Offset < to {
		n++
	}
	if err := r.batches(ctx, w.records[:n], func() error { return r.operate(ctx) }); err != nil {
		return err
	}
	if w.records = w.records[n:]; len(w.records) > 0 {
		w.at = w.records[0].Offset
	} else {
		w.at = w.next
	}
	return nil
}

// to reads all before an offset that the shard has come to, and uses the marks there
// that stand before an offset of the journal.
func (w *warming) to(ctx context.Context, offset, journaled int64) error {
	if w.src == nil {
		return nil
	}
	for w.at < offset {
		if err := w.chunk(ctx, offset); err != nil {
			return err
		}
	}
	if err := w.reader.readJournal(ctx); err != nil {
		return err
	}
	return w.reader.useMarks(ctx, offset, journaled, func() error { return w.reader.operate(ctx) })
}

// follow reads until it is near to where the shard is. It takes half of the time at
// most: events that come go before.
func (w *warming) follow(ctx context.Context, s *shard) error {
	for {
		cursor := s.warmed(w)
		if cursor-w.at <= warmNear {
			return nil
		}
		begun := time.Now()
		if err := w.chunk(ctx, cursor); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Since(begun)):
		}
	}
}

// warmed shows how far a warming is, and returns where the shard is.
func (s *shard) warmed(w *warming) int64 {
	at := w.at
	if w.shown != nil {
		at = w.shown()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.status
	st.Warming, st.Warmed = w.program.ID(), at
	if s.waiting == nil {
		s.waiting = w.rules()
	}
	return st.Cursor
}

// change makes the shard change to a program, soon.
func (s *shard) change(p Program) {
	s.mu.Lock()
	s.declared, s.status.WarmingErr = p, ""
	s.mu.Unlock()
	s.call()
}

// call has the shard look for what there is to do beside the log.
func (s *shard) call() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.called = true
	if s.interrupt != nil {
		s.interrupt()
	}
}

// changeProgram brings the shard closer to the program that was declared last.
func (s *shard) changeProgram(ctx, life context.Context) error {
	s.mu.Lock()
	p := s.declared
	s.mu.Unlock()
	switch {
	case s.warming != nil && s.warming.program.ID() != p.ID():
		s.endWarming()
	case p.ID() == s.program.ID() || s.engine.opts.Journal != JournalLive:
		return nil
	case len(s.marks) > 0 || s.position < s.settled || time.Now().Before(s.warmAfter):
		return nil // an earlier life has decided what comes
	}
	if s.warming == nil && p.ID() != s.program.ID() {
		return s.warm(life, p)
	}
	if s.warming == nil {
		return nil
	}
	select {
	case <-s.warming.near:
	default:
		return nil
	}
	if err := s.warming.err; err != nil {
		s.logger.Error("the windows of a new program could not be made; it is tried again", "program", p.ID(), "err", err)
		s.warmAfter = time.Now().Add(warmAgain)
		s.endWarming()
		s.warmingFailed(err)
		time.AfterFunc(warmAgain, s.call)
		return nil
	}
	return s.activate(ctx)
}

// warm begins to warm a program, which is quick where it has no new operators.
func (s *shard) warm(ctx context.Context, p Program) error {
	w, err := s.newWarming(ctx, p)
	if err != nil {
		return err
	}
	s.warming = w
	if w.src == nil {
		close(w.near)
		return s.changeProgram(ctx, ctx)
	}
	if err := s.step(ctx, p); err != nil {
		return err
	}
	s.logger.Info("a program with new windows is declared: they are made from the log, and the program before goes on", "program", p.ID(), "windows", len(w.missing))
	ctx, w.cancel = context.WithCancel(ctx)
	go func() {
		defer s.call()
		defer close(w.near)
		w.err = contained(func() error { return w.follow(ctx, s) })
	}()
	return nil
}

// step has what of a program needs no warming decide until that is done.
func (s *shard) step(ctx context.Context, p Program) error {
	part := s.engine.over(p, s.program)
	if part == nil {
		return nil
	}
	w, err := s.newWarming(ctx, part)
	if err != nil {
		return err
	}
	defer w.close()
	if w.src != nil || len(missing(s.instance.Operators(), w.reader.instance.Operators())) > 0 {
		return nil // it is not what it should be: it has other operators
	}
	if err := s.enterProgram(ctx, part.ID()); err != nil {
		return err
	}
	return s.become(w)
}

// endWarming gives a warming up.
func (s *shard) endWarming() {
	if w := s.warming; w != nil {
		w.cancel()
		if w.src != nil {
			<-w.near
		}
		w.close()
		s.warming = nil
		s.mu.Lock()
		s.status.Warming, s.status.Warmed, s.status.WarmingErr, s.waiting = "", 0, "", nil
		s.mu.Unlock()
	}
}

// warmingFailed shows why a warming failed, until it succeeds or another program is declared.
func (s *shard) warmingFailed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.WarmingErr = err.Error()
}

// activate changes to the program that is warm: the journal says so first.
func (s *shard) activate(ctx context.Context) error {
	w, begun := s.warming, time.Now()
	if err := w.to(ctx, s.position, s.journaled); err != nil {
		return err
	}
	if err := s.enterProgram(ctx, w.program.ID()); err != nil {
		return err
	}
	if err := s.become(w); err != nil {
		return err
	}
	s.logger.Info("a program is in force", "program", w.program.ID(), "from", s.position, "after", time.Since(w.began), "held", time.Since(begun))
	s.endWarming()
	s.publish(s.cursor)
	return nil
}

// enterProgram journals that a program decides from the position on.
func (s *shard) enterProgram(ctx context.Context, id string) error {
	if s.inForce == id {
		return nil
	}
	if s.journals() {
		// What the one before decided stands when the journal says that another one does.
		if err := s.outputsDurable(ctx); err != nil {
			return err
		}
		if err := s.enter(ctx, journalRecord{Kind: kindProgram, Program: id}, s.engine.opts.Now().UnixMilli()); err != nil {
			return err
		}
	}
	s.inForce = id
	return nil
}

// become makes a warm program the shard's. Nothing is being worked on.
func (s *shard) become(w *warming) error {
	r := w.reader
	if err := s.engine.inherit(s.dir(), r.instance.Operators(), s.instance.Operators(), w.missing, &s.checkpoints); err != nil {
		return err
	}
	for _, op := range r.instance.Operators() {
		if err := op.Advance(s.clock.Watermark(), &s.outbox); err != nil {
			return err
		}
	}
	decoder, err := decode.New(s.stream, r.project, decode.Options{Seen: s.seen})
	if err != nil {
		return err
	}
	s.everSaved = false
	s.succeed()
	s.program, s.instance, s.project, s.decoder, s.loaded = w.program, r.instance, r.project, decoder, -1
	s.mu.Lock()
	s.status.Program, s.running = w.program.ID(), w.program
	s.mu.Unlock()
	return nil
}

// inherit gives operators that stay what those of before hold; c writes that, soon.
func (e *Engine) inherit(dir string, ops, old []Operator, missing map[string]bool, c *checkpoints) error {
	for _, op := range ops {
		adopted := false
		if !missing[op.Identity] {
			var err error
			from := old[slices.IndexFunc(old, func(o Operator) bool { return o.Identity == op.Identity })]
			if adopted, err = e.hand(dir, from, op); err != nil {
				return err
			}
		}
		c.moved(op, adopted)
	}
	c.begun, c.leftover = time.Time{}, 2
	return nil
}

// hand gives an operator the state of another of its identity, which is of no use then:
// as it is, or else as a copy.
func (e *Engine) hand(dir string, from, to Operator) (adopted bool, err error) {
	if h, ok := to.Operator.(cep.Heir); ok && h.Adopt(from.Operator) {
		return true, nil
	}
	var buf bytes.Buffer
	w := cep.NewSnapshotWriter(&buf)
	if err := from.Snapshot(w); err != nil {
		return false, fmt.Errorf("operator %s: %w", from.Identity, err)
	}
	if err := w.Flush(); err != nil {
		return false, err
	}
	e.place(dir, to)
	if err := to.Restore(cep.NewSnapshotReader(&buf)); err != nil {
		return false, fmt.Errorf("operator %s: %w", to.Identity, err)
	}
	return false, nil
}

// canChange reports whether a stream's shard can change from one program to another by
// itself: where neither reads keyed streams, whose shards are not its own.
func canChange(from, to Program) bool { return len(keyedOf(from))+len(keyedOf(to)) == 0 }

// useProgram changes to the program that a mark names, where it is known: windows that
// are new to it are made from the log at once. A replay has an engine for each program.
func (s *shard) useProgram(ctx context.Context, m *mark) error {
	s.inForce = m.Program
	if s.filling || s.engine.opts.Programs == nil || s.engine.opts.replayed != nil || m.Program == s.program.ID() {
		return nil
	}
	p, err := s.engine.programOf(m.Program)
	switch {
	case err == nil && !canChange(s.program, p):
		err = errors.New("it or the one before reads keyed streams, and a shard cannot change to it by itself")
	case err == nil:
		var w *warming
		if w, err = s.newWarming(ctx, p); err == nil {
			defer w.close()
			if err = w.to(ctx, m.Cursor, m.offset); err == nil {
				return s.become(w)
			}
		}
		return err
	}
	s.logger.Warn("a program that has decided is not there: another one stands in for it", "program", m.Program, "from", m.Cursor, "err", err)
	return nil
}

// startWith has the shard begin with the program of its checkpoint, where it is known;
// it changes to the one that is declared from there.
func (s *shard) startWith(id string) error {
	if s.engine.opts.Programs == nil || s.engine.opts.replayed != nil || id == "" || id == s.program.ID() {
		return nil
	}
	p, err := s.engine.programOf(id)
	if err != nil || !canChange(p, s.program) {
		s.logger.Info("the program of the checkpoint is not there: the one that is declared goes on from it", "program", id, "err", err)
		return nil
	}
	s.program = p
	return s.begin()
}
