package rules

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/cep/engine"
)

// Planned is an operator as a program will run it.
type Planned struct {
	Stream string   // whose rules read it
	Name   string   // as engine.Operator
	Rules  []string // that read it
	Over   string   // the stream whose events it holds
	// Keyed is the topic of the keyed stream that it runs on, and Takes the fields that
	// this takes along of each of its sources. Empty: it runs where the events arrive.
	Keyed string
	Takes map[string][]string
	Keeps []string // how far back, or how many events
	Disk  bool     // its events are kept on disk
}

// Plan is the operators of the program, by stream, those on keyed streams last. A rule
// that is in none of them reads no window.
func (p *Program) Plan() []Planned {
	var out []Planned
	for _, name := range slices.Sorted(maps.Keys(p.streams)) {
		s := p.streams[name]
		for _, g := range s.groups {
			out = append(out, Planned{Stream: name, Name: g.name(s.schema), Rules: ids(g.readersAmong(s.rules)), Over: name, Keeps: g.keepsText(), Disk: g.long})
		}
	}
	for _, k := range p.keyed {
		takes := map[string][]string{}
		for i := range k.Sources {
			src := &k.Sources[i]
			for _, f := range src.Fields {
				takes[src.Stream.Schema.Stream] = append(takes[src.Stream.Schema.Stream], src.Stream.Schema.Fields[f].Name)
			}
		}
		for _, g := range k.groups {
			over, reader := k.Sources[g.over].Stream.Schema, k.Sources[g.reader].Stream.Schema
			out = append(out, Planned{Stream: reader.Stream, Name: g.nameFor(over, reader), Rules: ids(g.readersAmong(p.streams[reader.Stream].rules)),
				Over: over.Stream, Keyed: engine.TopicKeyed + k.Name, Takes: takes, Keeps: g.keepsText(), Disk: g.long})
		}
	}
	return out
}

// keepsText is keeps for people: 720h0m0s is 30d.
func (g *group) keepsText() []string {
	all := g.keeps()
	for i, text := range all {
		if d, err := time.ParseDuration(text); err == nil {
			all[i] = spanText(d)
		}
	}
	return all
}

func spanText(d time.Duration) string {
	if days := d / (24 * time.Hour); days > 0 && d%(24*time.Hour) == 0 {
		return strconv.Itoa(int(days)) + "d"
	}
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = strings.TrimSuffix(text, zero[1:])
		}
	}
	return text
}
