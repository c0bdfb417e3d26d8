//go:build race

package windows

// Under the race detector every tenth card and terminal is compared, over the whole
// time, and of the ticks the market that has a tenth of them. make test compares
// every row, too, without it.
const tenth = true
