//! The instance-protocol client against the simulator, and against peers that behave worse than it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, as tests do")]

mod at_most_once;
mod callback_delivery;
mod callback_reading;
mod control_api;
mod faults;
mod hosted;
mod login;
mod persistence;
mod sends;
mod support;
mod transport;
