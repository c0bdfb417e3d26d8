package main

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"time"
)

// clockTicks is the unit of /proc/PID/stat, 100 a second on every Linux that Go
// runs on.
const clockTicks = 100

// cpuTime is the CPU time that a process has used, in user and kernel.
func cpuTime(pid int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The name may have spaces; behind it are the fields from the third on.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 13 {
		return 0, errors.New("process status without CPU times")
	}
	user, err1 := strconv.ParseInt(string(fields[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	return time.Duration(user+system) * time.Second / clockTicks, errors.Join(err1, err2)
}
