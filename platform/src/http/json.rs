//! Parses a request's JSON strictly.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why bytes are no JSON that we take: 400 `request.malformed`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is no valid JSON: {0}")]
pub struct MalformedJson(String);

/// Parses one JSON text. Refuses what `serde_json` would let pass: an object that names a key twice.
///
/// A lone surrogate, which no text can hold, is well-formed JSON. It is read as NUL, which no field takes either, and
/// its escape in plain: so the field that holds it is refused by name instead of the whole body.
pub fn parse_json(bytes: &[u8]) -> Result<Value, MalformedJson> {
    let bytes = rewritten(bytes, |unit| {
        is_surrogate(unit).then(|| format!("\\u0000\\\\u{unit:04x}"))
    });
    match serde_json::from_slice::<Strict>(&bytes) {
        Ok(Strict(value)) => Ok(value),
        Err(error) => Err(MalformedJson(error.to_string())),
    }
}

/// A JSON text as it is, but for what no text of ours can hold: each escape of a NUL or of a lone surrogate (half of an
/// emoji that somebody cut) is that of U+FFFD. For senders whose words must not be refused.
pub fn with_replacement_characters(bytes: &[u8]) -> Cow<'_, [u8]> {
    rewritten(bytes, |unit| {
        (unit == 0 || is_surrogate(unit)).then(|| "\\ufffd".to_owned())
    })
}

/// Puts `instead` of each `\uXXXX` that is not one of a pair where that answers something. Backslashes only stand in
/// strings, or in what no parser takes.
fn rewritten(bytes: &[u8], instead: impl Fn(u16) -> Option<String>) -> Cow<'_, [u8]> {
    let mut written = Vec::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(found) = bytes[at..].iter().position(|byte| *byte == b'\\') {
        at += found;
        at += match escaped_unit(bytes, at) {
            Some(0xd800..=0xdbff) if matches!(escaped_unit(bytes, at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(unit) => {
                if let Some(text) = instead(unit) {
                    written.extend_from_slice(&bytes[copied..at]);
                    written.extend_from_slice(text.as_bytes());
                    copied = at + 6;
                }
                6
            }
            // The escaped character may be a backslash itself.
            None => 2.min(bytes.len() - at),
        };
    }
    if copied == 0 {
        return Cow::Borrowed(bytes);
    }
    written.extend_from_slice(&bytes[copied..]);
    Cow::Owned(written)
}

const fn is_surrogate(unit: u16) -> bool {
    matches!(unit, 0xd800..=0xdfff)
}

/// The UTF-16 unit of a `\uXXXX` at `at`.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    let valid = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u16::from_str_radix(digits, 16).ok().filter(|_| valid)
}

/// A value whose objects name each key once.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Strict;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Strict, E> {
        Ok(Strict(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
        Ok(Strict(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
        Ok(Strict(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
        Ok(Strict(Value::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
        Ok(Strict(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
        Ok(Strict(Value::String(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Strict, E> {
        Ok(Strict(Value::String(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Strict(Value::Array(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Strict, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let Strict(value) = entries.next_value()?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} is given twice")));
            }
            object.insert(key, value);
        }
        Ok(Strict(Value::Object(object)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> Value {
        parse_json(text.as_bytes()).unwrap()
    }

    #[test]
    fn every_kind_of_value_is_read() {
        assert_eq!(
            parsed(r#" {"a":[null,true,-1,18446744073709551615,1.5,"x"],"b":{}} "#),
            json!({"a": [null, true, -1, u64::MAX, 1.5, "x"], "b": {}})
        );
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = "[".repeat(1_000);
        for text in [
            "",
            " ",
            "{",
            "{'a':1}",
            "{\"a\":1,}",
            "nul",
            "{} {}",
            "\u{feff}{}",
            "\"\t\"",
            "\\ud800",
            "\\",
            &deep,
        ] {
            assert!(parse_json(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse_json(b"\"\xff\"").is_err());
    }

    #[test]
    fn a_key_given_twice_is_refused_at_any_depth() {
        let error = parse_json(br#"{"a":[{"b":1,"b":2}]}"#).unwrap_err().to_string();
        assert!(error.contains("\"b\" is given twice"), "{error}");
        // The same key, written otherwise.
        assert!(parse_json(br#"{"b":1,"\u0062":2}"#).is_err());
    }

    #[test]
    fn lone_surrogates_are_read_as_nul_and_their_escape_and_pairs_as_their_character() {
        assert_eq!(parsed(r#""\ud800""#), json!("\0\\ud800"));
        assert_eq!(
            parsed(r#""\uDC00\uD83D\uDE00\ud83dx\ud83d\n""#),
            json!("\0\\udc00\u{1f600}\0\\ud83dx\0\\ud83d\n")
        );
        assert_eq!(parsed(r#""\\ud800""#), json!("\\ud800"));
        assert_eq!(parsed(r#""\ud800\\udc00""#), json!("\0\\ud800\\udc00"));
        assert_eq!(parsed(r#""\ud83d\ud83d\ude00""#), json!("\0\\ud83d\u{1f600}"));
        // Two of them are two keys.
        assert_eq!(parsed(r#"{"\ud800":1,"\ud801":2}"#).as_object().unwrap().len(), 2);
    }

    #[test]
    fn what_no_text_can_hold_is_replaced_for_whom_must_not_be_refused() {
        let replaced =
            |text: &str| String::from_utf8(with_replacement_characters(text.as_bytes()).into_owned()).unwrap();
        assert_eq!(
            replaced(r#"{"a":"\ud83d\ude00 \ud83d\u0000\\ud800\u0041"}"#),
            r#"{"a":"\ud83d\ude00 \ufffd\ufffd\\ud800\u0041"}"#
        );
        assert_eq!(replaced("\\"), "\\");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::hash_map(any::<String>(), inner, 0..5)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn valid_json_is_read_as_it_was_written(value in any_json()) {
            prop_assert_eq!(parse_json(value.to_string().as_bytes()).unwrap(), value);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>(), text in "[\\\\ud8c0\"{}:,]{0,40}") {
            let _ = parse_json(&bytes);
            let _ = parse_json(text.as_bytes());
            let _ = with_replacement_characters(&bytes);
        }
    }
}
