//! Binary COPY of events into a log: what peers do with rows that are ready, and how a benchmark fills a log.

use sqlx::PgPool;
use sqlx::postgres::PgPoolCopyExt;

use crate::Failure;

/// An event's row, without what the table adds.
#[derive(Clone, Debug)]
pub(crate) struct EventRow {
    pub(crate) aggregate_type: &'static str,
    pub(crate) aggregate_id: String,
    pub(crate) sequence: i64,
    pub(crate) event_type: String,
    pub(crate) event_version: String,
    pub(crate) payload: String,
    pub(crate) metadata: String,
}

const COPY: &str = "copy events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata)
    from stdin (format binary)";

/// Rows as COPY takes them: signature, flags, no header extension, tuples, trailer.
pub(crate) fn encode(rows: &[EventRow]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.len() * 1_024);
    bytes.extend_from_slice(b"PGCOPY\n\xff\r\n\0");
    bytes.extend_from_slice(&[0; 8]);
    for row in rows {
        bytes.extend_from_slice(&7_i16.to_be_bytes());
        field(&mut bytes, &[row.aggregate_type.as_bytes()]);
        field(&mut bytes, &[row.aggregate_id.as_bytes()]);
        field(&mut bytes, &[&row.sequence.to_be_bytes()]);
        field(&mut bytes, &[row.event_type.as_bytes()]);
        field(&mut bytes, &[row.event_version.as_bytes()]);
        // jsonb: its format's version, then the text.
        field(&mut bytes, &[&[1], row.payload.as_bytes()]);
        field(&mut bytes, &[&[1], row.metadata.as_bytes()]);
    }
    bytes.extend_from_slice(&(-1_i16).to_be_bytes());
    bytes
}

fn field(bytes: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    bytes.extend_from_slice(&(length as i32).to_be_bytes());
    for part in parts {
        bytes.extend_from_slice(part);
    }
}

/// One COPY, one transaction.
pub(crate) async fn copy(pool: &PgPool, bytes: Vec<u8>) -> Result<u64, Failure> {
    let mut copy = pool.copy_in_raw(COPY).await?;
    copy.send(bytes).await?;
    Ok(copy.finish().await?)
}
