package table

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/test/seeds"
)

// fakeLog is one partition in memory that can be killed: what was not durable is
// then lost, in part.
type fakeLog struct {
	mu      sync.Mutex
	recs    []source.Record
	durable int
	fuse    int // appends until it is killed; below 0: never
	dead    bool
	r       *rand.Rand
}

var errDead = errors.New("killed")

func newFakeLog(r *rand.Rand) *fakeLog { return &fakeLog{fuse: -1, r: r} }

func (l *fakeLog) Append(_ context.Context, topic string, _ int32, recs []sink.Record) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if topic != TopicTables {
		return 0, fmt.Errorf("topic %s", topic)
	}
	if l.dead {
		return 0, errDead
	}
	base := int64(len(l.recs))
	for i, r := range recs {
		r.Offset, r.Value = base+int64(i), slices.Clone(r.Value)
		l.recs = append(l.recs, r)
	}
	if l.fuse == 0 {
		l.dead = true
		return 0, errDead
	}
	l.fuse--
	return base, nil
}

func (l *fakeLog) Durable(_ context.Context, _ string, _ int32, offset int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return errDead
	}
	l.durable = max(l.durable, int(offset)+1)
	return nil
}

func (l *fakeLog) End(string, int32) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int64(len(l.recs)), nil
}

func (l *fakeLog) revive() {
	l.recs = l.recs[:l.durable+l.r.IntN(len(l.recs)-l.durable+1)]
	l.durable, l.dead, l.fuse = len(l.recs), false, -1
}

func (l *fakeLog) open(_ context.Context, _ string, _ int32, from int64) (source.Source, error) {
	return &fakeSource{l, from}, nil
}

type fakeSource struct {
	l  *fakeLog
	at int64
}

func (s *fakeSource) Next(context.Context) (source.Chunk, error) {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	n := s.l.durable - int(s.at)
	if n <= 0 {
		return source.Chunk{}, io.EOF
	}
	n = 1 + s.l.r.IntN(min(n, 40))
	recs := slices.Clone(s.l.recs[s.at : int(s.at)+n])
	s.at += int64(n)
	return source.Chunk{Records: recs, Next: s.at}, nil
}
func (s *fakeSource) SeekTo(at int64) error { s.at = at; return nil }
func (s *fakeSource) Close() error          { return nil }

