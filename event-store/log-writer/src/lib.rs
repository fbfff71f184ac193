//! Writes the log: append, claims, idempotency, sealing, the Executor, the relay. Nothing else does.

mod adopt;
pub mod append;
pub mod archive;
mod cache;
mod claims;
mod columns;
mod error;
mod executor;
mod idempotency;
pub mod import;
mod loader;
mod logs;
pub mod migrate;
mod options;
mod pool;
mod quotas;
pub mod relay;
pub mod seal;
mod snapshots;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod writer;

pub use adopt::adopt;
pub use error::{ConnectError, ExecuteError, QuotaExceeded};
pub use executor::Executor;
pub use idempotency::Idempotency;
pub use logs::Logs;
pub use options::{Answered, CallOptions, Committed, IfMatch, StoredAnswer};
pub use store::LogContext;
/// What `Executor::load` answers; here too, because not everybody who writes may depend on the reader.
pub use weft_log_reader::Loaded;
