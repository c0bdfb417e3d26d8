package contract

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Args is how a program was called: SCENARIO BOOTSTRAP KEY=VALUE...
type Args struct {
	Scenario, Bootstrap string
	values              map[string]string
}

// Text is the value of key, or "".
func (a Args) Text(key string) string { return a.values[key] }

// Bool is whether key is "true".
func (a Args) Bool(key string) bool { return a.values[key] == "true" }

// Int is the value of key, or 0.
func (a Args) Int(key string) int {
	n, err := strconv.Atoi(a.values[key])
	if err != nil && a.values[key] != "" {
		Fail(fmt.Errorf("%s=%s is not a number", key, a.values[key]))
	}
	return n
}

// Retention is the retention.ms of the topic that an admin scenario makes: ten
// years, so that the records stay, which are from 2023.
const Retention = "315360000000"

// ErrFenced says that another producer took the transactional id over.
var ErrFenced = errors.New("fenced")

// Main runs the scenario that the command line names.
func Main(scenarios map[string]func(Args) error) {
	if len(os.Args) < 3 {
		Fail(errors.New("usage: SCENARIO BOOTSTRAP KEY=VALUE..."))
	}
	a := Args{Scenario: os.Args[1], Bootstrap: os.Args[2], values: map[string]string{}}
	for _, arg := range os.Args[3:] {
		k, v, _ := strings.Cut(arg, "=")
		a.values[k] = v
	}
	run := scenarios[a.Scenario]
	if run == nil {
		Fail(fmt.Errorf("no scenario %q", a.Scenario))
	}
	if err := run(a); err != nil {
		Fail(err)
	}
	Emit("done", nil)
}

// Fail prints the error and ends the program.
func Fail(err error) {
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(1)
}

var printing sync.Mutex

// Emit prints one line.
func Emit(event string, fields map[string]any) {
	line := map[string]any{"event": event}
	for k, v := range fields {
		line[k] = v
	}
	text, err := json.Marshal(line)
	if err != nil {
		Fail(err)
	}
	printing.Lock()
	defer printing.Unlock()
	fmt.Printf("%s\n", text)
}

// Record is a record of a run: null keys and values are nil.
type Record struct {
	Partition  int32
	Key, Value []byte
	Headers    []Header
	Time       time.Time
}

// Header is a record's header.
type Header struct{ Key, Value string }

// Of is record i of the run.
func Of(run string, i, partitions int) Record {
	r := Record{
		Partition: int32(i % partitions),
		Headers:   []Header{{"run", run}, {"index", strconv.Itoa(i)}, {"empty", ""}},
		Time:      time.UnixMilli(1700000000000 + 1000*int64(i)),
	}
	if i%7 != 3 {
		r.Key = fmt.Appendf(nil, "key-%d", i%13)
	}
	if i%11 != 5 {
		r.Value = fmt.Appendf(nil, "%s %d schöner 🐢 %s", run, i, strings.Repeat("weir ", 20))
	}
	return r
}

// Batches calls f for each stretch of the records that a produce scenario is to
// send and have acknowledged before the next, and prints how many are.
func Batches(a Args, f func(records []Record) error) error {
	from, count, batch := a.Int("from"), a.Int("count"), a.Int("batch")
	if batch == 0 {
		batch = count
	}
	turns := bufio.NewScanner(os.Stdin)
	for done := 0; done < count; {
		if a.Bool("paced") && !turns.Scan() {
			return errors.New("standard input ended")
		}
		var records []Record
		for ; len(records) < batch && done < count; done++ {
			records = append(records, Of(a.Text("run"), from+done, a.Int("partitions")))
		}
		if err := f(records); err != nil {
			return fmt.Errorf("after %d acknowledged: %w", done-len(records), err)
		}
		Emit("acked", map[string]any{"count": done})
	}
	return nil
}

// EmitRecord prints a record that was consumed.
func EmitRecord(partition int32, offset int64, key, value []byte, headers []Header, at time.Time) {
	text := func(b []byte) any {
		if b == nil {
			return nil
		}
		return string(b)
	}
	pairs := [][2]string{}
	for _, h := range headers {
		pairs = append(pairs, [2]string{h.Key, h.Value})
	}
	Emit("record", map[string]any{"partition": partition, "offset": offset, "key": text(key), "value": text(value),
		"headers": pairs, "timestamp": at.UnixMilli()})
}

// Ends knows when a consume scenario is over: when each partition has shown its
// last record, whose value is "end".
type Ends struct {
	partitions int
	seen       map[int32]bool
}

// NewEnds waits for the ends of so many partitions.
func NewEnds(partitions int) *Ends { return &Ends{partitions: partitions, seen: map[int32]bool{}} }

// End reports whether the record is its partition's last, and counts it.
func (e *Ends) End(partition int32, value []byte) bool {
	if string(value) != "end" {
		return false
	}
	e.seen[partition] = true
	return true
}

// All reports whether every partition has ended.
func (e *Ends) All() bool { return len(e.seen) == e.partitions }

// Left is closed when standard input ends: the driver wants the program to leave.
func Left() <-chan struct{} {
	left := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // any end is the end
		close(left)
	}()
	return left
}

// Steps calls f for each line of standard input and prints how it went: the
// driver walks through a transaction.
func Steps(f func(step string, args []int) error) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		var args []int
		for _, w := range words[1:] {
			n, err := strconv.Atoi(w)
			if err != nil {
				return err
			}
			args = append(args, n)
		}
		if err := f(words[0], args); err != nil {
			Emit("failed", map[string]any{"step": words[0], "error": err.Error(), "fenced": errors.Is(err, ErrFenced)})
			continue
		}
		Emit("ok", map[string]any{"step": words[0]})
	}
	return lines.Err()
}
