//! Whole flows, each on a world of its own.

mod chaos;
mod crash;
mod kafka_lost;
mod login;
mod refeed;
mod sends;
mod two_logs;
mod unknown;
