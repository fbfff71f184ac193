//! The event store on a real Postgres and a real Kafka.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod append;
mod archive;
mod batches;
mod claims;
mod conflicts;
mod idempotency;
mod import;
mod keys;
mod migrate;
mod outages;
mod proxy;
mod quotas;
mod relay;
mod relay_kafka;
mod relay_processes;
mod snapshots;
mod stock;
mod support;
mod tail;
