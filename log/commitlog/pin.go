package commitlog

// A pin says that somebody still needs a partition's records from an offset on.
// Retention by age and size, which is a matter of room, leaves them; what a person asks
// for (DeleteRecords, to delete the topic) does not, and neither does the last resort
// of a full disk, which takes what is not pinned first and says whose pin it broke.
// Pins are not durable: see Options.HoldRetention.

// Pin keeps retention from records at or behind an offset, until the same owner pins
// another offset, which may be lower or higher, or unpins.
func (p *Partition) Pin(owner string, from int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pins == nil {
		p.pins = map[string]int64{}
	}
	p.pins[owner] = from
}

// Unpin takes an owner's pin back.
func (p *Partition) Unpin(owner string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pins, owner)
}

// Pinned is the lowest pin and whose it is, false where there is none.
func (p *Partition) Pinned() (owner string, from int64, pinned bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lowestPin()
}

// lowestPin is Pinned where mu is held.
func (p *Partition) lowestPin() (owner string, from int64, pinned bool) {
	for who, at := range p.pins {
		if !pinned || at < from || at == from && who < owner {
			owner, from, pinned = who, at, true
		}
	}
	return owner, from, pinned
}

// PinnedBytes is how much retention would have deleted but for a pin, when it last
// looked.
func (p *Partition) PinnedBytes() int64 { return p.pinned.Load() }

// hold notes how much retention leaves because of a pin.
func (p *Partition) hold(bytes int64, owner string, from int64) {
	if before := p.pinned.Swap(bytes); before == 0 && bytes > 0 {
		p.log.logger.Warn("retention is held back: what it would delete is still needed", "topic", p.topic.name, "partition", p.index,
			"by", owner, "from", from, "bytes", bytes)
	}
}

// BeginRetention lets retention begin where Options.HoldRetention held it.
func (l *Log) BeginRetention() { l.retaining.Store(true) }
