package layout

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirstream/weir/test/seeds"
)

// subject is a message in one version, as kmsg writes and reads it.
type subject struct {
	name    string
	layout  *Message
	version int16
	fresh   func() wire // of that version
	head    int         // bytes before what the layout describes
}

// wire is what kmsg does for every message.
type wire interface {
	AppendTo([]byte) []byte
	ReadFrom([]byte) error
}

// subjects are all messages with a layout in all their flexible versions.
func subjects() (all []subject) {
	for key, m := range requests {
		probe := kmsg.RequestForKey(int16(key))
		for v := m.flexible; v <= probe.MaxVersion(); v++ {
			all = append(all, subject{fmt.Sprintf("%s v%d", key.Name(), v), m, v, func() wire {
				r := kmsg.RequestForKey(int16(key))
				r.SetVersion(v)
				return r
			}, 0})
		}
	}
	for _, s := range []struct {
		name   string
		layout *Message
		max    int16
		fresh  func(version int16) wire
	}{
		{"OffsetCommitValue", OffsetCommitValue, 4, func(v int16) wire { m := kmsg.NewOffsetCommitValue(); m.Version = v; return &m }},
		{"GroupMetadataValue", GroupMetadataValue, 4, func(v int16) wire { m := kmsg.NewGroupMetadataValue(); m.Version = v; return &m }},
		{"TxnMetadataValue", TxnMetadataValue, 1, func(v int16) wire { m := kmsg.NewTxnMetadataValue(); m.Version = v; return &m }},
	} {
		for v := s.layout.flexible; v <= s.max; v++ {
			all = append(all, subject{fmt.Sprintf("%s v%d", s.name, v), s.layout, v, func() wire { return s.fresh(v) }, 2})
		}
	}
	return all
}

// random is the message filled at random, in bytes.
func (s subject) random(rng *rand.Rand) []byte {
	m := s.fresh()
	fill(rng, reflect.ValueOf(m).Elem())
	return m.AppendTo(nil)
}

func (s subject) check(b []byte) (rest int, err error) {
	if len(b) < s.head {
		return 0, ErrLayout
	}
	rest, _, err = s.layout.walk(s.version, b[s.head:])
	return rest, err
}

// fill gives the fields of a message values at random, its version apart.
func fill(rng *rand.Rand, v reflect.Value) {
	if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
		for range rng.IntN(3) {
			tags.Set(100+rng.Uint32N(1<<20), make([]byte, rng.IntN(200)))
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Version" {
				fill(rng, v.Field(i))
			}
		}
	case reflect.Pointer:
		if v.SetZero(); rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem())
		}
	case reflect.Slice:
		if v.SetZero(); rng.IntN(8) > 0 {
			n := rng.IntN(4)
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(rng, v.Index(i))
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.String:
		v.SetString(string(make([]byte, rng.IntN(200))))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(rng.Int64())
	case reflect.Uint8:
		v.SetUint(uint64(rng.Uint32N(256)))
	default:
		panic("no value for " + v.Type().String())
	}
}

// each runs f with every subject and a seed that it prints.
func each(t *testing.T, f func(t *testing.T, s subject, rng *rand.Rand)) {
	seed := seeds.One(t)
	for _, s := range subjects() {
		t.Run(s.name, func(t *testing.T) { f(t, s, rand.New(rand.NewPCG(seed, 1))) })
	}
}

// TestFlexible: the layouts begin where kmsg's flexible versions do.
func TestFlexible(t *testing.T) {
	for key, m := range requests {
		req := kmsg.RequestForKey(int16(key))
		for v := int16(0); v <= req.MaxVersion(); v++ {
			if req.SetVersion(v); req.IsFlexible() != (v >= m.flexible) {
				t.Errorf("%s v%d: flexible is %v", key.Name(), v, req.IsFlexible())
			}
		}
	}
}

// TestAcceptsWhatKmsgWrites: to its last byte, so a field more or less is found.
func TestAcceptsWhatKmsgWrites(t *testing.T) {
	each(t, func(t *testing.T, s subject, rng *rand.Rand) {
		for range seeds.Count(t, 200) {
			b := s.random(rng)
			if rest, err := s.check(b); err != nil || rest != 0 {
				t.Fatalf("%d bytes left, %v; of %x", rest, err, b)
			}
		}
	})
}

