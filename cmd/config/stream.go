package config

import (
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/weirstream/weir/ingest/schema"
)

// StreamSizeMax is the largest declaration of a stream on its own, in bytes.
const StreamSizeMax = 256 << 10

// ParseStream checks the declaration of one stream, as it stands under its name in
// weir.yaml, in YAML or JSON, beside what c declares and other streams. Every error it
// returns is schema.Problems, whose fields begin with streams.NAME. data is not
// retained.
func (c *Config) ParseStream(name string, data []byte, others []*schema.Stream) (*schema.Stream, error) {
	w := newWalker("", ParseOptions{})
	if len(data) > StreamSizeMax {
		w.problem(0, 0, "streams."+name, "", "the declaration has more than %d bytes", StreamSizeMax)
		return nil, w.problems
	}
	root := w.parse(data)
	if len(w.problems) > 0 {
		return nil, w.problems
	}
	s := readStream(w, name, value{node: root, at: root, path: "streams." + name})
	newTaken().check(w, s)
	for _, o := range others {
		s.checkBeside(w, o)
	}
	for _, t := range c.Tables {
		if !t.Definition.List && strings.EqualFold(t.Definition.Name, name) {
			w.fail(s.v, "", "found %q, which is the name of a table; SQL does not tell upper from lower case", clip(name))
		}
		if t.Topic != "" && t.Topic == s.topic.s {
			w.fail(s.topic.v, "", "found %q, which is the topic of the table %s", clip(t.Topic), t.Definition.Name)
		}
	}
	if len(others) >= streamsMax {
		w.fail(s.v, "", "there are %d streams already, which is the most", streamsMax)
	}
	out := s.build(w)
	if err := w.sorted().ErrOrNil(); err != nil {
		return nil, err
	}
	return out, nil
}

// checkBeside reports what the stream shares with another and may not.
func (s *streamDraft) checkBeside(w *walker, o *schema.Stream) {
	switch {
	case strings.EqualFold(o.Schema.Stream, s.name):
		w.fail(s.v, "", "found %q, which is already the name of a stream; SQL does not tell upper from lower case", clip(s.name))
	case o.Schema.Alias == s.as.s:
		w.fail(s.as.v, "give the stream another name in rules with `as`", "found %q, which is already the name in rules of the stream %s", clip(s.as.s), o.Schema.Stream)
	case o.Topic == s.topic.s:
		w.fail(s.topic.v, "", "found %q, which is already the topic of the stream %s", clip(s.topic.s), o.Schema.Stream)
	}
}

// StreamKeys are the keys of a stream's declaration, for a description of it.
func StreamKeys() []Key {
	out := make([]Key, len(streamKeys))
	for i, k := range streamKeys {
		out[i] = Key{Name: k.name, Expects: k.expects, Doc: k.doc, Required: k.required}
	}
	return out
}

// Key is a key of the configuration, as a person reads of it.
type Key struct {
	Name, Expects, Doc string
	Required           bool
}

// Streams takes the `streams` of a file apart, as they stand there, by name and in
// order. Every error it returns is schema.Problems.
func Streams(file string, data []byte) (names []string, declarations map[string][]byte, err error) {
	w := newWalker(file, ParseOptions{})
	if len(data) > FileSizeMax {
		w.problem(1, 1, "", "", "the file has more than %d bytes; that cannot be a weir.yaml", FileSizeMax)
		return nil, nil, w.problems
	}
	root := w.parse(data)
	if len(w.problems) > 0 {
		return nil, nil, w.problems
	}
	declarations = map[string][]byte{}
	top := value{node: root, at: root}
	w.each(top, func() string { return "a mapping with the key streams" }, func(name string, child value) {
		if name != "streams" {
			return // a whole weir.yaml, say
		}
		w.each(child, func() string { return "a mapping of stream names to streams" }, func(name string, one value) {
			text, err := yaml.Marshal(resolve(one.node))
			if err != nil {
				w.fail(one, "", "cannot be taken alone: %v", err)
				return
			}
			names, declarations[name] = append(names, name), text
		})
	})
	if len(names) == 0 && len(w.problems) == 0 {
		w.problem(1, 1, "streams", "", "the file declares no stream")
	}
	return names, declarations, w.sorted().ErrOrNil()
}
