//! What a caller must have seen: `Weft-Consistency` and `Prefer: handling=strict` on reads.

use std::collections::HashMap;
use std::sync::Mutex;

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use uuid::Uuid;
use weft_platform::http::{CONSISTENCY, CONSISTENCY_MET, ConsistencyToken, Problem, StreamMark, TokenMalformed};

/// The newest version of each stream that a request's rows have shown.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    versions: Mutex<HashMap<Uuid, i64>>,
}

impl Observed {
    pub(crate) fn note(&self, aggregate_id: Uuid, version: i64) {
        let mut versions = self.versions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = versions.entry(aggregate_id).or_insert(version);
        *known = version.max(*known);
    }

    fn shows(&self, mark: &StreamMark) -> bool {
        let versions = self.versions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Uuid::parse_str(&mark.aggregate_id)
            .ok()
            .and_then(|id| versions.get(&id))
            .is_some_and(|version| *version >= mark.version)
    }
}

/// A read's tokens and how strict the caller is about them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Consistency {
    marks: Option<Vec<StreamMark>>,
    strict: bool,
}

impl Consistency {
    /// 400 `consistency.token_malformed` for a text that is no token.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let malformed =
            |error: TokenMalformed| Problem::new(StatusCode::BAD_REQUEST, "consistency.token_malformed", error);
        let mut marks = None;
        for value in headers.get_all(CONSISTENCY) {
            let text = value.to_str().map_err(|_| malformed(TokenMalformed))?;
            for token in ConsistencyToken::decode_list(text).map_err(malformed)? {
                marks.get_or_insert_with(Vec::new).extend(token.marks);
            }
        }
        let strict = headers
            .get_all("prefer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split([',', ';']))
            .any(|preference| {
                preference.split_once('=').is_some_and(|(name, value)| {
                    name.trim().eq_ignore_ascii_case("handling")
                        && value.trim().trim_matches('"').eq_ignore_ascii_case("strict")
                })
            });
        Ok(Self { marks, strict })
    }

    /// Whether the rows read have shown everything that the tokens name; `None` without a token.
    pub(crate) fn met(&self, observed: &Observed) -> Option<bool> {
        let marks = self.marks.as_ref()?;
        Some(marks.iter().all(|mark| observed.shows(mark)))
    }

    /// Says on the answer whether the view had caught up, or refuses it for a strict caller. Only an answer that
    /// depends on the view can be behind: a found or an unknown resource.
    pub(crate) fn apply(&self, observed: &Observed, response: Response) -> Response {
        let Some(met) = self.met(observed) else {
            return response;
        };
        let depends = matches!(response.status(), StatusCode::OK | StatusCode::NOT_FOUND);
        let mut response = if depends && self.strict && !met {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "view.behind",
                "the view has not caught up with the consistency token: try again",
            )
            .with_retry_after(1)
            .into_response()
        } else {
            response
        };
        let value = HeaderValue::from_static(if met { "true" } else { "false" });
        response.headers_mut().insert(CONSISTENCY_MET, value);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    fn token(aggregate_id: Uuid, version: i64) -> String {
        let mark = StreamMark {
            topic: "weft.events.account".to_owned(),
            partition: 0,
            order: (1, 1),
            aggregate_id: aggregate_id.to_string(),
            version,
        };
        ConsistencyToken {
            log_id: Uuid::nil(),
            epoch: 1,
            marks: vec![mark],
        }
        .encode()
    }

    #[test]
    fn a_token_is_met_when_every_stream_it_names_was_shown() {
        let both = format!("{}, {}", token(A, 2), token(B, 1));
        let consistency = Consistency::read(&headers(&[(CONSISTENCY, both)])).unwrap();
        let observed = Observed::default();
        observed.note(A, 3);
        assert_eq!(consistency.met(&observed), Some(false));
        observed.note(B, 1);
        assert_eq!(consistency.met(&observed), Some(true));
        assert_eq!(Consistency::default().met(&observed), None);
    }

    #[test]
    fn a_malformed_token_is_refused() {
        let problem = Consistency::read(&headers(&[(CONSISTENCY, "rubbish".to_owned())])).unwrap_err();
        assert_eq!(problem.code, "consistency.token_malformed");
        assert_eq!(problem.status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn strict_callers_get_nothing_from_a_view_that_is_behind() {
        let consistency = Consistency::read(&headers(&[
            (CONSISTENCY, token(A, 2)),
            ("prefer", "wait=2, handling=strict".to_owned()),
        ]))
        .unwrap();
        let refused = consistency.apply(&Observed::default(), StatusCode::OK.into_response());
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()[CONSISTENCY_MET], "false");
        let wrong = consistency.apply(&Observed::default(), StatusCode::FORBIDDEN.into_response());
        assert_eq!(wrong.status(), StatusCode::FORBIDDEN);
    }
}