// TestRefusesAsKmsgDoes: a message that ends early is refused where kmsg refuses
// it, and only there.
func TestRefusesAsKmsgDoes(t *testing.T) {
	each(t, func(t *testing.T, s subject, rng *rand.Rand) {
		for range seeds.Count(t, 5) {
			b := s.random(rng)
			for n := s.head; n < len(b); n++ {
				_, err := s.check(b[:n])
				if kerr := s.fresh().ReadFrom(b[:n]); (err == nil) != (kerr == nil) {
					t.Fatalf("%v, kmsg says %v; of %x", err, kerr, b[:n])
				}
			}
		}
	})
}

// TestWhatPassesIsDecoded: whatever is accepted, kmsg decodes, and soon.
func TestWhatPassesIsDecoded(t *testing.T) {
	each(t, func(t *testing.T, s subject, rng *rand.Rand) {
		accepted := 0
		for range seeds.Count(t, 500) {
			b := mutate(rng, s.random(rng), s.head)
			if _, err := s.check(b); err == nil {
				accepted++
				mustDecode(t, s, b)
			}
		}
		if accepted == 0 {
			t.Error("no mutation was accepted")
		}
	})
}

// mustDecode has kmsg decode what was accepted, within a second; under load once in three
// times is enough.
func mustDecode(t *testing.T, s subject, b []byte) {
	t.Helper()
	var took time.Duration
	for range 3 {
		since := time.Now()
		if err := s.fresh().ReadFrom(b); err != nil {
			t.Fatalf("accepted, and kmsg says %v; of %x", err, b)
		}
		if took = time.Since(since); took <= time.Second {
			return
		}
	}
	t.Fatalf("kmsg took %v for %d bytes: %x", took, len(b), b)
}

// mutate changes a few bytes after the first head ones: any, and those that begin
// large numbers.
func mutate(rng *rand.Rand, b []byte, head int) []byte {
	for range 1 + rng.IntN(3) {
		if len(b) == head {
			return b
		}
		at := head + rng.IntN(len(b)-head)
		switch rng.IntN(4) {
		case 0:
			b[at] = byte(rng.Uint32())
		case 1:
			b[at] ^= 1 << rng.IntN(8)
		case 2:
			b = append(b[:at:at], append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, b[at:]...)...)
		case 3:
			b = append(b[:at:at], append([]byte{0}, b[at:]...)...)
		}
	}
	return b
}

// huge is the largest count that kmsg would believe.
var huge = []byte{0xff, 0xff, 0xff, 0xff, 0x0f}

// TestTagCount: the number of tagged fields is not believed, wherever it stands.
// A zero byte may be one; where each becomes huge, nothing that passes takes long.
func TestTagCount(t *testing.T) {
	each(t, func(t *testing.T, s subject, rng *rand.Rand) {
		b := s.random(rng)
		plain := s.fresh().AppendTo(nil) // ends in its count of tagged fields, zero
		if _, err := s.check(append(plain[:len(plain)-1:len(plain)-1], huge...)); !errors.Is(err, ErrLayout) {
			t.Errorf("at the end: %v", err)
		}
		for at := s.head; at < len(b); at++ {
			if b[at] != 0 {
				continue
			}
			c := bytes.Join([][]byte{b[:at], huge, b[at+1:]}, nil)
			if _, err := s.check(c); err == nil {
				mustDecode(t, s, c)
			}
		}
	})
}

// TestKnownTags: the tagged fields that kmsg decodes are held to their own layout.
func TestKnownTags(t *testing.T) {
	state := append(make([]byte, 12), huge...) // a ReplicaState with a count of tagged fields
	tagged := append([]byte{1, 1, byte(len(state))}, state...)
	plain := kmsg.NewPtrFetchRequest()
	plain.SetVersion(17)
	b := plain.AppendTo(nil)
	b = append(b[:len(b)-1], tagged...)
	if _, err := Request(1).Check(17, b); !errors.Is(err, ErrLayout) {
		t.Errorf("a replica state with 2^32-1 tagged fields: %v", err)
	}
	b[len(b)-len(huge)] = 0
	if _, err := Request(1).Check(17, b); err != nil {
		t.Errorf("with none: %v", err)
	}
}

