//! Events that are known to be readable, with what they do beside being there, as rows for COPY.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;
use weft_domain::message::{Message, MessageEvent};
use weft_domain::{LogAggregate, QuotaChange};
use weft_log_reader::typed::{self, Typed};

use super::ImportError;

/// A chunk is full with so many events, or so many bytes.
const EVENTS: usize = 5_000;
const BYTES: usize = 4 << 20;

/// Signature, flags, no header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// 2000-01-01, from which Postgres counts.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// An event as another log has recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastEvent {
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub sequence: i64,
    pub event_type: String,
    pub event_version: String,
    /// JSON.
    pub payload: String,
    /// JSON, texts by name.
    pub metadata: String,
    pub recorded_at: DateTime<Utc>,
}

/// What an event does to claims and counters.
#[derive(Debug)]
pub(super) enum Effect {
    None,
    /// That is told by the whole stream.
    OfStream,
    /// These counters move.
    Counts(Vec<QuotaChange>),
}

#[derive(Debug)]
pub(super) struct Checked {
    pub(super) line: u64,
    /// `<aggregate type>/<aggregate id>`
    pub(super) stream: String,
    pub(super) sequence: i64,
    pub(super) event_type: String,
    pub(super) event_version: String,
    pub(super) payload: String,
    pub(super) metadata: String,
    pub(super) tenant_id: Option<String>,
    pub(super) partition_key: Option<String>,
    pub(super) effect: Effect,
    /// Where its row ends.
    row_end: usize,
}

impl Checked {
    /// Aggregate type and id.
    pub(super) fn name(&self) -> (&str, &str) {
        self.stream.split_once('/').unwrap_or_default()
    }

    pub(super) fn refused(&self, what: String) -> ImportError {
        refused(self.line, &self.stream, self.sequence, what)
    }
}

pub(super) fn refused(line: u64, stream: &str, sequence: i64, what: String) -> ImportError {
    ImportError::Refused {
        line,
        event: format!("{stream}:{sequence}"),
        what,
    }
}

/// Events to be added at once.
#[derive(Debug)]
pub struct Chunk {
    pub(super) events: Vec<Checked>,
    /// All of them, as COPY takes them.
    pub(super) rows: Vec<u8>,
}

impl Chunk {
    fn new() -> Self {
        let mut rows = Vec::with_capacity(BYTES + BYTES / 2);
        rows.extend_from_slice(HEADER);
        Self {
            events: Vec::with_capacity(EVENTS),
            rows,
        }
    }

    /// The rows of the named events.
    pub(super) fn only(&self, events: &[usize]) -> Vec<u8> {
        let mut rows = HEADER.to_vec();
        for index in events {
            let begin = index
                .checked_sub(1)
                .map_or(HEADER.len(), |before| self.events[before].row_end);
            rows.extend_from_slice(&self.rows[begin..self.events[*index].row_end]);
        }
        rows.extend_from_slice(&TRAILER);
        rows
    }
}

/// Makes chunks of events.
#[derive(Debug)]
pub struct Chunker {
    epoch: i16,
    /// Since when something may count for a day that is not over.
    since: DateTime<Utc>,
    max_event_bytes: usize,
    chunk: Chunk,
}

impl Chunker {
    pub(super) fn new(epoch: i16, since: DateTime<Utc>, max_event_bytes: usize) -> Self {
        Self {
            epoch,
            since,
            max_event_bytes,
            chunk: Chunk::new(),
        }
    }

    /// Takes the next event; `line` is what it is called by where it is refused. Answers the chunk that is full with it.
    pub fn push(&mut self, line: u64, event: PastEvent) -> Result<Option<Chunk>, ImportError> {
        let stream = format!("{}/{}", event.aggregate_type, event.aggregate_id);
        let checked = self
            .check(&event)
            .map_err(|what| refused(line, &stream, event.sequence, what))?;
        let (tenant_id, partition_key, effect) = checked;
        row(&mut self.chunk.rows, &event, self.epoch);
        self.chunk.events.push(Checked {
            line,
            stream,
            sequence: event.sequence,
            event_type: event.event_type,
            event_version: event.event_version,
            payload: event.payload,
            metadata: event.metadata,
            tenant_id,
            partition_key,
            effect,
            row_end: self.chunk.rows.len(),
        });
        let full = self.chunk.events.len() >= EVENTS || self.chunk.rows.len() >= BYTES;
        Ok(if full { self.rest() } else { None })
    }

    /// What is in no chunk yet.
    pub fn rest(&mut self) -> Option<Chunk> {
        if self.chunk.events.is_empty() {
            return None;
        }
        let mut chunk = std::mem::replace(&mut self.chunk, Chunk::new());
        chunk.rows.extend_from_slice(&TRAILER);
        Some(chunk)
    }

    /// That the event can be read; its tenant and partition key, as it names them, and what it does.
    fn check(&self, event: &PastEvent) -> Result<(Option<String>, Option<String>, Effect), String> {
        if event.sequence < 1 {
            return Err("sequences begin with 1".to_owned());
        }
        if event.payload.len() > self.max_event_bytes {
            self.check_size(&event.payload)?;
        }
        let metadata: HashMap<String, String> = serde_json::from_str(&event.metadata)
            .map_err(|error| format!("its metadata is no map of texts: {error}"))?;
        let read = typed::read(
            &event.aggregate_type,
            &event.event_type,
            &event.event_version,
            event.payload.as_bytes(),
        )?;
        let effect = match &read {
            Typed::Account(_) | Typed::Tenant(_) => Effect::OfStream,
            Typed::Conversation(_) => Effect::None,
            // Most of what is imported: only what may count today is followed.
            Typed::Message(MessageEvent::MessageCancelled { .. }) => Effect::OfStream,
            Typed::Message(message) => {
                let mut changes = Message::default().quotas(std::slice::from_ref(message));
                changes.retain(|change| change.on.is_none_or(|on| on >= self.since));
                if changes.is_empty() {
                    Effect::None
                } else {
                    Effect::Counts(changes)
                }
            }
        };
        let named = |name: &str| metadata.get(name).cloned();
        Ok((named("tenant_id"), named("partition_key"), effect))
    }

    /// The limit is on JSON without spaces, which stored JSON has.
    fn check_size(&self, payload: &str) -> Result<(), String> {
        let value: Value = serde_json::from_str(payload).map_err(|error| error.to_string())?;
        if value.to_string().len() > self.max_event_bytes {
            return Err(format!("is larger than log.max_event_bytes, {}", self.max_event_bytes));
        }
        Ok(())
    }
}

fn row(rows: &mut Vec<u8>, event: &PastEvent, epoch: i16) {
    let micros = event.recorded_at.timestamp_micros() - POSTGRES_EPOCH_MICROS;
    rows.extend_from_slice(&9_i16.to_be_bytes());
    field(rows, &[event.aggregate_type.as_bytes()]);
    field(rows, &[event.aggregate_id.as_bytes()]);
    field(rows, &[&event.sequence.to_be_bytes()]);
    field(rows, &[event.event_type.as_bytes()]);
    field(rows, &[event.event_version.as_bytes()]);
    // jsonb: its format's version, then the text.
    field(rows, &[&[1], event.payload.as_bytes()]);
    field(rows, &[&[1], event.metadata.as_bytes()]);
    field(rows, &[&epoch.to_be_bytes()]);
    field(rows, &[&micros.to_be_bytes()]);
}

fn field(rows: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    rows.extend_from_slice(&(length as i32).to_be_bytes());
    for part in parts {
        rows.extend_from_slice(part);
    }
}
