package node

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/rules"
)

const (
	// programsDir holds, in the data directory, a file for each program that decided: what
	// is decided again, after a crash or in a replay, is decided by the one of then.
	programsDir = "programs"
	// programFormat is the version of the files' format.
	programFormat = 1
	// programsMax bounds them: beyond it the oldest go whose time is over.
	programsMax = 500
)

// savedProgram is a program's file: the rules that it was compiled of. The streams and
// tables are those that are declared now; where these are not what they were then, the
// program is another one, which its ID shows.
type savedProgram struct {
	Format int         `json:"format"`
	ID     string      `json:"id"`
	Since  time.Time   `json:"since"`           // when it was declared, at last
	Until  *time.Time  `json:"until,omitempty"` // when another one was; absent: it is declared
	Keyed  []string    `json:"keyed,omitempty"` // topics of the keyed streams that it reads
	Rules  []savedRule `json:"rules"`
}

// savedRule is a rule as far as it decides, and since when it does so.
type savedRule struct {
	ID       string    `json:"id"`
	Stream   string    `json:"stream"`
	When     string    `json:"when"`
	Action   string    `json:"action"`
	Severity string    `json:"severity"`
	Mode     string    `json:"mode"`
	Message  string    `json:"message,omitempty"`
	Score    float64   `json:"score"`
	File     string    `json:"file"`
	Line     int       `json:"line"`
	Since    time.Time `json:"since"`
}

func (r *savedRule) rule() rules.Rule {
	return rules.Rule{ID: r.ID, Stream: r.Stream, When: r.When, Action: r.Action, Severity: r.Severity, Mode: r.Mode, Message: r.Message, Score: r.Score, File: r.File, Line: r.Line}
}

// programs is the catalogue of the programs that may have decided.
type programs struct {
	fs      vfs.FS
	dir     string
	compile func(rules.Set) (*rules.Program, error)
	logger  *slog.Logger

	mu       sync.Mutex
	known    map[string]*savedProgram // by ID; of those that are over without their rules
	broken   map[string]error         // by ID: files that cannot be read
	asked    map[string]error         // by ID: those that were needed and could not be had
	compiled map[string]*rules.Program
}

// openPrograms reads the catalogue. A file that cannot be read is told of, and no
// reason not to start: only what has to be decided again needs it.
func openPrograms(fsys vfs.FS, dataDir string, compile func(rules.Set) (*rules.Program, error), logger *slog.Logger) (*programs, error) {
	c := &programs{fs: fsys, dir: filepath.Join(dataDir, programsDir), compile: compile, logger: logger,
		known: map[string]*savedProgram{}, broken: map[string]error{}, asked: map[string]error{}, compiled: map[string]*rules.Program{}}
	if err := fsys.MkdirAll(c.dir); err != nil {
		return nil, fmt.Errorf("catalogue of programs: %w", err)
	}
	if err := fsys.SyncDir(dataDir); err != nil {
		return nil, fmt.Errorf("catalogue of programs: %w", err)
	}
	names, err := fsys.List(c.dir)
	if err != nil {
		return nil, fmt.Errorf("catalogue of programs: %w", err)
	}
	for _, name := range names {
		id, ok := strings.CutSuffix(name, ".json")
		if !ok {
			continue
		}
		p, err := c.read(id)
		if err != nil {
			c.broken[id] = err
			logger.Error("a file of the catalogue of programs cannot be read", "err", err)
			continue
		}
		if p.Until != nil {
			p.Rules = nil
		}
		c.known[id] = p
	}
	return c, nil
}

func (c *programs) file(id string) string { return filepath.Join(c.dir, id+".json") }

// read reads a program's file.
func (c *programs) read(id string) (*savedProgram, error) {
	data, err := vfs.ReadFile(c.fs, c.file(id))
	if err != nil {
		return nil, err
	}
	p := &savedProgram{}
	err = json.Unmarshal(data, p)
	switch {
	case err != nil:
	case p.Format != programFormat:
		err = fmt.Errorf("it has format %d, and this weir reads %d", p.Format, programFormat)
	case p.ID != id:
		err = fmt.Errorf("it is of the program %q", p.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.file(id), err)
	}
	return p, nil
}

func (c *programs) write(p *savedProgram) error {
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return vfs.WriteFile(c.fs, c.file(p.ID), append(data, '\n'))
}

// declared is the one that was declared last, nil where there is none. Of one that is
// over, the rules are not told.
func (c *programs) declared() *savedProgram {
	var newest *savedProgram
	for _, p := range c.known {
		if newest == nil || p.Since.After(newest.Since) {
			newest = p
		}
	}
	return newest
}

// declare notes, durably, that a program of these rules decides from now on.
func (c *programs) declare(program *rules.Program, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now = now.UTC().Truncate(time.Millisecond)
	next := &savedProgram{Format: programFormat, ID: program.ID(), Since: now}
	before := c.declared()
	if before != nil && before.ID == next.ID && before.Until == nil {
		next.Since = before.Since
	}
	for _, k := range program.Keyed() {
		next.Keyed = append(next.Keyed, engine.TopicKeyed+k.Name)
	}
	for _, s := range program.Rules() {
		r := savedRule{ID: s.ID, Stream: s.Stream, When: s.When, Action: s.Action, Severity: s.Severity, Mode: s.Mode, Message: s.Message, Score: s.Score, File: s.File, Line: s.Line, Since: now}
		if old := before.rule(s.ID); old != nil {
			if same := old.rule(); same.DecidesAs(&s.Rule) {
				r.Since = old.Since
			}
		}
		next.Rules = append(next.Rules, r)
	}
	if err := c.write(next); err != nil {
		return fmt.Errorf("catalogue of programs: %w", err)
	}
	delete(c.broken, next.ID)
	delete(c.asked, next.ID)
	c.known[next.ID], c.compiled[next.ID] = next, program
	for id, p := range c.known {
		if id == next.ID || p.Until != nil {
			continue
		}
		p.Until = &now
		if err := c.write(p); err != nil {
			return fmt.Errorf("catalogue of programs: %w", err)
		}
		p.Rules = nil // the file has them
	}
	return nil
}

