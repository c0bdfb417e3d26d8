package node

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/rules"
)

// FuzzProgramFile: whatever a file of the catalogue holds, the node starts, and what it
// gets from there is the program that it asked for, or an error.
func FuzzProgramFile(f *testing.F) {
	fields := []event.Field{{Name: "ts", Type: event.Type{Kind: event.Timestamp}}, {Name: "card", Type: event.Type{Kind: event.String}}}
	stream := &schema.Stream{Topic: "p", Partitions: 1, Format: schema.JSON, Fields: make([]schema.Field, len(fields)),
		Schema: &event.Schema{Stream: "payments", Alias: "tx", Fields: fields, Key: 1, ID: -1}}
	compile := func(set rules.Set) (*rules.Program, error) {
		return rules.Compile(set, rules.Catalog{Streams: []*schema.Stream{stream}})
	}
	open := func(f testing.TB, mem *vfs.Mem) *programs {
		c, err := openPrograms(mem, "data", compile, slog.New(slog.DiscardHandler))
		if err != nil {
			f.Fatal(err)
		}
		return c
	}
	set, err := rules.ParseFile("r.yaml", []byte("id: r\nstream: payments\nwhen: last(\"1h\").by(tx.card).count() > 3\n"))
	if err != nil {
		f.Fatal(err)
	}
	program, err := compile(set)
	if err != nil {
		f.Fatal(err)
	}
	mem := vfs.NewMem(1)
	c := open(f, mem)
	if err := c.declare(program, time.Unix(0, 0)); err != nil {
		f.Fatal(err)
	}
	good, err := vfs.ReadFile(mem, c.file(program.ID()))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{good, good[:len(good)/2], []byte("{}"), []byte(`{"format":1,"rules":[{}]}`), []byte(`{"format":2}`), {}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		mem := vfs.NewMem(1)
		if err := errors.Join(mem.MkdirAll("data/"+programsDir), vfs.WriteFile(mem, "data/"+programsDir+"/"+program.ID()+".json", data)); err != nil {
			t.Fatal(err)
		}
		c := open(t, mem)
		p, err := c.get(program.ID())
		switch {
		case err != nil && len(c.troubles()) == 0:
			t.Errorf("nobody is told of %v", err)
		case err == nil && p.ID() != program.ID():
			t.Errorf("got the program %s", p.ID())
		}
		if err := c.declare(program, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if p, err := open(t, mem).get(program.ID()); err != nil || p.ID() != program.ID() {
			t.Errorf("written anew: %v", err)
		}
	})
}
