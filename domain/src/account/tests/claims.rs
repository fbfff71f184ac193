//! What an account holds while others may not.

use super::super::{Account, AccountCommand as C};
use super::cases::{OTHER_GUID, create, update};
use super::situations::given;
use crate::ClaimChange::{Release, Take};
use crate::tests::fixtures::{at, tenant};
use crate::tests::matrix::fold;
use crate::{Claim, ClaimChange, LogAggregate};

fn claims(name: &str, command: C) -> Vec<ClaimChange> {
    let state: Account = fold(given(name));
    state.claims(&state.decide(command).unwrap())
}

#[test]
fn a_new_account_takes_its_name_inside_its_tenant() {
    assert_eq!(
        claims("none", create(at(0))),
        [Take(Claim::account_name(tenant(1), "华东客服"))]
    );
    assert_ne!(
        Claim::account_name(tenant(1), "华东客服"),
        Claim::account_name(tenant(2), "华东客服")
    );
}

#[test]
fn a_renamed_account_takes_the_new_name_and_releases_the_old_one() {
    let expected = [
        Take(Claim::account_name(tenant(1), "华南客服")),
        Release(Claim::account_name(tenant(1), "华东客服")),
    ];
    assert_eq!(claims("online", update(Some("华南客服"), at(50))), expected);
    assert_eq!(claims("online", update(Some("华东客服"), at(50))), []);
}

#[test]
fn an_instance_is_taken_everywhere_and_a_replaced_one_released() {
    let another = || C::RecordInstance {
        guid: OTHER_GUID.to_owned(),
        now: at(50),
    };
    assert_eq!(claims("created", another()), [Take(Claim::instance_guid("guid-2"))]);
    let expected = [
        Take(Claim::instance_guid("guid-2")),
        Release(Claim::instance_guid("guid-1")),
    ];
    assert_eq!(claims("online", another()), expected);
    assert_eq!(Claim::instance_guid("guid-1").scope, "");
}

#[test]
fn a_removed_instance_is_released() {
    let removed = C::RecordInstanceRemoved { now: at(50) };
    assert_eq!(claims("online", removed), [Release(Claim::instance_guid("guid-1"))]);
}

#[test]
fn a_deleted_account_releases_its_name_and_its_instance_once() {
    let expected = [
        Release(Claim::account_name(tenant(1), "华东客服")),
        Release(Claim::instance_guid("guid-1")),
    ];
    assert_eq!(claims("disabled", C::Delete { now: at(50) }), expected);
    assert_eq!(claims("created", C::Delete { now: at(50) }), expected[..1]);
    assert_eq!(
        claims("deleted:instance_not_removed", C::RecordInstanceRemoved { now: at(50) }),
        []
    );
}
