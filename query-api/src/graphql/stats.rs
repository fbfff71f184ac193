//! `messageStats`.

use async_graphql::SimpleObject;

use super::enums::StatsInterval;
use super::error::QueryError;
use crate::facts::Bucket;
use crate::timestamp::Timestamp;

/// Buckets of one answer.
const MOST_BUCKETS: i64 = 2_000;

/// What became of the messages accepted in one hour or day.
#[derive(SimpleObject)]
pub(crate) struct MessageStatsBucket {
    /// The bucket's start.
    from: Timestamp,
    /// Accepted.
    total: u64,
    /// Of these: taken by WeCom, delivered ones among them.
    sent: u64,
    delivered: u64,
    /// Of these: read.
    read: u64,
    failed: u64,
    cancelled: u64,
}

impl From<Bucket> for MessageStatsBucket {
    fn from(bucket: Bucket) -> Self {
        Self {
            from: Timestamp(bucket.from),
            total: bucket.counts.total,
            sent: bucket.counts.sent,
            delivered: bucket.counts.delivered,
            read: bucket.counts.read,
            failed: bucket.counts.failed,
            cancelled: bucket.counts.cancelled,
        }
    }
}

impl StatsInterval {
    pub(crate) const fn seconds(self) -> i64 {
        match self {
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// `BAD_RANGE` for a span that ends before it starts, or has too many buckets.
    pub(crate) fn check(self, from: Timestamp, to: Timestamp) -> Result<(), QueryError> {
        if to.0 < from.0 {
            return Err(QueryError::BadRange("from must not be after to"));
        }
        if (to.0 - from.0).num_seconds() / self.seconds() > MOST_BUCKETS {
            return Err(QueryError::BadRange("a span has at most 2,000 buckets"));
        }
        Ok(())
    }
}
