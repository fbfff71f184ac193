//! Limits of what may be used: counted in rows of the append's own transaction, so that racing commands cannot pass one
//! together.

use chrono::{DateTime, Utc};

use crate::{AccountId, TenantId};

/// What is counted; in the order of the names, which is the order of the counters' key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaKind {
    /// Messages of an account on one of its tenant's days.
    AccountMessages,
    /// Accounts of a tenant that are not deleted.
    TenantAccounts,
    /// Messages of a tenant on one of its days.
    TenantMessages,
}

impl QuotaKind {
    /// As the `quota_usage` table has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountMessages => "account_messages",
            Self::TenantAccounts => "tenant_accounts",
            Self::TenantMessages => "tenant_messages",
        }
    }
}

/// Who has the limit. Days are the tenant's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quota {
    TenantAccounts(TenantId),
    TenantMessages(TenantId),
    AccountMessages(TenantId, AccountId),
}

impl Quota {
    pub const fn kind(self) -> QuotaKind {
        match self {
            Self::TenantAccounts(_) => QuotaKind::TenantAccounts,
            Self::TenantMessages(_) => QuotaKind::TenantMessages,
            Self::AccountMessages(..) => QuotaKind::AccountMessages,
        }
    }

    pub const fn tenant(self) -> TenantId {
        match self {
            Self::TenantAccounts(tenant) | Self::TenantMessages(tenant) | Self::AccountMessages(tenant, _) => tenant,
        }
    }
}

/// What an event uses of a quota, or gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaChange {
    pub quota: Quota,
    /// The moment whose day it counts on; `None` for what is not counted by day.
    pub on: Option<DateTime<Utc>>,
    /// Positive: used; negative: given back.
    pub by: i64,
}
