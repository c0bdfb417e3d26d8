package rules

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/cep/reservoir"
	"github.com/weirstream/weir/cep/window"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/table"
)

// keyedProgram is what runs on one keyed stream.
type keyedProgram struct {
	engine.Keyed
	groups []keyedGroup
}

// keyedGroup is windows over one source for the rules of one.
type keyedGroup struct {
	*group
	over, reader int // sources
}

// keyedStreams brings the windows that the streams' own shards cannot keep onto keyed
// streams: those of one stream by one key, and those of another stream that ask by the
// same key, together.
func (c *compiler) keyedStreams() []*keyedProgram {
	type wanted struct {
		*group
		reader *streamBuilder
	}
	var all []wanted
	for _, s := range c.active {
		for _, g := range s.keyed {
			all = append(all, wanted{g, s})
		}
	}
	slices.SortFunc(all, func(a, b wanted) int {
		return cmp.Or(cmp.Compare(a.reader.schema.Stream, b.reader.schema.Stream), cmp.Compare(a.canonical, b.canonical), cmp.Compare(a.kind(), b.kind()))
	})
	var out []*keyedProgram
	for _, w := range all {
		at := slices.IndexFunc(out, func(k *keyedProgram) bool {
			return k.fits(w.over, w.keys) && k.fits(w.reader, w.now) && k.shares(w.over, w.reader)
		})
		if at < 0 {
			at = len(out)
			out = append(out, &keyedProgram{})
		}
		k := out[at]
		g := keyedGroup{group: w.group, over: k.add(w.over, w.keys, w.needs), reader: k.add(w.reader, w.now, nil)}
		reads := &k.Sources[g.reader].Reads
		for _, o := range w.outputs {
			*reads = append(*reads, o.Slot)
		}
		k.groups = append(k.groups, g)
	}
	for _, k := range out {
		k.Name = k.name()
	}
	return out
}

// fits reports whether a stream's events can be in the keyed stream by a key.
func (k *keyedProgram) fits(s *streamBuilder, key []int) bool {
	at := k.source(s)
	return at < 0 || slices.Equal(k.Sources[at].Key, key)
}

func (k *keyedProgram) shares(a, b *streamBuilder) bool { return k.source(a) >= 0 || k.source(b) >= 0 }

func (k *keyedProgram) source(s *streamBuilder) int {
	return slices.IndexFunc(k.Sources, func(src engine.KeyedSource) bool { return src.Stream.Schema.Stream == s.schema.Stream })
}

// add makes a stream a source that takes some fields along, and returns its index.
func (k *keyedProgram) add(s *streamBuilder, key []int, fields map[int]bool) int {
	at := k.source(s)
	if at < 0 {
		at = len(k.Sources)
		k.Sources = append(k.Sources, engine.KeyedSource{Stream: s.stream, Key: key})
	}
	src := &k.Sources[at]
	src.Fields = append(src.Fields, key...)
	for f := range fields {
		src.Fields = append(src.Fields, f)
	}
	slices.Sort(src.Fields)
	src.Fields = slices.Compact(src.Fields)
	return at
}

// name is that of the keyed stream: of the key's fields, and a hash of everything that
// its records hang on.
func (k *keyedProgram) name() string {
	h := sha256.New()
	for i := range k.Sources {
		src := &k.Sources[i]
		streamID(h, src.Stream)
		fmt.Fprintf(h, "key %v fields", src.Key)
		for _, f := range src.Fields {
			fmt.Fprintf(h, " %s", fieldText(src.Stream.Schema, f))
		}
		fmt.Fprintln(h)
	}
	var fields []string
	for _, f := range k.Sources[0].Key {
		fields = append(fields, k.Sources[0].Stream.Schema.Fields[f].Name)
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, strings.Join(fields, "-"))
	if name == "" {
		name = "all"
	}
	return name[:min(len(name), keyedNameMax)] + "-" + hex.EncodeToString(h.Sum(nil)[:6])
}

// keyedNameMax leaves room below the 249 characters of a topic's name.
const keyedNameMax = 100

// Keyed implements engine.KeyedProgram.
func (p *Program) Keyed() []engine.Keyed {
	out := make([]engine.Keyed, len(p.keyed))
	for i, k := range p.keyed {
		out[i] = k.Keyed
	}
	return out
}

// KeyedInstance implements engine.KeyedProgram.
func (p *Program) KeyedInstance(i int) (engine.KeyedInstance, error) {
	return p.keyedInstance(p.keyed[i])
}