func openStore(t testing.TB, l *fakeLog) *Store {
	t.Helper()
	clock := int64(0)
	s, err := Open(context.Background(), Options{Open: l.open, Log: l, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Now: func() time.Time { clock++; return time.Unix(clock, 0) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func str(s string) Value { return Value{Bytes: []byte(s)} }
func num(n int64) Value  { return Value{Bits: uint64(n)} }

var (
	text  = event.Type{Kind: event.String}
	whole = event.Type{Kind: event.Int64}
	money = event.Type{Kind: event.Decimal, Scale: 2}

	namesList = NewList("names", text)
	numbers   = NewList("numbers", whole)
	merchants = &Definition{Name: "merchants", Key: []event.Field{{Name: "country", Type: text}, {Name: "no", Type: whole}},
		Columns: []event.Field{{Name: "category", Type: text, Optional: true}, {Name: "risk", Type: whole}, {Name: "fee", Type: money, Optional: true}, {Name: "open", Type: event.Type{Kind: event.Bool}}}}
)

// model is the slow obvious twin: maps of entries by table and key.
type model struct {
	defs map[string]*Definition
	rows map[string]map[string]Entry
}

func newModel() *model { return &model{map[string]*Definition{}, map[string]map[string]Entry{}} }

func (m *model) clone() *model {
	c := newModel()
	for n, d := range m.defs {
		c.defs[n] = d
		c.rows[n] = map[string]Entry{}
		for k, e := range m.rows[n] {
			c.rows[n][k] = e
		}
	}
	return c
}

func keyText(d *Definition, key []Value) string {
	var parts []string
	for i, v := range key {
		parts = append(parts, string(AppendText(nil, d.Key[i].Type, v)))
	}
	return strings.Join(parts, "\x00")
}

func (m *model) apply(c *Change) bool {
	switch c.Op {
	case OpDeclare:
		if m.defs[c.Definition.Name] == nil {
			m.defs[c.Definition.Name], m.rows[c.Definition.Name] = c.Definition, map[string]Entry{}
		}
		return true
	case OpDrop:
		if m.defs[c.Table] == nil {
			return false
		}
		delete(m.defs, c.Table)
		delete(m.rows, c.Table)
		return true
	}
	d := m.defs[c.Table]
	if d == nil {
		return false
	}
	switch c.Op {
	case OpPut:
		e := c.Entry
		if e.Expires == 0 {
			e.Expires = event.MaxTime
		}
		m.rows[c.Table][keyText(d, e.Key)] = e
	case OpRemove:
		delete(m.rows[c.Table], keyText(d, c.Entry.Key))
	case OpClear:
		m.rows[c.Table] = map[string]Entry{}
	}
	return true
}

// dump is a model or View as text: everything but when a change was made.
func dumpEntry(d *Definition, e *Entry) string {
	var b []byte
	for i, v := range e.Key {
		b = append(AppendJSON(b, d.Key[i].Type, v), ' ')
	}
	b = appendRow(b, d.Columns, e.Columns)
	return fmt.Sprintf("%s %d %q %q", b, e.Expires, e.Author, e.Reason)
}

func (m *model) dump() string {
	var lines []string
	for n, d := range m.defs {
		lines = append(lines, n+": "+d.Kind())
		for _, e := range m.rows[n] {
			lines = append(lines, n+": "+dumpEntry(d, &e))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func dump(v *View) string {
	var lines []string
	for _, t := range v.Tables() {
		lines = append(lines, t.def.Name+": "+t.def.Kind())
		n := int64(0)
		bytes := int64(0)
		t.All(func(r Row) {
			e := r.Entry()
			lines = append(lines, t.def.Name+": "+dumpEntry(t.def, &e))
			n++
			bytes += int64(len(r.e))
		})
		if n != t.Len() || bytes != t.Bytes() {
			lines = append(lines, fmt.Sprintf("%s: counts %d entries of %d bytes, has %d of %d", t.def.Name, t.Len(), t.Bytes(), n, bytes))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func randomGroup(r *rand.Rand) []Change {
	out := []Change{}
	if r.IntN(4) == 0 {
		out = append(out, Change{Op: OpDeclare, Definition: []*Definition{namesList, numbers, merchants}[r.IntN(3)]})
	}
	n := 1 + r.IntN(3)
	if r.IntN(8) == 0 {
		n = 1 + r.IntN(2000)
	}
	for range n {
		c := Change{Op: OpPut, Table: []string{"names", "numbers", "merchants"}[r.IntN(3)]}
		switch c.Table {
		case "names":
			c.Entry.Key = []Value{str([]string{"", "a", "ü", "longer than eight bytes", "\x00\n\""}[r.IntN(5)] + strconv.Itoa(r.IntN(800)))}
		case "numbers":
			c.Entry.Key = []Value{num(int64(r.IntN(1000)) - 500)}
		default:
			c.Entry.Key = []Value{str([]string{"", "DE", "FR"}[r.IntN(3)]), num(int64(r.IntN(300)) - 100)}
			c.Entry.Columns = []Value{str("food"), num(int64(r.Uint64())), num(int64(r.IntN(9999))), boolValue(r.IntN(2) == 0)}
			for i := range c.Entry.Columns {
				if merchants.Columns[i].Optional && r.IntN(3) == 0 {
					c.Entry.Columns[i] = Value{Null: true}
				}
			}
		}
		if r.IntN(2) == 0 {
			c.Entry.Expires = event.Time(1 + r.Int64N(4e18))
		}
		c.Entry.Author, c.Entry.Reason = []string{"", "ann"}[r.IntN(2)], []string{"", `because "x"`}[r.IntN(2)]
		switch r.IntN(100) {
		case 0:
			c.Op = OpClear
		case 1:
			c.Op = OpDrop
		default:
			if r.IntN(3) == 0 {
				c.Op = OpRemove
			}
		}
		out = append(out, c)
		if c.Op == OpDrop {
			break
		}
	}
	return out
}

// TestStoreAgainstModel makes random groups of changes through kills that cut
// groups anywhere, and compares every View with maps, then and again from the log.
func TestStoreAgainstModel(t *testing.T) {
	refused := 0
	seeds.Each(t, 20, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := newFakeLog(r)
		s := openStore(t, l)
		m := newModel()
		views := map[int64]string{}
		for range 60 {
			if r.IntN(6) == 0 {
				l.fuse = r.IntN(2)
			}
			group := randomGroup(r)
			next := m.clone()
			sound := true
			for i := range group {
				sound = sound && next.apply(&group[i])
			}
			_, err := s.Change(t.Context(), group)
			if l.dead {
				l.revive()
				s = openStore(t, l)
				// All of the group is there, or nothing.
				if sound && dump(s.Head()) == next.dump() {
					m = next
				}
			} else if (err == nil) != sound {
				t.Fatalf("error %v of a group that is sound: %v", err, sound)
			} else if sound {
				m = next
			} else {
				refused++
			}
			if got, want := dump(s.Head()), m.dump(); got != want {
				t.Fatalf("the View is\n%s\nwant\n%s", got, want)
			}
			views[s.Head().Seq()] = m.dump()
		}
		for range 2 { // with what is kept, and from the log
			for seq, want := range views {
				v, err := s.At(t.Context(), seq)
				if err != nil {
					t.Fatal(err)
				}
				if v.Seq() != seq || dump(v) != want {
					t.Fatalf("the View at %d is\n%s\nwant\n%s", seq, dump(v), want)
				}
			}
			s = openStore(t, l)
		}
	})
	if refused == 0 {
		t.Error("no group was refused: the test does not look at that")
	}
}

// TestPage reads a table page by page, in the order of its keys.
func TestPage(t *testing.T) {
	s := openStore(t, newFakeLog(rand.New(rand.NewPCG(1, 1))))
	group := []Change{{Op: OpDeclare, Definition: numbers}}
	var want []int64
	for i := range int64(1000) {
		n := (i*7919)%1000 - 500
		group = append(group, Change{Op: OpPut, Table: "numbers", Entry: Entry{Key: []Value{num(n)}}})
		if n%2 == 0 {
			want = append(want, n)
		}
	}
	if _, err := s.Change(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	slices.Sort(want)
	var got []int64
	var after []byte
	for {
		page := s.Head().Table("numbers").Page(after, 37, func(r Row) bool { return int64(r.Entry().Key[0].Bits)%2 == 0 })
		for _, r := range page {
			got = append(got, int64(r.Entry().Key[0].Bits))
			after = r.KeyBytes()
		}
		if len(page) < 37 {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestExpiry looks an entry up just before its expiry and at it.
func TestExpiry(t *testing.T) {
	s := openStore(t, newFakeLog(rand.New(rand.NewPCG(1, 1))))
	if _, err := s.Change(t.Context(), []Change{{Op: OpDeclare, Definition: namesList}, {Op: OpPut, Table: "names", Entry: Entry{Key: []Value{str("a")}, Expires: 1000}},
		{Op: OpPut, Table: "names", Entry: Entry{Key: []Value{str("b")}}}}); err != nil {
		t.Fatal(err)
	}
	names := s.Head().Table("names")
	for _, c := range []struct {
		key  string
		at   event.Time
		seen bool
	}{{"a", 999, true}, {"a", 1000, false}, {"a", event.MinTime, true}, {"b", event.MaxTime, true}, {"c", 0, false}} {
		if _, seen := names.Find([]byte(c.key), c.at); seen != c.seen {
			t.Errorf("%s at %d: %v", c.key, c.at, seen)
		}
	}
	var none *Table
	if _, seen := none.Find([]byte("a"), 0); seen || none.Len() != 0 {
		t.Error("no table has an entry")
	}
}

// TestLimits wants a change that is too much to name the limit and to change
// nothing.
func TestLimits(t *testing.T) {
	l := newFakeLog(rand.New(rand.NewPCG(1, 1)))
	s := openStore(t, l)
	small := NewList("small", text)
	small.EntriesMax, small.BytesMax = 2, 200
	put := func(keys ...string) error {
		var group []Change
		for _, k := range keys {
			group = append(group, Change{Op: OpPut, Table: "small", Entry: Entry{Key: []Value{str(k)}}})
		}
		_, err := s.Change(t.Context(), group)
		return err
	}
	if _, err := s.Change(t.Context(), []Change{{Op: OpDeclare, Definition: small}}); err != nil {
		t.Fatal(err)
	}
	if err := put("a", "b"); err != nil {
		t.Fatal(err)
	}
	before, end := dump(s.Head()), len(l.recs)
	for _, c := range []struct {
		err  error
		want error
		text string
	}{
		{put("c"), ErrFull, "the table is full: list small would have 3 entries; max_entries is 2"},
		{put(strings.Repeat("x", EntryMax)), ErrTooLarge, "at most 65536 bytes"},
		{func() error { _, err := s.Change(t.Context(), []Change{{Op: OpPut, Table: "smal"}}); return err }(), ErrUnknown, `"smal"`},
	} {
		if !errors.Is(c.err, c.want) || !strings.Contains(c.err.Error(), c.text) {
			t.Errorf("error %v, want %v with %q", c.err, c.want, c.text)
		}
	}
	if dump(s.Head()) != before || len(l.recs) != end {
		t.Error("a refused change changed something")
	}
	if err := put("a"); err != nil || len(l.recs) != end {
		t.Errorf("a change that changes nothing: %v, %d records", err, len(l.recs)-end)
	}
}

// TestDeclareAgain adds and drops columns of a table with entries.
func TestDeclareAgain(t *testing.T) {
	s := openStore(t, newFakeLog(rand.New(rand.NewPCG(1, 1))))
	d := func(columns ...event.Field) *Definition {
		return &Definition{Name: "m", Key: []event.Field{{Name: "k", Type: text}}, Columns: columns}
	}
	a, b := event.Field{Name: "a", Type: whole}, event.Field{Name: "b", Type: text, Optional: true}
	change := func(d *Definition) error {
		_, err := s.Change(t.Context(), []Change{{Op: OpDeclare, Definition: d}})
		return err
	}
	if err := change(d(a)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Change(t.Context(), []Change{{Op: OpPut, Table: "m", Entry: Entry{Key: []Value{str("x")}, Columns: []Value{num(7)}}}}); err != nil {
		t.Fatal(err)
	}
	if err := change(d(b, a)); err != nil {
		t.Fatal(err)
	}
	r, found := s.Head().Table("m").Get([]byte("x"))
	if e := r.Entry(); !found || !e.Columns[0].Null || e.Columns[1].Bits != 7 {
		t.Errorf("after a column was added: %+v", e)
	}
	for _, bad := range []*Definition{d(b, a, event.Field{Name: "c", Type: whole}), d(event.Field{Name: "a", Type: text}),
		{Name: "m", Key: []event.Field{{Name: "k", Type: whole}}}} {
		if err := change(bad); !errors.Is(err, ErrShape) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	other := d(event.Field{Name: "a", Type: text})
	other.Source = "csv:m.csv"
	if err := change(other); err != nil || s.Head().Table("m").Len() != 0 {
		t.Errorf("a table with a source begins empty: %v", err)
	}
}

// TestFindAllocatesNothing also tells how long a million entries take.
func TestFindAllocatesNothing(t *testing.T) {
	e := emptyView.edit()
	if err := e.apply(&Change{Op: OpDeclare, Definition: namesList}); err != nil {
		t.Fatal(err)
	}
	const n = 100_000
	for i := range n {
		if err := e.apply(&Change{Op: OpPut, Table: "names", Entry: Entry{Key: []Value{str(fmt.Sprint("merchant-", i))}, Expires: event.MaxTime}}); err != nil {
			t.Fatal(err)
		}
	}
	names := e.view(1).Table("names")
	key, i, found := make([]byte, 0, 32), 0, 0
	allocs := testing.AllocsPerRun(n, func() {
		key = strconv.AppendInt(append(key[:0], "merchant-"...), int64(i), 10)
		if _, ok := names.Find(key, 0); ok {
			found++
		}
		i++
	})
	if allocs > 0 || found != n {
		t.Errorf("%v allocations, %d found", allocs, found)
	}
}

func BenchmarkFind(b *testing.B) {
	e := emptyView.edit()
	_ = e.apply(&Change{Op: OpDeclare, Definition: namesList})
	const n = 1_000_000
	for i := range n {
		_ = e.apply(&Change{Op: OpPut, Table: "names", Entry: Entry{Key: []Value{str(fmt.Sprint("merchant-", i))}, Expires: event.MaxTime}})
	}
	names := e.view(1).Table("names")
	keys := make([][]byte, 4096)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "merchant-%d", i*7919%(2*n))
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		names.Find(keys[i&4095], 0)
		i++
	}
	b.ReportMetric(float64(names.Bytes())/n, "bytes/entry")
}

// BenchmarkChangeOne is one change of a list of a million, and BenchmarkLoad the
// million.
func BenchmarkChangeOne(b *testing.B) {
	e := emptyView.edit()
	_ = e.apply(&Change{Op: OpDeclare, Definition: namesList})
	for i := range 1_000_000 {
		_ = e.apply(&Change{Op: OpPut, Table: "names", Entry: Entry{Key: []Value{str(fmt.Sprint("merchant-", i))}, Expires: event.MaxTime}})
	}
	v := e.view(1)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e := v.edit()
		_ = e.apply(&Change{Op: OpPut, Table: "names", Entry: Entry{Key: []Value{str(fmt.Sprint("new-", i))}, Expires: event.MaxTime}})
		v = e.view(int64(i + 2))
		i++
	}
}

func BenchmarkLoad(b *testing.B) {
	const n = 1_000_000
	group := []Change{{Op: OpDeclare, Definition: namesList}}
	for i := range n {
		group = append(group, Change{Op: OpPut, Table: "names", Entry: Entry{Key: []Value{str(fmt.Sprint("merchant-", i))}, Author: "merchants.csv"}})
	}
	for b.Loop() {
		l := newFakeLog(rand.New(rand.NewPCG(1, 1)))
		if _, err := openStore(b, l).Change(context.Background(), group); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		openStore(b, l)
		b.ReportMetric(time.Since(began).Seconds(), "s/reopen")
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

// FuzzChange reads any record, and one that is read is written the same again.
func FuzzChange(f *testing.F) {
	lookup := func(name string) *Definition {
		return map[string]*Definition{"names": namesList, "numbers": numbers, "merchants": merchants}[name]
	}
	for _, c := range []Change{
		{Op: OpPut, Table: "merchants", Entry: Entry{Key: []Value{str("DE"), num(-1)}, Columns: []Value{str("x"), num(1), {Null: true}, num(1)}, Expires: 5, Since: 9, Author: "a", Reason: "b"}},
		{Op: OpRemove, Table: "numbers", Entry: Entry{Key: []Value{num(3)}}}, {Op: OpDeclare, Table: "merchants", Definition: merchants}, {Op: opAbort},
	} {
		text, err := c.appendJSON(nil, cmp.Or(lookup(c.Table), namesList), false)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, more, err := parseChange(text, lookup)
		if err != nil {
			return
		}
		once, err := c.appendJSON(nil, cmp.Or(lookup(c.Table), namesList), more)
		if err != nil {
			t.Fatal(err)
		}
		again, more2, err := parseChange(once, lookup)
		if err != nil {
			t.Fatalf("%s: %v", once, err)
		}
		twice, err := again.appendJSON(nil, cmp.Or(lookup(c.Table), namesList), more2)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s is then %s, %v", once, twice, err)
		}
	})
}

// TestSensitiveDefinition: what may be sensitive, and that a key which was not hashed
// is no key of a definition that hashes it.
func TestSensitiveDefinition(t *testing.T) {
	text := event.Type{Kind: event.String}
	d := NewList("blocked", text)
	plain := NewList("blocked", text)
	d.SetSensitive(ListKey, schema.HMAC)
	if err := d.Validate(); err != nil {
		t.Fatal(err)
	}
	raw, err := d.marshal()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := unmarshalDefinition("blocked", raw); err != nil || !again.equal(d) || again.SameShape(plain) {
		t.Errorf("%s: read again as %+v, %v", raw, again, err)
	}
	for name, bad := range map[string]*Definition{
		"mask of a key": {Name: "t", Key: []event.Field{{Name: "a", Type: text}}, Sensitive: map[string]schema.Policy{"a": schema.Mask}},
		"a number":      {Name: "t", Key: []event.Field{{Name: "a", Type: event.Type{Kind: event.Int64}}}, Sensitive: map[string]schema.Policy{"a": schema.HMAC}},
		"encrypted":     {Name: "t", Key: []event.Field{{Name: "a", Type: text}}, Sensitive: map[string]schema.Policy{"a": schema.Encrypt}},
		"no field":      {Name: "t", Key: []event.Field{{Name: "a", Type: text}}, Sensitive: map[string]schema.Policy{"b": schema.HMAC}},
		"two keys of a topic": {Name: "t", Key: []event.Field{{Name: "a", Type: text}, {Name: "b", Type: text}}, Source: "topic:x",
			Sensitive: map[string]schema.Policy{"a": schema.HMAC}},
	} {
		if bad.Validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
