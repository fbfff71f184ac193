//! What a command to one message answers, and how it is carried out.

use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use weft_domain::MessageId;
use weft_domain::message::{Message, MessageCommand};
use weft_log_writer::{CallOptions, Committed, StoredAnswer};
use weft_platform::http::Problem;

use crate::call::CommandCall;
use crate::reply::Reply;
use crate::state::CommandState;

/// The message and the status that the command left it in.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MessageAnswer, example = json!({
    "message_id": "0193f1a2-7b3c-7d4e-8f50-6172839405a6",
    "status": "pending",
}))]
pub(crate) struct MessageAnswer {
    message_id: Uuid,
    status: &'static str,
}

impl CommandState {
    /// Carries one command to a message out and answers 202 with the status it leaves.
    pub(crate) async fn answer_message(
        &self,
        id: MessageId,
        command: MessageCommand,
        options: &CallOptions,
    ) -> Result<Reply, Problem> {
        let answer = |committed: &[Committed<Message>]| {
            let message = committed.first();
            let status = message.and_then(|message| message.state.status);
            let body = MessageAnswer {
                message_id: id.0,
                status: status.map_or("", |status| status.as_str()),
            };
            StoredAnswer {
                status: StatusCode::ACCEPTED.as_u16(),
                body: serde_json::json!(body),
                etag: message.map(|message| message.version),
            }
        };
        self.answer::<Message>(vec![(id.to_string(), command)], options, answer)
            .await
    }

    /// As `answer_message`, for a message that must be the caller's own.
    pub(crate) async fn answer_own_message(
        &self,
        call: &CommandCall,
        id: MessageId,
        command: MessageCommand,
        options: &CallOptions,
    ) -> Result<Reply, Problem> {
        let outcome = match self.own_message(&call.context, id).await {
            Ok(_) => self.answer_message(id, command, options).await,
            Err(refusal) => Err(refusal),
        };
        self.unless_answered_before(outcome, options).await
    }
}
