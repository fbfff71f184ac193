//! An account's state, folded from its events.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::command::AccountCommand;
use super::config::AccountConfig;
use super::error::AccountError;
use super::event::{AccountEvent, UserInfo};
use super::status::{AccountStatus, GatewayKind};
use crate::aggregate::cqrs_aggregate;
use crate::{Claim, ClaimChange, LogAggregate, LoginAttemptId, Quota, QuotaChange, Sealed, TenantId};

/// A login code that is or was shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QrCode {
    pub content: Sealed<String>,
    pub refresh: u8,
    pub expires_at: DateTime<Utc>,
}

/// The newest login attempt, running or over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Login {
    pub attempt: LoginAttemptId,
    pub restore_first: bool,
    pub started_at: DateTime<Utc>,
    pub qr_code: Option<QrCode>,
    pub verification_failures: u8,
    /// A submitted code that has not been judged yet.
    pub submitted_code: Option<Sealed<String>>,
    /// The attempt has told who logged in.
    pub has_profile: bool,
}

/// Folded state of one account. `status` is `None` before the first event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub status: Option<AccountStatus>,
    pub tenant_id: Option<TenantId>,
    pub account_name: String,
    pub phone: Option<Sealed<String>>,
    pub email: Option<Sealed<String>>,
    pub user_id: Option<String>,
    pub gateway: GatewayKind,
    pub config: AccountConfig,
    /// The instance that runs for it; kept after the account is deleted, until the instance is removed.
    pub guid: Option<String>,
    pub login: Option<Login>,
    /// WeCom may still know the session, so that a login first tries to restore it without a code.
    pub may_resume: bool,
    /// Logins started without success since the last one that succeeded.
    pub login_retry_count: u32,
    pub user_info: Option<Sealed<UserInfo>>,
    /// Why the status is what it is, where that needs saying.
    pub reason: Option<String>,
    pub error_message: Option<String>,
    pub online_since: Option<DateTime<Utc>>,
    pub last_login_time: Option<DateTime<Utc>>,
    pub restricted_until: Option<DateTime<Utc>>,
    /// Cool-downs in a row; 0 when not restricted.
    pub cooldown: u32,
    /// The error status a recovery started from.
    pub recovering_from: Option<AccountStatus>,
    pub recovery_attempt: u32,
    pub created_at: Option<DateTime<Utc>>,
    pub updated_at: Option<DateTime<Utc>>,
}

impl Account {
    /// The code to show now: one that is waited for and has not expired.
    pub fn valid_qr_code(&self, now: DateTime<Utc>) -> Option<&QrCode> {
        let code = self.login.as_ref()?.qr_code.as_ref()?;
        (self.status == Some(AccountStatus::WaitingForQrcodeScan) && now < code.expires_at).then_some(code)
    }

    /// The login attempt that is running, if one is.
    pub fn running_attempt(&self) -> Option<LoginAttemptId> {
        let running = self.status.is_some_and(AccountStatus::is_login_running);
        self.login.as_ref().filter(|_| running).map(|login| login.attempt)
    }

