//! `/api/v1/monitor`.

pub(super) mod account_metrics;
pub(super) mod health;
pub(super) mod message_stats;

use chrono::{DateTime, TimeDelta, Utc};
use weft_platform::http::QueryParams;

/// Without a `start_time`, the last day.
const USUAL_SPAN: TimeDelta = TimeDelta::days(1);

/// Takes `start_time` (inclusive) and `end_time` (exclusive; now by default).
fn span_of(params: &mut QueryParams, now: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    let start = params.time("start_time");
    let end = params.time("end_time").unwrap_or(now);
    let start = start.unwrap_or(end - USUAL_SPAN);
    if start > end {
        params.error("start_time", "out_of_range", "must not be after end_time");
    }
    (start, end)
}
