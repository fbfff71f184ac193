//! What WeCom tells us, taken in.

pub(crate) mod instance;
