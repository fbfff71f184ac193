//! POST /api/v1/messages/{id}/resolve

use axum::extract::State;
use chrono::{DateTime, Utc};
use utoipa::ToSchema;
use weft_domain::message::{MessageCommand, ResolvedBy, ResolvedOutcome};
use weft_platform::http::{Fields, Permission, Problem};

use super::answer::MessageAnswer;
use crate::body::{Body, RequestBody};
use crate::call::{CommandCall, MessagePath};
use crate::reply::Reply;
use crate::state::CommandState;

#[derive(Debug, ToSchema)]
#[schema(example = json!({"outcome": "sent", "reason": "客户确认已收到"}))]
pub(crate) struct ResolveMessage {
    #[schema(value_type = OutcomeForm)]
    outcome: ResolvedOutcome,
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

/// What became of the message; `resend` sends it again.
#[derive(ToSchema)]
#[schema(as = ResolvedOutcome, rename_all = "snake_case")]
#[expect(dead_code, reason = "the contract's form of the domain's words")]
enum OutcomeForm {
    Sent,
    Failed,
    Resend,
}

impl RequestBody for ResolveMessage {
    fn read(fields: &mut Fields, _: DateTime<Utc>) -> Option<Self> {
        let outcome = fields.required("outcome", |node| {
            node.word("sent, failed, resend", |text| match text {
                "sent" => Some(ResolvedOutcome::Sent),
                "failed" => Some(ResolvedOutcome::Failed),
                "resend" => Some(ResolvedOutcome::Resend),
                _ => None,
            })
        });
        let reason = fields.required("reason", |node| node.line(1..=500));
        Some(Self {
            outcome: outcome?,
            reason: reason?,
        })
    }
}

/// Settles a message whose outcome is `unknown`, by what a person found out.
#[utoipa::path(
    post,
    path = "/api/v1/messages/{id}/resolve",
    tag = "messages",
    operation_id = "resolve_message",
    params(("id" = Uuid, Path, description = "The message")),
    request_body = ResolveMessage,
    responses(
        (status = 202, description = "Accepted", body = MessageAnswer),
        (status = 404, description = "message.not_found"),
        (status = 409, description = "message.wrong_status, idempotency.in_progress"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "command.message.resolve", skip_all, fields(message.id = %id))]
pub(crate) async fn handler(
    State(app): State<CommandState>,
    call: CommandCall,
    MessagePath(id): MessagePath,
    Body { request, bytes }: Body<ResolveMessage>,
) -> Result<Reply, Problem> {
    call.require(Permission::MessageSend)?;
    let command = MessageCommand::Resolve {
        outcome: request.outcome,
        by: ResolvedBy::Operator,
        reason: Some(request.reason),
        receipt: None,
        now: app.clock.now(),
    };
    app.answer_own_message(&call, id, command, &call.post_options(&app, &bytes))
        .await
}
