//! The total order of the log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where an event stands in the log: exact inside a stream and respecting causality; not commit order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogOrder {
    pub epoch: i16,
    /// Postgres' 64-bit transaction id of the append.
    pub transaction_id: i64,
    pub position: i64,
}

/// As the Kafka header `ce_logorder` has it: `<transaction_id>-<position>`; the epoch travels beside it.
impl fmt::Display for LogOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.transaction_id, self.position)
    }
}

/// A text that is not `<transaction_id>-<position>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a log order is `<transaction_id>-<position>`")]
pub struct InvalidLogOrder;

impl LogOrder {
    /// Reads the header's text; the epoch comes from `ce_epoch`.
    pub fn parse(epoch: i16, text: &str) -> Result<Self, InvalidLogOrder> {
        let (transaction_id, position) = text.split_once('-').ok_or(InvalidLogOrder)?;
        Ok(Self {
            epoch,
            transaction_id: i64::from_str(transaction_id).map_err(|_| InvalidLogOrder)?,
            position: i64::from_str(position).map_err(|_| InvalidLogOrder)?,
        })
    }
}
