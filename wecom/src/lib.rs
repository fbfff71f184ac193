//! The ways to reach WeCom: the gateway trait, the instance-protocol client, its callbacks, and the simulator.
//! Knows nothing of Weft.

pub mod callbacks;
pub mod codes;
pub mod content;
pub mod gateway;
pub mod instance;
pub mod lenient;
pub mod simulator;
