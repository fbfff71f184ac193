//! Writes the log: append, claims, idempotency, sealing, the Executor, the relay. Nothing else does.

pub mod append;
mod claims;
mod error;
mod executor;
mod idempotency;
pub mod migrate;
mod options;
mod pool;
pub mod relay;
pub mod seal;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use error::{ConnectError, ExecuteError};
pub use executor::Executor;
pub use idempotency::Idempotency;
pub use options::{Answered, CallOptions, Committed, IfMatch, StoredAnswer};
pub use store::LogContext;
/// What `Executor::load` answers; here too, because not everybody who writes may depend on the reader.
pub use weft_log_reader::Loaded;
