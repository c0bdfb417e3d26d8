package window

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hugePages asks for large pages behind words that are read and written in no order:
// where a key's events are is a miss of the processor's cache anyway, it need not be
// one of its address translation, too. That it is refused costs time only.
func hugePages(words []uint64) {
	const page = 4096
	b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(words)*8)
	b = b[-uintptr(unsafe.Pointer(unsafe.SliceData(words)))&(page-1):]
	if b = b[:len(b)&^(page-1)]; len(b) > 0 {
		_ = unix.Madvise(b, unix.MADV_HUGEPAGE)
	}
}
