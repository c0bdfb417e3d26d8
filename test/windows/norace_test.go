//go:build !race

package windows

// Every row is compared.
const tenth = false
