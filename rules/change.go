package rules

import "slices"

// What became of a rule when one program took the place of another.
const (
	Unchanged = "unchanged"
	Changed   = "changed"
	New       = "new"
	Removed   = "removed"
)

// Difference is what became of one rule.
type Difference struct {
	Rule
	Change string
}

// Differences is what became of the rules of the program before, in p's order; those
// that p does not have come last.
func (p *Program) Differences(before *Program) []Difference {
	out := make([]Difference, 0, len(p.rules))
	for _, r := range p.rules {
		d := Difference{Rule: r.rule, Change: New}
		if old := before.rule(r.rule.ID); old != nil {
			if d.Change = Changed; r.rule.DecidesAs(&old.rule) {
				d.Change = Unchanged
			}
		}
		out = append(out, d)
	}
	for _, r := range before.rules {
		if p.rule(r.rule.ID) == nil {
			out = append(out, Difference{Rule: r.rule, Change: Removed})
		}
	}
	return out
}

// Continue lets rules of p that fire on the same condition as before go on counting from
// there. It is called before p decides anything.
func (p *Program) Continue(before *Program) {
	for _, r := range p.rules {
		if old := before.rule(r.rule.ID); old != nil && old.rule.Stream == r.rule.Stream && old.rule.When == r.rule.When {
			r.counters = old.counters
		}
	}
}

func (p *Program) rule(id string) *compiledRule {
	if i := slices.IndexFunc(p.rules, func(r *compiledRule) bool { return r.rule.ID == id }); i >= 0 {
		return p.rules[i]
	}
	return nil
}

// Rule is the rule with that id.
func (p *Program) Rule(id string) (Rule, bool) {
	if r := p.rule(id); r != nil {
		return r.rule, true
	}
	return Rule{}, false
}

// DecidesAs reports whether two rules decide alike: all but what is for people and tests.
func (r *Rule) DecidesAs(o *Rule) bool {
	return r.ID == o.ID && r.Stream == o.Stream && r.When == o.When && r.Action == o.Action && r.Severity == o.Severity &&
		r.Mode == o.Mode && r.Message == o.Message && r.Score == o.Score
}