func (p *savedProgram) rule(id string) *savedRule {
	if p == nil {
		return nil
	}
	if i := slices.IndexFunc(p.Rules, func(r savedRule) bool { return r.ID == id }); i >= 0 {
		return &p.Rules[i]
	}
	return nil
}

// since is when each rule of a program began to be what it is.
func (c *programs) since(id string) map[string]time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]time.Time{}
	if p := c.known[id]; p != nil {
		for i := range p.Rules {
			out[p.Rules[i].ID] = p.Rules[i].Since
		}
	}
	return out
}

// get is the program with an ID. Its error says what a person can do.
func (c *programs) get(id string) (*rules.Program, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.compiled[id]; p != nil {
		return p, nil
	}
	p, err := c.make(id)
	if err != nil {
		c.asked[id] = err
		return nil, err
	}
	delete(c.asked, id)
	c.compiled[id] = p
	return p, nil
}

// running is a program that was declared or asked for since the start, nil where it is
// none.
func (c *programs) running(id string) *rules.Program {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runningOf(id)
}

// runningOf is running of a program, or of the part of one that decides while the windows
// of the rest are made.
func (c *programs) runningOf(id string) *rules.Program {
	if p := c.compiled[id]; p != nil {
		return p
	}
	first, rest, part := strings.Cut(id, engine.Over)
	if !part {
		return nil
	}
	p, before := c.runningOf(first), c.runningOf(rest)
	if p == nil || before == nil {
		return nil
	}
	over, err := p.Over(before)
	if out, ok := over.(*rules.Program); ok && err == nil && out.ID() == id {
		c.compiled[id] = out
		return out
	}
	return nil
}

// forget lets compiled programs go that nobody runs.
func (c *programs) forget(keep func(id string) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.compiled, func(id string, _ *rules.Program) bool { return !keep(id) })
}

// make compiles a program of the catalogue.
func (c *programs) make(id string) (*rules.Program, error) {
	const otherwise = "what it has to decide again, since the last checkpoint or in a replay, the declared rules decide"
	switch err := c.broken[id]; {
	case err != nil:
		return nil, fmt.Errorf("the program %s: %w (restore the file from a backup, or remove it: %s)", id, err, otherwise)
	case c.known[id] == nil:
		return nil, fmt.Errorf("the program %s is not in %s (restore the file from a backup: else %s)", id, c.dir, otherwise)
	}
	saved, err := c.read(id)
	if err != nil {
		return nil, fmt.Errorf("the program %s: %w (restore the file from a backup: else %s)", id, err, otherwise)
	}
	set := make(rules.Set, len(saved.Rules))
	for i := range saved.Rules {
		set[i] = saved.Rules[i].rule()
	}
	p, err := c.compile(set)
	if err == nil && p.ID() != id {
		err = errors.New("the file was edited, or streams or tables that its rules read are declared otherwise now")
	}
	if err != nil {
		return nil, fmt.Errorf("the program %s cannot be had from %s: %w (%s)", id, c.file(id), err, otherwise)
	}
	return p, nil
}

// troubles are what a person should know of.
func (c *programs) troubles() (lines []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(c.asked)) {
		lines = append(lines, c.asked[id].Error())
	}
	for _, id := range slices.Sorted(maps.Keys(c.broken)) {
		if c.asked[id] == nil {
			lines = append(lines, fmt.Sprintf("catalogue of programs: %v (restore the file from a backup, or remove it)", c.broken[id]))
		}
	}
	return lines
}

// ended are the programs that are no longer declared, oldest first.
func (c *programs) ended() (out []savedProgram) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.known {
		if p.Until != nil {
			out = append(out, *p)
		}
	}
	slices.SortFunc(out, func(a, b savedProgram) int { return cmp.Or(a.Until.Compare(*b.Until), cmp.Compare(a.ID, b.ID)) })
	return out
}

// remove takes a program out of the catalogue.
func (c *programs) remove(id string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.fs.Remove(c.file(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(c.known, id)
	delete(c.compiled, id)
	return c.fs.SyncDir(c.dir)
}

// keyed are the topics of keyed streams that programs of the catalogue read.
func (c *programs) keyed() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]bool{}
	for _, p := range c.known {
		for _, t := range p.Keyed {
			out[t] = true
		}
	}
	return out
}

// lastNeeded is when the last program that reads a keyed stream ended, nil where none has,
// or one has not.
func (c *programs) lastNeeded(topic string) *time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	var last *time.Time
	for _, p := range c.known {
		switch {
		case !slices.Contains(p.Keyed, topic):
		case p.Until == nil:
			return nil
		case last == nil || p.Until.After(*last):
			last = p.Until
		}
	}
	return last
}
