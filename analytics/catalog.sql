-- What PostgreSQL clients look for, over DuckDB's catalog. weir_pg stands in for
-- pg_catalog (which DuckDB does not let anybody extend) and comes after main in the
-- search path of every user's connection; weir_info stands in for
-- information_schema. The translation drops the prefix pg_catalog. and turns
-- information_schema. into weir_info. The schema main is shown as public.
-- Everything here is CREATE OR REPLACE: it is run at every start.

CREATE SCHEMA IF NOT EXISTS weir_pg;
CREATE SCHEMA IF NOT EXISTS weir_info;

-- The clock: all columns are UTC without a zone, so now() is too, and
-- ts > now() - INTERVAL '1 hour' compares.
CREATE OR REPLACE MACRO weir_pg.now() AS system.main.get_current_timestamp()::TIMESTAMP;
CREATE OR REPLACE MACRO weir_pg.transaction_timestamp() AS system.main.get_current_timestamp()::TIMESTAMP;
CREATE OR REPLACE MACRO weir_pg.statement_timestamp() AS system.main.get_current_timestamp()::TIMESTAMP;
CREATE OR REPLACE MACRO weir_pg.clock_timestamp() AS system.main.get_current_timestamp()::TIMESTAMP;
CREATE OR REPLACE MACRO weir_pg.to_char(t, f) AS strftime(t, replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(replace(f,
	'YYYY', '%Y'), 'Month', '%B'), 'Mon', '%b'), 'MM', '%m'), 'DD', '%d'), 'HH24', '%H'), 'HH12', '%I'), 'MI', '%M'), 'SS', '%S'), 'MS', '%g'), 'US', '%f'));

-- Who and where.
CREATE OR REPLACE MACRO weir_pg.version() AS 'PostgreSQL 15.0 (Weir, DuckDB ' || system.main.version() || ')';
CREATE OR REPLACE MACRO weir_pg.current_schema() AS 'public';
CREATE OR REPLACE MACRO weir_pg.current_schemas(implicit) AS ['pg_catalog', 'public'];
CREATE OR REPLACE MACRO weir_pg.current_database() AS 'weir';
CREATE OR REPLACE MACRO weir_pg.inet_server_addr() AS NULL::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.inet_server_port() AS NULL::INTEGER;
CREATE OR REPLACE MACRO weir_pg.inet_client_addr() AS NULL::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.pg_backend_pid() AS 1;
CREATE OR REPLACE MACRO weir_pg.pg_is_in_recovery() AS false;
CREATE OR REPLACE MACRO weir_pg.pg_postmaster_start_time() AS system.main.get_current_timestamp()::TIMESTAMP;
CREATE OR REPLACE MACRO weir_pg.txid_current() AS 1::BIGINT;
CREATE OR REPLACE MACRO weir_pg.set_config(name, val, local) AS val;
CREATE OR REPLACE MACRO weir_pg.current_setting(name, missing_ok := true) AS CASE lower(name)
	WHEN 'server_version' THEN '15.0' WHEN 'server_version_num' THEN '150000' WHEN 'search_path' THEN '"$user", public'
	WHEN 'timezone' THEN 'UTC' WHEN 'client_encoding' THEN 'UTF8' WHEN 'server_encoding' THEN 'UTF8' WHEN 'datestyle' THEN 'ISO, MDY'
	WHEN 'intervalstyle' THEN 'postgres' WHEN 'standard_conforming_strings' THEN 'on' WHEN 'is_superuser' THEN 'off' WHEN 'transaction_isolation' THEN 'read committed'
	WHEN 'default_transaction_read_only' THEN 'on' WHEN 'transaction_read_only' THEN 'on' WHEN 'block_size' THEN '8192' WHEN 'max_index_keys' THEN '32' WHEN 'max_identifier_length' THEN '63' END;

