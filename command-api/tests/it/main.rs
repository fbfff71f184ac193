//! The routes over a real log: good and bad, as a caller sees them.

mod accounts;
mod batch;
mod callbacks;
mod concurrency;
mod conventions;
mod login;
mod messages;
mod outage;
mod support;
