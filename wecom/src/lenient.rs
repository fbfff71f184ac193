//! Reading JSON of a protocol whose vendors do not agree whether a number is a number.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

/// 2000-01-01 and 2200-01-01: what lies outside is no time of a message, and much of it no database could hold.
const TIMES: std::ops::Range<i64> = 946_684_800..7_258_118_400;
/// Bytes of an id; those of WeCom have some tens.
const MAX_ID: usize = 1_024;

/// The field as text: a string, or a number or boolean written out. Empty when absent, null or nested.
pub fn text(object: &Map<String, Value>, field: &str) -> String {
    match object.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(flag)) => flag.to_string(),
        _ => String::new(),
    }
}

/// The first of `fields` that is there and not empty, as text.
pub fn first_text(object: &Map<String, Value>, fields: &[&str]) -> String {
    fields
        .iter()
        .map(|field| text(object, field))
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

/// The field as an integer: a number, a string that is one, or a boolean.
pub fn integer(object: &Map<String, Value>, field: &str) -> Option<i64> {
    object.get(field).and_then(as_integer)
}

/// A number, a string that holds one, or a boolean as 0 or 1. Fractions are cut off; what does not fit is nothing.
pub fn as_integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64().filter(|float| float.abs() < 9.0e15)?;
            Some(float as i64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(flag) => Some(i64::from(*flag)),
        _ => None,
    }
}

/// The field as a time in whole seconds since the epoch; nothing where it lies outside of the years 2000 to 2199.
pub fn time(object: &Map<String, Value>, field: &str) -> Option<DateTime<Utc>> {
    let seconds = integer(object, field).filter(|seconds| TIMES.contains(seconds))?;
    DateTime::from_timestamp(seconds, 0)
}

/// The field as an id, empty when absent; `None` for a text that cannot be one: with control characters, or with
/// U+FFFD, which stands for what no text holds, so that different ids would look alike.
pub fn id(object: &Map<String, Value>, field: &str) -> Option<String> {
    let sane = |text: &String| text.len() <= MAX_ID && !text.chars().any(|c| c.is_control() || c == '\u{fffd}');
    Some(text(object, field)).filter(sane)
}

/// The field as a flag: a boolean, a number other than 0, or `"true"` or `"1"`.
pub fn flag(object: &Map<String, Value>, field: &str) -> bool {
    match object.get(field) {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::String(text)) => matches!(text.as_str(), "true" | "1"),
        Some(value) => as_integer(value).is_some_and(|number| number != 0),
        None => false,
    }
}

/// The field's items as texts; one bare text or number counts as a list of one.
pub fn texts(object: &Map<String, Value>, field: &str) -> Vec<String> {
    let one = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    match object.get(field) {
        Some(Value::Array(items)) => items.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}
