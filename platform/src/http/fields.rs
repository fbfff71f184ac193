//! Reads a parsed JSON body field by field. Everything that is wrong is listed, each error with its JSON Pointer.
//!
//! ```
//! use serde_json::json;
//! use weft_platform::http::read_object;
//!
//! struct Cancel {
//!     reason: String,
//!     tries: Option<i64>,
//! }
//!
//! let cancel = read_object(json!({"reason": "wrong person"}), |body| {
//!     let reason = body.required("reason", |node| node.text(1..=500));
//!     let tries = body.optional("tries", |node| node.integer(0..=9));
//!     Some(Cancel { reason: reason?, tries })
//! })
//! .unwrap();
//! assert_eq!((cancel.reason.as_str(), cancel.tries), ("wrong person", None));
//! ```
//!
//! A reader answers `None` exactly where it has recorded an error. So all fields are read first, into variables, and
//! only then put together with `?`: a request with three mistakes gets three errors.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::rc::Rc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use url::Url;
use uuid::Uuid;

use super::problem::FieldError;

/// Longest address that is taken.
pub const MAX_URL_LENGTH: usize = 2_048;

/// Reads a body that must be an object. What `read` did not ask for is unknown, and refused.
pub fn read_object<T>(body: Value, read: impl FnOnce(&mut Fields) -> Option<T>) -> Result<T, Vec<FieldError>> {
    let errors = Errors::default();
    let node = Node {
        value: body,
        pointer: String::new(),
        errors: Rc::clone(&errors),
    };
    let value = node.object(read);
    match (value, errors.take()) {
        (Some(value), errors) if errors.is_empty() => Ok(value),
        (_, errors) => Err(errors),
    }
}

/// What was found wrong so far, shared by all readers of one body.
type Errors = Rc<RefCell<Vec<FieldError>>>;

/// One value and where it stands.
pub struct Node {
    value: Value,
    pointer: String,
    errors: Errors,
}

/// The members of one object that were not read yet.
pub struct Fields {
    members: Map<String, Value>,
    pointer: String,
    errors: Errors,
}

impl Fields {
    /// A field that must be there; null counts as missing.
    pub fn required<T>(&mut self, name: &str, read: impl FnOnce(Node) -> Option<T>) -> Option<T> {
        match self.members.remove(name) {
            None | Some(Value::Null) => self.refuse(name, "missing", "is required"),
            Some(value) => read(self.node(name, value)),
        }
    }

    /// A field that may be absent or null.
    pub fn optional<T>(&mut self, name: &str, read: impl FnOnce(Node) -> Option<T>) -> Option<T> {
        match self.members.remove(name) {
            None | Some(Value::Null) => None,
            Some(value) => read(self.node(name, value)),
        }
    }

    /// A field of a change: absent (`None`), null (`Some(None)`: clear it), or the new value.
    #[allow(clippy::option_option, reason = "each of the three is meant")]
    pub fn change<T>(&mut self, name: &str, read: impl FnOnce(Node) -> Option<T>) -> Option<Option<T>> {
        match self.members.remove(name) {
            None => None,
            Some(Value::Null) => Some(None),
            Some(value) => read(self.node(name, value)).map(Some),
        }
    }

    /// A field of a change that may be absent but not null.
    pub fn replacement<T>(&mut self, name: &str, read: impl FnOnce(Node) -> Option<T>) -> Option<T> {
        self.members.remove(name).and_then(|value| read(self.node(name, value)))
    }

    /// Whether a field is there, null included, and was not read yet.
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Reports `name` as wrong.
    pub fn refuse<T>(&mut self, name: &str, code: &'static str, detail: impl Into<String>) -> Option<T> {
        let error = FieldError::new(child(&self.pointer, name), code, detail);
        self.errors.borrow_mut().push(error);
        None
    }

    fn node(&self, name: &str, value: Value) -> Node {
        Node {
            value,
            pointer: child(&self.pointer, name),
            errors: Rc::clone(&self.errors),
        }
    }
}

impl Node {
    /// Reports this value as wrong.
    pub fn refuse<T>(self, code: &'static str, detail: impl Into<String>) -> Option<T> {
        let error = FieldError::new(self.pointer, code, detail);
        self.errors.borrow_mut().push(error);
        None
    }

    /// The value as it came, for readers of their own.
    pub const fn value(&self) -> &Value {
        &self.value
    }

    pub fn into_value(self) -> Value {
        self.value
    }

    /// Any text without NUL and lone surrogates.
    fn take_text(&mut self) -> Result<String, (&'static str, &'static str)> {
        match self.value.take() {
            Value::String(text) if text.contains('\0') => {
                Err(("characters", "must hold neither NUL nor a lone surrogate"))
            }
            Value::String(text) => Ok(text),
            _ => Err(("type", "must be a string")),
        }
    }

