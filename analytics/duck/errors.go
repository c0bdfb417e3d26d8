package duck

import (
	"encoding/json"
	"strings"
)

// Error is an error that DuckDB reported.
type Error struct {
	Type     string // Parser, Binder, Catalog, Conversion, Interrupt, ...
	Message  string
	Subtype  string // COLUMN_NOT_FOUND, MISSING_ENTRY, SYNTAX_ERROR, ... or empty
	Kind     string // of what is missing: Table, Scalar Function, ... or empty
	Name     string // of what is missing, or empty
	Position int    // byte offset into the statement's text, -1 where unknown
}

func (e *Error) Error() string {
	if e.Type == "" {
		return e.Message
	}
	return e.Type + " Error: " + e.Message
}

// Interrupted reports whether the statement was cancelled.
func (e *Error) Interrupted() bool { return e.Type == "Interrupt" || e.Type == "INTERRUPT" }

// Fatal reports whether the instance is of no more use and must be reopened.
func (e *Error) Fatal() bool {
	return e.Type == "FATAL" || e.Type == "Fatal" || e.Type == "Internal" || e.Type == "INTERNAL" || strings.Contains(e.Message, "has been invalidated")
}

// parseError reads a message of DuckDB with errors_as_json, and also the plain
// ones that come before the setting is in force.
func parseError(message string) *Error {
	if i := strings.IndexByte(message, '{'); i >= 0 && strings.HasSuffix(message, "}") {
		var j struct {
			Type     string      `json:"exception_type"`
			Message  string      `json:"exception_message"`
			Subtype  string      `json:"error_subtype"`
			Kind     string      `json:"type"`
			Name     string      `json:"name"`
			Position json.Number `json:"position"`
		}
		if json.Unmarshal([]byte(message[i:]), &j) == nil && j.Message != "" {
			e := &Error{Type: j.Type, Message: j.Message, Subtype: j.Subtype, Kind: j.Kind, Name: j.Name, Position: -1}
			if p, err := j.Position.Int64(); err == nil {
				e.Position = int(p)
			}
			return e
		}
	}
	e := &Error{Message: strings.TrimSpace(message), Position: -1}
	if kind, rest, ok := strings.Cut(e.Message, " Error: "); ok && len(kind) < 32 && !strings.ContainsAny(kind, "\n:") {
		e.Type, e.Message = kind, rest
	}
	if e.Message == "" {
		e.Message = "DuckDB gave no reason"
	}
	return e
}
