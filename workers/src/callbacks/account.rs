//! Callbacks about an account's login and session.

use weft_domain::account::{Account, AccountCommand, AccountError, AccountStatus, SessionLossCause};
use weft_domain::{AccountId, LoginAttemptId, TenantId};
use weft_log_writer::seal::account_subject;
use weft_wecom::callbacks::{CallbackEvent, ErrorReport, QrStatus};

use super::rows::Outcome;
use super::{ACTOR, Understood};
use crate::context::{Cause, Context};
use crate::error::{Refusal, WorkerError};
use crate::session::user_info;

/// One account's callbacks, in ingress order. One that has to be tried again holds back those behind it.
pub(super) async fn interpret(ctx: &Context, callbacks: Vec<Understood>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(callbacks.len());
    for understood in callbacks {
        match carry_out(ctx, &understood).await {
            Ok(None) => outcomes.push(Outcome::processed(&understood.row, &understood.callback)),
            Ok(Some(reason)) => {
                let Understood { row, callback } = understood;
                outcomes.push(Outcome::ignored(row, Some(&callback), reason));
            }
            Err(error) if error.is_lasting() => outcomes.push(understood.failed(&error)),
            Err(error) => {
                tracing::warn!(callback.id = %understood.row.id, %error, "a callback is tried again");
                outcomes.push(Outcome::again(&understood.row, &understood.callback, &error));
                break;
            }
        }
    }
    outcomes
}

/// `Some`: why it changed nothing.
async fn carry_out(ctx: &Context, understood: &Understood) -> Result<Option<String>, WorkerError> {
    let now = ctx.clock.now();
    let attempt = LoginAttemptId(understood.row.attempt_id);
    let said = |report: &ErrorReport| Some(report.error_message.clone()).filter(|text| !text.is_empty());
    match &understood.callback.event {
        CallbackEvent::QrStatus(report) => match report.status {
            // Nothing has happened yet, or the login callback says what has.
            QrStatus::None | QrStatus::Succeeded | QrStatus::Authorised => Ok(None),
            QrStatus::Scanned => execute(ctx, understood, AccountCommand::RecordScan { attempt, now }).await,
            QrStatus::Failed => {
                let command = AccountCommand::FailLogin {
                    attempt,
                    reason: "login_failed".to_owned(),
                    error_message: None,
                    now,
                };
                execute(ctx, understood, command).await
            }
            QrStatus::Refused => reject(ctx, understood, attempt).await,
            QrStatus::NeedsCode => execute(ctx, understood, AccountCommand::RequireVerification { attempt, now }).await,
            QrStatus::Other(number) => Ok(Some(format!("unknown_qr_status: {number}"))),
        },
        CallbackEvent::SafeVerify => {
            execute(ctx, understood, AccountCommand::RequireVerification { attempt, now }).await
        }
        CallbackEvent::Login(profile) => {
            let refused = execute(ctx, understood, AccountCommand::ConfirmLogin { attempt, now }).await?;
            let account = AccountId(understood.row.account_id);
            let user_info = ctx
                .executor
                .sealer()
                .seal(&account_subject(account), &user_info(profile.clone()))
                .await?;
            let told = execute(ctx, understood, AccountCommand::RecordProfile { user_info, now }).await?;
            Ok(refused.or(told))
        }
        CallbackEvent::LoginFailed(report) => {
            let command = AccountCommand::FailLogin {
                attempt,
                reason: "login_failed".to_owned(),
                error_message: said(report),
                now,
            };
            execute(ctx, understood, command).await
        }
        CallbackEvent::Logout(report) => sign_out(ctx, understood, "signed_out", said(report)).await,
        CallbackEvent::OtherDevice(report) => sign_out(ctx, understood, "other_device", said(report)).await,
        CallbackEvent::HeartbeatError(report) => lose(ctx, understood, SessionLossCause::Network, said(report)).await,
        CallbackEvent::SessionTimeout(report) => lose(ctx, understood, SessionLossCause::Auth, said(report)).await,
        CallbackEvent::InstanceReady
        | CallbackEvent::InitFinished
        | CallbackEvent::ContactsSynced
        | CallbackEvent::Message(_)
        | CallbackEvent::MessageSync(_)
        | CallbackEvent::Unknown => Ok(None),
    }
}

/// Whoever refuses has scanned: a lost scan callback is made up for.
async fn reject(
    ctx: &Context,
    understood: &Understood,
    attempt: LoginAttemptId,
) -> Result<Option<String>, WorkerError> {
    let now = ctx.clock.now();
    let id = understood.row.account_id.to_string();
    let account = weft_log_reader::load::<Account>(&ctx.pool, &id).await?.state;
    if account.status == Some(AccountStatus::WaitingForQrcodeScan) {
        execute(ctx, understood, AccountCommand::RecordScan { attempt, now }).await?;
    }
    if account.status == Some(AccountStatus::WaitingForVerification) {
        let command = AccountCommand::FailLogin {
            attempt,
            reason: "login_rejected".to_owned(),
            error_message: None,
            now,
        };
        return execute(ctx, understood, command).await;
    }
    execute(ctx, understood, AccountCommand::RejectLogin { attempt, now }).await
}

async fn sign_out(
    ctx: &Context,
    understood: &Understood,
    reason: &str,
    error_message: Option<String>,
) -> Result<Option<String>, WorkerError> {
    let now = ctx.clock.now();
    let command = AccountCommand::RecordRemoteSignOut {
        reason: reason.to_owned(),
        error_message,
        now,
    };
    execute(ctx, understood, command).await
}

async fn lose(
    ctx: &Context,
    understood: &Understood,
    cause: SessionLossCause,
    error_message: Option<String>,
) -> Result<Option<String>, WorkerError> {
    let now = ctx.clock.now();
    execute(
        ctx,
        understood,
        AccountCommand::LoseSession {
            cause,
            error_message,
            now,
        },
    )
    .await
}

/// `Some`: the account refused it, and why.
async fn execute(
    ctx: &Context,
    understood: &Understood,
    command: AccountCommand,
) -> Result<Option<String>, WorkerError> {
    let row = &understood.row;
    let options = ctx.options(ACTOR, TenantId(row.tenant_id), &Cause::callback(row.id));
    match ctx
        .execute::<Account>(&row.account_id.to_string(), command, &options)
        .await?
    {
        Ok(_) => Ok(None),
        Err(Refusal::Domain(AccountError::LoginAttemptOver)) => Ok(Some("attempt_over".to_owned())),
        Err(refusal) => Ok(Some(format!("refused: {refusal}"))),
    }
}
