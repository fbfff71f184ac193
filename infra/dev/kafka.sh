# shellcheck shell=bash
# Apache Kafka, one node in KRaft mode.

start_kafka() {
  local dir=$STATE/kafka port=$WEFT_KAFKA_PORT controller=$((WEFT_KAFKA_PORT + 1)) label="Kafka $KAFKA_VERSION"
  serves kafka "$label" "$port" WEFT_KAFKA_PORT && return
  need_port "$port" "$label" WEFT_KAFKA_PORT
  need_port "$controller" "$label's controller (WEFT_KAFKA_PORT + 1)" WEFT_KAFKA_PORT
  need_java
  mkdir -p "$dir"
  sed -e "s|@PORT@|$port|g" -e "s|@CONTROLLER_PORT@|$controller|g" -e "s|@DATA@|$dir/data|g" "$DEV/kafka.properties" >"$dir/server.properties"
  if [ ! -f "$dir/formatted" ]; then
    rm -rf "$dir/data"
    java -Xmx128m -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile="$DEV/kafka-log4j2.properties" -cp "$KAFKA_HOME/*" kafka.tools.StorageTool format \
      -t "$(python3 -c 'import base64, uuid; print("A" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22])')" \
      -c "$dir/server.properties" --standalone >"$LOG/kafka-format.log" 2>&1 9>&- || {
      if ends_full "$LOG/kafka-format.log"; then die_full "$STATE"; fi
      die "Kafka could not format $dir/data: $(tail -n 1 "$LOG/kafka-format.log" | cut -c 1-200); see $LOG/kafka-format.log"
    }
    touch "$dir/formatted"
  fi
  printf '%s' "$port" >"$RUN/kafka.port"
  start_process kafka java -Xms256m -Xmx512m -XX:+UseG1GC -Dlog4j2.configurationFile="$DEV/kafka-log4j2.properties" \
    -cp "$KAFKA_HOME/*" kafka.Kafka "$dir/server.properties"
  wait_ready kafka "$label" "$port" 60
}
