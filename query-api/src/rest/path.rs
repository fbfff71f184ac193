//! The resource that a path names; what is no UUID is the id of nothing.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::StatusCode;
use axum::http::request::Parts;
use uuid::Uuid;
use weft_platform::http::{Problem, parse_uuid};

/// `{id}` of an account.
#[derive(Clone, Copy, Debug)]
pub(super) struct AccountPath(pub(super) Uuid);

/// `{id}` of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessagePath(pub(super) Uuid);

pub(super) fn account_not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "account.not_found", "there is no such account")
}

pub(super) fn message_not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "message.not_found", "there is no such message")
}

impl<S: Send + Sync> FromRequestParts<S> for AccountPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        path_id(parts, state).await.map(Self).ok_or_else(account_not_found)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for MessagePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        path_id(parts, state).await.map(Self).ok_or_else(message_not_found)
    }
}

async fn path_id<S: Send + Sync>(parts: &mut Parts, state: &S) -> Option<Uuid> {
    let params = RawPathParams::from_request_parts(parts, state).await.ok()?;
    let (_, id) = params.iter().find(|(name, _)| *name == "id")?;
    parse_uuid(id)
}
