//! What every room needs and none owns: config, clock, telemetry, shutdown, health, HTTP kit, Kafka and database
//! plumbing, keys. Knows nothing of accounts or messages.

pub mod callback_token;
pub mod clock;
pub mod config;
pub mod database;
pub mod health;
pub mod http;
pub mod kafka;
pub mod keys;
pub mod shutdown;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
