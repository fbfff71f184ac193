//! A tenant: one enterprise, its limits and whether it may work.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::aggregate::{cqrs_aggregate, domain_event};
use crate::{Claim, ClaimChange, LogAggregate};

#[cfg(test)]
mod tests;

/// What a tenant may use a day, in its own time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TenantLimits {
    pub max_accounts: u32,
    pub max_daily_messages: u32,
}

impl Default for TenantLimits {
    fn default() -> Self {
        Self {
            max_accounts: 10,
            max_daily_messages: 10_000,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantStatus {
    Active,
    Suspended,
}

impl TenantStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

/// Events of a tenant's stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type")]
pub enum TenantEvent {
    TenantCreated {
        tenant_code: String,
        tenant_name: String,
        limits: TenantLimits,
        /// IANA name; the tenant's days are counted in it.
        time_zone: String,
        at: DateTime<Utc>,
    },
    TenantLimitsChanged {
        limits: TenantLimits,
        at: DateTime<Utc>,
    },
    TenantSuspended {
        reason: String,
        at: DateTime<Utc>,
    },
    TenantReactivated {
        at: DateTime<Utc>,
    },
}

domain_event!(TenantEvent {
    TenantCreated => "1",
    TenantLimitsChanged => "1",
    TenantSuspended => "1",
    TenantReactivated => "1",
});

#[derive(Clone, Debug, PartialEq)]
pub enum TenantCommand {
    Create {
        tenant_code: String,
        tenant_name: String,
        limits: TenantLimits,
        time_zone: String,
        now: DateTime<Utc>,
    },
    ChangeLimits {
        limits: TenantLimits,
        now: DateTime<Utc>,
    },
    Suspend {
        reason: String,
        now: DateTime<Utc>,
    },
    Reactivate {
        now: DateTime<Utc>,
    },
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    #[error("there is no such tenant")]
    NotFound,
    #[error("the tenant exists already")]
    AlreadyExists,
}

/// Folded state of one tenant. `status` is `None` before the first event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    pub status: Option<TenantStatus>,
    pub tenant_code: String,
    pub tenant_name: String,
    pub limits: TenantLimits,
    pub time_zone: String,
    pub created_at: Option<DateTime<Utc>>,
}

impl Tenant {
    pub(crate) fn fold(&mut self, event: TenantEvent) {
        match event {
            TenantEvent::TenantCreated {
                tenant_code,
                tenant_name,
                limits,
                time_zone,
                at,
            } => {
                *self = Self {
                    status: Some(TenantStatus::Active),
                    tenant_code,
                    tenant_name,
                    limits,
                    time_zone,
                    created_at: Some(at),
                };
            }
            TenantEvent::TenantLimitsChanged { limits, .. } => self.limits = limits,
            TenantEvent::TenantSuspended { .. } => self.status = Some(TenantStatus::Suspended),
            TenantEvent::TenantReactivated { .. } => self.status = Some(TenantStatus::Active),
        }
    }
}

cqrs_aggregate!(Tenant, "tenant", TenantCommand, TenantEvent, TenantError);

impl LogAggregate for Tenant {
    fn decide(&self, command: TenantCommand) -> Result<Vec<TenantEvent>, TenantError> {
        use TenantStatus::{Active, Suspended};
        match (self.status, command) {
            (
                None,
                TenantCommand::Create {
                    tenant_code,
                    tenant_name,
                    limits,
                    time_zone,
                    now: at,
                },
            ) => Ok(vec![TenantEvent::TenantCreated {
                tenant_code,
                tenant_name,
                limits,
                time_zone,
                at,
            }]),
            (None, _) => Err(TenantError::NotFound),
            (Some(_), TenantCommand::Create { .. }) => Err(TenantError::AlreadyExists),
            (Some(_), TenantCommand::ChangeLimits { limits, now: at }) => Ok(if limits == self.limits {
                vec![]
            } else {
                vec![TenantEvent::TenantLimitsChanged { limits, at }]
            }),
            (Some(Active), TenantCommand::Suspend { reason, now: at }) => {
                Ok(vec![TenantEvent::TenantSuspended { reason, at }])
            }
            (Some(Suspended), TenantCommand::Reactivate { now: at }) => Ok(vec![TenantEvent::TenantReactivated { at }]),
            (Some(Suspended), TenantCommand::Suspend { .. }) | (Some(Active), TenantCommand::Reactivate { .. }) => {
                Ok(vec![])
            }
        }
    }

    fn partition_key(aggregate_id: &str, _: &TenantEvent) -> String {
        aggregate_id.to_owned()
    }

    fn claims(&self, events: &[TenantEvent]) -> Vec<ClaimChange> {
        events
            .iter()
            .filter_map(|event| match event {
                TenantEvent::TenantCreated { tenant_code, .. } => {
                    Some(ClaimChange::Take(Claim::tenant_code(tenant_code)))
                }
                _ => None,
            })
            .collect()
    }
}
