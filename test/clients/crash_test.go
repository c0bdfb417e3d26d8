package clients

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestBrokerKilled kills the broker while every client that takes commands
// produces. All of them go on by themselves; each record is there, in order and
// once where the client produces idempotently.
func TestBrokerKilled(t *testing.T) {
	if other() != "" {
		t.Skip("not run: another broker is not ours to kill")
	}
	b := startBroker(t)
	r := b.reader(t)
	const count, batch, warm, before = 4000, 20, 5, 150 // the rest of the batches is sent after the kill
	type run struct {
		c     *client
		topic string
		p     *program
	}
	var runs []run
	for _, c := range clients {
		if !c.batches {
			continue
		}
		topic := r.topic(name(c, "killed"), partitions)
		runs = append(runs, run{c, topic, c.call(t, c.build(t), b.addr, "produce", "topic="+topic, "run=killed", "partitions=4", "codec=none",
			"idempotent="+strconv.FormatBool(c.idempotent), "count="+strconv.Itoa(count), "batch="+strconv.Itoa(batch), "paced=true")})
	}
	acked := func(n int) func([]event) bool {
		return func(es []event) bool { return len(of(es, "acked")) >= n }
	}
	for _, r := range runs {
		for range warm {
			r.p.say("go")
		}
	}
	for _, r := range runs { // then all are warm, and equally far
		r.p.expect("its first batches", acked(warm))
	}
	turns := func(n int) string { return strings.TrimSpace(strings.Repeat("go\n", n)) }
	for _, r := range slices.Backward(runs) {
		r.p.say("%s", turns(before))
	}
	runs[0].p.expect("more batches", acked(2*warm))
	b.kill()
	for _, r := range runs {
		if got := len(of(r.p.wait("", always), "acked")); got == warm+before {
			t.Logf("%s was between two batches when the broker was killed", r.c.name)
		}
		r.p.say("%s", turns(count/batch-warm-before))
	}
	b.start()
	for _, each := range runs {
		t.Run(each.c.name, func(t *testing.T) {
			each.p.finish()
			r.end(each.topic, partitions)
			got := r.read(each.topic, partitions, kgo.ReadUncommitted())
			want := records(each.topic, "killed", 0, count)
			if each.c.idempotent {
				holds(t, each.topic, got, want, false)
				return
			}
			there := map[string]bool{}
			for _, rs := range got {
				for _, r := range rs {
					there[text(r, false)] = true
				}
			}
			for _, w := range want {
				if !there[text(w, false)] {
					t.Fatalf("not there: %s", text(w, false))
				}
			}
			if len(there) != count {
				t.Fatal(fmt.Sprint(len(there), " different records, there have to be ", count))
			}
		})
	}
}
