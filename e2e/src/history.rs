//! What concurrent clients asked and were answered, and whether the log agrees: in the manner of Jepsen.
//!
//! The checker reads the log by plain SQL and shares no code with the aggregates, the Executor or the projections.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use chrono::NaiveDate;
use sqlx::{FromRow, PgPool};

/// What a client wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A text to a conversation of an account.
    Send { account: String, text: String },
    /// Another name for an account, with the version it had in `If-Match` where given.
    Rename { account: String, expected: Option<i64> },
    /// The end of a message that waits for its time.
    Cancel { message: String },
}

/// What the client knows at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done: the stream that was written and the version that the answer named, where it named one.
    Accepted { stream: String, version: Option<i64> },
    /// Not done.
    Refused { status: u16, code: String },
    /// No answer, or one that says neither.
    Unknown,
}

/// One wish, asked once or, until an answer came, several times with the same idempotency key.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) wish: Wish,
    /// The `X-Request-Id` of each attempt.
    pub(crate) requests: Vec<String>,
    pub(crate) invoked: Instant,
    pub(crate) returned: Instant,
    pub(crate) outcome: Outcome,
}

/// One event of the log as the checker sees it.
#[derive(Clone, Debug, FromRow)]
pub(crate) struct Logged {
    pub(crate) stream: String,
    pub(crate) sequence: i64,
    pub(crate) event_type: String,
    pub(crate) request_id: String,
    pub(crate) tenant_id: String,
    /// The tenant-local day on which the message counts.
    pub(crate) day: Option<NaiveDate>,
}

const EVENTS: &str = r"
    select aggregate_id as stream, sequence, event_type, metadata->>'request_id' as request_id, tenant_id,
        (coalesce((payload->>'scheduled_time')::timestamptz, (metadata->>'occurred_at')::timestamptz)
            at time zone 'Asia/Shanghai')::date as day
    from events order by epoch, transaction_id, position";

/// Every event, in log order.
pub(crate) async fn read(log: &PgPool) -> Vec<Logged> {
    sqlx::query_as(EVENTS).fetch_all(log).await.expect("the log answers")
}

/// A tenant that may send so many messages a day.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    pub(crate) tenant_id: String,
    pub(crate) messages_a_day: usize,
}

