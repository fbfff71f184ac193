//! What became of the messages accepted in each hour or day.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use clickhouse::Row;
use serde::Deserialize;
use uuid::Uuid;

use super::{Facts, milliseconds};
use crate::error::ReadError;

const HOUR: i64 = 3_600;

/// Of the messages accepted in a bucket, as they stand now: a delivered one was also sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) total: u64,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    pub(crate) read: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
}

/// One bucket, by its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub(crate) from: DateTime<Utc>,
    pub(crate) counts: Counts,
}

#[derive(Row, Deserialize)]
struct BucketRow {
    bucket: i64,
    total: u64,
    sent: u64,
    delivered: u64,
    read: u64,
    failed: u64,
    cancelled: u64,
}

impl Facts {
    /// Buckets of `seconds` (3,600 or 86,400) that cover `from` (inclusive) to `to` (exclusive), empty ones included.
    /// Only what was accepted inside the span is counted, so that a first or last bucket may be partly covered.
    pub(crate) async fn message_stats(
        &self,
        tenant_id: Uuid,
        account_id: Option<Uuid>,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        seconds: i64,
    ) -> Result<Vec<Bucket>, ReadError> {
        let starts = bucket_starts(from, to, seconds);
        if starts.is_empty() {
            return Ok(Vec::new());
        }
        let sql = statement(tenant_id, account_id, (from, to), seconds);
        let rows: Vec<BucketRow> = self.rows(&sql).await?;
        let mut counted: HashMap<i64, Counts> = rows
            .into_iter()
            .map(|row| {
                let counts = Counts {
                    total: row.total,
                    sent: row.sent,
                    delivered: row.delivered,
                    read: row.read,
                    failed: row.failed,
                    cancelled: row.cancelled,
                };
                (row.bucket, counts)
            })
            .collect();
        let buckets = starts.into_iter().map(|start| Bucket {
            from: DateTime::from_timestamp(start, 0).unwrap_or_default(),
            counts: counted.remove(&start).unwrap_or_default(),
        });
        Ok(buckets.collect())
    }
}

fn bucket_starts(from: DateTime<Utc>, to: DateTime<Utc>, seconds: i64) -> Vec<i64> {
    if from >= to {
        return Vec::new();
    }
    let first = from.timestamp().div_euclid(seconds) * seconds;
    (first..)
        .step_by(seconds.unsigned_abs() as usize)
        .take_while(|start| start * 1_000 < to.timestamp_millis())
        .collect()
}

/// Whole hours come from the hourly statistics; what the span covers of other hours is counted over the facts.
fn statement(
    tenant_id: Uuid,
    account_id: Option<Uuid>,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    seconds: i64,
) -> String {
    let (from, to) = (milliseconds(from), milliseconds(to));
    let hour_ms = HOUR * 1_000;
    let first_whole = from.div_euclid(hour_ms) * hour_ms + if from.rem_euclid(hour_ms) == 0 { 0 } else { hour_ms };
    let last_whole = to.div_euclid(hour_ms) * hour_ms;
    let account = account_id.map_or_else(String::new, |id| format!(" and account_id = '{id}'"));
    let scope = format!("tenant_id = '{tenant_id}'{account}");
    let mut parts = Vec::new();
    let mut edges = Vec::new();
    if first_whole < last_whole {
        parts.push(format!(
            "select intDiv(toInt64(toUnixTimestamp(hour)), {seconds}) * {seconds} as bucket, total, sent, \
               delivered, read, failed, cancelled from message_stats_hourly \
             where {scope} and hour >= toDateTime({}, 'UTC') and hour < toDateTime({}, 'UTC')",
            first_whole / 1_000,
            last_whole / 1_000,
        ));
        edges.extend([(from, first_whole), (last_whole, to)]);
    } else {
        edges.push((from, to));
    }
    for (start, end) in edges.into_iter().filter(|(start, end)| start < end) {
        parts.push(format!(
            "select intDiv(toInt64(toUnixTimestamp(accepted_at)), {seconds}) * {seconds} as bucket, \
               toUInt64(1) as total, toUInt64(sent_at is not null) as sent, \
               toUInt64(delivered_at is not null) as delivered, toUInt64(read_at is not null) as read, \
               toUInt64(status = 'failed') as failed, toUInt64(status = 'cancelled') as cancelled \
             from message_facts where {scope} and accepted_at >= fromUnixTimestamp64Milli({start}) \
               and accepted_at < fromUnixTimestamp64Milli({end})"
        ));
    }
    format!(
        "select bucket, sum(total) as total, sum(sent) as sent, sum(delivered) as delivered, sum(read) as read, \
           sum(failed) as failed, sum(cancelled) as cancelled from ({}) group by bucket",
        parts.join(" union all ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn buckets_cover_the_span_and_nothing_else() {
        let starts = |from, to, seconds| -> Vec<String> {
            bucket_starts(at(from), at(to), seconds)
                .into_iter()
                .map(|start| DateTime::from_timestamp(start, 0).unwrap().format("%d %H").to_string())
                .collect()
        };
        assert_eq!(
            starts("2026-01-31T22:30:00Z", "2026-02-01T01:00:00Z", HOUR),
            ["31 22", "31 23", "01 00"]
        );
        assert_eq!(
            starts("2026-01-31T22:30:00Z", "2026-02-01T00:00:00.001Z", 86_400),
            ["31 00", "01 00"]
        );
        assert!(starts("2026-01-31T22:30:00Z", "2026-01-31T22:30:00Z", HOUR).is_empty());
    }

    #[test]
    fn only_partly_covered_hours_are_counted_over_the_facts() {
        let tables = |from, to| {
            let sql = statement(Uuid::nil(), None, (at(from), at(to)), HOUR);
            (
                sql.matches("message_stats_hourly").count(),
                sql.matches("message_facts").count(),
            )
        };
        assert_eq!(tables("2026-01-31T22:00:00Z", "2026-02-01T01:00:00Z"), (1, 0));
        assert_eq!(tables("2026-01-31T22:30:00Z", "2026-02-01T01:00:00Z"), (1, 1));
        assert_eq!(tables("2026-01-31T22:30:00Z", "2026-02-01T01:00:01Z"), (1, 2));
        assert_eq!(tables("2026-01-31T22:10:00Z", "2026-01-31T22:20:00Z"), (0, 1));
        assert_eq!(tables("2026-01-31T22:10:00Z", "2026-01-31T23:20:00Z"), (0, 1));
    }
}
