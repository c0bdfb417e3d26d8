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
	for _, op := range ops {
		e.place(dir, op)
	}
	return e.sweepEvents(dir, ops)
}

// place tells an operator where to keep events.
func (e *Engine) place(dir string, op Operator) {
	if k, ok := op.Operator.(cep.Keeper); ok {
		k.Keep(e.opts.FS, filepath.Join(dir, eventsOf(op)))
	}
}

// eventsOf names an operator's directory.
func eventsOf(op Operator) string {
	sum := sha256.Sum256([]byte(op.Identity))
	return hex.EncodeToString(sum[:8]) + eventsSuffix
}

// sweepLeft removes the events of operators of before once no checkpoint has them: c has a
// newer one.
func (e *Engine) sweepLeft(dir string, ops []Operator, c *checkpoints) error {
	if c.leftover > 0 {
		if c.leftover--; c.leftover == 0 {
			return e.sweepEvents(dir, ops)
		}
	}
	return nil
}

// sweepEvents removes the events of operators that are not among these.
func (e *Engine) sweepEvents(dir string, ops []Operator) error {
	there, err := e.opts.FS.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range there {
		if strings.HasSuffix(name, eventsSuffix) && !slices.ContainsFunc(ops, func(op Operator) bool { return eventsOf(op) == name }) {
			if err := vfs.RemoveAll(e.opts.FS, filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}
