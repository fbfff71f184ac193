//! One event of every kind, more where a field has forms that differ: the golden samples of `schemas/events/`.

use serde_json::Value;

use super::fixtures::{sealed, tenant};
use crate::Sealed;

mod account;
mod conversation;
mod message;
mod tenants;

pub(super) use account::of_account;
pub(super) use conversation::of_conversation_stream;
pub(super) use message::of_message;
pub(super) use tenants::of_tenant;

/// A golden sample's payload; `variant` is empty for an event's first.
pub(super) struct Sample {
    pub(super) variant: &'static str,
    pub(super) payload: Value,
}

fn samples<E: serde::Serialize>(events: Vec<(&'static str, E)>) -> Vec<Sample> {
    events
        .into_iter()
        .map(|(variant, event)| Sample {
            variant,
            payload: serde_json::to_value(event).unwrap(),
        })
        .collect()
}

fn of_conversation<T>(text: &str) -> Sealed<T> {
    let mut value: Sealed<T> = sealed("conversation:7f3c1d2e-9a4b-5c6d-8e7f-0123456789ab", text);
    value.key = format!("month:{}:2026-03", tenant(1));
    value
}
