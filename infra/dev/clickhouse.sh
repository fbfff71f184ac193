# shellcheck shell=bash
# ClickHouse, run as clickhouse-local with its HTTP interface.

start_clickhouse() {
  local dir=$STATE/clickhouse port=$WEFT_CLICKHOUSE_PORT label="ClickHouse ${CLICKHOUSE_VERSION%-*}"
  serves clickhouse "$label" "$port" WEFT_CLICKHOUSE_PORT && return
  need_port "$port" "$label" WEFT_CLICKHOUSE_PORT
  mkdir -p "$dir/data"
  printf '%s' "$port" >"$RUN/clickhouse.port"
  cd "$dir" || exit 1
  start_process clickhouse python3 "$DEV/clickhouse/server.py" "$CLICKHOUSE_HOME/libchdb.so" "$dir/data" "$port" "$DEV/clickhouse/config.xml"
  wait_ready clickhouse "$label" "$port" 60
}
