package analytics

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/weirstream/weir/analytics/duck"
)

// castTypes are names of PostgreSQL's types that queries of clients cast to and
// DuckDB does not have.
var castTypes = map[string]string{
	"regclass": "VARCHAR", "regtype": "VARCHAR", "regproc": "VARCHAR", "regprocedure": "VARCHAR", "regnamespace": "VARCHAR", "regrole": "VARCHAR", "name": "VARCHAR",
	"oid": "BIGINT", "xid": "BIGINT", "cid": "BIGINT", "information_schema_name": "VARCHAR", "sql_identifier": "VARCHAR", "cardinal_number": "INTEGER", "character_data": "VARCHAR",
	"yes_or_no": "VARCHAR", "oidvector": "VARCHAR", "int2vector": "VARCHAR", "aclitem": "VARCHAR", "jsonb": "JSON", "citext": "VARCHAR", "money": "DECIMAL(18,2)",
}

// makeCatalog creates what stands in for PostgreSQL's catalog, unless the database
// has it already from this version of the text.
func makeCatalog(w *duck.Writer) error {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s%v", catalogSQL, castTypes)) // a map prints in the order of its keys
	version := duck.Literal(hex.EncodeToString(sum[:]))
	if err := w.Exec("CREATE TABLE IF NOT EXISTS weir_state.catalog(version VARCHAR)"); err != nil {
		return err
	}
	if n, err := w.Int64("SELECT count(*) FROM weir_state.catalog WHERE version = " + version); err != nil || n == 1 {
		return err
	}
	if err := w.Begin(); err != nil { // one sync for all, not one for each
		return err
	}
	defer w.Rollback() // of what an error left
	for _, text := range Split(catalogSQL) {
		if err := w.Exec(text); err != nil {
			return fmt.Errorf("%w in: %s", err, text)
		}
	}
	for name, as := range castTypes {
		if err := w.Exec("DROP TYPE IF EXISTS weir_pg." + duck.Quote(name) + "; CREATE TYPE weir_pg." + duck.Quote(name) + " AS " + as); err != nil {
			return err
		}
	}
	if err := w.Exec("DELETE FROM weir_state.catalog; INSERT INTO weir_state.catalog VALUES (" + version + ")"); err != nil {
		return err
	}
	if err := w.Commit(); err != nil {
		return err
	}
	// DuckDB 1.5 cannot replay these macros from its write-ahead log after a kill:
	// it binds them before the schema they name is there.
	return w.Checkpoint()
}
