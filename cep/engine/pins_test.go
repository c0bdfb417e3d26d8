package engine

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// pinning notes pins, as a log keeps them.
type pinning struct {
	mu   sync.Mutex
	pins map[string]int64 // by topic and partition, of the engine's one owner of each
}

func (p *pinning) pin(_, topic string, partition int32, from int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if from < 0 {
		delete(p.pins, partName(topic, partition))
		return
	}
	p.pins[partName(topic, partition)] = from
}

// TestPins takes from the log, again and again, what is not pinned, and in other runs
// damages the checkpoints or edits the window, so that state is made again: decisions
// are those of a log that nothing was ever taken from.
func TestPins(t *testing.T) {
	all := int64(0)
	seeds.Each(t, 12, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 3))
		straight, b := newBench(seed, nil), newBench(seed, nil)
		pins := &pinning{pins: map[string]int64{}}
		b.opts.Pin = pins.pin
		for _, one := range []*bench{straight, b} {
			one.stream = testStream(1)
			one.opts.CheckpointEvery = time.Nanosecond
		}
		b.opts.BatchRows = 1 + r.IntN(20)
		now, taken := 1000, int64(0)
		for range 60 {
			for range 2 + r.IntN(16) {
				now += r.IntN(3)
				value := fmt.Sprintf(`{"ts": %d, "key": "k%d", "amount": %d}`, now-r.IntN(4), r.IntN(6), r.IntN(100))
				straight.log.produce("in", 0, value)
				b.log.produce("in", 0, value)
			}
			if b.runEngine(t); t.Failed() {
				return
			}
			from := pins.pins["in/0"]
			for i := taken; i < from; i++ { // retention
				b.log.parts["in/0"].recs[i].Value = []byte("taken")
			}
			taken = max(taken, from)
			switch r.IntN(4) {
			case 0: // another life pins the same before it begins
				b.prog = testProgram{"p1", 20 * time.Second}
			case 1:
				b.prog = reread{testProgram{"p1", 20 * time.Second}, fmt.Sprint(r.Uint64())}
			case 2:
				damageAll(t, b, ".frames")
			}
			b.log.ends = map[string]bool{}
		}
		all += taken
		straight.run(t)
		want, got := straight.outcome(), b.outcome()
		sameResults(t, want, got)
	})
	if all == 0 {
		t.Error("everything was pinned: nothing was tested")
	}
}

// outcome is result but for dead letters: those of what was taken are no matter.
func (b *bench) outcome() map[string][]string {
	out := b.result()
	for name := range out {
		if strings.HasPrefix(name, event.TopicDeadLetters) {
			delete(out, name)
		}
	}
	return out
}

// reread is a program whose operators are not in the checkpoint.
type reread struct {
	testProgram
	identity string
}

func (p reread) Instance(s *schema.Stream) (Instance, error) {
	i, err := newTestInstance(s, p.longest, 0)
	if err == nil {
		i.(*testInstance).op.Identity = p.identity
	}
	return i, err
}

func damageAll(t *testing.T, b *bench, suffix string) {
	t.Helper()
	names, err := b.fs.List("checkpoints/s-0")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if !strings.HasSuffix(n, suffix) {
			continue
		}
		info, err := b.fs.Stat("checkpoints/s-0/" + n)
		if err == nil && info.Size > 0 {
			err = vfs.FlipByte(b.fs, "checkpoints/s-0/"+n, info.Size-1)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
