//! PUT /api/v1/accounts/{id}/login

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};
use utoipa::ToSchema;
use uuid::Uuid;
use weft_domain::account::{Account, AccountCommand, AccountStatus};
use weft_domain::{AccountId, LoginAttemptId, Sealed, TenantId};
use weft_log_writer::{Committed, ExecuteError, Loaded, StoredAnswer};
use weft_platform::http::{Permission, Problem};
use weft_platform::keys::Opened;

use crate::body::{Body, NoFields};
use crate::call::{AccountPath, CommandCall};
use crate::refusal::{account_not_found, defect, problem_of, seal_problem};
use crate::reply::Reply;
use crate::state::CommandState;
use crate::timestamp::rfc3339;

/// Between two looks at the account's stream, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// How far the login has come. What has no value yet is null.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoginAnswer, example = json!({
    "status": "waiting_for_qrcode_scan",
    "login_token": "0193f1a2-7b3c-7d4e-8f50-6172839405a6",
    "qrcode_url": "/api/v1/accounts/0193f1a2-1111-7d4e-8f50-6172839405a6/qrcode.png",
    "qrcode_content": "https://work.weixin.qq.com/ca/example",
    "expires_at": "2026-01-31T08:02:00.000Z",
    "reason": null,
}))]
pub(crate) struct LoginAnswer {
    status: &'static str,
    /// Names the login attempt; verification codes go with it.
    login_token: Option<Uuid>,
    /// Absolute path of the code's picture, which needs the same bearer token.
    qrcode_url: Option<String>,
    /// What the code says, to be drawn by the caller.
    qrcode_content: Option<String>,
    expires_at: Option<String>,
    /// Why the status is what it is, where that needs saying.
    reason: Option<String>,
}

/// Starts a login, or joins the one that is running, and waits for its code.
///
/// 200 with the code, or with status `online` once no code is needed (any more). 202 while it is not there yet, while
/// the login waits for something else than a scan, and when it ended meanwhile.
#[utoipa::path(
    put,
    path = "/api/v1/accounts/{id}/login",
    tag = "accounts",
    operation_id = "log_in_account",
    params(("id" = Uuid, Path, description = "The account")),
    responses(
        (status = 200, description = "The code, or online", body = LoginAnswer),
        (status = 202, description = "No code to show", body = LoginAnswer),
        (status = 404, description = "account.not_found"),
        (status = 409, description = "account.wrong_status"),
    ),
    security(("bearer" = []))
)]
#[tracing::instrument(name = "command.account.login", skip_all, fields(account.id = %id))]
pub(crate) async fn handler(
    State(app): State<CommandState>,
    call: CommandCall,
    AccountPath(id): AccountPath,
    _: Body<NoFields>,
) -> Result<Reply, Problem> {
    call.require(Permission::AccountOperate)?;
    app.own_account(&call.context, id).await?;
    let command = AccountCommand::StartLogin {
        attempt: LoginAttemptId(app.clock.new_id()),
        now: app.clock.now(),
    };
    let started = app
        .executor(call.tenant_id())
        .execute::<Account>(&id.to_string(), command, &call.options(&app))
        .await
        .map_err(problem_of)?;
    let account = wait_for_code(&app, call.tenant_id(), started).await?;
    let answer = answer(&app, id, &account).await?;
    let token = app.executor(call.tenant_id()).token(&[account]).await;
    let token = token.map_err(problem_of)?;
    Ok(Reply::new(answer, token))
}

/// The account once it shows a code or none is to be expected, at the latest when the wait is over.
async fn wait_for_code(
    app: &CommandState,
    tenant: TenantId,
    started: Committed<Account>,
) -> Result<Committed<Account>, Problem> {
    let deadline = Instant::now() + Duration::from_secs(app.config.login.wait_for_code_seconds);
    let mut account = started;
    let mut pause = FIRST_PAUSE;
    while expects_code(&account.state, app.clock.now()) && Instant::now() < deadline {
        sleep_until((Instant::now() + pause).min(deadline)).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        match app.executor(tenant).load::<Account>(&account.id).await {
            Ok(loaded) => account = seen(account, loaded),
            // The login runs: a log that is away for a moment must not hide it.
            Err(ExecuteError::Unavailable(reason)) => tracing::warn!(%reason, "cannot look at the login"),
            Err(error) => return Err(problem_of(error)),
        }
    }
    Ok(account)
}

/// A code is being fetched, or refreshed.
fn expects_code(account: &Account, now: DateTime<Utc>) -> bool {
    match account.status {
        Some(AccountStatus::LoggingIn) => true,
        Some(AccountStatus::WaitingForQrcodeScan) => account.valid_qr_code(now).is_none(),
        _ => false,
    }
}

fn seen(before: Committed<Account>, loaded: Loaded<Account>) -> Committed<Account> {
    Committed {
        state: loaded.state,
        version: loaded.version,
        order: loaded.head,
        ..before
    }
}

async fn answer(app: &CommandState, id: AccountId, account: &Committed<Account>) -> Result<StoredAnswer, Problem> {
    let state = &account.state;
    let login_token = state.login.as_ref().map(|login| login.attempt.0);
    let code = state.valid_qr_code(app.clock.now());
    let is_online = matches!(state.status, Some(AccountStatus::Online | AccountStatus::RateLimited));
    let body = LoginAnswer {
        status: state.status.map_or("", AccountStatus::as_str),
        login_token,
        qrcode_url: code.map(|_| format!("/api/v1/accounts/{id}/qrcode.png")),
        qrcode_content: match code {
            Some(code) => Some(open_code(app, &code.content).await?),
            None => None,
        },
        expires_at: code.map(|code| rfc3339(code.expires_at)),
        reason: state.reason.clone(),
    };
    let status = if code.is_some() || is_online {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok(StoredAnswer {
        status: status.as_u16(),
        body: serde_json::json!(body),
        etag: Some(account.version),
    })
}

/// What a code says, for those who may log the account in.
pub(super) async fn open_code(app: &CommandState, content: &Sealed<String>) -> Result<String, Problem> {
    match app.sealer().open(content).await.map_err(seal_problem)? {
        Opened::Open(content) => Ok(content),
        Opened::Erased => Err(account_not_found()),
        Opened::Sealed => Err(defect(&"a login code cannot be opened with this process's keys")),
    }
}
