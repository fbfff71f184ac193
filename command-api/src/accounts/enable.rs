//! POST /api/v1/accounts/{id}/enable

use axum::extract::State;
use weft_domain::account::AccountCommand;
use weft_platform::http::{Permission, Problem};

use super::answer::AccountAnswer;
use crate::body::{Body, NoFields};
use crate::call::{AccountPath, CommandCall};
use crate::reply::Reply;
use crate::state::CommandState;

/// Lets a disabled account work again; it is offline then.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{id}/enable",
    tag = "accounts",
    operation_id = "enable_account",
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 202, description = "Accepted", body = AccountAnswer),
        (status = 404, description = "account.not_found"),
        (status = 409, description = "idempotency.in_progress"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "command.account.enable", skip_all, fields(account.id = %id))]
pub(crate) async fn handler(
    State(app): State<CommandState>,
    call: CommandCall,
    AccountPath(id): AccountPath,
    Body { bytes, .. }: Body<NoFields>,
) -> Result<Reply, Problem> {
    call.require(Permission::AccountOperate)?;
    let command = AccountCommand::Enable { now: app.clock.now() };
    app.answer_own_account(&call, id, command, &call.post_options(&app, &bytes))
        .await
}