func (p *Program) keyedInstance(k *keyedProgram) (*keyedInstance, error) {
	in := &keyedInstance{}
	for i := range k.Sources {
		in.streams = append(in.streams, p.streams[k.Sources[i].Stream.Schema.Stream])
	}
	for _, g := range k.groups {
		reader := in.streams[g.reader]
		st := &groupState{readers: g.readersAmong(reader.rules)}
		cfg, err := st.config(g.group)
		if err != nil {
			return nil, err
		}
		cfg.AskKeys = g.now
		op, err := countingOperator(cfg, g.long, st)
		if err != nil {
			return nil, err
		}
		in.windows = append(in.windows, keyedState{st, g.over})
		past, now := k.Sources[g.over].Stream.Schema, k.Sources[g.reader].Stream.Schema
		in.operators = append(in.operators, engine.KeyedOperator{Over: g.over, Reader: g.reader,
			Operator: engine.Operator{Identity: k.identity(g), Name: g.nameFor(past, now), Rules: ids(st.readers), Operator: op}})
	}
	return in, nil
}

// identity is that of a group's operator here.
func (k *keyedProgram) identity(g keyedGroup) string {
	identity := g.group.identity(k.Sources[g.over].Stream.Schema)
	if g.over != g.reader {
		identity += " for=" + k.Sources[g.reader].Stream.Schema.Stream
	}
	return identity
}

// nameFor is what people call the operator, of windows over one stream for another.
func (g *keyedGroup) nameFor(past, now *event.Schema) string {
	name := g.name(past)
	if g.over == g.reader {
		return name
	}
	var keys []string
	for _, f := range g.now {
		keys = append(keys, now.Alias+"."+now.Fields[f].Name)
	}
	return past.Alias + " " + name + " = " + strings.Join(keys, ", ")
}

// keyedInstance is a program's state in one partition of a keyed stream.
type keyedInstance struct {
	streams   []*streamProgram // by source
	operators []engine.KeyedOperator
	windows   []keyedState
}

type keyedState struct {
	*groupState
	over int
}

// Operators implements engine.KeyedInstance.
func (in *keyedInstance) Operators() []engine.KeyedOperator { return in.operators }

// Features implements engine.KeyedInstance.
func (in *keyedInstance) Features(source int) []event.Type { return in.streams[source].features }

// UseTables implements engine.TableUser.
func (in *keyedInstance) UseTables(v *table.View) {
	refs := make([][]tableRef, len(in.streams))
	for i, s := range in.streams {
		refs[i] = s.useTables(v)
	}
	for _, w := range in.windows {
		w.frame.tables = refs[w.over]
	}
}

// countingOperator is a group's operator that counts what goes wrong in the windows'
// conditions and values, for the rules that read them.
func countingOperator(cfg window.Config, long bool, st *groupState) (cep.Operator, error) {
	if long {
		op, err := window.NewLong(cfg, reservoir.Options{})
		return &countingLong{op, st}, err
	}
	op, err := window.New(cfg)
	return &countingWindow{op, st}, err
}

type countingLong struct {
	*window.Long
	state *groupState
}

// Process implements cep.Operator.
func (w *countingLong) Process(b *event.Batch, out *cep.Outbox) error {
	err := w.Long.Process(b, out)
	w.state.count(b)
	return err
}

type countingWindow struct {
	*window.Sliding
	state *groupState
}

// Process implements cep.Operator.
func (w *countingWindow) Process(b *event.Batch, out *cep.Outbox) error {
	err := w.Sliding.Process(b, out)
	w.state.count(b)
	return err
}

// keyedOver are the keyed streams with a source, for a run of its events alone.
func (p *Program) keyedOver(s *schema.Stream) (out []*keyedInstance, err error) {
	for _, k := range p.keyed {
		if !slices.ContainsFunc(k.Sources, func(src engine.KeyedSource) bool { return src.Stream.Schema.Stream == s.Schema.Stream }) {
			continue
		}
		in, err := p.keyedInstance(k)
		if err != nil {
			return nil, err
		}
		out = append(out, in)
	}
	return out, nil
}

// run runs the operators on events of one stream in the order of its log.
func (in *keyedInstance) run(stream string, b *event.Batch, out *cep.Outbox) (err error) {
	at := slices.IndexFunc(in.streams, func(s *streamProgram) bool { return s.schema.Stream == stream })
	for _, op := range in.operators {
		switch {
		case err != nil || op.Reader != at:
		case op.Over == at:
			err = op.Process(b, out)
		default:
			err = op.Operator.Operator.(engine.Asker).Ask(b, out)
		}
	}
	return err
}
