// Package config reads weir.yaml, strictly: what is written there either means
// something or is reported with its file, line and column, all mistakes at once,
// before anything starts.
//
// Invariants:
//
//  1. Load returns either a Config that can be used as it is, or an error. The
//     error is schema.Problems, each with a line, except where the file cannot be
//     read at all.
//  2. Each key is described once, in the tables of keys.go: its name, what it
//     expects, its default and its meaning. The reader, the defaults and
//     docs/reference/config.md (Reference) all come from there.
//  3. A secret never appears in a problem, in String, in JSON or in a log line:
//     neither the secrets themselves nor the path and query of a receiver's URL.
//     A value that came from the environment is shown as it was written.
//  4. ${env:NAME} is expanded in scalar values after the YAML was parsed, so that
//     the environment cannot change the structure of the file.
//  5. Every list and mapping of the file is bounded, and so is the number of
//     reported problems.
//
// It starts no goroutine.
//
// What it does not do: read rules (package rules, from Config.RulesDir), open
// anything, or watch the file.
package config
