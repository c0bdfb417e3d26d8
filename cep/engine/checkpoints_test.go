package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/checkpoint"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/vfs"
)

// slowSink makes an output durable when it is told to.
type slowSink struct {
	*memLog
	asked chan struct{}
	let   chan error
}

func (s slowSink) Durable(ctx context.Context, topic string, partition int32, offset int64) error {
	if topic != event.TopicDecisions {
		return s.memLog.Durable(ctx, topic, partition, offset)
	}
	select {
	case s.asked <- struct{}{}:
	default:
	}
	select {
	case err := <-s.let:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestGoesOnMeanwhile: while the outputs of a checkpoint are not durable, the shard
// decides what comes; the checkpoint is there when they are.
func TestGoesOnMeanwhile(t *testing.T) {
	b := newBench(31, nil)
	b.stream = testStream(1)
	b.log.produce("in", 0, `{"ts": 1000, "key": "k", "amount": 96}`)
	registry := prometheus.NewRegistry()
	slow := slowSink{b.log, make(chan struct{}, 1), make(chan error)}
	e := b.engine(t, func(o *Options) { o.Sink, o.Registerer, o.CheckpointEvery = slow, registry, time.Nanosecond })
	stop := start(t, e)
	<-slow.asked
	for i := range 50 {
		b.log.produce("in", 0, fmt.Sprintf(`{"ts": %d, "key": "k", "amount": 96}`, 1001+i))
		b.log.waitEnds("in", 1)
	}
	waitUntil(t, "all is decided", func() bool { return e.Status()[0].Cursor == 51 })
	if names, err := b.fs.List("checkpoints/s-0"); err == nil && strings.Contains(fmt.Sprint(names), ".manifest") {
		t.Errorf("a checkpoint before its outputs were durable: %v", names)
	}
	if e.shards()[0].metrics.pause == nil || testutil.CollectAndCount(registry, "weir_engine_checkpoint_pause_seconds") != 1 {
		t.Error("no pause is told")
	}
	close(slow.let) // the checkpoint at hand, and all others
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if st, err := e.shards()[0].newest(1 << 60); err != nil || st == nil || st.cursor != 51 {
		t.Errorf("the last checkpoint is %+v %v", st, err)
	}
}

// TestCheckpointFails: a checkpoint whose outputs do not become durable, or that cannot
// be written, stops the shard with the reason; it begins again from the one before.
func TestCheckpointFails(t *testing.T) {
	b := newBench(32, nil)
	b.stream = testStream(1)
	b.log.produce("in", 0, `{"ts": 1000, "key": "k", "amount": 96}`)
	faulty := vfs.NewFaulty(b.fs)
	faulty.FailSync(0, errors.New("no sync"))
	e := b.engine(t, func(o *Options) { o.FS, o.CheckpointEvery = faulty, time.Nanosecond })
	stop := start(t, e)
	waitUntil(t, "the shard starts again and gets somewhere", func() bool {
		st := e.Status()[0]
		return st.Restarts > 0 && st.Err == "" && st.Cursor == 1
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if got := b.log.outputOf(event.TopicDecisions, outputPartitions, "in/0"); len(got) != 1 {
		t.Errorf("decisions %q", got)
	}
}

func waitUntil(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// wholeOperator is not incremental: it counts rows.
type wholeOperator struct{ rows *uint64 }

func (o wholeOperator) Process(b *event.Batch, _ *cep.Outbox) error {
	*o.rows += uint64(b.Len())
	return nil
}
func (wholeOperator) Advance(event.Time, *cep.Outbox) error { return nil }

func (o wholeOperator) Snapshot(w *cep.SnapshotWriter) error {
	w.Uvarint(*o.rows)
	w.Bytes(make([]byte, 3*pieceBytes))
	return nil
}

func (o wholeOperator) Restore(r *cep.SnapshotReader) error {
	*o.rows = r.Uvarint()
	if n := len(r.Bytes(nil, 3*pieceBytes)); n != 3*pieceBytes {
		return fmt.Errorf("%d bytes: %w", n, r.Err())
	}
	return nil
}

// wholeProgram has such an operator beside the others, and tells its rows in alerts.
type wholeProgram struct{ testProgram }

type wholeInstance struct {
	*testInstance
	whole wholeOperator
}

func (p wholeProgram) Instance(s *schema.Stream) (Instance, error) {
	i, err := newTestInstance(s, p.longest, 0)
	if err != nil {
		return nil, err
	}
	return &wholeInstance{i.(*testInstance), wholeOperator{new(uint64)}}, nil
}

func (i *wholeInstance) Operators() []Operator {
	return []Operator{i.op, {Identity: "whole", Name: "whole", Operator: i.whole}}
}

func (i *wholeInstance) Decide(b *event.Batch, _ *cep.Outbox, dst []Finding) ([]Finding, error) {
	for row := range b.Len() {
		if n := *i.whole.rows - uint64(b.Len()-row-1); n%10 == 0 {
			dst = append(dst, Finding{Row: row, Rule: "tenth", Action: "alert", Severity: "low", Message: fmt.Sprint(n)})
		}
	}
	return dst, nil
}

// TestWholeState restores an operator that is written as a whole, in several pieces,
// from checkpoints that overlap with what goes on.
func TestWholeState(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 33))
	b := newBench(33, nil)
	b.stream = testStream(1)
	b.prog = wholeProgram{testProgram{"p1", time.Minute}}
	b.opts.CheckpointEvery, b.opts.BatchRows = time.Nanosecond, 7
	n := 0
	for range 8 {
		for range 1 + r.IntN(60) {
			b.log.produce("in", 0, fmt.Sprintf(`{"ts": %d, "key": "k", "amount": 1}`, 1000+n))
			n++
		}
		b.run(t)
		b.fs = b.fs.CrashClone()
	}
	alerts := b.log.outputOf(event.TopicAlerts, outputPartitions, "in/0")
	if len(alerts) != n/10 {
		t.Fatalf("%d alerts of %d events", len(alerts), n)
	}
	for i, a := range alerts {
		if !strings.Contains(a, fmt.Sprintf(`"message":"%d"`, 10*(i+1))) {
			t.Errorf("alert %d: %s", i, a)
		}
	}
}

// slowOperator writes its state in so many pieces, each of which takes a while.
type slowOperator struct {
	cep.Incremental
	pieces int
	takes  time.Duration
}

func (o *slowOperator) Size() (changed, all int64) { return 1, 1 }

func (o *slowOperator) Freeze(share uint64) (turn uint64) { return share }

func (o *slowOperator) Write(dst []byte, _ int) (_ []byte, done bool) {
	time.Sleep(o.takes)
	o.pieces--
	return append(dst, 'x'), o.pieces == 0
}

// TestCheckpointShare: a shard gives a fourth of its time at most to a checkpoint, and no
// more than a millisecond at once, however long or short its batches are.
func TestCheckpointShare(t *testing.T) {
	for _, batch := range []time.Duration{10 * time.Microsecond, 50 * time.Microsecond, time.Millisecond, 10 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) { // its clock goes on while somebody sleeps, and not else
			const pieces, takes = 200, 50 * time.Microsecond // the last call of a step begins within its time
			op := &slowOperator{pieces: pieces, takes: takes}
			ops := []Operator{{Identity: "slow", Operator: op}}
			c := checkpoints{store: checkpoint.Open(vfs.NewMem(1), "checkpoints")}
			settled := func(context.Context) error { return nil }
			if err := c.begin(t.Context(), 1, nil, ops, settled); err != nil {
				t.Fatal(err)
			}
			var m meter
			decided, held := time.Duration(0), time.Duration(0)
			for w := (*writing)(nil); w == nil; decided += batch {
				begun := time.Now()
				w = c.goOn(&m, ops)
				took := time.Since(begun)
				if held += took; took > slice || held > decided/sliceShare {
					t.Fatalf("batches of %v: of %v the checkpoint held the shard for %v, of that now for %v", batch, decided, held, took)
				}
				if w != nil && w.err != nil {
					t.Fatal(w.err)
				}
				time.Sleep(batch)
			}
			if held != pieces*takes {
				t.Errorf("batches of %v: the state was written in %v", batch, held)
			}
		})
	}
}
