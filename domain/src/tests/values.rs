//! The small values that every room shares.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::fixtures::{account, at, sealed_of_account, tenant};
use crate::{
    AccountId, ActorType, FieldChange, LogOrder, Metadata, Sealed, WecomConversationId, WecomConversationKind,
};

#[test]
fn a_conversation_id_is_s_or_r_and_up_to_98_visible_characters() {
    let longest = format!("R:{}", "群".repeat(98));
    for id in ["S:1", "R:10696051000001", "S:微信客户", longest.as_str()] {
        assert_eq!(id.parse::<WecomConversationId>().unwrap().as_str(), id);
    }
    let too_long = format!("S:{}", "1".repeat(99));
    for text in [
        "",
        "S:",
        "R:",
        "X:1",
        "s:1",
        "1",
        "S:a b",
        "S:a\tb",
        "S:a\u{7}",
        " S:1",
        "R:1\n",
        too_long.as_str(),
    ] {
        assert!(text.parse::<WecomConversationId>().is_err(), "{text:?}");
        assert!(
            serde_json::from_value::<WecomConversationId>(json!(text)).is_err(),
            "{text:?}"
        );
    }
}

#[test]
fn a_conversation_id_tells_private_from_group() {
    let kind = |id: &str| id.parse::<WecomConversationId>().unwrap().kind();
    assert_eq!(kind("S:1"), WecomConversationKind::Private);
    assert_eq!(kind("R:1"), WecomConversationKind::Group);
}

#[test]
fn an_id_is_a_plain_uuid_wherever_it_is_written() {
    let id = account(1);
    assert_eq!(serde_json::to_value(id).unwrap(), json!(id.to_string()));
    assert_eq!(id.to_string().parse::<AccountId>().unwrap(), id);
    assert!("7".parse::<AccountId>().is_err());
}

#[test]
fn log_order_is_by_epoch_then_transaction_then_position() {
    let order = |epoch, transaction_id, position| LogOrder {
        epoch,
        transaction_id,
        position,
    };
    assert!(order(1, 900, 900) < order(2, 1, 1));
    assert!(order(1, 7, 900) < order(1, 8, 1));
    assert!(order(1, 7, 1) < order(1, 7, 2));
    assert_eq!(LogOrder::parse(1, &order(1, 7, 2).to_string()), Ok(order(1, 7, 2)));
    for text in ["", "7", "7-", "-2", "a-b", "7-2-1", "7 - 2"] {
        assert!(LogOrder::parse(1, text).is_err(), "{text:?}");
    }
}

#[test]
fn an_absent_field_is_unchanged_null_clears_it_and_a_value_sets_it() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Change {
        #[serde(default, skip_serializing_if = "FieldChange::is_unchanged")]
        name: FieldChange<String>,
    }
    for (value, name, from_old, from_none) in [
        (json!({}), FieldChange::Unchanged, Some("old"), None),
        (json!({"name": null}), FieldChange::Cleared, None, None),
        (
            json!({"name": "new"}),
            FieldChange::Set("new".to_owned()),
            Some("new"),
            Some("new"),
        ),
    ] {
        let change: Change = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(change, Change { name: name.clone() });
        assert_eq!(serde_json::to_value(&change).unwrap(), value);
        let applied = |before: Option<&str>| {
            let mut field = before.map(str::to_owned);
            name.clone().apply_to(&mut field);
            field
        };
        assert_eq!(applied(Some("old")).as_deref(), from_old);
        assert_eq!(applied(None).as_deref(), from_none);
    }
}

#[test]
fn a_change_to_what_already_is_is_none() {
    let new = || "new".to_owned();
    let set = || FieldChange::Set(new());
    assert_eq!(set().unless_already(Some(&new())), FieldChange::Unchanged);
    assert_eq!(set().unless_already(Some(&"old".to_owned())), set());
    assert_eq!(set().unless_already(None), set());
    assert_eq!(
        FieldChange::Cleared.unless_already(None::<&String>),
        FieldChange::Unchanged
    );
    assert_eq!(FieldChange::Cleared.unless_already(Some(&new())), FieldChange::Cleared);
}

#[test]
fn a_sealed_value_shows_whose_it_is_and_nothing_else() {
    let phone: Sealed<String> = sealed_of_account("phone");
    assert_eq!(format!("{phone:?}"), format!("Sealed(account:{})", account(1)));
    let stored = serde_json::to_value(&phone).unwrap();
    assert_eq!(serde_json::from_value::<Sealed<String>>(stored.clone()).unwrap(), phone);
    let mut open = stored;
    open["plain"] = json!("+86 138 0000 0000");
    assert!(
        serde_json::from_value::<Sealed<String>>(open).is_err(),
        "nothing may travel beside it"
    );
}

#[test]
fn the_envelope_is_a_flat_map_of_strings() {
    let mut metadata = Metadata {
        tenant_id: tenant(1),
        actor: "u-1".to_owned(),
        actor_type: ActorType::User,
        request_id: "r-1".to_owned(),
        correlation_id: "r-0".to_owned(),
        causation_id: None,
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        occurred_at: at(0),
    };
    let mut names: Vec<_> = metadata.to_map("key").into_keys().collect();
    names.sort_unstable();
    let expected = [
        "actor",
        "actor_type",
        "correlation_id",
        "occurred_at",
        "partition_key",
        "request_id",
        "tenant_id",
        "traceparent",
    ];
    assert_eq!(names, expected);
    metadata.causation_id = Some("e-1:3".to_owned());
    let map = metadata.to_map("key");
    assert_eq!(map["causation_id"], "e-1:3");
    assert_eq!(map["occurred_at"], "2026-03-02T01:00:00.000Z");
    assert_eq!(map["actor_type"], "user");
    assert_eq!(map["partition_key"], "key");
}
