//! POST /api/v1/messages/send

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use weft_domain::account::{Account, AccountStatus};
use weft_domain::message::MessageCommand;
use weft_domain::{AccountId, MessageId};
use weft_log_writer::CallOptions;
use weft_platform::http::{Fields, Node, Permission, Problem};

use super::answer::MessageAnswer;
use super::new_message::NewMessage;
use crate::body::{Body, RequestBody};
use crate::call::CommandCall;
use crate::refusal::{closed_account, problem_of, seal_problem};
use crate::reply::Reply;
use crate::state::CommandState;

#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "account_id": "0193f1a2-7b3c-7d4e-8f50-6172839405a6",
    "conversation_id": "S:1688850000000001",
    "message_type": "text",
    "content": {"text": "您好，您的订单已发货。"},
    "client_reference": "order-20260131-0007",
}))]
pub(crate) struct SendMessage {
    account_id: Uuid,
    #[serde(flatten)]
    message: NewMessage,
}

impl RequestBody for SendMessage {
    fn read(fields: &mut Fields, now: DateTime<Utc>) -> Option<Self> {
        let account_id = fields.required("account_id", Node::uuid);
        let message = NewMessage::read(fields, now);
        Some(Self {
            account_id: account_id?,
            message: message?,
        })
    }
}

impl CommandState {
    /// Refuses what could not be sent before it costs more: the account must be the caller's and take messages; what is not
    /// online waits. An account that is remembered so is not looked at again: the append does.
    pub(super) async fn sending_account(&self, call: &CommandCall, id: AccountId) -> Result<(), Problem> {
        let remembered = self.executor(call.tenant_id()).recall::<Account>(&id.to_string()).await;
        let remembered = &remembered.map_err(problem_of)?.state;
        let takes_messages = remembered.status.is_some_and(AccountStatus::takes_messages);
        if takes_messages && remembered.tenant_id == Some(call.tenant_id()) {
            return Ok(());
        }
        let account = self.own_account(&call.context, id).await?.state;
        match account.status.filter(|status| !status.takes_messages()) {
            Some(status) => Err(closed_account(status)),
            None => Ok(()),
        }
    }
}

/// Accepts one message; it is sent when its account can and its time has come.
#[utoipa::path(
    post,
    path = "/api/v1/messages/send",
    tag = "messages",
    operation_id = "send_message",
    request_body = SendMessage,
    responses(
        (status = 202, description = "Accepted", body = MessageAnswer),
        (status = 404, description = "account.not_found"),
        (status = 409, description = "account.wrong_status (disabled), idempotency.in_progress"),
        (status = 429, description = "quota.exceeded"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "command.message.send", skip_all, fields(message.id, account.id = %request.account_id))]
pub(crate) async fn handler(
    State(app): State<CommandState>,
    call: CommandCall,
    Body { request, bytes }: Body<SendMessage>,
) -> Result<Reply, Problem> {
    call.require(Permission::MessageSend)?;
    let options = call.create_options(&app, &bytes);
    let outcome = accept(&app, &call, request, &options).await;
    app.unless_answered_before(outcome, &options).await
}

async fn accept(
    app: &CommandState,
    call: &CommandCall,
    request: SendMessage,
    options: &CallOptions,
) -> Result<Reply, Problem> {
    let account_id = AccountId(request.account_id);
    app.sending_account(call, account_id).await?;
    let id = MessageId(app.clock.new_id());
    tracing::Span::current().record("message.id", tracing::field::display(id));
    let (tenant_id, now) = (call.tenant_id(), app.clock.now());
    let to_seal = request.message.to_seal(tenant_id, account_id, now);
    let content = app
        .sealer()
        .seal_content(to_seal.tenant_id, to_seal.conversation, to_seal.at, to_seal.value)
        .await
        .map_err(seal_problem)?;
    let accept = request.message.accept(tenant_id, account_id, content, None, now);
    app.answer_message(id, MessageCommand::Accept(Box::new(accept)), options)
        .await
}
