package windows

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/sink"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/log/commitlog"
	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/rules"
)

// known is one transaction, whether it was at a weekend and at night, and its windows,
// of the customer and of the terminal, added up by hand.
type known struct {
	line     []byte
	card     []byte
	day      int64
	flags    [2]bool // weekend, night: until 6:59, as the handbook has it
	n, sum   [2][3]int64
	compared bool // with what the engine found
}

// flagRules are the conditions of the flags.
var flagRules = [2]string{`tx.ts.getDayOfWeek("UTC") in [0, 6]`, `tx.ts.getHours("UTC") <= 6`}

// recomputed is the file, or a tenth of its terminals, with all windows.
func recomputed(t *testing.T) []known {
	t.Helper()
	var out []known
	held := [2]map[string][]past{{}, {}}
	lines(t, "transactions.csv.gz", func(line []byte) bool {
		line = bytes.Clone(line)
		f := bytes.Split(line, []byte(","))
		if tenth && f[3][len(f[3])-1] != '0' {
			return true
		}
		at, err := strconv.ParseInt(string(f[5]), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		date, err := time.Parse(time.DateTime, string(f[1]))
		if err != nil {
			t.Fatal(err)
		}
		weekend := date.Weekday() == time.Saturday || date.Weekday() == time.Sunday
		k := known{line: line, card: f[2], day: at / day, flags: [2]bool{weekend, date.Hour() <= 6}}
		for side, value := range [][]byte{cents(f[4]), f[7]} {
			v, err := strconv.ParseInt(string(value), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			key := string(f[2+side])
			rows := append(held[side][key], past{at: at, value: v})
			held[side][key] = rows
			k.n[side], k.sum[side] = scratch(rows, at-int64(side)*7*day)
		}
		out = append(out, k)
		return true
	})
	return out
}

// comparing is a program whose instances compare the features of each event with what
// is known of it, where they would decide.
type comparing struct {
	*rules.Program
	rows    []known
	offsets [][]int32 // by partition and offset: index of rows

	mu    sync.Mutex
	wrong int
	first []string
}

func (c *comparing) Instance(s *schema.Stream) (engine.Instance, error) {
	in, err := c.Program.Instance(s)
	return &comparingInstance{Instance: in, c: c}, err
}

type comparingInstance struct {
	engine.Instance
	c *comparing
}

func (in *comparingInstance) Prepare(b *event.Batch, out *cep.Outbox) {
	in.Instance.(engine.Preparer).Prepare(b, out)
}

func (in *comparingInstance) Decide(b *event.Batch, out *cep.Outbox, dst []engine.Finding) ([]engine.Finding, error) {
	c := in.c
	c.mu.Lock()
	defer c.mu.Unlock()
	fired, err := in.Instance.Decide(b, out, nil)
	if err != nil || len(out.Faults) > 0 || len(out.Marks) > 0 {
		return nil, fmt.Errorf("error %v, faults %v, marks %v", err, out.Faults, out.Marks)
	}
	for i := range b.Len() {
		k := &c.rows[c.offsets[b.OriginOf(i).Partition][b.Offset[i]]]
		if k.compared || out.Late[i] {
			c.differs("%s: compared already: %v, late: %v", k.line, k.compared, out.Late[i])
		}
		k.compared = true
		for flag, want := range k.flags {
			got := len(fired) > 0 && fired[0].Row == i && fired[0].Rule == "flag-"+strconv.Itoa(flag)
			if got {
				fired = fired[1:]
			}
			if got != want {
				c.differs("%s: %s is %v", k.line, flagRules[flag], got)
			}
		}
		for side, scale := range []float64{100, 1} {
			for w := range spans {
				want := 0.0
				if k.n[side][w] > 0 {
					want = float64(k.sum[side][w]) / (scale * float64(k.n[side][w])) // both exact: the nearest double
				}
				count, mean := &out.Features[6*side+2*w], &out.Features[6*side+2*w+1]
				got := 0.0
				if !mean.IsNull(i) {
					got = mean.Double[i]
				}
				if count.Int64[i] != k.n[side][w] || got != want || mean.IsNull(i) != (k.n[side][w] == 0) {
					c.differs("%s, side %d, %d days: count %d, mean %v; expected %d, %v", k.line, side, spans[w]/day, count.Int64[i], got, k.n[side][w], want)
				}
			}
		}
	}
	if len(fired) > 0 {
		c.differs("rule %s fired on row %d", fired[0].Rule, fired[0].Row)
	}
	return dst, nil
}

func (c *comparing) differs(format string, args ...any) {
	if c.wrong++; c.wrong < 10 {
		c.first = append(c.first, fmt.Sprintf(format, args...))
	}
}

// TestHandbookOneStream: the handbook's fourteen features, that of the weekend, that of
// the night, six of customers and six of terminals, come out of one stream, whose key is
// the customer, through the engine and its log, for each of its transactions, whatever
// the number of partitions.
//
// With several partitions the order of a terminal's events is that in which the engine
// met them. What a terminal's windows hold is seven days old, so days go in a few at a
// time, and all of them are decided before the next.
func TestHandbookOneStream(t *testing.T) {
	rows := recomputed(t)
	if !tenth && len(rows) != handbookRows {
		t.Fatalf("%d rows, expected %d", len(rows), handbookRows)
	}
	for _, partitions := range []int32{1, 3} {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) { oneStream(t, rows, partitions) })
	}
}

