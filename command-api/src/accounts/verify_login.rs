//! POST /api/v1/accounts/{id}/login/verify

use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use utoipa::ToSchema;
use uuid::Uuid;
use weft_domain::account::{AccountCommand, AccountError, AccountStatus};
use weft_domain::{AccountId, LoginAttemptId};
use weft_log_writer::CallOptions;
use weft_log_writer::seal::account_subject;
use weft_platform::http::{Fields, Node, Permission, Problem};

use super::answer::AccountAnswer;
use crate::body::{Body, RequestBody};
use crate::call::{AccountPath, CommandCall};
use crate::refusal::{Refusal, seal_problem};
use crate::reply::Reply;
use crate::state::CommandState;

#[derive(Debug, ToSchema)]
#[schema(example = json!({"login_token": "0193f1a2-7b3c-7d4e-8f50-6172839405a6", "code": "123456"}))]
pub(crate) struct VerifyLogin {
    /// As PUT …/login answered it.
    login_token: Uuid,
    /// The digits that WeCom shows.
    #[schema(pattern = "^[0-9]{4,8}$")]
    code: String,
}

impl RequestBody for VerifyLogin {
    fn read(fields: &mut Fields, _: DateTime<Utc>) -> Option<Self> {
        let login_token = fields.required("login_token", Node::uuid);
        let code = fields.required("code", |node| {
            node.format("4 to 8 digits", |text| {
                (4..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
            })
        });
        Some(Self {
            login_token: login_token?,
            code: code?,
        })
    }
}

/// Passes on the verification code that WeCom asked for.
///
/// Whether it was right shows in the account's status: still `waiting_for_verification` with reason
/// `verification_failed` after a wrong one, `error` after the third.
#[utoipa::path(
    post,
    path = "/api/v1/accounts/{id}/login/verify",
    tag = "accounts",
    operation_id = "verify_account_login",
    params(("id" = Uuid, Path, description = "The account")),
    request_body = VerifyLogin,
    responses(
        (status = 202, description = "Accepted", body = AccountAnswer),
        (status = 404, description = "account.not_found"),
        (status = 409, description = "account.login_attempt_over, account.wrong_status, idempotency.in_progress"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "command.account.verify_login", skip_all, fields(account.id = %id))]
pub(crate) async fn handler(
    State(app): State<CommandState>,
    call: CommandCall,
    AccountPath(id): AccountPath,
    Body { request, bytes }: Body<VerifyLogin>,
) -> Result<Reply, Problem> {
    call.require(Permission::AccountOperate)?;
    let options = call.post_options(&app, &bytes);
    let outcome = submit(&app, &call, id, &request, &options).await;
    app.unless_answered_before(outcome, &options).await
}

async fn submit(
    app: &CommandState,
    call: &CommandCall,
    id: AccountId,
    request: &VerifyLogin,
    options: &CallOptions,
) -> Result<Reply, Problem> {
    let account = app.own_account(&call.context, id).await?.state;
    let attempt = LoginAttemptId(request.login_token);
    // The code is sealed only where it can be of use.
    if account.login.as_ref().map(|login| login.attempt) != Some(attempt) {
        return Err(AccountError::LoginAttemptOver.problem());
    }
    if let Some(status) = account
        .status
        .filter(|status| *status != AccountStatus::WaitingForVerification)
    {
        let command = "SubmitVerificationCode";
        return Err(AccountError::WrongStatus { status, command }.problem());
    }
    let code = app
        .sealer()
        .seal(&account_subject(id), &request.code)
        .await
        .map_err(seal_problem)?;
    let command = AccountCommand::SubmitVerificationCode {
        attempt,
        code,
        now: app.clock.now(),
    };
    app.answer_account(id, command, options, StatusCode::ACCEPTED).await
}
