//! The answer to a command, with the headers that go with it.

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use weft_log_writer::{Answered, StoredAnswer};
use weft_platform::http::{CONSISTENCY, ConsistencyToken};

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An accepted change.
#[derive(Debug)]
pub(crate) struct Reply {
    answer: StoredAnswer,
    token: ConsistencyToken,
    replayed: bool,
    location: Option<String>,
}

impl Reply {
    pub(crate) fn new(answer: StoredAnswer, token: ConsistencyToken) -> Self {
        Self {
            answer,
            token,
            replayed: false,
            location: None,
        }
    }

    /// Adds `Location`: `base` and the id that the answer's `field` holds.
    pub(crate) fn located(mut self, base: &str, field: &str) -> Self {
        self.location = self.answer.body[field].as_str().map(|id| format!("{base}/{id}"));
        self
    }
}

impl From<Answered> for Reply {
    fn from(answered: Answered) -> Self {
        Self {
            replayed: answered.replayed,
            ..Self::new(answered.answer, answered.token)
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.answer.body)).into_response();
        let headers = response.headers_mut();
        let mut set = |name: HeaderName, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        };
        set(HeaderName::from_static(CONSISTENCY), &self.token.encode());
        if let Some(version) = self.answer.etag {
            set(header::ETAG, &format!("\"{version}\""));
        }
        if let Some(location) = &self.location {
            set(header::LOCATION, location);
        }
        if self.replayed {
            set(REPLAYED, "true");
        }
        response
    }
}