const daysAtOnce = 6

func oneStream(t *testing.T, rows []known, partitions int32) {
	began := time.Now()
	for i := range rows {
		rows[i].compared = false
	}
	s := transactions(1)
	s.Partitions = partitions
	c := &comparing{Program: handbookProgram(t, s), rows: rows, offsets: make([][]int32, partitions)}
	l, err := commitlog.Open(t.Context(), t.TempDir(), commitlog.Options{NoSync: true, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	create := func(topic string, n int32) (int32, error) {
		if _, there := l.Topic(topic); !there {
			if _, err := l.CreateTopic(commitlog.TopicSpec{Name: topic, Partitions: n}); err != nil {
				return 0, err
			}
		}
		return n, nil
	}
	for topic, n := range map[string]int32{s.Topic: partitions, event.TopicDecisions: 1, event.TopicAlerts: 1, event.TopicDeadLetters: 1} {
		if _, err := create(topic, n); err != nil {
			t.Fatal(err)
		}
	}
	e, err := engine.New([]*schema.Stream{s}, c, engine.Options{FS: vfs.NewMem(1), Dir: "checkpoints", Sink: sink.NewLocal(l), KeyedTopic: create, Logger: quiet(),
		CheckpointEvery: time.Second, Open: func(_ context.Context, topic string, partition int32, from int64) (source.Source, error) {
			p, err := l.Partition(topic, partition)
			if err != nil {
				return nil, err
			}
			return source.NewPartition(p, source.Options{From: from}), nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	for from := 0; from < len(rows); {
		to := from
		for to < len(rows) && rows[to].day/daysAtOnce == rows[from].day/daysAtOnce {
			to++
		}
		c.produce(t, l, s, from, to)
		for _, st := range e.Status() {
			for ; st.Cursor < int64(len(c.offsets[st.Partition])); st = e.Status()[st.Partition] {
				if st.Err != "" {
					t.Fatal(st.Err)
				}
				time.Sleep(time.Millisecond) // between two looks at a condition
			}
		}
		from = to
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	compared := 0
	for i := range rows {
		if rows[i].compared {
			compared++
		}
	}
	if compared != len(rows) || c.wrong > 0 {
		t.Errorf("%d of %d rows compared, %d values differ: %s", compared, len(rows), c.wrong, c.first)
	}
	if len(c.Keyed()) != 1 {
		t.Errorf("%d keyed streams, expected that of terminals", len(c.Keyed()))
	}
	for _, st := range e.Status() {
		if st.DeadLetters != 0 || st.Restarts != 0 {
			t.Errorf("status %+v", st)
		}
	}
	t.Logf("%d rows, 14 features, %d partitions: %v; %s", compared, partitions, time.Since(began).Round(time.Millisecond), memory())
}

// handbookProgram has one rule for each window, so that each is a feature, that never
// fires, and one for each flag.
func handbookProgram(t *testing.T, s *schema.Stream) *rules.Program {
	t.Helper()
	var set rules.Set
	for _, side := range []struct{ by, value string }{{`by(tx.card)`, "tx.amount"}, {`by(tx.terminal).delay("7d")`, "tx.fraud"}} {
		for _, span := range spans {
			window := fmt.Sprintf(`last("%dd").%s`, span/day, side.by)
			for _, when := range []string{window + ".count() < 0", window + ".mean(" + side.value + ").orValue(0.0) < 0.0"} {
				set = append(set, rules.Rule{ID: "window-" + strconv.Itoa(len(set)), Stream: s.Schema.Stream, When: when, Action: "alert", Mode: "live"})
			}
		}
	}
	for i, when := range flagRules {
		set = append(set, rules.Rule{ID: "flag-" + strconv.Itoa(i), Stream: s.Schema.Stream, When: when, Action: "alert", Mode: "live"})
	}
	program, err := rules.Compile(set, rules.Catalog{Streams: []*schema.Stream{s}})
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// produce writes rows to the stream, by card.
func (c *comparing) produce(t *testing.T, l *commitlog.Log, s *schema.Stream, from, to int) {
	t.Helper()
	builders := make([]record.Builder, s.Partitions)
	flush := func(p int32) {
		batch, err := builders[p].Build()
		if err != nil {
			t.Fatal(err)
		}
		part, err := l.Partition(s.Topic, p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Append(t.Context(), batch, 1); err != nil {
			t.Fatal(err)
		}
		builders[p].Reset(record.BatchOptions{})
	}
	for p := range builders {
		builders[p].Reset(record.BatchOptions{})
	}
	for i := from; i < to; i++ {
		p := sink.Partition(c.rows[i].card, s.Partitions)
		builders[p].Append(0, c.rows[i].card, c.rows[i].line, nil)
		c.mu.Lock()
		c.offsets[p] = append(c.offsets[p], int32(i))
		c.mu.Unlock()
		if builders[p].Len() > 256<<10 {
			flush(p)
		}
	}
	for p := range s.Partitions {
		if builders[p].Count() > 0 {
			flush(p)
		}
	}
}
