package analytics

import (
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

// makeCatalog creates what stands in for PostgreSQL's catalog.
func makeCatalog(w *duck.Writer) error {
	for _, text := range Split(catalogSQL) {
		if err := w.Exec(text); err != nil {
			return fmt.Errorf("%w in: %s", err, text)
		}
	}
	for name, as := range castTypes {
		if err := w.Exec("CREATE TYPE weir_pg." + duck.Quote(name) + " AS " + as); err != nil && !isThere(err) {
			return err
		}
	}
	return nil
}
