//! Whole-system tests: real processes, real Postgres, Kafka and ClickHouse. A `World` is one Weft with its simulator,
//! on databases and topics of its own.

mod api;
mod checks;
mod process;
mod wait;
mod world;

pub use api::{Answer, Api};
pub use checks::{ledger_differences, view_differences};
pub use wait::until;
pub use world::{Options, World};
