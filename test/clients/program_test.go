package clients

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// event is a line that a program printed.
type event struct {
	Event string

	Partition  int32 // record
	Offset     int64
	Key, Value *string
	Headers    [][2]string
	Timestamp  int64

	Count       int     // acked
	Partitions  []int32 // assigned
	Step, Error string  // ok, failed
	Fenced      bool
	State       string // state of Kafka Streams
	Brokers     int    // statistics
	Retention   string `json:"retention.ms"` // config
}

// program is a client at work.
type program struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser

	mu     sync.Mutex
	events []event
	said   strings.Builder // standard error
	ended  bool
	err    error
	change chan struct{} // closed and renewed at every change
}

// call starts a scenario of a client.
func (c *client) call(t *testing.T, argv []string, addr, scenario string, args ...string) *program {
	t.Helper()
	argv = append(append(append([]string{}, argv...), scenario, addr), args...)
	p := &program{t: t, name: c.name + " " + scenario, cmd: exec.Command(argv[0], argv[1:]...), change: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "NODE_NO_WARNINGS=1", "KAFKAJS_NO_PARTITIONER_WARNING=1")
	p.cmd.Stderr = writer(func(b []byte) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.said.Len() < 1<<20 {
			p.said.Write(b)
		}
	})
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.listen(out)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", p.name, p.complaint())
		}
	})
	return p
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

func (p *program) listen(out io.Reader) {
	changed := func(f func()) {
		p.mu.Lock()
		defer p.mu.Unlock()
		f()
		close(p.change)
		p.change = make(chan struct{})
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			e = event{Event: "unreadable", Error: fmt.Sprintf("%v: %s", err, lines.Text())}
		}
		changed(func() { p.events = append(p.events, e) })
	}
	err := p.cmd.Wait()
	changed(func() { p.ended, p.err = true, err })
}

// complaint is the end of what the program said on standard error.
func (p *program) complaint() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.said.String()
	return s[max(0, len(s)-4000):]
}

func (p *program) kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it may have ended
	p.wait("its end", func([]event) bool { return false })
}

// wait waits until what the program has printed fulfils a condition, or the
// program ends, and returns all that it printed.
func (p *program) wait(what string, f func([]event) bool) []event {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		p.mu.Lock()
		events, ended, change := p.events, p.ended, p.change
		p.mu.Unlock()
		if f(events) || ended {
			return events
		}
		select {
		case <-change:
		case <-deadline:
			last := "nothing"
			if len(events) > 0 {
				last = fmt.Sprintf("%d lines, the last is %+v", len(events), events[len(events)-1])
			}
			p.t.Fatalf("%s: %s: not within %v; it printed %s\n%s", p.name, what, patience, last, p.complaint())
		}
	}
}

// expect is wait where an end before the condition is a failure.
func (p *program) expect(what string, f func([]event) bool) []event {
	p.t.Helper()
	events := p.wait(what, f)
	if !f(events) {
		p.t.Fatalf("%s: ended (%v) before %s\n%s", p.name, p.err, what, p.complaint())
	}
	return events
}

// finish waits for the program's success and returns all that it printed.
func (p *program) finish() []event {
	p.t.Helper()
	events := p.wait("its end", func([]event) bool { return false })
	if p.err != nil || len(events) == 0 || events[len(events)-1].Event != "done" {
		p.t.Fatalf("%s failed: %v\n%s", p.name, p.err, p.complaint())
	}
	return events
}

// leave closes the program's standard input and waits for its success.
func (p *program) leave() []event {
	p.t.Helper()
	p.stdin.Close() //nolint:errcheck // it may have ended: finish tells
	return p.finish()
}

// say writes a line to the program.
func (p *program) say(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.stdin, format+"\n", args...); err != nil {
		p.t.Fatalf("%s: %v\n%s", p.name, err, p.complaint())
	}
}

// step takes one step of a transaction and returns the answer.
func (p *program) step(format string, args ...any) event {
	p.t.Helper()
	p.mu.Lock()
	before := len(p.events)
	p.mu.Unlock()
	p.say(format, args...)
	return p.expect("the answer to "+fmt.Sprintf(format, args...), func(es []event) bool { return len(es) > before })[before]
}

// must is step where anything but ok is a failure.
func (p *program) must(format string, args ...any) {
	p.t.Helper()
	if e := p.step(format, args...); e.Event != "ok" {
		p.t.Fatalf("%s: %s: %+v\n%s", p.name, fmt.Sprintf(format, args...), e, p.complaint())
	}
}

// of is the events of one kind.
func of(events []event, kind string) []event {
	var some []event
	for _, e := range events {
		if e.Event == kind {
			some = append(some, e)
		}
	}
	return some
}
