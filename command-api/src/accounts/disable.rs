//! POST /api/v1/accounts/{id}/disable

use axum::extract::State;
use chrono::{DateTime, Utc};
use utoipa::ToSchema;
use weft_domain::account::AccountCommand;
use weft_platform::http::{Fields, Permission, Problem};

use super::answer::AccountAnswer;
use crate::body::{Body, RequestBody};
use crate::call::{AccountPath, CommandCall};
use crate::reply::Reply;
use crate::state::CommandState;

#[derive(Debug, ToSchema)]
#[schema(example = json!({"reason": "离职交接"}))]
pub(crate) struct DisableAccount {
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
}

impl RequestBody for DisableAccount {
    fn read(fields: &mut Fields, _: DateTime<Utc>) -> Option<Self> {
        let reason = fields.required("reason", |node| node.line(1..=500));
        Some(Self { reason: reason? })
    }
}

/// Stops everything the account does until it is enabled; its messages wait.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{id}/disable",
    tag = "accounts",
    operation_id = "disable_account",
    params(("id" = Uuid, Path, description = "The account")),
    request_body = DisableAccount,
    responses(
        (status = 202, description = "Accepted", body = AccountAnswer),
        (status = 404, description = "account.not_found"),
        (status = 409, description = "idempotency.in_progress"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "command.account.disable", skip_all, fields(account.id = %id))]
pub(crate) async fn handler(
    State(app): State<CommandState>,
    call: CommandCall,
    AccountPath(id): AccountPath,
    Body { request, bytes }: Body<DisableAccount>,
) -> Result<Reply, Problem> {
    call.require(Permission::AccountOperate)?;
    let command = AccountCommand::Disable {
        reason: request.reason,
        now: app.clock.now(),
    };
    app.answer_own_account(&call, id, command, &call.post_options(&app, &bytes))
        .await
}
