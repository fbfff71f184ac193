//! What holds for every sequence of commands.

use chrono::TimeDelta;
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{Message, MessageCommand as C, MessageError, MessageEvent as E, ResolvedOutcome};
use super::cases::{accept, cases};
use crate::LogAggregate;
use crate::tests::fixtures::at;
use crate::tests::matrix::{Worded, fold};

/// An event, the statuses it may happen in, those it leads to.
const TRANSITIONS: &[(&str, &str, &str)] = &[
    ("MessageAccepted", "none", "pending"),
    ("AttemptStarted", "pending", "sending"),
    ("MessageSent", "sending unknown", "sent"),
    ("MessageDelivered", "sent", "delivered"),
    ("MessageRead", "delivered", "delivered"),
    ("MessageFailed", "sending", "failed"),
    ("MessageCancelled", "pending", "cancelled"),
    ("RetryScheduled", "sending", "pending"),
    ("OutcomeUnknown", "sending", "unknown"),
    ("OutcomeResolved", "unknown", "sent failed pending"),
];

struct Asked {
    before: Message,
    command: C,
    decided: Result<Vec<E>, MessageError>,
}

type Step = (prop::sample::Index, bool, u16);

fn steps() -> impl Strategy<Value = (u16, Vec<Step>)> {
    (
        0_u16..200,
        vec((any::<prop::sample::Index>(), any::<bool>(), 0_u16..200), 1..60),
    )
}

/// Accepts a message planned for `planned` seconds, then asks one thing after the other, mostly of its newest attempt.
fn walk(planned: u16, steps: &[Step]) -> Vec<Asked> {
    let cases = cases();
    let mut state = Message::default();
    let mut now = at(0);
    let mut walked = Vec::new();
    let first = accept(Some(at(i64::from(planned))), now);
    let mut ask = |state: &mut Message, command: C| {
        let before = state.clone();
        let decided = state.decide(command.clone());
        for event in decided.iter().flatten() {
            state.fold(event.clone());
        }
        walked.push(Asked {
            before,
            command,
            decided,
        });
    };
    ask(&mut state, first);
    for (index, newest, later) in steps {
        now += TimeDelta::seconds(i64::from(*later));
        let mut command = (index.get(&cases).ask)(now);
        if let C::RecordSent { attempt, .. }
        | C::RecordRefused { attempt, .. }
        | C::ScheduleRetry { attempt, .. }
        | C::MarkUnknown { attempt, .. } = &mut command
            && *newest
        {
            *attempt = state.attempt;
        }
        ask(&mut state, command);
    }
    walked
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_commands_reaches_an_undefined_status((planned, steps) in steps()) {
        for asked in walk(planned, &steps) {
            let mut state = asked.before;
            for event in asked.decided.into_iter().flatten() {
                let (from, after, status) = (state.status_word(), event.status_after(), state.status);
                let row = TRANSITIONS.iter().find(|row| row.0 == event.name()).unwrap();
                state.fold(event);
                prop_assert_eq!(state.status, after.or(status));
                let named = |list: &str, status: &str| list.split_whitespace().any(|word| word == status);
                prop_assert!(named(row.1, from) && named(row.2, state.status_word()), "{} in {}", row.0, from);
            }
        }
    }

    #[test]
    fn a_repeated_command_emits_nothing((planned, steps) in steps()) {
        for asked in walk(planned, &steps) {
            let Ok(events) = asked.decided else { continue };
            let mut state = asked.before;
            for event in events {
                state.fold(event);
            }
            let again = state.decide(asked.command.clone());
            prop_assert!(again.as_ref().map_or(true, Vec::is_empty), "{:?} again: {:?}", asked.command, again);
        }
    }

    #[test]
    fn folding_the_stored_events_gives_the_state_that_was_decided_upon((planned, steps) in steps()) {
        let mut events = Vec::new();
        for asked in walk(planned, &steps) {
            let stored: Message = fold(events.iter().cloned());
            prop_assert_eq!(&stored, &asked.before);
            events.extend(asked.decided.into_iter().flatten().map(|event| {
                let read: E = serde_json::from_value(serde_json::to_value(&event).unwrap()).unwrap();
                assert_eq!(read, event);
                read
            }));
        }
        let state: Message = fold(events);
        let snapshot: Message = serde_json::from_value(serde_json::to_value(&state).unwrap()).unwrap();
        prop_assert_eq!(snapshot, state);
    }

    #[test]
    fn a_message_is_attempted_one_by_one_never_early_and_never_again_once_it_may_have_been_sent(
        (planned, steps) in steps()
    ) {
        let mut attempts = 0;
        let mut may_be_out = false;
        for event in walk(planned, &steps).into_iter().flat_map(|asked| asked.decided.unwrap_or_default()) {
            match event {
                E::AttemptStarted { attempt, at: started, .. } => {
                    attempts += 1;
                    prop_assert_eq!(attempt, attempts);
                    prop_assert!(started >= at(i64::from(planned)), "early");
                    prop_assert!(!may_be_out, "sent twice without knowing");
                    may_be_out = true;
                }
                // Only these say that the attempt certainly did not send, or that somebody wants it sent again.
                E::RetryScheduled { .. } | E::OutcomeResolved { outcome: ResolvedOutcome::Resend, .. } => may_be_out = false,
                _ => {}
            }
        }
    }
}