-- Types: oid, name, length, category, element, array, name for people.
CREATE OR REPLACE VIEW weir_pg.types AS SELECT * FROM (VALUES
	(16, 'bool', 1, 'B', 0, 1000, 'boolean'), (17, 'bytea', -1, 'U', 0, 1001, 'bytea'), (18, 'char', 1, 'S', 0, 1002, '"char"'), (19, 'name', 64, 'S', 0, 1003, 'name'),
	(20, 'int8', 8, 'N', 0, 1016, 'bigint'), (21, 'int2', 2, 'N', 0, 1005, 'smallint'), (23, 'int4', 4, 'N', 0, 1007, 'integer'), (25, 'text', -1, 'S', 0, 1009, 'text'),
	(26, 'oid', 4, 'N', 0, 1028, 'oid'), (114, 'json', -1, 'U', 0, 199, 'json'), (700, 'float4', 4, 'N', 0, 1021, 'real'), (701, 'float8', 8, 'N', 0, 1022, 'double precision'),
	(1042, 'bpchar', -1, 'S', 0, 1014, 'character'), (1043, 'varchar', -1, 'S', 0, 1015, 'character varying'), (1082, 'date', 4, 'D', 0, 1182, 'date'),
	(1083, 'time', 8, 'D', 0, 1183, 'time without time zone'), (1114, 'timestamp', 8, 'D', 0, 1115, 'timestamp without time zone'),
	(1184, 'timestamptz', 8, 'D', 0, 1185, 'timestamp with time zone'), (1186, 'interval', 16, 'T', 0, 1187, 'interval'), (1700, 'numeric', -1, 'N', 0, 1231, 'numeric'),
	(2950, 'uuid', 16, 'U', 0, 2951, 'uuid'), (3802, 'jsonb', -1, 'U', 0, 3807, 'jsonb'), (705, 'unknown', -2, 'X', 0, 0, 'unknown'), (2278, 'void', 4, 'P', 0, 0, 'void'),
	(1000, '_bool', -1, 'A', 16, 0, 'boolean[]'), (1005, '_int2', -1, 'A', 21, 0, 'smallint[]'), (1007, '_int4', -1, 'A', 23, 0, 'integer[]'), (1009, '_text', -1, 'A', 25, 0, 'text[]'),
	(1016, '_int8', -1, 'A', 20, 0, 'bigint[]'), (1015, '_varchar', -1, 'A', 1043, 0, 'character varying[]'), (1022, '_float8', -1, 'A', 701, 0, 'double precision[]')
	) AS t(oid, typname, typlen, typcategory, typelem, typarray, display);

-- The oid of the PostgreSQL type that the wire shows a DuckDB type as.
CREATE OR REPLACE MACRO weir_pg.type_oid(t) AS CASE
	WHEN t = 'BOOLEAN' THEN 16 WHEN t = 'BLOB' THEN 17 WHEN t IN ('BIGINT', 'UINTEGER') THEN 20 WHEN t IN ('SMALLINT', 'TINYINT', 'UTINYINT') THEN 21
	WHEN t IN ('INTEGER', 'USMALLINT') THEN 23 WHEN t = 'JSON' THEN 114 WHEN t = 'FLOAT' THEN 700 WHEN t = 'DOUBLE' THEN 701 WHEN t = 'DATE' THEN 1082 WHEN t = 'TIME' THEN 1083
	WHEN t = 'TIMESTAMP WITH TIME ZONE' THEN 1184 WHEN starts_with(t, 'TIMESTAMP') THEN 1114 WHEN t = 'INTERVAL' THEN 1186
	WHEN t LIKE 'DECIMAL%' AND t NOT LIKE '%]' OR t IN ('HUGEINT', 'UHUGEINT', 'UBIGINT') THEN 1700 WHEN t = 'UUID' THEN 2950
	WHEN t = 'VARCHAR[]' THEN 1009 WHEN t = 'BIGINT[]' THEN 1016 WHEN t = 'INTEGER[]' THEN 1007 WHEN t = 'DOUBLE[]' THEN 1022 WHEN t = 'BOOLEAN[]' THEN 1000
	ELSE 25 END::BIGINT;
CREATE OR REPLACE MACRO weir_pg.format_type(o, m) AS CASE
	WHEN o = 1700 AND m > 4 THEN 'numeric(' || ((m - 4) >> 16) || ',' || ((m - 4) & 65535) || ')'
	ELSE coalesce((SELECT display FROM weir_pg.types WHERE oid = o), CASE WHEN o IS NULL THEN NULL ELSE '???' END) END;

