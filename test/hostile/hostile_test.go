package hostile

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/test/published"
)

var rewrite = flag.Bool("rewrite", false, "accept what is seen: write docs/reference/hostile.md")

// memoryMax bounds what one input may add to the heap, client, broker and server
// together. A body over HTTP may have 32 MiB, and grows by doubling.
const memoryMax = 160 << 20

// TestHostile tries every case on every way in and compares what each gets with
// docs/reference/hostile.md.
func TestHostile(t *testing.T) {
	path := filepath.Join(published.Root(t), "docs", "reference", "hostile.md")
	h := newHouse(t)
	var b strings.Builder
	b.WriteString(preamble)
	b.WriteString(h.rows("JSON, one event", schema.JSON, jsonRows()))
	b.WriteString(h.rows("CSV, one event", schema.CSV, csvRows()))
	b.WriteString(h.wholes())
	b.WriteString(h.requests())
	got := b.String()
	if t.Failed() {
		return
	}
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) == got {
		return
	}
	t.Errorf("docs/reference/hostile.md is not what is seen; to accept: go test ./test/hostile -rewrite")
	was := strings.Split(string(want), "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(was) || was[i] != line {
			t.Fatalf("line %d is\n%s\nwhere it was\n%s", i+1, line, strings.Join(was[min(i, len(was)):min(i+1, len(was))], ""))
		}
	}
}

const preamble = `# What bad input gets

Made by ` + "`go test ./test/hostile -rewrite`" + `, which tries each case on a stream declared
` + declared + `.

As a record is what a Kafka client sends, decoded as the engine does; in a file is
` + "`weir load`" + `, over HTTP is ` + "`POST /v1/streams/NAME/events`" + `. In files and bodies a bad event
stands between two good ones, which the tests find in the log each time. A refused
event is in ` + "`weir.deadletters`" + ` with its reason, its place and its raw bytes (at most
64 KiB of them). Nothing is lost in silence: the tests count. A file is history, whose
records bear the times of their events; max_ahead is measured from the time of the load.
`

// within runs f as a test of its own, to which the house then belongs.
func (h *house) within(name string, f func()) {
	outer := h.t
	outer.Run(name, func(t *testing.T) {
		h.t = t
		defer func() { h.t = outer }()
		f()
	})
}

// rows is the table of single events.
func (h *house) rows(title string, format schema.Format, cases []one) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n| input | as a record | in a file | over HTTP |\n|---|---|---|---|\n", title)
	good, head, kind := goodJSON, "", "Content-Type: application/x-ndjson"
	if format == schema.CSV {
		good, head, kind = goodCSV, csvHead+"\n", "Content-Type: text/csv"
	}
	for _, c := range cases {
		h.within(title+"/"+c.name, func() {
			content := text(head + good + "\n" + c.text + "\n" + good + "\n")
			s := h.stream(format)
			f, shown := decoded(h.t, s, c.text, c.show)
			alone := taken(c.show, shown)
			if f.Reason != "" {
				alone = refused(f.Reason, f.Field, f.Detail)
			}
			file := h.between(s, h.load(s, content), c)
			s = h.stream(format)
			body := h.between(s, h.post(s, content, kind), c)
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.name, alone, same(file, alone), same(body, alone))
		})
	}
	return b.String()
}

// between says what became of the event between two good ones.
func (h *house) between(s *schema.Stream, r result, c one) string {
	h.t.Helper()
	switch {
	case r.err != "":
		h.t.Errorf("the good events around were refused: %s", r.err)
	case len(r.taken) == 2 && len(r.dead) == 1:
		return refused(r.dead[0].Reason, r.dead[0].Field, r.dead[0].Detail)
	case len(r.taken) == 3 && len(r.dead) == 0:
		_, shown := decoded(h.t, s, r.taken[1], c.show)
		return taken(c.show, shown)
	default:
		h.t.Errorf("of 3 events %d were taken and %d refused", len(r.taken), len(r.dead))
	}
	return ""
}

