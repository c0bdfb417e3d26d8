package infer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/loader"
	"github.com/weirstream/weir/ingest/schema"
)

// columnsMax is how many columns, or paths of JSON members, are looked at.
const columnsMax = 512

// Options of File. The zero value is the default.
type Options struct {
	Name string // of the stream; empty: made from the file's
	Rows int64  // how many rows to read; 0: all
	// Progress is called from time to time with how far the file was read.
	Progress func(rows, read, total int64)
}

// Guess is what a file was found to be.
type Guess struct {
	File  string
	Name  string // of the stream
	Rows  int64  // read
	Bad   int64  // that are no rows at all, such as lines that are not JSON
	Whole bool   // all rows were read
	CSV   bool

	columns []*column
	fields  []field
	left    []left // columns without a field
	time    *field
	key     *field
	id      *field
	keyWhy  string

	lateness, lateWhy string // see SetDisorder
}

type left struct{ from, why string }

// File reads a file and guesses. An error that is the file's fault is a
// *schema.Problem.
func File(ctx context.Context, path string, o Options) (*Guess, error) {
	lines, err := loader.OpenLines(ctx, path, ',')
	if err != nil {
		return nil, err
	}
	g := &Guess{File: filepath.Base(path), Name: o.Name, CSV: lines.Header() != nil}
	if g.Name == "" {
		g.Name = streamName(g.File)
	}
	err = g.read(ctx, lines, o)
	if cerr := lines.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	if g.Rows == 0 {
		return nil, &schema.Problem{File: path, Message: "there is no row to learn from"}
	}
	if p := g.decide(); p != nil {
		p.File = path
		return nil, p
	}
	return g, nil
}

func (g *Guess) read(ctx context.Context, lines *loader.Lines, o Options) error {
	for _, name := range lines.Header() {
		g.columns = append(g.columns, newColumn(name))
	}
	tree := newTree(g)
	for o.Rows == 0 || g.Rows < o.Rows {
		raw, cells, bad := lines.Next()
		if raw == nil && bad == "" {
			g.Whole = true
			break
		}
		switch {
		case bad != "":
			g.Bad++
			continue
		case g.CSV:
			for i, c := range cells {
				if len(c) > 0 {
					g.columns[i].add(c, cellText)
				}
			}
		case !tree.add(raw):
			g.Bad++
			continue
		}
		g.Rows++
		if g.Rows%10_000 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if o.Progress != nil {
				read, total := lines.Read()
				o.Progress(g.Rows, read, total)
			}
		}
	}
	tree.foldMaps()
	return lines.Err()
}

// tree finds the columns of JSON objects: one for each path to a value.
type tree struct {
	g     *Guess
	paths map[string]*column
	// objects are those on the way to values, which may be maps.
	objects map[string]*shape
}

func newTree(g *Guess) *tree {
	return &tree{g: g, paths: map[string]*column{}, objects: map[string]*shape{}}
}

// add takes an object, false where it is none.
func (t *tree) add(raw []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var object map[string]any
	if dec.Decode(&object) != nil || object == nil || dec.More() {
		return false
	}
	t.walk("", object, 1)
	return true
}

func (t *tree) walk(prefix string, object map[string]any, depth int) {
	names := make([]string, 0, len(object))
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names) // for the same block each time
	for _, name := range names {
		if name == "" || strings.Contains(name, ".") {
			t.left(prefix+name, "a name with a dot in it cannot be told from a path")
			continue
		}
		path := prefix + name
		switch v := object[name].(type) {
		case nil:
		case string:
			t.column(path, []byte(v), jsonText)
		case json.Number:
			t.column(path, []byte(v), jsonNumber)
		case bool:
			t.column(path, fmt.Appendf(nil, "%t", v), jsonTruth)
		case map[string]any:
			if depth < decode.MaxDepth {
				t.object(path, v)
				t.walk(path+".", v, depth+1)
			}
		default:
			if c := t.column(path, nil, jsonNested); c != nil {
				if c.inside == nil {
					c.inside = &shape{}
				}
				c.inside.add(v, 1)
			}
		}
	}
}

// object notes the members of an object, in case that it is a map.
func (t *tree) object(path string, v map[string]any) {
	s := t.objects[path]
	if s == nil {
		if len(t.objects) == columnsMax {
			return
		}
		s = &shape{}
		t.objects[path] = s
	}
	s.add(v, 1)
}

// foldMaps makes one column of all that are within a map.
func (t *tree) foldMaps() {
	for _, path := range slices.Sorted(maps.Keys(t.objects)) {
		s := t.objects[path]
		typ, ok := s.typ()
		if !ok || typ.Kind != event.Map {
			continue
		}
		within := func(c *column) bool { return strings.HasPrefix(c.from, path+".") }
		first := slices.IndexFunc(t.g.columns, within)
		if first < 0 {
			continue
		}
		c := newColumn(path)
		c.nested, c.present, c.inside = true, s.objects, s
		c.unique = false
		t.g.columns[first] = c
		t.g.columns = slices.DeleteFunc(t.g.columns, within)
	}
}

func (t *tree) column(path string, text []byte, k kind) *column {
	c := t.paths[path]
	if c == nil {
		if len(t.paths) == columnsMax {
			return nil
		}
		c = newColumn(path)
		t.paths[path] = c
		t.g.columns = append(t.g.columns, c)
	}
	c.add(text, k)
	return c
}

func (t *tree) left(from, why string) {
	if len(t.g.left) < columnsMax && !slices.Contains(t.g.left, left{from, why}) {
		t.g.left = append(t.g.left, left{from, why})
	}
}
