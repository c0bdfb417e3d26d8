//go:build race

package hostile

// Under the race detector huge input is a little over every limit and no more.
const (
	gigabyte = 40
	hundred  = 40
)
