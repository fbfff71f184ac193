//! What is wrong with an event, without a value of it.

use weft_log_reader::typed::DecodeError;

use crate::error::ProjectionError;
use crate::event::EventPlace;

/// Why an event fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Equal where event type and cause are: 16 hexadecimal digits.
    pub fingerprint: String,
    pub error: String,
}

impl Fault {
    /// A payload that does not decode.
    pub fn of_payload(place: &EventPlace, error: &DecodeError) -> Self {
        Self::new(place, &without_values(&error.to_string()))
    }

    /// An event whose row was refused.
    pub fn of(place: &EventPlace, error: &ProjectionError) -> Self {
        match error {
            ProjectionError::Database(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default().into_owned();
                let cause = match (error.table(), error.constraint()) {
                    (Some(table), Some(constraint)) => format!("{constraint} of {table}"),
                    _ => without_values(error.message()),
                };
                Self::new(place, &format!("SQLSTATE {code}: {cause}"))
            }
            ProjectionError::Unfounded { .. } => {
                Self::new(place, "the stream does not begin with the event that creates it")
            }
            error => Self::new(place, &without_values(&error.to_string())),
        }
    }

    fn new(place: &EventPlace, error: &str) -> Self {
        let text = format!("{}.{}: {error}", place.stream.0, place.event_type);
        // FNV-1a: the same in every build.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self {
            fingerprint: format!("{hash:016x}"),
            error: text,
        }
    }
}

/// Leaves out what stands in double quotes, which is where both serde and Postgres quote data, and serde's place in the
/// text.
fn without_values(text: &str) -> String {
    let text = text.split(" at line ").next().unwrap_or(text);
    let mut parts = text.split('"');
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for (index, part) in parts.enumerate() {
        kept.push_str(if index % 2 == 0 { "…" } else { part });
    }
    kept
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use weft_domain::LogOrder;

    use super::*;

    fn place(event_type: &str) -> EventPlace {
        EventPlace {
            stream: ("account", Uuid::nil()),
            sequence: 1,
            event_type: event_type.to_owned(),
            tenant_id: Uuid::nil(),
            order: LogOrder::default(),
        }
    }

    fn undecodable(reason: &str) -> DecodeError {
        DecodeError::Undecodable {
            aggregate: "account",
            event_type: "LoggedOut".to_owned(),
            version: "1".to_owned(),
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn equal_causes_have_one_fingerprint_and_no_value_is_told() {
        let fault = |reason| Fault::of_payload(&place("LoggedOut"), &undecodable(reason));
        let (a, b) = (
            fault(r#"invalid type: string "张三", expected u8 at line 1 column 7"#),
            fault(r#"invalid type: string "李四", expected u8 at line 1 column 9"#),
        );
        assert_eq!(a, b);
        assert!(
            !a.error.contains('张') && a.error.contains("expected u8"),
            "{}",
            a.error
        );
        assert_ne!(a.fingerprint, fault("missing field `at`").fingerprint);
    }
}
