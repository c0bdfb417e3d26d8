package pgwire

import (
	"strings"

	"github.com/weirstream/weir/analytics"
	"github.com/weirstream/weir/analytics/duck"
)

// template gives the few statements of clients that use what DuckDB does not have
// (scalar functions in FROM) a form that answers the same. All others it returns as
// they are.
func template(text string) string {
	switch {
	case strings.Contains(text, "_timescaledb_cache") && strings.Contains(text, "information_schema.tables"):
		// Grafana's list of tables.
		return `SELECT quote_ident(table_name) AS "table" FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1`
	case strings.Contains(text, "pg_publication_rel") && strings.Contains(text, "prattrs[s]"):
		// psql 15's publications of a table, in \d.
		return `SELECT pubname, NULL::VARCHAR, NULL::VARCHAR FROM pg_publication WHERE false`
	case strings.Contains(text, "parse_ident(") && strings.Contains(text, "information_schema.columns") && strings.Contains(text, "generate_series("):
		if name, ok := literalAfter(text, "PARSE_IDENT"); ok {
			// Grafana's list of a table's columns.
			return `SELECT quote_ident(column_name) AS "column", data_type AS "type" FROM information_schema.columns WHERE table_name = (parse_ident(` +
				duck.Literal(name) + `))[-1] ORDER BY ordinal_position`
		}
	}
	return text
}

// literalAfter is the string that is the first argument of a call of word.
func literalAfter(text, word string) (string, bool) {
	const tokensMax = 4096
	tokens := analytics.Words(text, tokensMax)
	for i := range tokens {
		if tokens[i] == word && i+2 < len(tokens) && tokens[i+1] == "(" && strings.HasPrefix(tokens[i+2], "'") && len(tokens[i+2]) > 1 {
			s := tokens[i+2]
			return strings.ReplaceAll(s[1:len(s)-1], "''", "'"), true
		}
	}
	return "", false
}
