package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/weirstream/weir/cmd/config"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/table"
	"github.com/weirstream/weir/rules"
)

// loaded is a declared table or list with the entries of its CSV file.
type loaded struct {
	config.Table
	entries []table.Entry
}

// loadTables reads the CSV files of the declared tables. Its errors are Problems.
func loadTables(declared []config.Table) ([]loaded, schema.Problems) {
	out := make([]loaded, len(declared))
	var problems schema.Problems
	for i, t := range declared {
		out[i].Table = t
		if t.CSV == "" {
			continue
		}
		entries, err := readTable(&t)
		var found schema.Problems
		switch {
		case errors.As(err, &found):
			problems = append(problems, found...)
		case err != nil:
			problems = append(problems, t.At("the CSV file cannot be read: %v", err))
		}
		out[i].entries = entries
	}
	return out, problems
}

func readTable(t *config.Table) ([]table.Entry, error) {
	f, err := os.Open(t.CSV)
	if err != nil {
		return nil, err
	}
	entries, err := table.ReadCSV(f, t.CSV, t.Definition, t.Delimiter)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	for i := range entries {
		entries[i].Author = t.Definition.Source
	}
	if most := t.Definition.EntriesMax; most > 0 && int64(len(entries)) > most {
		return nil, schema.Problems{{File: t.CSV, Message: fmt.Sprintf("has %d entries; max_entries of %s %s is %d", len(entries), t.Definition.Kind(), t.Definition.Name, most)}}
	}
	return entries, nil
}

// Catalog is what the rules of the configuration may refer to.
func (p *Prepared) Catalog() rules.Catalog {
	c := rules.Catalog{Streams: p.Streams}
	for _, t := range p.tables {
		c.Tables = append(c.Tables, t.Definition)
	}
	return c
}

// WithContents is a catalog with what the CSV files hold, for the cases of rules.
func (p *Prepared) WithContents() (rules.Catalog, error) {
	c := p.Catalog()
	byTable := map[*table.Definition][]table.Entry{}
	for _, t := range p.tables {
		byTable[t.Definition] = t.entries
	}
	var err error
	c.Contents, err = table.Of(byTable)
	return c, err
}

// definitions are all tables and lists, those that the API made among them.
func (n *Node) definitions() []*table.Definition {
	out := []*table.Definition{}
	for _, t := range n.tables.Head().Tables() {
		out = append(out, t.Definition())
	}
	return out
}

// definitionsWith are the definitions once these, and those of weir.yaml, are made.
func (n *Node) definitionsWith(more ...*table.Definition) []*table.Definition {
	for i := range n.declared {
		more = append(more, n.declared[i].Definition)
	}
	for _, d := range n.definitions() {
		if !slices.ContainsFunc(more, func(m *table.Definition) bool { return m.Name == d.Name }) {
			more = append(more, d)
		}
	}
	return more
}

// openTables reads the tables from the log and makes them what is declared.
func (n *Node) openTables() (err error) {
	ctx := context.Background()
	n.tables, err = table.Open(ctx, table.Options{Open: n.openSource, Log: sink.NewLocal(n.log), Protect: n.protectEntry, Registerer: n.registry, Logger: n.logger.With("part", "tables")})
	if err != nil {
		return err
	}
	// Lists that the API made may need keys, too.
	if err := n.protect(n.guardedStreams(), n.definitionsWith()); err != nil {
		return err
	}
	for i := range n.declared {
		if err := n.applyTable(ctx, &n.declared[i]); err != nil {
			return fmt.Errorf("%s %s: %w", n.declared[i].Definition.Kind(), n.declared[i].Definition.Name, err)
		}
	}
	return nil
}

// applyTable makes a table what is declared, with the entries of its file.
func (n *Node) applyTable(ctx context.Context, t *loaded) error {
	var res table.Result
	var err error
	if t.CSV != "" {
		res, err = n.tables.Sync(ctx, t.Definition, t.entries)
		t.entries = nil
	} else {
		res, err = n.tables.Change(ctx, []table.Change{{Op: table.OpDeclare, Definition: t.Definition}})
	}
	if err == nil && res.Changed > 0 {
		n.logger.Info("a table has changed", "table", t.Definition.Name, "changes", res.Changed, "entries", n.tables.Head().Table(t.Definition.Name).Len())
	}
	return err
}

// followTables keeps the tables of topics up to date until ctx is done.
func (n *Node) followTables(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, t := range n.declared {
		if t.Topic == "" {
			continue
		}
		wg.Go(func() {
			// Follow returns no error: it tries again until ctx is done.
			_ = n.tables.Follow(ctx, t.Definition, table.FollowOptions{Topic: t.Topic, Open: n.openSource, Partitions: n.partitions, End: n.highWatermark,
				Logger: n.logger.With("part", "tables")})
		})
	}
	wg.Wait()
	<-ctx.Done()
	return nil
}
