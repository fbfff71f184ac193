//! Reads a query string strictly: every wrong, repeated or unknown parameter is reported, all at once.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::fields::{A_TIME, parse_time, parse_uuid};
use super::problem::{FieldError, Problem};

/// The parameters of one request. Take each known one, then [`finish`](Self::finish): what was not taken is unknown.
#[derive(Debug)]
pub struct QueryParams {
    pairs: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl QueryParams {
    /// Splits and decodes a raw query string (what stands after the `?`).
    pub fn parse(raw: Option<&str>) -> Self {
        let mut params = Self {
            pairs: Vec::new(),
            errors: Vec::new(),
        };
        for part in raw.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = decode(name).unwrap_or_else(|| name.to_owned());
            match decode(value) {
                Some(value) if value.contains('\0') => params.error(&name, "characters", "must not hold NUL"),
                Some(value) => params.pairs.push((name, value)),
                None => params.error(&name, "format", "is not percent-encoded UTF-8"),
            }
        }
        params
    }

    /// Reports a parameter as wrong.
    pub fn error(&mut self, name: &str, code: &'static str, detail: impl Into<String>) {
        self.errors.push(FieldError::new(format!("?{name}"), code, detail));
    }

    /// The text of `name`, if it was given; given twice is an error.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let mut found = None;
        let mut count = 0;
        self.pairs.retain_mut(|(key, value)| {
            if key != name {
                return true;
            }
            count += 1;
            found.get_or_insert_with(|| std::mem::take(value));
            false
        });
        if count > 1 {
            self.error(name, "repeated", "may be given once");
        }
        found
    }

    /// A parameter that `parse` reads; `expected` says what it may be.
    pub fn parsed<T>(
        &mut self,
        name: &str,
        code: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(&text);
        if value.is_none() {
            self.error(name, code, format!("must be {expected}"));
        }
        value
    }

    pub fn uuid(&mut self, name: &str) -> Option<Uuid> {
        self.parsed(name, "format", "a UUID", parse_uuid)
    }

    /// An RFC 3339 time. A `+` of an offset that was not percent-encoded arrives as a space, and is meant.
    pub fn time(&mut self, name: &str) -> Option<DateTime<Utc>> {
        self.parsed(name, "format", A_TIME, |text| parse_time(&text.replacen(' ', "+", 1)))
    }

    /// A whole number inside `range`.
    pub fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let text = self.text(name)?;
        match text.parse::<i64>() {
            Ok(number) if range.contains(&number) => Some(number),
            Ok(_) => {
                let detail = if *range.end() == i64::MAX {
                    format!("must be at least {}", range.start())
                } else {
                    format!("must be {} to {}", range.start(), range.end())
                };
                self.error(name, "out_of_range", detail);
                None
            }
            Err(_) => {
                self.error(name, "type", "must be a whole number");
                None
            }
        }
    }

    /// 422 with every error, unknown parameters among them.
    pub fn finish(mut self) -> Result<(), Problem> {
        let mut unknown: Vec<String> = std::mem::take(&mut self.pairs)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        unknown.dedup();
        for name in unknown {
            self.error(&name, "unknown", "is not a parameter of this route");
        }
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(Problem::invalid(self.errors))
        }
    }
}

/// `application/x-www-form-urlencoded` decoding that refuses what is not UTF-8 instead of replacing it.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors_of(result: Result<(), Problem>) -> Vec<(String, &'static str)> {
        result
            .unwrap_err()
            .errors
            .into_iter()
            .map(|error| (error.pointer, error.code))
            .collect()
    }

    #[test]
    fn every_wrong_parameter_is_listed() {
        let mut params = QueryParams::parse(Some("page=0&size=ten&account_id=7&from=yesterday&colour=red&q=a&q=b"));
        assert_eq!(params.integer("page", 1..=i64::MAX), None);
        assert_eq!(params.integer("size", 1..=100), None);
        assert_eq!(params.uuid("account_id"), None);
        assert_eq!(params.time("from"), None);
        assert_eq!(params.text("q").as_deref(), Some("a"));
        let listed = errors_of(params.finish());
        assert_eq!(
            listed,
            [
                ("?page".to_owned(), "out_of_range"),
                ("?size".to_owned(), "type"),
                ("?account_id".to_owned(), "format"),
                ("?from".to_owned(), "format"),
                ("?q".to_owned(), "repeated"),
                ("?colour".to_owned(), "unknown"),
            ]
        );
    }

    #[test]
    fn text_is_decoded_and_what_cannot_be_text_is_refused() {
        let mut params = QueryParams::parse(Some("q=%E5%BC%A0+%e4%b8%89&a=%00&b=%ff&c=%4&d%00=1"));
        assert_eq!(params.text("q").as_deref(), Some("张 三"));
        assert_eq!(
            errors_of(params.finish()),
            [
                ("?a".to_owned(), "characters"),
                ("?b".to_owned(), "format"),
                ("?c".to_owned(), "format"),
                (r"?d\u0000".to_owned(), "unknown"),
            ]
        );
    }

    #[test]
    fn a_plus_in_an_offset_needs_no_encoding() {
        let mut params = QueryParams::parse(Some("from=2026-01-31T08:00:00+08:00"));
        assert_eq!(params.time("from").unwrap().to_rfc3339(), "2026-01-31T00:00:00+00:00");
        assert!(params.finish().is_ok());
    }

    #[test]
    fn nothing_is_a_valid_query() {
        assert!(QueryParams::parse(None).finish().is_ok());
    }
}