/// Where the log contradicts what clients were told; empty when it is exactly as they were told.
///
/// - every acknowledged command is there once, no refused one is there, an unanswered one at most once;
/// - versions count up by one in each stream, and an answer's version is its event's;
/// - a command with `If-Match` follows the version that it named;
/// - of two commands on one stream, the one that was answered before the other was asked is the earlier;
/// - no limit is passed at any point of the log.
pub(crate) fn contradictions(operations: &[Operation], events: &[Logged], limits: &[Limit]) -> Vec<String> {
    let mut found = Vec::new();
    let mut by_request: HashMap<&str, Vec<&Logged>> = HashMap::new();
    let mut versions: HashMap<&str, i64> = HashMap::new();
    for event in events {
        by_request.entry(event.request_id.as_str()).or_default().push(event);
        let version = versions.entry(event.stream.as_str()).or_default();
        if event.sequence != *version + 1 {
            found.push(format!("{} jumps from {version} to {}", event.stream, event.sequence));
        }
        *version = event.sequence;
    }
    let mut answered: BTreeMap<&str, Vec<(&Operation, i64)>> = BTreeMap::new();
    for operation in operations {
        let written: Vec<&Logged> = operation
            .requests
            .iter()
            .filter_map(|request| by_request.get(request.as_str()))
            .flatten()
            .copied()
            .collect();
        match (&operation.outcome, written.as_slice()) {
            (Outcome::Accepted { stream, .. }, []) => {
                found.push(format!(
                    "{:?} was acknowledged and {stream} does not have it",
                    operation.wish
                ));
            }
            (Outcome::Accepted { stream, version }, [event]) => {
                if event.stream != *stream || version.is_some_and(|version| version != event.sequence) {
                    found.push(format!(
                        "{:?} was answered as {stream} {version:?} and stands at {} {}",
                        operation.wish, event.stream, event.sequence
                    ));
                }
                answered
                    .entry(&event.stream)
                    .or_default()
                    .push((operation, event.sequence));
            }
            (Outcome::Refused { status, code }, [_, ..]) => {
                found.push(format!(
                    "{:?} was refused ({status} {code}) and is in the log",
                    operation.wish
                ));
            }
            (_, [_, _, ..]) => found.push(format!("{:?} is in the log {} times", operation.wish, written.len())),
            (Outcome::Refused { .. } | Outcome::Unknown, _) => {}
        }
        if let (
            Wish::Rename {
                expected: Some(expected),
                ..
            },
            [event, ..],
        ) = (&operation.wish, written.as_slice())
            && event.sequence != expected + 1
        {
            found.push(format!("{:?} stands at {}", operation.wish, event.sequence));
        }
    }
    for (stream, mut operations) in answered {
        operations.sort_by_key(|(_, sequence)| *sequence);
        // The latest start among those with a smaller version: whoever ended before it should not come after it.
        let mut latest_start: Option<&Operation> = None;
        for (operation, sequence) in operations {
            if let Some(earlier) = latest_start
                && operation.returned < earlier.invoked
            {
                found.push(format!(
                    "{stream}: {:?} (version {sequence}) was answered before {:?} was asked, which has a smaller version",
                    operation.wish, earlier.wish
                ));
            }
            if latest_start.is_none_or(|earlier| earlier.invoked < operation.invoked) {
                latest_start = Some(operation);
            }
        }
    }
    found.extend(limits.iter().flat_map(|limit| passed(limit, events)));
    found
}

