//! The tools of operators, run as an operator runs them, on the real PostgreSQL, Kafka and ClickHouse.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod archive;
mod dead_letters;
mod import;
mod log;
mod replay;
mod restore;
mod support;
