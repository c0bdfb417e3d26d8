package engine

import (
	"strings"
	"testing"

	"github.com/weirstream/weir/ingest/event"
)

// TestLateLetters: a late event is decided and copied to the dead letters, in log
// order among those that were refused, whatever the batches; and it is counted as
// late, not as refused.
func TestLateLetters(t *testing.T) {
	in := []string{`{"ts":1000,"key":"a","amount":1}`, `{"ts":990,"key":"a","amount":2}`, `{"ts":1000,"key":"a","amount":"x"}`, `{"ts":995,"key":"a","amount":3}`,
		`{"ts":1100,"key":"a","amount":4}`, `{"ts":1001,"key":"a","amount":5}`, `{`, `{"ts":"no"}`}
	for _, rows := range []int{1, 2, 3, 100} {
		b := newBench(1, [][]string{in})
		b.stream = testStream(1)
		b.stream.AllDecisions = true
		b.opts.BatchRows = rows
		status := b.run(t)[0]
		if status.Events != 5 || status.Late != 2 || status.DeadLetters != 3 || status.Decisions != 5 {
			t.Errorf("%d rows at once: %+v", rows, status)
		}
		letters := b.result()[event.TopicDeadLetters+" of in/0"]
		for i, want := range []string{`"reason":"late","field":"ts","detail":"the event time 1970-01-01T00:16:30Z is 5s behind`, `"reason":"type"`, `"detail":"the event time 1970-01-01T00:16:41Z is 1m34s behind`, `"reason":"syntax"`, `"reason":"type"`} {
			if i >= len(letters) || !strings.Contains(letters[i], want) {
				t.Errorf("%d rows at once: letter %d is not %s in\n%s", rows, i, want, strings.Join(letters, "\n"))
				break
			}
		}
		if len(letters) != 5 {
			t.Errorf("%d dead letters", len(letters))
		}
	}
}
