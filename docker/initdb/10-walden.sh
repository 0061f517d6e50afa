# The image of PostgreSQL runs this once, in a new cluster: Walden's role, and its
# way in. Its password is that of the environment.
# shellcheck shell=bash
psql --no-psqlrc --set ON_ERROR_STOP=1 --set password="$WALDEN_PASSWORD" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE walden LOGIN REPLICATION PASSWORD :'password';
GRANT pg_read_all_settings TO walden;
GRANT EXECUTE ON FUNCTION pg_switch_wal() TO walden;
SQL
echo "host replication walden all scram-sha-256" >>"$PGDATA/pg_hba.conf"
