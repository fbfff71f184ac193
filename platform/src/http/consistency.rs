//! Consistency tokens: what a caller must have seen of the log.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The header that carries one token or several, comma-separated.
pub const CONSISTENCY: &str = "weft-consistency";
/// The header that says whether a read had caught up.
pub const CONSISTENCY_MET: &str = "weft-consistency-met";

/// The last event of one stream (or the newest of several streams of one partition).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamMark {
    #[serde(rename = "t")]
    pub topic: String,
    #[serde(rename = "p")]
    pub partition: i32,
    /// Log order: transaction id and position.
    #[serde(rename = "o")]
    pub order: (i64, i64),
    #[serde(rename = "i")]
    pub aggregate_id: String,
    #[serde(rename = "v")]
    pub version: i64,
}

/// Log, epoch, and a mark per partition written. Opaque to callers: unpadded base64url of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyToken {
    #[serde(rename = "l")]
    pub log_id: Uuid,
    #[serde(rename = "e")]
    pub epoch: i16,
    #[serde(rename = "m")]
    pub marks: Vec<StreamMark>,
}

/// 400 `consistency.token_malformed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Weft-Consistency holds a text that is no token of ours: send it back exactly as it was received")]
pub struct TokenMalformed;

impl ConsistencyToken {
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    pub fn decode(text: &str) -> Result<Self, TokenMalformed> {
        let json = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| TokenMalformed)?;
        serde_json::from_slice(&json).map_err(|_| TokenMalformed)
    }

    /// All tokens of a header's value.
    pub fn decode_list(header: &str) -> Result<Vec<Self>, TokenMalformed> {
        header.split(',').map(Self::decode).collect()
    }
}
