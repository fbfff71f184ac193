//! POST /api/v1/messages/{id}/cancel

use axum::extract::State;
use weft_domain::message::{CancelCause, MessageCommand};
use weft_platform::http::{Permission, Problem};

use super::answer::MessageAnswer;
use crate::body::{Body, NoFields};
use crate::call::{CommandCall, MessagePath};
use crate::reply::Reply;
use crate::state::CommandState;

/// Cancels a message that is still `pending`.
#[utoipa::path(
    post,
    path = "/api/v1/messages/{id}/cancel",
    tag = "messages",
    operation_id = "cancel_message",
    params(("id" = Uuid, Path, description = "The message")),
    responses(
        (status = 202, description = "Accepted", body = MessageAnswer),
        (status = 404, description = "message.not_found"),
        (status = 409, description = "message.wrong_status, idempotency.in_progress"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "command.message.cancel", skip_all, fields(message.id = %id))]
pub(crate) async fn handler(
    State(app): State<CommandState>,
    call: CommandCall,
    MessagePath(id): MessagePath,
    Body { bytes, .. }: Body<NoFields>,
) -> Result<Reply, Problem> {
    call.require(Permission::MessageSend)?;
    let command = MessageCommand::Cancel {
        cause: CancelCause::Requested,
        now: app.clock.now(),
    };
    app.answer_own_message(&call, id, command, &call.post_options(&app, &bytes))
        .await
}
