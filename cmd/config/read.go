package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // zones must not depend on what the machine has installed

	"gopkg.in/yaml.v3"
)

func isScalar(v value) bool { return resolve(v.node).Kind == yaml.ScalarNode }

func (w *walker) text(v value, expected string) text {
	s, ok := w.word(v, expected)
	return text{s: s, v: v, set: ok}
}

// texts reads a list of different texts, or a single one.
func (w *walker) texts(v value, expected string) []text {
	var out []text
	w.items(v, 1024, func(item value) {
		t := w.text(item, expected)
		for _, earlier := range out {
			if t.set && earlier.s == t.s {
				w.fail(item, "", "%q stands in the list twice", clip(t.s))
				return
			}
		}
		if t.set {
			out = append(out, t)
		}
	})
	return out
}

// secretText is text that no problem may show.
func (w *walker) secretText(v value, expected string) text {
	n := resolve(v.node)
	if n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null" && n.ShortTag() != "!!str" {
		w.fail(v, "", "found a value that is not text, expected %s", expected)
		return text{v: v}
	}
	return w.text(v, expected)
}

func (w *walker) pathText(v value, expected string) text {
	s, ok := w.pathAt(v, expected)
	return text{s: s, v: v, set: ok}
}

func (w *walker) addr(v value) text {
	s, ok := w.scalar(v, "HOST:PORT")
	if !ok {
		return text{v: v}
	}
	if reason, hint := checkAddr(s.text); reason != "" {
		w.fail(v, hint, "found %s, %s", found(v.node), reason)
		return text{v: v}
	}
	return text{s: s.text, v: v, set: true}
}

func (w *walker) number(v value, least, most int64, to *int64) {
	expected := fmt.Sprintf("a number from %d to %d", least, most)
	s, ok := w.scalar(v, expected)
	if !ok {
		return
	}
	n, err := strconv.ParseInt(s.text, 10, 64)
	hint := ""
	if err == nil && s.tag == "!!str" && !s.expanded {
		hint = "remove the quotes"
	}
	if err != nil || n < least || n > most || hint != "" {
		w.fail(v, hint, "found %s, expected %s", found(v.node), expected)
		return
	}
	*to = n
}

func (w *walker) duration(v value, least, most time.Duration, to *time.Duration) {
	const expected = "a duration such as 500ms, 5s, 1m, 24h or 7d"
	s, ok := w.scalar(v, expected)
	if !ok {
		return
	}
	d, err := ParseDuration(s.text)
	switch {
	case err != nil:
		hint := ""
		if _, err := strconv.ParseUint(s.text, 10, 32); err == nil {
			hint = fmt.Sprintf("did you mean %q?", s.written+"s")
		}
		w.fail(v, hint, "found %s, expected %s", found(v.node), expected)
	case d < least:
		w.fail(v, "", "found %s, expected at least %s", found(v.node), formatDuration(least))
	case d > most:
		w.fail(v, "", "found %s, expected at most %s", found(v.node), formatDuration(most))
	default:
		*to = d
	}
}

func (w *walker) size(v value, least, most int64, to *int64) {
	const expected = "a size such as 512KiB, 64MiB or 1GiB"
	s, ok := w.scalar(v, expected)
	if !ok {
		return
	}
	n, err := ParseSize(s.text)
	switch {
	case err != nil:
		w.fail(v, "", "found %s, expected %s", found(v.node), expected)
	case n < least:
		w.fail(v, "", "found %s, expected at least %s", found(v.node), formatSize(least))
	case n > most:
		w.fail(v, "", "found %s, expected at most %s", found(v.node), formatSize(most))
	default:
		*to = n
	}
}

func (w *walker) zone(v value) *time.Location {
	const expected = "an IANA time zone such as UTC or Europe/Paris"
	name, ok := w.word(v, expected)
	if !ok {
		return time.UTC
	}
	loc, err := time.LoadLocation(name)
	if err != nil || name == "Local" { // Local would differ from machine to machine
		w.fail(v, "", "found %s, expected %s", found(v.node), expected)
		return time.UTC
	}
	return loc
}

func (w *walker) delimiter(v value) byte {
	const expected = "one ASCII character that is not a quote, a letter, a digit or a line break"
	s, ok := w.scalar(v, expected)
	if !ok {
		return ','
	}
	if len(s.text) != 1 || s.text[0] >= 0x80 || s.text[0] < ' ' && s.text[0] != '\t' ||
		strings.ContainsAny(s.text, "\"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-+") {
		w.fail(v, "", "found %s, expected %s", found(v.node), expected)
		return ','
	}
	return s.text[0]
}

func (w *walker) cidrs(v value) []Prefix {
	var out []Prefix
	w.items(v, 64, func(item value) {
		const expected = "a network such as 10.0.0.0/8 or an address"
		s, ok := w.scalar(item, expected)
		if !ok {
			return
		}
		if a, err := netip.ParseAddr(s.text); err == nil && a.Zone() == "" {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			return
		}
		p, err := netip.ParsePrefix(s.text)
		switch {
		case err != nil:
			w.fail(item, "", "found %s, expected %s", found(item.node), expected)
		case p != p.Masked():
			w.fail(item, fmt.Sprintf("did you mean %q?", p.Masked()), "found %s, whose address has bits beyond its prefix", found(item.node))
		default:
			out = append(out, p)
		}
	})
	return out
}
