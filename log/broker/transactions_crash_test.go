package broker_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirstream/weir/log/broker"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/loopback"
	"github.com/weirstream/weir/test/seeds"
)

// crashed is a file system as a power failure left it, and what producers had been
// told before: of each value, whether its transaction was committed.
type crashed struct {
	fs   *vfs.Mem
	told map[string]bool
}

// TestTransactionsSurviveCrashes stops the power while producers commit and abort
// transactions over three partitions, at random moments: afterwards each of them is
// whole or not there, and as its producer was told.
func TestTransactionsSurviveCrashes(t *testing.T) {
	eachProtocol(t, func(t *testing.T, opts []kgo.Opt) {
		seed := seeds.One(t)
		r := rand.New(rand.NewPCG(seed, 0))
		fs := vfs.NewMem(seed)
		n := &node{t: t, fs: fs, dir: "data", opt: broker.Options{Logger: quiet}, addr: loopback.Any()}
		n.start()
		defer func() { n.stop() }()
		n.topic("t", 3)
		var mu sync.Mutex
		told := map[string]bool{}
		ctx, stop := context.WithCancel(within(t, 5*time.Minute))
		var producers sync.WaitGroup
		for p := range 3 {
			own := rand.New(rand.NewPCG(seed, uint64(p)))
			cl := n.producer(fmt.Sprint("x", p), opts...)
			producers.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					value, end := fmt.Sprintf("%d-%d", p, i), kgo.TransactionEndTry(own.IntN(3) > 0)
					if err := tryTransact(ctx, cl, end, value); err != nil {
						if ctx.Err() == nil {
							t.Errorf("%s: %v", value, err)
						}
						return
					}
					mu.Lock()
					told[value] = bool(end)
					mu.Unlock()
				}
			})
		}
		var crashes []crashed
		for range seeds.Count(t, 8) {
			time.Sleep(time.Duration(r.IntN(30_000)) * time.Microsecond) // the moment is what is random
			mu.Lock()
			c := crashed{told: maps.Clone(told)}
			mu.Unlock()
			c.fs = fs.CrashClone()
			crashes = append(crashes, c)
		}
		stop()
		producers.Wait()
		for i, c := range crashes {
			c.check(t, i, opts)
		}
		t.Logf("%d transactions, %d crashes", len(told), len(crashes))
	})
}

// tryTransact writes value to all three partitions in one transaction.
func tryTransact(ctx context.Context, cl *kgo.Client, end kgo.TransactionEndTry, value string) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	for p := range int32(3) {
		cl.Produce(ctx, &kgo.Record{Topic: "t", Partition: p, Value: []byte(value)}, nil)
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	return cl.EndTransaction(ctx, end)
}

func (c *crashed) check(t *testing.T, round int, opts []kgo.Opt) {
	n := &node{t: t, fs: c.fs, dir: "data", opt: broker.Options{Logger: quiet}, addr: loopback.Any()}
	n.start()
	defer func() { n.stop() }()
	// Whoever comes with the same ids ends what they left open.
	for p := range 3 {
		transact(t, n.producer(fmt.Sprint("x", p), opts...), kgo.TryCommit, "after", 0, 1, 2)
	}
	for i := range int32(3) {
		p, err := n.log.Partition("t", i)
		if err != nil {
			t.Fatal(err)
		}
		if stable, end := p.LastStableOffset(), p.HighWatermark(); stable != end {
			t.Errorf("crash %d: partition %d is stable up to %d of %d", round, i, stable, end)
		}
	}
	found := map[string]int{}
	for _, v := range n.committed(3) {
		found[v[2:]]++
	}
	if found["after"] != 9 {
		t.Errorf("crash %d: %d records written afterwards are there", round, found["after"])
	}
	delete(found, "after")
	for value, n := range found {
		if n != 3 {
			t.Errorf("crash %d: %d of 3 records of %s are committed", round, n, value)
		}
	}
	for value, commit := range c.told {
		if _, ok := found[value]; ok != commit {
			t.Errorf("crash %d: %s was told commit=%v, and is there: %v", round, value, commit, ok)
		}
	}
}