-- Functions.
CREATE OR REPLACE MACRO weir_pg.pg_get_userbyid(o) AS 'weir';
CREATE OR REPLACE MACRO weir_pg.pg_table_is_visible(o) AS true;
CREATE OR REPLACE MACRO weir_pg.pg_type_is_visible(o) AS true;
CREATE OR REPLACE MACRO weir_pg.pg_function_is_visible(o) AS true;
CREATE OR REPLACE MACRO weir_pg.pg_operator_is_visible(o) AS true;
CREATE OR REPLACE MACRO weir_pg.pg_opclass_is_visible(o) AS true;
CREATE OR REPLACE MACRO weir_pg.pg_collation_is_visible(o) AS true;
CREATE OR REPLACE MACRO weir_pg.pg_statistics_obj_is_visible(o) AS true;
CREATE OR REPLACE MACRO weir_pg.pg_ts_config_is_visible(o) AS true;
CREATE OR REPLACE MACRO weir_pg.pg_encoding_to_char(o) AS 'UTF8';
CREATE OR REPLACE MACRO weir_pg.pg_get_expr(e, r, pretty := false) AS e::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.pg_get_viewdef(o, pretty := false) AS (SELECT any_value(rtrim(regexp_replace(v.sql, '^CREATE VIEW .*? AS ', ''), ';')) || ';' FROM duckdb_views() v WHERE v.view_oid = o);
CREATE OR REPLACE MACRO weir_pg.pg_get_indexdef(o, c := 0, pretty := false) AS NULL::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.pg_get_constraintdef(o, pretty := false) AS NULL::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.pg_get_triggerdef(o, pretty := false) AS NULL::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.pg_get_ruledef(o, pretty := false) AS NULL::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.pg_get_partkeydef(o) AS NULL::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.pg_get_statisticsobjdef_columns(o) AS NULL::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.pg_get_serial_sequence(t, c) AS NULL::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.pg_get_function_result(o) AS 'any';
CREATE OR REPLACE MACRO weir_pg.pg_get_function_arguments(o) AS '';
CREATE OR REPLACE MACRO weir_pg.pg_get_function_identity_arguments(o) AS '';
CREATE OR REPLACE MACRO weir_pg.pg_get_functiondef(o) AS NULL::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.pg_relation_is_publishable(o) AS false;
CREATE OR REPLACE MACRO weir_pg.pg_relation_size(o, fork := 'main') AS 0::BIGINT;
CREATE OR REPLACE MACRO weir_pg.pg_table_size(o) AS 0::BIGINT;
CREATE OR REPLACE MACRO weir_pg.pg_total_relation_size(o) AS 0::BIGINT;
CREATE OR REPLACE MACRO weir_pg.pg_indexes_size(o) AS 0::BIGINT;
CREATE OR REPLACE MACRO weir_pg.pg_database_size(o) AS 0::BIGINT;
CREATE OR REPLACE MACRO weir_pg.pg_tablespace_location(o) AS '';
CREATE OR REPLACE MACRO weir_pg.obj_description(o, c := '') AS NULL::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.shobj_description(o, c) AS NULL::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.col_description(o, c) AS NULL::VARCHAR;
CREATE OR REPLACE MACRO weir_pg.has_table_privilege(a, b, c := '') AS true;
CREATE OR REPLACE MACRO weir_pg.has_schema_privilege(a, b, c := '') AS true;
CREATE OR REPLACE MACRO weir_pg.has_database_privilege(a, b, c := '') AS true;
CREATE OR REPLACE MACRO weir_pg.has_column_privilege(a, b, c, d := '') AS true;
CREATE OR REPLACE MACRO weir_pg.has_any_column_privilege(a, b, c := '') AS true;
CREATE OR REPLACE MACRO weir_pg.has_function_privilege(a, b, c := '') AS true;
CREATE OR REPLACE MACRO weir_pg.pg_has_role(a, b, c := '') AS true;
CREATE OR REPLACE MACRO weir_pg.row_security_active(a) AS false;
CREATE OR REPLACE MACRO weir_pg.array_lower(a, d) AS CASE WHEN len(a) > 0 THEN 1 END;
CREATE OR REPLACE MACRO weir_pg.array_upper(a, d) AS CASE WHEN len(a) > 0 THEN len(a) END;
CREATE OR REPLACE MACRO weir_pg.array_remove(a, x) AS list_filter(a, lambda e: e IS DISTINCT FROM x);
CREATE OR REPLACE MACRO weir_pg.quote_ident(s) AS CASE WHEN regexp_full_match(s, '[a-z_][a-z0-9_$]*') THEN s ELSE '"' || replace(s, '"', '""') || '"' END;
CREATE OR REPLACE MACRO weir_pg.quote_literal(s) AS '''' || replace(s::VARCHAR, '''', '''''') || '''';
CREATE OR REPLACE MACRO weir_pg.parse_ident(s, strict := true) AS list_transform(regexp_extract_all(s, '"(?:[^"]|"")*"|[^".]+'), lambda p: CASE WHEN p LIKE '"%' THEN replace(p[2:-2], '""', '"') ELSE lower(p) END);

