package clients

import (
	"encoding/binary"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestStreams counts words with Kafka Streams, exactly once, while the
// application and then the broker are killed. There is no cache in the
// application, so that a word's counts have to be 1, 2, 3, ... without a gap and
// without a repetition.
func TestStreams(t *testing.T) {
	t.Parallel()
	c := clients[len(clients)-1] // kafka-clients, whose program has Kafka Streams
	argv := c.build(t)
	b := startBroker(t)
	r := b.reader(t)
	input, output := r.topic(name(c, "lines"), 2), r.topic(name(c, "counts"), 2)

	want := map[string]int64{}
	lines, words := 0, 0
	more := func(n int) {
		var rs []*kgo.Record
		for ; n > 0; n-- {
			line := fmt.Sprintf("a%d b%d c%d", lines%5, lines%7, lines%11)
			for _, w := range strings.Split(line, " ") {
				want[w]++
				words++
			}
			rs = append(rs, &kgo.Record{Topic: input, Partition: int32(lines % 2), Value: []byte(line)})
			lines++
		}
		r.produce(rs...)
	}
	state := filepath.Join(t.TempDir(), "state")
	start := func() *program {
		return c.call(t, argv, b.addr, "wordcount", "topic="+input, "output="+output, "id="+name(c, "wordcount"), "state="+state)
	}
	// written is how much the application has written: what is aborted counts, too.
	written := func(n int) func() (bool, string) {
		return func() (bool, string) {
			ends, err := r.adm.ListEndOffsets(within(t), output)
			if err != nil {
				return false, err.Error()
			}
			var sum int64
			ends.Each(func(o kadm.ListedOffset) { sum += o.Offset })
			return sum >= int64(n), fmt.Sprintf("%d of %d", sum, n)
		}
	}

	more(1000)
	app := start()
	until(t, "the first counts", written(500))
	more(2000)
	until(t, "more counts", written(3500))
	app.kill()
	more(1000)
	app = start()
	before := words
	until(t, "counts after the application was killed", written(before-1000))
	more(1000)
	if other() == "" {
		b.kill()
		b.start()
	}
	more(500)
	r.counted(output, want)
	app.leave()
}

// counted waits until the committed counts are as wanted and checks that those of
// each word are 1, 2, 3, ...
func (r *reader) counted(output string, want map[string]int64) {
	r.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(r.addr), kgo.ConsumeTopics(output), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		r.t.Fatal(err)
	}
	defer cl.Close()
	got := map[string]int64{}
	for ctx := within(r.t); !maps.Equal(got, want); {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			r.t.Fatalf("%v; the counts are %v and have to become %v", err, got, want)
		}
		fs.EachRecord(func(rec *kgo.Record) {
			word, n := string(rec.Key), int64(binary.BigEndian.Uint64(rec.Value))
			if n != got[word]+1 {
				r.t.Fatalf("%s was counted %d after %d", word, n, got[word])
			}
			got[word] = n
		})
	}
}
