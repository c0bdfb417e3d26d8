package loader_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
)

// TestAgainInterrupted interrupts a repeated load: with Again once more it would
// begin anew and double what is there, so the error says how to resume it.
func TestAgainInterrupted(t *testing.T) {
	n := startNode(t)
	const rows = 60_000
	path, dead := generated(t, "rows.csv", rows, 777, 31)
	if _, err := load(n, path, transactions(schema.JSON)); err != nil {
		t.Fatal(err)
	}
	topic, ok := n.log.Topic("transactions")
	if !ok {
		t.Fatal("no topic")
	}
	p, _ := topic.Partition(0)
	end := p.End()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		if p.Wait(ctx, end) == nil {
			cancel()
		}
	}()
	_, err := loader.Load(ctx, path, loader.Options{Addr: n.addr, Stream: transactions(schema.JSON), Again: true, Logger: discard})
	if !errors.Is(err, loader.ErrInterrupted) || !strings.Contains(err.Error(), "without --again") {
		t.Fatalf("error %v", err)
	}
	if _, err := load(n, path, transactions(schema.JSON)); err != nil {
		t.Fatal(err)
	}
	if got := n.count("transactions"); got != 2*(rows-dead) {
		t.Errorf("%d rows, want %d", got, 2*(rows-dead))
	}
}

// TestFileGrows appends to a file while it is loaded: its next load would have
// another id and write all rows once more, which has to be said.
func TestFileGrows(t *testing.T) {
	n := startNode(t)
	path, _ := generated(t, "rows.csv", 100, 0, 32)
	n.stop() // the load opens the file and waits for the broker
	done := make(chan error, 1)
	waits := make(chan struct{})
	ctx := &noticed{Context: t.Context(), seen: waits}
	go func() {
		_, err := loader.Load(ctx, path, loader.Options{Addr: n.addr, Stream: transactions(schema.JSON), Logger: discard})
		done <- err
	}()
	<-waits
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("100,2018-04-02 00:00:00,1,1,1.00,1,0\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	n.start()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "was written to while it was loaded") {
		t.Fatalf("error %v", err)
	}
}

// noticed is a context that tells when it is first asked: after the file is open.
type noticed struct {
	context.Context
	seen chan struct{}
	once sync.Once
}

func (c *noticed) Done() <-chan struct{} {
	c.once.Do(func() { close(c.seen) })
	return c.Context.Done()
}
