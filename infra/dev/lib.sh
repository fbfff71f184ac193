# shellcheck shell=bash
# Shared by the scripts of infra/dev: settings, messages, and processes that can be recognised again.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
DEV=$ROOT/infra/dev

absolute() { case $1 in /*) printf '%s' "$1" ;; *) printf '%s' "$ROOT/$1" ;; esac; }

STATE=$(absolute "${WEFT_STATE_DIR:-.weft}")
CACHE=$(absolute "${WEFT_CACHE_DIR:-.weft/cache}")
RUN=$STATE/run
LOG=$STATE/log

export WEFT_PG_PORT=${WEFT_PG_PORT:-15432}
export WEFT_PG15_PORT=${WEFT_PG15_PORT:-15415}
export WEFT_KAFKA_PORT=${WEFT_KAFKA_PORT:-19092}
export WEFT_CLICKHOUSE_PORT=${WEFT_CLICKHOUSE_PORT:-18123}
export WEFT_HTTP_PORT=${WEFT_HTTP_PORT:-8080}
export WEFT_ADMIN_PORT=${WEFT_ADMIN_PORT:-9100}
export WEFT_SIMULATOR_PORT=${WEFT_SIMULATOR_PORT:-8090}
export WEFT_PG_PASSWORD=weft

# shellcheck disable=SC2034 # used by the other parts
{
  KAFKA_VERSION=4.3.1
  POSTGRES_VERSION=18.1.0
  CLICKHOUSE_VERSION=26.7.3-stable.1
  KAFKA_HOME=$CACHE/kafka-$KAFKA_VERSION
  POSTGRES_HOME=$CACHE/postgres-$POSTGRES_VERSION
  CLICKHOUSE_HOME=$CACHE/clickhouse-$CLICKHOUSE_VERSION
}

say() { printf '%s\n' "$*"; }
# One line that says what is wrong and what to do about it, then the end.
die() {
  printf 'weft: %s\n' "$*" >&2
  exit 1
}

make_dirs() {
  mkdir -p "$RUN" "$LOG" "$CACHE" 2>/dev/null ||
    die "cannot write to $STATE: free some disk space or set WEFT_STATE_DIR to a writable directory"
}

# need_space DIR MEGABYTES
need_space() {
  local free
  free=$(df -Pm "$1" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge "$2" ] ||
    die "not enough disk space in $1: $free MB free, $2 MB needed; free some, or set WEFT_STATE_DIR and WEFT_CACHE_DIR to another disk"
}

# Only one caller at a time may start or stop processes of this state directory. Children close descriptor 9, else they would hold the lock.
lock_state() {
  command -v flock >/dev/null || die "missing: flock; install util-linux"
  exec 9>"$RUN/lock"
  flock -w 300 9 || die "another infra/dev script has held $RUN/lock for five minutes: let it finish or stop it, then try again"
}

# --- processes -------------------------------------------------------------------------------------------------------
# A pid number alone may by now belong to somebody else, so each NAME.pid has a NAME.id beside it: boot and start time.

process_id() {
  local stat
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  stat=${stat##*) }
  # shellcheck disable=SC2086 # split into fields on purpose; field 1 is the state, field 20 the start time
  set -- $stat
  [ "$1" != Z ] && [ "$1" != X ] || return 1
  printf '%s %s\n' "$(cat /proc/sys/kernel/random/boot_id)" "${20}"
}

# Prints the pid if the process that we started under this name still runs.
running() {
  local pid
  [ -s "$RUN/$1.pid" ] && [ -s "$RUN/$1.id" ] || return 1
  pid=$(cat "$RUN/$1.pid")
  [ "$(process_id "$pid")" = "$(cat "$RUN/$1.id")" ] || return 1
  printf '%s\n' "$pid"
}

# start_process NAME COMMAND…: in a session of its own, so that Ctrl-C in a terminal reaches it only through us.
start_process() {
  local name=$1 log=$LOG/$1.log pid
  shift
  if [ -f "$log" ] && [ "$(stat -c %s "$log")" -gt 20000000 ]; then mv -f "$log" "$log.1"; fi
  setsid "$@" >>"$log" 2>&1 </dev/null 9>&- &
  pid=$!
  process_id "$pid" >"$RUN/$name.id" || true
  printf '%s\n' "$pid" >"$RUN/$name.pid"
  # The parent's exit must not take it along.
  disown "$pid" 2>/dev/null || true
}

# stop_process NAME SIGNAL SECONDS LAST_SIGNAL
stop_process() {
  local name=$1 signal=$2 seconds=$3 last=$4 pid tries
  if pid=$(running "$name"); then
    kill -s "$signal" "$pid" 2>/dev/null || true
    tries=$((seconds * 20))
    while running "$name" >/dev/null; do
      tries=$((tries - 1))
      if [ "$tries" -eq 0 ]; then
        kill -s "$last" "$pid" 2>/dev/null || true
        tries=100
      fi
      sleep 0.05
    done
    say "stopped $name"
  fi
  rm -f "$RUN/$name.pid" "$RUN/$name.id" "$RUN/$name.port"
}

# --- jobs ------------------------------------------------------------------------------------------------------------

JOBS=()
# in_parallel FUNCTION: in a process group of its own, so that an interrupt can end all that it called.
in_parallel() {
  set -m
  (
    set +m
    trap - INT TERM
    "$1"
  ) </dev/null 2>"$RUN/job-${#JOBS[@]}" &
  JOBS+=($!)
  set +m
}

# all_done [first]: waits; what failed jobs said comes out once, or only the first of it where one cause fails them all.
all_done() {
  local index failed=()
  for index in "${!JOBS[@]}"; do wait "${JOBS[index]}" || failed+=("$RUN/job-$index"); done
  JOBS=()
  if [ "${#failed[@]}" -gt 0 ]; then
    if [ "${1:-}" = first ]; then failed=("${failed[0]}"); fi
    awk '!seen[$0]++' "${failed[@]}" >&2
  fi
  rm -f "$RUN"/job-*
  [ "${#failed[@]}" = 0 ]
}

end_jobs() {
  local job
  for job in "${JOBS[@]}"; do kill -s TERM -- "-$job" 2>/dev/null || true; done
  wait || true
}

# --- ports -----------------------------------------------------------------------------------------------------------

# need_port PORT LABEL VARIABLE
need_port() {
  local holder
  python3 "$DEV/probe.py" free "$1" && return
  holder=$(ss -Hltnp "sport = :$1" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/ (\1, pid \2)/p' | head -n 1) || true
  die "port $1, needed by $2, is taken by another process$holder: stop it, or set $3 to a free port"
}

# serves NAME LABEL PORT VARIABLE: whether it already runs and answers; a server that is just dying counts as gone.
serves() {
  local was pid how
  pid=$(running "$1") || return 1
  was=$(cat "$RUN/$1.port" 2>/dev/null || true)
  [ "$was" = "$3" ] || die "$1 of this checkout already runs on port $was, not $3: run 'make down' first, or set $4=$was"
  how=$(python3 "$DEV/probe.py" wait "${1%15}" "$3" 60 "$pid") && return 0
  running "$1" >/dev/null || return 1
  die "$2 (pid $pid) runs but $how: see $LOG/$1.log, then 'make down' and try again"
}

# ends_full LOG: whether the end of a log says that the disk is full.
ends_full() { tail -n 40 "$1" 2>/dev/null | grep -aqiE 'no space left|ENOSPC'; }
die_full() { die "the disk under $1 is full: free some space and run it again"; }

# wait_ready NAME LABEL PORT SECONDS: asks the server itself; on failure quotes the most telling line of its log.
wait_ready() {
  local name=$1 label=$2 port=$3 seconds=$4 pid how why
  pid=$(cat "$RUN/$name.pid")
  how=$(python3 "$DEV/probe.py" wait "${name%15}" "$port" "$seconds" "$pid") && return
  why=$(grep -aE 'FATAL|ERROR|Exception|No space left' "$LOG/$name.log" 2>/dev/null | tail -n 1 | cut -c 1-200) || true
  if ends_full "$LOG/$name.log"; then die_full "$STATE"; fi
  die "$label $how: ${why:-no message}; see $LOG/$name.log"
}

# The gentle signal of each server, how long it may take, and the last resort.
stop_service() {
  case $1 in
    postgres | postgres15) stop_process "$1" INT 30 QUIT ;;
    *) stop_process "$1" TERM 30 KILL ;;
  esac
}
