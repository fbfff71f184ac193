//! Commands and checks that several tests need.

use weft_domain::account::{AccountCommand, AccountConfig, AccountConfigChange, GatewayKind};
use weft_domain::tenant::{Tenant, TenantCommand, TenantLimits};
use weft_domain::{AccountId, FieldChange, TenantId};
use weft_log_writer::testing::options;
use weft_log_writer::{Committed, Executor};
use weft_platform::clock::Clock;

pub(crate) fn new_tenant() -> TenantId {
    TenantId(Clock::system().new_id())
}

pub(crate) fn new_account() -> AccountId {
    AccountId(Clock::system().new_id())
}

pub(crate) fn create_account(tenant_id: TenantId, name: &str) -> AccountCommand {
    AccountCommand::Create {
        tenant_id,
        account_name: name.to_owned(),
        phone: None,
        email: None,
        user_id: None,
        gateway: GatewayKind::default(),
        config: AccountConfig::default(),
        now: Clock::system().now(),
    }
}

pub(crate) fn rename_account(name: &str) -> AccountCommand {
    AccountCommand::Update {
        account_name: Some(name.to_owned()),
        phone: FieldChange::Unchanged,
        email: FieldChange::Unchanged,
        user_id: FieldChange::Unchanged,
        config: AccountConfigChange::default(),
        config_defaults: AccountConfig::default(),
        now: Clock::system().now(),
    }
}

pub(crate) fn create_tenant(code: &str) -> TenantCommand {
    TenantCommand::Create {
        tenant_code: code.to_owned(),
        tenant_name: code.to_owned(),
        limits: TenantLimits {
            max_accounts: 100_000,
            ..TenantLimits::default()
        },
        time_zone: "Asia/Shanghai".to_owned(),
        now: Clock::system().now(),
    }
}

/// Emits an event whenever `max_accounts` is not the last one.
pub(crate) fn limit_accounts(max_accounts: u32) -> TenantCommand {
    let limits = TenantLimits {
        max_accounts,
        ..TenantLimits::default()
    };
    TenantCommand::ChangeLimits {
        limits,
        now: Clock::system().now(),
    }
}

/// A tenant with one event.
pub(crate) async fn a_tenant(executor: &Executor) -> (TenantId, Committed<Tenant>) {
    let tenant = new_tenant();
    let created = executor
        .execute(
            &tenant.to_string(),
            create_tenant(&tenant.to_string()),
            &options(tenant),
        )
        .await;
    (tenant, created.unwrap())
}