-- Tables.
CREATE OR REPLACE VIEW weir_pg.pg_namespace AS SELECT * FROM (VALUES
	(11::BIGINT, 'pg_catalog', 10::BIGINT, NULL::VARCHAR[]), (2200, 'public', 10, NULL), (13000, 'information_schema', 10, NULL)) AS t(oid, nspname, nspowner, nspacl);

CREATE OR REPLACE VIEW weir_pg.relations AS
	SELECT table_oid AS oid, table_name AS relname, 'r' AS relkind, estimated_size AS reltuples, column_count AS relnatts FROM duckdb_tables() WHERE schema_name = 'main' AND NOT internal AND NOT temporary
	UNION ALL SELECT view_oid, view_name, 'v', 0, column_count FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal AND NOT temporary;

CREATE OR REPLACE VIEW weir_pg.pg_class AS SELECT oid, relname, 2200::BIGINT AS relnamespace, 0::BIGINT AS reltype, 0::BIGINT AS reloftype, 10::BIGINT AS relowner,
	CASE relkind WHEN 'r' THEN 2 ELSE 0 END::BIGINT AS relam, oid AS relfilenode, 0::BIGINT AS reltablespace, 0 AS relpages, reltuples::FLOAT AS reltuples, 0 AS relallvisible,
	0::BIGINT AS reltoastrelid, false AS relhasindex, false AS relisshared, 'p' AS relpersistence, relkind, relnatts::SMALLINT AS relnatts, 0::SMALLINT AS relchecks,
	relkind = 'v' AS relhasrules, false AS relhastriggers, false AS relhassubclass, false AS relrowsecurity, false AS relforcerowsecurity, true AS relispopulated,
	'd' AS relreplident, false AS relispartition, 0::BIGINT AS relrewrite, 0::BIGINT AS relfrozenxid, 0::BIGINT AS relminmxid, NULL::VARCHAR[] AS relacl, NULL::VARCHAR[] AS reloptions,
	NULL::VARCHAR AS relpartbound, false AS relhasoids, false AS relhaspkey, 1259::BIGINT AS tableoid, 0::BIGINT AS xmin FROM weir_pg.relations;

CREATE OR REPLACE VIEW weir_pg.pg_attribute AS SELECT c.table_oid AS attrelid, c.column_name AS attname, weir_pg.type_oid(c.data_type) AS atttypid, -1 AS attstattarget,
	coalesce((SELECT t.typlen FROM weir_pg.types t WHERE t.oid = weir_pg.type_oid(c.data_type)), -1)::SMALLINT AS attlen, c.column_index::SMALLINT AS attnum, 0 AS attndims, -1 AS attcacheoff,
	CASE WHEN c.data_type LIKE 'DECIMAL%' AND c.data_type NOT LIKE '%]' THEN (c.numeric_precision << 16) + c.numeric_scale + 4 ELSE -1 END::INTEGER AS atttypmod, false AS attbyval, 'i' AS attalign,
	'p' AS attstorage, '' AS attcompression, NOT c.is_nullable AS attnotnull, false AS atthasdef, false AS atthasmissing, '' AS attidentity, '' AS attgenerated, false AS attisdropped,
	true AS attislocal, 0 AS attinhcount, 0::BIGINT AS attcollation, NULL::VARCHAR[] AS attacl, NULL::VARCHAR[] AS attoptions, NULL::VARCHAR[] AS attfdwoptions, NULL::VARCHAR AS attmissingval
	FROM duckdb_columns() c WHERE c.schema_name = 'main' AND NOT c.internal;

CREATE OR REPLACE VIEW weir_pg.pg_type AS SELECT oid::BIGINT AS oid, typname, 11::BIGINT AS typnamespace, 10::BIGINT AS typowner, typlen::SMALLINT AS typlen, typlen > 0 AND typlen <= 8 AS typbyval,
	CASE WHEN typcategory = 'P' THEN 'p' ELSE 'b' END AS typtype, typcategory, typname IN ('text', 'float8', 'timestamptz', 'bool', 'oid') AS typispreferred, true AS typisdefined, ',' AS typdelim,
	0::BIGINT AS typrelid, 0::BIGINT AS typsubscript, typelem::BIGINT AS typelem, typarray::BIGINT AS typarray, CASE WHEN typcategory = 'A' THEN 'array_in' ELSE typname || 'in' END AS typinput,
	typname || 'out' AS typoutput, CASE WHEN typcategory = 'A' THEN 'array_recv' ELSE typname || 'recv' END AS typreceive, typname || 'send' AS typsend, '-' AS typmodin, '-' AS typmodout, '-' AS typanalyze,
	'i' AS typalign, 'p' AS typstorage, false AS typnotnull, 0::BIGINT AS typbasetype, -1 AS typtypmod, 0 AS typndims, 0::BIGINT AS typcollation, NULL::VARCHAR AS typdefaultbin,
	NULL::VARCHAR AS typdefault, NULL::VARCHAR[] AS typacl FROM weir_pg.types;