// wholes is the table of whole files and bodies.
func (h *house) wholes() string {
	var b strings.Builder
	b.WriteString("\n## Files and bodies\n\n| input | as a file | over HTTP |\n|---|---|---|\n")
	for _, c := range wholes(h.t) {
		h.within("whole/"+c.name, func() {
			kind := map[schema.Format]string{schema.JSON: "Content-Type: application/x-ndjson", schema.CSV: "Content-Type: text/csv"}[c.format]
			if c.kind != "" {
				kind = "Content-Type: " + c.kind
			}
			headers := []string{kind}
			if c.gzip {
				headers = append(headers, "Content-Encoding: gzip")
			}
			// The records are as the stream's format says; a file's may be either.
			var file, body result
			grown := heapGrowth(func() { file = h.load(h.stream(c.format), c.content) })
			grown = max(grown, heapGrowth(func() { body = h.post(h.stream(c.format), c.content, headers...) }))
			h.t.Logf("the heap grew by %d MiB", grown>>20)
			if grown > memoryMax {
				h.t.Errorf("the heap grew by %d MiB, at most %d are allowed", grown>>20, memoryMax>>20)
			}
			if c.taken >= 0 && int64(len(file.taken)) != c.taken {
				h.t.Errorf("%d events of the file were taken, expected %d: %s", len(file.taken), c.taken, file)
			}
			if len(file.taken)+len(file.dead) == 0 && file.err == "" && !c.nothing {
				h.t.Error("lost in silence")
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", c.name, file, body)
		})
	}
	fmt.Fprintf(&b, "\nWhat any of these adds to memory, client, broker and server together, stays under\n%d MiB; the test measures it.\n", memoryMax>>20)
	return b.String()
}

// requests is the table of what is asked for wrongly.
func (h *house) requests() string {
	var b strings.Builder
	b.WriteString("\n## Requests\n\n| request | answer |\n|---|---|\n")
	for _, c := range []struct {
		name, stream string
		headers      []string
	}{
		{"unknown stream", "paymets", []string{"Content-Type: application/json"}},
		{"no content type", "payments", nil},
		{"wrong content type", "payments", []string{"Content-Type: text/plain"}},
		{"a character set other than UTF-8", "payments", []string{"Content-Type: application/json; charset=latin1"}},
		{"a content encoding other than gzip", "payments", []string{"Content-Type: application/json", "Content-Encoding: br"}},
		{"said to be gzip and is not", "payments", []string{"Content-Type: application/json", "Content-Encoding: gzip"}},
	} {
		h.within("request/"+c.name, func() {
			r := h.postTo(c.stream, h.stream(schema.JSON), text(goodJSON), c.headers...)
			if len(r.taken)+len(r.dead) > 0 || r.err == "" {
				h.t.Errorf("%+v", r)
			}
			fmt.Fprintf(&b, "| %s | %s |\n", c.name, r)
		})
	}
	return b.String()
}

func taken(field, value string) string {
	if field == "" {
		return "taken"
	}
	return fmt.Sprintf("taken: %s is %s", field, code(value))
}

func refused(reason, field, detail string) string {
	s := "refused, " + code(reason)
	if field != "" {
		s += " in " + field
	}
	return s + ": " + clean(detail)
}

func same(what, as string) string {
	if what == as {
		return "the same"
	}
	return what
}

// String is a line of the table.
func (r result) String() string {
	var parts []string
	if n := len(r.taken); n > 0 {
		parts = append(parts, fmt.Sprintf("%d taken", n))
	}
	const listed = 2
	for i, d := range r.dead {
		if i == listed {
			parts = append(parts, fmt.Sprintf("%d more refused", len(r.dead)-listed))
			break
		}
		parts = append(parts, fmt.Sprintf("line %d %s", d.Line, refused(d.Reason, d.Field, d.Detail)))
	}
	if r.err != "" {
		lines := strings.Split(r.err, "\n")
		if len(lines) > listed {
			lines = append(lines[:listed], fmt.Sprintf("and %d more", len(lines)-listed))
		}
		parts = append(parts, "error: "+clean(strings.Join(lines, "; ")))
	}
	if len(parts) == 0 {
		return "nothing to take, no error"
	}
	return strings.Join(parts, "; ")
}

func code(s string) string { return "`" + clean(s) + "`" }

// clean makes text fit for a cell of a table.
func clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '|':
			b.WriteString(`\|`)
		case r == '\n':
			b.WriteByte(' ')
		case r < 0x20 || r == utf8.RuneError || r == 0x7f:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
