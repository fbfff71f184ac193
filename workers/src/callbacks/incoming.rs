//! Messages that came in, into their conversations.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures::StreamExt;
use uuid::Uuid;
use weft_domain::conversation::{Conversation, ConversationCommand, IncomingContent, Sender};
use weft_domain::{AccountId, ConversationId, Sealed, TenantId, WecomConversationId};
use weft_log_writer::seal::ContentToSeal;

use super::ACTOR;
use crate::context::{Cause, Context};
use crate::error::WorkerError;

/// Conversations written to at once.
const AT_ONCE: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub(super) callback_id: Uuid,
    pub(super) account_id: Uuid,
    pub(super) tenant_id: Uuid,
    pub(super) conversation_id: WecomConversationId,
    pub(super) wework_msg_id: String,
    pub(super) sender: Sender,
    pub(super) content: IncomingContent,
    pub(super) sent_at: DateTime<Utc>,
}

struct SealedIncoming {
    incoming: Incoming,
    sender: Sealed<Sender>,
    content: Sealed<IncomingContent>,
}

/// Each conversation's in order, different conversations at once.
pub(super) async fn receive(ctx: &Context, incoming: Vec<Incoming>) -> Result<(), WorkerError> {
    if incoming.is_empty() {
        return Ok(());
    }
    let now = ctx.clock.now();
    let conversation = |message: &Incoming| ConversationId::of(AccountId(message.account_id), &message.conversation_id);
    let sealer = ctx.executor.sealer();
    let senders: Vec<ContentToSeal<'_, Sender>> = incoming
        .iter()
        .map(|m| ContentToSeal {
            tenant_id: TenantId(m.tenant_id),
            conversation: conversation(m),
            at: now,
            value: &m.sender,
        })
        .collect();
    let senders = sealer.seal_contents(&senders).await?;
    let contents: Vec<ContentToSeal<'_, IncomingContent>> = incoming
        .iter()
        .map(|m| ContentToSeal {
            tenant_id: TenantId(m.tenant_id),
            conversation: conversation(m),
            at: now,
            value: &m.content,
        })
        .collect();
    let contents = sealer.seal_contents(&contents).await?;
    let mut conversations: BTreeMap<Uuid, Vec<SealedIncoming>> = BTreeMap::new();
    for ((incoming, sender), content) in incoming.into_iter().zip(senders).zip(contents) {
        let id = conversation(&incoming);
        conversations.entry(id.0).or_default().push(SealedIncoming {
            incoming,
            sender,
            content,
        });
    }
    let received: Vec<Result<(), WorkerError>> = futures::stream::iter(conversations)
        .map(|(id, messages)| receive_all(ctx, id, messages))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    received.into_iter().collect()
}

async fn receive_all(ctx: &Context, id: Uuid, messages: Vec<SealedIncoming>) -> Result<(), WorkerError> {
    for SealedIncoming {
        incoming,
        sender,
        content,
    } in messages
    {
        let tenant_id = TenantId(incoming.tenant_id);
        let options = ctx.options(ACTOR, tenant_id, &Cause::callback(incoming.callback_id));
        let command = ConversationCommand::ReceiveMessage {
            account_id: AccountId(incoming.account_id),
            tenant_id,
            conversation_id: incoming.conversation_id,
            wework_msg_id: incoming.wework_msg_id,
            sender,
            content,
            sent_at: incoming.sent_at,
            now: ctx.clock.now(),
        };
        if let Err(refusal) = ctx.execute::<Conversation>(&id.to_string(), command, &options).await? {
            tracing::debug!(conversation.id = %id, %refusal, "an incoming message was refused");
        }
    }
    Ok(())
}
