//! Records what callbacks say of sent messages.

use futures::StreamExt;
use uuid::Uuid;
use weft_domain::TenantId;
use weft_domain::message::{Message, MessageCommand};

use super::ACTOR;
use super::rows::StoredCallback;
use crate::context::{Cause, Context};
use crate::error::WorkerError;
use crate::queue::KnownMessage;

/// Commands at once: each is an append of its own, with its message's own correlation.
const AT_ONCE: usize = 16;

/// Something that a callback says of a message.
pub(super) struct Fact {
    pub(super) message: KnownMessage,
    pub(super) tenant_id: Uuid,
    pub(super) callback_id: Uuid,
    pub(super) command: MessageCommand,
}

impl Fact {
    pub(super) fn new(row: &StoredCallback, message: KnownMessage, command: MessageCommand) -> Self {
        Self {
            message,
            tenant_id: row.tenant_id,
            callback_id: row.id,
            command,
        }
    }
}

/// Records facts; one that does not fit its message any more is none.
pub(super) async fn record(ctx: &Context, facts: Vec<Fact>) -> Result<(), WorkerError> {
    let recorded: Vec<Result<(), WorkerError>> = futures::stream::iter(facts)
        .map(|fact| record_one(ctx, fact))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    // All of them end before one's failure is told: none is dropped in the middle of a statement.
    recorded.into_iter().collect()
}

/// Records facts, each by itself; one that never can be is left out.
pub(super) async fn record_each(ctx: &Context, facts: Vec<Fact>) -> Result<(), WorkerError> {
    let recorded: Vec<Result<(), WorkerError>> = futures::stream::iter(facts)
        .map(|fact| async move {
            let (message, callback) = (fact.message.message_id, fact.callback_id);
            match record_one(ctx, fact).await {
                Err(error) if error.is_lasting() => {
                    tracing::error!(message.id = %message, callback.id = %callback, %error, "left out");
                    Ok(())
                }
                recorded => recorded,
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    recorded.into_iter().collect()
}

async fn record_one(ctx: &Context, fact: Fact) -> Result<(), WorkerError> {
    let cause = Cause {
        correlation_id: fact.message.correlation_id,
        causation_id: Some(fact.callback_id.to_string()),
        traceparent: String::new(),
    };
    let options = ctx.options(ACTOR, TenantId(fact.tenant_id), &cause);
    let id = fact.message.message_id.to_string();
    if let Err(refusal) = ctx.execute::<Message>(&id, fact.command, &options).await? {
        tracing::debug!(message.id = %id, %refusal, "a callback does not fit its message");
    }
    Ok(())
}
