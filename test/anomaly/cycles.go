package anomaly

import (
	"fmt"
	"slices"
	"strings"
)

// edge kinds, from what G1c forbids to what only real time forbids.
const (
	readFrom     = 1 << iota // b polled a value that a sent
	processOrder             // b is a later operation of a's process
	timeOrder                // b began after a was completed
)

// cycles looks for circles of operations in which each depends on the one before:
// over values alone, then with the order of processes, then with that of time.
// Readers of uncommitted values are left out.
func (c *checker) cycles() {
	g := c.graph()
	seen := map[int]bool{}
	for _, kind := range []struct {
		name  string
		edges int
	}{{"G1c", readFrom}, {"G1c-process", readFrom | processOrder}, {"G1c-realtime", readFrom | timeOrder}} {
		for _, circle := range g.circles(kind.edges) {
			if slices.ContainsFunc(circle, func(i int) bool { return seen[i] }) {
				continue // told under a stronger name
			}
			var words []string
			for _, i := range circle {
				seen[i] = true
				op := &c.history[i]
				words = append(words, fmt.Sprintf("process %d's operation %d", op.Process, op.Invoked))
			}
			c.report(kind.name, Key{}, "%s depend on each other", strings.Join(words, ", "))
		}
	}
}

// graph is edges between operations, by their place in the history.
type graph struct {
	edges []map[int]int // from: to: kinds
}

func (c *checker) graph() *graph {
	g := &graph{edges: make([]map[int]int, len(c.history))}
	index := make(map[*Op]int, len(c.history))
	for i := range c.history {
		index[&c.history[i]] = i
		g.edges[i] = map[int]int{}
	}
	for i := range c.history {
		op := &c.history[i]
		if op.Uncommitted {
			continue
		}
		for _, s := range op.polls() {
			for _, r := range s.Records {
				if w := c.writer[place{s.Key, r.Value}]; w != nil && w != op {
					g.edges[index[w]][i] |= readFrom
				}
			}
		}
	}
	for _, ops := range c.processes() {
		for i := 1; i < len(ops); i++ {
			g.edges[index[ops[i-1]]][index[ops[i]]] |= processOrder
		}
	}
	c.addTime(g)
	return g
}

// addTime adds an edge from each operation to those that began after it was
// completed, without those that follow from others: b is linked only while no
// operation between them lies wholly after a and before b.
func (c *checker) addTime(g *graph) {
	for i := range c.history { // in order of completion
		a := &c.history[i]
		first := int64(-1) // the earliest completion of what began after a
		for j := i + 1; j < len(c.history); j++ {
			b := &c.history[j]
			if b.Invoked < a.Completed {
				continue
			}
			if first >= 0 && b.Invoked > first {
				continue
			}
			g.edges[i][j] |= timeOrder
			if first < 0 {
				first = b.Completed
			}
		}
	}
}

// circles are the strongly connected components of more than one operation, by
// Tarjan, over edges of the given kinds.
func (g *graph) circles(kinds int) [][]int {
	n := len(g.edges)
	t := tarjan{g: g, kinds: kinds, number: make([]int, n), low: make([]int, n), on: make([]bool, n)}
	for i := range n {
		if t.number[i] == 0 {
			t.visit(i)
		}
	}
	for _, circle := range t.found {
		slices.Sort(circle)
	}
	return t.found
}

type tarjan struct {
	g           *graph
	kinds       int
	count       int
	number, low []int
	on          []bool
	stack       []int
	found       [][]int
}

func (t *tarjan) visit(v int) {
	t.count++
	t.number[v], t.low[v] = t.count, t.count
	t.stack = append(t.stack, v)
	t.on[v] = true
	for w, kinds := range t.g.edges[v] {
		switch {
		case kinds&t.kinds == 0:
		case t.number[w] == 0:
			t.visit(w)
			t.low[v] = min(t.low[v], t.low[w])
		case t.on[w]:
			t.low[v] = min(t.low[v], t.number[w])
		}
	}
	if t.low[v] != t.number[v] {
		return
	}
	from := slices.Index(t.stack, v)
	circle := slices.Clone(t.stack[from:])
	t.stack = t.stack[:from]
	for _, w := range circle {
		t.on[w] = false
	}
	if len(circle) > 1 {
		t.found = append(t.found, circle)
	}
}
