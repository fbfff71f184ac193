//! The routes over a real log: good and bad, as a caller sees them.
#![allow(clippy::unwrap_used, reason = "a test ends where its helpers do")]

mod accounts;
mod batch;
mod callbacks;
mod concurrency;
mod conventions;
mod login;
mod messages;
mod outage;
mod overload;
mod quotas;
mod support;
