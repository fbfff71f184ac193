//! How an operator names a place in the log.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use weft_domain::LogOrder;

use crate::Failure;

/// `start`, a log order or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Start,
    /// Without an epoch: the log's own.
    Order {
        epoch: Option<i16>,
        transaction_id: i64,
        position: i64,
    },
    Time(DateTime<Utc>),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let malformed = || {
            format!(
                "{text:?} is no place in the log: say start, a log order such as 77-9 or 2/77-9 (as ce_logorder and \
                 weft log show have it), or a time such as 2026-03-01T08:00:00Z"
            )
        };
        if text == "start" {
            return Ok(Self::Start);
        }
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::Time(time.to_utc()));
        }
        let (epoch, order) = match text.split_once('/') {
            Some((epoch, order)) => (Some(epoch.parse().map_err(|_| malformed())?), order),
            None => (None, text),
        };
        let order = LogOrder::parse(0, order).map_err(|_| malformed())?;
        Ok(Self::Order {
            epoch,
            transaction_id: order.transaction_id,
            position: order.position,
        })
    }
}

impl Place {
    /// The order that it names in the log of `pool`; `None` for a time.
    pub(crate) async fn order(self, pool: &PgPool) -> Result<Option<LogOrder>, Failure> {
        let Self::Order {
            epoch,
            transaction_id,
            position,
        } = self
        else {
            return Ok((self == Self::Start).then(LogOrder::default));
        };
        let epoch = match epoch {
            Some(epoch) => epoch,
            None => sqlx::query_scalar("select epoch from log_identity")
                .fetch_one(pool)
                .await
                .map_err(Failure::new)?,
        };
        Ok(Some(LogOrder {
            epoch,
            transaction_id,
            position,
        }))
    }
}

/// A log order as operators read and write it, with its epoch.
pub(crate) fn shown(order: LogOrder) -> String {
    format!("{}/{order}", order.epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_start_an_order_or_a_time() {
        assert_eq!("start".parse(), Ok(Place::Start));
        let order = |epoch| Place::Order {
            epoch,
            transaction_id: 77,
            position: 9,
        };
        assert_eq!("77-9".parse(), Ok(order(None)));
        assert_eq!("2/77-9".parse(), Ok(order(Some(2))));
        let time = "2026-03-01T00:00:00Z".parse().unwrap();
        assert_eq!("2026-03-01T08:00:00+08:00".parse(), Ok(Place::Time(time)));
        for wrong in ["", "end", "77", "x/77-9", "2026-03-01"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_is_read_again() {
        let order = LogOrder {
            epoch: 2,
            transaction_id: 77,
            position: 9,
        };
        let place = Place::Order {
            epoch: Some(2),
            transaction_id: 77,
            position: 9,
        };
        assert_eq!(shown(order).parse(), Ok(place));
    }
}
