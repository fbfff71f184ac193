//! The HTTP kit that both APIs share: the envelope of every answer, problems, call context, consistency tokens, strict
//! reading of bodies and query strings.

mod body;
mod call;
mod codes;
mod consistency;
mod envelope;
mod fields;
mod json;
mod problem;
mod query;

pub use body::{json_body, malformed, read_body};
pub use call::{Authenticator, CallContext, Permission, REQUEST_ID, request_context};
pub use codes::title;
pub use consistency::{CONSISTENCY, CONSISTENCY_MET, ConsistencyToken, StreamMark, TokenMalformed};
pub use envelope::{EnvelopeConfig, envelope};
pub use fields::{Fields, MAX_URL_LENGTH, Node, parse_uuid, read_object};
pub use json::{MalformedJson, parse_json, with_replacement_characters};
pub use problem::{FieldError, Problem, RateLimit};
pub use query::QueryParams;
