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

# Where weft finds what runs here; only what differs from its own defaults needs to be told, but telling all of it is simpler to trust.
weft_environment() {
  export WEFT__CLICKHOUSE__URL=http://127.0.0.1:$WEFT_CLICKHOUSE_PORT
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
  start_process simulator "$BIN" simulator "$@"
  await_http simulator "the simulator" "$SIMULATOR/_sim/clients" 30
  say "simulator started on $SIMULATOR (pid $(running simulator))"
}

start_weft() {
  local state=runs
  if ! running weft >/dev/null; then
    need_port "$WEFT_HTTP_PORT" "weft" WEFT_HTTP_PORT
    start_process weft "$BIN" all
    state=started
  fi
  await_http weft "weft" "$SERVED/readyz" 120
  say "weft $state on $SERVED (pid $(running weft))"
}
