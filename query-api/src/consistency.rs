//! Read your writes: `Weft-Consistency`, `Prefer: wait=N, handling=strict` on reads.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use uuid::Uuid;
use weft_domain::LogOrder;
use weft_platform::config::KafkaSection;
use weft_platform::http::{CONSISTENCY, CONSISTENCY_MET, ConsistencyToken, Problem, TokenMalformed};

use crate::error::ReadError;
use crate::session::Session;
use crate::views::View;
use crate::watcher::Watcher;

/// Longest wait for a view.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The last event of a stream that a caller must be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    log_id: Uuid,
    topic: String,
    partition: i32,
    order: LogOrder,
    aggregate_id: Uuid,
}

/// A mark, for one of the projections that a request reads and that consume its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Awaited {
    pub(crate) projection: &'static str,
    pub(crate) log_id: Uuid,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) order: LogOrder,
    pub(crate) aggregate_type: &'static str,
    pub(crate) aggregate_id: Uuid,
}

/// Whether a view shows what is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Met,
    Behind,
    /// Waiting does not help: the stream is parked, or the token is of another log.
    Never,
}

/// A read's tokens, and how patient and strict the caller is about them.
#[derive(Clone, Debug)]
pub(crate) struct Consistency {
    marks: Option<Vec<Mark>>,
    strict: bool,
    patience: Duration,
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
                let read = marks_of(&token).ok_or_else(|| malformed(TokenMalformed))?;
                marks.get_or_insert_with(Vec::new).extend(read);
            }
        }
        let mut consistency = Self {
            marks,
            strict: false,
            patience: LONGEST_WAIT,
        };
        let preferences = headers
            .get_all("prefer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split([',', ';']))
            .filter_map(|preference| preference.split_once('='));
        for (name, value) in preferences {
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("handling") {
                consistency.strict |= value.eq_ignore_ascii_case("strict");
            } else if name.eq_ignore_ascii_case("wait")
                && let Ok(seconds) = value.parse()
            {
                consistency.patience = Duration::from_secs(seconds).min(LONGEST_WAIT);
            }
        }
        Ok(consistency)
    }

    /// Waits until `views` show everything that the tokens name, at most as long as the caller wants to. Leaves the
    /// session in the transaction that was found to show it, or the last one that was looked at. `None` without a token.
    pub(crate) async fn wait(
        &self,
        session: &Session,
        views: &[View],
        kafka: &KafkaSection,
        watcher: &Watcher,
    ) -> Result<Option<bool>, ReadError> {
        let Some(awaited) = self.awaited(views, kafka) else {
            return Ok(None);
        };
        if awaited.is_empty() {
            return Ok(Some(true));
        }
        let deadline = Instant::now() + self.patience;
        // Before the look, so that nothing moves unnoticed between.
        let mut waiting = watcher.wait();
        let mut facts_seen = None;
        loop {
            match session.shows(&awaited).await? {
                Standing::Met
                    if !views.contains(&View::MessageStats) || session.shows_statistics(&mut facts_seen).await? =>
                {
                    return Ok(Some(true));
                }
                Standing::Met if Instant::now() >= deadline => return Ok(Some(false)),
                Standing::Met => session.release().await,
                Standing::Never => return Ok(Some(false)),
                Standing::Behind if Instant::now() >= deadline => return Ok(Some(false)),
                Standing::Behind => session.release().await,
            }
            // The last word is the connection's that serves the query.
            let _ = tokio::time::timeout_at(deadline, waiting.until_reached(&awaited)).await;
        }
    }

    /// What to wait for of `views`; `None` without a token.
    fn awaited(&self, views: &[View], kafka: &KafkaSection) -> Option<Vec<Awaited>> {
        let marks = self.marks.as_ref()?;
        let awaited = marks.iter().flat_map(|mark| {
            let aggregate = kafka.aggregate_of(&mark.topic).unwrap_or_default();
            views.iter().filter_map(move |view| {
                let aggregate_type = view.aggregates().iter().find(|consumed| **consumed == aggregate)?;
                Some(Awaited {
                    projection: view.projection(),
                    log_id: mark.log_id,
                    topic: mark.topic.clone(),
                    partition: mark.partition,
                    order: mark.order,
                    aggregate_type,
                    aggregate_id: mark.aggregate_id,
                })
            })
        });
        Some(awaited.collect())
    }

    /// Says on the answer whether the views had caught up, or refuses it for a strict caller. Only an answer that
    /// depends on the view can be behind: a found or an unknown resource.
    pub(crate) fn apply(&self, met: Option<bool>, response: Response) -> Response {
        let Some(met) = met else {
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

/// `None` where a stream has no UUID.
fn marks_of(token: &ConsistencyToken) -> Option<Vec<Mark>> {
    let marks = token.marks.iter().map(|mark| {
        Some(Mark {
            log_id: token.log_id,
            topic: mark.topic.clone(),
            partition: mark.partition,
            order: LogOrder {
                epoch: token.epoch,
                transaction_id: mark.order.0,
                position: mark.order.1,
            },
            aggregate_id: mark.aggregate_id.parse().ok()?,
        })
    });
    marks.collect()
}

#[cfg(test)]
mod tests {
    use weft_platform::http::StreamMark;

    use super::*;

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn token(topic: &str, position: i64) -> String {
        let mark = StreamMark {
            topic: topic.to_owned(),
            partition: 2,
            order: (7, position),
            aggregate_id: Uuid::from_u128(1).to_string(),
            version: 3,
        };
        ConsistencyToken {
            log_id: Uuid::nil(),
            epoch: 1,
            marks: vec![mark],
        }
        .encode()
    }

    #[test]
    fn several_tokens_are_awaited_by_the_views_that_consume_their_topics() {
        let tokens = format!(
            "{}, {}",
            token("weft.events.account", 1),
            token("weft.events.message", 2)
        );
        let consistency = Consistency::read(&headers(&[(CONSISTENCY, tokens)])).unwrap();
        let awaited = |views: &[View]| -> Vec<(&'static str, i64)> {
            let awaited = consistency.awaited(views, &KafkaSection::default()).unwrap();
            awaited
                .iter()
                .map(|awaited| (awaited.projection, awaited.order.position))
                .collect()
        };
        assert_eq!(awaited(&[View::Accounts]), [("accounts", 1)]);
        assert_eq!(
            awaited(&[View::Accounts, View::Conversations]),
            [("accounts", 1), ("conversations", 2)]
        );
        assert_eq!(awaited(&[]), []);
    }

    #[test]
    fn a_malformed_token_is_refused() {
        let problem = Consistency::read(&headers(&[(CONSISTENCY, "rubbish".to_owned())])).unwrap_err();
        assert_eq!(problem.code, "consistency.token_malformed");
        assert_eq!(problem.status, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn callers_lower_the_wait_and_never_raise_it() {
        let patience = |prefer: &str| {
            Consistency::read(&headers(&[("prefer", prefer.to_owned())]))
                .unwrap()
                .patience
        };
        assert_eq!(patience("wait=1, handling=strict"), Duration::from_secs(1));
        assert_eq!(patience("wait=60"), LONGEST_WAIT);
        assert_eq!(patience("wait=soon"), LONGEST_WAIT);
    }

    #[test]
    fn strict_callers_get_nothing_from_a_view_that_is_behind() {
        let consistency = Consistency::read(&headers(&[("prefer", "wait=2, handling=strict".to_owned())])).unwrap();
        let refused = consistency.apply(Some(false), StatusCode::OK.into_response());
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()[CONSISTENCY_MET], "false");
        let wrong = consistency.apply(Some(false), StatusCode::FORBIDDEN.into_response());
        assert_eq!(wrong.status(), StatusCode::FORBIDDEN);
    }
}
