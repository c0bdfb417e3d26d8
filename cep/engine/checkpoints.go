package engine

import (
	"bytes"
	"context"
	"errors"
	"math"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/checkpoint"
)

// checkpoints writes the checkpoints of a shard while it goes on. begin takes the
// state of a moment; from then on the shard calls step between batches, which takes
// pieces of that state to a goroutine of the checkpoint. That one waits for the
// outputs, compresses, writes and syncs. It touches nothing of the shard's.
type checkpoints struct {
	store    *checkpoint.Store
	every    time.Duration
	begun    time.Time // when the newest one was, or the shard
	at       *writing  // nil: none is being written
	leftover int       // checkpoints until the events of operators of before are removed
}

const (
	// A step takes a share of the time since the one before, and no longer than slice,
	// but for what one call of Write takes: an event that comes meanwhile waits. There
	// is none before it could take sliceLeast.
	slice      = time.Millisecond
	sliceLeast = 200 * time.Microsecond
	sliceShare = 4
	pollEvery  = 5 * time.Millisecond
	// What a call of Write writes, what goes to the goroutine at once, and how much of
	// that may wait for it.
	writeBytes  = 16 << 10
	pieceBytes  = 128 << 10
	piecesAhead = 16
	// frameBytes estimates what an operator costs a checkpoint in which it has not
	// changed.
	frameBytes = 64
)

// writing is a checkpoint that is being written.
type writing struct {
	begun    time.Time
	cursor   int64
	ops      []frozen
	buf      []byte // pieces of the first of ops
	buffers  chan []byte
	pieces   chan piece
	closed   bool // all pieces are there
	cancel   context.CancelFunc
	detach   func() bool   // from the context that it was begun under
	finished chan struct{} // closed when saved and err are set
	saved    *checkpoint.Saved
	err      error
	stepped  time.Time // when the last step ended
	count    int
	bytes    int64
	pause    time.Duration // the longest time that the shard was held
}

// frozen is an operator whose state is being written.
type frozen struct {
	identity string
	op       cep.Incremental
	whole    []byte // instead, of an operator that is none
}

type piece struct {
	identity string
	data     []byte
	buffer   []byte // goes back to buffers
}

// awaited is an output that has to be durable up to an offset.
type awaited struct {
	topic     string
	partition int32
	offset    int64
}

func (e *Engine) checkpointsIn(dir string) checkpoints {
	return checkpoints{store: checkpoint.Open(e.opts.FS, dir), every: e.opts.CheckpointEvery}
}

func (c *checkpoints) busy() bool { return c.at != nil }

// due is in how long there is something to do: pieces are to be written, or it is to be
// seen whether they are durable, or else a checkpoint to be begun, where the shard has moved
// since the newest.
func (c *checkpoints) due(moved bool) time.Duration {
	switch {
	case c.busy() && c.at.closed:
		return pollEvery
	case c.busy():
		return max(0, sliceShare*sliceLeast-time.Since(c.at.stepped))
	case moved:
		return time.Until(c.begun.Add(c.every))
	}
	return math.MaxInt64
}

// begin begins a checkpoint of the operators as they are now. It becomes visible when
// settled returns.
func (c *checkpoints) begin(ctx context.Context, cursor int64, meta []byte, ops []Operator, settled func(context.Context) error) error {
	w := &writing{begun: time.Now(), cursor: cursor, buffers: make(chan []byte, piecesAhead), pieces: make(chan piece, piecesAhead), finished: make(chan struct{})}
	for range piecesAhead {
		w.buffers <- nil
	}
	to := c.store.Begin()
	turns, err := w.freeze(ops, to.Generation())
	if err != nil {
		return err
	}
	under := ctx
	ctx, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	w.detach = context.AfterFunc(under, w.cancel)
	go func() {
		defer close(w.finished)
		w.saved, w.err = w.write(ctx, to, meta, turns, settled)
		w.bytes = to.Bytes()
	}()
	c.at, c.begun = w, w.begun
	w.pause = time.Since(w.begun)
	w.stepped = time.Now()
	return nil
}

// freeze begins a generation of each operator. What changes little takes part in the
// turns of what changes much, so that it does not keep files that are else not needed.
func (w *writing) freeze(ops []Operator, generation uint64) ([]checkpoint.Turn, error) {
	var changed, all int64 = 0, 1
	for _, op := range ops {
		if inc, ok := op.Operator.(cep.Incremental); ok {
			c, a := inc.Size()
			changed, all = changed+c+frameBytes, all+a
		}
	}
	var turns []checkpoint.Turn
	for _, op := range ops {
		turn := generation * cep.FullTurn
		if inc, ok := op.Operator.(cep.Incremental); ok {
			c, a := inc.Size()
			turn = inc.Freeze(uint64(min(1, max(float64(c)/float64(a+1), float64(changed)/float64(all))) * cep.FullTurn))
			w.ops = append(w.ops, frozen{identity: op.Identity, op: inc})
		} else {
			var whole bytes.Buffer
			sw := cep.NewSnapshotWriter(&whole)
			if err := errors.Join(op.Snapshot(sw), sw.Flush()); err != nil {
				return nil, err
			}
			w.ops = append(w.ops, frozen{identity: op.Identity, whole: whole.Bytes()})
		}
		turns = append(turns, checkpoint.Turn{Identity: op.Identity, Turn: turn})
	}
	return turns, nil
}

