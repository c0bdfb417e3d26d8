package main

import (
	"fmt"
	"time"
)

type keyed struct {
	Topic     string     `json:"topic"`
	Partition int        `json:"partition"`
	Key       []string   `json:"key"`
	Sources   []string   `json:"sources"`
	Rules     []string   `json:"rules"`
	Lag       int64      `json:"lag"`
	Watermark *time.Time `json:"watermark"`
	Rows      int64      `json:"rows"`
	Bytes     int64      `json:"bytes"`
	Pinned    int64      `json:"pinned_bytes"`
	Trouble   string     `json:"trouble,omitempty"`
	State     string     `json:"state"`
	KeptUntil *time.Time `json:"kept_until,omitempty"`
}

// partitionsOf are a keyed stream's, alike but for their figures.
func partitionsOf(k keyed, n int, now time.Time) (out []keyed) {
	for p := range n {
		k.Partition, k.Rows, k.Bytes = p, int64(310_000+p*1717), int64(41_000_000+p*613_000)
		k.Pinned = k.Bytes / 5
		if k.State == "active" {
			mark := now.Add(-5*time.Second - time.Duration(p)*120*time.Millisecond).UTC()
			k.Watermark, k.Lag = &mark, int64(p%3)
		}
		out = append(out, k)
	}
	return out
}

func demoKeyed(now time.Time) []keyed {
	until := now.Add(29 * 24 * time.Hour).UTC()
	out := partitionsOf(keyed{Topic: "weir.keyed.terminal-ef3e7764249f", State: "active", Key: []string{"transactions.terminal"}, Sources: []string{"transactions"}, Rules: []string{"terminal-compromised"}}, 4, now)
	return append(out, partitionsOf(keyed{Topic: "weir.keyed.merchant-2bdc6ae54f37", State: "kept", Key: []string{}, Sources: []string{}, Rules: []string{}, KeptUntil: &until}, 4, now)...)
}

func heavyKeyed(now time.Time) (out []keyed) {
	for i := range 12 {
		s := heavyNames[3+i%17]
		k := keyed{Topic: fmt.Sprintf("weir.keyed.device-counterparty_account-%012x", 0x9f31c07ae24b+i*7919), State: "active",
			Key: []string{s + ".device", s + ".counterparty_account", "clicks.device", "clicks.counterparty_account"}, Sources: []string{s, "clicks"}, Rules: []string{}}
		for j := range 1 + i%5 {
			k.Rules = append(k.Rules, fmt.Sprintf("%s-velocity-%03d", s, 20+i+17*j))
		}
		parts := partitionsOf(k, 16, now)
		if i == 4 {
			parts[7].Trouble, parts[7].Lag = k.Topic+"[7]@48112: the record is damaged: its CRC-32C is 5b2a01f3 and should be 11ce09aa", 48_112
		}
		out = append(out, parts...)
	}
	return out
}

// warm lets the windows of a rule be made from the log so far, with trouble or without;
// all of it: the rule is active.
func (w *world) warm(rule string, percent float64, trouble string) {
	for _, r := range w.rules {
		if r.ID == rule {
			r.Trouble = trouble
			if r.Warming = nil; percent < 100 {
				const of = 3_481_220
				r.Warming = &warming{Percent: percent, Rows: int64(of * percent / 100), Of: of}
			}
		}
	}
}