// TestSkipTags: too many tagged fields, or too large ones, are not passed over.
func TestSkipTags(t *testing.T) {
	for _, c := range []struct {
		in   []byte
		rest int // -1: refused
	}{
		{[]byte{}, -1}, {[]byte{0}, 0}, {[]byte{0, 9}, 1}, {[]byte{1, 0, 0, 9}, 1}, {[]byte{1, 5, 2, 7, 7}, 0},
		{[]byte{1, 5, 2, 7}, -1}, {[]byte{2, 5, 1, 7}, -1}, {[]byte{1, 5}, -1}, {append([]byte{1, 5}, huge...), -1}, {huge, -1},
		{append([]byte{0x80, 8}, make([]byte, 2*MaxTags)...), 0}, {append([]byte{0x81, 8}, make([]byte, 3*MaxTags)...), -1},
	} {
		b := kbin.Reader{Src: c.in}
		SkipTags(&b)
		if b.Ok() != (c.rest >= 0) || b.Ok() && len(b.Src) != c.rest {
			t.Errorf("%.20x: ok %v, %d bytes left; expected %d", c.in, b.Ok(), len(b.Src), c.rest)
		}
	}
}

// TestAllocates: nothing, for each request passes here.
func TestAllocates(t *testing.T) {
	each(t, func(t *testing.T, s subject, rng *rand.Rand) {
		b := s.random(rng)
		if n := testing.AllocsPerRun(10, func() { s.check(b) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// crowd gives every list of a message n elements, a tag to every structure where
// tags is true, and no other value.
func crowd(v reflect.Value, n int, tags bool) {
	if t, ok := v.Addr().Interface().(*kmsg.Tags); ok {
		if tags {
			t.Set(100, nil)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			crowd(v.Field(i), n, tags)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				crowd(v.Index(i), max(1, n/8), tags)
			}
		}
	case reflect.Pointer: // null is smaller, and nothing in memory
		v.Set(reflect.New(v.Type().Elem()))
		crowd(v.Elem(), n, tags)
	}
}

// TestMemory: what Check says of a message's memory is as much as kmsg takes, of
// those that take the most for their bytes, too.
func TestMemory(t *testing.T) {
	for key, m := range requests {
		for version := int16(0); version <= kmsg.RequestForKey(int16(key)).MaxVersion(); version++ {
			for _, n := range []int{1, 300} {
				for _, tags := range []bool{false, true} {
					req := kmsg.RequestForKey(int16(key))
					crowd(reflect.ValueOf(req).Elem(), n, tags)
					req.SetVersion(version)
					b := req.AppendTo(nil)
					memory, err := m.Check(version, b)
					if err != nil {
						t.Fatal(err)
					}
					back := kmsg.RequestForKey(int16(key))
					back.SetVersion(version)
					if took := allocated(memory, func() { back.ReadFrom(b) }); took > memory {
						t.Errorf("%s v%d of %d bytes, %d elements: kmsg took %d, expected at most %d", key.Name(), version, len(b), n, took, memory)
					}
				}
			}
		}
	}
}

// allocated is how many bytes f allocates. Others may allocate meanwhile, so where it
// seems more than enough the least of several runs counts.
func allocated(enough int, f func()) int {
	least := math.MaxInt
	var before, after runtime.MemStats
	for i := 0; i < 3 && least > enough; i++ {
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		least = min(least, int(after.TotalAlloc-before.TotalAlloc))
	}
	return least
}

// FuzzLayout: whatever is accepted, kmsg decodes, and soon.
func FuzzLayout(f *testing.F) {
	all := subjects()
	byName := map[string]subject{}
	for i, s := range all {
		byName[s.name] = s
		f.Add(s.name, s.random(rand.New(rand.NewPCG(uint64(i), 1))))
	}
	f.Add("ListOffsets v11", []byte("\xff\xff\xff\xff\x00\x02\x02t\x02\x00\x00\x00\x00\x00\x00\x00\xb9\\,P;\x9eK@\x00\xf3\xf3\xf3\xf3\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00u0\xf3\xf3\xf3\xf3\xf3\x00"))
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		s, ok := byName[name]
		if !ok {
			s = all[len(name)%len(all)]
		}
		if len(b) < s.head {
			return
		}
		if s.head > 0 { // its version stays what it is
			copy(b, s.fresh().AppendTo(nil)[:s.head])
		}
		if _, err := s.check(b); err == nil {
			mustDecode(t, s, b)
		}
	})
}
