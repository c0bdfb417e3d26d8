package pgwire

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirstream/weir/analytics"
	"github.com/weirstream/weir/analytics/duck"
	"github.com/weirstream/weir/test/published"
)

// world is a running server over a small database.
type world struct {
	db     *duck.DB
	engine *analytics.Engine
	addr   string
}

const testTables = `
CREATE TABLE transactions(id VARCHAR, ts TIMESTAMP_NS, card VARCHAR, amount DECIMAL(18,2), fraud BOOLEAN, score DOUBLE, n BIGINT, _topic VARCHAR GENERATED ALWAYS AS ('transactions') VIRTUAL, _partition BIGINT, _offset BIGINT);
INSERT INTO transactions SELECT 'tx' || range, TIMESTAMP '2018-04-01' + INTERVAL (range) SECOND, 'card ' || range % 7, range / 4, range % 10 = 0, CASE WHEN range % 5 = 0 THEN NULL ELSE range / 3.0 END, range, range % 4, range FROM range(1000);
CREATE TABLE decisions(time TIMESTAMP_NS, key VARCHAR, rules VARCHAR[], "values" JSON);
INSERT INTO decisions VALUES ('2018-04-01 00:00:31.123456789', 'k', ['a', 'b,c', 'd"e'], '{"tx.amount":"5.00"}'), (NULL, NULL, [], NULL);
CREATE VIEW spend AS SELECT card, sum(amount) AS total FROM transactions GROUP BY card;
`

func startWorld(t testing.TB, eo analytics.Options, o Options) *world {
	t.Helper()
	db, err := duck.Open(filepath.Join(t.TempDir(), "weir.duckdb"), duck.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Writer().Exec(testTables); err != nil {
		t.Fatal(err)
	}
	engine, err := analytics.New(db, eo)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(engine, o).Serve(ctx, lis) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("Serve does not end")
		}
		engine.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{db: db, engine: engine, addr: lis.Addr().String()}
}

// psql runs the real client.
func (w *world) psql(t testing.TB, args ...string) (stdout, stderr string) {
	t.Helper()
	path := published.Program(t, "psql")
	host, port, err := net.SplitHostPort(w.addr)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"-X", "-h", host, "-p", port, "-U", "anybody", "-d", "anything"}, args...)...)
	cmd.Env = append(os.Environ(), "PAGER=", "PGCONNECT_TIMEOUT=10")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // what it says is compared
	return out.String(), errs.String()
}

// TestPsql is what a person does in psql 15. Each command answers with the lines
// given, somewhere, and with no error.
func TestPsql(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	for _, c := range []struct {
		command string
		want    []string
	}{
		{"select count(*) from transactions", []string{" count \n-------\n  1000\n(1 row)"}},
		{`\l`, []string{" weir | weir  | UTF8"}},
		{`\dt`, []string{" public | decisions    | table | weir", " public | transactions | table | weir", "(2 rows)"}},
		{`\dv`, []string{" public | spend | view | weir", "(1 row)"}},
		{`\d`, []string{"decisions", "transactions", "spend", "(3 rows)"}},
		{`\d transactions`, []string{`Table "public.transactions"`, " ts         | timestamp without time zone |", " amount     | numeric(18,2) ", " fraud      | boolean", " _topic     | text ", " _offset    | bigint"}},
		{`\d public.transactions`, []string{`Table "public.transactions"`}},
		{`\d+ transactions`, []string{`Table "public.transactions"`, "Stats target"}},
		{`\d decisions`, []string{" rules  | text[]", " values | json"}},
		{`\d spend`, []string{`View "public.spend"`, " total  | numeric(38,2)"}},
		{`\d+ spend`, []string{"View definition:", "GROUP BY card;"}},
		{`\dt trans*`, []string{"transactions", "(1 row)"}},
		{`\df`, []string{"List of functions", "(0 rows)"}},
		{`\dn`, []string{" public | weir"}},
		{`\du`, []string{" weir "}},
		{`\dx`, []string{"(0 rows)"}},
		{`\dp`, []string{"transactions"}},
		{`\dt+`, []string{"transactions", "heap"}},
		{`\l+`, []string{"weir"}},
		{`\dT`, []string{"List of data types"}},
		{`\db`, []string{"pg_default"}},
		{`\sv spend`, []string{"CREATE OR REPLACE VIEW public.spend AS"}},
		{`\conninfo`, []string{`database "anything" as user "anybody"`}},
		{"show server_version", []string{" 15.0"}},
		{"set extra_float_digits = 3", []string{"SET"}},
		{"begin; select 1; commit", []string{"BEGIN", "(1 row)", "COMMIT"}},
		{"select version(), current_schema(), current_database()", []string{"PostgreSQL 15.0 (Weir, DuckDB v1", "| public", "| weir"}},
		{"select rules, values from decisions where key is not null", []string{`{a,"b,c","d\"e"} | {"tx.amount":"5.00"}`}},
		{"select time from decisions where key is not null", []string{" 2018-04-01 00:00:31.123456\n"}}, // as PostgreSQL has it
		{"select time::text from decisions where key is not null", []string{" 2018-04-01 00:00:31.123456789\n"}},
		{"select values->>'tx.amount' as amount from decisions where key = 'k'", []string{" 5.00"}},
		{"select sum(n), sum(amount), avg(score) is not null as a from transactions", []string{" 499500 |   124875.00 | t"}},
		{"select count(*) from transactions where ts > now() - interval '1 hour'", []string{" 0"}},
		{"select count(*) from transactions where card ~ '^card [0-2]$' and card !~* 'CARD 0'", []string{" 286"}},
		{"select date_trunc('minute', ts) as m, count(*) from transactions group by 1 order by 1 limit 1", []string{" 2018-04-01 00:00:00 |    60"}},
		{"select 1 as one; select 'two' as two", []string{"one", "two", "(1 row)"}},
		{"", nil},
		{";", nil},
		{"-- nothing", nil},
		{"select null::int as n, '' as e, true as b, 1.5::double as d, 1e20::double as big, date '2018-04-01' as day, interval '1 year 3 days 4 hours' as i, '\\xdead'::blob as y, [1,null,3] as l, {'a': 1, 'b': [2]} as s",
			[]string{"   |   | t | 1.5 | 1e+20 | 2018-04-01 | 1 year 3 days 04:00:00 |", `{1,NULL,3} | {"a":1,"b":[2]}`}},
	} {
		out, errs := w.psql(t, "-c", c.command)
		if errs != "" && !strings.Contains(errs, "Did not find any relations") {
			t.Errorf("%s: %s", c.command, errs)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not in\n%s", c.command, want, out)
			}
		}
	}
}

