//! Names that only one aggregate may hold: rows of the append's own transaction, so that two racing commands cannot
//! both win.

use crate::TenantId;

/// What is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimKind {
    /// An account's name, inside its tenant.
    AccountName,
    /// A WeCom instance, everywhere.
    InstanceGuid,
    /// A tenant's code, everywhere.
    TenantCode,
}

impl ClaimKind {
    /// As the `claims` table has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccountName => "account_name",
            Self::InstanceGuid => "instance_guid",
            Self::TenantCode => "tenant_code",
        }
    }
}

/// One claimed value. `scope` is the tenant's id, or empty for what is unique everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    pub kind: ClaimKind,
    pub scope: String,
    pub value: String,
}

impl Claim {
    pub fn account_name(tenant: TenantId, name: &str) -> Self {
        Self {
            kind: ClaimKind::AccountName,
            scope: tenant.to_string(),
            value: name.to_owned(),
        }
    }

    pub fn instance_guid(guid: &str) -> Self {
        Self {
            kind: ClaimKind::InstanceGuid,
            scope: String::new(),
            value: guid.to_owned(),
        }
    }

    pub fn tenant_code(code: &str) -> Self {
        Self {
            kind: ClaimKind::TenantCode,
            scope: String::new(),
            value: code.to_owned(),
        }
    }
}

/// What an append does to claims.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimChange {
    Take(Claim),
    Release(Claim),
}