/// The days on which more messages counted than allowed.
fn passed(limit: &Limit, events: &[Logged]) -> Vec<String> {
    let mut days: BTreeMap<NaiveDate, usize> = BTreeMap::new();
    let mut counted: HashMap<&str, NaiveDate> = HashMap::new();
    let mut found = Vec::new();
    for event in events.iter().filter(|event| event.tenant_id == limit.tenant_id) {
        match (event.event_type.as_str(), event.day) {
            ("MessageAccepted", Some(day)) => {
                counted.insert(&event.stream, day);
                let count = days.entry(day).or_default();
                *count += 1;
                if *count == limit.messages_a_day + 1 {
                    found.push(format!("tenant {} passed its limit of {day}", limit.tenant_id));
                }
            }
            ("MessageCancelled", _) => {
                if let Some(count) = counted.get(event.stream.as_str()).and_then(|day| days.get_mut(day)) {
                    *count -= 1;
                }
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Two renames, one after the other, and a send; a log that agrees.
    fn sound() -> (Vec<Operation>, Vec<Logged>, Vec<Limit>) {
        let start = Instant::now();
        let operation = |n: u64, wish, stream: &str, version| Operation {
            wish,
            requests: vec![format!("r{n}")],
            invoked: start + Duration::from_secs(2 * n),
            returned: start + Duration::from_secs(2 * n + 1),
            outcome: Outcome::Accepted {
                stream: stream.to_owned(),
                version: Some(version),
            },
        };
        let rename = |expected| Wish::Rename {
            account: "a".to_owned(),
            expected,
        };
        let send = Wish::Send {
            account: "a".to_owned(),
            text: "早".to_owned(),
        };
        let event = |stream: &str, sequence, event_type: &str, request: &str| Logged {
            stream: stream.to_owned(),
            sequence,
            event_type: event_type.to_owned(),
            request_id: request.to_owned(),
            tenant_id: "t".to_owned(),
            day: NaiveDate::from_ymd_opt(2026, 11, 22),
        };
        let operations = vec![
            operation(0, rename(Some(1)), "a", 2),
            operation(1, rename(None), "a", 3),
            operation(2, send, "m", 1),
        ];
        let events = vec![
            event("a", 1, "AccountCreated", "before"),
            event("a", 2, "AccountUpdated", "r0"),
            event("a", 3, "AccountUpdated", "r1"),
            event("m", 1, "MessageAccepted", "r2"),
        ];
        let limit = Limit {
            tenant_id: "t".to_owned(),
            messages_a_day: 1,
        };
        (operations, events, vec![limit])
    }

    fn one(operations: &[Operation], events: &[Logged], limits: &[Limit]) -> String {
        let found = contradictions(operations, events, limits);
        assert_eq!(found.len(), 1, "{found:#?}");
        found.into_iter().next().unwrap_or_default()
    }

    #[test]
    fn a_log_that_agrees_has_no_contradictions() {
        let (operations, events, limits) = sound();
        assert!(contradictions(&operations, &events, &limits).is_empty());
    }

    #[test]
    fn a_lost_command_is_found() {
        let (operations, mut events, limits) = sound();
        events.pop();
        assert!(one(&operations, &events, &limits).contains("does not have it"));
    }

    #[test]
    fn a_doubled_command_is_found() {
        let (mut operations, mut events, _) = sound();
        let mut again = events[3].clone();
        again.stream = "m2".to_owned();
        events.push(again);
        assert!(one(&operations, &events, &[]).contains("2 times"));
        operations[2].outcome = Outcome::Unknown;
        assert!(one(&operations, &events, &[]).contains("2 times"));
    }

    #[test]
    fn a_refused_command_in_the_log_is_found() {
        let (mut operations, events, limits) = sound();
        operations[2].outcome = Outcome::Refused {
            status: 429,
            code: "quota.exceeded".to_owned(),
        };
        assert!(one(&operations, &events, &limits).contains("was refused"));
    }

    #[test]
    fn two_events_of_one_version_are_found() {
        let (operations, mut events, limits) = sound();
        let mut rival = events[2].clone();
        rival.request_id = "nobody's".to_owned();
        events.push(rival);
        assert!(one(&operations, &events, &limits).contains("jumps"));
    }

    #[test]
    fn an_answer_with_another_version_is_found() {
        let (mut operations, events, limits) = sound();
        operations[1].outcome = Outcome::Accepted {
            stream: "a".to_owned(),
            version: Some(4),
        };
        assert!(one(&operations, &events, &limits).contains("was answered as"));
    }

    #[test]
    fn an_if_match_that_was_passed_over_is_found() {
        let (mut operations, events, limits) = sound();
        operations[1].wish = Wish::Rename {
            account: "a".to_owned(),
            expected: Some(1),
        };
        assert!(one(&operations, &events, &limits).contains("stands at 3"));
    }

    #[test]
    fn an_order_against_time_is_found() {
        let (mut operations, mut events, limits) = sound();
        operations[0].wish = operations[1].wish.clone();
        for event in &mut events {
            match event.request_id.as_str() {
                "r0" => event.request_id = "r1".to_owned(),
                "r1" => event.request_id = "r0".to_owned(),
                _ => {}
            }
        }
        for operation in &mut operations[..2] {
            operation.outcome = Outcome::Accepted {
                stream: "a".to_owned(),
                version: None,
            };
        }
        assert!(one(&operations, &events, &limits).contains("smaller version"));
    }

    #[test]
    fn a_passed_limit_is_found_and_a_cancelled_message_makes_room() {
        let (operations, mut events, limits) = sound();
        let mut second = events[3].clone();
        (second.stream, second.request_id) = ("m2".to_owned(), "r3".to_owned());
        let mut cancelled = events[3].clone();
        (cancelled.sequence, cancelled.event_type, cancelled.request_id) =
            (2, "MessageCancelled".to_owned(), "r4".to_owned());
        events.push(second.clone());
        assert!(one(&operations, &events, &limits).contains("passed its limit"));
        events.pop();
        events.extend([cancelled, second]);
        assert!(contradictions(&operations, &events, &limits).is_empty());
    }
}
