package schema

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weirstream/weir/test/seeds"
)

func TestProblem(t *testing.T) {
	for _, c := range []struct {
		p    Problem
		want string
	}{
		{Problem{}, ""},
		{Problem{Message: "m"}, "m"},
		{Problem{Field: "streams.tx", Message: "m"}, "streams.tx: m"},
		{Problem{File: "weir.yaml", Message: "m"}, "weir.yaml: m"},
		{Problem{File: "weir.yaml", Line: 3, Message: "m"}, "weir.yaml:3: m"},
		{Problem{File: "weir.yaml", Column: 4, Message: "m"}, "weir.yaml: m"},
		{Problem{File: "weir.yaml", Line: 3, Column: 4, Field: "f", Message: "m", Hint: `did you mean "x"?`}, `weir.yaml:3:4: f: m (did you mean "x"?)`},
	} {
		if got := c.p.Error(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestProblems(t *testing.T) {
	var none Problems
	if err := none.ErrOrNil(); err != nil {
		t.Errorf("no problem is the error %v", err)
	}
	a, b := &Problem{Message: "a"}, &Problem{Message: "b"}
	err := fmt.Errorf("reading: %w", Problems{a, b}.ErrOrNil())
	if got := err.Error(); got != "reading: a\nb" {
		t.Errorf("got %q", got)
	}
	var ps Problems
	if !errors.As(err, &ps) || len(ps) != 2 {
		t.Error("errors.As does not find the Problems")
	}
	var p *Problem
	if !errors.As(err, &p) || p != a || !errors.Is(err, b) {
		t.Error("errors.As and errors.Is do not find the single problems")
	}
}

func TestSuggest(t *testing.T) {
	fields := []string{"amount", "card", "merchant", "country", "terminal", "ts", "id"}
	for written, want := range map[string]string{
		"amuont":       "amount",
		"amout":        "amount",
		"AMOUNT":       "amount",
		"merchent":     "merchant",
		"crad":         "card",
		"tz":           "ts",
		"terminal_id":  "terminal",
		"temperature":  "",
		"xyz":          "",
		"":             "",
		"completelyno": "",
	} {
		got := Suggest(written, fields)
		if want != "" {
			want = fmt.Sprintf("did you mean %q?", want)
		}
		if got != want {
			t.Errorf("Suggest(%q) = %q, want %q", written, got, want)
		}
	}
	if got := Suggest("a", nil); got != "" {
		t.Errorf("without candidates: %q", got)
	}
}

// TestEditDistance compares with the plain recursion.
func TestEditDistance(t *testing.T) {
	r := seeds.Rand(t)
	word := func() string {
		var b strings.Builder
		for range r.IntN(7) {
			b.WriteByte("abc"[r.IntN(3)])
		}
		return b.String()
	}
	for range 2000 {
		a, b, limit := word(), word(), 1+r.IntN(9)
		want := min(recursiveDistance(a, b), limit)
		if got := editDistance(a, b, limit); got != want {
			t.Fatalf("editDistance(%q, %q, %d) = %d, want %d", a, b, limit, got, want)
		}
	}
}

func recursiveDistance(a, b string) int {
	if a == "" || b == "" {
		return len(a) + len(b)
	}
	i, j := len(a)-1, len(b)-1
	cost := 1
	if a[i] == b[j] {
		cost = 0
	}
	d := min(recursiveDistance(a[:i], b)+1, recursiveDistance(a, b[:j])+1, recursiveDistance(a[:i], b[:j])+cost)
	if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
		d = min(d, recursiveDistance(a[:i-1], b[:j-1])+1)
	}
	return d
}
