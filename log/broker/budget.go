package broker

import (
	"context"
	"sync"
)

// budget bounds the bytes that all connections hold at once. A taker waits while
// nothing is left and may then overdraw once: so any single request fits. Who holds
// a share already waits for another for a limited time only.
type budget struct {
	mu    sync.Mutex
	all   int64
	left  int64
	ready chan struct{} // closed and replaced when left becomes positive
}

func newBudget(n int64) *budget {
	return &budget{all: n, left: n, ready: make(chan struct{})}
}

// take waits until something is left and takes n bytes.
func (b *budget) take(ctx context.Context, n int64) error {
	for {
		b.mu.Lock()
		if b.left > 0 {
			b.left -= n
			b.mu.Unlock()
			return nil
		}
		ready := b.ready
		b.mu.Unlock()
		select {
		case <-ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// overdraw takes n bytes, whatever is left.
func (b *budget) overdraw(n int64) { b.takeUpTo(n, n) }

// takeUpTo takes what is left, at most n and at least floor, without waiting.
func (b *budget) takeUpTo(n, floor int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = max(min(n, b.left), floor)
	b.left -= n
	return n
}

// give returns n bytes.
func (b *budget) give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.left
	b.left += n
	if was <= 0 && b.left > 0 {
		close(b.ready)
		b.ready = make(chan struct{})
	}
}

// held is what is taken, more than there is where it is overdrawn.
func (b *budget) held() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all - b.left
}