// write is the checkpoint's goroutine.
func (w *writing) write(ctx context.Context, to *checkpoint.Writer, meta []byte, turns []checkpoint.Turn, settled func(context.Context) error) (*checkpoint.Saved, error) {
	for open := true; open; {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case p, more := <-w.pieces:
			if open = more; !more {
				break
			}
			if err := to.Append(p.identity, p.data); err != nil {
				return nil, err
			}
			w.buffers <- p.buffer
		}
	}
	if err := settled(ctx); err != nil {
		return nil, err
	}
	return to.Commit(meta, turns)
}

// goOn does what it is time to do for the checkpoint at hand, and returns it once it is
// durable or has failed; nil before.
func (c *checkpoints) goOn(m *meter, ops []Operator) *writing {
	w := c.failed()
	if w == nil && c.step() && c.look(m, ops) {
		w = c.poll()
	}
	return w
}

// turn is how long what is done for a checkpoint between two batches may take now; 0: it
// is not time to.
func (w *writing) turn() time.Duration {
	budget := min(slice, time.Since(w.stepped)/sliceShare)
	if budget < sliceLeast {
		return 0
	}
	return budget
}

// step takes pieces of the state to the goroutine, where it is time to and as there is
// room for them, and reports whether all of them are there.
func (c *checkpoints) step() bool {
	w := c.at
	if w.closed {
		return true
	}
	if budget := w.turn(); budget > 0 {
		begun := time.Now()
		for !w.closed && w.piece(false) && time.Since(begun) < budget {
		}
		w.stepped = time.Now()
		w.pause = max(w.pause, w.stepped.Sub(begun))
	}
	return w.closed
}

// look looks for the keys with the most events, where it is time to, and reports whether
// they are found.
func (c *checkpoints) look(m *meter, ops []Operator) bool {
	if m.topsAt == len(ops) {
		return true
	}
	found := false
	if budget := c.at.turn(); budget > 0 {
		found = m.lookTop(ops, budget)
		c.at.stepped = time.Now()
	}
	return found
}

// piece writes some of the state. It returns false where there is no room, for which
// wait waits, unless the goroutine has ended.
func (w *writing) piece(wait bool) bool {
	if len(w.ops) == 0 {
		w.closed = true
		close(w.pieces)
		return true
	}
	if w.buf == nil && !w.room(wait) {
		return false
	}
	f := &w.ops[0]
	if f.op == nil {
		n := min(len(f.whole), pieceBytes)
		w.send(piece{f.identity, f.whole[:n], w.buf})
		if f.whole = f.whole[n:]; len(f.whole) == 0 {
			w.ops = w.ops[1:]
		}
		w.buf = nil
		return true
	}
	var done bool
	if w.buf, done = f.op.Write(w.buf, writeBytes); done || len(w.buf) >= pieceBytes {
		if len(w.buf) > 0 {
			w.send(piece{f.identity, w.buf, w.buf[:0]})
			w.buf = nil
		}
	}
	if done {
		w.ops = w.ops[1:]
	}
	return true
}

// send does not wait: there are no more pieces than buffers.
func (w *writing) send(p piece) {
	w.count++
	select {
	case w.pieces <- p:
	case <-w.finished: // with an error
	}
}

// room takes a buffer.
func (w *writing) room(wait bool) bool {
	if wait {
		select {
		case w.buf = <-w.buffers:
		case <-w.finished:
			return false
		}
	} else {
		select {
		case w.buf = <-w.buffers:
		default:
			return false
		}
	}
	if w.buf == nil {
		w.buf = make([]byte, 0, pieceBytes+writeBytes+writeBytes/2)
	}
	return true
}

// poll is the checkpoint that was being written, once it is durable or has failed; nil
// before.
func (c *checkpoints) poll() *writing {
	w := c.at
	select {
	case <-w.finished:
		c.at = nil
		w.end()
		return w
	default:
		return nil
	}
}

// failed is the checkpoint at hand where it has failed, else nil.
func (c *checkpoints) failed() *writing {
	select {
	case <-c.at.finished:
		if c.at.err != nil {
			return c.poll()
		}
	default:
	}
	return nil
}

// finish writes what is left, however long it takes.
func (c *checkpoints) finish() *writing {
	w := c.at
	for !w.closed && w.piece(true) {
	}
	<-w.finished
	return c.poll()
}

// abandon gives a checkpoint up that is being written, and lets go of files.
func (c *checkpoints) abandon() {
	if w := c.at; w != nil {
		w.end()
		<-w.finished
		c.at = nil
	}
	c.store.Close()
}

func (w *writing) end() {
	w.detach()
	w.cancel()
}

// leave lets a checkpoint that is being written outlast its context; join puts it under
// another one.
func (c *checkpoints) leave() {
	if c.at != nil {
		c.at.detach()
	}
}

func (c *checkpoints) join(ctx context.Context) {
	if w := c.at; w != nil {
		w.detach = context.AfterFunc(ctx, w.cancel)
	}
}

// moved tells that an operator's state is in another one now, of which the rest is
// written. Where that is not so, as its state was made or copied, the next checkpoint has
// all of it.
func (c *checkpoints) moved(op Operator, adopted bool) {
	if !adopted {
		c.store.Forget(op.Identity)
		return
	}
	inc, ok := op.Operator.(cep.Incremental)
	if w := c.at; ok && w != nil {
		for i := range w.ops {
			if w.ops[i].identity == op.Identity && w.ops[i].op != nil {
				w.ops[i].op = inc
			}
		}
	}
}
