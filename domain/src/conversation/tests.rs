use std::collections::BTreeSet;

use chrono::TimeDelta;
use cqrs_es::test::TestFramework;
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Conversation, ConversationCommand as C, ConversationError, ConversationEvent as E};
use crate::tests::fixtures::{account, at, conversation, sealed, tenant};
use crate::tests::matrix::{Case, Situation, Worded, actual, assert_same, expected, fold};
use crate::{ConversationId, LogAggregate, Sealed};

const SUBJECT: &str = "conversation:01980000-0000-5000-8000-000000000001";

impl Worded for Conversation {
    fn status_word(&self) -> &'static str {
        if self.of.is_some() { "open" } else { "none" }
    }

    fn event_words(event: &E) -> String {
        event.name().to_owned()
    }

    fn error_word(error: &ConversationError) -> &'static str {
        match error {
            ConversationError::NotFound => "not_found",
        }
    }
}

fn secret<T>(text: &str) -> Sealed<T> {
    sealed(SUBJECT, text)
}

fn open(now: chrono::DateTime<chrono::Utc>) -> C {
    C::Open {
        account_id: account(1),
        tenant_id: tenant(1),
        conversation_id: conversation("R:10001"),
        now,
    }
}

fn receive(wework_msg_id: &str, now: chrono::DateTime<chrono::Utc>) -> C {
    C::ReceiveMessage {
        account_id: account(1),
        tenant_id: tenant(1),
        conversation_id: conversation("R:10001"),
        wework_msg_id: wework_msg_id.to_owned(),
        sender: secret("sender"),
        content: secret("content"),
        sent_at: at(0),
        now,
    }
}

fn tag(tags: &[&str], now: chrono::DateTime<chrono::Utc>) -> C {
    C::Tag {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        now,
    }
}

fn cases() -> Vec<Case<C>> {
    let case = |name, ask| Case { name, ask };
    vec![
        case("Open", open),
        case("ReceiveMessage [a new one]", |now| receive("m-2", now)),
        case("ReceiveMessage [told before]", |now| receive("m-1", now)),
        case("Rename", |now| C::Rename {
            name: secret("name"),
            now,
        }),
        case("Pin", |now| C::Pin { now }),
        case("Unpin", |now| C::Unpin { now }),
        case("Tag", |now| tag(&["重要", "售后"], now)),
        case("Tag [in other order, doubled]", |now| {
            tag(&["售后", "重要", "售后"], now)
        }),
        case("Tag [none]", |now| tag(&[], now)),
        case("MarkRead", |now| C::MarkRead { now }),
    ]
}

fn situations() -> Vec<Situation<Conversation>> {
    let after = |name, commands: &[C]| {
        let mut history = Vec::new();
        for command in commands {
            let state: Conversation = fold(history.iter().cloned());
            let events = state.decide(command.clone()).unwrap();
            assert!(!events.is_empty(), "no step of a story: {command:?}");
            history.extend(events);
        }
        Situation {
            name,
            history,
            now: at(10),
        }
    };
    vec![
        after("none", &[]),
        after("open", &[open(at(0))]),
        after("open:unread", &[receive("m-1", at(0))]),
        after("open:read", &[receive("m-1", at(0)), C::MarkRead { now: at(1) }]),
        after("open:pinned", &[open(at(0)), C::Pin { now: at(1) }]),
        after("open:tagged", &[open(at(0)), tag(&["重要", "售后"], at(1))]),
        after(
            "open:named",
            &[
                open(at(0)),
                C::Rename {
                    name: secret("name"),
                    now: at(1),
                },
            ],
        ),
    ]
}

const EXPECTED: &str = "
Open                          | none        | ConversationOpened → open
ReceiveMessage [a new one]    | none        | ConversationOpened + MessageReceived → open
ReceiveMessage [a new one]    | open        | MessageReceived
ReceiveMessage [told before]  | none        | ConversationOpened + MessageReceived → open
ReceiveMessage [told before]  | open        | MessageReceived
ReceiveMessage [told before]  | open:unread | –
ReceiveMessage [told before]  | open:read   | –
Rename                        | open        | ConversationRenamed
Rename                        | open:named  | –
Pin                           | open        | ConversationPinned
Pin                           | open:pinned | –
Unpin                         | open:pinned | ConversationUnpinned
Tag                           | open        | ConversationTagged
Tag                           | open:tagged | –
Tag [in other order, doubled] | open        | ConversationTagged
Tag [in other order, doubled] | open:tagged | –
Tag [none]                    | open:tagged | ConversationTagged
MarkRead                      | open:unread | ConversationMarkedRead
";

