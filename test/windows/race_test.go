//go:build race

package windows

// Under the race detector every tenth card and terminal is compared, over the whole
// time, and the first tenth of the ticks of each market.
const tenth = true
