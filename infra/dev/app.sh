# shellcheck shell=bash
# Builds and starts weft and the simulator in the background.

TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
case ${PROFILE:=dev} in
  dev) BIN=$TARGET/debug/weft ;;
  *) BIN=$TARGET/$PROFILE/weft ;;
esac
SERVED=http://127.0.0.1:$WEFT_HTTP_PORT
SIMULATOR=http://127.0.0.1:$WEFT_SIMULATOR_PORT

build_weft() {
  say "building weft ($PROFILE profile; the first time takes some minutes)"
  (cd "$ROOT" && cargo build --locked --profile "$PROFILE" --package weft-cli) || die "weft does not build: the compiler's messages above say why"
}

# point VARIABLE VALUE: what the caller's own environment says stays.
point() { [ -n "${!1:-}" ] || export "$1=$2"; }

# Weft's own defaults are the default ports, and weft.toml may say otherwise; so only ports that were moved are told.
weft_environment() {
  local postgres=127.0.0.1:$WEFT_PG_PORT
  if [ "$WEFT_PG_PORT" != 15432 ]; then
    point WEFT__LOG__URL "postgres://weft_log:weft@$postgres/weft_log"
    point WEFT__LOG__ADMIN_URL "postgres://postgres:$WEFT_PG_PASSWORD@$postgres/weft_log"
    point WEFT__KEYS__URL "postgres://weft_keys:weft@$postgres/weft_keys"
    point WEFT__KEYS__ADMIN_URL "postgres://postgres:$WEFT_PG_PASSWORD@$postgres/weft_keys"
    point WEFT__VIEWS__URL "postgres://weft_query:weft@$postgres/weft_views"
    point WEFT__VIEWS__PROJECTOR_URL "postgres://weft_projector:weft@$postgres/weft_views"
    point WEFT__VIEWS__ADMIN_URL "postgres://postgres:$WEFT_PG_PASSWORD@$postgres/weft_views"
  fi
  [ "$WEFT_KAFKA_PORT" = 19092 ] || point WEFT__KAFKA__BROKERS "127.0.0.1:$WEFT_KAFKA_PORT"
  [ "$WEFT_CLICKHOUSE_PORT" = 18123 ] || point WEFT__CLICKHOUSE__URL "http://127.0.0.1:$WEFT_CLICKHOUSE_PORT"
  if [ "$WEFT_HTTP_PORT" != 8080 ]; then
    point WEFT__HTTP__LISTEN "127.0.0.1:$WEFT_HTTP_PORT"
    point WEFT__HTTP__PUBLIC_URL "$SERVED"
  fi
  [ "$WEFT_ADMIN_PORT" = 9100 ] || point WEFT__ADMIN__LISTEN "127.0.0.1:$WEFT_ADMIN_PORT"
  [ "$WEFT_SIMULATOR_PORT" = 8090 ] || point WEFT__WECOM__INSTANCE_URL "$SIMULATOR"
}

# Where the tests find the servers.
test_environment() {
  export WEFT_TEST_PG_URL=postgres://postgres:$WEFT_PG_PASSWORD@127.0.0.1:$WEFT_PG_PORT
  export WEFT_TEST_KAFKA=127.0.0.1:$WEFT_KAFKA_PORT
  export WEFT_TEST_CLICKHOUSE=http://127.0.0.1:$WEFT_CLICKHOUSE_PORT
}

# Sets DEMO_ARGUMENTS. Where the simulator scans nothing by itself, the demo does.
demo_arguments() {
  read -r -a DEMO_ARGUMENTS <<<"${DEMO:-examples/messages.csv}"
  DEMO_ARGUMENTS+=(--api "$SERVED" --simulator "$SIMULATOR")
  if [ "$(cat "$RUN/simulator.mode" 2>/dev/null)" = manual ]; then
    [[ " ${DEMO_ARGUMENTS[*]} " == *" --scan "* ]] || DEMO_ARGUMENTS+=(--scan)
  fi
}

# await_http NAME LABEL URL SECONDS
await_http() {
  local name=$1 label=$2 url=$3 tries=$(($4 * 10)) why
  until python3 "$DEV/probe.py" http "$url"; do
    running "$name" >/dev/null || {
      why=$(grep -aiE 'error|panicked|fatal' "$LOG/$name.log" | tail -n 1 | cut -c 1-300) || true
      rm -f "$RUN/$name.pid" "$RUN/$name.id"
      die "$label stopped while starting: ${why:-$(tail -n 1 "$LOG/$name.log" | cut -c 1-300)}; see $LOG/$name.log"
    }
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || die "$label did not answer $url within $4 s: see $LOG/$name.log"
    sleep 0.1
  done
}

# start_simulator MODE [ARGUMENT…]: MODE `scan` scans by itself. A running one of the other mode is replaced only for `scan`; its state is on disk.
start_simulator() {
  local mode=$1
  shift
  if running simulator >/dev/null; then
    if [ "$mode" != scan ] || [ "$(cat "$RUN/simulator.mode" 2>/dev/null)" = scan ]; then
      await_http simulator "the simulator" "$SIMULATOR/_sim/clients" 30
      say "simulator runs on $SIMULATOR (pid $(running simulator))"
      return
    fi
    stop_service simulator
  fi
  need_port "$WEFT_SIMULATOR_PORT" "the simulator" WEFT_SIMULATOR_PORT
  printf '%s' "$mode" >"$RUN/simulator.mode"
  start_process simulator "$BIN" simulator --listen "127.0.0.1:$WEFT_SIMULATOR_PORT" --data-dir "$STATE/simulator" "$@"
  await_http simulator "the simulator" "$SIMULATOR/_sim/clients" 30
  say "simulator started on $SIMULATOR (pid $(running simulator))"
}

start_weft() {
  local state=runs
  if ! running weft >/dev/null; then
    need_port "$WEFT_HTTP_PORT" "weft" WEFT_HTTP_PORT
    need_port "$WEFT_ADMIN_PORT" "weft's metrics and health" WEFT_ADMIN_PORT
    start_process weft "$BIN" all
    state=started
  fi
  await_http weft "weft" "$SERVED/readyz" 120
  say "weft $state on $SERVED (pid $(running weft))"
}
