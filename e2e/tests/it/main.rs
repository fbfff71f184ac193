//! Whole flows, each on a world of its own.

mod crash;
mod login;
mod refeed;
mod sends;
mod unknown;
