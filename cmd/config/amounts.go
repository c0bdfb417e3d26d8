package config

import (
	"errors"
	"math"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/weirstream/weir/ingest/schema"
)

var errDuration = errors.New("expected a duration such as 500ms, 5s, 1m, 24h or 7d")

var days = regexp.MustCompile(`^(\d{1,6})d`)

// ParseDuration reads a duration as weir.yaml writes it: Go's form and, in front
// of it, days of 24 hours. Negative ones are errors.
func ParseDuration(s string) (time.Duration, error) {
	var whole time.Duration
	rest := s
	if m := days.FindStringSubmatch(s); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n > math.MaxInt64/int(24*time.Hour) {
			return 0, errDuration
		}
		whole, rest = time.Duration(n)*24*time.Hour, s[len(m[0]):]
		if rest == "" {
			return whole, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || whole+d < whole || rest[0] == '+' || rest[0] == '-' {
		return 0, errDuration
	}
	return whole + d, nil
}

var errSize = errors.New("expected a size such as 512KiB, 64MiB or 1GiB")

var size = regexp.MustCompile(`^(\d{1,15})(\.\d{1,3})? ?(B|KiB|MiB|GiB|TiB|KB|kB|MB|GB|TB)?$`)

var units = map[string]float64{"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
	"KB": 1e3, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}

// ParseSize reads a number of bytes: 64MiB, 1.5GiB, 100MB, 4096.
func ParseSize(s string) (int64, error) {
	m := size.FindStringSubmatch(s)
	if m == nil {
		return 0, errSize
	}
	n, err := strconv.ParseFloat(m[1]+m[2], 64)
	if n *= units[m[3]]; err != nil || n > 1<<53 || n != math.Trunc(n) {
		return 0, errSize
	}
	return int64(n), nil
}

// formatSize is the shortest exact form of n.
func formatSize(n int64) string {
	for _, unit := range []string{"TiB", "GiB", "MiB", "KiB"} {
		if u := int64(units[unit]); n != 0 && n%u == 0 {
			return strconv.FormatInt(n/u, 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}

// formatDuration is d as a person would write it.
func formatDuration(d time.Duration) string {
	if d > 0 && d%(24*time.Hour) == 0 {
		return strconv.FormatInt(int64(d/(24*time.Hour)), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// checkAddr says what is wrong with a HOST:PORT, and a hint.
func checkAddr(s string) (reason, hint string) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		switch {
		case strings.Contains(s, "://"):
			hint = "leave the scheme out"
		case strings.Count(s, ":") > 1:
			hint = "put an IPv6 address in brackets, as in [::1]:9092"
		case regexp.MustCompile(`^\d+$`).MatchString(s):
			hint = "did you mean " + strconv.Quote("127.0.0.1:"+s) + "?"
		}
		return "expected HOST:PORT", hint
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return "expected a port from 0 to 65535 after the colon", ""
	}
	if strings.ContainsAny(host, " /\t\"'") {
		return "expected a host name or an address before the colon", ""
	}
	return "", ""
}

// CheckAddr says what is wrong with an address to listen on.
func CheckAddr(addr string) error {
	if reason, hint := checkAddr(addr); reason != "" {
		return &schema.Problem{Message: reason, Hint: hint}
	}
	return nil
}
