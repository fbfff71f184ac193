//! GET `/api/v1/messages/{id}`.

use axum::Extension;
use axum::extract::RawQuery;
use axum::response::Response;
use weft_platform::http::{Permission, Problem, QueryParams};

use super::message::Message;
use crate::rest::answer::one;
use crate::rest::path::{MessagePath, message_not_found};
use crate::state::Read;
use crate::views::messages;

/// One message.
#[utoipa::path(
    get,
    path = "/api/v1/messages/{id}",
    tag = "messages",
    operation_id = "get_message",
    params(("id" = String, Path, description = "The message's id")),
    responses((status = 200, body = Message), (status = 404, description = "message.not_found")),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "query.message.get", skip_all, fields(message.id = %id))]
pub(crate) async fn handler(
    Extension(read): Extension<Read>,
    MessagePath(id): MessagePath,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    read.call.require(Permission::MessageRead)?;
    QueryParams::parse(query.as_deref()).finish()?;
    let row = messages::find(&read.session, id).await?.ok_or_else(message_not_found)?;
    Ok(one(row.version, &Message::from(row)))
}
