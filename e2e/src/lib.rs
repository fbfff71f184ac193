//! Whole-system tests: real processes, real Postgres, Kafka and ClickHouse.
