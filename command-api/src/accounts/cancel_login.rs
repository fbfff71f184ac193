//! POST /api/v1/accounts/{id}/login/cancel

use axum::extract::State;
use weft_domain::account::AccountCommand;
use weft_platform::http::{Permission, Problem};

use super::answer::AccountAnswer;
use crate::body::{Body, NoFields};
use crate::call::{AccountPath, CommandCall};
use crate::reply::Reply;
use crate::state::CommandState;

/// Ends the login that is running.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{id}/login/cancel",
    tag = "accounts",
    operation_id = "cancel_account_login",
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 202, description = "Accepted", body = AccountAnswer),
        (status = 404, description = "account.not_found"),
        (status = 409, description = "account.wrong_status when none is running, idempotency.in_progress"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "command.account.cancel_login", skip_all, fields(account.id = %id))]
pub(crate) async fn handler(
    State(app): State<CommandState>,
    call: CommandCall,
    AccountPath(id): AccountPath,
    Body { bytes, .. }: Body<NoFields>,
) -> Result<Reply, Problem> {
    call.require(Permission::AccountOperate)?;
    let command = AccountCommand::CancelLogin { now: app.clock.now() };
    app.answer_own_account(&call, id, command, &call.post_options(&app, &bytes))
        .await
}
