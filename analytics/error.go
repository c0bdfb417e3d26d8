package analytics

import (
	"context"
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/weirstream/weir/analytics/duck"
)

// Error is why a statement was not run or did not end, as PostgreSQL tells it.
type Error struct {
	Code     string // SQLSTATE
	Message  string
	Hint     string
	Position int // in characters from 1 of the statement's text; 0 where unknown
	cause    error
}

func (e *Error) Error() string { return e.Message }

// Unwrap is what was behind the error: context.Canceled, *duck.Error, ...
func (e *Error) Unwrap() error { return e.cause }

// toError makes an *Error of what a statement over text ended with; tr is nil where
// positions do not map.
func toError(err error, tr *translation, text string) error {
	if err == nil {
		return nil
	}
	var done *Error
	if errors.As(err, &done) {
		return done
	}
	var denied *duck.Denied
	var de *duck.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: "57014", Message: "canceling statement due to statement timeout", cause: err}
	case errors.Is(err, context.Canceled):
		return &Error{Code: "57014", Message: "canceling statement due to user request", cause: err}
	case errors.As(err, &denied):
		return &Error{Code: "42501", Message: denied.Reason, cause: err}
	case errors.As(err, &de):
		return fromDuck(de, tr, text)
	case errors.Is(err, duck.ErrClosed), errors.Is(err, duck.ErrReopening):
		return &Error{Code: "57P03", Message: err.Error(), cause: err}
	}
	return &Error{Code: "XX000", Message: err.Error(), cause: err}
}

func fromDuck(de *duck.Error, tr *translation, text string) *Error {
	e := &Error{Code: sqlState(de), cause: de}
	// DuckDB's advice stands on lines of its own.
	message, rest, _ := strings.Cut(de.Message, "\n")
	e.Message, e.Hint = message, strings.TrimSpace(rest)
	if strings.Contains(message, "TIMESTAMP_NS and type TIMESTAMP WITH TIME ZONE") {
		e.Hint = "timestamps of streams are UTC without a zone: compare with now() or a literal, or cast the column, ts::timestamptz"
	}
	if de.Position >= 0 && tr != nil {
		if at := tr.origin(de.Position); at >= 0 && at <= len(text) {
			e.Position = utf8.RuneCountInString(text[:at]) + 1
		}
	}
	return e
}

// sqlState is the SQLSTATE class and code that a client would get from PostgreSQL.
func sqlState(e *duck.Error) string {
	switch strings.ToLower(e.Type) {
	case "parser", "syntax":
		return "42601"
	case "catalog":
		switch {
		case strings.Contains(e.Kind, "Function") || strings.Contains(e.Kind, "Macro"):
			return "42883"
		case e.Kind == "Table" || e.Kind == "View" || strings.HasPrefix(e.Message, "Table with name"):
			return "42P01"
		case e.Kind == "Schema":
			return "3F000"
		}
		return "42704"
	case "binder":
		switch {
		case e.Subtype == "COLUMN_NOT_FOUND":
			return "42703"
		case strings.Contains(e.Message, "No function matches"):
			return "42883"
		case strings.Contains(e.Message, "Ambiguous reference"):
			return "42702"
		case strings.Contains(e.Message, "GROUP BY"):
			return "42803"
		}
		return "42804"
	case "conversion", "mismatch type", "mismatchtype", "invalid type":
		return "22P02"
	case "out of range", "decimal":
		return "22003"
	case "divide by zero":
		return "22012"
	case "invalid input", "invalidinput", "parameter not resolved", "parameternotresolved":
		return "22023"
	case "not implemented", "notimplemented":
		return "0A000"
	case "out of memory", "outofmemory":
		return "53200"
	case "interrupt":
		return "57014"
	case "permission":
		return "42501"
	case "io":
		return "58030"
	case "transactioncontext", "transaction":
		return "25000"
	}
	return "XX000"
}
