# shellcheck shell=bash
# PostgreSQL: 18 from the cache, and on request an installed 15. Superuser postgres, password weft.

# Postgres refuses to run as root, so root runs it as nobody. When nobody cannot reach the checkout (a directory on the way is closed
# to others), it runs in a user namespace instead, where root's own files are its own although it is not root.
PG_AS=()
PG_OWNER=''
choose_pg_user() { # choose_pg_user HOME
  [ "$(id -u)" = 0 ] || return 0
  command -v setpriv >/dev/null || die "missing: setpriv, to run PostgreSQL as nobody; install util-linux"
  PG_AS=(setpriv --reuid=65534 --regid=65534 --clear-groups) PG_OWNER=65534:65534
  pg_reaches "$1" && return
  PG_AS=(unshare --user --map-user=65534 --map-group=65534) PG_OWNER=0:0
  pg_reaches "$1" && return
  die "PostgreSQL runs as nobody when you are root, and nobody cannot reach $STATE: run 'chmod o+x' on the directories above it, or work as a plain user"
}
pg_reaches() { "${PG_AS[@]}" sh -c '"$1" --version && test -x "$2"' - "$1/bin/postgres" "$STATE" >/dev/null 2>&1 9>&-; }

# A killed server counts as alive to the next one until its parent has collected it.
await_corpse() { # await_corpse DATA
  local pid tries=200
  pid=$(head -n 1 "$1/postmaster.pid" 2>/dev/null) || return 0
  while [ -n "$pid" ] && [ -e "/proc/$pid" ] && ! process_id "$pid" >/dev/null && [ "$tries" -gt 0 ]; do
    tries=$((tries - 1))
    sleep 0.05
  done
}

# init_postgres HOME DIR
init_postgres() {
  local home=$1 dir=$2 log
  log=$LOG/$(basename "$dir")-init.log
  [ -f "$dir/data/PG_VERSION" ] && return
  rm -rf "$dir"
  mkdir -p "$dir"
  printf '%s' "$WEFT_PG_PASSWORD" >"$dir/password"
  chmod 600 "$dir/password"
  if [ -n "$PG_OWNER" ]; then chown -R "$PG_OWNER" "$dir"; fi
  # Under another name until it is whole: an interrupted initdb is simply done again.
  (cd "$dir" && "${PG_AS[@]}" "$home/bin/initdb" -D "$dir/new" -U postgres --pwfile="$dir/password" --auth=scram-sha-256 \
    --data-checksums --encoding=UTF8 --locale=C.UTF-8) >"$log" 2>&1 9>&- || {
    if ends_full "$log"; then die_full "$STATE"; fi
    die "PostgreSQL could not create its data directory: $(grep -aE 'error|could not|FATAL' "$log" | head -n 1 | cut -c 1-200); see $log"
  }
  rm -f "$dir/password"
  mv "$dir/new" "$dir/data"
}

# start_postgres NAME HOME PORT LABEL VARIABLE
start_postgres() {
  local name=$1 home=$2 port=$3 label=$4 variable=$5 dir=$STATE/$1
  serves "$name" "$label" "$port" "$variable" && return
  need_port "$port" "$label" "$variable"
  choose_pg_user "$home"
  init_postgres "$home" "$dir"
  # The checkout may have been moved to where the other way of running it is needed.
  if [ -n "$PG_OWNER" ] && [ "$(stat -c %u:%g "$dir/data")" != "$PG_OWNER" ]; then chown -R "$PG_OWNER" "$dir"; fi
  await_corpse "$dir/data"
  printf '%s' "$port" >"$RUN/$name.port"
  cd "$dir" || exit 1
  start_process "$name" "${PG_AS[@]}" "$home/bin/postgres" -D "$dir/data" -p "$port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
    -c max_connections=400 -c shared_buffers=256MB -c fsync=on -c max_prepared_transactions=0 \
    -c max_wal_size=2GB -c "log_line_prefix=%m [%p] %d "
  wait_ready "$name" "$label" "$port" 60
}

start_postgres18() { start_postgres postgres "$POSTGRES_HOME" "$WEFT_PG_PORT" "PostgreSQL ${POSTGRES_VERSION%.0}" WEFT_PG_PORT; }

start_postgres15() {
  local bin=${WEFT_PG15_BIN:-/usr/lib/postgresql/15/bin}
  { [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ]; } ||
    die "PostgreSQL 15 is not in $bin: install Debian's postgresql-15, or set WEFT_PG15_BIN to the directory of its initdb and postgres"
  start_postgres postgres15 "$(dirname "$bin")" "$WEFT_PG15_PORT" "PostgreSQL 15" WEFT_PG15_PORT
}
