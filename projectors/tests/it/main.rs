//! Projections on the real Postgres, Kafka and ClickHouse of the development stack, each test with its own databases
//! and topics.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accounts;
mod checkpoints;
mod conversations;
mod dead_letters;
mod engine;
mod facts;
mod gaps;
mod heartbeats;
mod messages;
mod migrations;
mod rebalances;
mod replay;
mod status_history;
mod support;
mod tenants;
