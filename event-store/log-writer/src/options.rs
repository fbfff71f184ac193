//! What a call brings and what it gets back.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_domain::{LogOrder, Metadata};
use weft_platform::http::ConsistencyToken;

use crate::Idempotency;

/// The version that a caller has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IfMatch {
    /// No condition: a conflict is decided again.
    #[default]
    None,
    /// The stream must exist (`*`).
    Any,
    Version(i64),
}

impl IfMatch {
    pub(crate) const fn holds(self, version: i64) -> bool {
        match self {
            Self::None => true,
            Self::Any => version > 0,
            Self::Version(wanted) => version == wanted,
        }
    }
}

/// What goes with a command.
#[derive(Clone, Debug)]
pub struct CallOptions {
    pub metadata: Metadata,
    pub if_match: IfMatch,
    pub idempotency: Option<Idempotency>,
}

impl CallOptions {
    /// No condition and no idempotency key.
    pub const fn new(metadata: Metadata) -> Self {
        Self {
            metadata,
            if_match: IfMatch::None,
            idempotency: None,
        }
    }
}

/// What became of one command.
#[derive(Clone, Debug)]
pub struct Committed<A: cqrs_es::Aggregate> {
    pub id: String,
    /// After the command's events.
    pub state: A,
    /// Sequence of the stream's last event.
    pub version: i64,
    /// What the command appended; empty when its outcome held already.
    pub events: Vec<A::Event>,
    /// Where the stream's last event stands in the log; `None` for a stream without events, and for events that are
    /// about to be appended (while an answer to store is computed).
    pub order: Option<LogOrder>,
    pub partition_key: String,
}

/// An answer as it is stored under an idempotency key and replayed: ids, status, version. Never personal data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredAnswer {
    pub status: u16,
    pub body: Value,
    /// The stream version that the `ETag` names.
    pub etag: Option<i64>,
}

/// The answer to a call, committed now or earlier.
#[derive(Clone, Debug)]
pub struct Answered {
    pub answer: StoredAnswer,
    pub token: ConsistencyToken,
    /// An earlier call with the same idempotency key committed it.
    pub replayed: bool,
}
