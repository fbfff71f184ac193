//! The HTTP kit that both APIs share: problems, call context, consistency tokens.

mod call;
mod consistency;
mod problem;
mod query;

pub use call::{Authenticator, CallContext, Permission, REQUEST_ID, request_context};
pub use consistency::{CONSISTENCY, CONSISTENCY_MET, ConsistencyToken, StreamMark, TokenMalformed};
pub use problem::{FieldError, Problem, title};
pub use query::QueryParams;