CREATE OR REPLACE VIEW weir_pg.pg_database AS SELECT 1::BIGINT AS oid, 'weir' AS datname, 10::BIGINT AS datdba, 6 AS encoding, 'c' AS datlocprovider, false AS datistemplate, true AS datallowconn,
	-1 AS datconnlimit, 0::BIGINT AS datfrozenxid, 1::BIGINT AS datminmxid, 1663::BIGINT AS dattablespace, 'C.UTF-8' AS datcollate, 'C.UTF-8' AS datctype, NULL::VARCHAR AS daticulocale,
	NULL::VARCHAR AS datcollversion, 0::BIGINT AS datlastsysoid, NULL::VARCHAR[] AS datacl;
CREATE OR REPLACE VIEW weir_pg.pg_roles AS SELECT 10::BIGINT AS oid, 'weir' AS rolname, false AS rolsuper, true AS rolinherit, false AS rolcreaterole, false AS rolcreatedb, true AS rolcanlogin,
	false AS rolreplication, -1 AS rolconnlimit, NULL::VARCHAR AS rolpassword, NULL::TIMESTAMP AS rolvaliduntil, false AS rolbypassrls, NULL::VARCHAR[] AS rolconfig;
CREATE OR REPLACE VIEW weir_pg.pg_user AS SELECT 'weir' AS usename, 10::BIGINT AS usesysid, false AS usecreatedb, false AS usesuper, false AS userepl, false AS usebypassrls, NULL::VARCHAR AS passwd,
	NULL::TIMESTAMP AS valuntil, NULL::VARCHAR[] AS useconfig;
CREATE OR REPLACE VIEW weir_pg.pg_am AS SELECT 2::BIGINT AS oid, 'heap' AS amname, '-' AS amhandler, 't' AS amtype;
CREATE OR REPLACE VIEW weir_pg.pg_language AS SELECT 14::BIGINT AS oid, 'sql' AS lanname, 10::BIGINT AS lanowner, false AS lanispl, true AS lanpltrusted, NULL::VARCHAR[] AS lanacl;
CREATE OR REPLACE VIEW weir_pg.pg_tablespace AS SELECT 1663::BIGINT AS oid, 'pg_default' AS spcname, 10::BIGINT AS spcowner, NULL::VARCHAR[] AS spcacl, NULL::VARCHAR[] AS spcoptions;
CREATE OR REPLACE VIEW weir_pg.pg_tables AS SELECT 'public' AS schemaname, relname AS tablename, 'weir' AS tableowner, NULL::VARCHAR AS tablespace, false AS hasindexes, false AS hasrules, false AS hastriggers, false AS rowsecurity FROM weir_pg.relations WHERE relkind = 'r';
CREATE OR REPLACE VIEW weir_pg.pg_views AS SELECT 'public' AS schemaname, view_name AS viewname, 'weir' AS viewowner, sql AS definition FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal;
CREATE OR REPLACE VIEW weir_pg.pg_stat_user_tables AS SELECT oid AS relid, 'public' AS schemaname, relname, 0::BIGINT AS seq_scan, 0::BIGINT AS idx_scan, reltuples::BIGINT AS n_live_tup, 0::BIGINT AS n_dead_tup FROM weir_pg.relations WHERE relkind = 'r';
CREATE OR REPLACE VIEW weir_pg.pg_proc AS SELECT min(function_oid) + 100000 AS oid, function_name AS proname, 11::BIGINT AS pronamespace, 10::BIGINT AS proowner, 14::BIGINT AS prolang,
	CASE any_value(function_type) WHEN 'aggregate' THEN 'a' ELSE 'f' END AS prokind, any_value(function_type) = 'aggregate' AS proisagg, false AS prosecdef, false AS proleakproof, false AS proisstrict,
	any_value(function_type) = 'table' AS proretset, 'i' AS provolatile, 's' AS proparallel, 0::SMALLINT AS pronargs, 25::BIGINT AS prorettype, '' AS proargtypes, NULL::VARCHAR[] AS proallargtypes,
	any_value(parameters) AS proargnames, function_name AS prosrc, NULL::VARCHAR AS probin, NULL::VARCHAR[] AS proacl FROM duckdb_functions() WHERE function_type IN ('scalar', 'aggregate') AND schema_name = 'main' GROUP BY function_name;
