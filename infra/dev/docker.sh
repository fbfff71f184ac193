# shellcheck shell=bash
# The same stack as containers. Only used when a Docker engine answers, or on request (WEFT_STACK=docker).

compose() { docker compose -f "$ROOT/infra/compose.yaml" -p "weft-$(printf '%s' "$STATE" | sha256sum | cut -c 1-8)" "$@"; }

engine_answers() { command -v docker >/dev/null && timeout 10 docker info >/dev/null 2>&1; }

# Prints native or docker. What already runs decides first, so that a second `up` never starts a second stack.
choose_stack() {
  local service
  for service in postgres postgres15 kafka clickhouse; do
    if running "$service" >/dev/null; then
      [ "${WEFT_STACK:-auto}" != docker ] || die "the native stack of this checkout still runs: run 'make down' before WEFT_STACK=docker"
      echo native
      return
    fi
  done
  case ${WEFT_STACK:-auto} in
    native) echo native ;;
    docker)
      engine_answers || die "WEFT_STACK=docker, but no Docker engine answers: start Docker, or use WEFT_STACK=native"
      docker compose version >/dev/null 2>&1 || die "WEFT_STACK=docker needs the compose plugin: install docker-compose-plugin, or use WEFT_STACK=native"
      echo docker
      ;;
    auto) if engine_answers && docker compose version >/dev/null 2>&1; then echo docker; else echo native; fi ;;
    *) die "WEFT_STACK=$WEFT_STACK is not known: use auto, native or docker" ;;
  esac
}

# up_docker SERVICE…
up_docker() {
  command -v python3 >/dev/null || die "missing: Python 3.10 or newer; install (Debian and Ubuntu: apt-get install python3)"
  local service port
  printf 'docker\n' >"$RUN/stack"
  # Remembers for `make reset` that there are volumes.
  touch "$STATE/docker"
  compose --profile pg15 up --detach --wait --wait-timeout 300 "$@" >"$LOG/docker.log" 2>&1 9>&- || {
    port=$(sed -nE 's/.*127\.0\.0\.1:([0-9]+).*(already allocated|already in use).*/\1/p' "$LOG/docker.log" | head -n 1)
    [ -z "$port" ] || die "port $port is taken by another process: stop it, or set WEFT_PG_PORT, WEFT_KAFKA_PORT or WEFT_CLICKHOUSE_PORT to a free one"
    if ends_full "$LOG/docker.log"; then die_full "Docker's data directory"; fi
    die "Docker could not start the stack: $(grep -iE 'error|failed|unhealthy' "$LOG/docker.log" | tail -n 1 | cut -c 1-220); see $LOG/docker.log"
  }
  for service in "$@"; do
    case $service in
      postgres) port=$WEFT_PG_PORT ;;
      postgres15) port=$WEFT_PG15_PORT ;;
      kafka) port=$WEFT_KAFKA_PORT ;;
      clickhouse) port=$WEFT_CLICKHOUSE_PORT ;;
    esac
    python3 "$DEV/probe.py" wait "${service%15}" "$port" 60 0 >/dev/null ||
      die "$service runs in Docker but does not answer on 127.0.0.1:$port: look at 'docker compose -f infra/compose.yaml logs $service'"
    say "$service runs in Docker on 127.0.0.1:$port"
  done
}

docker_started() { [ -f "$RUN/stack" ] && [ "$(cat "$RUN/stack")" = docker ]; }

# Names of those of our services that run in Docker.
running_docker() { docker_started && compose --profile pg15 ps --services --status running 2>/dev/null; }

# down_docker [SERVICE…]
down_docker() {
  if [ "$#" -gt 0 ]; then
    compose --profile pg15 stop "$@" >>"$LOG/docker.log" 2>&1
  else
    compose --profile pg15 down >>"$LOG/docker.log" 2>&1
    rm -f "$RUN/stack"
  fi || die "Docker could not stop the stack: $(tail -n 1 "$LOG/docker.log"); see $LOG/docker.log"
  say "stopped ${*:-the stack} in Docker"
}
