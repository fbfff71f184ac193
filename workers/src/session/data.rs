//! What a session job remembers between two looks at its account.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_domain::LoginAttemptId;
use weft_domain::account::{Account, AccountStatus};

/// All of it may be forgotten: steps are then taken again, none of which does harm twice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SessionData {
    /// The instance that the notify url was set at.
    pub(super) guid: Option<String>,
    /// The deleted account's instance and personal key are gone.
    pub(super) removed: bool,
    /// The status it was seen in last, and since when.
    pub(super) status: Option<AccountStatus>,
    pub(super) since: Option<DateTime<Utc>>,
    /// The login attempt that is worked on: whose request is known.
    pub(super) attempt: Option<LoginAttemptId>,
    /// One that was seen before the feed told whose request it is.
    pub(super) awaits: Option<LoginAttemptId>,
    /// The attempt whose notify url is set.
    pub(super) notified: Option<LoginAttemptId>,
    /// The attempt whose session was looked for before a code was asked for.
    pub(super) looked_for_session: Option<LoginAttemptId>,
    /// The submitted code that was passed on: its nonce, which is public.
    pub(super) passed_on: Option<String>,
    /// The login after which conversations were listed.
    pub(super) listed: Option<LoginAttemptId>,
    /// The login that was ended at the gateway.
    pub(super) logged_out: Option<LoginAttemptId>,
    /// Times the profile could not be had.
    pub(super) profile_failures: u32,
}

impl SessionData {
    pub(super) fn read(value: &Value) -> Self {
        serde_json::from_value(value.clone()).unwrap_or_default()
    }

    pub(super) fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Notices what the account has become.
    pub(super) fn follow(&mut self, account: &Account, now: DateTime<Utc>) {
        if account.guid.is_some() && self.guid != account.guid {
            self.guid.clone_from(&account.guid);
            self.notified = None;
        }
        // A wrong verification code gives the person the whole time again.
        let typed_again = account
            .login
            .as_ref()
            .is_some_and(|login| login.submitted_code.is_some());
        if self.status != account.status || (typed_again && self.passed_on.is_none()) {
            self.status = account.status;
            self.since = Some(now);
        }
    }
}
