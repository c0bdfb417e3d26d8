package engine

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/ingest/event"
)

// TestMergerWaits has two sources of which records come faster than their time, in
// turns: the one that is behind is waited for while it goes on, and no longer. Where
// time is the clock's nobody is waited for.
func TestMergerWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newMemLog(1)
		stream := shopStream("s", 2)
		topic := &keyedTopic{Keyed: Keyed{Name: "shop", Sources: []KeyedSource{{Stream: stream, Key: []int{3}, Fields: []int{3}, Reads: []int{0}}}}, partitions: 1}
		m := newMerger(log, []*keyedTopic{topic})
		m.wait, m.now, m.ctx = defaultKeyedWait, time.Now, t.Context()
		var lanes []*lane
		for p := range int32(2) {
			s := &shard{stream: stream, partition: p, origin: event.Origin{Topic: "in", Partition: p}}
			s.projections = []*projection{newProjection(topic.topic(), &topic.Sources[0], 1, 0)}
			l := m.add(s, s.projections, event.MinTime)
			if err := m.read(t.Context(), l, false); err != nil {
				t.Fatal(err)
			}
			lanes = append(lanes, l)
		}
		offsets := []int64{0, 0}
		offer := func(lane int, seconds ...int64) {
			t.Helper()
			u := &unit{from: offsets[lane], to: offsets[lane] + int64(len(seconds))}
			offsets[lane] = u.to
			u.batch.Reset(stream.Schema, []int{3})
			u.outbox = cep.Outbox{}
			for i, s := range seconds {
				u.batch.Offset, u.batch.Time = append(u.batch.Offset, u.from+int64(i)), append(u.batch.Time, event.Time(s*1e9))
				u.batch.Cols[3].AppendBytes([]byte("a"))
				u.outbox.Late, u.outbox.Low, u.outbox.Watermark = append(u.outbox.Late, false), append(u.outbox.Low, event.MinTime), append(u.outbox.Watermark, event.MinTime)
			}
			lanes[lane].projections[0].route(u)
			if err := m.offer(t.Context(), lanes[lane], u); err != nil {
				t.Fatal(err)
			}
		}
		order := func() (out []int64) {
			m.mu.Lock() // the merger's timer writes too
			defer m.mu.Unlock()
			for _, rec := range log.part(topic.topic(), 0).recs {
				r := blockReader{data: rec.Value}
				headers := r.headers(nil)
				parts := r.order(headers)
				times := make([][]event.Time, len(headers))
				for i := range headers {
					var b event.Batch
					b.Reset(stream.Schema, []int{3})
					if headers[i].rows > 0 {
						if err := r.rows(&headers[i], 0, &b, &cep.Outbox{}, []int{3}); err != nil {
							t.Fatal(err)
						}
					}
					times[i] = b.Time
				}
				if len(headers) == 1 {
					parts = make([]uint8, headers[0].rows)
				}
				for _, p := range parts {
					out = append(out, int64(times[p][0]/1e9))
					times[p] = times[p][1:]
				}
			}
			return out
		}
		want := func(when string, seconds ...int64) {
			t.Helper()
			if got := order(); fmt.Sprint(got) != fmt.Sprint(seconds) {
				t.Errorf("%s: %v, want %v", when, got, seconds)
			}
		}
		offer(0, 1000)
		offer(1, 1001)
		want("at first", 1000, 1001)
		time.Sleep(50 * time.Millisecond)
		offer(0, 1002, 5000, 9000)
		want("the other may have some from 1001 on", 1000, 1001, 1002)
		time.Sleep(50 * time.Millisecond)
		offer(1, 3000, 7000)
		want("it had", 1000, 1001, 1002, 3000, 5000, 7000)
		time.Sleep(defaultKeyedWait)
		synctest.Wait()
		want("it has no more", 1000, 1001, 1002, 3000, 5000, 7000, 9000)
		offer(1, 9001)
		offer(0, 20000)
		m.close()
		time.Sleep(defaultKeyedWait)
		m.timeout() // its timer had run out
		want("once it is closed", 1000, 1001, 1002, 3000, 5000, 7000, 9000, 9001)
	})
}
