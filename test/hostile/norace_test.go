//go:build !race

package hostile

// The sizes of huge input, in MiB.
const (
	gigabyte = 1000
	hundred  = 100
)
