//! A command's body: read strictly, every error listed.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use weft_platform::http::{Fields, Problem, json_body, malformed, read_body, read_object};

use crate::state::CommandState;

/// A request that is read from a JSON object.
pub(crate) trait RequestBody: Sized {
    /// No body at all stands for `{}`.
    const MAY_BE_EMPTY: bool = false;
    /// Takes the larger limit of batches.
    const IS_BATCH: bool = false;

    /// Answers `None` where it has recorded an error. `now` is when the request came.
    fn read(fields: &mut Fields, now: DateTime<Utc>) -> Option<Self>;
}

/// The request, and the bytes it came as (an idempotency key holds for these bytes alone).
#[derive(Debug)]
pub(crate) struct Body<T> {
    pub(crate) request: T,
    pub(crate) bytes: Bytes,
}

impl<T: RequestBody> FromRequest<CommandState> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &CommandState) -> Result<Self, Problem> {
        let http = &state.config.http;
        let limit = if T::IS_BATCH {
            http.max_batch_body_bytes
        } else {
            http.max_body_bytes
        };
        let (parts, body) = request.into_parts();
        let bytes = read_body(&parts.headers, body, limit).await?;
        let value = match json_body(&parts.headers, &bytes)? {
            Some(value) => value,
            None if T::MAY_BE_EMPTY => Value::Object(Map::new()),
            None => return Err(malformed("this route needs a JSON body")),
        };
        let now = state.clock.now();
        let request = read_object(value, |fields| T::read(fields, now)).map_err(Problem::invalid)?;
        Ok(Self { request, bytes })
    }
}

/// `{}` or no body.
#[derive(Debug)]
pub(crate) struct NoFields;

impl RequestBody for NoFields {
    const MAY_BE_EMPTY: bool = true;

    fn read(_: &mut Fields, _: DateTime<Utc>) -> Option<Self> {
        Some(Self)
    }
}
