package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/ingest/loader"
)

// meter shows how a load goes on: a bar that is redrawn on a terminal, a line
// every few seconds elsewhere.
type meter struct {
	out      io.Writer
	name     string
	quiet    bool
	terminal bool
	next     time.Duration // when to show the next one, since the start
}

const (
	meterRedraw = 100 * time.Millisecond
	meterLine   = 5 * time.Second
	barWidth    = 24
)

func newMeter(out io.Writer, path string, quiet bool) *meter {
	m := &meter{out: out, name: filepath.Base(path), quiet: quiet}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		m.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	if !m.terminal {
		m.next = meterLine
	}
	return m
}

func (m *meter) show(p loader.Progress) {
	if m.quiet || p.Elapsed < m.next {
		return
	}
	if m.terminal {
		m.next = p.Elapsed + meterRedraw
		fmt.Fprintf(m.out, "\r\x1b[K%s", m.line(p))
		return
	}
	m.next = p.Elapsed + meterLine
	fmt.Fprintln(m.out, m.line(p))
}

func (m *meter) end() {
	if m.terminal && !m.quiet {
		fmt.Fprint(m.out, "\r\x1b[K")
	}
}

// meters shows several loads as one.
type meters struct {
	meter *meter
	mu    sync.Mutex
	each  []loader.Progress
}

func newMeters(m *meter, loads int) *meters {
	return &meters{meter: m, each: make([]loader.Progress, loads)}
}

// of is for the Options of load i.
func (m *meters) of(i int) func(loader.Progress) {
	return func(p loader.Progress) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.each[i] = p
		all := loader.Progress{Reached: event.MinTime, Elapsed: p.Elapsed}
		for _, one := range m.each {
			all.Accepted += one.Accepted
			all.Dead += one.Dead
			all.Skipped += one.Skipped
			all.BytesRead += one.BytesRead
			all.BytesTotal += one.BytesTotal
			all.Reached = max(all.Reached, one.Reached)
		}
		m.meter.show(all)
	}
}

func (m *meters) end() { m.meter.end() }

// line is "name ████░░ 42% 1,234 rows 180,000 rows/s 12s left".
func (m *meter) line(p loader.Progress) string {
	var b strings.Builder
	b.WriteString(m.name)
	share := 0.0
	if p.BytesTotal > 0 {
		share = min(1, float64(p.BytesRead)/float64(p.BytesTotal))
		full := int(share * barWidth)
		fmt.Fprintf(&b, " %s%s %3.0f%%", strings.Repeat("█", full), strings.Repeat("░", barWidth-full), share*100)
	}
	fmt.Fprintf(&b, " %s rows %s rows/s", count(p.Accepted+p.Skipped), count(rate(p.Accepted+p.Skipped, p.Elapsed)))
	if p.Skipped > 0 {
		fmt.Fprintf(&b, " (%s already there)", count(p.Skipped))
	}
	if p.Dead > 0 {
		fmt.Fprintf(&b, " %s dead letters", count(p.Dead))
	}
	if p.Reached > event.MinTime {
		fmt.Fprintf(&b, " at %s", p.Reached.Time().Format("2006-01-02 15:04:05Z"))
	}
	if share > 0.01 {
		left := time.Duration(float64(p.Elapsed) * (1 - share) / share)
		fmt.Fprintf(&b, " %s left", left.Round(time.Second))
	}
	return b.String()
}

func rate(n int64, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64(float64(n) / d.Seconds())
}

// count is n with thousands separators.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
