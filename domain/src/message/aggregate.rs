//! A message's state, folded from its events.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::MessageContent;
use super::command::MessageCommand;
use super::error::MessageError;
use super::event::{MessageEvent, Receipt, ResolvedOutcome};
use super::status::{MessageStatus, MessageType};
use crate::aggregate::cqrs_aggregate;
use crate::{AccountId, BatchId, ClaimChange, LogAggregate, Quota, QuotaChange, Sealed, TenantId, WecomConversationId};

/// What was accepted; never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Accepted {
    pub account_id: AccountId,
    pub tenant_id: TenantId,
    pub conversation_id: WecomConversationId,
    pub message_type: MessageType,
    pub content: Sealed<MessageContent>,
    pub priority: u8,
    pub scheduled_time: Option<DateTime<Utc>>,
    pub batch_id: Option<BatchId>,
    pub callback_url: Option<String>,
    pub client_reference: Option<String>,
    pub at: DateTime<Utc>,
}

/// Folded state of one message. `status` and `accepted` are `None` before the first event.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub status: Option<MessageStatus>,
    pub accepted: Option<Accepted>,
    /// Attempts started.
    pub attempt: u32,
    pub attempt_started_at: Option<DateTime<Utc>>,
    /// Attempts that certainly did not send and were put back.
    pub retry_count: u32,
    pub retry_at: Option<DateTime<Utc>>,
    /// How the newest attempt's unknown outcome was settled, if it was.
    pub resolved: Option<ResolvedOutcome>,
    pub receipt: Option<Receipt>,
    pub sent_at: Option<DateTime<Utc>>,
    pub delivered_at: Option<DateTime<Utc>>,
    pub read_at: Option<DateTime<Utc>>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub updated_at: Option<DateTime<Utc>>,
}

impl Message {
    pub(crate) fn fold(&mut self, event: MessageEvent) {
        if let Some(status) = event.status_after() {
            self.status = Some(status);
        }
        if let Some((code, message)) = event.error_after() {
            self.error_code = code.map(str::to_owned);
            self.error_message = message.map(str::to_owned);
        }
        self.updated_at = Some(event.at());
        match event {
            MessageEvent::MessageAccepted {
                account_id,
                tenant_id,
                conversation_id,
                message_type,
                content,
                priority,
                scheduled_time,
                batch_id,
                batch_index: _,
                callback_url,
                client_reference,
                at,
            } => {
                self.accepted = Some(Accepted {
                    account_id,
                    tenant_id,
                    conversation_id,
                    message_type,
                    content,
                    priority,
                    scheduled_time,
                    batch_id,
                    callback_url,
                    client_reference,
                    at,
                });
            }
            MessageEvent::AttemptStarted { attempt, at, .. } => {
                self.attempt = attempt;
                self.attempt_started_at = Some(at);
                self.retry_at = None;
                self.resolved = None;
            }
            MessageEvent::MessageSent { receipt, at, .. } => {
                self.receipt = Some(receipt);
                self.sent_at = Some(at);
            }
            MessageEvent::MessageDelivered { at, .. } => self.delivered_at = Some(at),
            MessageEvent::MessageRead { at, .. } => self.read_at = Some(at),
            MessageEvent::RetryScheduled { retry_at, .. } => {
                self.retry_count += 1;
                self.retry_at = Some(retry_at);
            }
            MessageEvent::OutcomeResolved {
                outcome, receipt, at, ..
            } => {
                self.resolved = Some(outcome);
                match outcome {
                    ResolvedOutcome::Sent => {
                        self.receipt = receipt;
                        self.sent_at = Some(at);
                    }
                    ResolvedOutcome::Resend => self.retry_count += 1,
                    ResolvedOutcome::Failed => {}
                }
            }
            MessageEvent::MessageFailed { .. }
            | MessageEvent::MessageCancelled { .. }
            | MessageEvent::OutcomeUnknown { .. } => {}
        }
    }
}

cqrs_aggregate!(Message, "message", MessageCommand, MessageEvent, MessageError);

impl LogAggregate for Message {
    fn decide(&self, command: MessageCommand) -> Result<Vec<MessageEvent>, MessageError> {
        super::decide::decide(self, command)
    }

    fn partition_key(_: &str, first: &MessageEvent) -> String {
        first.account_id().to_string()
    }

    fn claims(&self, _: &[MessageEvent]) -> Vec<ClaimChange> {
        Vec::new()
    }
    /// A message counts on the day it is planned for (a plan in the past means now), and no longer when it is cancelled; a
    /// refusal by WeCom gives nothing back.
    fn quotas(&self, events: &[MessageEvent]) -> Vec<QuotaChange> {
        let count = |tenant_id, account_id, planned: Option<DateTime<Utc>>, at, by| {
            let on = planned.map_or(at, |planned| planned.max(at));
            [
                Quota::TenantMessages(tenant_id),
                Quota::AccountMessages(tenant_id, account_id),
            ]
            .map(|quota| QuotaChange {
                quota,
                on: Some(on),
                by,
            })
        };
        let mut changes = Vec::new();
        for event in events {
            match (event, &self.accepted) {
                (
                    MessageEvent::MessageAccepted {
                        tenant_id,
                        account_id,
                        scheduled_time,
                        at,
                        ..
                    },
                    _,
                ) => changes.extend(count(*tenant_id, *account_id, *scheduled_time, *at, 1)),
                (MessageEvent::MessageCancelled { .. }, Some(accepted)) => {
                    let (planned, at) = (accepted.scheduled_time, accepted.at);
                    changes.extend(count(accepted.tenant_id, accepted.account_id, planned, at, -1));
                }
                _ => {}
            }
        }
        changes
    }

    fn begins_stream(command: &MessageCommand) -> bool {
        matches!(command, MessageCommand::Accept(_))
    }
}