    /// A text of so many characters that `check` takes.
    fn checked_text(
        mut self,
        length: RangeInclusive<usize>,
        check: impl FnOnce(&str) -> Result<(), (&'static str, String)>,
    ) -> Option<String> {
        let text = match self.take_text() {
            Ok(text) => text,
            Err((code, detail)) => return self.refuse(code, detail),
        };
        let count = text.chars().count();
        if count < *length.start() {
            return self.refuse("too_short", at_least(*length.start(), "characters"));
        }
        if count > *length.end() {
            let detail = format!("must have at most {} characters, has {count}", length.end());
            return self.refuse("too_long", detail);
        }
        match check(&text) {
            Ok(()) => Some(text),
            Err((code, detail)) => self.refuse(code, detail),
        }
    }

    /// A text of so many characters, kept as sent, but not only white space.
    pub fn text(self, length: RangeInclusive<usize>) -> Option<String> {
        self.checked_text(length, |text| {
            if text.is_empty() || text.chars().any(|c| !c.is_whitespace()) {
                Ok(())
            } else {
                Err(("blank", "must not be only white space".to_owned()))
            }
        })
    }

    /// A text of one line, such as a name, as [`Node::text`]: without control characters, which a terminal or a log would
    /// obey.
    pub fn line(self, length: RangeInclusive<usize>) -> Option<String> {
        if self
            .value
            .as_str()
            .is_some_and(|text| text.chars().any(char::is_control))
        {
            return self.refuse("characters", "must hold no control characters");
        }
        self.text(length)
    }

    /// A text that `is_valid` takes; `expected` says what it must be.
    pub fn format(self, expected: &str, is_valid: impl FnOnce(&str) -> bool) -> Option<String> {
        self.checked_text(0..=usize::MAX, |text| {
            if is_valid(text) {
                Ok(())
            } else {
                Err(("format", format!("must be {expected}")))
            }
        })
    }

    /// A text that stands for a value of another type; `expected` says which.
    pub fn parsed<T>(mut self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        match self.take_text() {
            Err((code, detail)) => self.refuse(code, detail),
            Ok(text) => match parse(&text) {
                Some(value) => Some(value),
                None => self.refuse("format", format!("must be {expected}")),
            },
        }
    }

    /// One of some words; `expected` lists them.
    pub fn word<T>(mut self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        match self.take_text() {
            Err((code, detail)) => self.refuse(code, detail),
            Ok(text) => match parse(&text) {
                Some(value) => Some(value),
                None => self.refuse("out_of_range", format!("must be one of {expected}")),
            },
        }
    }

    pub fn uuid(self) -> Option<Uuid> {
        self.parsed("a UUID", parse_uuid)
    }

    /// An RFC 3339 time.
    pub fn time(self) -> Option<DateTime<Utc>> {
        self.parsed(A_TIME, parse_time)
    }

    /// An RFC 3339 time that is not after `latest`; `limit` says so in words.
    pub fn time_until(mut self, latest: DateTime<Utc>, limit: &str) -> Option<DateTime<Utc>> {
        let text = match self.take_text() {
            Ok(text) => text,
            Err((code, detail)) => return self.refuse(code, detail),
        };
        match parse_time(&text) {
            None => self.refuse("format", format!("must be {A_TIME}")),
            Some(time) if time > latest => self.refuse("out_of_range", format!("must be {limit}")),
            time => time,
        }
    }

    /// An absolute http(s) address, kept as sent.
    pub fn url(self) -> Option<String> {
        self.checked_text(0..=MAX_URL_LENGTH, |text| {
            let visible = !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\');
            // A lenient parser would find a host without the slashes too; other readers of the address do not.
            let visible = visible && text.split_once(':').is_some_and(|(_, rest)| rest.starts_with("//"));
            let web = |url: Url| matches!(url.scheme(), "http" | "https") && url.has_host();
            if visible && Url::parse(text).is_ok_and(web) {
                Ok(())
            } else {
                Err(("format", "must be an absolute http or https address".to_owned()))
            }
        })
    }

    /// A whole number inside `range`.
    pub fn integer(self, range: RangeInclusive<i64>) -> Option<i64> {
        let number = match &self.value {
            Value::Number(number) if number.is_u64() || number.is_i64() => number.as_i64(),
            Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
                // `5.0` is a whole number too; what is too large for one is out of every range.
                number
                    .as_f64()
                    .map(|number| number as i64)
                    .filter(|number| range.contains(number))
            }
            _ => return self.refuse("type", "must be a whole number"),
        };
        match number {
            Some(number) if range.contains(&number) => Some(number),
            _ => self.refuse("out_of_range", format!("must be {} to {}", range.start(), range.end())),
        }
    }

