package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weirstream/weir/cep"
	"github.com/weirstream/weir/log/vfs"
)

// eventsSuffix ends the names of directories in which operators keep events.
const eventsSuffix = ".events"

// placeEvents tells a shard's operators that keep events on disk where, and removes
// what is there of operators that the program no longer has: a checkpoint that has them
// finds their events gone, and they are made again from the log.
func (e *Engine) placeEvents(dir string, ops []Operator) error {
	var names []string
	for _, op := range ops {
		if k, ok := op.Operator.(cep.Keeper); ok {
			sum := sha256.Sum256([]byte(op.Identity))
			name := hex.EncodeToString(sum[:8]) + eventsSuffix
			k.Keep(e.opts.FS, filepath.Join(dir, name))
			names = append(names, name)
		}
	}
	there, err := e.opts.FS.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range there {
		if strings.HasSuffix(name, eventsSuffix) && !slices.Contains(names, name) {
			if err := vfs.RemoveAll(e.opts.FS, filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}
