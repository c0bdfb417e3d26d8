package commitlog

import (
	"container/list"
	"errors"
	"sync"

	"github.com/weirstream/weir/log/vfs"
)

// fileCache keeps segment files open between uses, and closes those longest
// unused beyond a limit. Files in use are never closed.
type fileCache struct {
	fs   vfs.FS
	max  int
	mu   sync.Mutex
	used list.List // of *handle, all but those dropped, the longest unused first
	all  map[*segment]*handle
}

// handle is an open segment file. All fields but f are guarded by fileCache.mu.
type handle struct {
	c       *fileCache
	seg     *segment
	f       vfs.File
	refs    int
	element *list.Element // in used; nil: dropped
	dropped bool          // to be closed with the last reference
}

func newFileCache(fsys vfs.FS, most int) *fileCache {
	return &fileCache{fs: fsys, max: most, all: map[*segment]*handle{}}
}

// acquire is an open file of seg; release gives it back. create makes the file;
// otherwise it must be there.
func (c *fileCache) acquire(seg *segment, create bool) (*handle, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if seg.removed {
		return nil, errReplaced
	}
	if h := c.all[seg]; h != nil {
		h.refs++
		return h, nil
	}
	open := c.fs.OpenFile
	if create {
		open = c.fs.Create
	} else if _, err := c.fs.Stat(seg.file); err != nil {
		return nil, err // OpenFile would make it
	}
	f, err := open(seg.file)
	if err != nil {
		return nil, err
	}
	return c.add(seg, f), nil
}

func (c *fileCache) add(seg *segment, f vfs.File) *handle {
	h := &handle{c: c, seg: seg, f: f, refs: 1}
	c.all[seg] = h
	h.element = c.used.PushBack(h)
	c.evict()
	return h
}

// adopt takes over a file that is open, as that of seg; release gives it back.
func (c *fileCache) adopt(seg *segment, f vfs.File) *handle {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.add(seg, f)
}

// evict closes idle files beyond the limit. A close error concerns a file whose
// content is synced or was given up.
func (c *fileCache) evict() {
	for e := c.used.Front(); e != nil && len(c.all) > c.max; {
		h := e.Value.(*handle)
		e = e.Next()
		if h.refs == 0 {
			c.close(h)
		}
	}
}

func (c *fileCache) close(h *handle) {
	c.unlist(h)
	if c.all[h.seg] == h {
		delete(c.all, h.seg)
	}
	_ = h.f.Close()
}

func (c *fileCache) unlist(h *handle) {
	if h.element != nil {
		c.used.Remove(h.element)
		h.element = nil
	}
}

// ref is one more reference to a file in use.
func (h *handle) ref() *handle {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.refs++
	return h
}

func (h *handle) release() {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.refs--
	switch {
	case h.refs > 0:
	case h.dropped:
		h.c.close(h)
	default:
		h.c.used.MoveToBack(h.element)
		h.c.evict()
	}
}

// errReplaced says that a segment is not of the partition any more: its name is
// gone, or is another file's.
var errReplaced = errors.New("the segment was removed or replaced")

// drop closes seg's file as soon as nobody uses it, because it is removed. It is
// never opened again.
func (c *fileCache) drop(seg *segment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seg.removed = true
	h := c.all[seg]
	if h == nil {
		return
	}
	delete(c.all, seg)
	if h.refs == 0 {
		c.close(h)
		return
	}
	h.dropped = true
	c.unlist(h)
}

// closeAll closes every file that is not in use.
func (c *fileCache) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.all {
		if h.refs == 0 {
			c.close(h)
		} else {
			h.dropped = true
		}
	}
}

// writeAll writes b at off, or says why not, a short write included.
func writeAll(f vfs.File, b []byte, off int64) error {
	n, err := f.WriteAt(b, off)
	if err == nil && n < len(b) {
		err = errors.New("short write")
	}
	return err
}