    pub fn boolean(self) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(value),
            _ => self.refuse("type", "must be true or false"),
        }
    }

    /// An object, read by `read`; what it did not ask for is unknown.
    pub fn object<T>(mut self, read: impl FnOnce(&mut Fields) -> Option<T>) -> Option<T> {
        let Value::Object(members) = self.value.take() else {
            return self.refuse("type", "must be an object");
        };
        let mut fields = Fields {
            members,
            pointer: self.pointer,
            errors: self.errors,
        };
        let value = read(&mut fields);
        let unknown: Vec<String> = std::mem::take(&mut fields.members)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let is_complete = unknown.is_empty();
        for name in unknown {
            let _: Option<()> = fields.refuse(&name, "unknown", "is not a field of this request");
        }
        value.filter(|_| is_complete)
    }

    /// A list of so many items, each read by `read`.
    pub fn list<T>(mut self, length: RangeInclusive<usize>, mut read: impl FnMut(Node) -> Option<T>) -> Option<Vec<T>> {
        let Value::Array(items) = self.value.take() else {
            return self.refuse("type", "must be a list");
        };
        if items.len() < *length.start() {
            return self.refuse("too_few", at_least(*length.start(), "items"));
        }
        if items.len() > *length.end() {
            let detail = format!("must have at most {} items, has {}", length.end(), items.len());
            return self.refuse("too_many", detail);
        }
        let mut list = Vec::with_capacity(items.len());
        let count = items.len();
        for (index, value) in items.into_iter().enumerate() {
            let item = Node {
                value,
                pointer: child(&self.pointer, &index.to_string()),
                errors: Rc::clone(&self.errors),
            };
            list.extend(read(item));
        }
        (list.len() == count).then_some(list)
    }
}

pub(super) const A_TIME: &str = "an RFC 3339 time such as 2026-01-31T08:00:00Z";

pub(super) fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some(time.with_timezone(&Utc))
}

/// A UUID in its usual form, `8-4-4-4-12` digits; no braces, no `urn:`.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    Uuid::parse_str(text).ok().filter(|_| text.len() == 36)
}

fn at_least(count: usize, what: &str) -> String {
    match count {
        1 => "must not be empty".to_owned(),
        count => format!("must have at least {count} {what}"),
    }
}

