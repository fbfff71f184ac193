//! Callbacks that carry messages: own sends (delivered), read reports, and what came in.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;
use weft_domain::WecomConversationId;
use weft_domain::message::MessageCommand;
use weft_wecom::callbacks::{CallbackEvent, CallbackMessage, MsgType};

use super::deliver::{Fact, record};
use super::incoming::{Incoming, receive};
use super::rows::Outcome;
use super::{Understood, reads, settle};
use crate::context::Context;
use crate::dispatch::content_digest;
use crate::error::WorkerError;
use crate::queue::{KnownMessage, OwnSend, known_messages, park};

/// What one callback's messages were.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    delivered: usize,
    pub(super) parked: usize,
    pub(super) read: usize,
    received: usize,
    passed_over: usize,
}

/// By callback.
pub(super) type Counted = HashMap<Uuid, Counts>;

/// A batch's callbacks with messages. One that can never be interpreted is found by halving, and fails alone.
pub(super) async fn interpret(ctx: &Context, callbacks: &[Understood]) -> Result<Vec<Outcome>, WorkerError> {
    let mut outcomes = Vec::with_capacity(callbacks.len());
    let mut parts = vec![callbacks];
    while let Some(part) = parts.pop() {
        match (interpret_all(ctx, part).await, part) {
            (Ok(done), _) => outcomes.extend(done),
            (Err(error), _) if !error.is_lasting() => return Err(error),
            (Err(error), [alone]) => outcomes.push(alone.failed(&error)),
            (Err(_), part) => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            }
        }
    }
    Ok(outcomes)
}

/// Fails as a whole: everything in it may be done again.
async fn interpret_all(ctx: &Context, callbacks: &[Understood]) -> Result<Vec<Outcome>, WorkerError> {
    if callbacks.is_empty() {
        return Ok(Vec::new());
    }
    let mut counts = Counted::new();
    let (mut own, mut reads, mut incoming) = (Vec::new(), Vec::new(), Vec::new());
    for understood in callbacks {
        let count = counts.entry(understood.row.id).or_default();
        for message in messages_of(&understood.callback.event) {
            if let Some(report) = message.read_report() {
                reads.push((understood, report));
            } else if message.msg_type == MsgType::ReadReport {
                count.passed_over += 1;
            } else if message.is_own {
                match message.msg_type {
                    MsgType::Revoke | MsgType::System => count.passed_over += 1,
                    _ => own.push((understood, message)),
                }
            } else {
                match incoming_message(understood, message) {
                    Some(message) => {
                        count.received += 1;
                        incoming.push(message);
                    }
                    None => count.passed_over += 1,
                }
            }
        }
    }
    own_sends(ctx, &own, &mut counts).await?;
    reads::reported(ctx, &reads, &mut counts).await?;
    receive(ctx, incoming).await?;
    let outcome = |understood: &Understood| {
        let count = counts.get(&understood.row.id).copied().unwrap_or_default();
        Outcome::processed(&understood.row, &understood.callback)
            .with("delivered", count.delivered)
            .with("parked", count.parked)
            .with("read", count.read)
            .with("received", count.received)
            .with("passed_over", count.passed_over)
    };
    Ok(callbacks.iter().map(outcome).collect())
}

fn messages_of(event: &CallbackEvent) -> &[CallbackMessage] {
    match event {
        CallbackEvent::Message(message) => std::slice::from_ref(message),
        CallbackEvent::MessageSync(sync) => &sync.messages,
        _ => &[],
    }
}

/// Own sends are known by their appinfo, or are parked until they are.
async fn own_sends(
    ctx: &Context,
    own: &[(&Understood, &CallbackMessage)],
    counts: &mut Counted,
) -> Result<(), WorkerError> {
    let mut known: Vec<Option<KnownMessage>> = own
        .iter()
        .map(|(understood, message)| ctx.receipts.get(understood.row.account_id, &message.appinfo))
        .collect();
    let missing: Vec<usize> = (0..own.len()).filter(|index| known[*index].is_none()).collect();
    let keys: Vec<(Uuid, String, String)> = missing
        .iter()
        .map(|index| {
            let (understood, message) = own[*index];
            (understood.row.account_id, message.appinfo.clone(), message.id.clone())
        })
        .collect();
    for (index, found) in missing.into_iter().zip(known_messages(&ctx.pool, &keys).await?) {
        known[index] = found;
    }
    let (mut delivered, mut parked) = (Vec::new(), Vec::new());
    for ((understood, message), known) in own.iter().zip(known) {
        let count = counts.entry(understood.row.id).or_default();
        match known {
            // WeCom took it and then failed to send it: it stays sent, never delivered.
            Some(_) if message.send_failed() => count.passed_over += 1,
            Some(known) => {
                count.delivered += 1;
                let command = MessageCommand::RecordDelivered { now: ctx.clock.now() };
                delivered.push(Fact::new(&understood.row, known, command));
            }
            None => match own_send(ctx, understood, message) {
                Some(send) => {
                    count.parked += 1;
                    parked.push(send);
                }
                None => count.passed_over += 1,
            },
        }
    }
    record(ctx, delivered).await?;
    if !parked.is_empty() {
        let accounts: Vec<Uuid> = parked.iter().map(|send| send.account_id).collect();
        park(&ctx.pool, &parked, ctx.clock.now()).await?;
        settle::sweep(ctx, Some(&accounts)).await?;
    }
    Ok(())
}

fn own_send(ctx: &Context, understood: &Understood, message: &CallbackMessage) -> Option<OwnSend> {
    Some(OwnSend {
        account_id: understood.row.account_id,
        tenant_id: understood.row.tenant_id,
        appinfo: message.appinfo.clone(),
        wework_msg_id: message.id.clone(),
        conversation_id: message.conversation_id()?,
        content_digest: content_digest(ctx.executor.keys(), &message.content_key()).to_vec(),
        // Without a time it proves nothing of an unknown attempt: it is older than each. A late receipt still knows it.
        sent_at: message.sendtime.unwrap_or(DateTime::<Utc>::UNIX_EPOCH),
        send_failed: message.send_failed(),
        callback_id: understood.row.id,
    })
}

fn incoming_message(understood: &Understood, message: &CallbackMessage) -> Option<Incoming> {
    let conversation_id = WecomConversationId::try_from(message.conversation_id()?).ok()?;
    // The protocol's id, by which a message told twice is known.
    let wework_msg_id = if message.id.is_empty() {
        message.appinfo.clone()
    } else {
        message.id.clone()
    };
    Some(Incoming {
        callback_id: understood.row.id,
        account_id: understood.row.account_id,
        tenant_id: understood.row.tenant_id,
        conversation_id,
        wework_msg_id,
        sender: weft_domain::conversation::Sender {
            id: message.sender.clone(),
            name: Some(message.sender_name.clone()).filter(|name| !name.is_empty()),
        },
        content: weft_domain::conversation::IncomingContent {
            msg_type: message.msg_type.number(),
            content: message.content.clone(),
        },
        sent_at: message.sendtime.unwrap_or(understood.row.received_time),
    })
}
