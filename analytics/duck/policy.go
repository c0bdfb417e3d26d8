package duck

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/duckdb/duckdb-go/v2/mapping"
)

// Denied is a statement that users may not run.
type Denied struct{ Reason string }

func (d *Denied) Error() string { return d.Reason }

// tableFunctions are the built-in table functions that users may call: they read
// nothing but their arguments and the catalog, tell nothing of the machine, and
// change nothing. Weir's own begin with weir_.
var tableFunctions = map[string]bool{
	"range": true, "generate_series": true, "unnest": true, "repeat": true, "repeat_row": true, "json_each": true, "json_tree": true,
	"duckdb_columns": true, "duckdb_constraints": true, "duckdb_functions": true, "duckdb_indexes": true, "duckdb_keywords": true,
	"duckdb_schemas": true, "duckdb_sequences": true, "duckdb_tables": true,
	"duckdb_types": true, "duckdb_views": true, "pragma_table_info": true, "pragma_version": true, "pragma_collations": true,
	"pg_timezone_names": true, "icu_calendar_names": true, "summary": true, "test_all_types": true,
}

// deniedScalars are the scalar functions with an effect beyond their value.
var deniedScalars = map[string]bool{"write_log": true, "nextval": true, "setseed": true, "json_serialize_plan": true, "json_deserialize_sql": true, "sql_auto_complete": true}

// checkedMax bounds how many statements are remembered as allowed.
const checkedMax = 1024

// allowed is nil where a user may run text, which DuckDB has prepared as a
// statement of type t (Invalid where preparing failed: then only what is denied
// whatever its type is an error).
func (c *Conn) allowed(text string, t mapping.StatementType) error {
	switch t {
	case mapping.StatementTypeSelect:
	case mapping.StatementTypeInvalid:
		text = explained(text)
	case mapping.StatementTypeExplain:
		text = explained(text)
	default:
		return &Denied{Reason: fmt.Sprintf("only SELECT and EXPLAIN are allowed here, not %s: the database is filled from the log", statementName(t))}
	}
	db := c.db
	db.checkedMu.Lock()
	known := db.checked[text]
	db.checkedMu.Unlock()
	if known {
		return nil
	}
	tree, err := c.serialize(text)
	if err != nil {
		if t == mapping.StatementTypeInvalid {
			return nil // the parser's own error is the better one
		}
		return err
	}
	if err := checkTree(tree); err != nil {
		return err
	}
	if t != mapping.StatementTypeInvalid {
		db.checkedMu.Lock()
		if db.checked == nil || len(db.checked) >= checkedMax {
			db.checked = make(map[string]bool)
		}
		db.checked[text] = true
		db.checkedMu.Unlock()
	}
	return nil
}

// explained is the statement that an EXPLAIN is about: what follows EXPLAIN, an
// optional ANALYZE and an optional list of options.
func explained(text string) string {
	rest := skipSpace(text)
	rest = skipSpace(cutWord(rest, "EXPLAIN"))
	rest = skipSpace(cutWord(rest, "ANALYZE"))
	if strings.HasPrefix(rest, "(") {
		// A parenthesis here opens options or the statement itself; options are
		// words only.
		if end := strings.IndexByte(rest, ')'); end > 0 && !strings.ContainsAny(rest[1:end], "('\"$") {
			options := strings.ToUpper(rest[1:end])
			if !strings.Contains(options, "SELECT") && !strings.Contains(options, "FROM") && !strings.Contains(options, "VALUES") {
				rest = rest[end+1:]
			}
		}
	}
	return rest
}

func cutWord(s, word string) string {
	if len(s) >= len(word) && strings.EqualFold(s[:len(word)], word) {
		return s[len(word):]
	}
	return s
}

// skipSpace skips white space and comments.
func skipSpace(s string) string {
	for {
		s = strings.TrimLeft(s, " \t\r\n\f\v")
		switch {
		case strings.HasPrefix(s, "--"):
			_, s, _ = strings.Cut(s, "\n")
		case strings.HasPrefix(s, "/*"):
			_, s, _ = strings.Cut(s, "*/")
		default:
			return s
		}
	}
}