#[test]
fn every_cell_is_what_the_design_says() {
    let expected = expected(EXPECTED, "–", &situations(), &cases());
    assert_same(&expected, &actual(&situations(), &cases()));
}

#[test]
fn an_incoming_message_opens_a_conversation_that_nobody_knew() {
    let framework = TestFramework::<Conversation>::with(());
    framework
        .given_no_previous_events()
        .when(receive("m-1", at(3)))
        .then_expect_events(vec![
            E::ConversationOpened {
                account_id: account(1),
                tenant_id: tenant(1),
                conversation_id: conversation("R:10001"),
                at: at(3),
            },
            E::MessageReceived {
                account_id: account(1),
                conversation_id: conversation("R:10001"),
                wework_msg_id: "m-1".to_owned(),
                sender: secret("sender"),
                content: secret("content"),
                sent_at: at(0),
                at: at(3),
            },
        ]);
}

#[test]
fn tags_are_stored_sorted_and_once() {
    let framework = TestFramework::<Conversation>::with(()).given(situations().remove(1).history);
    let events = framework
        .when(tag(&["重要", "售后", "重要"], at(3)))
        .inspect_result()
        .unwrap();
    let expected = vec!["售后".to_owned(), "重要".to_owned()];
    assert!(
        matches!(&events[..], [E::ConversationTagged { tags, .. }] if *tags == expected),
        "{events:?}"
    );
}

#[test]
fn unread_messages_are_counted_until_somebody_reads_them() {
    let mut state = Conversation::default();
    for number in 0..3 {
        let events = state.decide(receive(&format!("m-{number}"), at(number))).unwrap();
        for event in events {
            state.fold(event);
        }
    }
    assert_eq!(state.unread_count, 3);
    state.fold(state.decide(C::MarkRead { now: at(4) }).unwrap().remove(0));
    assert_eq!(state.unread_count, 0);
}

#[test]
fn only_the_newest_thousand_ids_are_remembered() {
    let mut state = Conversation::default();
    for number in 0..1_001 {
        let events = state.decide(receive(&format!("m-{number}"), at(number))).unwrap();
        for event in events {
            state.fold(event);
        }
    }
    assert_eq!(state.decide(receive("m-1", at(2_000))), Ok(vec![]));
    assert_eq!(state.decide(receive("m-1000", at(2_000))), Ok(vec![]));
    assert_eq!(
        state.decide(receive("m-0", at(2_000))).map(|events| events.len()),
        Ok(1)
    );
}

#[test]
fn a_conversation_travels_in_the_lane_of_its_account_and_claims_nothing() {
    let events = Conversation::default().decide(open(at(0))).unwrap();
    assert_eq!(
        Conversation::partition_key("a conversation", &events[0]),
        account(1).to_string()
    );
    assert_eq!(Conversation::default().claims(&events), []);
}

#[test]
fn one_conversation_has_one_id_per_account() {
    let group = conversation("R:10001");
    assert_eq!(
        ConversationId::of(account(1), &group),
        ConversationId::of(account(1), &group)
    );
    assert_ne!(
        ConversationId::of(account(1), &group),
        ConversationId::of(account(2), &group)
    );
    assert_ne!(
        ConversationId::of(account(1), &group),
        ConversationId::of(account(1), &conversation("S:10001"))
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_folds_the_same_from_stored_events_and_repeats_nothing(
        steps in vec((any::<prop::sample::Index>(), 0_u8..20), 1..60)
    ) {
        let cases = cases();
        let mut state = Conversation::default();
        let mut stored = Vec::new();
        let mut told = BTreeSet::new();
        let mut now = at(0);
        for (index, message) in steps {
            now += TimeDelta::seconds(1);
            let command = match (index.get(&cases).ask)(now) {
                C::ReceiveMessage { .. } => receive(&format!("m-{message}"), now),
                command => command,
            };
            let Ok(events) = state.decide(command.clone()) else { continue };
            for event in events {
                if let E::MessageReceived { wework_msg_id, .. } = &event {
                    prop_assert!(told.insert(wework_msg_id.clone()), "received twice");
                }
                stored.push(serde_json::to_value(&event).unwrap());
                state.fold(event);
            }
            prop_assert_eq!(state.decide(command), Ok(vec![]));
        }
        let read = stored.into_iter().map(|event| serde_json::from_value::<E>(event).unwrap());
        prop_assert_eq!(fold::<Conversation>(read), state);
    }
}
