package commitlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirstream/weir/log/record"
	"github.com/weirstream/weir/log/vfs"
)

// TestOldCheckpoint reads a checkpoint of format 1.
func TestOldCheckpoint(t *testing.T) {
	b := append([]byte(nil), make([]byte, 16)...)
	for _, v := range []uint64{3, 0, 50, 9} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint64(b, 77) // producer
	b = binary.BigEndian.AppendUint16(b, 4)
	b = binary.BigEndian.AppendUint64(b, 1000)
	b = append(b, 1)
	b = binary.BigEndian.AppendUint32(b, 5)
	b = binary.BigEndian.AppendUint32(b, 6)
	b = binary.BigEndian.AppendUint64(b, 7)
	b = binary.BigEndian.AppendUint64(b, 8)
	c, err := decodeCheckpoint("x", fileKind{checkpointKind.magic, 1}.wrap(b))
	if err != nil || c.start != 3 || c.offset != 9 || c.at.pos != 50 || len(c.producers) != 1 {
		t.Fatalf("%+v: %v", c, err)
	}
	if p := c.producers[77]; p == nil || p.epoch != 4 || p.txn != -1 || p.coordinator != -1 || p.kept[0] != (sentBatch{5, 6, 7, 8}) {
		t.Fatalf("%+v", p)
	}
}

// FuzzFiles reads any payload, its CRC made right, as each of the small files of a
// partition. What is accepted is written again as it was read.
func FuzzFiles(f *testing.F) {
	ps := producers{}
	h := record.BatchHeader{ProducerID: 3, BaseSequence: 1, Attributes: 0x10}
	ps.replay(&h, nil, testTime)
	c := checkpoint{start: 1, at: position{0, 9}, offset: 4, producers: ps, aborts: []abortCount{{0, 2}}}
	f.Add(c.encode()[envelopeSize:])
	f.Add(epochs{{0, 0}, {3, 9}}.encode()[envelopeSize:])
	f.Add(appendAborts(nil, []aborted{{AbortedTransaction{1, 2, 3}, 4}}))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if c, err := decodeCheckpoint("x", checkpointKind.wrap(payload)); err == nil {
			if again, err := decodeCheckpoint("x", c.encode()); err != nil || !bytes.Equal(again.encode(), c.encode()) {
				t.Fatalf("%+v is read as %+v: %v", c, again, err)
			}
		}
		if e, err := decodeEpochs("x", epochsKind.wrap(payload)); err == nil && !bytes.Equal(e.encode()[envelopeSize:], payload) {
			t.Fatalf("%+v", e)
		}
		fs := newFields(payload)
		if list := readAborts(fs); fs.ok && !bytes.Equal(appendAborts(nil, list), payload) {
			t.Fatalf("%+v", list)
		}
		var x index
		x.init(0)
		x.loadBlock(payload, 1<<40)
	})
}

// TestSealedSegmentChanged takes bytes off a sealed segment, adds some, or removes
// the file: it is named.
func TestSealedSegmentChanged(t *testing.T) {
	for name, change := range map[string]func(fsys vfs.FS, file string, size int64) error{
		"one byte less":  func(fsys vfs.FS, file string, size int64) error { return resizeFile(fsys, file, size-1) },
		"a batch less":   func(fsys vfs.FS, file string, size int64) error { return resizeFile(fsys, file, size/2) },
		"empty":          func(fsys vfs.FS, file string, _ int64) error { return resizeFile(fsys, file, 0) },
		"one byte more":  func(fsys vfs.FS, file string, size int64) error { return resizeFile(fsys, file, size+1) },
		"many more":      func(fsys vfs.FS, file string, size int64) error { return resizeFile(fsys, file, size+4096) },
		"another's data": func(fsys vfs.FS, file string, _ int64) error { return fsys.Rename(nextSegment(fsys, file), file) },
		"no file":        func(fsys vfs.FS, file string, _ int64) error { return fsys.Remove(file) },
	} {
		m := vfs.NewMem(1)
		l := mustOpen(t, "data", testOptions(m))
		p := mustTopic(t, l, "a", 1).Partitions()[0]
		fill(t, p, 200)
		seg := p.segs[1]
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := change(m, seg.file, seg.size); err != nil {
			t.Fatal(name, err)
		}
		l = mustOpen(t, "data", testOptions(m))
		found, err := l.Verify(context.Background(), nil)
		if err != nil || len(found) == 0 {
			t.Errorf("%s: found nothing: %v", name, err)
		}
		if _, err := readAll(mustPartition(t, l, "a", 0), 0, 1<<20); err == nil {
			t.Errorf("%s: read without an error", name)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func resizeFile(fsys vfs.FS, name string, size int64) error {
	f, err := fsys.OpenFile(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Truncate(size), f.Sync(), f.Close())
}

func nextSegment(fsys vfs.FS, file string) string {
	names, _ := fsys.List(filepath.Dir(file))
	for _, name := range names {
		if strings.HasSuffix(name, logSuffix) && name > filepath.Base(file) {
			return filepath.Join(filepath.Dir(file), name)
		}
	}
	return ""
}
