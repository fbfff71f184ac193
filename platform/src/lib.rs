//! What every room needs and none owns: config, clock, telemetry, HTTP kit, Kafka and database plumbing, keys.