CREATE OR REPLACE VIEW weir_pg.pg_settings AS SELECT name, weir_pg.current_setting(name) AS setting, NULL::VARCHAR AS unit, 'Weir' AS category, '' AS short_desc, NULL::VARCHAR AS extra_desc, 'internal' AS context,
	'string' AS vartype, 'default' AS source, NULL::VARCHAR AS min_val, NULL::VARCHAR AS max_val, NULL::VARCHAR[] AS enumvals, NULL::VARCHAR AS boot_val, NULL::VARCHAR AS reset_val
	FROM (VALUES ('server_version'), ('server_version_num'), ('search_path'), ('TimeZone'), ('client_encoding'), ('server_encoding'), ('DateStyle'), ('IntervalStyle'), ('standard_conforming_strings'),
	('transaction_isolation'), ('transaction_read_only'), ('block_size'), ('max_index_keys'), ('max_identifier_length')) AS t(name);

-- What there is none of.
CREATE OR REPLACE VIEW weir_pg.pg_extension AS SELECT 0::BIGINT AS oid, '' AS extname, 0::BIGINT AS extowner, 0::BIGINT AS extnamespace, false AS extrelocatable, '' AS extversion WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_available_extensions AS SELECT '' AS name, '' AS default_version, '' AS installed_version, '' AS comment WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_matviews AS SELECT '' AS schemaname, '' AS matviewname, '' AS matviewowner, '' AS tablespace, false AS hasindexes, false AS ispopulated, '' AS definition WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_description AS SELECT 0::BIGINT AS objoid, 0::BIGINT AS classoid, 0 AS objsubid, '' AS description WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_shdescription AS SELECT 0::BIGINT AS objoid, 0::BIGINT AS classoid, '' AS description WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_index AS SELECT 0::BIGINT AS indexrelid, 0::BIGINT AS indrelid, 0::SMALLINT AS indnatts, 0::SMALLINT AS indnkeyatts, false AS indisunique, false AS indnullsnotdistinct, false AS indisprimary,
	false AS indisexclusion, false AS indimmediate, false AS indisclustered, false AS indisvalid, false AS indcheckxmin, false AS indisready, false AS indislive, false AS indisreplident, []::SMALLINT[] AS indkey,
	[]::BIGINT[] AS indcollation, []::BIGINT[] AS indclass, []::SMALLINT[] AS indoption, NULL::VARCHAR AS indexprs, NULL::VARCHAR AS indpred WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_indexes AS SELECT '' AS schemaname, '' AS tablename, '' AS indexname, '' AS tablespace, '' AS indexdef WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_constraint AS SELECT 0::BIGINT AS oid, '' AS conname, 0::BIGINT AS connamespace, '' AS contype, false AS condeferrable, false AS condeferred, true AS convalidated, 0::BIGINT AS conrelid,
	0::BIGINT AS contypid, 0::BIGINT AS conindid, 0::BIGINT AS conparentid, 0::BIGINT AS confrelid, '' AS confupdtype, '' AS confdeltype, '' AS confmatchtype, true AS conislocal, 0 AS coninhcount, true AS connoinherit,
	[]::SMALLINT[] AS conkey, []::SMALLINT[] AS confkey, NULL::VARCHAR AS conbin WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_attrdef AS SELECT 0::BIGINT AS oid, 0::BIGINT AS adrelid, 0::SMALLINT AS adnum, '' AS adbin WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_inherits AS SELECT 0::BIGINT AS inhrelid, 0::BIGINT AS inhparent, 0 AS inhseqno, false AS inhdetachpending WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_policy AS SELECT 0::BIGINT AS oid, '' AS polname, 0::BIGINT AS polrelid, '' AS polcmd, true AS polpermissive, []::BIGINT[] AS polroles, NULL::VARCHAR AS polqual, NULL::VARCHAR AS polwithcheck WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_trigger AS SELECT 0::BIGINT AS oid, 0::BIGINT AS tgrelid, 0::BIGINT AS tgparentid, '' AS tgname, 0::BIGINT AS tgfoid, 0::SMALLINT AS tgtype, '' AS tgenabled, false AS tgisinternal, 0::BIGINT AS tgconstraint WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_rewrite AS SELECT 0::BIGINT AS oid, '' AS rulename, 0::BIGINT AS ev_class, '' AS ev_type, '' AS ev_enabled, false AS is_instead WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_statistic_ext AS SELECT 0::BIGINT AS oid, 0::BIGINT AS stxrelid, '' AS stxname, 0::BIGINT AS stxnamespace, 0::BIGINT AS stxowner, 0 AS stxstattarget, []::SMALLINT[] AS stxkeys, []::VARCHAR[] AS stxkind, NULL::VARCHAR AS stxexprs WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_publication AS SELECT 0::BIGINT AS oid, '' AS pubname, 0::BIGINT AS pubowner, false AS puballtables, false AS pubinsert, false AS pubupdate, false AS pubdelete, false AS pubtruncate, false AS pubviaroot WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_publication_rel AS SELECT 0::BIGINT AS oid, 0::BIGINT AS prpubid, 0::BIGINT AS prrelid, NULL::VARCHAR AS prqual, []::SMALLINT[] AS prattrs WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_publication_namespace AS SELECT 0::BIGINT AS oid, 0::BIGINT AS pnpubid, 0::BIGINT AS pnnspid WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_subscription AS SELECT 0::BIGINT AS oid, '' AS subname, 0::BIGINT AS subdbid WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_foreign_table AS SELECT 0::BIGINT AS ftrelid, 0::BIGINT AS ftserver, NULL::VARCHAR[] AS ftoptions WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_foreign_server AS SELECT 0::BIGINT AS oid, '' AS srvname, 0::BIGINT AS srvowner, 0::BIGINT AS srvfdw WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_foreign_data_wrapper AS SELECT 0::BIGINT AS oid, '' AS fdwname, 0::BIGINT AS fdwowner WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_partitioned_table AS SELECT 0::BIGINT AS partrelid, '' AS partstrat, 0::SMALLINT AS partnatts, 0::BIGINT AS partdefid WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_collation AS SELECT 100::BIGINT AS oid, 'default' AS collname, 11::BIGINT AS collnamespace, 10::BIGINT AS collowner, 'd' AS collprovider, true AS collisdeterministic, -1 AS collencoding, '' AS collcollate, '' AS collctype, '' AS colliculocale;
