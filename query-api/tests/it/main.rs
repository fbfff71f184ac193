//! The query API over real Postgres, Kafka and ClickHouse, with seeded rows.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, as tests do")]

mod accounts;
mod consistency;
mod graphql;
mod graphql_limits;
mod indexes;
mod live;
mod messages;
mod monitor;
mod outages;
mod socket;
mod support;
mod tenants;
