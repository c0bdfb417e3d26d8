package commitlog

import "slices"

// Watch has the partition send on c, without ever blocking, whenever something
// that a reader could wait for may have changed: the high watermark, the last
// stable offset, the first offset, the partition's end. One channel with a buffer
// of 1 serves any number of partitions: who is told looks at all of them again. A
// change before Watch is not told, so look after it. Unwatch must follow.
func (p *Partition) Watch(c chan<- struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watchers = append(p.watchers, c)
}

// Unwatch ends one Watch with c.
func (p *Partition) Unwatch(c chan<- struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.watchers, c); i >= 0 {
		p.watchers[i] = p.watchers[len(p.watchers)-1]
		p.watchers[len(p.watchers)-1] = nil
		p.watchers = p.watchers[:len(p.watchers)-1]
	}
}

// signal tells the watchers. The caller holds mu.
func (p *Partition) signal() {
	for _, c := range p.watchers {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}
