//! Errors of queries, and the stable `extensions.code` of every error.

use async_graphql::{Response, ServerError};

use crate::error::ReadError;

/// What a resolver refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueryError {
    #[error("{0}")]
    BadPage(&'static str),
    #[error("{0}")]
    BadRange(&'static str),
    #[error("{0}")]
    PermissionDenied(String),
    #[error("the subscriber is too slow: too many changed messages wait for it; subscribe again and read the list")]
    TooSlow,
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl QueryError {
    const fn code(&self) -> &'static str {
        match self {
            Self::BadPage(_) => "BAD_PAGE",
            Self::BadRange(_) => "BAD_RANGE",
            Self::PermissionDenied(_) => "PERMISSION_DENIED",
            Self::TooSlow => "SUBSCRIBER_TOO_SLOW",
            Self::Read(error) => error.graphql_code(),
        }
    }
}

/// The query's text is not GraphQL.
pub(crate) const PARSE_FAILED: &str = "GRAPHQL_PARSE_FAILED";
/// The query does not fit the schema, or is over a limit.
pub(crate) const VALIDATION_FAILED: &str = "GRAPHQL_VALIDATION_FAILED";
/// A variable or the operation's name is wrong.
const BAD_REQUEST: &str = "BAD_REQUEST";

/// Sets a code where none is set.
pub(crate) fn set_code(error: &mut ServerError, code: &'static str) {
    let extensions = error.extensions.get_or_insert_with(Default::default);
    if extensions.get("code").is_none() {
        extensions.set("code", code);
    }
}

fn code_of(error: &ServerError) -> Option<async_graphql::Value> {
    error.extensions.as_ref()?.get("code").cloned()
}

/// Gives every error its code.
pub(crate) fn finish(mut response: Response) -> Response {
    for error in &mut response.errors {
        let code = if let Some(error) = error.source::<QueryError>() {
            error.code()
        } else if let Some(error) = error.source::<ReadError>() {
            error.graphql_code()
        } else {
            BAD_REQUEST
        };
        set_code(error, code);
    }
    response
}

/// Whether the request was refused before anything was executed.
pub(crate) fn is_refused(response: &Response) -> bool {
    !response.errors.is_empty()
        && response.errors.iter().all(|error| {
            error.path.is_empty()
                && code_of(error).is_some_and(|code| {
                    [PARSE_FAILED, VALIDATION_FAILED, BAD_REQUEST]
                        .iter()
                        .any(|known| code == async_graphql::Value::from(*known))
                })
        })
}
