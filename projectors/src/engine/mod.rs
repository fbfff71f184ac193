//! Reads the topics of a projection and applies each batch in one transaction with its checkpoint.
//!
//! Exact, because each partition has one writer in log order: whatever is at or below a partition's high-water was
//! applied, in the transaction that moved it there. What Kafka does not bring is read from the log.

mod backoff;
mod batch;
mod gap;
mod run;
mod session;

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use uuid::Uuid;

use crate::error::ProjectionError;
use crate::event::Event;
use crate::shape::Shape;

pub use backoff::Backoff;
pub use batch::{Gap, Item, Progress, Taken, What};
pub use run::{Ended, Engine};
pub use session::Session;

/// One read model: what it reads, and how a batch of events becomes rows.
pub trait Projection: Send + Sync + 'static {
    /// What the batch needs from outside the views' database, gathered before its transaction begins.
    type Prepared: Send;

    /// Its name in `checkpoints`; the read model's own.
    const NAME: &'static str;
    /// Its name in `/readyz` and `/api/v1/monitor/health`.
    const HEALTH: &'static str;
    /// The aggregates whose topics it reads.
    const AGGREGATES: &'static [&'static str];
    const SHAPE: Shape;
    /// What it writes.
    const TABLES: Tables;
    /// Events of one transaction at most, and how long the first of a batch waits for more.
    const MAX_BATCH: usize = 1_000;
    const LINGER: Duration = Duration::from_millis(20);

    /// Events of one transaction at most while a generation is filled: the more, the more of a row's events are folded
    /// into one write. Fewer where they take too long.
    const FILL_BATCH: usize = 20_000;

    /// Done before the transaction begins, and again when it has to be repeated. For a store without transactions, this
    /// is where the rows are written: it must change nothing the second time.
    fn prepare(&self, events: &[Arc<Event>]) -> impl Future<Output = Result<Self::Prepared, ProjectionError>> + Send;

    /// Writes the rows, in the transaction that moves the checkpoint.
    fn write(
        &self,
        connection: &mut PgConnection,
        events: &[Arc<Event>],
        prepared: Self::Prepared,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Ids of the rows that `events` of one stream are about, where the rows are of several streams (`Fold`): they are
    /// incomplete while the stream is parked.
    fn rows_of(&self, events: &[Arc<Event>]) -> Vec<Uuid> {
        let _ = events;
        Vec::new()
    }
}

/// A read model's own tables, under their names in every generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tables {
    /// In the views' database.
    Postgres(&'static [&'static str]),
    /// In ClickHouse.
    Facts(&'static [&'static str]),
}
