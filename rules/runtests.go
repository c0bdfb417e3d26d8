package rules

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/ingest/table"
)

// TestResult is what came of one case under tests: of a rule.
type TestResult struct {
	Rule, Name string
	File       string // the rule's file
	Line       int    // of the case
	Events     int
	Fired      []string // ids of the events on which the rule fired
	Missing    []string // expected and did not fire
	Unexpected []string // fired and was not expected
	Err        error    // the case could not be run
}

// Passed reports whether the rule fired where expected and nowhere else.
func (r *TestResult) Passed() bool {
	return r.Err == nil && len(r.Missing) == 0 && len(r.Unexpected) == 0
}

// RunTests runs all cases of a set, each rule alone and whatever its mode. The
// events of a case are the lines of its file: JSON objects, or CSV records of the
// stream's columns where the file's name ends in .csv. A JSON object names the
// fields as the stream's records do, or by the fields' own names for a stream of
// CSV.
func RunTests(set Set, catalog Catalog) []TestResult {
	var out []TestResult
	for i := range set {
		r := set[i]
		if len(r.Tests) == 0 {
			continue
		}
		r.Mode = "live"
		p, err := Compile(Set{r}, catalog)
		for _, c := range r.Tests {
			res := TestResult{Rule: r.ID, Name: c.Name, File: r.File, Line: c.Line, Err: err}
			if err == nil {
				res.run(p, &r, c, catalog)
			}
			out = append(out, res)
		}
	}
	return out
}

func (res *TestResult) run(p *Program, r *Rule, c Test, catalog Catalog) {
	i := slices.IndexFunc(catalog.Streams, func(s *schema.Stream) bool { return s.Schema.Stream == r.Stream })
	s := *catalog.Streams[i]
	if s.Schema.ID < 0 {
		res.Err = fmt.Errorf("stream %s has no id (id: FIELD), by which a case names its events", r.Stream)
		return
	}
	path := filepath.Join(filepath.Dir(r.File), c.File)
	data, err := os.ReadFile(path)
	if err != nil {
		res.Err = err
		return
	}
	switch {
	case filepath.Ext(path) == ".csv":
		s.Format = schema.CSV
	case s.Format == schema.CSV:
		s.Format = schema.JSON
		s.Fields = slices.Clone(s.Fields)
		for i := range s.Fields {
			s.Fields[i].From = ""
		}
	}
	if res.Fired, res.Events, res.Err = fire(p, &s, path, data, catalog.Contents); res.Err != nil {
		return
	}
	res.Missing, res.Unexpected = without(c.Expect, res.Fired), without(res.Fired, c.Expect)
}

// without is the elements of a that are not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// fire decides the events of a file and returns the ids on which the rule fired.
func fire(p *Program, s *schema.Stream, path string, data []byte, contents *table.View) (fired []string, events int, err error) {
	in, err := p.Instance(s)
	if err != nil {
		return nil, 0, err
	}
	if user, looks := in.(engine.TableUser); looks && contents != nil {
		user.UseTables(contents)
	}
	project := append(append(slices.Clone(in.Needs()), s.Schema.ID), s.WatermarkBy...)
	d, err := decode.New(s, project, decode.Options{})
	if err != nil {
		return nil, 0, err
	}
	var recs []source.Record
	for n, line := range bytes.Split(data, []byte("\n")) {
		if line = bytes.TrimSuffix(line, []byte("\r")); len(bytes.TrimSpace(line)) > 0 {
			recs = append(recs, source.Record{Offset: int64(n), Value: line, Timestamp: 1<<63 - 1})
		}
	}
	var bad []error
	var b event.Batch
	b.Reset(s.Schema, project)
	d.Decode(&b, event.Origin{Topic: s.Topic}, recs, func(r *source.Record, f decode.Failure) {
		bad = append(bad, fmt.Errorf("%s:%d: %w", path, r.Offset+1, f))
	})
	if len(bad) > 0 {
		return nil, 0, errors.Join(bad...)
	}
	found, err := decideBatch(p, in, s, &b, contents)
	for _, f := range found {
		fired = append(fired, string(b.Cols[s.Schema.ID].AppendText(nil, f.Row)))
	}
	return fired, b.Len(), err
}

// decideBatch runs a fresh instance over one batch, and the windows that a running
// engine keeps on keyed streams with it.
func decideBatch(p *Program, in engine.Instance, s *schema.Stream, b *event.Batch, contents *table.View) ([]engine.Finding, error) {
	keyed, err := p.keyedOver(s)
	if err != nil {
		return nil, err
	}
	var out cep.Outbox
	out.Reset(in.Features())
	cep.NewClock(s.Lateness, s.WatermarkBy, s.WatermarkIdle).Arrive(b, &out)
	if p, ok := in.(engine.Preparer); ok {
		p.Prepare(b, &out)
	}
	for _, op := range in.Operators() {
		if err := op.Process(b, &out); err != nil {
			return nil, err
		}
	}
	for _, k := range keyed {
		if contents != nil {
			k.UseTables(contents)
		}
		if err := k.run(s.Schema.Stream, b, &out); err != nil {
			return nil, err
		}
	}
	return in.Decide(b, &out, nil)
}
