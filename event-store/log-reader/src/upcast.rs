//! Old versions of events become the current one when they are read; what is stored never changes.

use std::borrow::Cow;

use serde_json::Value;

/// One step: the payload of `event_type` in version `from` becomes that of version `to`.
pub(crate) struct Upcaster {
    pub(crate) aggregate_type: &'static str,
    pub(crate) event_type: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) change: fn(&mut Value),
}

/// Every upcaster of the log, older versions first.
const UPCASTERS: &[Upcaster] = &[Upcaster {
    aggregate_type: "message",
    event_type: "MessageCancelled",
    from: "1",
    to: "2",
    // The cause was told by an error code, of which there was one.
    change: |payload| {
        if let Some(fields) = payload.as_object_mut() {
            let requested = fields.remove("error_code").is_none_or(|code| code.is_null());
            let cause = if requested { "requested" } else { "account_deleted" };
            fields.insert("cause".to_owned(), cause.into());
        }
    },
}];

/// Whether the log knows how to read `version` of an event only by changing it.
pub(crate) fn is_old(aggregate_type: &str, event_type: &str, version: &str) -> bool {
    UPCASTERS
        .iter()
        .any(|upcaster| upcaster.applies(aggregate_type, event_type, version))
}

/// Brings `payload` to the current version and answers that version.
pub(crate) fn upcast<'v>(
    aggregate_type: &str,
    event_type: &str,
    version: &'v str,
    payload: &mut Value,
) -> Cow<'v, str> {
    upcast_by(UPCASTERS, aggregate_type, event_type, version, payload)
}

fn upcast_by<'v>(
    upcasters: &[Upcaster],
    aggregate_type: &str,
    event_type: &str,
    version: &'v str,
    payload: &mut Value,
) -> Cow<'v, str> {
    let mut version = Cow::Borrowed(version);
    for upcaster in upcasters {
        if upcaster.applies(aggregate_type, event_type, &version) {
            (upcaster.change)(payload);
            version = Cow::Borrowed(upcaster.to);
        }
    }
    version
}

impl Upcaster {
    fn applies(&self, aggregate_type: &str, event_type: &str, version: &str) -> bool {
        self.aggregate_type == aggregate_type && self.event_type == event_type && self.from == version
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CHAIN: &[Upcaster] = &[
        Upcaster {
            aggregate_type: "account",
            event_type: "Named",
            from: "1",
            to: "2",
            change: |payload| {
                payload["name"] = payload["title"].take();
            },
        },
        Upcaster {
            aggregate_type: "account",
            event_type: "Named",
            from: "2",
            to: "3",
            change: |payload| {
                payload["language"] = json!("zh");
            },
        },
    ];

    #[test]
    fn a_cancelled_message_says_why() {
        for (code, cause) in [
            (json!(null), "requested"),
            (json!("account.deleted"), "account_deleted"),
        ] {
            let mut payload = json!({"type": "MessageCancelled", "error_code": code});
            assert_eq!(upcast("message", "MessageCancelled", "1", &mut payload), "2");
            assert_eq!(payload, json!({"type": "MessageCancelled", "cause": cause}));
        }
        assert!(is_old("message", "MessageCancelled", "1") && !is_old("message", "MessageCancelled", "2"));
    }

    #[test]
    fn an_old_event_passes_every_later_step() {
        let mut payload = json!({"title": "a"});
        assert_eq!(upcast_by(CHAIN, "account", "Named", "1", &mut payload), "3");
        assert_eq!((&payload["name"], &payload["language"]), (&json!("a"), &json!("zh")));
    }

    #[test]
    fn a_step_starts_at_its_own_version_and_leaves_others_alone() {
        let mut payload = json!({"name": "a"});
        assert_eq!(upcast_by(CHAIN, "account", "Named", "2", &mut payload), "3");
        let mut other = json!({"title": "a"});
        assert_eq!(upcast_by(CHAIN, "tenant", "Named", "1", &mut other), "1");
        assert_eq!(other, json!({"title": "a"}));
    }
}
