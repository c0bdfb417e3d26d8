package commitlog

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/weirstream/weir/log/vfs"
)

// metaFile is the content of the file meta, as JSON so that a person can look.
type metaFile struct {
	version uint32      // of the file; this one's where it is new
	Cluster string      `json:"cluster"` // made once
	Epoch   int32       `json:"epoch"`   // leader epoch, of the last Open
	NextSeq uint32      `json:"next_seq"`
	Topics  []topicMeta `json:"topics"`
}

// topicMeta is one topic in meta.
type topicMeta struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"`  // 16 bytes in hex
	Seq        uint32            `json:"seq"` // short, never reused: for the synced marks
	Partitions int32             `json:"partitions"`
	Configs    map[string]string `json:"configs,omitempty"`
	Deleting   bool              `json:"deleting,omitempty"` // its directories are to go
}

func newID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

func (m *topicMeta) id() (id [16]byte, err error) {
	b, err := hex.DecodeString(m.ID)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("topic %s: %w: id %q", m.Name, ErrDamagedFile, m.ID)
	}
	copy(id[:], b)
	return id, nil
}

// readMeta is the content of meta, or a new one for an empty directory.
func readMeta(fsys vfs.FS, dir string) (*metaFile, error) {
	name := filepath.Join(dir, "meta")
	b, err := vfs.ReadFile(fsys, name)
	if errors.Is(err, fs.ErrNotExist) {
		if names, _ := fsys.List(filepath.Join(dir, "topics")); len(names) > 0 {
			return nil, fmt.Errorf("%s is missing, but there are partitions in %s: restore it from a backup, or move the partitions away", name, filepath.Join(dir, "topics"))
		}
		id := newID()
		return &metaFile{version: metaKind.version, Cluster: hex.EncodeToString(id[:]), Epoch: -1, NextSeq: 1}, nil
	}
	if err != nil {
		return nil, err
	}
	payload, err := metaKind.unwrap(name, b)
	if err != nil {
		return nil, err
	}
	m := metaFile{version: versionOf(b)}
	if err := json.Unmarshal(payload, &m); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrDamagedFile, err)
	}
	return &m, nil
}

func writeMeta(fsys vfs.FS, dir string, m *metaFile) error {
	payload, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return err
	}
	return diskFull(vfs.WriteFile(fsys, filepath.Join(dir, "meta"), metaKind.wrap(append(payload, '\n'))))
}

// diskFull makes errors.Is(err, ErrDiskFull) true where the disk is.
func diskFull(err error) error {
	if err != nil && vfs.IsDiskFull(err) {
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	}
	return err
}

// checkTopicName verifies Kafka's rule: 1 to 249 of letters, digits, dot, dash
// and underscore, and neither "." nor "..".
func checkTopicName(name string) error {
	if name == "" || len(name) > 249 || name == "." || name == ".." {
		return fmt.Errorf("%w %q: expected 1 to 249 characters, and more than dots", ErrInvalidTopic, name)
	}
	for _, c := range []byte(name) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return fmt.Errorf("%w %q: only letters, digits, dot, underscore and dash", ErrInvalidTopic, name)
		}
	}
	return nil
}
