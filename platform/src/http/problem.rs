//! `application/problem+json` (RFC 9457) with a stable code.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::codes::title;

/// One thing wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON Pointer into the body, or `?name` for a query parameter. NUL and lone surrogates of a name are shown as
    /// their escapes.
    pub pointer: String,
    /// `missing`, `unknown`, `type`, `out_of_range`, `format`, …
    pub code: &'static str,
    pub detail: String,
}

impl FieldError {
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            // A lone surrogate was read as NUL and its escape.
            pointer: pointer.into().replace("\0\\ud", "\\ud").replace('\0', "\\u0000"),
            code,
            detail: detail.into(),
        }
    }
}

/// A refusal. `instance` is filled in by the request context's middleware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub status: StatusCode,
    pub code: &'static str,
    pub detail: String,
    pub errors: Vec<FieldError>,
    /// Seconds.
    pub retry_after: Option<u64>,
    /// Boxed, because few refusals have one.
    pub rate_limit: Option<Box<RateLimit>>,
}

/// A limit that is used up, for the headers `RateLimit` and `RateLimit-Policy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub policy: &'static str,
    pub limit: i64,
    /// Seconds; `None` for what does not come back with time.
    pub window: Option<u64>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    #[allow(
        clippy::needless_pass_by_value,
        reason = "callers hand over an error or a text and are done with it"
    )]
    pub fn new(status: StatusCode, code: &'static str, detail: impl ToString) -> Self {
        Self {
            status,
            code,
            detail: detail.to_string(),
            errors: Vec::new(),
            retry_after: None,
            rate_limit: None,
        }
    }

    /// 422 `request.invalid` with every error.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] if only.pointer.is_empty() => format!("the body {}", only.detail),
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("{} fields are wrong; see errors", several.len()),
        };
        Self {
            errors,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "request.invalid", detail)
        }
    }

    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    #[must_use]
    pub fn with_rate_limit(mut self, rate_limit: RateLimit) -> Self {
        self.rate_limit = Some(Box::new(rate_limit));
        self
    }

    /// 503 `log.unavailable`.
    pub fn log_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "log.unavailable",
            "the event log cannot be reached: try again, a POST with the same Idempotency-Key",
        )
        .with_retry_after(1)
    }

    /// 500 `internal`: a defect, whose cause was logged.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "an error of ours; it was logged under the request's id",
        )
    }

    /// The answer, naming the request it belongs to.
    pub fn respond(&self, request_id: Option<&str>) -> Response {
        let body = Body {
            r#type: format!("/problems/{}", self.code),
            title: title(self.code),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            instance: request_id.map(|id| format!("/requests/{id}")),
            errors: &self.errors,
        };
        let mut response = (self.status, Json(&body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(RateLimit { policy, limit, window }) = self.rate_limit.as_deref() {
            let with = |name: &str, seconds: Option<u64>| seconds.map_or_else(String::new, |s| format!(";{name}={s}"));
            let left = format!("\"{policy}\";r=0{}", with("t", self.retry_after));
            let policy = format!("\"{policy}\";q={limit}{}", with("w", *window));
            for (name, text) in [("ratelimit", left), ("ratelimit-policy", policy)] {
                if let Ok(value) = HeaderValue::from_str(&text) {
                    headers.insert(HeaderName::from_static(name), value);
                }
            }
        }
        response
    }
}

/// Left in the response's extensions, so that the middleware can name the request in the body.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.respond(None);
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_with_the_whole_body_names_the_body() {
        let error =
            |pointer: &str| Problem::invalid(vec![FieldError::new(pointer.to_owned(), "type", "must be an object")]);
        assert_eq!(error("").detail, "the body must be an object");
        assert_eq!(error("/content").detail, "/content: must be an object");
    }
}
