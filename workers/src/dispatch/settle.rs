//! Attempts whose sender is gone: nobody saw their end, so they are unknown, and never made again.

use weft_domain::message::{MessageCommand, MessageStatus};

use super::attempt::{Work, note, unknown_because};
use super::prepare::{Body, Prepared, prepare};
use super::request::{content_digest, request, upload_of};
use crate::error::WorkerError;
use crate::queue::{LaneChange, QueuedMessage};

impl Work<'_> {
    /// Brings rows in line with the log, and calls attempts unknown that are still open there.
    pub(super) async fn settle(&self, rows: Vec<QueuedMessage>, change: &mut LaneChange) -> Result<(), WorkerError> {
        for message in prepare(self.ctx, rows).await? {
            let digest = self.digest_of(&message);
            if message.message.status != Some(MessageStatus::Sending) {
                note(change, &message.queued, &message.message, message.version, digest);
                continue;
            }
            let command = MessageCommand::MarkUnknown {
                attempt: message.message.attempt,
                error_message: Some(unknown_because("the sender ended before it saw an answer")),
                now: self.ctx.clock.now(),
            };
            self.record(&message.queued, command, digest, change).await?;
        }
        Ok(())
    }

    /// Of what may have been sent; an uploaded content's was written down before the attempt.
    fn digest_of(&self, message: &Prepared) -> Option<[u8; 32]> {
        match &message.body {
            Body::Open(content) if upload_of(content).is_none() => {
                let request = request(&message.queued.conversation_id, (**content).clone(), None);
                Some(content_digest(self.ctx.executor.keys(), &request.content_key()))
            }
            Body::Open(_) | Body::Unreadable(_) => None,
        }
    }
}
