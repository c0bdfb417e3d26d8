// Package cli is the command line of weir: it turns arguments into calls of
// cmd/node and the client parts, and errors into messages and exit codes.
//
// Invariants:
//
//  1. Exit codes: 0 done; 1 it failed; 2 what the person wrote is wrong
//     (arguments, weir.yaml, rules), and nothing was started.
//
//  2. Results go to standard output, everything else to standard error.
//
//  3. The first interrupt stops in order; the second stops at once.
//
//  4. While weir runs, a hang-up (SIGHUP) has it read its rules again.
//
// Goroutines: one waits for signals while a command runs, and one for SIGHUP while weir
// does.
//
// What it does not do: know how anything works.
package cli