CREATE OR REPLACE VIEW weir_pg.pg_auth_members AS SELECT 0::BIGINT AS roleid, 0::BIGINT AS member, 0::BIGINT AS grantor, false AS admin_option WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_db_role_setting AS SELECT 0::BIGINT AS setdatabase, 0::BIGINT AS setrole, NULL::VARCHAR[] AS setconfig WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_enum AS SELECT 0::BIGINT AS oid, 0::BIGINT AS enumtypid, 0.0::FLOAT AS enumsortorder, '' AS enumlabel WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_range AS SELECT 0::BIGINT AS rngtypid, 0::BIGINT AS rngsubtype, 0::BIGINT AS rngmultitypid WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_depend AS SELECT 0::BIGINT AS classid, 0::BIGINT AS objid, 0 AS objsubid, 0::BIGINT AS refclassid, 0::BIGINT AS refobjid, 0 AS refobjsubid, '' AS deptype WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_sequence AS SELECT 0::BIGINT AS seqrelid, 0::BIGINT AS seqtypid, 0::BIGINT AS seqstart, 0::BIGINT AS seqincrement, 0::BIGINT AS seqmax, 0::BIGINT AS seqmin, 0::BIGINT AS seqcache, false AS seqcycle WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_stat_activity AS SELECT 1::BIGINT AS datid, 'weir' AS datname, 0 AS pid, 'weir' AS usename, '' AS application_name, '' AS state, '' AS query WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_locks AS SELECT '' AS locktype, 0::BIGINT AS database, 0::BIGINT AS relation, 0 AS pid, '' AS mode, false AS granted WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_event_trigger AS SELECT 0::BIGINT AS oid, '' AS evtname WHERE false;
CREATE OR REPLACE VIEW weir_pg.pg_default_acl AS SELECT 0::BIGINT AS oid, 0::BIGINT AS defaclrole, 0::BIGINT AS defaclnamespace, '' AS defaclobjtype, NULL::VARCHAR[] AS defaclacl WHERE false;