func TestPsqlErrors(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	for command, want := range map[string]string{
		"select foo from transactions": "ERROR:  42703: Referenced column \"foo\" not found in FROM clause!\nLINE 1: select foo from transactions\n               ^",
		"select * from nosuch":         "ERROR:  42P01: Table with name nosuch does not exist!\nLINE 1: select * from nosuch\n                      ^",
		"select 'ä', pg_catalog.version(), foo from public.transactions": "LINE 1: select 'ä', pg_catalog.version(), foo from public.transactio...\n                                          ^",
		"select nosuch(1)":                                                "ERROR:  42883: ",
		"select 1 +":                                                      "ERROR:  42601: syntax error at end of input",
		"select 'x'::int":                                                 "ERROR:  22P02: ",
		"insert into transactions(n) values (1)":                          "ERROR:  42501: only SELECT and EXPLAIN are allowed here, not INSERT",
		"insert into transactions values (1)":                             "ERROR:  42501: only SELECT and EXPLAIN are allowed here: the database is filled from the log",
		"drop table transactions":                                         "ERROR:  42501: ",
		"copy transactions to '/tmp/x'":                                   "ERROR:  42501: ",
		"select * from read_csv('/etc/passwd')":                           "ERROR:  42501: ",
		"select * from enable_profiling()":                                "ERROR:  42501: the table function enable_profiling() is not allowed here",
		"select count(*) from transactions where ts > now()::timestamptz": "HINT:  timestamps of streams are UTC",
	} {
		_, errs := w.psql(t, "-v", "VERBOSITY=verbose", "-c", command)
		if !strings.Contains(errs, want) {
			t.Errorf("%s: %q is not in\n%s", command, want, errs)
		}
	}
}

