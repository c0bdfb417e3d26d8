package commitlog

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

var testTime = time.UnixMilli(1_000_000)

// TestSettings changes settings at run time, and sees that each is obeyed.
func TestSettings(t *testing.T) {
	o := testOptions(vfs.NewMem(1))
	o.Now = func() time.Time { return testTime }
	l := mustOpen(t, "data", o)
	p := mustTopic(t, l, "a", 1).Partitions()[0]
	ctx := context.Background()
	set := func(configs ...string) {
		t.Helper()
		m := map[string]string{}
		for i := 0; i < len(configs); i += 2 {
			m[configs[i]] = configs[i+1]
		}
		if err := l.SetConfigs("a", m); err != nil {
			t.Fatal(err)
		}
	}
	at := func(ms int64, acks int16) error {
		_, err := p.Append(ctx, newBatch(record.BatchOptions{}, "x", 2, 10, ms), acks)
		return err
	}
	now := testTime.UnixMilli()
	if err := errors.Join(at(now+1e9, -1), at(0, -1)); err != nil {
		t.Fatal(err)
	}
	set("message.timestamp.after.max.ms", "100", "message.timestamp.before.max.ms", "50")
	for _, off := range []int64{101, -51} {
		if err := at(now+off, -1); !errors.Is(err, ErrInvalidTimestamp) {
			t.Fatal(off, err)
		}
	}
	if err := errors.Join(at(now+100, -1), at(now-50, -1)); err != nil {
		t.Fatal(err)
	}
	set("message.timestamp.after.max.ms", "100", "message.timestamp.type", "LogAppendTime")
	if err := at(now+1000, -1); err != nil {
		t.Fatal(err)
	}
	set("min.insync.replicas", "2")
	if err := at(now, -1); !errors.Is(err, ErrNotEnoughReplicas) {
		t.Fatal(err)
	}
	if err := at(now, 1); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"uncompressed", "gzip", "snappy", "lz4", "zstd"} {
		set("compression.type", c, "message.timestamp.type", "LogAppendTime")
		for _, sent := range []record.Codec{record.None, record.Gzip, record.Zstd} {
			checkRecompressed(t, p, c, sent)
		}
	}
	set("compression.type", "gzip")
	bad := newBatch(record.BatchOptions{Codec: record.Zstd}, "x", 1, 10, 1)
	bad[len(bad)-1] ^= 0x55
	record.SetLogAppendTime(bad, 1) // a right CRC
	if base, err := p.Append(ctx, bad, -1); err == nil || base >= 0 || !errors.Is(err, ErrInvalidBatch) {
		t.Fatal(base, err)
	}
	if err := l.SetConfigs("a", map[string]string{"min.compaction.lag.ms": "9", "max.compaction.lag.ms": "8"}); !errors.Is(err, ErrInvalidConfig) {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func checkRecompressed(t *testing.T, p *Partition, kind string, sent record.Codec) {
	t.Helper()
	batch := newBatch(record.BatchOptions{Codec: sent, ProducerID: 8, ProducerEpoch: int16(p.End() % 30000)}, "same", 3, 200, 1)
	base := mustAppend(t, p, batch)
	stamped, err := record.ParseHeader(batch)
	if err != nil || stamped.BaseOffset != base || stamped.MaxTimestamp != testTime.UnixMilli() {
		t.Fatalf("%+v: %v", stamped, err)
	}
	run, err := p.Read(p.NewCursor(base), 1)
	if err != nil {
		t.Fatal(err)
	}
	h, err := record.Check(run)
	want := kind
	if kind == "uncompressed" {
		want = "none"
	}
	if err != nil || h.Codec().String() != want || h.ProducerID != 8 || h.Count != 3 {
		t.Fatalf("%v from %v: %+v: %v", kind, sent, h, err)
	}
	var w record.Rewriter
	recs, err := w.Records(run)
	if err != nil || len(recs) != 3 || !bytes.HasPrefix(recs[2].Value, []byte("same/2/")) || recs[2].Timestamp != testTime.UnixMilli() {
		t.Fatalf("%v from %v: %+v: %v", kind, sent, recs, err)
	}
}

// fullFS says that the disk has little room until enough was removed.
type fullFS struct {
	vfs.FS
	free int64
}

func (f *fullFS) Usage(string) (vfs.Usage, error) {
	return vfs.Usage{Total: 1 << 30, Free: f.free}, nil
}
func (f *fullFS) Remove(name string) error {
	info, err := f.Stat(name)
	if err == nil {
		f.free += info.Size
	}
	return f.FS.Remove(name)
}

// TestMakeRoom deletes the oldest segments early, of topics that lose theirs some
// day, until there is room.
func TestMakeRoom(t *testing.T) {
	fsys := &fullFS{FS: vfs.NewMem(1), free: 100}
	o := testOptions(fsys)
	o.MinFreeBytes = 20_000
	l := mustOpenAlone(t, "data", o)
	parts := map[string]*Partition{
		"keep":    mustTopic(t, l, "keep", 1).Partitions()[0],
		"compact": mustTopic(t, l, "compact", 1, "cleanup.policy", "compact", "retention.ms", "1").Partitions()[0],
		"old":     mustTopic(t, l, "old", 1, "retention.ms", "100000000000").Partitions()[0],
		"new":     mustTopic(t, l, "new", 1, "retention.bytes", "1000000000").Partitions()[0],
	}
	for name, p := range parts {
		for i := range 60 {
			ms := int64(i)
			if name == "new" {
				ms += 1000
			}
			mustAppend(t, p, newBatch(record.BatchOptions{}, "x", 2, 300, ms))
		}
	}
	fsys.free = 100
	if err := l.makeRoom(context.Background()); err != nil {
		t.Fatal(err)
	}
	if fsys.free < o.MinFreeBytes || fsys.free > o.MinFreeBytes+10_000 {
		t.Fatal(fsys.free)
	}
	for name, p := range parts {
		if gone := p.Start() > 0; gone != (name == "old") {
			t.Fatalf("%s starts at %d", name, p.Start())
		}
	}
	fsys.free = -1 << 40
	if err := l.makeRoom(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(parts["new"].segs) != 1 || parts["keep"].Start() != 0 || parts["compact"].Start() != 0 {
		t.Fatal("too much or too little was deleted")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
