package window

import (
	"slices"

	"github.com/weirstream/weir/cep"
)

// Adopt implements cep.Heir: it takes over the keys and events of another Sliding as they
// are, where that one has all windows that this one has. Windows that only the other one
// has go on without being read.
func (s *Sliding) Adopt(from cep.Operator) bool {
	f, ok := from.(interface{ sliding() *Sliding })
	if !ok {
		return false
	}
	old := f.sliding()
	if old == s || !old.cfg.keepsFor(&s.cfg) || old.cfg.MaxEvents != s.cfg.MaxEvents {
		return false
	}
	cfg := s.cfg
	*s = *old
	s.moved()
	s.cfg, s.values = cfg, cfg.Values
	s.current = false
	for i := range s.extents {
		s.heir(&s.extents[i], &cfg)
	}
	*old = Sliding{}
	return true
}

func (s *Sliding) sliding() *Sliding { return s }

// Adopt implements cep.Heir, as that of Sliding. The files go over with the rest.
func (l *Long) Adopt(from cep.Operator) bool {
	f, ok := from.(interface{ long() *Long })
	if !ok {
		return false
	}
	old := f.long()
	if old == l || !old.cfg.keepsFor(&l.cfg) {
		return false
	}
	cfg := l.cfg
	*l = *old
	l.moved()
	l.freeze.w = nil // it writes to the cells of old
	l.cfg, l.values = cfg, cfg.Values
	l.current = false
	for i := range l.extents {
		l.heir(&l.extents[i].extent, &cfg)
	}
	*old = Long{}
	return true
}

func (l *Long) long() *Long { return l }

// keepsFor reports whether what an operator of c keeps is what one of o would, and more.
func (c *Config) keepsFor(o *Config) bool {
	same := func(a, b Value) bool {
		return a.Type.Equal(b.Type) && a.Nullable == b.Nullable && a.isText() == b.isText()
	}
	return slices.Equal(c.Keys, o.Keys) && slices.EqualFunc(c.Values, o.Values, same) && (c.Filter == nil) == (o.Filter == nil) &&
		!slices.ContainsFunc(o.Outputs, func(out Output) bool { return !slices.ContainsFunc(c.Outputs, out.is) })
}

// is reports whether two outputs say the same.
func (o Output) is(other Output) bool {
	o.Slot = other.Slot
	return o == other
}

// moved points the store to itself once it is where another one was.
func (s *store) moved() {
	s.table.less, s.dict.arena = s.less, &s.arena
	if s.dict.table.less != nil {
		s.dict.table.less = s.dict.less
	}
}

// heir leaves of what is read of an extent that which a configuration reads, at its slots.
func (s *store) heir(x *extent, cfg *Config) {
	all := x.out
	x.out = nil
	for _, o := range cfg.Outputs {
		if i := slices.IndexFunc(all, func(r read) bool { return r.is(o) }); i >= 0 {
			r := all[i]
			r.Slot = o.Slot
			s.current = s.current || o.Aggregate.readsCurrent()
			x.out = append(x.out, r)
		}
	}
}