-- Functions over the above.
CREATE OR REPLACE MACRO weir_pg.regclass_oid(n) AS coalesce(try_cast(n AS BIGINT), (SELECT min(c.oid) FROM weir_pg.pg_class c WHERE c.relname = regexp_replace(replace(n, '"', ''), '^(public|main|pg_catalog)\.', '')));
CREATE OR REPLACE MACRO weir_pg.to_regclass(n) AS weir_pg.regclass_oid(n);

-- information_schema.
CREATE OR REPLACE VIEW weir_info.schemata AS SELECT 'weir' AS catalog_name, nspname AS schema_name, 'weir' AS schema_owner, NULL::VARCHAR AS default_character_set_name FROM weir_pg.pg_namespace;
CREATE OR REPLACE VIEW weir_info.tables AS SELECT 'weir' AS table_catalog, 'public' AS table_schema, relname AS table_name, CASE relkind WHEN 'r' THEN 'BASE TABLE' ELSE 'VIEW' END AS table_type,
	NULL::VARCHAR AS self_referencing_column_name, NULL::VARCHAR AS reference_generation, 'NO' AS is_insertable_into, 'NO' AS is_typed, NULL::VARCHAR AS commit_action FROM weir_pg.relations;
CREATE OR REPLACE VIEW weir_info.views AS SELECT 'weir' AS table_catalog, schemaname AS table_schema, viewname AS table_name, definition AS view_definition, 'NONE' AS check_option, 'NO' AS is_updatable FROM weir_pg.pg_views;
CREATE OR REPLACE VIEW weir_info.columns AS SELECT 'weir' AS table_catalog, 'public' AS table_schema, c.table_name, c.column_name, c.column_index AS ordinal_position, NULL::VARCHAR AS column_default,
	CASE WHEN c.is_nullable THEN 'YES' ELSE 'NO' END AS is_nullable, CASE WHEN c.data_type LIKE '%[]' THEN 'ARRAY' ELSE weir_pg.format_type(weir_pg.type_oid(c.data_type), -1) END AS data_type,
	NULL::INTEGER AS character_maximum_length, c.numeric_precision, c.numeric_scale, CASE WHEN c.data_type LIKE 'TIMESTAMP%' THEN 6 END AS datetime_precision,
	'weir' AS udt_catalog, 'pg_catalog' AS udt_schema, (SELECT any_value(t.typname) FROM weir_pg.types t WHERE t.oid = weir_pg.type_oid(c.data_type)) AS udt_name, 'NO' AS is_identity, 'NEVER' AS is_generated, 'NO' AS is_updatable
	FROM duckdb_columns() c WHERE c.schema_name = 'main' AND NOT c.internal;
CREATE OR REPLACE VIEW weir_info.table_constraints AS SELECT '' AS constraint_catalog, '' AS constraint_schema, '' AS constraint_name, '' AS table_catalog, '' AS table_schema, '' AS table_name, '' AS constraint_type WHERE false;
CREATE OR REPLACE VIEW weir_info.key_column_usage AS SELECT '' AS constraint_catalog, '' AS constraint_schema, '' AS constraint_name, '' AS table_catalog, '' AS table_schema, '' AS table_name, '' AS column_name, 0 AS ordinal_position, 0 AS position_in_unique_constraint WHERE false;
CREATE OR REPLACE VIEW weir_info.constraint_column_usage AS SELECT '' AS table_catalog, '' AS table_schema, '' AS table_name, '' AS column_name, '' AS constraint_catalog, '' AS constraint_schema, '' AS constraint_name WHERE false;
CREATE OR REPLACE VIEW weir_info.referential_constraints AS SELECT '' AS constraint_catalog, '' AS constraint_schema, '' AS constraint_name, '' AS unique_constraint_schema, '' AS unique_constraint_name, '' AS update_rule, '' AS delete_rule WHERE false;
CREATE OR REPLACE VIEW weir_info.routines AS SELECT '' AS specific_schema, '' AS specific_name, '' AS routine_schema, '' AS routine_name, '' AS routine_type, '' AS data_type WHERE false;
CREATE OR REPLACE VIEW weir_info.role_table_grants AS SELECT 'weir' AS grantor, 'weir' AS grantee, 'weir' AS table_catalog, 'public' AS table_schema, relname AS table_name, 'SELECT' AS privilege_type, 'NO' AS is_grantable, 'NO' AS with_hierarchy FROM weir_pg.relations;
