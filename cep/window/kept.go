package window

import (
	"math"

	"github.com/weirstream/weir/ingest/event"
)

// What a window of events that are not held keeps of them beside sums, sets and
// sketches: the least and the greatest value, the first and the last one, the two
// latest places. Each begins with a word that says how much is there.
const (
	extremeWords = 2 // there, the value
	endWords     = 3 // there, the time, the value
	placesWords  = 7 // how many, time and place of the latest, of the one before
	placeWords   = 3
)

// keptPart is the part that an aggregate of values needs where no events are held,
// false where it needs none of these.
func keptPart(a Aggregate) (kind partKind, words int, ok bool) {
	switch a {
	case Min:
		return minPart, extremeWords, true
	case Max:
		return maxPart, extremeWords, true
	case First:
		return firstPart, endWords, true
	case Last:
		return lastPart, endWords, true
	case Speed:
		return placesPart, placesWords, true
	}
	return 0, 0, false
}

// keep takes an event into a part.
func (s *store) keep(p *part, c, w []uint64) {
	t, value := event.Time(w[0]), w[1+p.value]
	switch p.kind {
	case minPart, maxPart:
		s.keepExtreme(p, c, value)
	case firstPart:
		if c[0] == 0 || t < event.Time(c[1]) {
			s.keepEnd(p, c, t, value)
		}
	case lastPart:
		if c[0] == 0 || t >= event.Time(c[1]) {
			s.keepEnd(p, c, t, value)
		}
	case placesPart:
		if s.has(w, p.value2) {
			keepPlace(c, [placeWords]uint64{w[0], value, w[1+p.value2]})
		}
	}
}

func (s *store) keepExtreme(p *part, c []uint64, value uint64) {
	if c[0] != 0 {
		order := s.compareValues(s.values[p.value].Type.Kind, value, c[1])
		if order == 0 || order < 0 == (p.kind == maxPart) {
			return
		}
	}
	c[0], c[1] = 1, value
}

func (s *store) keepEnd(p *part, c []uint64, t event.Time, value uint64) {
	if p.holds {
		s.dict.retain(uint32(value))
		if c[0] != 0 {
			s.dict.release(uint32(c[2]))
		}
	}
	c[0], c[1], c[2] = 1, uint64(t), value
}

// keepPlace keeps the two latest; of equal times the one that came last is later.
func keepPlace(c []uint64, place [placeWords]uint64) {
	latest, before := c[1:1+placeWords], c[1+placeWords:]
	switch {
	case c[0] == 0 || int64(place[0]) >= int64(latest[0]):
		copy(before, latest)
		copy(latest, place[:])
	case c[0] == 1 || int64(place[0]) >= int64(before[0]):
		copy(before, place[:])
	}
	c[0] = min(c[0]+1, 2)
}

// speedBetweenPlaces is km/h between the two places.
func speedBetweenPlaces(c []uint64) (float64, bool) {
	if c[0] < 2 {
		return 0, false
	}
	place := func(w []uint64) (event.Time, float64, float64) {
		return event.Time(w[0]), math.Float64frombits(w[1]), math.Float64frombits(w[2])
	}
	t2, lat2, lon2 := place(c[1:])
	t1, lat1, lon1 := place(c[1+placeWords:])
	return speedBetween(t1, lat1, lon1, t2, lat2, lon2)
}

// letGo gives back the texts that a part holds.
func (s *store) letGo(p *part, c []uint64) {
	switch {
	case !p.holds:
	case p.kind == setPart:
		s.eachInSet(c, func(value, _ uint64) { s.dict.release(uint32(value)) })
	case c[0] != 0:
		s.dict.release(uint32(c[2]))
	}
}

// merge adds what a record's parts hold to cells, under the id that these have.
func (s *store) merge(to []uint64, toID uint32, from []uint64, fromID uint32, parts []part) {
	for i := range parts {
		p := &parts[i]
		c, f := to[p.at:p.at+p.words], from[p.at:p.at+p.words]
		switch p.kind {
		case countPart:
			c[0] += f[0]
		case sumPart:
			addLimbs(c, f)
			if w := s.wide[wideKey(fromID, p.at)]; p.double && w != nil {
				s.mergeWide(wideKey(toID, p.at), w)
			}
		case squarePart:
			addLimbs(c, f)
			if w := s.wideSquares[wideKey(fromID, p.at)]; p.double && w != nil {
				s.mergeWideSquares(wideKey(toID, p.at), w)
			}
		case setPart:
			s.eachInSet(f, func(value, times uint64) {
				count := s.setAdd(c, value, times, false)
				if len(c) > blockWords {
					addFrequency(c, count, times, false)
				}
			})
		case sketchPart:
			b := block{f}
			for _, word := range s.words(b)[:b.n()] {
				s.sketchAdd(c, bucketIn(word), uint32(word), false)
			}
		case minPart, maxPart:
			if f[0] != 0 {
				s.keepExtreme(p, c, f[1])
			}
		case firstPart: // panes are merged from the earliest on
			if f[0] != 0 && c[0] == 0 {
				copy(c, f)
			}
		case lastPart:
			if f[0] != 0 {
				copy(c, f)
			}
		case placesPart:
			for n := f[0]; n > 0; n-- { // the earlier one first
				keepPlace(c, [placeWords]uint64(f[1+(n-1)*placeWords:]))
			}
		}
	}
}
