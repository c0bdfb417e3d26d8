package anomaly

import (
	"encoding/binary"
	"hash/crc32"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
	"github.com/weirstream/weir/test/seeds"
)

// atOnce is how many seeds run side by side: mostly they wait. The last quarter is a
// crowd, which makes goroutines wait for their turn as on a machine that is too small.
const atOnce, crowd = 4, 24

// TestBroker runs clients against a broker that crashes, and finds nothing. The
// seed decides what is done, when the power goes and what the disk keeps; the
// order of goroutines it does not decide, so a seed that failed may have to be
// run a few times.
func TestBroker(t *testing.T) {
	slots := make(chan struct{}, crowd)
	var mu sync.Mutex
	var all tallies
	var group sync.WaitGroup
	list := seeds.List(t, 100)
	for i, seed := range list {
		takes := crowd / atOnce
		if 4*i >= 3*len(list) {
			takes = 1
		}
		for range takes {
			slots <- struct{}{}
		}
		group.Go(func() {
			defer func() {
				for range takes {
					<-slots
				}
			}()
			r := newRun(t, seed, bug{})
			h, _ := r.history(25)
			found := Check(h)
			for _, a := range found {
				t.Errorf("WEIR_SEED=%d: %v", seed, a)
			}
			if len(found) > 0 {
				r.trace.save(t, seed, h, found)
			}
			mu.Lock()
			defer mu.Unlock()
			all.add(count(h))
		})
	}
	group.Wait()
	t.Logf("%+v", all)
	if len(list) < 20 {
		return // too few for everything to happen in some
	}
	for i, v := 0, reflect.ValueOf(all); i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("no %s in all runs", v.Type().Field(i).Name)
		}
	}
}

// caught runs seeds with a bug planted until each of the anomalies that it causes
// was found. What was not read at the end proves nothing about what is unseen.
func caught(t *testing.T, b bug, want ...string) {
	t.Helper()
	left := map[string]bool{}
	for _, name := range want {
		left[name] = true
	}
	first := seeds.One(t)
	for seed := first; seed < first+40; seed++ {
		h, whole := newRun(t, seed, b).history(12)
		for _, a := range Check(h) {
			if left[a.Name] && (whole || a.Name != "unseen") {
				t.Logf("seed %d: %v", seed, a)
				delete(left, a.Name)
			}
		}
		if len(left) == 0 {
			return
		}
	}
	t.Errorf("nobody noticed: %v not found", slices.Sorted(maps.Keys(left)))
}

// TestAckBeforeSync: what was acknowledged and not on the disk is lost.
func TestAckBeforeSync(t *testing.T) {
	caught(t, bug{noSync: true}, "inconsistent-offsets", "lost-write", "unseen")
}

// TestProducersForgotten: a producer whose batches the broker does not know any
// more repeats one that was written. Nothing on the disk names producers: not
// checkpoints, nor batches, from which they could be known again.
func TestProducersForgotten(t *testing.T) {
	caught(t, bug{corrupt: func(t testing.TB, disk *vfs.Mem) {
		for _, name := range files(t, disk, dataDir, "checkpoint") {
			if err := disk.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range files(t, disk, dataDir, ".log") {
			forgetProducers(t, disk, name)
		}
	}}, "duplicate")
}

// forgetProducers makes every batch of a segment one without a producer.
func forgetProducers(t testing.TB, fsys vfs.FS, name string) {
	const attributes, checksum, producer = 21, 17, 43
	data, err := vfs.ReadFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	for rest := data; ; {
		h, err := record.Check(rest)
		if err != nil {
			break // the torn end
		}
		batch := rest[:h.Size()]
		rest = rest[h.Size():]
		if h.Transactional() {
			continue
		}
		for i := producer; i < producer+8+2+4; i++ {
			batch[i] = 0xff // id, epoch and sequence -1
		}
		binary.BigEndian.PutUint32(batch[checksum:], crc32.Checksum(batch[attributes:], crc32.MakeTable(crc32.Castagnoli)))
	}
	if err := vfs.WriteFile(fsys, name, data); err != nil {
		t.Fatal(err)
	}
}

// TestPositionsForgotten: a group whose positions are lost goes back, and what it
// transforms is transformed again. The marks of what was synced go too, or the
// log would name the loss.
func TestPositionsForgotten(t *testing.T) {
	caught(t, bug{corrupt: func(t testing.TB, disk *vfs.Mem) {
		for _, name := range files(t, disk, dataDir, "") {
			if strings.Contains(name, "/__consumer_offsets-") || strings.HasSuffix(name, "/synced") {
				if err := disk.Remove(name); err != nil {
					t.Fatal(err)
				}
			}
		}
	}}, "lost-commit", "reprocessed")
}

// TestIsolationIgnored: where a fetch of committed records is answered with all of
// them, aborted ones are seen.
func TestIsolationIgnored(t *testing.T) {
	caught(t, bug{request: func(request []byte) {
		const fetch = 1
		if len(request) < 14 || binary.BigEndian.Uint16(request[4:]) != fetch {
			return
		}
		version := binary.BigEndian.Uint16(request[6:])
		at := 14 + max(0, int(int16(binary.BigEndian.Uint16(request[12:])))) // after the client's id
		if version >= 12 {
			at++ // no tagged fields in the header
		}
		if version < 15 {
			at += 4 // the replica
		}
		at += 4 + 4 + 4 // time, least and most bytes
		request[at] = 0 // read uncommitted
	}}, "G1a")
}

// tallies count what histories have, so that one can see that runs did something.
type tallies struct {
	Operations, OK, Info, Fail       int
	Sent, Polled                     int
	Committed, Aborted, Transforming int // transactions
	GroupCommits                     int
}

func count(h History) (n tallies) {
	n.Operations = len(h)
	for i := range h {
		op := &h[i]
		*[...]*int{Info: &n.Info, OK: &n.OK, Fail: &n.Fail}[op.Outcome]++
		sends := len(op.sends())
		n.Sent += sends // one for each value
		for _, s := range op.polls() {
			n.Polled += len(s.Records)
		}
		switch {
		case op.Committed != nil && sends > 0 && op.Outcome == OK:
			n.Transforming++
		case op.Committed != nil && sends == 0 && op.Outcome == OK:
			n.GroupCommits++
		case sends > 1 && op.Outcome == OK:
			n.Committed++
		case sends > 1 && op.Outcome == Fail:
			n.Aborted++
		}
	}
	return n
}

func (n *tallies) add(m tallies) {
	to, from := reflect.ValueOf(n).Elem(), reflect.ValueOf(m)
	for i := range to.NumField() {
		to.Field(i).SetInt(to.Field(i).Int() + from.Field(i).Int())
	}
}
