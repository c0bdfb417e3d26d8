// kcat runs the scenarios of test/clients with the kcat of the machine. kcat
// takes one partition and one set of headers for all that it produces, and no
// timestamps.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"clients/contract"
)

func main() {
	contract.Main(map[string]func(contract.Args) error{"produce": produce, "consume": consume, "group": group, "transact": transact})
}

// line is a record as kcat -K '\t' -Z reads it: empty is null.
func line(r contract.Record) string { return fmt.Sprintf("%s\t%s\n", r.Key, r.Value) }

func produce(a contract.Args) error {
	var records []contract.Record
	for i := range a.Int("count") {
		records = append(records, contract.Of(a.Text("run"), i, a.Int("partitions")))
	}
	for p := range a.Int("partitions") {
		cmd := exec.Command("kcat", "-b", a.Bootstrap, "-P", "-t", a.Text("topic"), "-p", strconv.Itoa(p), "-K", "\t", "-Z", "-z", a.Text("codec"),
			"-X", "enable.idempotence="+strconv.FormatBool(a.Bool("idempotent")), "-H", "run="+a.Text("run"), "-H", "empty=")
		var in bytes.Buffer
		for _, r := range records {
			if int(r.Partition) == p {
				in.WriteString(line(r))
			}
		}
		cmd.Stdin, cmd.Stderr = &in, os.Stderr
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	contract.Emit("acked", map[string]any{"count": len(records)})
	return nil
}

// record is what kcat -J prints.
type record struct {
	Partition    int32
	Offset, TS   int64
	Key, Payload *string
	Headers      []string
}

func (r record) emit() {
	var headers []contract.Header
	for i := 0; i+1 < len(r.Headers); i += 2 {
		headers = append(headers, contract.Header{Key: r.Headers[i], Value: r.Headers[i+1]})
	}
	text := func(s *string) []byte {
		if s == nil {
			return nil
		}
		return []byte(*s)
	}
	contract.EmitRecord(r.Partition, r.Offset, text(r.Key), text(r.Payload), headers, time.UnixMilli(r.TS))
}

// read calls f for each record that kcat prints.
func read(out io.Reader, f func(record) (more bool)) error {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("%w: %s", err, lines.Bytes())
		}
		if !f(r) {
			return nil
		}
	}
	return lines.Err()
}

func consume(a contract.Args) error {
	cmd := exec.Command("kcat", "-b", a.Bootstrap, "-C", "-t", a.Text("topic"), "-o", "beginning", "-J", "-u", "-q",
		"-X", "isolation.level=read_"+a.Text("isolation"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	ends := contract.NewEnds(a.Int("partitions"))
	err = read(out, func(r record) bool {
		if r.Payload == nil || !ends.End(r.Partition, []byte(*r.Payload)) {
			r.emit()
		}
		return !ends.All()
	})
	cmd.Process.Kill() //nolint:errcheck // it may have ended
	cmd.Wait()         //nolint:errcheck // it was killed
	if err == nil && !ends.All() {
		err = errors.New("kcat ended before the ends of the partitions")
	}
	return err
}

var rebalanced = regexp.MustCompile(`% Group .* rebalanced .*: assigned: (.*)`)
var part = regexp.MustCompile(`\[(\d+)\]`)

func group(a contract.Args) error {
	cmd := exec.Command("kcat", "-b", a.Bootstrap, "-G", a.Text("group"), "-J", "-u", "-X", "auto.offset.reset=earliest",
		"-X", "heartbeat.interval.ms=500", "-X", "session.timeout.ms=6000", "-X", "auto.commit.interval.ms=100", a.Text("topic"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	said, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		lines := bufio.NewScanner(said)
		for lines.Scan() {
			fmt.Fprintln(os.Stderr, lines.Text())
			if m := rebalanced.FindStringSubmatch(lines.Text()); m != nil {
				parts := []int{}
				for _, p := range part.FindAllStringSubmatch(m[1], -1) {
					n, _ := strconv.Atoi(p[1]) // digits
					parts = append(parts, n)
				}
				contract.Emit("assigned", map[string]any{"partitions": parts})
			}
		}
	}()
	left := contract.Left()
	go func() {
		<-left
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
	}()
	if err := read(out, func(r record) bool { r.emit(); return true }); err != nil {
		return err
	}
	<-heard
	return cmd.Wait()
}

// chunk is what kcat reads of its input at once, waiting for all of it. Empty lines
// it leaves out.
const chunk = 1024

// transact: a transaction is one kcat, which commits when its input ends, and
// aborts if it was interrupted before. Interrupted with lines that it has not sent
// it would end at once, and leave the transaction open.
func transact(a contract.Args) error {
	var cmd *exec.Cmd
	var in io.WriteCloser
	var said bytes.Buffer
	return contract.Steps(func(step string, args []int) (err error) {
		switch step {
		case "begin":
			said.Reset()
			cmd = exec.Command("kcat", "-b", a.Bootstrap, "-P", "-t", a.Text("topic"), "-K", "\t", "-Z",
				"-X", "transactional.id="+a.Text("id"), "-H", "run="+a.Text("run"), "-H", "empty=")
			cmd.Stderr = &said
			if in, err = cmd.StdinPipe(); err != nil {
				return err
			}
			return cmd.Start()
		case "produce":
			var lines bytes.Buffer
			for i := args[0]; i < args[0]+args[1]; i++ {
				lines.WriteString(line(contract.Of(a.Text("run"), i, a.Int("partitions"))))
			}
			lines.WriteString(strings.Repeat("\n", chunk-lines.Len()%chunk))
			_, err := lines.WriteTo(in)
			return err
		case "commit", "abort":
			if step == "abort" {
				if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
					return err
				}
			}
			if err := in.Close(); err != nil { // which it notices, not the signal
				return err
			}
			if err := cmd.Wait(); err != nil {
				text := strings.ToLower(said.String())
				if strings.Contains(text, "fenced") || strings.Contains(text, "newer instance") {
					return fmt.Errorf("%w: %s", contract.ErrFenced, text)
				}
				return fmt.Errorf("%w: %s", err, text)
			}
			return nil
		}
		return fmt.Errorf("no step %q", step)
	})
}
