//! `/api/v1/accounts`.

pub(super) mod conversations;
pub(super) mod get;
pub(super) mod list;
pub(super) mod status;
pub(super) mod status_history;

mod account;
