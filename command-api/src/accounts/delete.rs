//! DELETE /api/v1/accounts/{id}

use axum::extract::State;
use weft_domain::account::AccountCommand;
use weft_platform::http::{Permission, Problem};

use super::answer::AccountAnswer;
use crate::body::{Body, NoFields};
use crate::call::{AccountPath, CommandCall};
use crate::reply::Reply;
use crate::state::CommandState;

/// Deletes an account that is not logged in; its name may be used again, its messages that wait are cancelled.
#[utoipa::path(
    delete,
    path = "/api/v1/accounts/{id}",
    tag = "accounts",
    operation_id = "delete_account",
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 202, description = "Accepted", body = AccountAnswer),
        (status = 404, description = "account.not_found"),
        (status = 409, description = "account.wrong_status"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "command.account.delete", skip_all, fields(account.id = %id))]
pub(crate) async fn handler(
    State(app): State<CommandState>,
    call: CommandCall,
    AccountPath(id): AccountPath,
    _: Body<NoFields>,
) -> Result<Reply, Problem> {
    call.require(Permission::AccountManage)?;
    let command = AccountCommand::Delete { now: app.clock.now() };
    app.answer_own_account(&call, id, command, &call.options(&app)).await
}