    pub(crate) fn fold(&mut self, event: AccountEvent) {
        let at = event.at();
        let after = event.status_after(self.status);
        if event.replaces_reason(self.status, self.reason.as_deref()) {
            self.reason = event.reason().map(str::to_owned);
            self.error_message = event.error_message().map(str::to_owned);
        }
        match after {
            Some(AccountStatus::Online) if self.status != Some(AccountStatus::RateLimited) => {
                self.online_since = Some(at);
            }
            // A restricted session still lives.
            None | Some(AccountStatus::Online | AccountStatus::RateLimited) => {}
            Some(_) => self.online_since = None,
        }
        if after == Some(AccountStatus::Online) {
            self.may_resume = true;
            self.recovery_attempt = 0;
        }
        if after.is_some() {
            self.status = after;
        }
        self.updated_at = Some(at);
        match event {
            AccountEvent::AccountCreated {
                tenant_id,
                account_name,
                phone,
                email,
                user_id,
                gateway,
                config,
                at,
            } => {
                self.tenant_id = Some(tenant_id);
                self.account_name = account_name;
                self.phone = phone;
                self.email = email;
                self.user_id = user_id;
                self.gateway = gateway;
                self.config = config;
                self.created_at = Some(at);
            }
            AccountEvent::AccountUpdated {
                account_name,
                phone,
                email,
                user_id,
                config,
                ..
            } => {
                if let Some(account_name) = account_name {
                    self.account_name = account_name;
                }
                phone.apply_to(&mut self.phone);
                email.apply_to(&mut self.email);
                user_id.apply_to(&mut self.user_id);
                if let Some(config) = config {
                    self.config = config;
                }
            }
            AccountEvent::InstanceCreated { guid, .. } => {
                self.guid = Some(guid);
                // A new instance knows nothing of an older one's session.
                self.may_resume = false;
            }
            AccountEvent::InstanceRemoved { .. } => {
                self.guid = None;
                self.may_resume = false;
            }
            AccountEvent::LoginStarted {
                attempt,
                restore_first,
                at,
            } => {
                self.login_retry_count += 1;
                self.login = Some(Login {
                    attempt,
                    restore_first,
                    started_at: at,
                    qr_code: None,
                    verification_failures: 0,
                    submitted_code: None,
                    has_profile: false,
                });
            }
            AccountEvent::QrCodeIssued {
                refresh,
                content,
                expires_at,
                ..
            } => {
                // Whoever asks for a code gives the old session up.
                self.may_resume = false;
                self.with_login(|login| {
                    login.qr_code = Some(QrCode {
                        content,
                        refresh,
                        expires_at,
                    });
                });
            }
            AccountEvent::VerificationCodeSubmitted { code, .. } => {
                self.with_login(|login| login.submitted_code = Some(code));
            }
            AccountEvent::VerificationFailed { failures, .. } => self.with_login(|login| {
                login.verification_failures = failures;
                login.submitted_code = None;
            }),
            AccountEvent::LoginConfirmed { at, .. } => {
                self.last_login_time = Some(at);
                self.login_retry_count = 0;
                self.with_login(|login| login.submitted_code = None);
            }
            AccountEvent::SessionRestored { .. } => self.login_retry_count = 0,
            AccountEvent::ProfileUpdated { user_info, .. } => {
                self.user_info = Some(user_info);
                self.with_login(|login| login.has_profile = true);
            }
            AccountEvent::AccountRestricted { until, cooldown, .. } => {
                self.restricted_until = Some(until);
                self.cooldown = cooldown;
            }
            AccountEvent::RestrictionLifted { .. } => {
                self.restricted_until = None;
                self.cooldown = 0;
            }
            AccountEvent::RecoveryStarted { attempt, .. } => self.recovery_attempt = attempt,
            AccountEvent::SignedOutRemotely { .. }
            | AccountEvent::LoggedOut { .. }
            | AccountEvent::AccountDeleted { .. } => self.may_resume = false,
            AccountEvent::InstanceFailed { .. }
            | AccountEvent::QrCodeScanned { .. }
            | AccountEvent::QrCodeExpired { .. }
            | AccountEvent::LoginRejected { .. }
            | AccountEvent::VerificationRequired { .. }
            | AccountEvent::LoginFailed { .. }
            | AccountEvent::LoginTimedOut { .. }
            | AccountEvent::LoginCancelled { .. }
            | AccountEvent::SessionLost { .. }
            | AccountEvent::WentOffline { .. }
            | AccountEvent::Recovered { .. }
            | AccountEvent::RecoveryFailed { .. }
            | AccountEvent::AccountDisabled { .. }
            | AccountEvent::AccountEnabled { .. } => {}
        }
        if let Some(status) = self.status.filter(|status| status.is_error()) {
            self.recovering_from = Some(status);
        }
        if !matches!(self.status, Some(AccountStatus::RateLimited)) {
            self.restricted_until = None;
            self.cooldown = 0;
        }
    }

    fn with_login(&mut self, change: impl FnOnce(&mut Login)) {
        if let Some(login) = &mut self.login {
            change(login);
        }
    }
}

cqrs_aggregate!(Account, "account", AccountCommand, AccountEvent, AccountError);

impl LogAggregate for Account {
    fn decide(&self, command: AccountCommand) -> Result<Vec<AccountEvent>, AccountError> {
        super::decide::decide(self, command)
    }

    fn partition_key(aggregate_id: &str, _: &AccountEvent) -> String {
        aggregate_id.to_owned()
    }

    fn claims(&self, events: &[AccountEvent]) -> Vec<ClaimChange> {
        let mut changes = Vec::new();
        for event in events {
            match event {
                AccountEvent::AccountCreated {
                    tenant_id,
                    account_name,
                    ..
                } => {
                    changes.push(ClaimChange::Take(Claim::account_name(*tenant_id, account_name)));
                }
                AccountEvent::AccountUpdated {
                    account_name: Some(name),
                    ..
                } => {
                    if let Some(tenant) = self.tenant_id {
                        changes.push(ClaimChange::Take(Claim::account_name(tenant, name)));
                        changes.push(ClaimChange::Release(Claim::account_name(tenant, &self.account_name)));
                    }
                }
                AccountEvent::InstanceCreated { guid, .. } => {
                    changes.push(ClaimChange::Take(Claim::instance_guid(guid)));
                    changes.extend(
                        self.guid
                            .as_deref()
                            .map(|old| ClaimChange::Release(Claim::instance_guid(old))),
                    );
                }
                // A deleted account released it already.
                AccountEvent::InstanceRemoved { guid, .. } if self.status != Some(AccountStatus::Deleted) => {
                    changes.push(ClaimChange::Release(Claim::instance_guid(guid)));
                }
                AccountEvent::AccountDeleted { .. } => {
                    if let Some(tenant) = self.tenant_id {
                        changes.push(ClaimChange::Release(Claim::account_name(tenant, &self.account_name)));
                    }
                    changes.extend(
                        self.guid
                            .as_deref()
                            .map(|guid| ClaimChange::Release(Claim::instance_guid(guid))),
                    );
                }
                _ => {}
            }
        }
        changes
    }
    fn quotas(&self, events: &[AccountEvent]) -> Vec<QuotaChange> {
        let count = |tenant, by| QuotaChange {
            quota: Quota::TenantAccounts(tenant),
            on: None,
            by,
        };
        events
            .iter()
            .filter_map(|event| match event {
                AccountEvent::AccountCreated { tenant_id, .. } => Some(count(*tenant_id, 1)),
                AccountEvent::AccountDeleted { .. } => Some(count(self.tenant_id?, -1)),
                _ => None,
            })
            .collect()
    }

    fn begins_stream(command: &AccountCommand) -> bool {
        matches!(command, AccountCommand::Create { .. })
    }
}
