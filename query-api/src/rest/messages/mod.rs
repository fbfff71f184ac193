//! `/api/v1/messages`.

pub(super) mod get;
pub(super) mod list;
pub(super) mod status;

mod message;
