//! A login attempt, step by step. Callbacks may have brought the account further before a step does: every step is a
//! command with the attempt, and what has become true meanwhile emits nothing.

use std::time::Duration;

use chrono::TimeDelta;
use url::Url;
use weft_domain::account::{AccountCommand, AccountError, AccountStatus, MAX_QR_CODE_REFRESHES};
use weft_domain::{LoginAttemptId, Sealed};
use weft_log_writer::seal::account_subject;
use weft_platform::callback_token::CallbackAddress;
use weft_platform::keys::Opened;
use weft_wecom::callbacks::QrStatus;
use weft_wecom::gateway::{CallError, ClientStatus, RejectClass, RestoreClient};

use super::plan::{LoginAct, LoginStep};
use super::{After, JobKind, Session};
use crate::error::{Refusal, WorkerError};

/// How often, and how many times, a session that is being restored is asked for.
const RESTORE_LOOK: Duration = Duration::from_millis(300);
const RESTORE_LOOKS: usize = 8;

impl Session<'_> {
    /// `None`: go on with the next step.
    pub(super) async fn login_step(&mut self, step: LoginStep) -> Result<Option<After>, WorkerError> {
        let LoginStep { attempt, guid, act } = step;
        match act {
            LoginAct::SetNotifyUrl => self.set_notify_url(attempt, &guid).await,
            LoginAct::LookForSession { restore } => self.look_for_session(attempt, &guid, restore).await,
            LoginAct::FetchCode => self.fetch_code(attempt, &guid).await,
            LoginAct::Poll { expired } => self.poll(attempt, &guid, expired).await,
            LoginAct::PassCodeOn(code) => self.pass_code_on(attempt, &guid, &code).await,
            LoginAct::GiveUp => {
                let message = self.account.error_message.clone();
                self.fail(attempt, "instance_unavailable", message).await
            }
            LoginAct::Unsupported => {
                let message = "accounts of the official gateway are not logged in by a code".to_owned();
                self.fail(attempt, "gateway_unsupported", Some(message)).await
            }
            LoginAct::TimeOut => {
                self.execute(AccountCommand::TimeOutLogin {
                    attempt,
                    now: self.ctx.clock.now(),
                })
                .await?;
                Ok(None)
            }
        }
    }

    /// Each attempt has an address of its own, so that late callbacks of an earlier one can be told apart.
    async fn set_notify_url(&mut self, attempt: LoginAttemptId, guid: &str) -> Result<Option<After>, WorkerError> {
        let address = CallbackAddress {
            account_id: self.account_id.0,
            attempt_id: attempt.0,
        };
        let url = callback_url(
            &self.ctx.config.http.public_url,
            &address.path(self.ctx.executor.keys()),
        );
        if let Err(error) = self.ctx.gateway.set_notify_url(guid, &url).await {
            return self.call_failed(attempt, error).await;
        }
        self.data.notified = Some(attempt);
        self.failed_not();
        Ok(None)
    }

    /// An account that lost its session is restored without a code, where that works. One that has its session still
    /// (a lost callback, a cancelled login that was confirmed after all) needs no code either.
    async fn look_for_session(
        &mut self,
        attempt: LoginAttemptId,
        guid: &str,
        restore: bool,
    ) -> Result<Option<After>, WorkerError> {
        let mut status = match self.ctx.gateway.get_client_status(guid).await {
            Ok(status) => status,
            Err(error) => return self.call_failed(attempt, error).await,
        };
        if status == ClientStatus::Stopped || (restore && status != ClientStatus::Online) {
            match self.ctx.gateway.restore_client(guid, &RestoreClient::default()).await {
                Ok(()) => {}
                // There is nothing to restore: a code, then.
                Err(CallError::Rejected {
                    class: RejectClass::Permanent | RejectClass::SessionInvalid,
                    ..
                }) => {}
                Err(error) => return self.call_failed(attempt, error).await,
            }
            let looks = if restore { RESTORE_LOOKS } else { 1 };
            for look in 0..looks {
                if look > 0 && !self.ctx.pause(RESTORE_LOOK).await {
                    return Ok(Some(After::Wait(Duration::ZERO)));
                }
                if let Ok(now) = self.ctx.gateway.get_client_status(guid).await {
                    status = now;
                }
                if status == ClientStatus::Online {
                    break;
                }
                // Running and nobody logged in: a moment more for the session, then a code.
                if status == ClientStatus::NotLoggedIn && look >= 2 {
                    break;
                }
            }
        }
        self.data.looked_for_session = Some(attempt);
        self.failed_not();
        if status == ClientStatus::Online {
            self.execute(AccountCommand::RestoreSession {
                now: self.ctx.clock.now(),
            })
            .await?;
        }
        Ok(None)
    }

    async fn fetch_code(&mut self, attempt: LoginAttemptId, guid: &str) -> Result<Option<After>, WorkerError> {
        let asked_at = self.ctx.clock.now();
        let code = match self.ctx.gateway.get_login_qrcode(guid).await {
            Ok(code) => code,
            Err(error) => {
                if self.ctx.gateway.get_client_status(guid).await == Ok(ClientStatus::Online) {
                    // Refused because it is logged in already.
                    self.data.looked_for_session = None;
                    return Ok(None);
                }
                return self.call_failed(attempt, error).await;
            }
        };
        let content = self
            .ctx
            .executor
            .sealer()
            .seal(&account_subject(self.account_id), &code.content)
            .await
            .map_err(|error| WorkerError::Protocol(error.to_string()))?;
        // Counted from before the call: never shown as valid longer than it is.
        let expires_at = asked_at + TimeDelta::seconds(self.ctx.config.login.qrcode_seconds as i64);
        let now = self.ctx.clock.now();
        let refused = self
            .execute(AccountCommand::IssueQrCode {
                attempt,
                content,
                expires_at,
                now,
            })
            .await?;
        if let Some(Refusal::Domain(AccountError::TooManyQrCodes { .. })) = refused {
            self.execute(AccountCommand::ExpireQrCode { attempt, now }).await?;
            return Ok(None);
        }
        Ok(Some(self.next_poll()))
    }

    /// Asks how far the scan has come: callbacks may be lost.
    async fn poll(&mut self, attempt: LoginAttemptId, guid: &str, expired: bool) -> Result<Option<After>, WorkerError> {
        let waiting_for_scan = self.account.status == Some(AccountStatus::WaitingForQrcodeScan);
        let check = match self.ctx.gateway.check_login_qrcode(guid).await {
            Ok(check) => Some(check),
            Err(
                error @ CallError::Rejected {
                    class: RejectClass::InstanceGone,
                    ..
                },
            ) => {
                return self.call_failed(attempt, error).await;
            }
            // Some instances refuse the question once the code is used up.
            Err(error) => {
                tracing::debug!(account.id = %self.account_id, %error, "the login code was not checked");
                None
            }
        };
        let now = self.ctx.clock.now();
        let status = check.as_ref().map_or(QrStatus::None, |check| check.status);
        match status {
            QrStatus::Scanned if waiting_for_scan => {
                self.execute(AccountCommand::RecordScan { attempt, now }).await?;
                return Ok(None);
            }
            QrStatus::NeedsCode if self.account.status != Some(AccountStatus::WaitingForVerification) => {
                self.execute(AccountCommand::RequireVerification { attempt, now })
                    .await?;
                return Ok(None);
            }
            QrStatus::Refused => {
                if waiting_for_scan {
                    self.execute(AccountCommand::RecordScan { attempt, now }).await?;
                }
                if self.account.status == Some(AccountStatus::WaitingForConfirmation) {
                    self.execute(AccountCommand::RejectLogin { attempt, now }).await?;
                    return Ok(None);
                }
                return self.fail(attempt, "login_rejected", None).await;
            }
            QrStatus::Failed => return self.fail(attempt, "login_failed", None).await,
            QrStatus::None
            | QrStatus::Scanned
            | QrStatus::Succeeded
            | QrStatus::Authorised
            | QrStatus::NeedsCode
            | QrStatus::Other(_) => {}
        }
        // `Succeeded` is of this attempt's code only; whether somebody is logged in is asked for itself.
        if self.ctx.gateway.get_client_status(guid).await == Ok(ClientStatus::Online) {
            self.execute(AccountCommand::ConfirmLogin { attempt, now }).await?;
            return Ok(None);
        }
        if waiting_for_scan && (expired || check.is_some_and(|check| check.expired)) {
            return self.refresh_code(attempt, guid).await;
        }
        Ok(Some(self.next_poll()))
    }

    async fn refresh_code(&mut self, attempt: LoginAttemptId, guid: &str) -> Result<Option<After>, WorkerError> {
        let shown = self.account.login.as_ref().and_then(|login| login.qr_code.as_ref());
        if shown.is_some_and(|code| code.refresh >= MAX_QR_CODE_REFRESHES) {
            self.execute(AccountCommand::ExpireQrCode {
                attempt,
                now: self.ctx.clock.now(),
            })
            .await?;
            return Ok(None);
        }
        self.fetch_code(attempt, guid).await
    }

    async fn pass_code_on(
        &mut self,
        attempt: LoginAttemptId,
        guid: &str,
        code: &Sealed<String>,
    ) -> Result<Option<After>, WorkerError> {
        // After a crash it may have been passed on already, and have been right.
        if self.ctx.gateway.get_client_status(guid).await == Ok(ClientStatus::Online) {
            self.execute(AccountCommand::ConfirmLogin {
                attempt,
                now: self.ctx.clock.now(),
            })
            .await?;
            return Ok(None);
        }
        let opened = self
            .ctx
            .executor
            .sealer()
            .open(code)
            .await
            .map_err(|error| WorkerError::Protocol(error.to_string()))?;
        let Opened::Open(plain) = opened else {
            return self.fail(attempt, "verification_code_unreadable", None).await;
        };
        let verified = self.ctx.gateway.verify_login_qrcode(guid, &plain).await;
        let now = self.ctx.clock.now();
        match verified {
            Ok(()) => {
                self.remember_passed_on(code).await?;
                Ok(None)
            }
            Err(CallError::Rejected {
                class: RejectClass::WrongVerificationCode,
                ..
            }) => {
                self.data.passed_on = None;
                self.execute(AccountCommand::RecordVerificationFailure { attempt, now })
                    .await?;
                Ok(None)
            }
            Err(CallError::Rejected {
                class: RejectClass::QrCodeExpired,
                ..
            }) => {
                self.execute(AccountCommand::TimeOutLogin { attempt, now }).await?;
                Ok(None)
            }
            // It may have arrived: typing it in twice could use up a try. The poll tells.
            Err(CallError::Unknown { .. }) => {
                self.remember_passed_on(code).await?;
                Ok(Some(self.next_poll()))
            }
            Err(error) => self.call_failed(attempt, error).await,
        }
    }

    async fn remember_passed_on(&mut self, code: &Sealed<String>) -> Result<(), WorkerError> {
        self.data.passed_on = Some(code.nonce.clone());
        self.job.data = self.data.to_value();
        JobKind::Session
            .remember(&self.ctx.pool, self.ctx.owner.key(), &self.job)
            .await?;
        Ok(())
    }

    fn next_poll(&self) -> After {
        // Sooner where the code's time is over sooner.
        let now = self.ctx.clock.now();
        let poll = Duration::from_secs(self.ctx.config.login.poll_seconds);
        let expires_at = self
            .account
            .login
            .as_ref()
            .and_then(|login| login.qr_code.as_ref())
            .map(|code| code.expires_at);
        let left = expires_at.and_then(|at| (at - now).to_std().ok());
        After::Wait(left.map_or(poll, |left| left.min(poll)).max(Duration::from_millis(50)))
    }

    /// A call that did not succeed: another instance, another try, or the end of the attempt.
    async fn call_failed(&mut self, attempt: LoginAttemptId, error: CallError) -> Result<Option<After>, WorkerError> {
        if self.forget_instance(&error).await? {
            return Ok(None);
        }
        match &error {
            CallError::Rejected {
                class: RejectClass::InstanceExpired,
                message,
                ..
            } => self.fail(attempt, "instance_expired", Some(message.clone())).await,
            CallError::Rejected { message, .. } => self.fail(attempt, "login_refused", Some(message.clone())).await,
            CallError::NotConnected { .. }
            | CallError::Unknown { .. }
            | CallError::Throttled { .. }
            | CallError::NotReady => Ok(Some(self.failed(&error))),
        }
    }

    async fn fail(
        &mut self,
        attempt: LoginAttemptId,
        reason: &str,
        error_message: Option<String>,
    ) -> Result<Option<After>, WorkerError> {
        let command = AccountCommand::FailLogin {
            attempt,
            reason: reason.to_owned(),
            error_message,
            now: self.ctx.clock.now(),
        };
        self.execute(command).await?;
        Ok(None)
    }
}

/// `path` below the public address, which may have a path of its own.
fn callback_url(public: &Url, path: &str) -> String {
    format!("{}{path}", public.as_str().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callback_address_keeps_the_public_addresss_own_path() {
        let plain = Url::parse("http://127.0.0.1:8080").unwrap();
        assert_eq!(
            callback_url(&plain, "/api/v1/callbacks/instance/t"),
            "http://127.0.0.1:8080/api/v1/callbacks/instance/t"
        );
        let below = Url::parse("https://example.com/weft/").unwrap();
        assert_eq!(callback_url(&below, "/api/x"), "https://example.com/weft/api/x");
    }
}
