//! Waiting for a condition, never for a time.

pub use weft_platform::testing::until_within as until;
