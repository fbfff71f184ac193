//! What the tests of every aggregate share, and the contracts of their events.

pub(crate) mod fixtures;
pub(crate) mod matrix;
mod samples;
mod schemas;
mod values;
