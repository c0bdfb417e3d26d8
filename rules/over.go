package rules

import (
	"maps"
	"slices"
	"strings"

	"github.com/weirstream/weir/cep/engine"
)

const (
	// overDepth is how many programs one may stand for.
	overDepth = 6
	// overTries is how many rules are tried one by one.
	overTries = 64
)

// Over implements engine.Stepping: the program with those of its rules that have all their
// windows in the one before, and for the others, as long as theirs are made, what that one
// has in their place. What it keeps is what that one does. It is nil where nothing is won.
func (p *Program) Over(program engine.Program) (engine.Program, error) {
	before, ok := program.(*Program)
	if !ok || strings.Count(before.id, engine.Over) >= overDepth {
		return nil, nil
	}
	has := before.operators()
	if isWithin(p.operators(), has) {
		return nil, nil // it can be in force at once
	}
	takes := map[string]bool{}
	var changed []string
	for i := range p.set {
		r := &p.set[i]
		if old := before.rule(r.ID); old != nil && old.rule.DecidesAs(r) {
			continue
		}
		takes[r.ID] = true
		changed = append(changed, r.ID)
	}
	out, err := p.over(before, takes)
	if err == nil && !maps.Equal(out.operators(), has) {
		if len(changed) > overTries {
			return nil, nil
		}
		clear(takes)
		for _, id := range changed {
			takes[id] = true
			if one, err := p.over(before, takes); err != nil || !maps.Equal(one.operators(), has) {
				delete(takes, id)
			}
		}
		out, err = p.over(before, takes)
	}
	if err != nil || !maps.Equal(out.operators(), has) || slices.EqualFunc(out.deciding(), before.deciding(), (*Rule).DecidesAs) {
		return nil, err
	}
	out.id = p.id + engine.Over + before.id
	for _, r := range out.rules {
		for _, from := range []*Program{before, p} {
			i := slices.IndexFunc(from.rules, func(o *compiledRule) bool { return o.rule.DecidesAs(&r.rule) })
			if i >= 0 {
				r.counters = from.rules[i].counters
			}
		}
	}
	return out, nil
}

// over is the program with the rules of before where they are not taken.
func (p *Program) over(before *Program, takes map[string]bool) (*Program, error) {
	var set, silent Set
	for _, r := range p.set {
		if old := before.rule(r.ID); takes[r.ID] || old != nil && old.rule.DecidesAs(&r) {
			set = append(set, r)
		} else if old != nil {
			set = append(set, old.rule)
		}
	}
	for _, r := range slices.Concat(before.set, before.silent) {
		there := slices.ContainsFunc(slices.Concat(set, silent), func(o Rule) bool { return o.DecidesAs(&r) })
		if r.Mode != "off" && !there {
			silent = append(silent, r)
		}
	}
	return compile(set, silent, p.catalog)
}

// deciding are the rules that are not off.
func (p *Program) deciding() (out []*Rule) {
	for i := range p.set {
		if p.set[i].Mode != "off" {
			out = append(out, &p.set[i])
		}
	}
	return out
}

// operators are the identities of all operators, with where they are.
func (p *Program) operators() map[string]bool {
	all := map[string]bool{}
	for name, s := range p.streams {
		for _, g := range s.groups {
			all[name+" "+g.identity(s.schema)] = true
		}
	}
	for _, k := range p.keyed {
		all["keyed "+k.Name] = true
		for _, g := range k.groups {
			all[k.Name+" "+k.identity(g)] = true
		}
	}
	return all
}

func isWithin(some, all map[string]bool) bool {
	for s := range some {
		if !all[s] {
			return false
		}
	}
	return true
}
