//! What a tenant sets per account.

use serde::{Deserialize, Serialize};

use crate::FieldChange;

/// An account's settings, complete: defaults are filled in when the account is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AccountConfig {
    /// Least time between two sends, 0–600,000 ms.
    pub send_interval_ms: u32,
    /// Messages a tenant-local day, 0–100,000.
    pub daily_limit: u32,
    pub auto_reconnect: bool,
    pub auto_reply_enabled: bool,
    pub maintenance_mode: bool,
    pub callback_url: Option<String>,
    pub quiet_hours: Vec<QuietHours>,
}

impl Default for AccountConfig {
    fn default() -> Self {
        Self {
            send_interval_ms: 1_000,
            daily_limit: 1_000,
            auto_reconnect: true,
            auto_reply_enabled: false,
            maintenance_mode: false,
            callback_url: None,
            quiet_hours: Vec::new(),
        }
    }
}

/// A daily span without sends; it may pass midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// Local time, `HH:MM`.
    pub start: String,
    /// Local time, `HH:MM`.
    pub end: String,
    /// Days on which it starts, 1 (Monday) to 7; absent: every day.
    #[serde(default)]
    pub days: Option<Vec<u8>>,
    /// IANA name, such as `Asia/Shanghai`.
    pub time_zone: String,
}

/// A change of settings, key by key; `Cleared` resets a key to its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountConfigChange {
    pub send_interval_ms: FieldChange<u32>,
    pub daily_limit: FieldChange<u32>,
    pub auto_reconnect: FieldChange<bool>,
    pub auto_reply_enabled: FieldChange<bool>,
    pub maintenance_mode: FieldChange<bool>,
    pub callback_url: FieldChange<String>,
    pub quiet_hours: FieldChange<Vec<QuietHours>>,
}

impl AccountConfigChange {
    /// The settings after this change of `current`.
    pub fn merged_into(self, current: &AccountConfig, defaults: &AccountConfig) -> AccountConfig {
        fn merge<T: Clone>(change: FieldChange<T>, current: &T, default: &T) -> T {
            match change {
                FieldChange::Unchanged => current.clone(),
                FieldChange::Cleared => default.clone(),
                FieldChange::Set(value) => value,
            }
        }
        AccountConfig {
            send_interval_ms: merge(
                self.send_interval_ms,
                &current.send_interval_ms,
                &defaults.send_interval_ms,
            ),
            daily_limit: merge(self.daily_limit, &current.daily_limit, &defaults.daily_limit),
            auto_reconnect: merge(self.auto_reconnect, &current.auto_reconnect, &defaults.auto_reconnect),
            auto_reply_enabled: merge(
                self.auto_reply_enabled,
                &current.auto_reply_enabled,
                &defaults.auto_reply_enabled,
            ),
            maintenance_mode: merge(
                self.maintenance_mode,
                &current.maintenance_mode,
                &defaults.maintenance_mode,
            ),
            callback_url: match self.callback_url {
                FieldChange::Unchanged => current.callback_url.clone(),
                FieldChange::Cleared => defaults.callback_url.clone(),
                FieldChange::Set(url) => Some(url),
            },
            quiet_hours: merge(self.quiet_hours, &current.quiet_hours, &defaults.quiet_hours),
        }
    }
}
