// Package machine tells what a benchmark ran on: a figure without its machine says
// nothing.
//
// Goroutines: none.
package machine
