//! Every command of a message, and histories that one may have.

use chrono::{DateTime, TimeDelta, Utc};

use super::super::{
    AcceptMessage, CancelCause, Message, MessageCommand as C, MessageEvent, MessageType, Receipt, ResolvedBy,
    ResolvedOutcome,
};
use crate::LogAggregate;
use crate::tests::fixtures::{account, at, conversation, sealed, tenant};
use crate::tests::matrix::{Case, Situation, fold};

pub(super) fn receipt() -> Receipt {
    Receipt {
        wework_msg_id: "10021".to_owned(),
        appinfo: Some("CIGABBDl".to_owned()),
        wework_send_time: Some(at(3)),
    }
}

pub(super) fn accept(scheduled_time: Option<DateTime<Utc>>, now: DateTime<Utc>) -> C {
    C::Accept(Box::new(AcceptMessage {
        account_id: account(1),
        tenant_id: tenant(1),
        conversation_id: conversation("S:1688850000001"),
        message_type: MessageType::Text,
        content: sealed("conversation:01980000-0000-5000-8000-000000000001", "text"),
        priority: 5,
        scheduled_time,
        batch_id: None,
        batch_index: None,
        callback_url: None,
        client_reference: Some("crm-7".to_owned()),
        now,
    }))
}

pub(super) fn start(now: DateTime<Utc>) -> C {
    C::StartAttempt { now }
}

pub(super) fn sent(attempt: u32, now: DateTime<Utc>) -> C {
    C::RecordSent {
        attempt,
        receipt: receipt(),
        now,
    }
}

pub(super) fn refused(attempt: u32, now: DateTime<Utc>) -> C {
    C::RecordRefused {
        attempt,
        error_code: "wecom.-2003".to_owned(),
        error_message: Some("bad conversation_id".to_owned()),
        now,
    }
}

pub(super) fn retry(attempt: u32, now: DateTime<Utc>) -> C {
    C::ScheduleRetry {
        attempt,
        error_code: "wecom.-4048".to_owned(),
        error_message: None,
        retry_at: now + TimeDelta::seconds(900),
        now,
    }
}

pub(super) fn unknown(attempt: u32, now: DateTime<Utc>) -> C {
    C::MarkUnknown {
        attempt,
        error_message: Some("connection closed".to_owned()),
        now,
    }
}

pub(super) fn resolve(outcome: ResolvedOutcome, now: DateTime<Utc>) -> C {
    C::Resolve {
        outcome,
        by: ResolvedBy::Operator,
        reason: Some("电话确认".to_owned()),
        receipt: None,
        now,
    }
}

pub(super) fn cases() -> Vec<Case<C>> {
    let case = |name, ask| Case { name, ask };
    vec![
        case("Accept", |now| accept(None, now)),
        case("StartAttempt", start),
        case("RecordSent", |now| sent(1, now)),
        case("RecordRefused", |now| refused(1, now)),
        case("ScheduleRetry", |now| retry(1, now)),
        case("MarkUnknown", |now| unknown(1, now)),
        case("Resolve [sent]", |now| resolve(ResolvedOutcome::Sent, now)),
        case("Resolve [failed]", |now| resolve(ResolvedOutcome::Failed, now)),
        case("Resolve [resend]", |now| resolve(ResolvedOutcome::Resend, now)),
        case("RecordDelivered", |now| C::RecordDelivered { now }),
        case("RecordRead", |now| C::RecordRead { now }),
        case("Cancel", |now| C::Cancel {
            cause: CancelCause::Requested,
            now,
        }),
    ]
}

/// The events of these commands, one second apart; each must have an effect.
pub(super) fn story(commands: impl IntoIterator<Item = C>) -> Vec<MessageEvent> {
    let mut events = Vec::new();
    for command in commands {
        let state: Message = fold(events.iter().cloned());
        let decided = state.decide(command.clone()).unwrap();
        assert!(!decided.is_empty(), "no step of a story: {command:?}");
        events.extend(decided);
    }
    events
}

pub(super) fn situations() -> Vec<Situation<Message>> {
    let after = |name, commands: Vec<C>| Situation {
        name,
        history: story(commands),
        now: at(10),
    };
    let begin = || vec![accept(None, at(0)), start(at(1))];
    let then = |commands: Vec<C>| [begin(), commands].concat();
    let delivered = C::RecordDelivered { now: at(4) };
    let read = C::RecordRead { now: at(5) };
    vec![
        after("none", vec![]),
        after("pending", vec![accept(None, at(0))]),
        after("pending:planned_later", vec![accept(Some(at(60)), at(0))]),
        after("pending:retry", then(vec![retry(1, at(3))])),
        after(
            "pending:resend",
            then(vec![unknown(1, at(3)), resolve(ResolvedOutcome::Resend, at(4))]),
        ),
        after("sending", begin()),
        after("unknown", then(vec![unknown(1, at(3))])),
        after("sent", then(vec![sent(1, at(3))])),
        after(
            "sent:resolved",
            then(vec![unknown(1, at(3)), resolve(ResolvedOutcome::Sent, at(4))]),
        ),
        after("delivered", then(vec![sent(1, at(3)), delivered.clone()])),
        after("delivered:read", then(vec![sent(1, at(3)), delivered, read])),
        after("failed", then(vec![refused(1, at(3))])),
        after(
            "failed:resolved",
            then(vec![unknown(1, at(3)), resolve(ResolvedOutcome::Failed, at(4))]),
        ),
        after(
            "cancelled",
            vec![
                accept(None, at(0)),
                C::Cancel {
                    cause: CancelCause::Requested,
                    now: at(1),
                },
            ],
        ),
    ]
}

pub(super) fn given(name: &str) -> Vec<MessageEvent> {
    let found = situations().into_iter().find(|situation| situation.name == name);
    found.unwrap_or_else(|| panic!("no such situation: {name}")).history
}
