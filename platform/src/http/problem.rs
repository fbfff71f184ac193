//! `application/problem+json` (RFC 9457) with a stable code.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// One thing wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON Pointer into the body, or `?name` for a query parameter.
    pub pointer: String,
    /// `missing`, `unknown`, `type`, `out_of_range`, `format`, …
    pub code: &'static str,
    pub detail: String,
}

impl FieldError {
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
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
    pub fn new(status: StatusCode, code: &'static str, detail: impl ToString) -> Self {
        Self {
            status,
            code,
            detail: detail.to_string(),
            errors: Vec::new(),
            retry_after: None,
        }
    }

    /// 422 `request.invalid` with every error.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => format!("{}: {}", only.pointer, only.detail),
            several => format!("{} fields are wrong; see errors", several.len()),
        };
        Self {
            errors,
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "request.invalid", detail)
        }
    }

    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// 503 `log.unavailable`.
    pub fn log_unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "log.unavailable",
            "the event log cannot be reached; nothing was changed: try again",
        )
        .with_retry_after(1)
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

/// What a code says in general; the page `/problems/<code>` shows it.
pub fn title(code: &str) -> &'static str {
    match code {
        "request.malformed" => "The request cannot be parsed",
        "request.invalid" => "The request is well-formed but wrong",
        "request.too_large" => "The request or the event is too large",
        "request.media_type" => "The media type is not supported",
        "request.timeout" => "The request took too long",
        "auth.required" => "A bearer token is required",
        "auth.invalid" => "The bearer token is not valid",
        "permission.denied" => "The permission is missing",
        "tenant.mismatch" => "The tenant is not the token's",
        "route.not_found" => "There is no such route",
        "route.method" => "The route does not take this method",
        "account.not_found" => "There is no such account",
        "account.name_taken" => "Another account of the tenant has this name",
        "account.wrong_status" => "The account's status does not allow this",
        "account.no_qrcode" => "No login code is valid now",
        "account.login_attempt_over" => "The login attempt is over",
        "message.not_found" => "There is no such message",
        "message.wrong_status" => "The message's status does not allow this",
        "callback.not_found" => "There is no such callback address",
        "quota.exceeded" => "A limit is used up",
        "version.mismatch" => "The resource has changed",
        "idempotency.key_malformed" => "The idempotency key is malformed",
        "idempotency.key_reused" => "The idempotency key was used for another body",
        "idempotency.in_progress" => "The first request with this key is still running",
        "consistency.token_malformed" => "The consistency token is malformed",
        "view.behind" => "The view has not caught up",
        "log.unavailable" => "The event log cannot be reached",
        "log.contended" => "The resource is changing too fast",
        "view.unavailable" => "The view cannot be read",
        "internal" => "An error of ours",
        _ => "Problem",
    }
}
