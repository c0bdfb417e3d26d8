// Package windows compares the windows of rules with recomputations from scratch
// over the published files: every row of them, every value.
package windows

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/cep/engine"
	"github.com/weirstream/weir/ingest/decode"
	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/schema"
	"github.com/weirstream/weir/ingest/source"
	"github.com/weirstream/weir/rules"
	"github.com/weirstream/weir/test/published"
)

// lines is a published file line by line, without its header.
func lines(t *testing.T, name string, each func(line []byte) bool) {
	t.Helper()
	header := true
	allLines(t, name, func(line []byte) bool {
		if header {
			header = false
			return true
		}
		return each(line)
	})
}

func allLines(t *testing.T, name string, each func(line []byte) bool) {
	t.Helper()
	file, err := os.Open(published.File(t, name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	gz, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	sc := bufio.NewScanner(gz)
	for sc.Scan() && each(sc.Bytes()) {
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
}

// pass runs rules over CSV lines in one pass, as a shard does it: decoded, windows
// kept by the instance of their program, decided. The features are in the order in
// which the rules name their windows.
type pass struct {
	t         *testing.T
	stream    *schema.Stream
	project   []int
	decoder   *decode.Decoder
	instance  engine.Instance
	batch     event.Batch
	outbox    cep.Outbox
	findings  []engine.Finding
	clock     *cep.Clock
	records   []source.Record
	data      []byte
	offset    int64
	operators time.Duration // spent in them
	// each sees the features of every batch, and found what fired.
	each  func(out *cep.Outbox)
	found func(found []engine.Finding)
}

// newPass has one rule for each window, so that each is a feature.
func newPass(t *testing.T, s *schema.Stream, windows ...string) *pass {
	t.Helper()
	var set rules.Set
	for i, w := range windows {
		when := w + ".hasValue()"
		if strings.HasSuffix(w, ".count()") {
			when = w + " >= 0"
		}
		set = append(set, rules.Rule{ID: "window-" + strconv.Itoa(i), Stream: s.Schema.Stream, When: when, Action: "alert", Mode: "live"})
	}
	p := newPassOf(t, s, set)
	if n := len(p.instance.Features()); n != len(windows) {
		t.Fatalf("%d windows became %d features", len(windows), n)
	}
	return p
}

func newPassOf(t *testing.T, s *schema.Stream, set rules.Set) *pass {
	t.Helper()
	program, err := rules.Compile(set, rules.Catalog{Streams: []*schema.Stream{s}})
	if err != nil {
		t.Fatal(err)
	}
	in, err := program.Instance(s)
	if err != nil {
		t.Fatal(err)
	}
	p := &pass{t: t, stream: s, project: in.Needs(), instance: in, clock: cep.NewClock(s.Lateness, s.WatermarkBy, s.WatermarkIdle)}
	if p.decoder, err = decode.New(s, p.project, decode.Options{}); err != nil {
		t.Fatal(err)
	}
	return p
}

const batchRows = 1024

func (p *pass) line(line []byte) {
	from := len(p.data)
	p.data = append(p.data, line...) // where it grows, what is in p.records stays where it was
	p.records = append(p.records, source.Record{Offset: p.offset, Value: p.data[from:len(p.data):len(p.data)]})
	p.offset++
	if len(p.records) == batchRows {
		p.flush()
	}
}

func (p *pass) flush() {
	b, out := &p.batch, &p.outbox
	b.Reset(p.stream.Schema, p.project)
	p.decoder.Decode(b, event.Origin{Topic: p.stream.Topic}, p.records, func(r *source.Record, f decode.Failure) {
		p.t.Fatalf("line %d: %v", r.Offset, f)
	})
	out.Reset(p.instance.Features())
	p.clock.Arrive(b, out)
	if slices.Contains(out.Late, true) {
		p.t.Fatal("a row is late")
	}
	p.instance.(engine.Preparer).Prepare(b, out)
	start := time.Now()
	for _, op := range p.instance.Operators() {
		if err := op.Process(b, out); err != nil {
			p.t.Fatal(err)
		}
		if err := op.Advance(p.clock.Watermark(), out); err != nil {
			p.t.Fatal(err)
		}
	}
	p.operators += time.Since(start)
	if len(out.Faults) > 0 || len(out.Marks) > 0 {
		p.t.Fatalf("faults %v, marks %v", out.Faults, out.Marks)
	}
	p.each(out)
	if p.found != nil {
		var err error
		if p.findings, err = p.instance.Decide(b, out, p.findings[:0]); err != nil {
			p.t.Fatal(err)
		}
		p.found(p.findings)
	}
	p.records, p.data = p.records[:0], p.data[:0]
}

// held is what the operators have in memory.
func (p *pass) held() string {
	var all cep.Stats
	for _, op := range p.instance.Operators() {
		s := op.Operator.(interface{ Stats() cep.Stats }).Stats()
		all.Keys, all.Events, all.Bytes = all.Keys+s.Keys, all.Events+s.Events, all.Bytes+s.Bytes
	}
	return fmt.Sprintf("%d keys, %d events, %.1f MiB", all.Keys, all.Events, float64(all.Bytes)/(1<<20))
}

// memory is the most that the process had in memory, and what its heap has now.
func memory() string {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	peak := "unknown"
	if f, err := os.Open("/proc/self/status"); err == nil {
		defer f.Close()
		text, _ := io.ReadAll(f)
		for line := range strings.Lines(string(text)) {
			if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				peak = strings.TrimSpace(v)
			}
		}
	}
	return fmt.Sprintf("peak memory of the process %s, heap %d MiB", peak, m.HeapInuse>>20)
}
