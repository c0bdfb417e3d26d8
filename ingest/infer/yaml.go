package infer

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/weirstream/weir/ingest/event"
)

// YAML is the streams: block for weir.yaml, each guess explained beside it.
func (g *Guess) YAML() string {
	w := &block{}
	w.line(0, "streams:", "")
	w.line(1, g.Name+":", g.source())
	w.line(2, "time: "+quoted(g.time.name), strings.Join(g.time.why, "; "))
	if g.id != nil {
		w.line(2, "id: "+quoted(g.id.name), "different in every row")
	}
	if g.key != nil {
		w.line(2, "key: "+quoted(g.key.name), g.keyWhy)
	} else {
		w.line(2, "# key:", "no column is there in every row, comes again and is named like a key; windows go by it")
	}
	switch {
	case g.lateness != "":
		w.line(2, "lateness: "+g.lateness, g.lateWhy)
	case g.lateWhy != "":
		w.line(2, "# lateness:", g.lateWhy)
	}
	w.line(2, "fields:", "")
	for i := range g.fields {
		f := &g.fields[i]
		why := f.why
		if f == g.time {
			why = nil // it is told above
		}
		w.line(3, f.declaration(), strings.Join(why, "; "))
	}
	for _, l := range g.left {
		w.line(3, fmt.Sprintf("# %q", l.from), "left out: "+l.why)
	}
	return w.String()
}

// source says what was read.
func (g *Guess) source() string {
	s := fmt.Sprintf("from %s: ", strings.ToValidUTF8(strings.Map(printing, g.File), "?"))
	if g.Whole {
		s += "all " + number(g.Rows) + " rows"
	} else {
		s += "the first " + number(g.Rows) + " rows only, so that later ones may not fit"
	}
	if g.Bad > 0 {
		s += fmt.Sprintf("; %s more are no rows and would be dead letters", number(g.Bad))
	}
	return s
}

func printing(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}

func (f *field) declaration() string {
	var more []string
	if f.from != f.name {
		more = append(more, "from: "+quoted(f.from))
	}
	if f.typ.Kind == event.Timestamp && f.layout != "rfc3339" {
		more = append(more, "layout: "+quoted(f.layout))
	}
	if f.optional {
		more = append(more, "optional: true")
	}
	if len(more) == 0 {
		return quoted(f.name) + ": " + f.typ.String()
	}
	typ := f.typ.String()
	if strings.ContainsAny(typ, ",") {
		typ = `"` + typ + `"`
	}
	return fmt.Sprintf("%s: {type: %s, %s}", quoted(f.name), typ, strings.Join(more, ", "))
}

// words of YAML that would not be text without quotes.
var bare = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
var yamlWords = regexp.MustCompile(`(?i)^(y|n|yes|no|on|off|true|false|null)$`)

func quoted(s string) string {
	if bare.MatchString(s) && !yamlWords.MatchString(s) {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// block is lines with comments, set in one column.
type block struct {
	lines, comments []string
}

func (b *block) line(indent int, text, comment string) {
	b.lines = append(b.lines, strings.Repeat("  ", indent)+text)
	b.comments = append(b.comments, comment)
}

// commentAt is the rightmost place where comments are aligned.
const commentAt = 60

func (b *block) String() string {
	at := 0
	for i, l := range b.lines {
		if b.comments[i] != "" && len(l) <= commentAt {
			at = max(at, len(l))
		}
	}
	var out strings.Builder
	for i, l := range b.lines {
		out.WriteString(l)
		if b.comments[i] != "" {
			out.WriteString(strings.Repeat(" ", max(0, at-len(l))) + "  # " + b.comments[i])
		}
		out.WriteByte('\n')
	}
	return out.String()
}
