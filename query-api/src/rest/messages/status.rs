//! GET `/api/v1/messages/{id}/status`.

use axum::Extension;
use axum::extract::RawQuery;
use axum::response::Response;
use weft_platform::http::{Permission, Problem, QueryParams};

use super::message::MessageStatusAnswer;
use crate::rest::answer::one;
use crate::rest::path::{MessagePath, message_not_found};
use crate::state::Read;
use crate::views::messages;

/// How far a message has come.
#[utoipa::path(
    get,
    path = "/api/v1/messages/{id}/status",
    tag = "messages",
    operation_id = "get_message_status",
    params(("id" = String, Path, description = "The message's id")),
    responses((status = 200, body = MessageStatusAnswer), (status = 404, description = "message.not_found")),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "query.message.status", skip_all, fields(message.id = %id))]
pub(crate) async fn handler(
    Extension(read): Extension<Read>,
    MessagePath(id): MessagePath,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    read.call.require(Permission::MessageRead)?;
    QueryParams::parse(query.as_deref()).finish()?;
    let row = messages::find(&read.session, id).await?.ok_or_else(message_not_found)?;
    Ok(one(row.version, &MessageStatusAnswer::from(&row)))
}
