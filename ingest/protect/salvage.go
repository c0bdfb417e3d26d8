package protect

import (
	"bytes"
)

// salvage appends to w.out what follows the fault of a JSON value that does not
// parse, without the values of members that are called like a sensitive one,
// wherever they stand, and reports whether it left any out. Every quote may begin a
// name, because the fault may be a quote too many.
func (w *worker) salvage() (any bool) {
	b := w.src[w.copied:]
	if w.plan.root == nil {
		w.out = append(w.out, b...)
		return false
	}
	copied := 0
	for i := 0; i < len(b); i++ {
		at := w.sensitiveMember(b, i)
		if at < 0 {
			continue
		}
		w.out = append(append(w.out, b[copied:at]...), "null"...)
		any = true
		w.tally.misfit++
		if copied = brokenEnd(b, at); copied < 0 { // where it ends cannot be said
			return true
		}
		i = copied - 1
	}
	w.out = append(w.out, b[copied:]...)
	return any
}

// sensitiveMember is where the value of a member begins whose name, in quotes at i,
// is that of a sensitive field; -1 where there is no such name.
func (w *worker) sensitiveMember(b []byte, i int) int {
	quote := b[i]
	if quote != '"' && quote != '\'' {
		return -1
	}
	n := bytes.IndexByte(b[i+1:], quote)
	if n < 0 {
		return -1
	}
	name := b[i+1 : i+1+n]
	if bytes.IndexByte(name, '\\') >= 0 {
		w.name = unescape(w.name[:0], name)
		name = w.name
	}
	if !w.plan.secrets[string(name)] && !isForbidden(name) {
		return -1
	}
	at := skipSpace(b, i+n+2)
	if at >= len(b) || b[at] != ':' {
		return -1
	}
	return skipSpace(b, at+1)
}

// brokenEnd is the end of a value among what does not parse, -1 where it cannot be
// told.
func brokenEnd(b []byte, i int) int {
	if i < len(b) && b[i] == '\'' {
		n := bytes.IndexByte(b[i+1:], '\'')
		if n < 0 {
			return -1
		}
		return i + n + 2
	}
	end, _, _ := skipValue(b, i)
	return end
}

// noteSecrets collects the names of the members that are sensitive, and of the lists
// and maps that hold what is. Card numbers in free text are found as elsewhere.
func (n *node) noteSecrets(p *plan) {
	for name, child := range n.children {
		if child.field >= 0 && p.fields[child.field].policy != "" || child.secret && child.elem != nil {
			p.secrets[name] = true
		}
		child.noteSecrets(p)
	}
	if n.elem != nil {
		n.elem.noteSecrets(p)
	}
}
