# The image of PostgreSQL runs this once, in a new cluster: Walden's role, with the
# rights that `walden init` would ask for, and its way in.
# shellcheck shell=bash
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set password="$WALDEN_PASSWORD" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE walden LOGIN REPLICATION PASSWORD :'password';
GRANT pg_read_all_settings TO walden;
GRANT EXECUTE ON FUNCTION pg_switch_wal() TO walden;
-- What else the configuration includes; not every major has all of them.
SELECT format('GRANT SELECT ON %s TO walden', v), format('GRANT EXECUTE ON FUNCTION %s() TO walden', f)
  FROM (VALUES ('pg_file_settings', 'pg_show_all_file_settings'),
               ('pg_hba_file_rules', 'pg_hba_file_rules'),
               ('pg_ident_file_mappings', 'pg_ident_file_mappings')) AS x (v, f)
 WHERE to_regclass(v) IS NOT NULL \gexec
SQL
echo "host replication walden all scram-sha-256" >>"$PGDATA/pg_hba.conf"
