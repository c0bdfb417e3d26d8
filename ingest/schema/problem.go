package schema

import (
	"fmt"
	"strings"
)

// Problem is a mistake in something that a person wrote.
type Problem struct {
	File    string // as the person named it
	Line    int    // from 1; 0 where unknown
	Column  int    // from 1; 0 where unknown
	Field   string // dotted path or rule field, such as streams.tx.fields.amount
	Message string // what was found and what was expected
	Hint    string // what to do, such as: did you mean "amount"?
}

// Error is "file:line:column: field: message (hint)".
func (p *Problem) Error() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
			if p.Column > 0 {
				fmt.Fprintf(&b, ":%d", p.Column)
			}
		}
		b.WriteString(": ")
	}
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// Problems is all that was found wrong, in the order of the files.
type Problems []*Problem

// Error has one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As the single problems.
func (ps Problems) Unwrap() []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		errs[i] = p
	}
	return errs
}

// ErrOrNil is ps as an error, nil where nothing is wrong.
func (ps Problems) ErrOrNil() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}

// Suggest is a hint naming the candidate nearest to what was written, or the
// empty string where none is near: `did you mean "amount"?`.
func Suggest(written string, candidates []string) string {
	best, bestDistance := "", len(written)/3+2
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(written), strings.ToLower(c), bestDistance); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("did you mean %q?", best)
}

// editDistance is the optimal string alignment distance (insertions, deletions,
// substitutions, transpositions of neighbours), or limit where it is not below.
func editDistance(a, b string, limit int) int {
	if d := len(a) - len(b); d >= limit || -d >= limit {
		return limit
	}
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return min(prev[len(b)], limit)
}
