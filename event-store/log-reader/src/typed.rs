//! Payload bytes to typed events: upcast, then decoded. Tells an event that this program does not know (a newer one
//! wrote it) from one that it knows and cannot decode.

use cqrs_es::{Aggregate, DomainEvent};
use serde_json::Value;
use weft_domain::account::{Account, AccountEvent};
use weft_domain::conversation::{Conversation, ConversationEvent};
use weft_domain::message::{Message, MessageEvent};
use weft_domain::tenant::{Tenant, TenantEvent};

use crate::upcast::{is_old, upcast};

/// Why a payload is no typed event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a newer program: stop and be upgraded, do not park.
    #[error("the {aggregate} event {event_type} in version {version} is not known to this program")]
    UnknownEvent {
        aggregate: &'static str,
        event_type: String,
        version: String,
    },
    /// A known event whose payload has another shape: will never decode.
    #[error("the {aggregate} event {event_type} v{version} does not decode: {reason}")]
    Undecodable {
        aggregate: &'static str,
        event_type: String,
        version: String,
        reason: String,
    },
}

pub fn decode_account(event_type: &str, version: &str, payload: &[u8]) -> Result<AccountEvent, DecodeError> {
    decode::<Account>(event_type, version, payload)
}

pub fn decode_message(event_type: &str, version: &str, payload: &[u8]) -> Result<MessageEvent, DecodeError> {
    decode::<Message>(event_type, version, payload)
}

pub fn decode_conversation(event_type: &str, version: &str, payload: &[u8]) -> Result<ConversationEvent, DecodeError> {
    decode::<Conversation>(event_type, version, payload)
}

pub fn decode_tenant(event_type: &str, version: &str, payload: &[u8]) -> Result<TenantEvent, DecodeError> {
    decode::<Tenant>(event_type, version, payload)
}

/// Decodes an event of aggregate `A`.
pub fn decode<A: Aggregate>(event_type: &str, version: &str, payload: &[u8]) -> Result<A::Event, DecodeError> {
    let undecodable = |version: &str, error: &serde_json::Error| DecodeError::Undecodable {
        aggregate: A::TYPE,
        event_type: event_type.to_owned(),
        version: version.to_owned(),
        reason: error.to_string(),
    };
    if !is_old(A::TYPE, event_type, version) {
        require_known::<A>(event_type, version)?;
        return serde_json::from_slice(payload).map_err(|error| undecodable(version, &error));
    }
    let mut value: Value = serde_json::from_slice(payload).map_err(|error| undecodable(version, &error))?;
    let current = upcast(A::TYPE, event_type, version, &mut value);
    require_known::<A>(event_type, &current)?;
    serde_json::from_value(value).map_err(|error| undecodable(&current, &error))
}

/// An event of any aggregate, in its current version.
#[derive(Clone, Debug, PartialEq)]
pub enum Typed {
    Account(AccountEvent),
    Message(MessageEvent),
    Conversation(ConversationEvent),
    Tenant(TenantEvent),
}

/// Reads an event of any aggregate; it has to be what it is stored as.
pub fn read(aggregate_type: &str, event_type: &str, version: &str, payload: &[u8]) -> Result<Typed, String> {
    match aggregate_type {
        Account::TYPE => read_as::<Account>(event_type, version, payload).map(Typed::Account),
        Message::TYPE => read_as::<Message>(event_type, version, payload).map(Typed::Message),
        Conversation::TYPE => read_as::<Conversation>(event_type, version, payload).map(Typed::Conversation),
        Tenant::TYPE => read_as::<Tenant>(event_type, version, payload).map(Typed::Tenant),
        other => Err(format!("this program knows no aggregate {other}")),
    }
}

/// As `read`; answers whether the event had to be upcast.
pub fn check(aggregate_type: &str, event_type: &str, version: &str, payload: &[u8]) -> Result<bool, String> {
    read(aggregate_type, event_type, version, payload)?;
    Ok(is_old(aggregate_type, event_type, version))
}

fn read_as<A: Aggregate>(event_type: &str, version: &str, payload: &[u8]) -> Result<A::Event, String> {
    let event = decode::<A>(event_type, version, payload).map_err(|error| error.to_string())?;
    let read_as = event.event_type();
    if read_as == event_type {
        Ok(event)
    } else {
        Err(format!("is stored as {event_type}, but its payload is a {read_as}"))
    }
}

fn require_known<A: Aggregate>(event_type: &str, version: &str) -> Result<(), DecodeError> {
    let is_this = |known: &(&str, &str)| *known == (event_type, version);
    if versions(A::TYPE).is_none_or(|versions| versions.iter().any(is_this)) {
        return Ok(());
    }
    Err(DecodeError::UnknownEvent {
        aggregate: A::TYPE,
        event_type: event_type.to_owned(),
        version: version.to_owned(),
    })
}

/// Names and current versions of an aggregate's events; `None` for an aggregate that is not ours.
fn versions(aggregate_type: &str) -> Option<&'static [(&'static str, &'static str)]> {
    Some(match aggregate_type {
        "account" => AccountEvent::VERSIONS,
        "message" => MessageEvent::VERSIONS,
        "conversation" => ConversationEvent::VERSIONS,
        "tenant" => TenantEvent::VERSIONS,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGGED_OUT: &[u8] = br#"{"type":"LoggedOut","at":"2026-01-01T00:00:00Z"}"#;

    #[test]
    fn a_known_event_decodes() {
        assert!(matches!(
            decode_account("LoggedOut", "1", LOGGED_OUT),
            Ok(AccountEvent::LoggedOut { .. })
        ));
    }

    #[test]
    fn an_unknown_name_or_version_is_told_from_a_broken_payload() {
        let unknown = |result: Result<AccountEvent, _>| matches!(result, Err(DecodeError::UnknownEvent { .. }));
        assert!(unknown(decode_account("Teleported", "1", b"{}")));
        assert!(unknown(decode_account("LoggedOut", "2", LOGGED_OUT)));
        let broken = decode_account("LoggedOut", "1", br#"{"type":"LoggedOut"}"#);
        assert!(matches!(broken, Err(DecodeError::Undecodable { .. })));
    }
}