// serialize is DuckDB's own parse tree of a SELECT, as JSON. That its parser and
// not ours reads the text is what makes the check hold.
func (c *Conn) serialize(text string) ([]byte, error) {
	var p mapping.PreparedStatement
	defer mapping.DestroyPrepare(&p)
	if mapping.Prepare(c.conn.conn, "SELECT json_serialize_sql($1::VARCHAR)::VARCHAR", &p) == mapping.StateError {
		return nil, parseError(mapping.PrepareError(p))
	}
	if err := bind(p, 1, text); err != nil {
		return nil, err
	}
	var res mapping.Result
	defer mapping.DestroyResult(&res)
	if mapping.ExecutePrepared(p, &res) == mapping.StateError {
		return nil, parseError(mapping.ResultError(&res))
	}
	chunk := mapping.FetchChunk(res)
	if chunk.Ptr == nil {
		return nil, &Denied{Reason: "the statement's parse tree cannot be read"}
	}
	defer mapping.DestroyDataChunk(&chunk)
	v := newVector(mapping.DataChunkGetVector(chunk, 0), int(mapping.DataChunkGetSize(chunk)))
	return append([]byte(nil), v.Bytes(0)...), nil
}

// checkTree looks at every function call of a parse tree.
func checkTree(tree []byte) error {
	var root struct {
		Error   bool            `json:"error"`
		Message string          `json:"error_message"`
		Stmts   json.RawMessage `json:"statements"`
	}
	if err := json.Unmarshal(tree, &root); err != nil {
		return &Denied{Reason: "the statement's parse tree cannot be read: " + err.Error()}
	}
	if root.Error && strings.HasPrefix(root.Message, "Only SELECT") {
		return &Denied{Reason: "only SELECT and EXPLAIN are allowed here: the database is filled from the log"}
	}
	if root.Error {
		return &Denied{Reason: "the statement cannot be checked: " + root.Message}
	}
	var node any
	if err := json.Unmarshal(root.Stmts, &node); err != nil {
		return &Denied{Reason: "the statement's parse tree cannot be read: " + err.Error()}
	}
	return checkNode(node, false)
}

func checkNode(node any, table bool) error {
	switch n := node.(type) {
	case []any:
		for _, child := range n {
			if err := checkNode(child, false); err != nil {
				return err
			}
		}
	case map[string]any:
		if name, ok := n["function_name"].(string); ok {
			if err := checkFunction(strings.ToLower(name), table); err != nil {
				return err
			}
		}
		isTable := n["type"] == "TABLE_FUNCTION"
		for key, child := range n {
			if err := checkNode(child, isTable && key == "function"); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkFunction(name string, table bool) error {
	if table && !tableFunctions[name] && !strings.HasPrefix(name, "weir_") {
		return &Denied{Reason: fmt.Sprintf("the table function %s() is not allowed here", name)}
	}
	if deniedScalars[name] {
		return &Denied{Reason: fmt.Sprintf("the function %s() is not allowed here", name)}
	}
	return nil
}

var statementNames = map[mapping.StatementType]string{
	mapping.StatementTypeInsert: "INSERT", mapping.StatementTypeUpdate: "UPDATE", mapping.StatementTypeDelete: "DELETE", mapping.StatementTypePrepare: "PREPARE",
	mapping.StatementTypeCreate: "CREATE", mapping.StatementTypeExecute: "EXECUTE", mapping.StatementTypeAlter: "ALTER", mapping.StatementTypeTransaction: "a transaction statement",
	mapping.StatementTypeCopy: "COPY", mapping.StatementTypeAnalyze: "ANALYZE", mapping.StatementTypeVariableSet: "SET", mapping.StatementTypeCreateFunc: "CREATE FUNCTION",
	mapping.StatementTypeDrop: "DROP", mapping.StatementTypeExport: "EXPORT", mapping.StatementTypePragma: "PRAGMA", mapping.StatementTypeVacuum: "VACUUM",
	mapping.StatementTypeCall: "CALL", mapping.StatementTypeSet: "SET", mapping.StatementTypeLoad: "LOAD", mapping.StatementTypeAttach: "ATTACH", mapping.StatementTypeDetach: "DETACH",
}

func statementName(t mapping.StatementType) string {
	if name, ok := statementNames[t]; ok {
		return name
	}
	return "a statement of this kind"
}