// grafana are the statements of Grafana's PostgreSQL data source.
var grafana = []string{
	"SELECT current_setting('server_version_num')::int/100 as version",
	"SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'",
	`SELECT
    CASE WHEN
          quote_ident(table_schema) IN (
          SELECT
            CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
          FROM
            generate_series(
              array_lower(string_to_array(current_setting('search_path'),','),1),
              array_upper(string_to_array(current_setting('search_path'),','),1)
            ) as i,
            string_to_array(current_setting('search_path'),',') s
          )
      THEN quote_ident(table_name)
      ELSE quote_ident(table_schema) || '.' || quote_ident(table_name)
    END AS "table"
    FROM information_schema.tables
    WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog', '_timescaledb_cache', '_timescaledb_catalog')
    ORDER BY 1`,
	`SELECT quote_ident(column_name) AS "column", data_type AS "type"
    FROM information_schema.columns
    WHERE
      CASE WHEN array_length(parse_ident('transactions'),1) = 2
        THEN quote_ident(table_schema) = (parse_ident('transactions'))[1]
          AND quote_ident(table_name) = (parse_ident('transactions'))[2]
        ELSE quote_ident(table_name) = 'transactions'
          AND quote_ident(table_schema) IN (
            SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
            FROM generate_series(array_lower(string_to_array(current_setting('search_path'),','),1), array_upper(string_to_array(current_setting('search_path'),','),1)) as i,
              string_to_array(current_setting('search_path'),',') s)
      END`,
	`SELECT ts AS "time", amount FROM transactions WHERE ts BETWEEN '2018-04-01T00:00:00Z' AND '2018-04-01T00:10:00.5Z' ORDER BY 1`,
	`SELECT floor(extract(epoch from ts)/300)*300 AS "time", card AS metric, avg(amount) FROM transactions WHERE ts BETWEEN '2018-04-01T00:00:00Z' AND '2018-04-02T00:00:00Z' GROUP BY 1,2 ORDER BY 1,2`,
	`SELECT extract(epoch from ts) as "time", amount as "value" FROM transactions WHERE extract(epoch from ts) >= 1522540800 AND extract(epoch from ts) <= 1522541800`,
}

func TestGrafana(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	for i, query := range grafana {
		out, errs := w.psql(t, "-At", "-c", query)
		if errs != "" {
			t.Errorf("%s: %s", query, errs)
		}
		switch i {
		case 0:
			if out != "1500\n" {
				t.Errorf("version %q", out)
			}
		case 2:
			if out != "decisions\nspend\ntransactions\n" {
				t.Errorf("tables %q", out)
			}
		case 3:
			if !strings.HasPrefix(out, "id|text\nts|timestamp without time zone\n") {
				t.Errorf("columns %q", out)
			}
		case 4:
			if n := strings.Count(out, "\n"); n != 601 {
				t.Errorf("%d rows between the times", n)
			}
		}
	}
}

// clientQueries are what drivers and tools ask at their start.
var clientQueries = []string{
	"SET extra_float_digits = 3", "SET application_name = 'PostgreSQL JDBC Driver'", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET TIME ZONE 'Europe/Paris'",
	"SET client_encoding TO 'UTF8'", "SET statement_timeout = 30000", "SHOW TRANSACTION ISOLATION LEVEL", "SHOW transaction_isolation", "SHOW standard_conforming_strings", "SHOW search_path",
	"SHOW server_version_num", "SHOW TIME ZONE", "DISCARD ALL", "DEALLOCATE ALL", "UNLISTEN *", "RESET ALL", "SELECT 1", "select current_schema()", "SELECT pg_catalog.version()",
	"SELECT current_user, session_user", "SELECT set_config('bytea_output', 'hex', false)", "SELECT pg_backend_pid()", "SELECT oid, typname FROM pg_type WHERE typname = ANY(ARRAY['int8','text'])",
	"SELECT t.oid, t.typname, t.typelem FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON t.typnamespace = n.oid WHERE n.nspname = 'pg_catalog'",
	"SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, c.relname AS TABLE_NAME FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_description d ON (c.oid = d.objoid AND d.objsubid = 0 and d.classoid = 'pg_class'::regclass) WHERE c.relnamespace = n.oid",
	"SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attrelid = 'transactions'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
	"SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'", "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'transactions' ORDER BY ordinal_position",
	"SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1", "SELECT datname FROM pg_database WHERE datistemplate = false", "SELECT rolname FROM pg_roles",
	`SELECT "public"."transactions"."id" FROM "public"."transactions" LIMIT 1`, "SELECT has_table_privilege('transactions', 'SELECT')", "SELECT to_char(ts, 'YYYY-MM-DD HH24:MI:SS') FROM transactions LIMIT 1",
	"EXPLAIN SELECT * FROM transactions", "TABLE spend", "SELECT c.relname FROM pg_class c WHERE c.relkind IN ('r','v') AND pg_table_is_visible(c.oid) AND c.relname ILIKE 'tr%'",
}

func TestClientQueries(t *testing.T) {
	w := startWorld(t, analytics.Options{}, Options{})
	var args []string
	for _, q := range clientQueries {
		args = append(args, "-c", q)
	}
	out, errs := w.psql(t, append([]string{"-At", "-e"}, args...)...)
	if errs != "" {
		t.Errorf("%s\n%s", errs, out)
	}
}
