//! Everything a turn's messages need before the first attempt: their aggregates and their contents, in two round trips.

use weft_domain::message::{Message, MessageContent};
use weft_log_reader::{Loaded, load_many};
use weft_log_writer::seal::parts;
use weft_platform::keys::Opened;

use crate::context::Context;
use crate::error::WorkerError;
use crate::queue::QueuedMessage;

/// A message of the turn as the log has it.
pub(super) struct Prepared {
    pub(super) queued: QueuedMessage,
    pub(super) message: Message,
    pub(super) version: i64,
    pub(super) body: Body,
}

pub(super) enum Body {
    Open(Box<MessageContent>),
    /// Its key was destroyed, or it is no content: it will never be sent.
    Unreadable(&'static str),
}

/// In the order of `rows`.
pub(super) async fn prepare(ctx: &Context, rows: Vec<QueuedMessage>) -> Result<Vec<Prepared>, WorkerError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<String> = rows.iter().map(|row| row.message_id.to_string()).collect();
    let loaded: Vec<Loaded<Message>> = load_many(&ctx.pool, &ids).await?;
    let mut sealed = Vec::new();
    let mut wanted = Vec::new();
    for (index, loaded) in loaded.iter().enumerate() {
        let open = loaded.state.status.is_some_and(|status| !status.has_ended());
        if let (true, Some(accepted)) = (open, &loaded.state.accepted) {
            sealed.push(parts(&accepted.content));
            wanted.push((index, accepted.message_type));
        }
    }
    let mut bodies: Vec<Option<Body>> = loaded.iter().map(|_| None).collect();
    for ((index, kind), opened) in wanted.into_iter().zip(ctx.executor.keys().open_all(&sealed).await?) {
        bodies[index] = Some(match opened {
            Opened::Open(json) => serde_json::from_slice(&json)
                .and_then(|value| MessageContent::from_value(kind, value))
                .map_or(Body::Unreadable("message.content_invalid"), |content| {
                    Body::Open(Box::new(content))
                }),
            Opened::Erased => Body::Unreadable("message.content_erased"),
            // Ours to put right; nothing is refused for it.
            Opened::Sealed => {
                return Err(WorkerError::Protocol(
                    "a message's content cannot be opened: check keys.master_key".into(),
                ));
            }
        });
    }
    Ok(rows
        .into_iter()
        .zip(loaded)
        .zip(bodies)
        .map(|((queued, loaded), body)| Prepared {
            queued,
            message: loaded.state,
            version: loaded.version,
            body: body.unwrap_or(Body::Unreadable("message.content_erased")),
        })
        .collect())
}
