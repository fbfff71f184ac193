//! Takes a request's body: its media type, its size, its JSON.

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde_json::Value;

use super::json::parse_json;
use super::problem::Problem;

/// How much of a body that is too large is read, in multiples of what is allowed, so that its sender gets to read the
/// refusal instead of a reset connection.
const DRAINED: usize = 8;

/// The whole body, or 413 when it is larger than `limit`.
pub async fn read_body(headers: &HeaderMap, mut body: Body, limit: usize) -> Result<Bytes, Problem> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    // Who asks first has sent nothing yet.
    let waits_for_permission = headers.contains_key(header::EXPECT);
    if announced.is_some_and(|length| length > limit) && waits_for_permission {
        return Err(too_large(limit));
    }
    let mut bytes = BytesMut::with_capacity(announced.unwrap_or_default().min(limit));
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| malformed("the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        received += data.len();
        if received <= limit {
            bytes.extend_from_slice(&data);
        } else if received > limit.saturating_mul(DRAINED) {
            break;
        }
    }
    if received > limit {
        return Err(too_large(limit));
    }
    Ok(bytes.freeze())
}

/// The body's JSON. `None` for an empty body, which needs no media type.
pub fn json_body(headers: &HeaderMap, bytes: &[u8]) -> Result<Option<Value>, Problem> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if !is_json(headers) {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "request.media_type",
            "send JSON, uncompressed, with Content-Type: application/json",
        ));
    }
    parse_json(bytes).map(Some).map_err(malformed)
}

/// 400 `request.malformed`.
pub fn malformed(detail: impl ToString) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "request.malformed", detail)
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "request.too_large",
        format!("the body must have at most {limit} bytes"),
    )
}

/// `application/json` or a `+json` type, in UTF-8 and not compressed.
fn is_json(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let encoding = text(header::CONTENT_ENCODING).unwrap_or("identity");
    let Some(media_type) = text(header::CONTENT_TYPE).filter(|_| encoding.eq_ignore_ascii_case("identity")) else {
        return false;
    };
    let mut parts = media_type.split(';').map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next().unwrap_or_default();
    let is_json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    let other_charset = parts.any(|parameter| {
        let charset = parameter
            .strip_prefix("charset=")
            .map(|value| value.trim_matches('"').to_owned());
        charset.is_some_and(|charset| charset != "utf-8" && charset != "utf8")
    });
    is_json && !other_charset
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(media_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))])
    }

    fn status(media_type: &'static str, body: &[u8]) -> Option<u16> {
        json_body(&headers(media_type), body)
            .err()
            .map(|problem| problem.status.as_u16())
    }

    #[test]
    fn json_is_taken_under_its_media_types() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/merge-patch+json",
            "application/json;charset=\"utf-8\"",
        ] {
            assert_eq!(status(good, b"{}"), None, "{good}");
        }
        for bad in [
            "text/plain",
            "application/jsonp",
            "",
            "application/json; charset=gbk",
            "text/x+json",
        ] {
            assert_eq!(status(bad, b"{}"), Some(415), "{bad}");
        }
        assert_eq!(
            json_body(&HeaderMap::new(), b"{}").unwrap_err().code,
            "request.media_type"
        );
    }

    #[test]
    fn a_compressed_body_is_refused() {
        let mut headers = headers("application/json");
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert_eq!(json_body(&headers, b"{}").unwrap_err().code, "request.media_type");
    }

    #[test]
    fn an_empty_body_needs_no_media_type() {
        assert_eq!(json_body(&HeaderMap::new(), b""), Ok(None));
    }

    #[test]
    fn what_cannot_be_parsed_is_malformed() {
        assert_eq!(status("application/json", b"{"), Some(400));
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_and_one_at_the_limit_taken() {
        let no_headers = HeaderMap::new();
        let body = |bytes: usize| Body::from(vec![b' '; bytes]);
        assert_eq!(read_body(&no_headers, body(100), 100).await.unwrap().len(), 100);
        let refused = read_body(&no_headers, body(101), 100).await.unwrap_err();
        assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert!(read_body(&no_headers, body(100_000), 100).await.is_err());
    }
}