/// RFC 6901.
fn child(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(body: Value, read: impl FnOnce(&mut Fields) -> Option<()>) -> Vec<(String, &'static str)> {
        read_object(body, read)
            .unwrap_err()
            .into_iter()
            .map(|error| (error.pointer, error.code))
            .collect()
    }

    /// What is wrong with one value, read by `read`.
    #[allow(clippy::needless_pass_by_value, reason = "callers write json!")]
    fn fault<T>(value: Value, read: impl FnOnce(Node) -> Option<T>) -> Option<&'static str> {
        let read = |body: &mut Fields| body.required("x", read);
        read_object(json!({ "x": value }), read)
            .err()
            .map(|errors| errors[0].code)
    }

    #[test]
    fn every_error_is_listed_with_its_pointer() {
        let body =
            json!({"name": 7, "when": "soon", "inner": {"a/b": "", "more": 1}, "list": [1, "x", 99], "extra": {}});
        let listed = errors(body, |body| {
            let name = body.required("name", |node| node.text(1..=10));
            let missing = body.required("missing", Node::boolean);
            let when = body.optional("when", Node::time);
            let inner = body.optional("inner", |node| {
                node.object(|inner| inner.required("a/b", |node| node.text(1..=5)))
            });
            let list = body.optional("list", |node| node.list(1..=3, |item| item.integer(0..=9)));
            let _ = (name?, missing?, when?, inner?, list?);
            Some(())
        });
        let expected = [
            ("/name", "type"),
            ("/missing", "missing"),
            ("/when", "format"),
            ("/inner/a~1b", "too_short"),
            ("/inner/more", "unknown"),
            ("/list/1", "type"),
            ("/list/2", "out_of_range"),
            ("/extra", "unknown"),
        ];
        assert_eq!(listed, expected.map(|(pointer, code)| (pointer.to_owned(), code)));
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_at_the_root() {
        assert_eq!(errors(json!([]), |_| Some(())), [(String::new(), "type")]);
    }

    #[test]
    fn a_wrong_optional_field_is_not_taken_for_an_absent_one() {
        let read = |body: &mut Fields| {
            let tries = body.optional("tries", |node| node.integer(0..=9));
            Some(tries)
        };
        assert!(read_object(json!({"tries": "3"}), read).is_err());
        assert_eq!(read_object(json!({"tries": null}), read), Ok(None));
        assert_eq!(read_object(json!({}), read), Ok(None));
    }

    #[test]
    fn a_change_tells_absent_from_null() {
        let read = |body: &mut Fields| Some(body.change("phone", |node| node.text(1..=20)));
        assert_eq!(read_object(json!({}), read), Ok(None));
        assert_eq!(read_object(json!({"phone": null}), read), Ok(Some(None)));
        assert_eq!(read_object(json!({"phone": "1"}), read), Ok(Some(Some("1".to_owned()))));
    }

    #[test]
    fn length_counts_characters_not_bytes() {
        assert_eq!(fault(json!("张三"), |node| node.text(1..=2)), None);
        assert_eq!(fault(json!("张三丰"), |node| node.text(1..=2)), Some("too_long"));
        assert_eq!(fault(json!(" \u{3000}\n"), |node| node.text(1..=9)), Some("blank"));
        assert_eq!(fault(json!(" a "), |node| node.text(1..=9)), None);
    }

    #[test]
    fn no_text_holds_nul() {
        assert_eq!(fault(json!("a\0"), |node| node.text(1..=9)), Some("characters"));
        for control in ["\0", "\u{1b}[2J", "a\r\nb", "\t", "\u{7f}", "\u{85}"] {
            assert_eq!(
                fault(json!(control), |node| node.line(1..=9)),
                Some("characters"),
                "{control:?}"
            );
        }
        assert_eq!(fault(json!("a\nb\tc"), |node| node.text(1..=9)), None);
        assert_eq!(fault(json!("华东 一号"), |node| node.line(1..=9)), None);
        assert_eq!(fault(json!(" "), |node| node.line(1..=9)), Some("blank"));
        assert_eq!(fault(json!(7), |node| node.line(1..=9)), Some("type"));
        assert_eq!(fault(json!("http://a/\0"), Node::url), Some("characters"));
        assert_eq!(fault(json!("\0"), Node::uuid), Some("characters"));
    }

    #[test]
    fn a_name_that_no_text_can_hold_is_shown_escaped() {
        let body = crate::http::parse_json(br#"{"\ud800": 1, "a\u0000": 2}"#).unwrap();
        let listed = errors(body, |_| Some(()));
        let expected = [(r"/\ud800", "unknown"), (r"/a\u0000", "unknown")];
        assert_eq!(listed, expected.map(|(pointer, code)| (pointer.to_owned(), code)));
    }

    #[test]
    fn addresses_are_absolute_and_of_the_web() {
        for good in ["http://a", "https://a.example:8443/x?y=z#f", "HTTPS://张.example/图"] {
            assert_eq!(fault(json!(good), Node::url), None, "{good}");
        }
        for bad in [
            "",
            "a",
            "/a",
            "ftp://a",
            "http:/",
            "http://",
            "javascript:x",
            "http://a b",
            " http://a",
        ] {
            assert_eq!(fault(json!(bad), Node::url), Some("format"), "{bad}");
        }
        let long = format!("http://a/{}", "x".repeat(MAX_URL_LENGTH));
        assert_eq!(fault(json!(long), Node::url), Some("too_long"));
    }

    #[test]
    fn whole_numbers_are_whole_and_in_range() {
        let code = |value| fault(value, |node| node.integer(1..=10));
        assert_eq!(code(json!(10)), None);
        assert_eq!(code(json!(5.0)), None);
        assert_eq!(code(json!(0)), Some("out_of_range"));
        assert_eq!(code(json!(u64::MAX)), Some("out_of_range"));
        assert_eq!(code(json!(1e300)), Some("out_of_range"));
        assert_eq!(code(json!(1.5)), Some("type"));
        assert_eq!(code(json!("1")), Some("type"));
        assert_eq!(code(json!(true)), Some("type"));
    }

    #[test]
    fn a_time_may_have_a_latest() {
        let latest = "2026-01-31T08:00:00Z".parse().unwrap();
        let code = |value| fault(value, |node| node.time_until(latest, "before February"));
        assert_eq!(code(json!("2026-01-31T16:00:00+08:00")), None);
        assert_eq!(code(json!("2026-01-31T08:00:00.001Z")), Some("out_of_range"));
        assert_eq!(code(json!("31.1.2026")), Some("format"));
        assert_eq!(code(json!(1_769_846_400)), Some("type"));
    }

    #[test]
    fn ids_come_in_one_form() {
        let id = "0193f1a2-0000-7000-8000-00000000000a";
        assert_eq!(fault(json!(id), Node::uuid), None);
        assert_eq!(fault(json!(format!("{{{id}}}")), Node::uuid), Some("format"));
        assert_eq!(fault(json!(id.replace('-', "")), Node::uuid), Some("format"));
    }
}
