#!/bin/bash
# Stands in for the entrypoint of the official PostgreSQL image: makes a cluster
# in an empty PGDATA, runs what lies in /docker-entrypoint-initdb.d, and becomes
# the server. Any other command is run as it is.
set -Eeuo pipefail

[ "${1:0:1}" != - ] || set -- postgres "$@"
[ "$1" = postgres ] || exec "$@"

if [ "$(id -u)" = 0 ]; then
	mkdir -p "$PGDATA"
	chmod 700 "$PGDATA"
	find "$PGDATA" ! -user postgres -exec chown postgres {} +
	exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi
export HOME=/var/lib/postgresql

# A superuser's session in the database that was asked for, by the socket.
session() {
	psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --no-password --dbname "$POSTGRES_DB" "$@"
}

prepare() {
	local method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256} f options
	if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "$method" != trust ]; then
		echo "POSTGRES_PASSWORD must be set for a new cluster" >&2
		exit 1
	fi
	export POSTGRES_USER=${POSTGRES_USER:-postgres}
	export POSTGRES_DB=${POSTGRES_DB:-$POSTGRES_USER}
	read -r -a options <<<"${POSTGRES_INITDB_ARGS:-}"
	initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s\n' "${POSTGRES_PASSWORD:-}") "${options[@]}"
	printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"

	export PGPASSWORD=${POSTGRES_PASSWORD:-}
	pg_ctl -D "$PGDATA" -w -o "$(printf '%q ' "${@:2}" -c listen_addresses=)" start
	if [ "$POSTGRES_DB" != postgres ]; then
		POSTGRES_DB=postgres session -c "CREATE DATABASE \"$POSTGRES_DB\""
	fi
	for f in /docker-entrypoint-initdb.d/*; do
		case $f in
		*.sh)
			if [ -x "$f" ]; then
				"$f"
			else
				# shellcheck disable=SC1090
				. "$f"
			fi
			;;
		*.sql) session -f "$f" ;;
		*.sql.gz) gzip -dc "$f" | session ;;
		esac
	done
	pg_ctl -D "$PGDATA" -m fast -w stop
	unset PGPASSWORD
}

[ -s "$PGDATA/PG_VERSION" ] || prepare "$@"
exec "$@"
