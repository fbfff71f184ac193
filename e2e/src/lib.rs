//! Whole-system tests: real processes, real Postgres, Kafka and ClickHouse. A `World` is one Weft with its simulator,
//! on databases and topics of its own; a `Cluster` is one of several processes.

mod api;
pub mod chaos;
mod checks;
mod cluster;
mod history;
mod load;
pub mod memory;
mod process;
mod wait;
mod world;

pub use api::{Answer, Api};
pub use checks::{ledger_differences, view_differences};
pub use cluster::{Cluster, Role};
pub use wait::until;
pub use world::{Options, World};
