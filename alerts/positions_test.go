package alerts

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

// TestPositionAgainstOracle holds a position, and one restored from an older
// checkpoint and the records since, against a plain list of what happened to each
// alert.
func TestPositionAgainstOracle(t *testing.T) {
	random := seeds.Rand(t)
	for range 300 {
		positionRound(t, random)
		if t.Failed() {
			return
		}
	}
}

func positionRound(t *testing.T, random *rand.Rand) {
	type fate struct {
		wanted, done bool
		n            int
	}
	var fates []fate // by offset: every alert that was read
	live := newPosition(0)
	saved := live.checkpoint()
	var since []*event.Delivery
	var open []int64
	for range random.IntN(60) {
		switch {
		case random.IntN(10) == 0: // a positions record
			saved, since = live.checkpoint(), nil
			text, err := json.Marshal(saved)
			if err != nil {
				t.Fatal(err)
			}
			saved = positionCheckpoint{}
			if err := json.Unmarshal(text, &saved); err != nil {
				t.Fatal(err)
			}
		case random.IntN(3) == 0 || len(open) == 0: // a batch is read
			from := int64(len(fates))
			var opened []int64
			for range 1 + random.IntN(20) {
				o := int64(len(fates))
				wanted := random.IntN(4) > 0
				fates = append(fates, fate{wanted: wanted})
				if wanted {
					opened = append(opened, o)
				}
			}
			open = append(open, opened...)
			live.read(from, int64(len(fates)), opened)
		default: // an attempt ends
			i := random.IntN(len(open))
			o := open[i]
			fates[o].n++
			d := &event.Delivery{AlertOffset: o, Attempt: fates[o].n, Time: event.Time(fates[o].n), NextAttempt: event.MinTime,
				Outcome: []string{outcomeRetry, outcomeDelivered, outcomeFailed}[random.IntN(3)]}
			if d.Outcome != outcomeRetry {
				fates[o].done = true
				open = append(open[:i], open[i+1:]...)
			}
			live.apply(d)
			since = append(since, d)
		}
	}
	restored := saved.position()
	for _, d := range since {
		restored.apply(d)
	}
	if restored.delivered != live.delivered || restored.failed != live.failed {
		t.Errorf("totals: restored %d and %d, live %d and %d", restored.delivered, restored.failed, live.delivered, live.failed)
	}
	for o, f := range fates {
		got, again := restored.wants(int64(o))
		switch {
		case f.done && again:
			t.Errorf("offset %d is done and would be notified again", o)
		case f.wanted && !f.done && !again:
			t.Errorf("offset %d is open and would be lost", o)
		case f.wanted && !f.done && got.n != f.n:
			t.Errorf("offset %d: %d attempts, want %d", o, got.n, f.n)
		case again && int64(o) < restored.start():
			t.Errorf("offset %d is before the first that is read again, %d", o, restored.start())
		}
	}
	// Reading again brings the restored position to where the live one is.
	var opened []int64
	for o := restored.start(); o < int64(len(fates)); o++ {
		if _, again := restored.wants(o); again && fates[o].wanted {
			opened = append(opened, o)
		}
	}
	restored.read(restored.start(), int64(len(fates)), opened)
	if !reflect.DeepEqual(restored.checkpoint(), live.checkpoint()) {
		t.Errorf("after reading again %+v, want %+v", restored.checkpoint(), live.checkpoint())
	}
}

func FuzzCheckpoint(f *testing.F) {
	f.Add([]byte(`{"v":1,"partitions":[{"p":0,"end":9,"receivers":{"a":{"next":5,"open":[[3,1,7,9]],"done":[6],"delivered":4,"failed":1}}}]}`))
	f.Add([]byte(`{"v":2}`))
	f.Add([]byte(`{"v":1,"partitions":[{"p":-1,"receivers":null}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseCheckpoint(text)
		if err != nil {
			return
		}
		for _, one := range c.Partitions {
			for _, pc := range one.Receivers {
				p := pc.position()
				if _, ok := p.wants(p.start()); ok && p.start() > p.next {
					t.Errorf("start %d is after next %d", p.start(), p.next)
				}
				again := p.checkpoint()
				q := again.position()
				if !reflect.DeepEqual(again, q.checkpoint()) {
					t.Errorf("%+v does not come back", again)
				}
			}
		}
	})
}

func TestMatch(t *testing.T) {
	a := &event.Alert{Rule: "r", Stream: "s", Severity: "high"}
	for _, c := range []struct {
		m    Match
		want bool
	}{
		{Match{}, true}, {Match{Rules: []string{"q", "r"}}, true}, {Match{Rules: []string{"q"}}, false}, {Match{Streams: []string{"s"}}, true},
		{Match{Streams: []string{"q"}}, false}, {Match{SeverityMin: "low"}, true}, {Match{SeverityMin: "high"}, true}, {Match{SeverityMin: "critical"}, false},
		{Match{Rules: []string{"r"}, Streams: []string{"q"}}, false},
	} {
		if got := c.m.Matches(a); got != c.want {
			t.Errorf("%+v matches: %v", c.m, got)
		}
	}
	if !(Match{SeverityMin: "critical"}).Matches(&event.Alert{Severity: "unheard of"}) {
		t.Error("an unknown severity is lost")
	}
}
