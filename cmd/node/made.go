package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/ingest/protect"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/vfs"
)

// madeFile holds, in the data directory, the streams that were made over HTTP.
const madeFile = "streams.json"

// madeFormat is the version of its format.
const madeFormat = 1

// made are the streams that were made over HTTP.
type made struct {
	Format  int                   `json:"format"`
	Streams map[string]madeStream `json:"streams"`
	// Guarded are declarations of before, by topic: what clients write to a topic
	// whose sensitive stream was removed, or reads another one now, is protected as
	// it was.
	Guarded map[string]madeStream `json:"guarded,omitempty"`
}

// madeStream is a declaration as it was sent.
type madeStream struct {
	Name        string    `json:"name"`
	Declaration string    `json:"declaration"`
	Since       time.Time `json:"since"`
}

// loadMade reads the file, nothing where there is none.
func loadMade(fsys vfs.FS, dir string) (*made, error) {
	path := filepath.Join(dir, madeFile)
	m := &made{Format: madeFormat, Streams: map[string]madeStream{}, Guarded: map[string]madeStream{}}
	data, err := vfs.ReadFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, fmt.Errorf("streams made over HTTP: %w", err)
	}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("streams made over HTTP: %s: %w", path, err)
	}
	if m.Format != madeFormat {
		return nil, fmt.Errorf("streams made over HTTP: %s has format %d, and this weir reads %d", path, m.Format, madeFormat)
	}
	if m.Streams == nil || m.Guarded == nil {
		m = &made{Format: madeFormat, Streams: maps.Clone(m.Streams), Guarded: maps.Clone(m.Guarded)}
		m.Streams, m.Guarded = orEmpty(m.Streams), orEmpty(m.Guarded)
	}
	return m, nil
}

func orEmpty(m map[string]madeStream) map[string]madeStream {
	if m == nil {
		return map[string]madeStream{}
	}
	return m
}

// save writes the file, durably.
func (m *made) save(fsys vfs.FS, dir string) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return vfs.WriteFile(fsys, filepath.Join(dir, madeFile), append(data, '\n'))
}

func (m *made) clone() *made {
	return &made{Format: m.Format, Streams: maps.Clone(m.Streams), Guarded: maps.Clone(m.Guarded)}
}

// declared are weir.yaml's streams and the made ones. A made stream whose name
// weir.yaml has, too, gives way to it. What is wrong with one is a problem of the
// file, as weir.yaml may have changed since it was made.
func (m *made) declared(cfg *config.Config, dir string) (streams []*schema.Stream, problems schema.Problems) {
	streams = slices.Clone(cfg.Streams)
	for _, name := range slices.Sorted(maps.Keys(m.Streams)) {
		if slices.ContainsFunc(cfg.Streams, func(s *schema.Stream) bool { return s.Schema.Stream == name }) {
			continue
		}
		s, err := cfg.ParseStream(name, []byte(m.Streams[name].Declaration), streams)
		var found schema.Problems
		if errors.As(err, &found) {
			for _, p := range found {
				p.File, p.Line, p.Column = filepath.Join(dir, madeFile), 0, 0
				p.Hint = strings.TrimPrefix(p.Hint+"; the stream was made over HTTP: change weir.yaml, or remove it from the file", "; ")
			}
			problems = append(problems, found...)
			continue
		}
		streams = append(streams, s)
	}
	return streams, problems
}

// guarded are the streams of before whose topics are still to be protected, beside
// those that are declared.
func (m *made) guarded(cfg *config.Config, streams []*schema.Stream) (out []*schema.Stream) {
	for _, topic := range slices.Sorted(maps.Keys(m.Guarded)) {
		if slices.ContainsFunc(streams, func(s *schema.Stream) bool { return s.Topic == topic }) {
			continue
		}
		g := m.Guarded[topic]
		if s, err := (&config.Config{}).ParseStream(g.Name, []byte(g.Declaration), nil); err == nil && s.Topic == topic {
			out = append(out, s)
		}
	}
	return out
}

// guard notes that the topic of a stream is to be protected as the stream says,
// where it has sensitive fields.
func (m *made) guard(s *schema.Stream, declaration string) {
	if protect.Sensitive(s) {
		m.Guarded[s.Topic] = madeStream{Name: s.Schema.Stream, Declaration: declaration, Since: m.Streams[s.Schema.Stream].Since}
	}
}
