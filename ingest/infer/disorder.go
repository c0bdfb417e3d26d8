package infer

import (
	"fmt"
	"time"
)

// latenesses are those that are proposed, in order; the first is the default of a
// stream that says nothing.
var latenesses = []time.Duration{5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
	15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour}

// Disorder is how far the rows of a file are out of order. The zero value is that of
// no row.
type Disorder struct {
	rows     int64
	greatest int64 // ms
	most     int64 // ms that a row was behind the greatest before it
	beyond   [14]int64
}

// Add takes the next row's event time, in ms since the epoch.
func (d *Disorder) Add(ms int64) {
	if d.rows++; d.rows == 1 || ms > d.greatest {
		d.greatest = ms
		return
	}
	behind := d.greatest - ms
	d.most = max(d.most, behind)
	for i, l := range latenesses {
		if behind <= l.Milliseconds() {
			break
		}
		d.beyond[i]++
	}
}

// lateShare is the part of the rows that may be late, one in so many: what is later
// than the others by far is not waited for.
const lateShare = 1000

// lateness is what to declare, empty where nothing or where nothing would do, and why.
func (d *Disorder) lateness() (text, why string) {
	if d.beyond[0]*lateShare <= d.rows {
		return "", ""
	}
	most := (time.Duration(d.most) * time.Millisecond).Round(time.Second)
	for i, l := range latenesses {
		if d.beyond[i]*lateShare > d.rows {
			continue
		}
		why = fmt.Sprintf("%s of the rows come more than 5s, the default, after one with a later time", share(d.beyond[0], d.rows))
		if d.beyond[i] > 0 {
			why += fmt.Sprintf(", %s more than this", share(d.beyond[i], d.rows))
		}
		return short(l), why + "; at most " + short(most)
	}
	return "", fmt.Sprintf("%s of the rows come up to %s after one with a later time: sort the file by time, or they are flagged late", share(d.beyond[0], d.rows), short(most))
}

// short is a duration without its zeros: 1h for 1h0m0s.
func short(d time.Duration) string {
	text := d.String()
	if d >= time.Minute && d%time.Minute == 0 {
		text = text[:len(text)-len("0s")]
	}
	if d >= time.Hour && d%time.Hour == 0 {
		text = text[:len(text)-len("0m")]
	}
	return text
}

// SetDisorder adds to the block what lateness the rows need.
func (g *Guess) SetDisorder(d *Disorder) { g.lateness, g.lateWhy = d.lateness() }
