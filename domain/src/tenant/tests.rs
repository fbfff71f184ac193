use cqrs_es::test::TestFramework;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Tenant, TenantCommand as C, TenantError, TenantEvent as E, TenantLimits, TenantStatus};
use crate::ClaimChange::Take;
use crate::tests::fixtures::at;
use crate::tests::matrix::{Case, Situation, Worded, actual, assert_same, expected, fold};
use crate::{Claim, LogAggregate};

impl Worded for Tenant {
    fn status_word(&self) -> &'static str {
        self.status.map_or("none", TenantStatus::as_str)
    }

    fn event_words(event: &E) -> String {
        event.name().to_owned()
    }

    fn error_word(error: &TenantError) -> &'static str {
        match error {
            TenantError::NotFound => "not_found",
            TenantError::AlreadyExists => "already_exists",
        }
    }
}

fn create(now: chrono::DateTime<chrono::Utc>) -> C {
    C::Create {
        tenant_code: "weifeng".to_owned(),
        tenant_name: "蔚风演示科技".to_owned(),
        limits: TenantLimits::default(),
        time_zone: "Asia/Shanghai".to_owned(),
        now,
    }
}

const MORE: TenantLimits = TenantLimits {
    max_accounts: 1_000,
    max_daily_messages: 10_000_000,
};

fn cases() -> Vec<Case<C>> {
    let case = |name, ask| Case { name, ask };
    vec![
        case("Create", create),
        case("ChangeLimits [to more]", |now| C::ChangeLimits { limits: MORE, now }),
        case("ChangeLimits [as they are]", |now| C::ChangeLimits {
            limits: TenantLimits::default(),
            now,
        }),
        case("Suspend", |now| C::Suspend {
            reason: "欠费".to_owned(),
            now,
        }),
        case("Reactivate", |now| C::Reactivate { now }),
    ]
}

fn situations() -> Vec<Situation<Tenant>> {
    let created = Tenant::default().decide(create(at(0))).unwrap();
    let suspended = E::TenantSuspended {
        reason: "欠费".to_owned(),
        at: at(1),
    };
    let after = |name, history| Situation {
        name,
        history,
        now: at(10),
    };
    vec![
        after("none", vec![]),
        after("active", created.clone()),
        after("suspended", [created, vec![suspended]].concat()),
    ]
}

const EXPECTED: &str = "
Create                     | none      | TenantCreated → active
Create                     | all       | ✗ already_exists
ChangeLimits [to more]     | all       | TenantLimitsChanged
Suspend                    | active    | TenantSuspended → suspended
Reactivate                 | suspended | TenantReactivated → active
";

#[test]
fn every_cell_is_what_the_design_says() {
    let expected = expected(EXPECTED, "–", &situations(), &cases());
    assert_same(&expected, &actual(&situations(), &cases()));
}

#[test]
fn a_tenant_takes_its_code_everywhere() {
    let events = Tenant::default().decide(create(at(0))).unwrap();
    assert_eq!(Tenant::default().claims(&events), [Take(Claim::tenant_code("weifeng"))]);
    assert_eq!(Claim::tenant_code("weifeng").scope, "");
    assert_eq!(Tenant::partition_key("a tenant", &events[0]), "a tenant");
}

#[test]
fn suspending_a_suspended_tenant_for_another_reason_is_no_change() {
    let framework = TestFramework::<Tenant>::with(()).given(situations().remove(2).history);
    let command = C::Suspend {
        reason: "违规".to_owned(),
        now: at(10),
    };
    framework.when(command).then_expect_events(vec![]);
}

#[test]
fn a_suspended_tenant_keeps_its_limits_and_its_birthday() {
    let suspended = situations().remove(2).state();
    assert_eq!(
        (suspended.limits, suspended.created_at),
        (TenantLimits::default(), Some(at(0)))
    );
    assert_eq!(suspended.time_zone, "Asia/Shanghai");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_folds_the_same_from_stored_events_and_repeats_nothing(
        steps in vec(any::<prop::sample::Index>(), 1..40)
    ) {
        let cases = cases();
        let mut state = Tenant::default();
        let mut stored = Vec::new();
        for index in steps {
            let command = (index.get(&cases).ask)(at(1));
            let Ok(events) = state.decide(command.clone()) else { continue };
            for event in events {
                stored.push(serde_json::to_value(&event).unwrap());
                state.fold(event);
            }
            prop_assert!(state.decide(command).map_or(true, |again| again.is_empty()));
        }
        let read = stored.into_iter().map(|event| serde_json::from_value::<E>(event).unwrap());
        prop_assert_eq!(fold::<Tenant>(read), state);
    }
}
