package window

import "math/bits"

// arena hands out blocks of 64-bit words by size class: class c has
// unitWords<<c words. A block is named by its first unit's number, not by a
// pointer, so that the collector has nothing to trace. Freed blocks are reused
// within their class.
type arena struct {
	chunks [][]uint64 // by number of unit >> chunkShift
	free   [classes]uint32
	next   uint32 // first unused unit of the newest chunk
	end    uint32 // one past its last
	used   int64  // words in blocks handed out
	held   int64  // words in chunks
}

const (
	unitWords  = 4
	chunkShift = 16 // units in a chunk: 2 MiB, a large page
	chunkUnits = 1 << chunkShift
	classes    = 30
	// sharedClass is the largest class whose blocks share a chunk with others.
	sharedClass = chunkShift - 3
	noBlock     = ^uint32(0)
	hugeFrom    = 8 // chunks from which on large pages are asked for
)

func newArena() arena {
	a := arena{}
	for c := range a.free {
		a.free[c] = noBlock
	}
	return a
}

// classFor is the smallest class of at least that many words.
func classFor(words int) uint8 {
	return uint8(bits.Len(uint((words - 1) / unitWords)))
}

// words is the block's storage, valid until it is freed.
func (a *arena) words(ref uint32, class uint8) []uint64 {
	start := int(ref&(chunkUnits-1)) * unitWords
	return a.chunks[ref>>chunkShift][start : start+unitWords<<class]
}

func (a *arena) alloc(class uint8) uint32 {
	a.used += unitWords << class
	if ref := a.free[class]; ref != noBlock {
		a.free[class] = uint32(a.words(ref, class)[0])
		return ref
	}
	units := uint32(1) << class
	if class > sharedClass {
		return a.addChunk(units)
	}
	if a.end-a.next < units {
		a.next = a.addChunk(chunkUnits)
		a.end = a.next + chunkUnits
	}
	ref := a.next
	a.next += units
	return ref
}

// addChunk makes room for so many units and returns the first. A block larger
// than a chunk has the numbers of several, all behind the first.
func (a *arena) addChunk(units uint32) uint32 {
	ref := uint32(len(a.chunks)) << chunkShift
	if uint64(len(a.chunks))<<chunkShift+uint64(units) >= uint64(noBlock) {
		panic("window: more than 128 GiB of events in one operator")
	}
	a.held += int64(units) * unitWords
	chunk := make([]uint64, int(units)*unitWords)
	if len(a.chunks) >= hugeFrom {
		hugePages(chunk)
	}
	a.chunks = append(a.chunks, chunk)
	for n := uint32(chunkUnits); n < units; n += chunkUnits {
		a.chunks = append(a.chunks, nil)
	}
	return ref
}

func (a *arena) release(ref uint32, class uint8) {
	a.used -= unitWords << class
	a.words(ref, class)[0] = uint64(a.free[class])
	a.free[class] = ref
}
