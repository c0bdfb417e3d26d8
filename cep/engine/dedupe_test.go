package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/ingest/event"
	"github.com/weirstream/weir/test/seeds"
)

// withRetries are random events with ids, many of them sent again, and which of them
// are duplicates by the definition in ingest/dedupe, told the slow way.
func withRetries(r *rand.Rand, n int, span int64) (values []string, duplicate map[int]bool) {
	type sent struct {
		id, at int64
		text   string
	}
	var all []sent
	duplicate = map[int]bool{}
	var taken []sent
	now, greatest := int64(1000), int64(0)
	for i := range n {
		now += r.Int64N(4)
		e := sent{int64(i), now - r.Int64N(12), ""}
		e.text = fmt.Sprintf(`{"ts": %d, "key": "k%d", "amount": %d.%02d, "id": "e%d"}`, e.at, r.IntN(6), r.IntN(100), r.IntN(100), e.id)
		if len(all) > 0 && r.IntN(4) == 0 {
			e = all[max(0, len(all)-1-r.IntN(60))] // a retry, of what was long ago too
		}
		if r.IntN(30) == 0 {
			e.text = `{"ts": nonsense`
		}
		all = append(all, e)
		values = append(values, e.text)
		if e.text == `{"ts": nonsense` {
			continue
		}
		mark := max(greatest, e.at)
		if slices.ContainsFunc(taken, func(o sent) bool { return o.id == e.id && mark-o.at <= span && o.at-e.at <= span }) {
			duplicate[i] = true
			continue
		}
		taken, greatest = append(taken, e), mark
	}
	return values, duplicate
}

// TestDuplicates wants a stream with dedupe to decide as if the duplicates had been
// records that do not decode: straight through, and killed and restored at random.
func TestDuplicates(t *testing.T) {
	seeds.Each(t, 10, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 3))
		in, without := make([][]string, testPartitions), make([][]string, testPartitions)
		duplicates := make([]map[int]bool, testPartitions)
		for p := range in {
			in[p], duplicates[p] = withRetries(r, 300+r.IntN(500), 40)
			without[p] = slices.Clone(in[p])
			for i := range duplicates[p] {
				without[p][i] = `{}`
			}
			if len(duplicates[p]) < 10 {
				t.Fatalf("%d duplicates: the test tests nothing", len(duplicates[p]))
			}
		}
		stream := testStream(testPartitions)
		stream.AllDecisions = true
		stream.Schema.Fields = append(stream.Schema.Fields, event.Field{Name: "id", Type: event.Type{Kind: event.String}})
		stream.Fields = append(stream.Fields, stream.Fields[1])
		stream.Schema.ID, stream.Dedupe = 3, 40*time.Second

		plain := newBench(seed, without)
		plain.stream = stream
		plain.run(t)
		want := plain.result()

		b := newBench(seed+1, in)
		b.stream = stream
		b.untilDecided(r, r.IntN(6), 30, func() { b.run(t) })
		got := b.result()
		for p := range duplicates {
			name := fmt.Sprintf("%s of in/%d", event.TopicDeadLetters, p)
			told := map[int]bool{}
			for _, d := range got[name] {
				var offset int
				if _, err := fmt.Sscanf(strings.Split(strings.Fields(d)[1], "/")[2], "%d", &offset); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(d, `"reason":"duplicate","field":"id"`) {
					told[offset] = true
				}
			}
			if len(told) != len(duplicates[p]) {
				t.Errorf("partition %d: %d duplicates are dead letters, want %d", p, len(told), len(duplicates[p]))
			}
			delete(want, name)
		}
		sameResults(t, want, got)
	})
}

// TestDedupeIsDeclaredLater: ids of events from before are known, from the log.
func TestDedupeIsDeclaredLater(t *testing.T) {
	b := newBench(11, nil)
	b.stream = testStream(1)
	b.stream.AllDecisions = true
	b.stream.Schema.Fields = append(b.stream.Schema.Fields, event.Field{Name: "id", Type: event.Type{Kind: event.Int64}})
	b.stream.Fields = append(b.stream.Fields, b.stream.Fields[1])
	b.log.produce("in", 0, `{"ts": 1000, "key": "k", "amount": 1, "id": 7}`, `{"ts": 1001, "key": "k", "amount": 1, "id": 8}`)
	b.run(t)
	declared := *b.stream.Schema
	declared.ID = 3
	later := *b.stream
	later.Schema, later.Dedupe = &declared, time.Minute
	b.stream = &later
	b.log.produce("in", 0, `{"ts": 1000, "key": "k", "amount": 1, "id": 7.0}`, `{"ts": 1002, "key": "k", "amount": 1, "id": 9}`)
	if st := b.run(t)[0]; st.Events != 3 || st.DeadLetters != 1 || st.Decisions != 3 {
		t.Errorf("status %+v", st)
	}
}
