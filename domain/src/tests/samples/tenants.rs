use super::{Sample, samples};
use crate::tenant::{TenantEvent as T, TenantLimits};
use crate::tests::fixtures::at;

pub(in crate::tests) fn of_tenant() -> Vec<Sample> {
    samples(vec![
        (
            "",
            T::TenantCreated {
                tenant_code: "weifeng".to_owned(),
                tenant_name: "蔚风演示科技有限公司".to_owned(),
                limits: TenantLimits::default(),
                time_zone: "Asia/Shanghai".to_owned(),
                at: at(0),
            },
        ),
        (
            "",
            T::TenantLimitsChanged {
                limits: TenantLimits {
                    max_accounts: 1_000,
                    max_daily_messages: 10_000_000,
                },
                at: at(10),
            },
        ),
        (
            "",
            T::TenantSuspended {
                reason: "合同到期".to_owned(),
                at: at(20),
            },
        ),
        ("", T::TenantReactivated { at: at(30) }),
    ])
}
