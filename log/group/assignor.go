package group

import (
	"cmp"
	"maps"
	"slices"
)

// DefaultAssignor is the assignor of a group whose members ask for none.
const DefaultAssignor = "uniform"

// assignee is a member as an assignor sees it: what it reads, and what it had.
type assignee struct {
	id     string
	topics []topicInfo
	had    Slots
}

// assignors compute the partitions of each member: every partition that somebody
// reads goes to exactly one who reads it. They depend on their input only.
var assignors = map[string]func([]assignee) []Slots{"uniform": assignUniform, "range": assignRange}

// KnownAssignor reports whether there is an assignor of that name.
func KnownAssignor(name string) bool { return assignors[name] != nil }

// readers are the members that read each topic, in order of id.
func readers(in []assignee) (topics []topicInfo, by map[[16]byte][]int) {
	by = map[[16]byte][]int{}
	order := make([]int, len(in))
	for i := range in {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(in[a].id, in[b].id) })
	for _, i := range order {
		for _, t := range in[i].topics {
			if by[t.id] == nil {
				topics = append(topics, t)
			}
			by[t.id] = append(by[t.id], i)
		}
	}
	slices.SortFunc(topics, func(a, b topicInfo) int { return slices.Compare(a.id[:], b.id[:]) })
	return topics, by
}

func newTargets(n int) []Slots {
	out := make([]Slots, n)
	for i := range out {
		out[i] = Slots{}
	}
	return out
}

// assignRange gives each member a run of each topic's partitions, so that topics
// with equal numbers of partitions are divided alike.
func assignRange(in []assignee) []Slots {
	out := newTargets(len(in))
	topics, by := readers(in)
	for _, t := range topics {
		who := by[t.id]
		n, next := int32(len(who)), int32(0)
		for i, m := range who {
			share := t.partitions / n
			if int32(i) < t.partitions%n {
				share++
			}
			for ; share > 0; share-- {
				out[m][Slot{t.id, next}] = struct{}{}
				next++
			}
		}
	}
	return out
}

// assignUniform gives members as equal numbers of partitions as what they read
// allows, and moves as few partitions as that needs: everybody keeps what it had,
// what is free goes to who has least, and then partitions move from who has more to
// who has at least two less.
func assignUniform(in []assignee) []Slots {
	out := newTargets(len(in))
	topics, by := readers(in)
	reads := func(m int, t [16]byte) bool {
		return slices.ContainsFunc(in[m].topics, func(x topicInfo) bool { return x.id == t })
	}
	count := map[[16]byte]int32{}
	for _, t := range topics {
		count[t.id] = t.partitions
	}
	taken := Slots{}
	for i := range in {
		for x := range in[i].had {
			if x.Partition < count[x.Topic] && !taken.has(x) && reads(i, x.Topic) {
				taken[x], out[i][x] = struct{}{}, struct{}{}
			}
		}
	}
	least := func(who []int) int {
		return slices.MinFunc(who, func(a, b int) int { return cmp.Compare(len(out[a]), len(out[b])) })
	}
	// Topics with few readers first: who reads more can take the rest.
	slices.SortStableFunc(topics, func(a, b topicInfo) int { return cmp.Compare(len(by[a.id]), len(by[b.id])) })
	for _, t := range topics {
		for p := range t.partitions {
			if x := (Slot{t.id, p}); !taken.has(x) {
				out[least(by[t.id])][x] = struct{}{}
			}
		}
	}
	for level(out, by, least) {
	}
	return out
}

// level moves partitions from the members that have most; false where none can
// move. Each move makes the sum of the squares smaller, so that it ends.
func level(out []Slots, by map[[16]byte][]int, least func([]int) int) (moved bool) {
	order := make([]int, len(out))
	for i := range out {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(len(out[b]), len(out[a])) })
	// To look for the reader with the fewest for each member and topic would take the
	// square of the members. What is passed over because one has fewer by now than
	// when looked for last moves in the next round.
	fewest := make(map[[16]byte]int, len(by))
	for t, who := range by {
		fewest[t] = len(out[least(who)])
	}
	for _, from := range order {
		for _, x := range slices.SortedFunc(maps.Keys(out[from]), func(a, b Slot) int { return b.compare(a) }) {
			if fewest[x.Topic]+1 >= len(out[from]) {
				continue // its readers all have about as much
			}
			to := least(by[x.Topic])
			if fewest[x.Topic] = len(out[to]); fewest[x.Topic]+1 >= len(out[from]) {
				continue
			}
			delete(out[from], x)
			out[to][x] = struct{}{}
			moved = true
		}
	}
	return moved
}
