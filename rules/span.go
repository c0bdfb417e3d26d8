package rules

import (
	"errors"
	"math/big"
	"strings"
	"time"
)

// spanUnits are the units of a window's length.
var spanUnits = map[string]int64{
	"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9,
	"m": 60e9, "h": 3600e9, "d": 24 * 3600e9, "w": 7 * 24 * 3600e9,
}

var errSpan = errors.New(`expected a number and a unit (ns us ms s m h d w), such as "1h", "30d" or "1h30m"`)

// parseSpan reads a duration exactly: "250ms", "1h30m", "1.5h". Days are 24 hours.
func parseSpan(s string) (time.Duration, error) {
	total := new(big.Rat)
	for rest := s; ; {
		n := len(rest) - len(strings.TrimLeft(rest, "0123456789."))
		u := n
		for u < len(rest) && rest[u] >= 'a' && rest[u] <= 'z' {
			u++
		}
		unit, ok := spanUnits[rest[n:u]]
		v, numeric := new(big.Rat).SetString(rest[:n])
		if !ok || !numeric || n > 30 {
			return 0, errSpan
		}
		total.Add(total, v.Mul(v, new(big.Rat).SetInt64(unit)))
		if rest = rest[u:]; rest == "" {
			break
		}
	}
	switch {
	case !total.IsInt():
		return 0, errors.New("not a whole number of nanoseconds")
	case total.Sign() <= 0:
		return 0, errors.New("a window has a length above 0")
	case !total.Num().IsInt64():
		return 0, errors.New("longer than 292 years")
	}
	return time.Duration(total.Num().Int64()), nil
}
